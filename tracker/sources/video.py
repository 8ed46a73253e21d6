"""Sources that are video files. None of their frames is dropped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction

from av.video.reformatter import VideoReformatter

from facet.tracker.errors import SourceError
from facet.tracker.sources.base import SMALLEST_STEP_S, Picture, Source
from facet.tracker.sources.decode import VideoDecoder, clockwise_deg, orientation_of, square_size, to_bgr, upright

SEEK_MARGIN_S = 2  # decoding begins so far ahead of the start: frames are not stored in the order of their times


class VideoFile(Source):
    """A video file, or one served by HTTP: every decodable frame once, in order, upright, with its own time.

    Times are those of the stream, counted from its first frame; with `start_s` the first frame delivered is the
    first at or after that time. Frames that are damaged beyond decoding are left out and those behind them come all
    the same. Where the container has no times they are counted at `fps`. Interlaced frames are deinterlaced, pixels
    made square, transparency shows white. The size is that of the first frame; later frames of another size are
    scaled to it.
    """

    kind = "video"

    def __init__(self, name: str, start_s: float = 0.0, max_frames: int | None = None, timeout_s: float | None = None):
        super().__init__(name, max_frames)
        self._lock = threading.Lock()  # held while the decoder works: closing it meanwhile would crash
        self._decoder = VideoDecoder(self.address, timeout_s)
        self._reformatter = VideoReformatter()
        self.fps = self._decoder.fps
        self._last_s: float | None = None
        try:
            self._begin(start_s)
            self._ahead = self._decode(start_s)
            if self._ahead is None:
                raise SourceError(self._nothing_found(start_s))
        except BaseException:
            self._decoder.close()
            raise
        height, width = self._ahead.image.shape[:2]
        self.size_wh = width, height
        if 0 < self._decoder.frame_count < 1e9:
            left = max(1, self._decoder.frame_count - round(self._ahead.time_s * self.fps))
            self.frame_count_hint = int(min(left, self._max_frames))

    def _begin(self, start_s: float) -> None:
        """Decode the first frame, with which time begins, and go to a frame before the start."""
        self._frames = self._decoder.frames()
        first = next(self._frames, None)
        if first is None:
            return
        self._origin_s, frame = first
        self._stored_wh = square_size(frame, self._decoder.stream.sample_aspect_ratio)
        self._orientation = orientation_of(frame)
        self.rotation_deg = clockwise_deg(self._orientation)
        self._frames = self._found(start_s) or _chain(first, self._frames)

    def _found(self, start_s: float) -> Iterator | None:
        """The frames from before the start on; None where they are those that follow the first one."""
        target_s = self._origin_s + Fraction(start_s) - SEEK_MARGIN_S
        if target_s <= self._origin_s:
            return None
        if self._decoder.has_index:
            self._decoder.seek(target_s)
            frames = self._decoder.frames()
            landed = next(frames, None)
            if landed is not None and landed[0] <= self._origin_s + Fraction(start_s):
                return _chain(landed, frames)
        begin = None
        if self._decoder.has_times:
            self._decoder.reopen()
            begin = self._decoder.begin_of(target_s)
        self._decoder.reopen()
        return self._decoder.frames(begin)

    def _nothing_found(self, start_s: float) -> str:
        if self._last_s is None:
            return f"{self.name}: expected a video, found no frame that can be decoded; is the file complete?"
        return f"{self.name}: --start {start_s:g} lies behind the last frame, at {self._last_s:.3f} s; start earlier"

    def _decode(self, start_s: float = 0.0) -> Picture | None:
        """The next frame at or after a time; None at the end."""
        for time_s, frame in self._frames:
            shown_s = float(time_s - self._origin_s)
            # always later than the frame before
            self._last_s = max(shown_s, 0.0 if self._last_s is None else self._last_s + SMALLEST_STEP_S)
            if self.stopped:
                return None
            if self._last_s >= start_s:
                image = to_bgr(frame, self._stored_wh, self._reformatter)
                return Picture(upright(image, self._orientation), self._last_s, self.name)
        return None

    def _read(self) -> Picture | None:
        if self._ahead is not None:
            picture, self._ahead = self._ahead, None
            return picture
        with self._lock:
            picture = None if self.stopped else self._decode()
            if self.stopped:
                self._decoder.close()
        return picture

    def close(self) -> None:
        super().close()
        # A read in progress closes the decoder itself when it comes back.
        if self._lock.acquire(blocking=False):
            self._decoder.close()
            self._lock.release()


def _chain(first, others: Iterator) -> Iterator:
    yield first
    yield from others
