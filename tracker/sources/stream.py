"""Network streams: the newest frame of a connection, which is made again when it breaks.

What ends a stream is decided by how the connection ends. A body that is complete (of a length that the server stated,
up to a last chunk, a playlist that says that it has ended) is the end. Everything else is a break, after which the
connection is made again: a reset, a body that lacks bytes, silence, an rtsp server that hangs up, and a server that
closes a body of no stated length, as a camera does whose MJPEG server restarts.

Imported where a stream is opened only, because the libraries take 60 ms of the start.
"""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable
from fractions import Fraction

import av
from av.video.reformatter import VideoReformatter

from facet.tracker.address import redacted
from facet.tracker.errors import SourceError
from facet.tracker.sources.base import LOOK_S, Broken, SourceConfig
from facet.tracker.sources.decode import REMOTE, Deinterlacer, main_video, square_size, to_bgr
from facet.tracker.sources.fetch import Request, check_address
from facet.tracker.sources.live import Read, ThreadedSource, stalled

WAITING_PACKETS = 8  # of a stream that keeps every frame
LATE_S = 0.5  # a packet that has waited so long shows that the decoder cannot follow
LARGEST_PLAYLIST = 1 << 24  # bytes
READ_SIZE = 1 << 18  # bytes; a picture in few reads, each of which may have to wait for the interpreter


