"""Runs app.py as a user starts it, and reads what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

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
    """The mistake is told in one line with these words, and no traceback."""
    text = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
    assert done.returncode == status, text
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    for word in words:
        assert word in lines[0], lines[0]
