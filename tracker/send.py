"""Faces sent to other programs while they are tracked: UDP datagrams to one receiver."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from tracker.errors import ConfigError, SinkError
from tracker.openseeface import openseeface_packets
from tracker.types import FaceTrack, Frame
from tracker.vmc import vmc_packets

PACKETS = {"osc": vmc_packets, "osf": openseeface_packets}
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
    if scheme not in PACKETS or not host or not port or parts.path.strip("/") or parts.query or parts.username:
        raise ConfigError(f"--send {url}: {EXPECTED}")
    return scheme, host, port


class Sender:
    """Sends what is tracked to `url`, whether or not somebody listens.

    A datagram that cannot go out now is dropped: the next frame says more. `trouble` tells of them.

    Raises
    ------
    ConfigError
        Where the URL names no receiver.
    SinkError
        Where its host is not known.
    """

    def __init__(self, url: str):
        scheme, host, port = parse_receiver(url)
        self._url, self._packets = url, PACKETS[scheme]
        self._sent, self._dropped, self._reason = 0, 0, ""
        try:
            family, kind, protocol, _, self._address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SinkError(f"--send {url}: {host} is not known here ({reason}); give a name or an address") from error
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    def send(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None:
        """Tell of the faces of a frame."""
        for packet in self._packets(frame, faces):
            try:
                self._socket.sendto(packet, self._address)
                self._sent += 1
            except OSError as error:
                self._dropped += 1
                self._reason = error.strerror or str(error)

    @property
    def trouble(self) -> str:
        """What went wrong so far; empty where nothing did."""
        if not self._dropped:
            return ""
        total = self._sent + self._dropped
        return f"--send {self._url}: {self._dropped} of {total} packets could not be sent ({self._reason})"

    def close(self) -> None:
        self._socket.close()
