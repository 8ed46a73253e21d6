"""Joins a finished video with the sound of its source, at the times that both have there."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.filter

from facet.tracker.errors import SinkError, SourceError
from facet.tracker.sources.decode import VideoDecoder, main_video, open_container, packets

AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
LAYOUTS = ("mono", "stereo", "5.1")  # that every player of AAC knows
MOVED_S = Fraction(5, 1000)  # nobody notices
RARE_IN_MP4 = ("pcm", "vorbis")  # allowed there, but few players take them
# Sound that lies elsewhere than it should, from 5 ms on, is moved; silence where there is none.
EVEN_OUT = "async=1:min_hard_comp=0.005:first_pts=0"


def join_sound(
    video: Path,
    source: str,
    target: Path,
    *,
    begin_s: float,
    end_s: float | None,
    options: dict[str, str],
    timeout_s: float | None = None,
) -> tuple[str, str]:
    """Write a file with the video and all sound tracks of the source, copied where the container takes them.

    Parameters
    ----------
    video : with the pictures, its clock beginning with the first
    source : path or URL
    target : .mp4, .mkv or .mov, replaced
    begin_s : time of the first picture in the source, counted from the first frame of the source
    end_s : where the sound ends, on the same clock; None takes all of it
    options : of the container
    timeout_s : of a server

    Returns
    -------
    how : "copied", "encoded" (as AAC), or "" without sound
    problem : why the sound is missing or ends early, or ""

    Raises
    ------
    SinkError
        Where the file cannot be written.
    """
    with contextlib.ExitStack() as parts:
        try:
            sound = parts.enter_context(contextlib.closing(_Sound(source, begin_s, end_s, timeout_s)))
            ways = sound.ways(target)
        except SourceError as error:
            _write(video, None, "", target, options)
            return "", str(error)
        failure = sound.unknown
        for how in ways:
            try:
                _write(video, sound, how, target, options)
                return how, sound.problem or sound.unknown
            except _NotTaken as error:
                failure = str(error)
        _write(video, None, "", target, options)
        return "", failure


class _NotTaken(Exception):
    """The container does not take the sound in this way."""


class _Sound:
    """The sound tracks of a source on the clock of an output that begins at `begin_s`."""

    def __init__(self, source: str, begin_s: float, end_s: float | None, timeout_s: float | None):
        self._source, self._timeout_s = source, timeout_s
        decoder = VideoDecoder(source, timeout_s)
        with contextlib.closing(decoder):
            first_s, _ = next(decoder.frames(), (Fraction(0), None))
        self._begin_s = first_s + Fraction(begin_s)
        self._end_s = None if end_s is None else first_s + Fraction(end_s)
        self._open()
        self.problem = ""

    def _open(self) -> None:
        self._container = open_container(self._source, self._timeout_s)
        tracks = self._container.streams.audio
        self.streams = [stream for stream in tracks if stream.codec_context is not None]
        self.unknown = "a sound track is of an unknown format" if len(self.streams) < len(tracks) else ""

    def rewind(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self._container.close()

    def ways(self, target: Path) -> tuple[str, ...]:
        """How the sound may be brought into a container, the best first."""
        if not self.streams:
            return ()
        rare = any(stream.codec_context.name.startswith(RARE_IN_MP4) for stream in self.streams)
        return ("encoded",) if rare and target.suffix.lower() == ".mp4" else ("copied", "encoded")

    def packets(self, early: bool) -> Iterator[av.Packet]:
        """Packets from the begin on.

        With `early` the first one may begin before it; else one that begins a little before it is moved.
        """
        video = main_video(self._container)
        if video is None:  # another file by now
            return
        last: dict[int, int] = {}
        ended: set[int] = set()
        try:
            for packet in packets(self._container, video, self.streams):
                key = packet.stream_index
                if key == video.index or packet.dts is None:
                    continue
                time_s = packet.dts * packet.time_base
                if self._end_s is not None and time_s >= self._end_s:
                    ended.add(key)
                    if len(ended) == len(self.streams):
                        return
                    continue
                reached_s = time_s + ((packet.duration or 0) * packet.time_base if early else MOVED_S)
                if time_s < self._begin_s and reached_s <= self._begin_s:
                    continue
                ticks = packet.dts - round(self._begin_s / packet.time_base)
                ticks = ticks if early else max(0, ticks)
                if ticks > last.get(key, ticks - 1):  # else it overlaps with the one before, where parts were joined
                    last[key] = packet.pts = packet.dts = ticks
                    yield packet
        except SourceError as error:
            self.problem = str(error)


def _write(video: Path, sound: _Sound | None, how: str, target: Path, options: dict[str, str]) -> None:
    """Write the target; _NotTaken where that fails with sound, SinkError where it fails without."""
    suffix = target.suffix.lower()
    if suffix != ".mkv":  # has edit lists: what comes before the first picture is stored and not heard
        options = {**options, "avoid_negative_ts": "disabled"}
    kind = "matroska" if suffix == ".mkv" else suffix[1:]
    try:
        with av.open(str(video)) as pictures, av.open(str(target), "w", format=kind, options=options) as out:
            stored = pictures.streams.video[0]
            images = out.add_stream_from_template(stored, rate=stored.average_rate)
            made = iter(())
            if sound is not None:
                sound.rewind()
                made = (_copied if how == "copied" else _encoded)(sound, out, early=suffix != ".mkv")
            frames = ((packet, images) for packet in pictures.demux(stored) if packet.size)
            for packet, stream in heapq.merge(frames, made, key=lambda entry: entry[0].dts * entry[0].time_base):
                packet.stream = stream
                out.mux_one(packet)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if sound is not None:
            raise _NotTaken(f"the sound cannot be written ({reason})") from error
        raise SinkError(reason) from error


def _copied(sound: _Sound, out, early: bool) -> Iterator[tuple[av.Packet, av.stream.Stream]]:
    streams = {stream.index: _named_as(out.add_stream_from_template(stream), stream) for stream in sound.streams}
    return ((packet, streams[packet.stream_index]) for packet in sound.packets(early))


def _named_as(track, other):
    """The track, with the language of another one, and default or not as that."""
    track.metadata.update({key: value for key, value in other.metadata.items() if key in ("language", "title")})
    track.disposition = other.disposition
    return track


def _encoded(sound: _Sound, out, early: bool) -> Iterator[tuple[av.Packet, av.stream.Stream]]:
    encoders = {stream.index: _AacEncoder(stream, out) for stream in sound.streams}

    def made():
        for packet in sound.packets(early=True):
            yield from encoders[packet.stream_index].encode(packet)
        for encoder in encoders.values():
            yield from encoder.finish()

    return made()


class _AacEncoder:
    """Encodes one sound track; gaps become silence, so that all stays at its time."""

    def __init__(self, stream, out):
        self._decoder = stream.codec_context
        self._time_base = stream.time_base
        rate_hz = stream.codec_context.sample_rate
        layout = stream.codec_context.layout.name
        self._stream = out.add_stream(
            "aac",
            rate=rate_hz if rate_hz in AAC_RATES_HZ else 48000,
            layout=layout if layout in LAYOUTS else "mono" if stream.codec_context.channels == 1 else "stereo",
        )
        _named_as(self._stream, stream)
        self._graph: av.filter.Graph | None = None
        self._kind = None

    def encode(self, packet: av.Packet | None) -> Iterator[tuple[av.Packet, av.stream.Stream]]:
        try:
            frames = self._decoder.decode(packet)
        except av.error.FFmpegError:  # damaged
            frames = []
        for frame in frames:
            kind = frame.format.name, frame.layout.name, frame.sample_rate
            if self._graph is None:
                self._kind, self._graph = kind, self._make_graph(frame)
            if kind == self._kind:
                frame.time_base = self._time_base
                self._graph.push(frame)
                yield from self._drain(self._graph)

    def finish(self) -> Iterator[tuple[av.Packet, av.stream.Stream]]:
        yield from self.encode(None)
        if self._graph is not None:
            self._graph.push(None)
            yield from self._drain(self._graph)
        yield from ((packet, self._stream) for packet in self._stream.encode(None))

    def _make_graph(self, frame) -> av.filter.Graph:
        graph = av.filter.Graph()
        encoder = self._stream.codec_context
        wanted = f"sample_fmts=fltp:sample_rates={encoder.sample_rate}:channel_layouts={encoder.layout.name}"
        graph.link_nodes(
            graph.add_abuffer(
                sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name,
                time_base=self._time_base,
            ),
            graph.add("aresample", EVEN_OUT),
            graph.add("aformat", wanted),
            graph.add("abuffersink"),
        ).configure()
        return graph

    def _drain(self, graph: av.filter.Graph) -> Iterator[tuple[av.Packet, av.stream.Stream]]:
        while True:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield from ((packet, self._stream) for packet in self._stream.encode(frame))
