"""Sources that are not files: cameras, network streams, raw frames on stdin.

A thread reads and the consumer takes from one slot. Live sources replace a frame that nobody has taken; the others
wait. The thread alone opens, reads and releases its device, so that closing never pulls it away under a read.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import imageio_ffmpeg
import numpy as np

from tracker.address import redacted, redacted_text
from tracker.errors import SourceError
from tracker.source_base import CLOSE_S, LOOK_S, Picture, Source, SourceConfig, believable_fps, refuse_start

CAMERA_FAILURES = 10  # reads in a row; cameras miss a frame now and then, above all the first


class ThreadedSource(Source):
    """Frames of a `device` that a thread reads.

    The device has `read() -> image or None at the end`, `release()` (called by the thread) and `interrupt()` (called by
    the closer: makes a blocked read return where that can be done).
    """

    reads_ahead = True

    def __init__(self, device, *, name, kind, live, stall_s, frame_s=None, max_frames=None):
        """`frame_s`: fixed distance of frames in time; None takes the time of arrival."""
        super().__init__(name, max_frames)
        self.kind = kind
        self.live = live
        self._device = device
        self._stall_s = stall_s
        self._frame_s = frame_s
        self._changed = threading.Condition()
        self._slot: Picture | None = None
        self._ended = False
        self._error: Exception | None = None
        self._begin_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"source {name}", daemon=True)
        self._thread.start()
        try:
            self._ahead = self._take()
        except BaseException:
            self.close()
            raise
        if self._ahead is None:
            self.close()
            raise SourceError(f"{self.name}: expected frames, found none")
        height, width = self._ahead.image.shape[:2]
        self.size_wh = width, height
        self.fps = believable_fps(device.fps)

    def _run(self) -> None:
        count = 0
        try:
            while not self.stopped:
                image = self._device.read()
                if image is None:
                    break
                now_s = time.monotonic()
                if self._begin_s is None:
                    self._begin_s = now_s
                time_s = now_s - self._begin_s if self._frame_s is None else count * self._frame_s
                count += 1
                with self._changed:
                    while self._slot is not None and not self.live and not self.stopped:
                        self._changed.wait()
                    self.dropped += self._slot is not None
                    self._slot = Picture(image, time_s, self.name, captured_s=now_s)
                    self._changed.notify_all()
        except Exception as error:  # raised where the consumer can see it
            self._error = error
        finally:
            self._device.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _read(self) -> Picture | None:
        if self._ahead is not None:
            picture, self._ahead = self._ahead, None
            if not self.live:
                return picture
            with self._changed:  # a newer one may have come while the user of this source got ready
                if self._slot is None:
                    return picture
                self.dropped += 1
        return self._take()

    def _take(self) -> Picture | None:
        begin_s = time.monotonic()
        with self._changed:
            while self._slot is None and not self._ended and not self.stopped:
                if self._stall_s is not None and time.monotonic() - begin_s >= self._stall_s:
                    raise SourceError(
                        f"{self.name}: the {self.kind} stalled, no picture for {self._stall_s:g} s;"
                        " check the connection, or raise source.stall_s"
                    )
                self._changed.wait(LOOK_S)
            if self.stopped:
                return None
            picture, self._slot = self._slot, None
            self._changed.notify_all()
        if picture is None and self._error is not None:
            raise self._error
        return picture

    def close(self) -> None:
        super().close()
        with self._changed:
            self._changed.notify_all()
        self._device.interrupt()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)


# Cameras


class CameraDevice:
    """A camera opened through OpenCV, or through anything else with its interface."""

    def __init__(self, index: int, config: SourceConfig, capture_factory: Callable):
        self._index = index
        self._capture = capture_factory(index)
        if not self._capture.isOpened():
            self._capture.release()
            cameras = ", ".join(map(str, list_cameras(capture_factory))) or "none"
            raise SourceError(f"camera {index}: cannot be opened; cameras found: {cameras}; is it in use elsewhere?")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if config.size_wh is not None:
            # Uncompressed pictures of this size do not fit through USB 2 at full rate.
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.size_wh[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.size_wh[1])
        if config.fps is not None:
            self._capture.set(cv2.CAP_PROP_FPS, config.fps)
        self.fps = self._capture.get(cv2.CAP_PROP_FPS)

    def read(self) -> np.ndarray:
        for _ in range(CAMERA_FAILURES):
            ok, image = self._capture.read()
            if ok and image is not None:
                return image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            time.sleep(0.02)
        raise SourceError(f"camera {self._index}: it stopped delivering pictures; is it still plugged in?")

    def interrupt(self) -> None:
        pass  # a blocked read of a driver cannot be interrupted; the thread ends when it returns

    def release(self) -> None:
        self._capture.release()


def open_camera(
    index: int, config: SourceConfig, max_frames: int | None = None, capture_factory: Callable | None = None
) -> ThreadedSource:
    """Open a camera by its index; `capture_factory(index)` stands for cv2.VideoCapture."""
    device = CameraDevice(index, config, capture_factory or cv2.VideoCapture)
    return ThreadedSource(
        device, name=f"camera {index}", kind="camera", live=True, stall_s=config.stall_s, max_frames=max_frames
    )


class Camera(NamedTuple):
    """A camera that can be opened."""

    index: int
    name: str
    size_wh: tuple[int, int]  # of its pictures unless another is asked for, px

    def __str__(self):
        return f"{self.index} ({self.name}, {self.size_wh[0]}x{self.size_wh[1]})"


def list_cameras(capture_factory: Callable | None = None) -> list[Camera]:
    """Cameras that can be opened, which is done for a moment with each."""
    nodes = Path("/sys/class/video4linux")
    if capture_factory is None and sys.platform == "linux":
        indices = sorted(int(node.name[5:]) for node in nodes.glob("video[0-9]*"))
    else:
        indices = range(10)
    found = []
    for index in indices:
        capture = (capture_factory or cv2.VideoCapture)(index)
        if capture.isOpened():
            label = nodes / f"video{index}" / "name"
            name = label.read_text(errors="replace").strip() if label.is_file() else "camera"
            size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
            found.append(Camera(index, name, size))
        capture.release()
    return found


# Network streams


class FfmpegDevice:
    """A stream decoded by an ffmpeg process, which can be ended while a read of it blocks.

    It hands over YUV4MPEG2, whose header tells size and rate. A stream that changes its size is scaled to the first.
    """

    def __init__(self, url: str, live: bool):
        self._url, self._name = url, redacted(url)
        self.fps = 0.0
        self._frame_shape: tuple[int, int] | None = None
        low_delay = ["-fflags", "nobuffer", "-flags", "low_delay", "-threads", "1"] if live else []
        rtsp = ["-rtsp_transport", "tcp"] if url.startswith("rtsp") else []
        options = ["-nostdin", "-v", "error", "-probesize", "500000", "-analyzeduration", "1000000", *low_delay, *rtsp]
        # Even sides, because I420 holds colour for 2x2 pixels; BT.601 video levels, because that is what OpenCV reads.
        scale = "scale=trunc((iw+1)/2)*2:trunc((ih+1)/2)*2:out_color_matrix=bt601:out_range=tv"
        output = ["-an", "-vf", scale, "-pix_fmt", "yuv420p", "-fps_mode", "passthrough", "-flush_packets", "1"]
        self._errors: list[str] = []
        try:
            self._process = subprocess.Popen(
                [imageio_ffmpeg.get_ffmpeg_exe(), *options, "-i", url, *output, "-f", "yuv4mpegpipe", "pipe:1"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us to handle
            )
        except (OSError, RuntimeError) as error:
            raise SourceError(f"{self._name}: ffmpeg cannot be started ({error}); reinstall imageio-ffmpeg") from error
        self._drain = threading.Thread(target=self._collect_errors, daemon=True)
        self._drain.start()

    def _collect_errors(self) -> None:
        for line in self._process.stderr:
            text = re.sub(r"^\[[^]]*\] ", "", line.decode(errors="replace").strip())
            self._errors = [*self._errors[-4:], text]

    def read(self) -> np.ndarray | None:
        if self._frame_shape is None:
            header = self._process.stdout.readline()
            if not header.startswith(b"YUV4MPEG2"):
                return self._end()
            fields = {part[:1]: part[1:].decode() for part in header.split()[1:]}
            numerator, _, denominator = fields[b"F"].partition(":")
            self.fps = int(numerator) / max(int(denominator or 1), 1)
            self._frame_shape = int(fields[b"H"]) * 3 // 2, int(fields[b"W"])
        if not self._process.stdout.readline():  # FRAME
            return self._end()
        planes = np.empty(self._frame_shape, np.uint8)
        if self._process.stdout.readinto(planes.reshape(-1)) < planes.size:
            return self._end()
        return cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)

    def _end(self) -> None:
        status = self._process.wait()
        self._drain.join(1.0)
        if status != 0 or self._frame_shape is None:
            reason = self._errors[-1] if self._errors else "it held no picture"
            if self._url in reason:
                reason = reason.rsplit(": ", 1)[-1]
            reason = redacted_text(reason, self._url)
            raise SourceError(f"{self._name}: expected a video stream, ffmpeg found: {reason}; check the address")

    def interrupt(self) -> None:
        self._process.kill()

    def release(self) -> None:
        self._process.kill()
        self._process.wait()
        self._drain.join(1.0)
        self._process.stdout.close()
        self._process.stderr.close()


def open_stream(url: str, config: SourceConfig, max_frames: int | None = None, live: bool = True) -> ThreadedSource:
    """Open a network stream; `live=False` keeps every frame and makes the sender wait."""
    device = FfmpegDevice(url, live)
    return ThreadedSource(device, name=url, kind="stream", live=live, stall_s=config.stall_s, max_frames=max_frames)


# Raw frames on stdin


class RawDevice:
    """Raw BGR frames on a file descriptor."""

    def __init__(self, descriptor: int, size_wh: tuple[int, int], fps: float):
        # Without a buffer there is no lock that a read could hold when the interpreter ends.
        self._file = io.FileIO(descriptor, closefd=False)
        self._shape = size_wh[1], size_wh[0], 3
        self.fps = fps
        self._frames = 0

    def read(self) -> np.ndarray | None:
        image = np.empty(self._shape, np.uint8)
        left = memoryview(image).cast("B")
        while left:
            got = self._file.readinto(left)
            if not got:
                break
            left = left[got:]
        if len(left) == image.size:
            return None
        if left:
            height, width, _ = self._shape
            raise SourceError(
                f"stdin: expected frames of {width}x{height} BGR, {image.size} bytes each, found {self._frames} and"
                f" {image.size - len(left)} bytes more; check source.size and that the sender writes bgr24"
            )
        self._frames += 1
        return image

    def interrupt(self) -> None:
        pass  # the thread is a daemon: a read that never returns does not keep the program

    def release(self) -> None:
        self._file.close()


def open_raw(config: SourceConfig, start_s: float = 0.0, max_frames: int | None = None) -> ThreadedSource:
    """Read raw BGR frames of `config.size` at `config.fps` from stdin; none is dropped."""
    refuse_start(start_s, "stdin")
    if config.size_wh is None or config.fps is None:
        raise SourceError("stdin: raw frames have no header; give --set source.size=WxH source.fps=F")
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError) as error:
        raise SourceError("stdin: expected raw BGR frames, found it closed; pipe them in") from error
    if os.isatty(descriptor):
        raise SourceError("stdin: expected raw BGR frames, found a terminal; pipe them in")
    device = RawDevice(descriptor, config.size_wh, config.fps)
    return ThreadedSource(
        device, name="-", kind="raw", live=False, stall_s=None, frame_s=1 / config.fps, max_frames=max_frames
    )
