"""Many files at once: the results are app.py's, what is done is skipped, what fails does not stop the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

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


def test_what_is_done_is_skipped_and_what_fails_is_reported_in_a_line(clips, networks, tmp_path, capsys):
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
    for second in ("b/x.mov", "b/X.mp4"):
        assert batch.main(["a/x.mp4", second, "-o", str(tmp_path / "out")]) == 2
        assert f"a/x.mp4 and {second}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        (["d/a.mp4", "d/b.mp4"], [], "d/a.mp4: the output would replace the input d/a.mp4"),
        (["d/a.mp4", "e/link.mov"], [], "e/link.mp4: the output would replace the input e/link.mov"),
        (["e/hard.mov"], [], "e/hard.mp4 exists"),
        (["d/a.mp4", "e/c.mov"], [], "c.mp4 exists and is not replaced"),
        (["d/a.mp4"], ["--log", "d/a.mp4"], "-f, -o and --log are given by tools.batch"),
        (["d/a.mp4"], ["--out", "x.mp4"], "-f, -o and --log are given by tools.batch"),
        (["d/a.mp4", "d/b.mp4"], ["--profile", "p.json"], "each file would replace --profile p.json"),
    ],
)
def test_inputs_and_files_of_the_user_stay(tmp_path, monkeypatch, capsys, files, options, words):
    monkeypatch.chdir(tmp_path)
    for folder in ("d", "e"):
        (tmp_path / folder).mkdir()
    for name in ("d/a.mp4", "d/b.mp4", "e/c.mov", "e/c.mp4", "e/hard.mp4", "e/link.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    os.link("e/link.mp4", "e/link.mov")
    os.link("d/b.mp4", "e/hard.mov")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    output = "d" if files == ["d/a.mp4", "d/b.mp4"] else "e"
    assert batch.main([*files, "-o", output, "--", *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_file_that_appears_meanwhile_stays_and_the_result_is_kept(tmp_path):
    (tmp_path / "out").mkdir()

    def run(command):
        for option in ("-o", "--log"):
            Path(command[command.index(option) + 1]).write_bytes(b"result")
        (tmp_path / "out" / "x.mp4").write_bytes(b"mine")
        return 0, ""

    _, done, line = batch.track_file(("x.mov", str(tmp_path / "out"), True, ()), run)
    assert not done and "x.mp4: exists, and is not replaced" in line
    kept = Path(line.split("; ")[1].removesuffix(" holds the complete file"))
    assert kept.read_bytes() == b"result"
    assert (tmp_path / "out" / "x.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize(("status", "left"), [(1, True), (130, False), (-9, False)])
def test_what_the_program_kept_is_kept(tmp_path, status, left):
    def run(command):
        partial = Path(command[command.index("-o") + 1]).with_name(".facet-0123.partial.mp4")
        partial.write_bytes(b"result")
        return status, f"app.py: x.mp4: cannot be replaced; {partial} holds the complete file\n"

    _, done, _ = batch.track_file(("x.mov", str(tmp_path), True, ()), run)
    assert not done
    assert [path.read_bytes() for path in tmp_path.glob(".facet-*/.facet-*")] == [b"result"] * left
    assert left or not list(tmp_path.iterdir())


def test_the_longest_names(networks, tmp_path):
    clip = make_clip(tmp_path / ("n" * 251 + ".mp4"))
    out = tmp_path / "out"
    assert batch.main([clip, clip, "-o", str(out), *options(networks)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["n" * 249 + ".jsonl", "n" * 249 + ".mp4"]


def test_no_ray_is_reported(clips, tmp_path, monkeypatch, capsys):
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


def test_no_cluster_at_the_address_is_reported_in_a_line(clips, tmp_path, capsys):
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
    while not list(out.glob(".facet-*.partial/.facet-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert list(out.iterdir()) == []


def test_patterns_are_expanded(tmp_path):
    for name in ("a.mp4", "b.mp4", "x[1].mp4", "x1.mp4"):
        (tmp_path / name).touch()
    patterns = [str(tmp_path / name) for name in ("[ab].mp4", "x[1].mp4", "b.mp4")]
    found = batch.expanded([*patterns, "gone.mp4"])
    assert found == [*(str(tmp_path / name) for name in ("a.mp4", "b.mp4", "x[1].mp4")), "gone.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not have")
def test_names_reach_the_terminal_escaped(tmp_path):
    log = tmp_path / "é\x1b\udcff.jsonl"
    log.touch()
    command = [sys.executable, "-m", "tools.batch", log.with_suffix(".mp4"), "-o"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for folder, status, words in (
        (tmp_path, 0, b"1 done already\n"),
        (log, 1, b"tools.batch: -o %b/\\xe9\\x1b\\udcff.jsonl: expected a folder" % os.fsencode(tmp_path)),
        (tmp_path / "new", 1, b"1/1 FAILED %b/\\xe9\\x1b\\udcff.mp4: app.py: " % os.fsencode(tmp_path)),
    ):
        done = subprocess.run([*command, folder], capture_output=True, cwd=ROOT, env=environment, check=False)
        printed = done.stdout + done.stderr
        assert (done.returncode, printed.count(b"\n")) == (status, 1), printed
        assert printed.startswith(words)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_nobody_reads_what_is_printed(tmp_path):
    (tmp_path / "a.jsonl").touch()
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "tools.batch", tmp_path / "a.mp4", "-o", tmp_path]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_wrong_option_is_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        batch.main(["a.mp4", "-o", "d", "--jobs", "0"])
    assert capsys.readouterr().err == "tools.batch: --jobs must be at least 1, got 0\n"


def test_a_pattern_without_a_match_is_one_line(tmp_path, capsys):
    assert batch.main([str(tmp_path / "*.mp4"), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "*.mp4: expected a pattern that matches files, found none" in error
    assert not (tmp_path / "out").exists()
