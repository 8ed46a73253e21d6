"""Matrices from image px to GL's clip space."""

from __future__ import annotations

import numpy as np


def pixel_to_clip(rect: tuple[float, float, float, float], z_min: float, z_max: float) -> np.ndarray:
    """Matrix that puts a part of the picture on the whole framebuffer, the picture's first row first.

    Parameters
    ----------
    rect : x_min, y_min, x_max, y_max, image px
    z_min, z_max : farthest and nearest depth that is drawn, larger is nearer

    Returns
    -------
    (4, 4) float32, for column vectors (x, y, z, 1)

    Convention
    ----------
    Row 0 of the picture is row 0 of the framebuffer, which GL counts from the bottom: what is read back needs no
    turning, and what is wound counter-clockwise for the viewer stays clockwise, as it is in image px.
    """
    x0, y0, x1, y1 = rect
    depth = max(z_max - z_min, 1e-6) * 1.01  # the ends themselves must not be clipped
    middle = (z_min + z_max) / 2
    matrix = np.zeros((4, 4), np.float64)
    matrix[0, 0], matrix[0, 3] = 2 / (x1 - x0), -(x0 + x1) / (x1 - x0)
    matrix[1, 1], matrix[1, 3] = 2 / (y1 - y0), -(y0 + y1) / (y1 - y0)
    matrix[2, 2], matrix[2, 3] = -2 / depth, 2 * middle / depth
    matrix[3, 3] = 1
    return matrix.astype(np.float32)
