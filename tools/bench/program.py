"""The whole program, measured from outside: throughput, start-up, memory, live sessions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from tools.bench.common import ROOT, default_config, median_of


def options() -> list[str]:
    """What names networks that are there."""
    config = default_config()
    return ["--config", str(config)] if config else []


def run_app(clip: Path, root: Path, arguments: list[str]) -> dict:
    """One run of the app.py in `root` on a clip: seconds, frames, peak of memory, profile."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile.json"
        outputs = ["-o", str(Path(folder) / "out.mp4"), "--no-window", "--quiet", "--profile", str(profile)]
        start_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(root / "app.py"), "-f", str(clip), *outputs, *options(), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        resident_mb = []
        while process.poll() is None:
            resident_mb.append(peak_mb(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - start_s
        if process.returncode:
            raise SystemExit(process.stderr.read().strip() or f"app.py ended with status {process.returncode}")
        reported = json.loads(profile.read_text(encoding="utf-8"))["otherData"]
    peak = max((mb for mb in resident_mb if mb is not None), default=None)
    return {"seconds": seconds, "frames": reported["stages"]["frame"]["n"], "resident_mb": peak, "profile": reported}


def peak_mb(pid: int) -> float | None:
    """Most memory that a process had in use so far; None where the system does not report in the way of Linux.

    The figure that `wait4` gives is of no use: it begins with the memory of the process that started this one.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) * 1024 / 1e6 if found else None


def interpreter_s() -> float:
    """What Python takes before the first line of a program."""
    start_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - start_s


def coded_again_s(clip: Path, preset: str) -> float:
    """Decode a clip and encode it with nothing between: what no program in between can beat by much."""
    with tempfile.TemporaryDirectory() as folder:
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(clip), "-an"]
        start_s = time.perf_counter()
        subprocess.run(
            [*command, "-c:v", "libx264", "-preset", preset, "-crf", "23", str(Path(folder) / "out.mp4")], check=True
        )
        return time.perf_counter() - start_s


def throughput(clip: Path, runs: int, roots: dict[str, Path]) -> dict:
    """Video in, mesh and axes, video out, start-up included, fps; versions and plain recoding take turns."""
    found = {name: [] for name in roots}
    for _ in range(runs):
        for name, root in roots.items():
            run = run_app(clip, root, [])
            found[name].append({"fps": run["frames"] / run["seconds"], "resident_mb": run["resident_mb"]})
            frames = run["frames"]
        for preset in ("ultrafast", "veryfast"):
            found.setdefault(preset, []).append({"fps": frames / coded_again_s(clip, preset)})
    capture = cv2.VideoCapture(str(clip))
    size = f"{capture.get(cv2.CAP_PROP_FRAME_WIDTH):.0f}x{capture.get(cv2.CAP_PROP_FRAME_HEIGHT):.0f}"
    return {"clip": clip.name, "size": size, "frames": frames} | {name: median_of(f) for name, f in found.items()}


def start_up(clip: Path, runs: int, roots: dict[str, Path]) -> dict:
    """Start of the process to the first tracked frame, drawn and handed to the encoder, s; files and kernels cached."""
    found = {name: [] for name in roots}
    for root in roots.values():  # compiles what a change has made stale
        run_app(clip, root, ["--max-frames", "2"])
    for _ in range(runs):
        for name, root in roots.items():
            reported = run_app(clip, root, ["--max-frames", "2"])["profile"]
            found[name].append(interpreter_s() + reported["start_up_s"])
    return {name: float(np.median(values)) for name, values in found.items()}


def live(clip: Path, seconds: float, draw: bool) -> dict:
    """A live session at 30 fps; see tools.bench.live."""
    command = [sys.executable, "-m", "tools.bench.live", str(clip), "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, *(["--draw"] if draw else [])], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return json.loads(done.stdout)