def open_stream(
    url: str,
    config: SourceConfig,
    max_frames: int | None = None,
    live: bool = True,
    request: Request | None = None,
    playlist: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> ThreadedSource:
    """Open a network stream and wait for its first frame.

    Parameters
    ----------
    url : http, https, rtsp or rtsps
    live : keep the newest frame only; else every frame is kept, the sender waits, and a break is an error
    request : an open request for the URL, which gives the beginning of the stream
    playlist : whether it is an HLS playlist
    notify : gets one line when the connection was lost and is tried again
    """
    check_address(url)
    return ThreadedSource(
        StreamDevice(url, config.stall_s, live, request, playlist),
        name=url,
        kind="stream",
        live=live,
        max_frames=max_frames,
        reopen=lambda left_s: StreamDevice(url, min(config.stall_s, left_s), live, None, playlist, config.stall_s),
        reconnect_s=config.reconnect_s if live else 0.0,
        notify=notify,
    )


class StreamDevice:
    """One connection. A thread takes its packets as they come, so that they wait neither in a socket nor at the
    sender; `read` decodes them and gives the newest frame, the others are not even converted.
    """

    def __init__(self, url, stall_s: float, live: bool, request=None, playlist=False, later_stall_s=None):
        """`stall_s` counts from the last complete frame, or from now, whatever trickles in meanwhile; `later_stall_s`
        holds after the first frame."""
        self.fps = 0.0
        self._url, self._name = url, redacted(url)
        self._stall_s, self._later_stall_s = stall_s, later_stall_s or stall_s
        self._live, self._playlist, self._request = live, playlist, request
        self._changed = threading.Condition()
        self._waiting: deque[av.Packet] = deque()  # `opaque` says when each came
        self._dropped = 0
        self._needs_key = False
        self._decoder: av.VideoCodecContext | None = None
        self._aspect: Fraction | None = None  # of a pixel
        self._reformatter = VideoReformatter()
        self._flushed = False
        self._deinterlacer = Deinterlacer()
        self._frames: deque[tuple[float | None, av.VideoFrame]] = deque()  # when each came
        self._complete_s = time.monotonic()
        self._ending: Exception | None = None
        self._ended = self._closed = False
        threading.Thread(target=self._receive, name=f"receive {self._name}", daemon=True).start()

    # The thread of the connection

    def _receive(self) -> None:
        try:
            ending = self._receive_packets()
        except Exception as error:  # raised where the reader can see it
            ending = error
        if self._request is not None:
            self._request.abort()
        with self._changed:
            self._ended, self._ending = True, ending
            self._changed.notify_all()

    def _receive_packets(self) -> Exception | None:
        """Queue packets until there are no more; returns why there are none, None where the stream was over."""
        container = self._open()
        stream = main_video(container)
        if stream is None:
            raise SourceError(f"{self._name}: expected a video stream, found none in it; check the address")
        decoder = stream.codec_context
        decoder.copy_opaque = True
        decoder.thread_count = 1 if self._live else 0  # several threads hold frames back
        if self._live:
            decoder.flags |= av.codec.context.Flags.low_delay
        with self._changed:
            self._decoder, self._aspect = decoder, stream.sample_aspect_ratio
            self.fps = float(stream.average_rate or stream.base_rate or 0)
        pace = Pace() if self._playlist and self._live else None
        try:
            for packet in container.demux():
                if self._closed:
                    return None
                if packet.size and packet.stream.index == stream.index:
                    if pace is not None and packet.dts is not None:
                        pace.wait(float(packet.dts * packet.time_base), lambda: self._closed)
                    self._put(packet)
        except av.FFmpegError as error:
            if self._request is None or self._request.ending is None:
                return self._lost(error.strerror)
        if self._request is not None:
            return self._request.ending
        if self._playlist:
            return None if playlist_ends(self._url, self._stall_s) else self._lost("the playlist does not go on")
        return self._lost("the server closed it", in_order=True)

    def _open(self) -> av.container.InputContainer:
        options = {"probesize": "500000", "analyzeduration": "1000000"}  # little is read before the first frame
        asked = self._url
        if self._request is None and self._url.startswith("http") and not self._playlist:
            self._request = Request(self._url, self._stall_s)
            if self._closed:
                self._request.abort()
            self._request.open()
        if self._request is not None:
            asked = self._request
        if self._playlist:
            options["protocol_whitelist"] = REMOTE
        if self._url.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"
        multipart = self._request is not None and self._request.headers.get_content_maintype() == "multipart"
        try:
            return av.open(
                asked,
                format="mpjpeg" if multipart else None,
                container_options=options,
                buffer_size=READ_SIZE,
                timeout=self._later_stall_s + 1.0,  # `read` notices first
            )
        except av.FFmpegError as error:
            broken = self._request is not None and self._request.ending
            if broken and not broken.in_order:
                raise broken from error
            raise SourceError(
                f"{self._name}: expected a video stream, ffmpeg found: {error.strerror}; check the address"
            ) from error

    def _put(self, packet: av.Packet) -> None:
        packet.opaque = now_s = time.monotonic()
        with self._changed:
            if not self._live:
                while len(self._waiting) >= WAITING_PACKETS and not self._closed:
                    self._changed.wait(LOOK_S)
            elif packet.is_keyframe:  # from here on nothing older is needed
                self._dropped += len(self._waiting)
                self._waiting.clear()
                self._needs_key = False
            elif self._needs_key:
                self._dropped += 1
                return
            elif self._waiting and now_s - self._waiting[0].opaque > LATE_S:
                self._dropped += len(self._waiting) + 1
                self._waiting.clear()
                self._needs_key = True
                return
            self._waiting.append(packet)
            self._changed.notify_all()

    def _lost(self, reason: str, in_order: bool = False) -> Broken:
        return Broken(f"{self._name}: the connection was lost ({reason})", "check it and the server", in_order)

    # The thread that reads

    def read(self) -> Read | None:
        """The newest frame, or the next one; None at the end.

        Raises
        ------
        Broken
            Where the connection was lost, or no frame was complete in time.
        SourceError
            Where it gives no video.
        """
        while not self._closed:
            if self._frames:
                captured_s, frame = self._frames.popleft()
                self._complete_s, self._stall_s = time.monotonic(), self._later_stall_s
                with self._changed:
                    dropped, self._dropped = self._dropped, 0
                size_wh = square_size(frame, self._aspect)
                image = to_bgr(frame, size_wh, self._reformatter)
                return Read(image, captured_s or self._complete_s, dropped)
            packet = self._next_packet()
            if packet is None:
                if self._flushed:
                    if self._ending is not None:
                        raise self._ending
                    return None
                self._flushed = True
            if self._decoder is None:  # the stream ended before it began
                continue
            try:
                for frame in self._decoder.decode(packet):
                    self._frames.extend(self._deinterlacer.push(frame.opaque, frame))
            except av.FFmpegError:  # a damaged picture; the next ones come all the same
                continue
            if packet is None:
                self._frames.extend(self._deinterlacer.finish())
            if self._live:
                self._keep_newest()
        return None

    def _next_packet(self) -> av.Packet | None:
        with self._changed:
            while not self._waiting and not self._ended and not self._closed:
                left_s = self._complete_s + self._stall_s - time.monotonic()
                if left_s <= 0:
                    raise stalled(self._name, "stream", self._stall_s)
                self._changed.wait(left_s)
            if not self._waiting:
                return None
            packet = self._waiting.popleft()
            self._changed.notify_all()
            return packet

    def _keep_newest(self) -> None:
        with self._changed:
            # pictures that the next ones build on are decoded, but nobody will see them
            keep = 0 if self._waiting and not self._waiting[0].is_keyframe else 1
            while len(self._frames) > keep:
                self._frames.popleft()
                self._dropped += 1

    def interrupt(self) -> None:
        """Make a read return; may be called from any thread."""
        self._closed = True
        with self._changed:
            self._changed.notify_all()
        if self._request is not None:
            self._request.abort()

    def release(self) -> None:
        """Let the connection go; its thread ends by itself."""
        self.interrupt()


class Pace:
    """Plays what comes a segment at a time as fast as it was filmed."""

    def __init__(self):
        self._ahead_s: float | None = None  # clock minus time of a packet that is on time

    def wait(self, time_s: float, stopped: Callable[[], bool]) -> None:
        """Return when a packet of this time is due; after a pause or a jump time goes on from here."""
        now_s = time.monotonic()
        if self._ahead_s is None or not -1.0 < self._ahead_s + time_s - now_s < 20.0:
            self._ahead_s = now_s - time_s
        while (left_s := self._ahead_s + time_s - time.monotonic()) > 0 and not stopped():
            time.sleep(min(left_s, LOOK_S))


def playlist_ends(url: str, timeout_s: float) -> bool:
    """Whether an HLS playlist says by now that the broadcast is over; of a list of playlists the first one counts."""
    for _ in range(2):
        request = Request(url, timeout_s)
        try:
            text = request.within(timeout_s, lambda request=request: request.open().read_all(LARGEST_PLAYLIST))
        except SourceError:
            return False
        finally:
            request.abort()
        if b"#EXT-X-STREAM-INF" not in text:
            return b"#EXT-X-ENDLIST" in text
        names = [line.strip() for line in text.decode(errors="replace").splitlines() if not line.startswith("#")]
        url = urllib.parse.urljoin(url, next(filter(None, names), ""))
    return False
