"""Faces sent to other programs while they are tracked: UDP datagrams to one receiver."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from tracker.errors import ConfigError, SinkError
from tracker.outputs.avatar import Numbers
from tracker.outputs.openseeface import openseeface_packets
from tracker.outputs.vmc import vmc_packets
from tracker.types import FaceTrack, Frame

SCHEMES = ("osc", "osf")
REFUSED_S = 2.0  # systems report refused datagrams to a sender at least once a second
EXPECTED = "expected osc://host:port (VMC) or osf://host:port (OpenSeeFace)"


def parse_receiver(url: str) -> tuple[str, str, int]:
    """The scheme, host and port of `--send`.

    Raises
    ------
    ConfigError
        Where one of them is missing or unknown.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError as error:  # a port that is none
        raise ConfigError(f"--send {url}: {EXPECTED}; {error}") from error
    more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if scheme not in SCHEMES or not host or not port or more:
        raise ConfigError(f"--send {url}: {EXPECTED}")
    return scheme, host, port


class Sender:
    """Sends what is tracked to `url`, whether or not somebody listens; a context manager.

    A datagram that cannot go out now is dropped: the next frame follows. `trouble` reports them.

    Attributes
    ----------
    sent, dropped : how many datagrams

    Raises
    ------
    ConfigError
        Where the URL names no receiver.
    SinkError
        Where its host is not known.
    """

    def __init__(self, url: str):
        self._scheme, host, port = parse_receiver(url)
        self._url, self._receiver, self._numbers = url, f"{host}, port {port}", Numbers()
        self._told = 0  # number of the face that moves the avatar of VMC, which has one head
        self.sent, self.dropped, self._reason = 0, 0, ""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no name of a host"
            raise SinkError(f"--send {url}: {host} is not known here ({reason}); give a name or an address") from error
        # most receivers listen to IPv4 alone, and localhost is both
        family, kind, protocol, _, self._address = min(found, key=lambda one: one[0] != socket.AF_INET)
        self._connected, self._refused_s = False, -math.inf
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    def send(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None:
        """Tell of the faces of a frame."""
        for packet in self._packets(frame, faces):
            try:
                self._send(packet)
                self.sent += 1
            except OSError as error:
                self._connected = False  # the next datagram looks for a way anew
                self.dropped += 1
                self._reason = error.strerror or str(error)

    def _send(self, packet: bytes) -> None:
        """Send a datagram. Only a connected socket learns that the receiver's machine refuses them."""
        if not self._connected:
            self._socket.connect(self._address)
            self._connected = True
        try:
            self._socket.send(packet)
        except (ConnectionRefusedError, ConnectionResetError):  # of an earlier datagram
            self._refused_s = time.monotonic()
            self._socket.send(packet)

    def _packets(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> Iterator[bytes]:
        numbered = self._numbers(faces, frame.time_s)
        if self._scheme == "osf":
            seen = {number: face for number, face in numbered.items() if face}
            return openseeface_packets(frame, seen, time.time())
        if self._told not in numbered:
            self._told = next(iter(numbered), 0)
        return vmc_packets(frame.time_s, numbered.get(self._told))

    @property
    def status(self) -> str:
        """Where datagrams go, and whether they are refused there now."""
        if time.monotonic() - self._refused_s < REFUSED_S:
            return (
                f"--send {self._url}: no program receives at {self._receiver}; "
                "start the receiving program, or give the port that it names"
            )
        return (
            f"--send {self._url}: {self.sent} datagrams sent to {self._receiver}; "
            "UDP does not report whether a program receives them"
        )

    @property
    def trouble(self) -> str:
        """What went wrong so far; empty where nothing did."""
        if not self.dropped:
            return ""
        of = f"{self.dropped} of {self.sent + self.dropped} packets"
        return f"--send {self._url}: {of} could not be sent ({self._reason}); check the address and the network"

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()
