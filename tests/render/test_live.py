"""The program with its window: a clip and an imitated webcam, driven with keys."""

from __future__ import annotations

import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT, material
from tests.program import APP, records
from tests.render.x_window import press, screenshot, show_again

SECONDS = 90
TITLE = "^facet - "


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """A face before a wall, longer than any test waits."""
    path = tmp_path_factory.mktemp("live") / "long.mp4"
    capture = cv2.VideoCapture(str(material("media", "videos", "d0.mp4")))
    frame = cv2.resize(capture.read()[1], (320, 320))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (320, 320))
    for _ in range(10 * SECONDS):
        writer.write(frame)
    writer.release()
    return path


def wait_for(condition, turns_s=(40.0,), otherwise=lambda: None):
    """Wait; where a turn is over in vain, do `otherwise` before the next."""
    for seconds in turns_s:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.1)
        otherwise()
    raise AssertionError("it did not happen in time")


@pytest.mark.display
def test_the_program_in_a_window_obeys_its_keys(x_server, networks, long_clip, tmp_path):
    pytest.importorskip("glfw")
    if subprocess.run(["which", "xdotool"], capture_output=True, check=False).returncode:
        pytest.skip("no xdotool")
    options = ["-f", long_clip, "--renderer", "cpu", "--log", tmp_path / "log.jsonl", *networks]
    command = [*APP, *map(str, options)]

    def shown():
        return (screenshot(x_server) != dark).any(axis=2).mean() > 0.05

    def with_help():
        """Its words change 1100 pixels and more of a picture without, the HUD's figures 200."""
        return (np.abs(screenshot(x_server).astype(int) - plain) > 60).any(axis=2).sum() > 700

    dark = screenshot(x_server)
    started_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        wait_for(lambda: process.poll() is not None or shown(), (10.0,) * 4, lambda: show_again(TITLE))
        assert process.poll() is None, process.communicate()
        press(TITLE, "s")
        wait_for(lambda: list(tmp_path.glob("facet-*.png")))
        time.sleep(3.0)  # until the HUD has a rate to show and the note about the snapshot is gone
        plain = screenshot(x_server)
        time.sleep(1.0)
        assert not with_help()
        press(TITLE, "h")
        wait_for(with_help)
        press(TITLE, "h")
        wait_for(lambda: not with_help())
        press(TITLE, "space")
        press(TITLE, "space")
        press(TITLE, "q")
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert errors == ""
    snapshot = cv2.imread(str(next(tmp_path.glob("facet-*.png"))))
    assert snapshot.shape[0] >= 320
    lines = records(tmp_path / "log.jsonl")
    assert all(len(line["faces"]) == 1 for line in lines)
    seconds = time.monotonic() - started_s
    assert len(lines) <= 10 * seconds + 2, "a clip is shown as fast as it was filmed"


CAMERA = """
import sys
sys.argv[0] = "app.py"
import app
from facet import assembly
from facet.tracker.sources import open_source
from tests.tracker.sources.test_live import LoopedFile
assembly.open_source = lambda spec, *rest, **named: open_source(
    spec, *rest, **named, capture_factory=lambda index: LoopedFile({clip!r}))
app.leave(app.main(sys.argv[1:]))
"""


def test_an_imitated_webcam_is_tracked_and_recorded(networks, long_clip, tmp_path):
    out, log = tmp_path / "out.mp4", tmp_path / "log.jsonl"
    options = ["--webcam", "0", "-o", out, "--log", log, "--max-frames", "25", *networks]
    command = [sys.executable, "-c", CAMERA.format(clip=str(long_clip)), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = records(log)
    assert [line["frame"] for line in lines] == list(range(25))
    assert all(len(line["faces"]) == 1 for line in lines)
    assert {line["source"] for line in lines} == {"camera 0"}
    count, capture = 0, cv2.VideoCapture(str(out))
    while capture.read()[0]:
        count += 1
    assert count == 25
