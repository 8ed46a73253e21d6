"""A live session without a camera: a clip's frames, played there and back for ever at 30 fps, through app.py.

python -m tools.bench.live CLIP --seconds S [--draw] [-- OPTIONS OF app.py]

Prints one JSON object: the share of one core, memory, threads and file handles, and the session's profile. The frames
are decoded before, so that only our own work counts. It is a program of its own, so that nothing else is in its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import app
from facet import assembly
from facet.tracker.sources import open_source
from facet.tracker.types import Frame
from tools.bench.common import default_config, split_arguments
from tools.bench.parts import read_frames, there_and_back

FPS = 30.0
FRAMES = 30  # 2.8 MB each at 720p
SETTLED_S = 3.0  # what comes before is start-up
SAMPLE_S = 1.0


class PlayedCamera:
    """Acts as cv2.VideoCapture of a camera."""

    def __init__(self, frames: list[Frame]):
        self._images = there_and_back(frames)
        self._due_s = time.monotonic()

    def isOpened(self) -> bool:
        return True

    def set(self, key: int, value: float) -> bool:
        return True

    def get(self, key: int) -> float:
        return FPS if key == cv2.CAP_PROP_FPS else 0.0

    def read(self):
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s += 1 / FPS
        return True, next(self._images).image

    def release(self) -> None:
        pass


class Discarded:
    """A sink that lets pictures fall; what it costs to draw them is kept apart from encoding."""

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass

    def write(self, picture, frame) -> None:
        pass


class Watch:
    """Samples, every second, what the process has used."""

    def __init__(self):
        self.samples: list[tuple[float, float, float]] = []  # clock s, processor s, resident MB
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.samples.append((time.monotonic(), time.process_time(), resident_mb()))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def resident_mb() -> float:
    """Memory of this process that is in use; NaN where the system does not report in the way of Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles() -> int | None:
    """Open file handles of this process."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else None


def session(frames: list[Frame], seconds: float, options: list[str], draw: bool) -> dict:
    """One run of the program; its profile."""
    assembly.open_source = partial(open_source, capture_factory=lambda index: PlayedCamera(frames))
    assembly.open_sink = lambda *_: Discarded()
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile.json"
        outputs = ["--profile", str(profile), "--log", str(Path(folder) / "log.jsonl"), "--no-window", "--quiet"]
        drawn = ["-o", "discarded.png"] if draw else []
        frame_count = ["--max-frames", str(round(seconds * FPS))]
        status = app.main(["--webcam", "0", *outputs, *drawn, *frame_count, *options])
        if status:
            raise SystemExit(f"app.py ended with status {status}")
        return json.loads(profile.read_text(encoding="utf-8"))["otherData"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--draw", action="store_true", help="draw the pictures, too")
    own, options = split_arguments(sys.argv[1:])
    args = parser.parse_args(own)
    if config := default_config():
        options = ["--config", str(config), *options]
    frames = read_frames(args.clip, FRAMES)
    session(frames, 2.0, options, args.draw)  # what the first run loads is there to stay
    threads, files = {t.name for t in threading.enumerate()}, handles()
    watch = Watch()
    begin_s = time.monotonic()
    profile = session(frames, args.seconds, options, args.draw)
    watch.close()
    # a reader that sleeps between two frames needs a moment to see that it is to end
    time.sleep(0.2)
    left = sorted({t.name for t in threading.enumerate()} - threads)
    files_left = None if files is None else handles() - files
    settled = np.array([s for s in watch.samples if s[0] >= begin_s + SETTLED_S] or watch.samples)
    clock_s, processor_s = settled[-1, :2] - settled[0, :2]
    minute = settled[settled[:, 0] >= begin_s + 60]
    json.dump(
        {
            "seconds": args.seconds,
            "cpu_share": float(processor_s / clock_s) if clock_s > 0 else None,
            "resident_mb": float(settled[-1, 2]) - sum(f.image.nbytes for f in frames) / 1e6,
            "growth_mb": float(np.median(minute[-10:, 2]) - np.median(minute[:10, 2])) if len(minute) >= 20 else None,
            "threads_left": left,
            "handles_left": files_left,
            "profile": profile,
        },
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
