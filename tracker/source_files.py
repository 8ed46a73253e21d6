"""Sources that are video files. None of their frames is dropped."""

from __future__ import annotations

import os
import threading
import time

import cv2

from tracker.errors import SourceError
from tracker.source_base import SMALLEST_STEP_S, Picture, Source, believable_fps

# A damaged packet makes one grab fail and the next one go on; at the end of a file every grab fails, at 20 us each.
FAILED_GRABS_AT_END = 1000
SEEK_MARGIN_S = 2.0  # seek so far ahead of the start and decode up to it: seeks land near, not on, the frame


class VideoFile(Source):
    """A video file, or one served by HTTP: every decodable frame once, in order, upright, with its own time.

    Times are those of the stream, counted from its first frame; with `start_s` the first frame delivered is the
    first at or after that time. Frames that are damaged beyond decoding are left out and those behind them come all
    the same. Where the container has no times they are counted at `fps`. The size is that of the first frame;
    later frames of another size are scaled to it.
    """

    kind = "video"

    def __init__(self, name: str, start_s: float = 0.0, max_frames: int | None = None, timeout_s: float | None = None):
        super().__init__(name, max_frames)
        self._lock = threading.Lock()  # held while the capture works: releasing it meanwhile would crash
        self._timeout_s = timeout_s  # of a server
        self._timed_out = False
        self._capture = self._open()
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = believable_fps(self._capture.get(cv2.CAP_PROP_FPS))
        rotation_deg = int(self._capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
        self.rotation_deg = rotation_deg if rotation_deg % 90 == 0 else 0  # OpenCV applies no others
        self._last_s: float | None = None
        try:
            if start_s > 0:
                self._seek(start_s)
            self._ahead = self._decode(start_s)
            if self._ahead is None:
                raise SourceError(self._nothing_found(start_s))
        except BaseException:
            self._capture.release()
            raise
        height, width = self._ahead.image.shape[:2]
        self.size_wh = width, height
        if 0 < count < 1e9:
            left = max(1, int(count) - round(self._ahead.time_s * self.fps))
            self.frame_count_hint = int(min(left, self._max_frames))

    def _open(self) -> cv2.VideoCapture:
        options = []
        if self._timeout_s is not None:
            timeout_ms = int(self._timeout_s * 1000)
            options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
        # in a relative path ffmpeg would take what stands before a colon for a protocol
        name = os.path.abspath(self.address) if self._timeout_s is None else self.address
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, options)
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"{self.name}: expected a video or an image, found nothing that can be decoded; is it damaged?"
            )
        return capture

    def _nothing_found(self, start_s: float) -> str:
        if self._last_s is None:
            return f"{self.name}: expected a video, found no frame that can be decoded; is the file complete?"
        return f"{self.name}: --start {start_s:g} lies behind the last frame, at {self._last_s:.3f} s; start earlier"

    def _seek(self, start_s: float) -> None:
        """Go to a frame before the start; where that fails, back to the first frame."""
        target_s = start_s - SEEK_MARGIN_S
        if target_s <= 0:
            return
        self._capture.set(cv2.CAP_PROP_POS_MSEC, target_s * 1000)
        if not self._capture.grab() or not 0 < self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 <= start_s:
            self._capture.release()
            self._capture = self._open()

    def _decode(self, start_s: float = 0.0) -> Picture | None:
        """The next frame at or after a time; None at the end."""
        failures = 0
        while failures < FAILED_GRABS_AT_END and not self.stopped:
            if not self._grab():
                failures += 1
                continue
            failures = 0
            time_s = self._time_s()
            if time_s < start_s:
                continue
            ok, image = self._capture.retrieve()
            if ok and image is not None and image.ndim == 3:
                return Picture(image, time_s, self.name)
        return None

    def _grab(self) -> bool:
        if self._timeout_s is None:
            return self._capture.grab()
        begin_s = time.monotonic()
        grabbed = self._capture.grab()
        # A read that timed out may still give a frame, of the data that came before; those after it cannot.
        self._timed_out = self._timed_out or time.monotonic() - begin_s > 0.9 * self._timeout_s
        if not grabbed and self._timed_out and not self.stopped:
            raise SourceError(
                f"{self.name}: the server stalled, no data for {self._timeout_s:g} s;"
                " check the connection, or raise source.stall_s"
            )
        return grabbed

    def _time_s(self) -> float:
        """Time of the grabbed frame, always later than that of the frame before."""
        told_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._last_s is None:
            time_s = max(told_s, 0.0)
        elif told_s <= 0:  # no times in the container
            time_s = self._last_s + 1 / self.fps
        else:
            time_s = max(told_s, self._last_s + SMALLEST_STEP_S)
        self._last_s = time_s
        return time_s

    def _read(self) -> Picture | None:
        if self._ahead is not None:
            picture, self._ahead = self._ahead, None
            return picture
        with self._lock:
            picture = None if self.stopped else self._decode()
            if self.stopped:
                self._capture.release()
        if picture is not None and picture.image.shape[1::-1] != self.size_wh:
            image = cv2.resize(picture.image, self.size_wh, interpolation=cv2.INTER_AREA)
            picture = Picture(image, picture.time_s, picture.source)
        return picture

    def close(self) -> None:
        super().close()
        # A read in progress releases the capture itself when it comes back.
        if self._lock.acquire(blocking=False):
            self._capture.release()
            self._lock.release()
