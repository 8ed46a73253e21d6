"""Decodes videos by PyAV: packets on one clock that never runs backwards, frames in the order in which they are shown.

PyAV takes 50 ms to load, so this module is imported where a video is opened and not before.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.filter
import av.sidedata.sidedata
import cv2
import numpy as np

from facet.tracker.address import redacted
from facet.tracker.errors import SourceError
from facet.tracker.sources.base import believable_fps

# From where on a step of the decoding times counts as a clock that was set anew (Source: ffmpeg, which uses both).
BACKWARD_S = Fraction(1, 10)
FORWARD_S = 10  # only where containers are broadcast or joined byte by byte: others may pause for so long
HELD_PACKETS = 1000  # of a sound that jumped before the video did
READ_FAILURES = 100  # in a row; a damaged place in a container makes one or two reads fail
MOST_FPS = 1000
MOST_THREADS = 16  # more only cost memory; each holds frames
REORDERED = 16  # frames that a decoder holds back at most to put them in order (H.264, HEVC)
LAST_TICK = 2**62  # farther ahead no container can seek
UNSPECIFIED = 2  # colour matrix, by the numbers of ITU-T H.273
KNOWN_MATRICES = {1: 1, 4: 4, 5: 5, 6: 6, 7: 7, 9: 9, 10: 9}  # of H.273 -> swscale's
FULL_RANGE = 2
HD_HEIGHT_PX = 720  # untagged video is BT.709 from this height on, BT.601 below
ASPECTS = Fraction(1, 10), Fraction(10)  # a pixel's width to its height; others are damage
WHITE = 255
JOINABLE = av.format.Flags.ts_discont.value  # formats whose clock may be set anew
WITHOUT_TIMES = av.format.Flags.no_timestamps.value
NOT_THE_VIDEO = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
LOCAL, REMOTE = "file,crypto,data", "http,https,tcp,tls,crypto,httpproxy,data"
MATRIX_SIDE_DATA = av.sidedata.sidedata.Type.DISPLAYMATRIX

av.logging.set_libav_level(av.logging.PANIC)  # damaged input is ordinary, and reported in our own words


def open_container(address: str, timeout_s: float | None = None) -> av.container.InputContainer:
    """Open a file, or one of a server, which must deliver something every `timeout_s`.

    Raises
    ------
    SourceError
        Where it is no audio or video file.
    """
    server = timeout_s is not None
    # in a relative path ffmpeg would take what stands before a colon for a protocol
    path = address if server else os.path.abspath(address)
    options = {"protocol_whitelist": REMOTE if server else LOCAL}  # a playlist must not open connections
    try:
        return av.open(path, options=options, timeout=timeout_s, metadata_errors="replace")
    except av.error.ExitError as error:
        raise SourceError(stalled(address, timeout_s)) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"{redacted(address)}: expected a video or an image, found nothing that can be decoded; is it damaged?"
        ) from error


def stalled(address: str, timeout_s: float | None) -> str:
    """The message for a server that stopped sending."""
    waited = "" if timeout_s is None else f", no data for {timeout_s:g} s"
    return (
        f"{redacted(address)}: the server stalled{waited};"
        " check the connection, or raise source.stall_s"
    )


def main_video(container: av.container.InputContainer) -> av.video.stream.VideoStream | None:
    """The default video stream, else the first; covers and thumbnails do not count."""
    streams = [s for s in container.streams.video if s.codec_context is not None and not s.disposition & NOT_THE_VIDEO]
    return next((s for s in streams if s.disposition & av.stream.Disposition.default), streams[0] if streams else None)


def packets(container, video, sounds=()) -> Iterator[av.Packet]:
    """The packets of some streams, in the order of the file, on one clock.

    Where the clock of the video is set anew, in files that were joined for one, it goes on as if nothing had happened,
    and so does that of the sounds: what belonged together stays together.

    Raises
    ------
    SourceError
        Where a server stalls or closes the connection early.
    """
    broadcast = bool(container.format.flags & JOINABLE)
    offsets = [Fraction(0)]  # s; one for each time that the video's clock was set
    parts = {stream.index: 0 for stream in (video, *sounds)}  # stream -> which offset is its
    expected: dict[int, Fraction] = {}
    held: list[av.Packet] = []

    def jumps(packet, time_s: Fraction) -> bool:
        due_s = expected.get(packet.stream_index)
        return due_s is not None and (time_s < due_s - BACKWARD_S or (broadcast and time_s > due_s + FORWARD_S))

    def moved(packet, time_s: Fraction) -> av.Packet:
        expected[packet.stream_index] = time_s + (packet.duration or 0) * packet.time_base
        ticks = round(offsets[parts[packet.stream_index]] / packet.time_base)
        packet.dts += ticks
        if packet.pts is not None:
            packet.pts += ticks
        return packet

    def sound(packet) -> av.Packet | None:
        time_s = packet.dts * packet.time_base
        if jumps(packet, time_s):
            if parts[packet.stream_index] + 1 == len(offsets):
                return None
            parts[packet.stream_index] += 1
        return moved(packet, time_s)

    for packet in _read(container, (video, *sounds)):
        if packet.dts is None:
            yield packet
        elif packet.stream_index != video.index:
            waits = any(other.stream_index == packet.stream_index for other in held)
            if not waits and (ready := sound(packet)) is not None:
                yield ready
            elif len(held) < HELD_PACKETS:
                held.append(packet)
        else:
            time_s = packet.dts * packet.time_base
            if jumps(packet, time_s):
                offsets.append(offsets[-1] + expected[video.index] - time_s)
                parts[video.index] += 1
            yield moved(packet, time_s)
            if held and parts[video.index] > min(parts.values()):
                waiting, held = held, []
                for other in waiting:
                    if (ready := sound(other)) is not None:
                        yield ready


def _read(container, streams) -> Iterator[av.Packet]:
    """The packets as they are stored; damaged places are passed over."""
    failures = 0
    while failures < READ_FAILURES:
        try:
            for packet in container.demux(*streams):
                if packet.size:
                    failures = 0
                    yield packet
            return
        except IndexError:  # PyAV's end of a file in which streams appeared that the header does not name
            return
        except av.error.ExitError as error:
            raise SourceError(stalled(container.name, container.read_timeout)) from error
        except av.error.FFmpegError as error:
            failures += 1
            if container.read_timeout is not None and isinstance(error, OSError):
                raise SourceError(
                    f"{redacted(container.name)}: the connection broke off ({error.strerror}); check it, or download"
                    " the file first"
                ) from error


class VideoDecoder:
    """The main video of a container, decoded and deinterlaced.

    Attributes
    ----------
    stream : the video stream
    fps : its average frame rate
    frame_count : how many frames the header promises, or 0
    has_index : whether `seek` is exact
    has_times : whether the packets have times of presentation; else `begin_of` is of no use
    """

    def __init__(self, address: str, timeout_s: float | None = None):
        """Raises SourceError where there is no video."""
        self._address, self._timeout_s = address, timeout_s
        self.open()

    def open(self, threads: str = "AUTO") -> None:
        """Open the file, or go back to its beginning."""
        self._container = open_container(self._address, self._timeout_s)
        stream = main_video(self._container)
        if stream is None:
            found = "only sound" if self._container.streams.audio else "none"
            self.close()
            raise SourceError(f"{redacted(self._address)}: expected a video, found {found}: the file has no video")
        self.stream = stream
        self.stream.codec_context.thread_type = threads
        self.stream.codec_context.thread_count = min(os.cpu_count() or 1, MOST_THREADS)
        self.stream.codec_context.copy_opaque = True
        flags = self._container.format.flags
        # AVI holds no times of presentation: the frames get those of the packets, in order.
        self._in_order = self._container.format.name == "avi"
        reorders = bool(self.stream.codec_context.has_b_frames)
        self.has_times = not flags & WITHOUT_TIMES and not (self._in_order and reorders)
        self.has_index = self.has_times and not flags & JOINABLE
        rates = () if flags & WITHOUT_TIMES else (self.stream.average_rate,)
        # of DV the average is the rate of the clock
        rate = float(next((rate for rate in (*rates, self.stream.guessed_rate) if rate and rate <= MOST_FPS), 0))
        self.fps = rate if 0 < rate < 1 else believable_fps(rate)  # some are slow indeed
        duration_s = (self.stream.duration or 0) * self.stream.time_base
        duration_s = duration_s or (self._container.duration or 0) / av.time_base
        self.frame_count = self.stream.frames or round(duration_s * self.fps)
        self._last_key: int | None = None  # decoding time of the last key frame that was decoded
        self._broken_end = False

    def reopen(self, threads: str = "AUTO") -> None:
        self.close()
        self.open(threads)

    def close(self) -> None:
        self._container.close()

    def seek(self, time_s: Fraction) -> None:
        """Go to a key frame before a time; afterwards `frames` begins there, or elsewhere where the file is odd."""
        with contextlib.suppress(av.error.FFmpegError):
            self._container.seek(min(int(time_s / self.stream.time_base), LAST_TICK), stream=self.stream)

    def begin_of(self, time_s: Fraction) -> int | None:
        """Decoding time of the last key frame at or before a time, found by reading up to it; None for the first."""
        begin = None
        for packet in packets(self._container, self.stream):
            if packet.dts is None or packet.dts * packet.time_base > time_s:
                break
            if packet.is_keyframe and packet.pts is not None and packet.pts * packet.time_base <= time_s:
                begin = packet.dts
        return begin

    def frames(self, begin: int | None = None) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Frames with their times, s on the container's clock, progressive, in the order in which they are shown.

        Parameters
        ----------
        begin : packets before this decoding time are passed over
        """
        last_s = None
        for last_s, frame in self._timed(begin):
            yield last_s, frame
        if self._broken_end:
            # The last packets are damaged, which with threads hides the frames before them.
            begin = self._last_key if self.has_times else None
            self.reopen("SLICE")
            for time_s, frame in self._timed(begin):
                if last_s is None or time_s > last_s:
                    yield time_s, frame

    def _timed(self, begin: int | None) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        waiting: deque[tuple[int, int]] = deque()  # number and decoding time of packets whose frames are to come
        time_s, deinterlacer = None, Deinterlacer()
        for frame in self._decoded(begin, waiting):
            ticks = frame.pts
            if self._in_order and waiting:
                while len(waiting) > 1 and waiting[0][0] < (frame.opaque or 0) - REORDERED:
                    waiting.popleft()  # of a packet that gave no frame
                ticks = waiting.popleft()[1]
            if ticks is not None:
                time_s = ticks * self.stream.time_base
            else:
                time_s = Fraction(0) if time_s is None else time_s + 1 / Fraction(self.fps)
            yield from deinterlacer.push(time_s, frame)
        yield from deinterlacer.finish()

    def _decoded(self, begin: int | None, waiting: deque) -> Iterator[av.VideoFrame]:
        decode = self.stream.codec_context.decode
        number = damaged = -REORDERED
        for number, packet in enumerate(packets(self._container, self.stream)):
            if begin is not None and (packet.dts is None or packet.dts < begin):
                continue
            if packet.is_keyframe:
                self._last_key = packet.dts
            if self._in_order:
                waiting.append((number, packet.dts))
            packet.opaque = number
            damaged = number if packet.is_corrupt else damaged
            with contextlib.suppress(av.error.FFmpegError):  # damaged: those behind it come all the same
                yield from decode(packet)
        self._broken_end = damaged > number - REORDERED
        try:
            yield from decode(None)
        except av.error.FFmpegError:
            self._broken_end = True


