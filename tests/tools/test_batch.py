"""Many files at once: the results are app.py's, what is done is skipped, what fails does not stop the rest."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import types

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.program import run
from tools import batch


def make_clip(path, frames=6, grey=90):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (96, 64))
    for index in range(frames):
        writer.write(np.full((64, 96, 3), (grey + index) % 200, np.uint8))
    writer.release()
    return str(path)


@pytest.fixture
def clips(tmp_path):
    return [make_clip(tmp_path / f"clip{index}.mp4", grey=60 + 20 * index) for index in range(3)]


def options(networks):
    return ["--", *map(str, networks)]


def test_results_are_those_of_the_program(clips, networks, tmp_path, capsys):
    out = tmp_path / "out"
    assert batch.main([*clips, "-o", str(out), "--jobs", "2", *options(networks)]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"clip{index}.{ending}" for index in range(3) for ending in ("jsonl", "mp4")
    )
    alone = tmp_path / "alone.jsonl"
    assert run("-f", clips[1], "--log", alone, *networks).returncode == 0
    assert alone.read_text() == (out / "clip1.jsonl").read_text()
    assert capsys.readouterr().out.count("done") == 3


def test_what_is_done_is_skipped_and_what_fails_is_told_in_a_line(clips, networks, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "clip0.jsonl").write_text("done before")
    broken = tmp_path / "broken.mp4"
    broken.write_text("this is no video")
    status = batch.main([*clips, str(broken), "-o", str(out), "--no-video", "--jobs", "2", *options(networks)])
    assert status == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 done already"
    failed = [line for line in lines if "FAILED" in line]
    assert len(failed) == 1
    assert "broken.mp4" in failed[0]
    assert (out / "clip0.jsonl").read_text() == "done before"
    assert sorted(path.name for path in out.iterdir()) == [f"clip{index}.jsonl" for index in range(3)]


def test_two_files_of_one_name_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        batch.main(["a/x.mp4", "b/x.mov", "-o", str(tmp_path / "out")])
    assert end.value.code == 2
    assert "a/x.mp4 and b/x.mov" in capsys.readouterr().err


def test_no_ray_is_told(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert batch.main([*clips, "-o", str(tmp_path / "out"), "--ray", "auto"]) == 1
    assert "pip install ray" in capsys.readouterr().err


def test_ray_gets_every_file(clips, tmp_path, monkeypatch):
    """With a stand-in for Ray that runs each task when its result is asked for."""
    calls = []
    fake = types.SimpleNamespace(
        init=lambda **settings: calls.append(settings["address"]),
        shutdown=lambda: calls.append("shutdown"),
        remote=lambda num_cpus: lambda function: types.SimpleNamespace(remote=lambda job: (function, job)),
        wait=lambda waiting, num_returns: (waiting[:1], waiting[1:]),
        get=lambda task: (task[1][0], True, "fine"),
        exceptions=types.SimpleNamespace(RayError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    assert batch.main([*clips, "-o", str(tmp_path / "out"), "--ray", "there:6379"]) == 0
    assert calls == ["there:6379", "shutdown"]


def test_a_real_ray_tracks_every_file(clips, networks, tmp_path):
    pytest.importorskip("ray")
    out, broken = tmp_path / "out", tmp_path / "broken.mp4"
    broken.write_text("this is no video")
    command = [sys.executable, "-m", "tools.batch", *clips, str(broken), "-o", str(out), "--ray", "local"]
    done = subprocess.run(
        [*command, *options(networks)],
        capture_output=True, text=True, cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("done") == 3
    assert len([line for line in done.stdout.splitlines() if "FAILED" in line and "broken.mp4" in line]) == 1
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"clip{index}.{ending}" for index in range(3) for ending in ("jsonl", "mp4")
    )


def test_no_cluster_at_the_address_is_told_in_a_line(clips, tmp_path, capsys):
    pytest.importorskip("ray")
    assert batch.main([*clips, "-o", str(tmp_path / "out"), "--ray", "auto"]) == 1
    assert "--ray auto: expected a Ray cluster" in capsys.readouterr().err


def test_an_interrupted_ray_leaves_nothing_half_done(networks, tmp_path):
    pytest.importorskip("ray")
    interrupt_a_long_run(tmp_path, ["--ray", "local", *options(networks)])


def test_an_interruption_leaves_nothing_half_done(networks, tmp_path):
    interrupt_a_long_run(tmp_path, options(networks))


def interrupt_a_long_run(tmp_path, arguments):
    long = make_clip(tmp_path / "long.mp4", frames=20000)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.batch", long, "-o", str(out), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(out.glob(".long.partial-*/*partial*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert list(out.iterdir()) == []
