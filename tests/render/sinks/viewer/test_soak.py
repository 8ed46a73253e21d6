"""A long session with pages that watch: `make check-long`, an hour; FACET_SOAK_MINUTES=2 for a short one."""

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import ROOT
from tests.program import camera_command
from tests.render.sinks.viewer.client import Page

MINUTES = float(os.environ.get("FACET_SOAK_MINUTES", 60))
GROWTH_MB = 8.0  # what the allocator may keep


def resident_mb(process) -> float:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch(url, seen, pause_s):
    """A page; a slow one confirms late."""
    with connect(f"ws{url[4:]}live", compression=None, max_size=None) as connection:
        page = Page(connection)
        try:
            while True:
                seen.append(page.frame()[0]["frame"])
                time.sleep(pause_s)
                page.ask(shown=1)
        except ConnectionClosed:
            pass


@pytest.mark.long
def test_a_long_session_does_not_grow(networks, tmp_path):
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is read as Linux shows it")
    command = camera_command(ROOT / "samples" / "demo.mp4", None, "--serve", 0, *networks)
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    try:
        url = next(found[1] for line in process.stdout if (found := re.fullmatch(r"viewer: (http://\S+)\n", line)))
        seen = [[] for _ in range(5)]
        for k, frames in enumerate(seen):
            threading.Thread(target=watch, args=(url, frames, 2.0 if k == 0 else 0.0), daemon=True).start()
        memory, end = [], time.monotonic() + 60 * MINUTES
        while time.monotonic() < end:
            time.sleep(min(1.0, MINUTES))
            memory.append(resident_mb(process))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    slow, *quick = seen
    assert min(map(len, quick)) > 20 * len(slow) > 0 or MINUTES < 1
    assert all((np.diff(frames) > 0).all() for frames in seen)  # the newest, and none twice
    third = len(memory) // 3
    growth = np.median(memory[-third:]) - np.median(memory[third : 2 * third])
    print(f"{memory[third]:.0f} MB, growth {growth:+.1f} MB, frames {[len(frames) for frames in seen]}")
    assert growth < GROWTH_MB
