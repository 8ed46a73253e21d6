"""What a face looks like, in a few numbers: to notice that a crop shows something else, and to know a face again.

Nothing here outlives the track it belongs to; there is no database of people.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from tracker.weights import find_entry

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
    size = crop.shape[0]
    margin = round(size * (1 - min(1.0, CORE / landmark_scale)) / 2)
    core = crop[margin : size - margin, margin : size - margin]
    small = cv2.resize(core, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    blue, green, red = small.reshape(-1, 3).T.astype(np.float32)
    luminance = (blue + green + red) / 3
    mean = float(luminance.sum()) / len(luminance)
    luminance -= mean
    deviation = math.sqrt(float(luminance @ luminance) / len(luminance))
    thumb = np.empty((3, SIDE * SIDE), np.float32)
    thumb[0] = luminance / max(DARK, deviation)
    # the divisor of 30 brings colour to the spread of the contrast
    colour = 100 / 30 / max(DARK, mean)
    thumb[1], thumb[2] = (red - green) * colour, (blue - green) * colour
    return thumb.ravel()


@cache
def _mean_thumbnail() -> np.ndarray:
    with np.load(find_entry(MEAN_FILE, "appearance").path, allow_pickle=False) as data:
        return data["mean"].astype(np.float32)


def thumbnail(crop: np.ndarray, landmark_scale: float) -> np.ndarray:
    """Describe a face crop by how it differs from an average face.

    Returns
    -------
    (SIDE * SIDE * 3,) float32 of unit length; zero, which is like nothing, where the crop is flat, as in the dark
    """
    raw = raw_thumbnail(crop, landmark_scale)
    luminance = raw[: SIDE * SIDE]
    if float(luminance @ luminance) < SIDE * SIDE * (FLAT / DARK) ** 2:
        return np.zeros_like(raw)
    difference = raw - _mean_thumbnail()
    return difference / max(1e-6, math.sqrt(float(difference @ difference)))


class Appearance:
    """The looks of one tracked face: the last thumbnail, and a few that differ, from the whole track."""

    def __init__(self):
        self.last: np.ndarray | None = None
        self._kept: list[np.ndarray] = []

    def add(self, thumb: np.ndarray) -> None:
        """Remember a thumbnail; the kept ones are those that the others do not stand for."""
        self.last = thumb
        if all(float(thumb @ kept) < 0.9 for kept in self._kept):
            self._kept.append(thumb)
            if len(self._kept) > MEMORY:
                self._kept.pop(1)  # the first view stays

    def likeness(self, thumb: np.ndarray) -> float:
        """Best correlation with what is remembered, [-1, 1]; -1 where nothing is."""
        views = self._kept if self.last is None else [self.last, *self._kept]
        return max((float(thumb @ view) for view in views), default=-1.0)
