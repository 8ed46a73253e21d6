"""Finds hard cuts: frames that have nothing to do with the one before."""

from __future__ import annotations

import numpy as np

# Grid of samples a frame is judged by; more add nothing, since a cut changes the whole picture.
GRID_WH = (64, 36)


class CutDetector:
    """Compares each frame with the one before on a coarse grid of grey samples.

    A cut changes the picture much (mean difference) and leaves no likeness (correlation). A light that is switched on
    changes the brightness but keeps the likeness; a pan keeps most of both.
    """

    def __init__(self, min_difference: float = 18.0, max_likeness: float = 0.55):
        self._min_difference = min_difference
        self._max_likeness = max_likeness
        self._last: np.ndarray | None = None

    def __call__(self, image: np.ndarray) -> bool:
        """Whether `image`, (H, W, 3) uint8, starts a new shot; False for the first frame."""
        samples = _samples(image)
        last, self._last = self._last, samples
        if last is None:
            return False
        if last.shape != samples.shape:
            return True
        if np.abs(samples - last).mean() < self._min_difference:
            return False
        a, b = samples - samples.mean(), last - last.mean()
        norm = np.sqrt((a * a).sum() * (b * b).sum())
        # a flat picture is like nothing else
        return bool(norm < 1e-6 or (a * b).sum() / norm < self._max_likeness)

    def reset(self) -> None:
        """Forget the last frame."""
        self._last = None


def _samples(image: np.ndarray) -> np.ndarray:
    """About 64 x 36 samples of the green channel, each the mean of 2 x 2 px where there are so many, as float32."""
    step_y, step_x = (max(1, n // g) for n, g in zip(image.shape[:2], GRID_WH[::-1], strict=True))
    green = image[..., 1]
    if min(step_x, step_y) < 2:
        return green[::step_y, ::step_x].astype(np.float32)
    parts = [green[y::step_y, x::step_x] for y in (0, 1) for x in (0, 1)]
    height, width = (min(part.shape[axis] for part in parts) for axis in (0, 1))
    return sum(part[:height, :width].astype(np.float32) for part in parts) / 4
