"""Writes a video: H.264 with the times of its frames and the sound of its source."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, cast

import cv2
import imageio_ffmpeg
import numpy as np

from facet.render.sinks.matroska import matroska_block, matroska_header
from facet.tracker.address import redacted_text
from facet.tracker.errors import SinkError
from facet.tracker.files import discard, make_partial, publish, same_file
from facet.tracker.types import Frame

SUFFIXES = (".mp4", ".mkv", ".mov")
# Ours: of x264's cheap tools those that pay. At 720p with a mesh drawn in, crf 21 looks as veryfast at 23 does (SSIM
# 0.989 to 0.990 on one clip, 0.987 to 0.985 on another), with about as many bytes, in half the time.
REALTIME = "cabac=1:8x8dct=1:analyse=i8x8,i4x4:deblock=0,0:me=dia:subme=1:bframes=2:b-adapt=0:mbtree=1:rc-lookahead=10"
PRESETS = ("realtime", "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
LARGEST_SIDE_PX = 16384  # that x264 takes
WAITING_FRAMES = 1  # between the caller and the encoder; more take memory and no time away
WAIT_S = 0.2  # between two looks at whether the encoder still works
SMALLEST_STEP_S = 0.001  # between two frames; the coarsest clock of our containers (Matroska)
STALL_S = 60.0  # without a byte taken, after which the encoder has failed; the slowest takes seconds for a large frame
SLOWEST_DISK_BYTES_S = 5e6  # completing a file takes so long at most
KILL_S = 5.0  # for the end of a process that was killed, which a disk that hangs may hold up for ever
SLOW_FPS = 0.001  # the distance of frames in ticks, four at a time, must fit in 31 bits
TICKS_PER_S = 90_000  # clock of .mp4 and .mov: 29.97, 25 and 60 fps come out exact

# OpenCV's YCrCb spans 0-255, video levels 16-240. One table for both colour planes.
TO_VIDEO_LEVELS = np.round((np.arange(256) - 128) * (224 / 255) + 128).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """Settings of what is written."""

    preset: Annotated[
        str, "realtime, or a preset of x264 from ultrafast to veryslow; slower makes smaller files"
    ] = "realtime"
    crf: Annotated[int, "constant rate factor of x264, 0 (lossless) to 51; lower is better and larger"] = 21

    def __post_init__(self):
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf must be in [0, 51], got {self.crf}")


class VideoSink:
    """A video file in the making; made by `open_video_sink`, a context manager.

    It carries a temporary name (`tracker.files`) until it is complete. Closing it early, after Ctrl-C for one,
    completes it with the frames written so far.

    Attributes
    ----------
    path : final name
    frames : how many frames were written
    sound : after closing: "copied", "encoded" (as AAC), or "" where the source had none or it could not be read
    """

    def __init__(
        self,
        path: Path,
        size_wh: tuple[int, int],
        fps: float,
        sound_path: str | None,
        read_to_end: Callable[[], bool],
        config: OutputConfig,
        timeout_s: float | None,
    ):
        self.path = path
        self.frames = 0
        self.sound = ""
        self._size_wh = size_wh
        self._fps = fps
        self._sound_path = sound_path
        self._sound_problem = ""
        self._timeout_s = timeout_s if sound_path is not None and "://" in sound_path else None
        self._read_to_end = read_to_end
        # Pictures that are joined with sound later wait as .mp4: .mkv does not store in which order frames of varying
        # distance are decoded.
        self._partial = make_partial(path, path.suffix if sound_path is None else ".mp4")
        self._joined: Path | None = None  # with the sound
        self._first_s = self._last_s = 0.0
        self._closed = False
        self._kept: Path | None = None  # the temporary file that holds finished work, where the rest fails
        self._failure: str | None = None
        self._taken_s = time.monotonic()  # when the encoder last took bytes, or was first offered them
        self._queue: queue.Queue[tuple[float, np.ndarray] | None] = queue.Queue(WAITING_FRAMES)
        preset = ["ultrafast", "-x264-params", REALTIME] if config.preset == "realtime" else [config.preset]
        options = _container_options(self._partial, fps, final=sound_path is None)
        arguments = [
            *("-f", "matroska", "-i", "pipe:0", "-map", "0:v"),
            *("-fps_mode", "passthrough", "-enc_time_base", f"1/{TICKS_PER_S}"),
            *("-c:v", "libx264", "-preset", *preset, "-crf", str(config.crf), "-pix_fmt", "yuv420p"),
            # Our colours are BT.601 video levels; untagged, players would take large pictures for BT.709.
            *("-colorspace", "smpte170m", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
            *(part for name, value in options.items() for part in (f"-{name}", value)),
            *("-f", _container(self._partial), str(self._partial)),
        ]
        width, height = size_wh
        self._thread = threading.Thread(target=self._feed, name=f"encode {path.name}", daemon=True)
        with contextlib.ExitStack() as undo:  # after a full disk, or an interrupt
            undo.callback(self._discard)
            if sound_path is not None:
                self._joined = make_partial(path)
            self._ffmpeg = _Ffmpeg(arguments)
            undo.callback(self._ffmpeg.kill)
            self._write_bytes(matroska_header(width + width % 2, height + height % 2, fps))
            self._thread.start()
            undo.pop_all()

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            self.close()
        except SinkError as own:
            if kind is None:
                raise
            if self._kept is not None:  # else the exception under way says more
                raise SinkError(f"{error}; {own}" if str(error) else str(own)) from error

    def write(self, image: np.ndarray, frame: Frame) -> None:
        """Queue a picture; waits only while the queue is full.

        Parameters
        ----------
        image : (H, W, 3) uint8, BGR, of the size given at opening; handed over, so draw the next one into another array
        frame : what the picture was drawn from; its time says when the picture is shown

        Raises
        ------
        SinkError
            Where the encoder has failed: a full disk, most often; or has taken nothing for STALL_S.
        """
        width, height = self._size_wh
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise SinkError(
                f"{self.path}: expected frames of {width}x{height}, 8 bits BGR, found {image.shape} {image.dtype};"
                " write images of several sizes into a folder"
            )
        if self.frames == 0:
            self._first_s = self._last_s = frame.time_s
        else:
            self._last_s = max(frame.time_s, self._last_s + SMALLEST_STEP_S)
        self.frames += 1
        self._put((self._last_s - self._first_s, image))

    def close(self) -> None:
        """Complete the file and give it its name; without a frame there will be no file. May be called twice.

        Raises
        ------
        SinkError
            Where the encoder failed; no file is left then. Where the sound could not be read; the video is in place
            then. Where only the sound or the final name failed the message
            names the temporary file that holds the video.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._put(None)
            while self._thread.is_alive():
                self._thread.join(WAIT_S)
                self._end_stalled()
            self._ffmpeg.finish(STALL_S + size_of(self._partial) / SLOWEST_DISK_BYTES_S)
            if self.frames == 0:
                return
            if self._failure or self._ffmpeg.status != 0:
                raise self._failed()
            complete = self._partial
            try:
                if self._sound_path is not None and self._joined is not None:
                    self._join_sound(self._sound_path, self._joined)
                    complete = self._joined
                publish(complete, self.path)
            except SinkError:
                self._kept = complete
                raise
        finally:
            self._ffmpeg.kill()
            self._discard()
        if self._sound_problem:
            what = "its sound ends early" if self.sound else "it has no sound"
            raise SinkError(f"{self.path}: the video is complete, but {what}: {self._sound_problem}")

    def _discard(self) -> None:
        """Delete the temporary files, but for one with finished work that could not get its name."""
        for temporary in {self._partial, self._joined} - {self._kept}:
            if temporary is not None:
                discard(temporary)

    def _failed(self) -> SinkError:
        """What to raise; the part of a video that a player can read is kept, unless the disk is full."""
        if not self._ffmpeg.stalled:
            status = f"the encoder ended with status {self._ffmpeg.status}"
            reason = self._ffmpeg.last_error() or self._failure or status
            return SinkError(f"{self.path}: the video cannot be written: {reason}; is the disk full?")
        reason = f"the encoder has not responded for {STALL_S:.0f} s and was ended"
        if self._partial.suffix == ".mkv" and size_of(self._partial):  # .mp4 and .mov are read from their end
            self._kept = self._partial
            return SinkError(f"{self.path}: the video is incomplete: {reason}; {self._partial} holds its beginning")
        return SinkError(f"{self.path}: the video cannot be written: {reason}; is the disk slow, or the machine busy?")

    def _put(self, item) -> None:
        while self._failure is None:
            try:
                self._queue.put(item, timeout=WAIT_S)
                return
            except queue.Full:
                self._end_stalled()
        if not self._closed:
            self._ffmpeg.finish(STALL_S)
            raise self._failed()

    def _end_stalled(self) -> None:
        """End an encoder that takes nothing any more; the thread that writes to it is then free."""
        if not self._ffmpeg.stalled and time.monotonic() - self._taken_s > STALL_S:
            self._ffmpeg.stalled = True
            self._ffmpeg.end()

    def _feed(self) -> None:
        """Runs in the thread: convert and hand over what is queued until a None comes."""
        try:
            while self._failure is None and (item := self._queue.get()) is not None:
                self._taken_s = time.monotonic()
                time_s, planes = item[0], bgr_to_i420(item[1])
                del item  # a picture that nobody needs, while the encoder has no time
                self._write_bytes(matroska_block(time_s, planes.nbytes))
                self._write_bytes(planes.data)
                del planes
        except Exception as error:  # the thread's end must not leave the writer waiting
            self._failure = str(error)
        with contextlib.suppress(OSError):
            self._ffmpeg.stdin.close()

    def _write_bytes(self, data: bytes | memoryview) -> None:
        left = memoryview(data).cast("B")
        try:
            while left:
                left = left[self._ffmpeg.stdin.write(left) :]
                self._taken_s = time.monotonic()
        except OSError as error:
            self._failure = error.strerror or str(error)

    def _join_sound(self, sound_path: str, joined: Path) -> None:
        """Join the finished pictures and the sound of the source."""
        from facet.render.sinks.sound import join_sound  # here, because its library takes 50 ms to load

        try:
            self.sound, self._sound_problem = join_sound(
                self._partial,
                sound_path,
                joined,
                begin_s=self._first_s,
                end_s=None if self._read_to_end() else self._last_s + 1 / self._fps,
                options=_container_options(self.path, self._fps, final=True),
                timeout_s=self._timeout_s,
            )
        except SinkError as error:
            raise SinkError(
                f"{self.path}: the video cannot be completed: {error}; {self._partial} holds its pictures"
            ) from error


