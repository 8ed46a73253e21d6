"""What every source has in common: its settings, what it says of itself, and how frames come out of it."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np

from facet.tracker.address import redacted
from facet.tracker.errors import SourceError
from facet.tracker.types import Frame

# Damaged input is ordinary and reported in our own words: OpenCV and the ffmpeg inside it must not write to stderr.
# Both are read when the first capture opens, so setting them here is early enough.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

FALLBACK_FPS = 30.0  # where a source gives no plausible frame rate
SMALLEST_STEP_S = 0.001  # between two frames whose times are equal or out of order
LOOK_S = 0.1  # how often who waits for a source looks whether it was stopped: a signal handler cannot wake anybody
MAX_MEGAPIXELS = 200.0  # of an image; default of the setting
CLOSE_S = 1.0  # how long closing waits for a read in progress


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Settings of a source."""

    size: Annotated[str | None, "WIDTHxHEIGHT in px: requested of a camera, required for raw frames on stdin"] = None
    fps: Annotated[float | None, "frames per second: requested of a camera, required for raw frames on stdin"] = None
    stall_s: Annotated[float, "seconds without a complete frame after which a camera or stream has failed"] = 10.0
    reconnect_s: Annotated[float, "seconds for which a lost camera or live stream is tried again; 0: never"] = 30.0
    max_megapixels: Annotated[
        float, "megapixels of the largest image that is read; less for formats that take more memory than JPEG and PNG"
    ] = MAX_MEGAPIXELS

    def __post_init__(self):
        if self.size is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", self.size):
            raise ValueError(f'size must be "WxH", for example "1280x720", got {self.size!r}')
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError(f"fps must be in (0, 1000], got {self.fps}")
        if not 0 < self.stall_s < math.inf:
            raise ValueError(f"stall_s must be positive, got {self.stall_s}")
        if not 0 < self.max_megapixels < math.inf:
            raise ValueError(f"max_megapixels must be positive, got {self.max_megapixels}")
        if not 0 <= self.reconnect_s < math.inf:
            raise ValueError(f"reconnect_s must be at least 0, got {self.reconnect_s}")

    @property
    def size_wh(self) -> tuple[int, int] | None:
        if self.size is None:
            return None
        width, height = self.size.split("x")
        return int(width), int(height)


class Broken(SourceError):
    """A live source broke off and may come back.

    Attributes
    ----------
    what : what happened
    remedy : what to do about it
    in_order : whether the server closed a stream without an end of its own, so that it may have been over
    """

    def __init__(self, what: str, remedy: str, in_order: bool = False):
        super().__init__(f"{what}; {remedy}")
        self.what, self.remedy, self.in_order = what, remedy, in_order


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What a source reads: an image and where it belongs, not yet counted."""

    image: np.ndarray  # (H, W, 3) uint8, BGR
    time_s: float
    source: str
    first: bool = False
    captured_s: float | None = None


class Source:
    """An iterator of frames and a context manager; made by `open_source`.

    Attributes
    ----------
    kind : "video", "images", "camera", "stream" or "raw"
    name : the path, URL or "camera N" as it may be shown: of a URL without password and query
    address : the path or URL as it was given, which is what to open; never to be shown
    files : of images, the paths in order
    live : True where only the newest frame is kept and `dropped` counts the others
    reads_ahead : True where a thread of its own reads, so that another one is of no use
    still : True where each frame is a picture of its own
    size_wh : of the frames as delivered, upright; None for images, whose sizes differ
    fps : frame rate as the source gives it, fractional, average where it varies; 0.0 for images
    frame_count_hint : how many frames to expect at most, or None; the header of a file may lie
    rotation_deg : clockwise turn that the container asked for and that has been applied to the frames
    exhausted : True once the source has been read to its end
    dropped : live frames that nobody asked for in time
    skipped : one line for each image that could not be read; the others are delivered all the same
    notes : one line for each image of a file that holds more than was read
    stopped : True once `stop` or `close` was called
    """

    kind = ""
    live = False
    reads_ahead = False
    still = False
    rotation_deg = 0
    fps = 0.0
    size_wh: tuple[int, int] | None = None

    def __init__(self, name: str, max_frames: int | None = None):
        self.address = name
        self.name = redacted(name)
        self.files: tuple[str, ...] = ()
        self.dropped = 0
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self.frame_count_hint = max_frames
        self.exhausted = False
        self.stopped = False
        self._max_frames = math.inf if max_frames is None else max_frames
        self._count = 0

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> Frame:
        """The next frame.

        Raises
        ------
        SourceError
            Where the source breaks off: a stalled stream, an unplugged camera, half a frame on stdin.
        """
        if self.stopped or self._count >= self._max_frames:
            raise StopIteration
        picture = self._read()
        if picture is None:
            self.exhausted = not self.stopped
            raise StopIteration
        index, self._count = self._count, self._count + 1
        return Frame(
            index=index,
            time_s=picture.time_s,
            image=picture.image,
            source=picture.source,
            first=picture.first or index == 0,
            captured_s=picture.captured_s,
            still=self.still,
        )

    def stop(self) -> None:
        """End the frames, at once or with the one that is being read; may be called from a signal handler."""
        self.stopped = True

    def close(self) -> None:
        """Let go of the file, camera or connection; may be called twice, and from another thread."""
        self.stop()

    def _read(self) -> Picture | None:
        """The next picture, or None at the end."""
        raise NotImplementedError


def believable_fps(fps: float) -> float:
    """The frame rate that the source gives, or a usual one where that cannot be one (0, NaN, a time base of 90000)."""
    return float(fps) if 0.1 <= fps <= 1000 else FALLBACK_FPS


def refuse_start(start_s: float, what: str) -> None:
    """Raise SourceError where a start time was given for something that cannot be started in the middle."""
    if start_s > 0:
        raise SourceError(f"{what}: --start wants a video file, {what} has no positions; leave --start out")
