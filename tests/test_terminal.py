"""Terminals, pipes and environments of all kinds: the right status, one line, no traceback."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.program import APP, assert_one_line, records, run

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX")


@pytest.fixture
def grey(tmp_path):
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((60, 80, 3), 128, np.uint8))
    return path


def shell(line, *arguments, **environment):
    """Run app.py from a shell line, where "$@" stands for it and its arguments."""
    return subprocess.run(
        ["sh", "-c", line, "sh", *map(str, [*APP, *arguments])],
        capture_output=True, cwd=ROOT, env={**os.environ, **environment}, timeout=120, check=False,
    )  # fmt: skip


@posix
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_descriptors(closed, networks, grey, tmp_path):
    log, out = tmp_path / "log.jsonl", tmp_path / "out.png"
    done = shell(f'"$@" {closed}', "-f", grey, "--log", log, "-o", out, *networks)
    assert done.returncode == 0
    assert "Traceback" not in (done.stderr + done.stdout).decode()
    assert [record["frame"] for record in records(log)] == [0]
    assert cv2.imread(str(out)) is not None


@posix
def test_closed_descriptors_do_not_hide_a_failure():
    for closed in ("2>&-", ">&- 2>&-"):
        done = shell(f'"$@" {closed}', "-f", "no-such-file.mp4", "--log", "unused.jsonl")
        assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@posix
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp932"])
def test_a_name_that_stdout_cannot_encode(encoding, networks, grey, tmp_path):
    named = grey.rename(tmp_path / "é日本²🙂.png")
    out = tmp_path / "ü🙂.png"
    done = shell('"$@"', "-f", named, "-o", out, *networks, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert out.exists()
    missing = shell('"$@"', "-f", tmp_path / "日本.png", "-o", out, *networks, PYTHONIOENCODING=encoding)
    assert missing.returncode == 1
    assert missing.stderr.count(b"\n") == 1


@posix
def test_a_name_that_is_no_utf8(networks, grey, tmp_path):
    named = os.path.join(os.fsencode(tmp_path), b"latin\xe9\x1b[31m\n.png")
    os.rename(grey, named)
    for kind in ("jsonl", "csv"):
        done = shell('"$@"', "-f", os.fsdecode(named), "--log", tmp_path / f"log.{kind}", *networks)
        assert (done.returncode, done.stderr) == (0, b"")
    assert "latin\\udce9\x1b[31m\n.png" in records(tmp_path / "log.jsonl")[0]["source"]
    folder = shell('"$@"', "-f", tmp_path, "-o", tmp_path / "drawn", *networks)
    assert folder.returncode == 0, folder.stderr
    os.truncate(named, 30)
    broken = shell('"$@"', "-f", os.fsdecode(named), "--log", tmp_path / "log.jsonl", *networks)
    assert broken.returncode == 1
    assert broken.stderr.count(b"\n") == 1
    assert b"\x1b" not in broken.stderr and b"latin\\udce9\\x1b[31m\\n.png" in broken.stderr


def test_options_that_hold_controls():
    assert_one_line(run("--bogus\x1b[31m\n"), 2, "--bogus\\x1b[31m\\n")

    assert_one_line(run("--print-config", "--set", "cam\x1bera.x=\n1"), 2, "cam\\x1bera", "camera?")


def test_all_lines_go_through_one_function():
    """But the progress on a terminal, and what `--print-config` and `--list-cameras` are there to print."""
    tree = ast.parse((ROOT / "app.py").read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    printing = {function.name for function in functions if re.search(r"\bprint\(", ast.unparse(function))}
    assert printing == {"write_line", "print_cameras", "main"}


# Environments that facet is not set up in


def test_a_package_is_missing(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open\\n shared object file')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*APP, "--version"], env=environment, capture_output=True, text=True, check=False)
    assert_one_line(done, 1, "libGL.so.1", "make setup")


def test_outside_the_environment():
    """As the system's Python sees it: nothing but its own library."""
    done = subprocess.run([sys.executable, "-S", *APP[1:]], capture_output=True, text=True, check=False)
    assert_one_line(done, 1, "No module named", "make setup")


def test_an_older_python_can_read_the_program():
    """It reaches the line about the version."""
    ast.parse((ROOT / "app.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_an_older_python_is_reported(tmp_path):
    code = f"import sys; sys.version_info = (3, 9, 1); sys.path.insert(0, {str(ROOT)!r}); import runpy;"
    code += f"runpy.run_path({APP[1]!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert_one_line(done, 1, "Python 3.11", "make setup")


# Signals


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_it_starts(number, networks, grey, tmp_path):
    """At many times in the first second. Before the first line of app.py Python itself decides what is printed."""
    for after_s in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0):
        log = tmp_path / f"{after_s}.jsonl"
        command = [*APP, "-f", grey, "--log", log, *networks]
        process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        time.sleep(after_s)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        if errors.endswith("KeyboardInterrupt\n"):
            assert not re.search(r'app\.py", line [1-9]', errors), errors
            continue
        assert errors in ("", "interrupted\n"), (after_s, errors)
        assert process.returncode in (130, -number, 0), after_s
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".jsonl", ".png")]
