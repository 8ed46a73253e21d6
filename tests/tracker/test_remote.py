"""Commands from other programs: OSC by python-osc, HTTP by http.client, and what is refused."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time

import pytest
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.udp_client import SimpleUDPClient

from facet.tracker.controls import Controls
from facet.tracker.errors import ConfigError, SourceError
from facet.tracker.remote import open_remote, osc_messages, parse_address


def free_port(kind=socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(controls: Controls, is_so) -> None:
    """Frames pass until a command has arrived."""
    deadline_s = time.monotonic() + 10
    while not is_so() and time.monotonic() < deadline_s:
        controls((), 0.0)
        time.sleep(0.01)
    assert is_so()


@contextlib.contextmanager
def listening(scheme: str, more: str = ""):
    controls = Controls()
    port = free_port(socket.SOCK_DGRAM if scheme == "osc" else socket.SOCK_STREAM)
    with open_remote(f"{scheme}://:{port}{more}", controls):
        yield controls, port


def request(port: int, method: str, path: str, body=None, **headers) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), headers)
    reply = connection.getresponse()
    found = reply.status, json.loads(reply.read())
    connection.close()
    return found


def test_osc_messages_are_commands():
    with listening("osc") as (controls, port):
        client = SimpleUDPClient("127.0.0.1", port)
        client.send_message("/facet/freeze", 1)
        until(controls, lambda: controls.frozen)
        client.send_message("/facet/freeze", [])
        until(controls, lambda: not controls.frozen)
        client.send_message("/facet/shape", ["jawOpen", "gain", 1.5])
        until(controls, lambda: controls.state()["shapes"].get("jawOpen", {}).get("gain") == 1.5)
        client.send_message("/facet/pause", True)
        until(controls, lambda: not controls.sending)


def test_a_wrong_osc_message_is_noted_and_the_next_one_done():
    with listening("osc") as (controls, port):
        client = SimpleUDPClient("127.0.0.1", port)
        client.send_message("/facet/center", [])
        client.send_message("/other/freeze", 1)
        client._sock.sendto(b"\xff" * 300, ("127.0.0.1", port))
        client.send_message("/facet/pause", 1)
        until(controls, lambda: not controls.sending)
        assert not controls.frozen and any("unknown command center" in note for note in controls.notes)


def test_bundles_are_taken_apart():
    bundle = OscBundleBuilder(IMMEDIATELY)
    for name, value in (("/facet/freeze", True), ("/facet/pause", 0)):
        message = OscMessageBuilder(name)
        message.add_arg(value)
        bundle.add_content(message.build())
    assert list(osc_messages(bundle.build().dgram)) == [("/facet/freeze", [True]), ("/facet/pause", [0])]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0", b"/facet/freeze", b"/facet/freeze\0\0\0,i\0\0\0", b"/facet/freeze\0\0\0,z\0\0", b"#bundle\0",
        b"#bundle\0" + bytes(8) + b"\xff\xff\xff\xff", b"#bundle\0" + bytes(8) + b"\0\0\xff\xff" + b"/a\0\0",
        b"\xff\xfe\0\0,\0\0\0", (b"#bundle\0" + bytes(8) + b"\0\0\0\x40") * 20,
    ],
)  # fmt: skip
def test_damaged_datagrams_hold_no_message(data):
    assert list(osc_messages(data)) == []


def test_http_requests_are_commands():
    with listening("http") as (controls, port):
        assert request(port, "POST", "/freeze")[0] == 202
        until(controls, lambda: controls.frozen)
        assert request(port, "POST", "/freeze", [False])[0] == 202
        until(controls, lambda: not controls.frozen)
        assert request(port, "POST", "/shape", ["jawOpen", "offset", -0.1])[0] == 202
        until(controls, lambda: bool(controls.state()["shapes"]))
        status, found = request(port, "GET", "/")
        assert status == 200 and found["state"] == controls.state() and "centre" in found["commands"]


@pytest.mark.parametrize(
    "method, path, body, headers, status",
    [
        ("POST", "/center", None, {}, 404),
        ("POST", "/", None, {}, 404),
        ("POST", "/freeze", ["perhaps"], {}, 400),
        ("POST", "/shape", ["jawOpn", "gain", 1], {}, 400),
        ("POST", "/freeze", b"{", {}, 400),
        ("POST", "/freeze", b"[" * 3000, {}, 400),
        ("POST", "/freeze", {"on": 1}, {}, 400),
        ("POST", "/freeze", [[1]], {}, 400),
        ("POST", "/freeze", b" " * 5000, {}, 413),
        ("POST", "/freeze", None, {"Origin": "http://evil.example"}, 403),
        ("POST", "/freeze", None, {"Origin": "null"}, 403),
        ("POST", "/freeze", None, {"Host": "evil.example"}, 403),
        ("GET", "/", None, {"Host": "evil.example"}, 403),
        ("POST", "/freeze", None, {"Content-Length": "-5"}, 413),
        ("POST", "/freeze", None, {"Content-Length": "many"}, 400),
    ],
)
def test_wrong_requests_are_refused(method, path, body, headers, status):
    with listening("http") as (controls, port):
        found, reply = request(port, method, path, body, **headers)
        assert found == status and "error" in reply
        controls((), 0.0)
        assert not controls.frozen


def test_a_token_is_asked_for():
    with listening("http", "?token=abc") as (_, port):
        assert request(port, "POST", "/freeze")[0] == 401
        assert request(port, "POST", "/freeze", Authorization="Bearer abcd")[0] == 401
        assert request(port, "POST", "/freeze", Authorization="Bearer abc")[0] == 202


def test_a_full_queue_is_reported():
    with listening("http") as (controls, port):
        while controls.post("freeze"):
            pass
        assert request(port, "POST", "/freeze") == (503, {"done": False})


def test_a_slow_client_holds_up_the_others_for_moments_only():
    with listening("http") as (controls, port):
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.send(b"POST /freeze HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
            assert request(port, "POST", "/pause")[0] == 202
        until(controls, lambda: not controls.sending)


def test_the_default_host_is_this_machine():
    assert parse_address("osc://:9100").host == parse_address("http://:9100").host == "127.0.0.1"


@pytest.mark.parametrize(
    "url, message",
    [
        ("osc://", "SCHEME"),
        ("osc://host", "SCHEME"),
        ("osc://:0", "SCHEME"),
        ("osc://:99999", "SCHEME"),
        ("osc://:x", "SCHEME"),
        ("udp://:9100", "osc, http"),
        ("9100", "SCHEME"),
        ("osc://:9100/a", "SCHEME"),
        ("osc://:9100?token=a", "token"),
        ("http://:9100?key=a", "token"),
        ("http://0.0.0.0:9100", "add .token=SECRET"),
    ],
)
def test_wrong_addresses_are_reported(url, message):
    with pytest.raises(ConfigError, match=message):
        parse_address(url)


@pytest.mark.parametrize("scheme, kind", [("osc", socket.SOCK_DGRAM), ("http", socket.SOCK_STREAM)])
def test_a_port_that_is_taken_is_reported(scheme, kind):
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(SourceError, match="another port"):
            open_remote(f"{scheme}://:{other.getsockname()[1]}", Controls())


@pytest.mark.parametrize("scheme", ["osc", "http"])
def test_a_host_that_is_not_known_is_reported(scheme):
    more = "?token=a" if scheme == "http" else ""
    with pytest.raises(SourceError, match="address of this machine"):
        open_remote(f"{scheme}://no.such.host.invalid:9100{more}", Controls())
