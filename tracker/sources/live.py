"""Cameras, raw frames on stdin, and what they have in common with network streams.

A thread reads and the consumer takes from one slot. Live sources replace a frame that nobody has taken; the others
wait. The thread alone opens, reads and releases its device, so that closing never pulls it away under a read.
"""

from __future__ import annotations

import io
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from facet.tracker.errors import SourceError
from facet.tracker.sources.base import (
    CLOSE_S,
    LOOK_S,
    Broken,
    Picture,
    Source,
    SourceConfig,
    believable_fps,
    refuse_start,
)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 4.0  # before a lost connection is tried again, doubled each time
DRIVER_BUFFERS = 4  # frames at most that may have become old in a camera's driver
LONGEST_AGE_S = 10.0  # an older frame says that the driver counts time in another way
CAMERA_FAILURES = 10  # reads in a row; cameras miss a frame now and then, above all the first


class Read(NamedTuple):
    """What a device reads."""

    image: np.ndarray  # (H, W, 3) uint8, BGR
    captured_s: float  # on the clock of time.monotonic
    dropped: int = 0  # frames before it that nobody will see


class ThreadedSource(Source):
    """Frames of a `device` that a thread reads.

    The device has `read() -> Read or None at the end`, `release()` (called by the thread) and `interrupt()` (called by
    the closer: makes a blocked read return where that can be done). Where its read raises
    `Broken` and there is a `reopen`, new devices are tried until one gives a frame, for `reconnect_s`; time goes on.
    """

    reads_ahead = True

    def __init__(
        self,
        device,
        *,
        name: str,
        kind: str,
        live: bool,
        stall_s: float | None = None,
        frame_s: float | None = None,
        max_frames: int | None = None,
        reopen: Callable | None = None,
        reconnect_s: float = 0.0,
        notify: Callable[[str], None] = lambda text: None,
    ):
        """Start the thread and wait for the first frame.

        Parameters
        ----------
        stall_s : of a device that does not notice by itself that no frame comes
        frame_s : fixed distance of frames in time; None takes the time of arrival
        reopen : `reopen(seconds)` makes another device, which gives its first frame within these seconds or fails
        notify : gets one line when the device broke off and is tried again; called in the thread
        """
        super().__init__(name, max_frames)
        self.kind = kind
        self.live = live
        self._device = device
        self._stall_s = stall_s
        self._frame_s = frame_s
        self._reopen, self._reconnect_s, self._notify = reopen, reconnect_s, notify
        self._changed = threading.Condition()
        self._slot: Picture | None = None
        self._ended = False
        self._error: Exception | None = None
        self._begin_s: float | None = None
        self._newest_s = time.monotonic()  # when the newest frame came, or the next one could be hoped for
        self._thread = threading.Thread(target=self._run, name=f"source {self.name}", daemon=True)
        self._thread.start()
        try:
            self._ahead = self._take()
        except BaseException:
            self.close()
            raise
        if self._ahead is None:
            self.close()
            raise SourceError(f"{self.name}: expected frames, found none")
        self.fps = believable_fps(device.fps)

    def _run(self) -> None:
        count, after_gap = 0, False
        try:
            while not self.stopped:
                try:
                    read = self._device.read()
                except Broken as error:
                    if self._begin_s is None or self._reopen is None or self._reconnect_s == 0:
                        if error.in_order and self._begin_s is not None:
                            break
                        raise
                    read, after_gap = self._reconnected(self._reopen, error), True
                if read is None:
                    break
                image, captured_s, dropped = read
                self.dropped += dropped
                if self._begin_s is None:
                    self._begin_s = captured_s
                    self.size_wh = image.shape[1], image.shape[0]
                elif image.shape[1::-1] != self.size_wh:
                    image = cv2.resize(image, self.size_wh, interpolation=cv2.INTER_AREA)
                time_s = captured_s - self._begin_s if self._frame_s is None else count * self._frame_s
                count += 1
                self._put(Picture(image, time_s, self.name, after_gap, captured_s))
                after_gap = False
        except Exception as error:  # raised where the consumer can see it
            self._error = error
        finally:
            self._device.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, picture: Picture) -> None:
        with self._changed:
            while self._slot is not None and not self.live and not self.stopped:
                self._changed.wait()
            if self._slot is not None:
                self.dropped += 1
                picture = replace(picture, first=picture.first or self._slot.first)
            self._slot = picture
            self._newest_s = time.monotonic()
            self._changed.notify_all()

    def _reconnected(self, reopen: Callable, lost: Broken) -> Read | None:
        """The first thing that a new device reads; raises where none gives a frame in time, None once stopped."""
        self._notify(f"{lost.what}; trying again for {self._reconnect_s:g} s")
        self._newest_s = math.inf
        end_s = time.monotonic() + self._reconnect_s
        pause_s, reason = FIRST_PAUSE_S, ""
        while not self.stopped:
            self._device.release()
            until_s = min(time.monotonic() + pause_s, end_s)
            while not self.stopped and time.monotonic() < until_s:
                time.sleep(min(LOOK_S, max(0.0, until_s - time.monotonic())))
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise SourceError(
                    f"{lost.what} and did not come back for {self._reconnect_s:g} s{reason}; {lost.remedy}"
                )
            try:
                self._device = reopen(left_s)
                if self.stopped:  # too late for the closer to interrupt it
                    break
                read = self._device.read()
                self._newest_s = time.monotonic()
                return read
            except SourceError as error:
                reason = f" (at last: {getattr(error, 'what', error)})"
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return None

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
        with self._changed:
            while self._slot is None and not self._ended and not self.stopped:
                if self._stall_s is not None and time.monotonic() - self._newest_s >= self._stall_s:
                    raise stalled(self.name, self.kind, self._stall_s)
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


