"""Runs app.py as a user starts it, and reads what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2

from tests.conftest import ROOT

PARTIAL_LOG = ".facet-*.partial.jsonl"
APP = [sys.executable, str(ROOT / "app.py")]


def run(*options, stdin=None, timeout=300, display=None):
    """Run app.py, without a display unless one is named."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    if display is not None:
        environment["DISPLAY"] = display
    return subprocess.run(
        [*APP, *map(str, options)],
        capture_output=True,
        text=stdin is None,
        input=stdin,
        timeout=timeout,
        env=environment,
        cwd=ROOT,
        check=False,
    )


def records(path) -> list[dict]:
    """The lines of a log."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def assert_one_line(done, status, *words):
    """The mistake is reported in one line with these words, and no traceback."""
    text = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
    assert done.returncode == status, text
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    for word in words:
        assert word in lines[0], lines[0]


CAMERA = """
import sys
sys.argv[0] = "app.py"
import app
import time
from facet import assembly
from facet.tracker.sources import open_source
from tests.tracker.sources.test_live import LoopedFile

class Camera(LoopedFile):
    def read(self):
        time.sleep(0.03)
        return super().read()

assembly.open_source = lambda spec, *rest, **named: open_source(
    spec, *rest, **named, capture_factory=lambda index: Camera({clip!r}, frames={frames!r}))
app.leave(app.main(sys.argv[1:]))
"""


def camera_command(clip, frames, *options):
    """A command that runs app.py on a camera which shows a file over and over; it is unplugged after `frames`."""
    return [sys.executable, "-c", CAMERA.format(clip=str(clip), frames=frames), "--webcam", "0", *map(str, options)]


def interrupted_run(command, log, number, after_s=1.5):
    """Status and errors of a program that gets a signal some time after it has begun its log."""
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    deadline = time.monotonic() + 60
    while not list(log.parent.glob(PARTIAL_LOG)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(after_s)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def playable_frames(path) -> int:
    """How many frames of a video can be decoded."""
    count, capture = 0, cv2.VideoCapture(str(path))
    while capture.read()[0]:
        count += 1
    return count