def open_video_sink(
    path: str | Path,
    *,
    size_wh: tuple[int, int],
    fps: float,
    source_path: str | None = None,
    read_to_end: Callable[[], bool] = lambda: True,
    config: OutputConfig = OutputConfig(),
    timeout_s: float = 10.0,
) -> VideoSink:
    """Begin a video file.

    Parameters
    ----------
    path : .mp4, .mkv or .mov; an existing file is replaced when the new one is complete
    size_wh : of the frames, px; H.264 wants even sides, so an odd one grows by one pixel that repeats its neighbour
    fps : frame rate, fractional; the times of the frames rule, this says how long the last one stays
    source_path : video file or URL whose sound is taken, from the time of the first frame on
    read_to_end : asked at closing; where the source was not, the sound ends with the last frame
    config : settings of the encoder
    timeout_s : how long a server may send nothing of the sound

    Raises
    ------
    SinkError
        Where the file could not be written, said before anything is tracked.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise SinkError(f"{path}: expected a name ending in {', '.join(SUFFIXES)}, found {path.suffix or 'no ending'}")
    if source_path is not None and same_file(path, source_path):
        raise SinkError(f"{path}: the output would replace the input; choose another name")
    if max(size_wh) > LARGEST_SIDE_PX:
        raise SinkError(
            f"{path}: expected frames of at most {LARGEST_SIDE_PX} px a side, as H.264 has them, found"
            f" {size_wh[0]}x{size_wh[1]}; write images into a folder, or scale the source down first"
        )
    return VideoSink(path, size_wh, fps, source_path, read_to_end, config, timeout_s)


def bgr_to_i420(image: np.ndarray) -> np.ndarray:
    """BGR to planar YUV 4:2:0, BT.601 at video levels.

    OpenCV's own conversion takes the colour of one pixel in four, which frays thin coloured lines; here the four are
    averaged. An odd side is extended by repeating its last pixels.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR

    Returns
    -------
    (H' * 3 / 2, W') uint8
        H' and W' are H and W made even: the Y plane, then U and V at half the size.
    """
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        height, width = image.shape[:2]
    planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
    half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    colour = cv2.cvtColor(half, cv2.COLOR_BGR2YCrCb)
    u, v = planes[height:].reshape(2, height // 2, width // 2)
    cv2.LUT(cv2.extractChannel(colour, 2), TO_VIDEO_LEVELS, dst=u)
    cv2.LUT(cv2.extractChannel(colour, 1), TO_VIDEO_LEVELS, dst=v)
    return planes


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class _Ffmpeg:
    """An ffmpeg process with a pipe into it and its messages gathered."""

    def __init__(self, arguments: list[str]):
        # A process group of its own: Ctrl-C in the terminal is ours, and the encoder must live to complete the file.
        on_windows = os.name == "nt"
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                creationflags=0x200 if on_windows else 0,
                start_new_session=not on_windows,
            )
        except (OSError, RuntimeError) as error:
            raise SinkError(f"ffmpeg cannot be started ({error}); reinstall imageio-ffmpeg") from error
        # pipes, as was asked
        self.stdin, self._stderr = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stderr)
        self.stalled = False  # it was killed, because it did not respond
        self._lines: list[str] = []
        self._drain = threading.Thread(target=self._gather, daemon=True)
        self._drain.start()

    def _gather(self) -> None:
        for line in self._stderr:
            self._lines = [*self._lines[-9:], line.decode(errors="replace").strip()]

    @property
    def status(self) -> int | None:
        return self._process.returncode

    def finish(self, timeout_s: float) -> None:
        """Close the pipe and wait for the process to end by itself, else kill it."""
        with contextlib.suppress(OSError):
            self.stdin.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.stalled = True
        self.kill()

    def end(self) -> None:
        """End the process where it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_S)

    def kill(self) -> None:
        """End the process where it still runs, gather its last messages, and close its pipes."""
        self.end()
        with contextlib.suppress(OSError):
            self.stdin.close()
        self._drain.join(KILL_S)
        if not self._drain.is_alive():
            self._stderr.close()

    def last_error(self) -> str:
        """The last line with content, without the address of the object that printed it."""
        lines = [line for line in self._lines if line and line != "Conversion failed!"]
        return redacted_text(re.sub(r"^\[[^]]*\] ", "", lines[-1])) if lines else ""


def _container_options(path: Path, fps: float, final: bool) -> dict[str, str]:
    """Options of the muxer."""
    if path.suffix.lower() not in (".mp4", ".mov"):
        return {}
    ticks_per_s = TICKS_PER_S if fps > SLOW_FPS else 1000
    # The index in front lets a browser start at once; it costs a second pass over the file, so only when it stays.
    return {"video_track_timescale": str(ticks_per_s), **({"movflags": "+faststart"} if final else {})}


def _container(path: Path) -> str:
    """Name of the muxer."""
    return "matroska" if path.suffix.lower() == ".mkv" else path.suffix[1:].lower()
