"""`--control`: other programs post the commands of `tracker.controls`, by OSC datagrams or HTTP requests.

OSC: `/facet/NAME` with the values as arguments, `/facet/freeze 1` or `/facet/shape "jawOpen" "gain" 1.3`. HTTP: `POST
/NAME` with the values as a JSON list, or none; `GET /` returns what is set. Nothing listens unless it is asked to.
"""

from __future__ import annotations

import hmac
import http.server
import json
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from facet.tracker.controls import COMMANDS, Controls
from facet.tracker.errors import ConfigError, SourceError

LOOPBACK = "127.0.0.1"
LOCAL_NAMES = ("localhost", LOOPBACK, "::1")
PREFIX = "/facet/"
LARGEST_BYTES = 4096  # of a datagram or a request's body; a command has some fifty
DEEPEST = 4  # bundles within bundles
PATIENCE_S = 2.0  # for a request that comes slowly
BUNDLE = b"#bundle\0"


@dataclass(frozen=True, slots=True)
class Address:
    """Where commands are received."""

    url: str
    scheme: str
    host: str
    port: int
    token: str  # empty where none is asked for


def parse_address(url: str) -> Address:
    """The parts of the URL of `--control`; without a host it is 127.0.0.1.

    Raises
    ------
    ConfigError
        Where the scheme or the port is missing or unknown, or HTTP is opened to other machines without a token.
    """
    expected = f"expected SCHEME://[host]:port, where SCHEME is one of {', '.join(SCHEMES)}"
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or LOOPBACK, parts.port
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise ConfigError(f"--control {url}: {expected}; {error}") from error
    if scheme not in SCHEMES or not port or parts.path.strip("/") or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"--control {url}: {expected}")
    if set(options) - ({"token"} if scheme == "http" else set()):
        raise ConfigError(f"--control {url}: {expected}; http takes ?token=SECRET, found ?{parts.query}")
    token = options.get("token", [""])[0]
    if scheme == "http" and host not in LOCAL_NAMES and not token:
        raise ConfigError(
            f"--control {url}: expected a token where other machines may connect, found none; add ?token=SECRET"
        )
    return Address(url, scheme, host, port, token)


def open_remote(url: str, controls: Controls) -> Remote:
    """Receive commands at an address.

    Raises
    ------
    ConfigError
        Where the URL is none.
    SourceError
        Where nothing can listen there.
    """
    address = parse_address(url)
    try:
        return SCHEMES[address.scheme](address, controls)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"--control {address.scheme}://{address.host}:{address.port}: cannot listen there ({reason}); "
            "choose another port, or an address of this machine"
        ) from error


class Remote:
    """A thread that receives commands; a context manager. `port` is where it listens."""

    port: int

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError


class OscRemote(Remote):
    """Receives OSC datagrams. What is no command of ours is left out; a wrong one is noted."""

    def __init__(self, address: Address, controls: Controls):
        family, kind, protocol, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0]
        self._controls, self._closed = controls, False
        self._socket = socket.socket(family, kind, protocol)
        try:
            self._socket.bind(place)
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(0.2)  # after which `close` is seen
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._receive, name="facet-osc", daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while not self._closed:
            try:
                data = self._socket.recv(LARGEST_BYTES)
            except OSError:  # no datagram in that time
                continue
            for name, values in osc_messages(data):
                if name.startswith(PREFIX):
                    _post(self._controls, name.removeprefix(PREFIX), values)

    def close(self) -> None:
        self._closed = True
        self._thread.join()
        self._socket.close()


def _post(controls: Controls, name: str, values: list) -> None:
    try:
        controls.post(name, *values)
    except ConfigError as error:
        controls.notes.append(f"control: {error}")


