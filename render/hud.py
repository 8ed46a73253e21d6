"""The text over the image in a window: frame rate, latency, number of faces, keys."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
MARGIN_PX = 8
AVERAGED_FRAMES = 30


class FrameRate:
    """Frames per second of what is shown, averaged over the last second or so."""

    def __init__(self):
        self._times_s: deque[float] = deque(maxlen=AVERAGED_FRAMES + 1)

    def tick(self) -> None:
        self._times_s.append(time.perf_counter())

    @property
    def fps(self) -> float:
        if len(self._times_s) < 2:
            return 0.0
        return (len(self._times_s) - 1) / max(self._times_s[-1] - self._times_s[0], 1e-9)


def hud_line(fps: float, latency_ms: float | None, faces: int) -> str:
    """The first line of text; `latency_ms` is the time from the capture of a frame, or from its decoding, to now."""
    parts = [f"{fps:.0f} fps"] if fps else []
    if latency_ms is not None:
        parts.append(f"latency {latency_ms:.0f} ms")
    parts.append("no face" if not faces else f"{faces} face{'s' * (faces != 1)}")
    return "   ".join(parts)


def text_picture(lines: Sequence[str], scale: float) -> np.ndarray:
    """White text with a soft dark surround, legible on any picture.

    Parameters
    ----------
    lines : text, ASCII
    scale : 1 for letters of about 12 px

    Returns
    -------
    (H, W, 4) uint8, BGR times alpha, alpha
    """
    size = 0.5 * scale
    thickness = max(1, round(1.2 * scale))
    boxes = [cv2.getTextSize(line or " ", FONT, size, thickness) for line in lines]
    step = round(22 * scale)
    margin = round(MARGIN_PX * scale)
    width = max((box[0][0] for box in boxes), default=0) + 2 * margin
    letters = np.zeros((step * len(lines) + 2 * margin, width), np.uint8)
    for row, line in enumerate(lines):
        baseline = margin + row * step + round(15 * scale)
        cv2.putText(letters, line, (margin, baseline), FONT, size, 255, thickness, cv2.LINE_AA)
    reach = 2 * round(2 * scale) + 1
    shadow = cv2.GaussianBlur(cv2.dilate(letters, np.ones((reach, reach), np.uint8)), (0, 0), max(scale, 0.6))
    alpha = np.maximum(letters, (0.72 * shadow).astype(np.uint8))
    return np.dstack([letters, letters, letters, alpha])


def lay_over(image: np.ndarray, text: np.ndarray) -> None:
    """Lay a text picture over the top left of an image, (H, W, 3) uint8, written; what does not fit is cut off."""
    height, width = min(image.shape[0], text.shape[0]), min(image.shape[1], text.shape[1])
    part, text = image[:height, :width], text[:height, :width].astype(np.uint16)
    part[:] = text[..., :3] + (part * (255 - text[..., 3:]) + 127) // 255
