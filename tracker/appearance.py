"""What a face looks like, in a few numbers: to notice that a crop shows something else, and to know a face again.

Nothing here outlives the track it belongs to; there is no database of people.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np

from facet.tracker.compiling import njit
from facet.tracker.errors import WeightsError
from facet.tracker.weights import find_entry, load_arrays

SIDE = 8
# side of the looked-at square / longer side of the landmarks' rectangle; more would compare backgrounds
CORE = 1.14
MEMORY = 8  # pictures kept of a face
DARK = 20.0  # deviation or mean, in grey values, below which a picture is not brightened any more
FLAT = 1.5  # deviation, in grey values, of a picture in which nothing can be seen
MEAN_FILE = Path(__file__).resolve().parent.parent / "weights" / "appearance.npz"


def raw_thumbnail(crop: np.ndarray, landmark_scale: float) -> np.ndarray:
    """Luminance and two opponent colours on a coarse grid, independent of exposure.

    Parameters
    ----------
    crop : (S, S, 3) uint8, BGR
    landmark_scale : side of the crop / longer side of the landmarks' rectangle

    Returns
    -------
    (SIDE * SIDE * 3,) float32
    """
    return _raw_thumbnail(np.ascontiguousarray(crop), _margin(len(crop), landmark_scale))


def _margin(size: int, landmark_scale: float) -> int:
    """Width of what is left out at each edge of a crop, px."""
    return round(size * (1 - min(1.0, CORE / landmark_scale)) / 2)


@njit()
def _raw_thumbnail(crop, margin):
    small = _cell_means(crop, margin)
    cells = SIDE * SIDE
    thumb = np.empty(3 * cells, np.float32)
    mean, square = 0.0, 0.0
    for i in range(cells):
        thumb[i] = (small[i, 0] + small[i, 1] + small[i, 2]) / 3
        mean += thumb[i] / cells
    for i in range(cells):
        thumb[i] -= mean
        square += thumb[i] * thumb[i] / cells
    contrast = 1 / max(DARK, math.sqrt(square))
    # the divisor of 30 brings colour to the spread of the contrast
    colour = 100 / 30 / max(DARK, mean)
    for i in range(cells):
        blue, green, red = small[i, 0], small[i, 1], small[i, 2]
        thumb[i] *= contrast
        thumb[cells + i], thumb[2 * cells + i] = (red - green) * colour, (blue - green) * colour
    return thumb


@njit(fastmath=True)
def _cell_means(crop, margin):
    """Mean colours of a crop without its margin, in SIDE x SIDE cells, whole grey values; (SIDE * SIDE, 3) float32.

    Rows first, whole ones, which the compiler turns into wide instructions; pixels that two cells share are divided.
    """
    size = len(crop)
    step = (size - 2 * margin) / SIDE
    rows = crop.reshape(size, 3 * size)
    sums = np.zeros((SIDE, 3 * size), np.float32)
    means = np.zeros((SIDE * SIDE, 3), np.float32)
    for cell in range(SIDE):
        low, high = margin + cell * step, margin + (cell + 1) * step
        total = sums[cell]
        for y in range(int(low), min(size, math.ceil(high))):
            share, row = np.float32(min(high, y + 1) - max(low, y)), rows[y]
            for x in range(3 * size):
                total[x] += share * np.float32(row[x])
    for column in range(SIDE):
        low, high = margin + column * step, margin + (column + 1) * step
        for x in range(int(low), min(size, math.ceil(high))):
            share = np.float32((min(high, x + 1) - max(low, x)) / (step * step))
            for cell in range(SIDE):
                for channel in range(3):
                    means[cell * SIDE + column, channel] += share * sums[cell, 3 * x + channel]
    return np.rint(means)


@cache
def mean_thumbnail() -> np.ndarray:
    """That of an average face, (SIDE * SIDE * 3,) float32.

    Raises
    ------
    WeightsError
        If its file is missing or damaged.
    """
    mean = load_arrays(find_entry(MEAN_FILE, "appearance").path).get("mean")
    if mean is None or mean.shape != (3 * SIDE * SIDE,) or mean.dtype.kind != "f":
        raise WeightsError(f"{MEAN_FILE}: expected {3 * SIDE * SIDE} numbers named mean, found none; restore the file")
    return mean.astype(np.float32)


def thumbnail(crop: np.ndarray, landmark_scale: float) -> np.ndarray:
    """Describe a face crop by how it differs from an average face.

    Returns
    -------
    (SIDE * SIDE * 3,) float32 of unit length; zero, which is like nothing, where the crop is flat, as in the dark
    """
    return _thumbnail(np.ascontiguousarray(crop), _margin(len(crop), landmark_scale), mean_thumbnail())


@njit()
def _thumbnail(crop, margin, mean):
    thumb = _raw_thumbnail(crop, margin)
    if (thumb[: SIDE * SIDE] ** 2).sum() < SIDE * SIDE * (FLAT / DARK) ** 2:
        return np.zeros_like(thumb)
    thumb -= mean
    return thumb / np.float32(max(1e-6, math.sqrt((thumb * thumb).sum())))


class Appearance:
    """The looks of one tracked face: the last thumbnail, and a few that differ, from the whole track."""

    def __init__(self):
        self.last: np.ndarray | None = None
        self._kept = np.zeros((0, 3 * SIDE * SIDE), np.float32)

    def add(self, thumb: np.ndarray) -> None:
        """Remember a thumbnail; the kept ones are those that the others do not stand for."""
        self.last = thumb
        if _best(self._kept, thumb) < 0.9:
            kept = self._kept if len(self._kept) < MEMORY else np.delete(self._kept, 1, axis=0)  # the first view stays
            self._kept = np.concatenate([kept, thumb[None]])

    def likeness(self, thumb: np.ndarray) -> float:
        """Best correlation with what is remembered, [-1, 1]; -1 where nothing is."""
        if self.last is None:
            return -1.0
        return max(float(self.last @ thumb), _best(self._kept, thumb))


@njit(fastmath=True)
def _best(kept, thumb):
    """Highest correlation of a thumbnail with rows of kept ones, (n, 192) float32; -1 where there are none."""
    best = -1.0
    for view in range(len(kept)):
        total = np.float32(0.0)
        for i in range(len(thumb)):
            total += kept[view, i] * thumb[i]
        best = max(best, total)
    return best
