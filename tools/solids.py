"""Simple solids around the head of a rendered person: points (n, 3) mm and triangles of each."""

from __future__ import annotations

import numpy as np

LENS_MM = (25.0, 19.0)  # half width and half height of a lens
EAR_MM = (80.0, 34.0, 8.0)  # where the temples end, of the left side


def ellipsoid(centre, radii, steps: int = 48):
    """A closed ellipsoid: points (n, 3), triangles counter-clockwise seen from outside."""
    polar, around = np.linspace(0, np.pi, steps // 2 + 1), np.linspace(0, 2 * np.pi, steps, endpoint=False)
    p, a = np.meshgrid(polar, around, indexing="ij")
    unit = np.stack([np.sin(p) * np.sin(a), np.cos(p), np.sin(p) * np.cos(a)], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(steps // 2), np.arange(steps), indexing="ij")
    k, m = row * steps + column, row * steps + (column + 1) % steps
    triangles = np.stack([k, k + steps, m, m, k + steps, m + steps], -1).reshape(-1, 3)
    return np.array(centre) + unit * radii, triangles


def glasses(eyes: np.ndarray, front: float, dark: bool, steps: int = 32):
    """Glasses before eyes, (2, 3) mm, the subject's right one first; `front`: z of the lenses' middles, mm.

    Returns
    -------
    parts : two rims (with lenses where they are dark), two temples and a bridge, each as points and triangles
    lenses : the outlines of both lenses, (steps, 3) each
    """
    around = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    # rounded rectangles, bent around the face
    wide, high = (np.sign(f) * np.abs(f) ** 0.75 for f in (np.cos(around), np.sin(around)))
    parts, lenses = [], []
    height = eyes[:, 1].mean() - 1.0
    for side, eye in zip((-1, 1), eyes, strict=True):
        middle = np.array([side * max(abs(eye[0]), 29.0), height, front])
        rim = np.stack([LENS_MM[0] * wide, LENS_MM[1] * high, -0.008 * (LENS_MM[0] * wide + side * 4) ** 2], 1)
        inner = middle + rim * (0.0 if dark else 0.9, 0.0 if dark else 0.87, 1)
        parts.append(band(inner, middle + rim, closed=True))
        lenses.append(middle + rim * (0.9, 0.87, 1))
        outer = middle + np.array([side * LENS_MM[0], 5.0, -0.008 * (LENS_MM[0] + 4) ** 2])
        temple = np.array([outer, np.array(EAR_MM) * (side, 1, 1)])
        parts.append(band(temple, temple + np.array([0, 5, 0])))
    x = max(abs(eyes[:, 0]).min(), 29.0) - LENS_MM[0]
    bridge = np.array([[-x, height + 5, front - 1.0], [0, height + 8, front + 2.0], [x, height + 5, front - 1.0]])
    return [*parts, band(bridge, bridge + np.array([0, 3.0, 0]))], lenses


def band(one: np.ndarray, other: np.ndarray, closed: bool = False):
    """Triangles between two lines of as many points (n, 3)."""
    count = len(one)
    k = np.arange(count if closed else count - 1)
    m = (k + 1) % count
    return np.concatenate([one, other]), np.stack([k, k + count, m, m, k + count, m + count], 1).reshape(-1, 3)