class Deinterlacer:
    """Makes one progressive frame of each interlaced one, a frame later; passes the others on."""

    def __init__(self):
        self._graph: av.filter.Graph | None = None  # from the first interlaced frame on
        self._kind = None
        self._waiting: deque[tuple[Any, tuple[int, int]]] = deque()

    def push(self, mark: Any, frame: av.VideoFrame) -> Iterator[tuple[Any, av.VideoFrame]]:
        """The frames that are ready, each with the mark that came with it."""
        if self._graph is not None and self._kind != _kind_of(frame):
            yield from self.finish()
        if self._graph is None and frame.interlaced_frame:
            self._open(frame)
        if self._graph is None:
            yield mark, frame
            return
        self._waiting.append((mark, _colour_of(frame)))
        self._graph.push(frame)
        yield from self._pull(self._graph)

    def finish(self) -> Iterator[tuple[Any, av.VideoFrame]]:
        """The last frames."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull(self._graph)
        self._graph = None
        self._waiting.clear()

    def _open(self, frame: av.VideoFrame) -> None:
        graph = av.filter.Graph()
        graph.threads = 1
        with contextlib.suppress(av.error.FFmpegError, ValueError):  # a frame too small to be deinterlaced
            first = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            graph.link_nodes(first, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
            graph.configure()
            self._graph, self._kind = graph, _kind_of(frame)

    def _pull(self, graph: av.filter.Graph) -> Iterator[tuple[Any, av.VideoFrame]]:
        while self._waiting:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            mark, (frame.colorspace, frame.color_range) = self._waiting.popleft()
            yield mark, frame


def _kind_of(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _colour_of(frame: av.VideoFrame) -> tuple[int, int]:
    return frame.colorspace, frame.color_range


def square_size(frame: av.VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height of a frame whose pixels are made square, px, before it is turned upright."""
    if not aspect or not ASPECTS[0] <= aspect <= ASPECTS[1]:
        aspect = Fraction(1)
    return max(1, round(frame.width * aspect)), frame.height


