"""app.py --send, to all kinds of receivers at once."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys

from facet.tracker.outputs.senders import SCHEMES
from tests.conftest import ROOT
from tests.program import APP, records
from tests.tracker.outputs.vtube_studio import StandIn

FRAMES = 15


def waiting(receiver) -> list[bytes]:
    """The datagrams that have arrived."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(receiver.recv(65535))
    return found


def test_every_scheme_at_once(networks, tmp_path):
    """Each frame of the log reaches each receiver, with the same mouth."""
    log, environment = tmp_path / "log.jsonl", os.environ | {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    with contextlib.ExitStack() as open_now:
        receivers = {}
        for name in SCHEMES:
            if name != "vts":
                receivers[name] = open_now.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                receivers[name].bind(("127.0.0.1", 0))
                receivers[name].setblocking(False)
        studio = open_now.enter_context(StandIn())
        ports = {name: receiver.getsockname()[1] for name, receiver in receivers.items()} | {"vts": studio.port}
        sends = [part for name, port in ports.items() for part in ("--send", f"{name}://127.0.0.1:{port}")]
        options = ["-f", ROOT / "samples" / "demo.mp4", "--max-frames", FRAMES, "--no-window", "--log", log]
        done = subprocess.run(
            [*APP, *map(str, [*options, *sends, *networks])],
            capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        datagrams = {name: waiting(receiver) for name, receiver in receivers.items()}
    frames = records(log)
    jaws = [frame["faces"][0]["blendshapes"]["jawOpen"] for frame in frames if frame["faces"]]
    assert len(frames) == FRAMES and len(jaws) > 5
    assert len(datagrams["livelink"]) == FRAMES
    live_link = [struct.unpack(">f", data[67 + 4 * 17 : 67 + 4 * 18])[0] for data in datagrams["livelink"]
                 if len(data) == 311]  # fmt: skip
    assert len(live_link) == len(jaws)
    assert max(abs(found - jaw) for found, jaw in zip(live_link, jaws, strict=True)) < 6e-5
    assert len(datagrams["ifacialmocap"]) == len(datagrams["opentrack"]) == len(datagrams["osf"]) == len(jaws)
    heads = {"osc": b"/VMC/Ext/T", "vrchat": b"/avatar/parameters/LipTrackingActive"}
    assert all(sum(head in data for data in datagrams[name]) == FRAMES for name, head in heads.items())
    values = [{one["id"]: one["value"] for one in data["parameterValues"]} for data in studio.injected]
    assert len(values) > 0 and not studio.errors  # the first frames come before the permission
    assert all(min(abs(one["JawOpen"] - jaw) for jaw in [0.0, *jaws]) < 6e-5 for one in values)


def test_nothing_is_loaded_that_is_not_asked_for():
    code = "import app, sys, json; print(json.dumps([n for n in ('websockets', 'aiohttp') if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout) == []
