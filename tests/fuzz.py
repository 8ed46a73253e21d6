"""Damaged inputs and odd settings for app.py, made from a seed, and a process that runs it on one after another.

python -m tests.fuzz   reads a JSON list of options a line, prints status and stderr of each as JSON
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from tests.clips import ffmpeg
from tests.conftest import ROOT

LONGEST_RUN_S = 240.0  # on a busy machine; a run takes a second
VIDEOS = {
    ".mp4": ("-c:v", "libx264", "-c:a", "aac"),
    ".mkv": ("-c:v", "libx264", "-c:a", "libopus"),
    ".mov": ("-c:v", "mpeg4", "-c:a", "pcm_s16le"),
    ".avi": ("-c:v", "mpeg4", "-c:a", "mp3"),
    ".ts": ("-c:v", "libx264", "-c:a", "aac"),
    ".flv": ("-c:v", "libx264", "-c:a", "aac"),
    ".webm": ("-c:v", "libvpx", "-c:a", "libopus"),
    ".mpg": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    ".gif": (),
    ".h264": ("-c:v", "libx264", "-an"),
}
IMAGES = (".jpg", ".png", ".webp", ".bmp", ".tiff", ".ppm")


def samples(folder: Path) -> list[Path]:
    """Sound files, small: a video of each container, an image of each kind, settings, a manifest with networks."""
    made = []
    for suffix, codecs in VIDEOS.items():
        tone = ["-f", "lavfi", "-i", "sine=d=0.4"] if suffix not in (".gif", ".h264") else []
        short = ["-t", "0.4", "-vf", "scale=160:-2", "-pix_fmt", "yuv420p"] if suffix != ".gif" else ["-t", "0.2"]
        made.append(folder / f"sample{suffix}")
        ffmpeg("-ss", "1", "-i", ROOT / "samples" / "demo.mp4", *tone, *short, *codecs, made[-1])
    frame = cv2.resize(first_frame(ROOT / "samples" / "demo.mp4"), (200, 150))
    for suffix in IMAGES:
        made.append(folder / f"sample{suffix}")
        cv2.imwrite(str(made[-1]), frame)
    made.append(folder / "sample.toml")
    text = (
        '[tracker]\nmax_faces = 2\nmemory_s = 1.5\n[output]\npreset = "fast"\ncrf = 30\n[smoothing]\nenabled = true\n'
    )
    made[-1].write_text(text)
    for name in ("manifest.toml", "detector.onnx", "face_model.npz", "regressor_answers.npz"):
        made.append(folder / name)
        made[-1].write_bytes((ROOT / "weights" / name).read_bytes())
    return made


def first_frame(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, BGR."""
    return cv2.VideoCapture(str(path)).read()[1]


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes of a file after one accident."""
    changed, size = bytearray(data), len(data)
    begin, end = sorted(rng.integers(0, size + 1, 2).tolist())
    kind = rng.integers(0, 8)
    if kind == 0:
        return data[:end]
    if kind == 1:
        return data[begin:]
    if kind == 2:  # a few bytes, most often in the head
        for at in (size * rng.random(rng.integers(1, 20)) ** 3).astype(int):
            changed[at] = rng.integers(0, 256)
    elif kind == 3:
        changed[begin:end] = bytes(end - begin)
    elif kind == 4:
        changed[begin:end] = rng.bytes(end - begin)
    elif kind == 5:
        changed[begin:begin] = data[begin:end]
    elif kind == 6:
        del changed[begin:end]
    else:  # lengths and counts are 32 bits
        for at in (max(1, size - 4) * rng.random(3) ** 3).astype(int):
            changed[at : at + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)][rng.integers(0, 3)]
    return bytes(changed)


def damaged_run(seed: int, made: list[Path], folder: Path) -> list[str]:
    """Options that read a damaged copy of one of the samples, which is in `folder`, and write beside it."""
    rng = np.random.default_rng(seed)
    sample = made[rng.integers(0, len(made))]
    path = folder / sample.name
    if sample.suffix in (".onnx", ".npz") or sample.name == "manifest.toml":
        for other in made:
            if other.suffix in (".onnx", ".npz") or other.name == "manifest.toml":
                (folder / other.name).write_bytes(other.read_bytes())
    path.write_bytes(damaged(sample.read_bytes(), rng))
    still = next(one for one in made if one.suffix == ".png")
    log = ["--log", str(folder / f"log{['.jsonl', '.csv'][seed % 2]}")]
    if sample.suffix in VIDEOS:
        options = ["-f", str(path), "-o", str(folder / f"out{['.mp4', '.mkv', '.mov'][seed % 3]}")]
        return [*options, *log, *(["--start", "0.1"] if seed % 4 == 0 else [])]
    if sample.suffix in IMAGES:
        return ["-f", str(path), "-o", str(folder / "out.png"), *log]
    if sample.suffix == ".toml" and sample.name != "manifest.toml":
        return ["-f", str(still), "--config", str(path), *log]
    networks = ["--set", f"detector.weights={folder / 'detector.onnx'}"]
    return ["-f", str(still), *networks, "--set", f"regressor.mesh={folder / 'face_model.npz'}", *log]


NUMBERS = (
    "0", "1", "-1", "0.5", "2", "7", "60", "300", "0.01", "1e-9", "1e-300", "5e-324", "1e6", "1e9", "-1e9", "1e10",
    "1e308", "1e999", "nan", "-inf", "1000", "999999999", str(2**31), str(2**63), "9" * 400, "0x7fffffff",
)  # fmt: skip
OTHERS = (
    "true", "False", "", " ", "[]", "[1]", "{}", "{a=1}", '""', '"x"', '"\\u0000"', "'", '"', "\x1b[31m", "é²\udcff",
    "1\n2", "1 # 2", "1979-05-27", "640x480", "1x1", "99999x99999", '["CPUExecutionProvider"]', '["x"]', "[[[[[[[[",
    "weights/regressor.onnx", "/", ".", "medium",
)  # fmt: skip
OPTIONS = {
    "--max-frames": ("0", "1", "2", "-5", "1e3", "9" * 30, "x", ""),
    "--start": ("0", "0.3", "-1", "1e300", "nan", "inf", "5.9", "x", "1e-300"),
    "--faces": ("0", "1", "1000000000", "-1", "x", "1.5"),
    "--at": ("0", "1", "999999999", "-1", "x"),
    "--view": ("", ",", "none", "mesh,mesh", "depth,uv,pncc,normals,wire,box,landmarks,axes", "x", "\x1b"),
    "--renderer": ("cpu", "auto", "x"),
    "--webcam": ("-1", "x", "99999999999"),
    "--config": ("", "/", "/dev/zero", "no.toml"),
    "--send": ("", "osc://", "osc://[::1", "osc://localhost:99999999", "http://x", "osf://:1", "osc://\udcff:1"),
    "--set": ("", "=", "a", ".=1", "a.b.c.d=1", "tracker=1", "tracker.=1", "TRACKER.max_faces=1"),
}


def odd_run(seed: int, settings: list[str], clip: Path, folder: Path) -> list[str]:
    """Options with odd values of one or two settings or options."""
    rng = np.random.default_rng(seed)
    options = ["-f", str(clip), "--log", str(folder / "log.jsonl"), "--no-window"]
    for _ in range(rng.integers(1, 3)):
        if rng.random() < 0.75:
            values = NUMBERS if rng.random() < 0.75 else OTHERS
            options += ["--set", f"{settings[rng.integers(0, len(settings))]}={values[rng.integers(0, len(values))]}"]
        else:
            name = list(OPTIONS)[rng.integers(0, len(OPTIONS))]
            options += [name, OPTIONS[name][rng.integers(0, len(OPTIONS[name]))]]
    if rng.random() < 0.3:
        options += ["-o", str(folder / "out.mp4")]
    return options if "--max-frames" in options else [*options, "--max-frames", "2"]


class Worker:
    """A process that runs app.py's main function on options, again and again; one that dies is replaced."""

    def __init__(self):
        self._process = None

    def __call__(self, options: list[str]) -> tuple[int | None, str]:
        """Status and stderr; None for the status where the process died, or ran longer than LONGEST_RUN_S."""
        if self._process is None:
            environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz"], cwd=ROOT, env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        self._process.stdin.write(json.dumps(options) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            self._process = None
            return None, errors
        return tuple(json.loads(line))

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


@contextlib.contextmanager
def captured_stderr():
    """Everything that is written to the descriptor, by libraries too; read it from the file."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def serve() -> None:
    """The worker's side."""
    import traceback

    replies = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import app

    for line in sys.stdin:
        options = json.loads(line)
        faulthandler.dump_traceback_later(LONGEST_RUN_S, exit=True)
        with captured_stderr() as file:
            try:
                status = app.main(options)
            except SystemExit as end:
                status = end.code
            except BaseException:
                traceback.print_exc()
                status = 1
            sys.stderr.flush()
            file.seek(0)
            errors = file.read().decode(errors="backslashreplace")
        faulthandler.cancel_dump_traceback_later()
        replies.write(json.dumps([status, errors]) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve()