def osc_messages(data: bytes, depth: int = 0) -> Iterator[tuple[str, list]]:
    """Addresses and arguments of the messages in a datagram; what is damaged or of another type is left out."""
    if data.startswith(BUNDLE):
        place = len(BUNDLE) + 8
        while place + 4 <= len(data) and depth < DEEPEST:
            (size,) = struct.unpack_from(">i", data, place)
            if size <= 0 or place + 4 + size > len(data):
                return
            yield from osc_messages(data[place + 4 : place + 4 + size], depth + 1)
            place += 4 + size
        return
    try:
        name, place = _text(data, 0)
        tags, place = _text(data, place) if place < len(data) else (",", place)
        values: list = []
        for tag in tags[1:]:
            if tag in "TF":
                values.append(tag == "T")
            elif tag == "s":
                value, place = _text(data, place)
                values.append(value)
            else:
                form = {"i": ">i", "f": ">f", "d": ">d", "h": ">q"}[tag]
                values.append(struct.unpack_from(form, data, place)[0])
                place += struct.calcsize(form)
    except (ValueError, KeyError, struct.error):
        return
    if name.startswith("/") and tags.startswith(","):
        yield name, values


def _text(data: bytes, start: int) -> tuple[str, int]:
    """A text that ends in one to four zeros, and where the next part begins."""
    end = data.index(b"\0", start)
    return data[start:end].decode("ascii"), (end // 4 + 1) * 4


class HttpRemote(Remote):
    """Receives HTTP requests, one at a time, from programs: requests of web pages are refused."""

    def __init__(self, address: Address, controls: Controls):
        class Handler(_Handler):
            def post(self, name: str, values: list) -> bool:
                return controls.post(name, *values)

            def state(self) -> dict:
                return controls.state()

        Handler.address_of = address

        class Server(http.server.HTTPServer):
            address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            allow_reuse_address = os.name == "posix"  # on Windows two could listen then

            def server_bind(self):  # without a search for the machine's name, which may take seconds
                socketserver.TCPServer.server_bind(self)
                self.server_name, self.server_port = address.host, self.server_address[1]

            def handle_error(self, request, client_address):
                pass  # who broke off knows it

        self._server = Server((address.host, address.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="facet-http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    address_of: Address
    timeout = PATIENCE_S
    server_version, sys_version = "facet", ""

    def do_GET(self) -> None:
        if not self._refused():
            commands = {name: command.meaning for name, command in COMMANDS.items()}
            self._reply(200, {"state": self.state(), "commands": commands})

    def do_POST(self) -> None:
        if self._refused():
            return
        name = urlsplit(self.path).path.strip("/")
        if name not in COMMANDS:
            return self._reply(404, {"error": f"unknown command {name}; known: {', '.join(COMMANDS)}"})
        try:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 <= length <= LARGEST_BYTES:
                return self._reply(413, {"error": f"expected at most {LARGEST_BYTES} bytes"})
            text = self.rfile.read(length)
            values = json.loads(text) if text.strip() else []
            values = values if isinstance(values, list) else [values]
            if any(isinstance(value, (list, dict)) or value is None for value in values):
                raise ValueError("a list of texts, numbers and truth values")
            room = self.post(name, values)
        except (ValueError, RecursionError) as error:
            return self._reply(400, {"error": f"expected values as a JSON list: {error}"})
        except ConfigError as error:
            return self._reply(400, {"error": str(error)})
        self._reply(202 if room else 503, {"done": room})

    def _refused(self) -> bool:
        """Reply to those that may not: web pages, names that lead here from elsewhere, a wrong token."""
        address = self.address_of
        if address.token:
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), address.token.encode()):
                self._reply(401, {"error": "expected the header Authorization: Bearer TOKEN"})
                return True
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        except ValueError:
            host = None
        if self.headers.get("Origin") or (not address.token and host not in (*LOCAL_NAMES, address.host)):
            self._reply(403, {"error": "expected a program on this machine, found a web page or another name"})
            return True
        return False

    def _reply(self, status: int, content: dict) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args) -> None:
        pass

    def post(self, name: str, values: list) -> bool:
        raise NotImplementedError

    def state(self) -> dict:
        raise NotImplementedError


SCHEMES = {"osc": OscRemote, "http": HttpRemote}
