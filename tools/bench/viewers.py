"""What pages cost a live session: step and delay without --serve, and with 0, 1 and 5 pages that watch.

python -m tools.bench.viewers [CLIP] [--seconds S] [--rounds N]

The sessions take turns, so that what else the machine does hits all of them; the table holds medians of rounds. Pages
are clients in this process that take every frame they can: a browser would take more of the machine, but not of the
tracker's process.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tools.bench.common import ROOT, clip_720p, median_of

PAGES = (None, 0, 1, 5)  # None: without --serve


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def watch(port: int, ended: threading.Event, received: list[int]) -> None:
    """One page: it confirms every frame at once, and connects again when the session begins anew."""
    while not ended.wait(0.2):
        try:
            with connect(f"ws://127.0.0.1:{port}/live", compression=None, max_size=None) as page:
                for message in page:
                    if isinstance(message, bytes):
                        received[0] += 1
                        page.send('{"shown": 1}')
        except (OSError, WebSocketException):
            continue


def session(clip: Path, seconds: float, pages: int | None) -> dict[str, float]:
    """The figures of one session."""
    port, ended, received = free_port(), threading.Event(), [0]
    options = [] if pages is None else ["--", "--serve", str(port)]
    watchers = [threading.Thread(target=watch, args=(port, ended, received), daemon=True) for _ in range(pages or 0)]
    for watcher in watchers:
        watcher.start()
    command = [sys.executable, "-m", "tools.bench.live", str(clip), "--seconds", str(seconds), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    ended.set()
    found = json.loads(done.stdout)
    stages, delay = found["profile"]["stages"], found["profile"]["delay"]
    return {
        "step_p50_ms": stages["step"]["p50_ms"],
        "step_p95_ms": stages["step"]["p95_ms"],
        "delay_p50_ms": delay["p50_ms"],
        "delay_p95_ms": delay["p95_ms"],
        "dropped": found["profile"]["dropped_frames"],
        "cpu_share": found["cpu_share"],
        "memory_mb": found["resident_mb"],
        "frames_a_page": received[0] / pages if pages else 0.0,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools.bench.viewers", description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=clip_720p())
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    runs: dict[int | None, list[dict]] = {pages: [] for pages in PAGES}
    for _ in range(args.rounds):
        for pages in PAGES:
            runs[pages].append(session(args.clip, args.seconds, pages))
    figures = {pages: median_of(found) for pages, found in runs.items()}
    names = list(figures[None])
    print(f"| pages | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for pages, row in figures.items():
        what = "without --serve" if pages is None else str(pages)
        print(f"| {what} | {' | '.join(f'{row[name]:.2f}' for name in names)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
