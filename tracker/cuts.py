"""Finds hard cuts: frames that have nothing to do with the one before."""

from __future__ import annotations

import numpy as np

from facet.tracker.compiling import njit

# Grid of samples a frame is judged by; more add nothing, since a cut changes the whole picture.
GRID_WH = (32, 18)


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
        if _mean_difference(samples, last) < self._min_difference:
            return False
        a, b = samples - samples.mean(), last - last.mean()
        norm = np.sqrt((a * a).sum() * (b * b).sum())
        # a flat picture is like nothing else
        return bool(norm < 1e-6 or (a * b).sum() / norm < self._max_likeness)

    def reset(self) -> None:
        """Forget the last frame."""
        self._last = None


def _samples(image: np.ndarray) -> np.ndarray:
    """About 32 x 18 samples of the green channel, each the mean of 2 x 2 px where there are so many, as float32."""
    step_x, step_y = max(1, image.shape[1] // GRID_WH[0]), max(1, image.shape[0] // GRID_WH[1])
    if min(step_x, step_y) < 2:
        return image[::step_y, ::step_x, 1].astype(np.float32)
    return _means(image, step_y, step_x)


@njit(fastmath=True)
def _mean_difference(a, b):
    """Mean absolute difference of two (rows, columns) float32 arrays."""
    total = 0.0
    for row in range(a.shape[0]):
        for column in range(a.shape[1]):
            total += abs(a[row, column] - b[row, column])
    return total / a.size


@njit()
def _means(image, step_y, step_x):
    """Means of 2 x 2 px of the green channel at a distance of `step_y` and `step_x` px, at least 2."""
    rows, columns = (image.shape[0] + step_y - 2) // step_y, (image.shape[1] + step_x - 2) // step_x
    means = np.empty((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            y, x = row * step_y, column * step_x
            total = image[y, x, 1] + image[y, x + 1, 1] + image[y + 1, x, 1] + image[y + 1, x + 1, 1]
            means[row, column] = total / 4
    return means
