"""When a frame is shown, and how old it is then."""

from __future__ import annotations

import time
from collections import deque

from facet.tracker.loop import FaceTracker
from facet.tracker.sources.base import LOOK_S, Source
from facet.tracker.stages import Stages
from facet.tracker.types import Frame


class Pace:
    """Shows a file to who watches as fast as it was filmed, not as fast as it can be tracked."""

    def __init__(self, source: Source):
        self._source = source
        self._ahead_s: float | None = None  # clock minus the time of the frame that is on time

    def wait(self, frame: Frame) -> None:
        late_s = time.perf_counter() - frame.time_s
        # after a pause, or where tracking is too slow, time goes on from here
        if self._ahead_s is None or late_s - self._ahead_s > 0.1:
            self._ahead_s = late_s
        due_s = frame.time_s + self._ahead_s
        while (left_s := due_s - time.perf_counter()) > 0 and not self._source.stopped:
            time.sleep(min(left_s, LOOK_S))


class EvenDelay:
    """Shows live frames, each with its own faces, at one delay after their capture, so that motion is even.

    The delay is what 95 % of the last frames needed; a later frame is shown at once.
    """

    def __init__(self, frames: int = 90, clock=time.monotonic, sleep=time.sleep):
        self._needed_s: deque[float] = deque(maxlen=frames)
        self._clock, self._sleep = clock, sleep

    def wait(self, frame: Frame) -> None:
        needed_s = self._clock() - frame.captured_s
        self._needed_s.append(needed_s)
        delay_s = sorted(self._needed_s)[int(0.95 * (len(self._needed_s) - 1))]
        self._sleep(max(0.0, delay_s - needed_s))


def latency_ms(frame: Frame, tracker: FaceTracker, stages: Stages) -> float:
    """Time until a frame is shown: of a live one from its capture, of a file's from its decoding, without the pacing.

    Its drawing is about to begin and counts as that of the frame before.
    """
    if frame.captured_s is not None:
        until_now_ms = 1000 * (time.monotonic() - frame.captured_s)
    else:
        until_now_ms = stages.last_ms("step_detect" if tracker.detected else "step")
    return until_now_ms + stages.last_ms("draw")
