"""UDP datagrams to one receiver, whether or not it listens."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterable

from facet.tracker.errors import SinkError
from facet.tracker.outputs.receiver import Receiver
from facet.tracker.types import FaceTrack, Frame

REFUSED_S = 2.0  # systems report refused datagrams to a sender at least once a second
Packets = Callable[[Frame, tuple[FaceTrack, ...]], Iterable[bytes]]


def udp(packets: Callable[..., Packets]) -> Callable[[Receiver], UdpSender]:
    """The `Scheme.open` of a protocol: `packets`, called with the options of a URL, makes the datagrams of a frame."""
    return lambda receiver: UdpSender(receiver, packets(**receiver.options))


class UdpSender:
    """Sends the datagrams of each frame. One that cannot go out now is dropped: the next frame follows.

    Raises
    ------
    SinkError
        Where the host is not known.
    """

    def __init__(self, receiver: Receiver, packets: Packets):
        host, port = receiver.host, receiver.port
        self._url, self._receiver, self._packets = receiver.url, f"{host}, port {port}", packets
        self.sent, self.dropped, self._reason = 0, 0, ""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a host name"
            raise SinkError(
                f"--send {receiver.url}: {host} is not known here ({reason}); give a name or an address"
            ) from error
        # most receivers listen to IPv4 alone, and localhost is both
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        self._address: tuple = address
        self._connected, self._refused_s = False, -math.inf
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    def send(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None:
        """Send the faces of a frame."""
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

    def __enter__(self) -> UdpSender:
        return self

    def __exit__(self, *_) -> None:
        self._socket.close()
