"""Small servers on the local machine that behave well and badly."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator


class Peer:
    """One connection as the server sees it."""

    def __init__(self, connection: socket.socket, number: int):
        self.connection, self.number = connection, number

    def request(self) -> str:
        """The head of the next request; "" where there is none."""
        text = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in text and (data := self.connection.recv(1)):
                text += data
        return text.decode()

    def send(self, *parts: bytes | str) -> None:
        for part in parts:
            self.connection.sendall(part.encode() if isinstance(part, str) else part)

    def drip(self, data: bytes, every_s: float = 0.1) -> None:
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(every_s)

    def reset(self) -> None:
        """End the connection as a machine does that was switched off and on."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


@contextlib.contextmanager
def serving(behave: Callable[[Peer], None]) -> Iterator[str]:
    """Run `behave(peer)` for each connection, in a thread; gives "127.0.0.1:PORT". What it leaves open is closed."""
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def serve(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            behave(peer)
        with contextlib.suppress(OSError):
            peer.connection.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_ones.append(connection)
                peer = Peer(connection, len(open_ones) - 1)
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for each in (listener, *open_ones):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def play_rtsp(peer: Peer, stream: bytes, pause_s: float = 0.005) -> None:
    """Answer as an rtsp server that sends an MPEG transport stream over its own connection (RFC 2326, RFC 2250)."""
    sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track1\r\n"
    while request := peer.request():
        method = request.split()[0]
        sequence = re.search(r"CSeq: *(\d+)", request)[1]
        extra, body = "Session: 1\r\n", ""
        if method == "DESCRIBE":
            extra, body = f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n", sdp
        elif method == "SETUP":
            extra += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        elif method == "OPTIONS":
            extra += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        peer.send(f"RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{extra}\r\n{body}")
        if method == "PLAY":
            break
    for number, start in enumerate(range(0, len(stream), 1316)):
        data = stream[start : start + 1316]
        rtp = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, int(time.monotonic() * 90_000) & 0xFFFFFFFF, 1) + data
        peer.send(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
        time.sleep(pause_s)