def to_bgr(frame: av.VideoFrame, size_wh: tuple[int, int], reformatter) -> np.ndarray:
    """A frame as an image of a size, (H, W, 3) uint8, BGR; transparency shows white."""
    matrix = KNOWN_MATRICES.get(frame.colorspace, 1 if frame.height >= HD_HEIGHT_PX else 5)
    full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
    alpha = _has_alpha(frame.format)
    packed = reformatter.reformat(
        frame,
        *size_wh,
        "bgra" if alpha else "bgr24",
        src_colorspace=matrix,
        src_color_range=FULL_RANGE if full else 1,
        interpolation="BICUBIC" if size_wh[0] >= frame.width else "AREA",
        threads=1,
    )
    plane = packed.planes[0]
    channels = 4 if alpha else 3
    rows = np.frombuffer(plane, np.uint8).reshape(packed.height, plane.line_size)
    image = rows[:, : packed.width * channels].reshape(packed.height, packed.width, channels)
    return _on_white(image) if alpha else np.ascontiguousarray(image)


def _on_white(image: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8, BGR and opacity -> (H, W, 3) uint8."""
    opacity = image[..., 3:].astype(np.uint16)
    return ((image[..., :3] * opacity + WHITE * (255 - opacity) + 127) // 255).astype(np.uint8)


def _has_alpha(pixel_format: av.VideoFormat) -> bool:
    return pixel_format.name == "pal8" or len(pixel_format.components) in (2, 4)


def orientation_of(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How a frame is shown upright: whether to transpose it, then to mirror it left to right, then upside down."""
    side_data = frame.side_data.get(MATRIX_SIDE_DATA)
    if side_data is None:
        return False, False, False
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side_data))  # x' = a x + c y; y' = b x + d y
    transposed = abs(a) + abs(d) < abs(b) + abs(c)
    return (True, c < 0, b < 0) if transposed else (False, a < 0, d < 0)


def upright(image: np.ndarray, orientation: tuple[bool, bool, bool]) -> np.ndarray:
    """Turn and mirror an image as `orientation_of` says."""
    transposed, mirrored, flipped = orientation
    if transposed:
        image = cv2.transpose(image)
    if mirrored or flipped:
        image = cv2.flip(image, -1 if mirrored and flipped else 1 if mirrored else 0)
    return image


def clockwise_deg(orientation: tuple[bool, bool, bool]) -> int:
    """The turn of an orientation, 0, 90, 180 or 270; of a mirrored one, what follows after mirroring left to right."""
    transposed, _, flipped = orientation
    if transposed:
        return 90 if not flipped else 270
    return 180 if flipped else 0
