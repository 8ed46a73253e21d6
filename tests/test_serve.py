"""app.py --serve: what it prints, when it ends, and who is let in."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import ROOT
from tests.program import APP, assert_one_line, run
from tests.render.sinks.viewer.client import Page

DEMO = ROOT / "samples" / "demo.mp4"


@contextlib.contextmanager
def serving(home, *options):
    """The address that a running app.py prints, and its process, which has ended in the end."""
    environment = os.environ | {"XDG_CONFIG_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*APP, *map(str, options)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    try:
        for line in process.stdout:
            if found := re.fullmatch(r"viewer: (http://\S+)", line.strip()):
                yield found[1], process
                break
        else:
            pytest.fail(process.stderr.read())
    finally:
        process.kill()
        process.communicate()


def get(url) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=60)
    connection.request("GET", f"{parts.path}?{parts.query}")
    response = connection.getresponse()
    return response.status, response.read()


def interrupted(process) -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(60)


def test_a_run_serves_its_page_and_ends_at_ctrl_c(networks, tmp_path):
    clip, log = tmp_path / "a clip.mp4", tmp_path / "faces.jsonl"
    shutil.copy(DEMO, clip)
    with serving(tmp_path, "-f", clip, "--serve", 0, "--log", log, *networks) as (url, process):
        assert url.startswith("http://127.0.0.1:") and url.endswith("/")
        with connect(f"ws{url[4:]}live", compression=None, max_size=None) as connection:
            page = Page(connection)
            assert page.hello["source"] == str(clip) and page.hello["controls"]
            page.watch(3)
            page.ask(command=["centre"])
            page.until(lambda: "centred" in page.notes)
            header, faces, jpeg = page.frame()
            assert len(faces) == 1 and jpeg[:2] == b"\xff\xd8" and header["latency_ms"] > 0
            status, body = get(f"{url}replay/faces.jsonl")  # as far as it is written
            assert (status == 200 and json.loads(body)["source"] == str(clip)) or status == 404
            assert interrupted(process) == 130
            with pytest.raises(ConnectionClosed):
                while True:
                    connection.recv(10)
        with pytest.raises(ConnectionRefusedError):
            get(url)
    assert log.read_text(encoding="utf-8").count("\n") >= 3


def test_a_log_is_served_with_its_video(networks, tmp_path):
    log = tmp_path / "faces of mine.jsonl"
    done = run("-f", DEMO, "--log", log, "--max-frames", 4, "--no-window", *networks)
    assert done.returncode == 0, done.stderr
    with serving(tmp_path, "-f", log, "--serve", 0) as (url, process):
        address, _, query = url.partition("?")
        assert query == "replay=faces%20of%20mine.jsonl"
        status, body = get(f"{address}replay/faces%20of%20mine.jsonl")
        assert status == 200 and len(json.loads(body)["times_s"]) == 4
        status, body = get(f"{address}replay/faces%20of%20mine.jsonl/frames/3")
        assert status == 200 and b"\xff\xd8\xff" in body
        assert get(f"{address}replay/{DEMO.name}")[0] == 404
        assert interrupted(process) == 130


def test_another_host_gets_a_token_that_stays(networks, tmp_path):
    urls = []
    for _ in range(2):
        with serving(tmp_path, "-f", DEMO, "--serve", "0.0.0.0:0", *networks) as (url, _):
            urls.append(urlsplit(url))
            assert get(url)[0] == 200
            assert get(url.partition("?")[0])[0] == get(f"{url}x")[0] == 403
    assert urls[0].query == urls[1].query and len(urls[0].query) > len("token=") + 20
    (kept,) = (tmp_path / "facet").iterdir()
    assert f"token={kept.read_text()}" == urls[0].query
    if sys.platform != "win32":
        assert kept.stat().st_mode & 0o777 == 0o600


def test_a_port_in_use_is_reported(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port, log = other.getsockname()[1], tmp_path / "log.csv"
        assert_one_line(run("-f", DEMO, "--serve", port, "--log", log), 1, f"127.0.0.1:{port}", "choose another port")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["x", "99999", "host:", "192.0.2.1:80"])
def test_a_wrong_address_is_a_wrong_option(address):
    assert_one_line(run("-f", DEMO, "--serve", address), 2, f"--serve {address}")


def test_images_are_not_served(tmp_path):
    assert_one_line(run("-f", ROOT / "docs" / "overlay.jpg", "--serve", 0), 2, "--serve", "found images")


def test_a_log_is_only_shown(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("nonsense\n", encoding="utf-8")
    assert_one_line(run("-f", log, "--serve", 0), 1, "log.jsonl", "expected a log in JSON Lines")
    assert_one_line(run("-f", log, "--serve", 0, "-o", tmp_path / "out.mp4"), 2, "-o", "leave -o out")