def stalled(name: str, kind: str, stall_s: float) -> Broken:
    what = f"{name}: the {kind} stalled, no picture for {stall_s:g} s"
    return Broken(what, "check the connection, or raise source.stall_s")


# Cameras


class CameraDevice:
    """A camera opened through OpenCV, or through anything else with its interface."""

    def __init__(self, index: int, config: SourceConfig, capture_factory: Callable):
        self._index = index
        capture = capture_factory(index) if index < 1 << 31 else None
        if capture is None or not capture.isOpened():
            if capture is not None:
                capture.release()
            raise SourceError(f"camera {index}: cannot be opened")
        self._capture = capture
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if config.size_wh is not None:
            # Uncompressed pictures of this size do not fit through USB 2 at full rate.
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.size_wh[0])
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.size_wh[1])
        if config.fps is not None:
            self._capture.set(cv2.CAP_PROP_FPS, config.fps)
        self.fps = self._capture.get(cv2.CAP_PROP_FPS)

    def read(self) -> Read:
        dropped = failures = 0
        while failures < CAMERA_FAILURES:
            ok, image = self._capture.read()
            if not ok or image is None:
                failures += 1
                time.sleep(0.02)
                continue
            now_s = time.monotonic()
            age_s = now_s - self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # where the driver has this clock
            if not 0 <= age_s < LONGEST_AGE_S:
                age_s = 0.0
            if age_s > 2 / believable_fps(self.fps) and dropped < DRIVER_BUFFERS:  # waited in the driver
                dropped += 1
                continue
            image = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            return Read(image, now_s - age_s, dropped)
        raise Broken(f"camera {self._index}: it stopped delivering pictures", "is it still plugged in?")

    def interrupt(self) -> None:
        pass  # a blocked read of a driver cannot be interrupted; the thread ends when it returns

    def release(self) -> None:
        self._capture.release()


def open_camera(
    index: int,
    config: SourceConfig,
    max_frames: int | None = None,
    capture_factory: Callable | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> ThreadedSource:
    """Open a camera by its index; `capture_factory(index)` stands for cv2.VideoCapture."""

    def device(_left_s: float) -> CameraDevice:
        return CameraDevice(index, config, capture_factory or cv2.VideoCapture)

    try:
        first = device(0.0)
    except SourceError as error:
        raise SourceError(f"{error}; {_what_there_is(index, list_cameras(capture_factory))}") from error
    return ThreadedSource(
        first,
        name=f"camera {index}",
        kind="camera",
        live=True,
        stall_s=config.stall_s,
        max_frames=max_frames,
        reopen=device,
        reconnect_s=config.reconnect_s,
        notify=notify,
    )


def _what_there_is(index: int, cameras: list[Camera]) -> str:
    """What to do about a camera that cannot be opened."""
    found = f"cameras found: {', '.join(map(str, cameras))}" if cameras else "no camera was found; plug one in"
    node = f"/dev/video{index}"
    if not os.path.exists(node):
        return found
    if not os.access(node, os.R_OK | os.W_OK):
        return f"permission denied for {node}: join the group that owns it, most often video"
    return f"cameras found: {', '.join(map(str, cameras)) or 'none'}; is it in use elsewhere?"


@dataclass(frozen=True, slots=True)
class Camera:
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


# Raw frames on stdin


class RawDevice:
    """Raw BGR frames on a file descriptor."""

    def __init__(self, descriptor: int, size_wh: tuple[int, int], fps: float):
        # Without a buffer there is no lock that a read could hold when the interpreter ends.
        self._file = io.FileIO(descriptor, closefd=False)
        self._shape = size_wh[1], size_wh[0], 3
        self.fps = fps
        self._frames = 0

    def read(self) -> Read | None:
        image = np.empty(self._shape, np.uint8)
        left = image.data.cast("B")
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
        return Read(image, time.monotonic())

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
