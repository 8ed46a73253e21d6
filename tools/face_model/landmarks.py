"""Landmarks between the mesh's vertices: their rows are slid along the surface to where annotators put them."""

from __future__ import annotations

import numpy as np

# How far annotators' points lie from those of the fitted model with LANDMARKS_68, x and y in mm: means over the faces
# that nobody holds out. Of the jaw's points only what runs along the jaw counts.
SHIFT_MM = np.array([
    (0.5, -0.1), (-0.5, 0.8), (-0.3, -1.3), (0.1, 0), (-0.7, 1.3), (0, -0.1), (-1.7, 1.8), (1.1, 0), (0, -0.1),
    (-1.1, 0), (1.7, 1.8), (0, -0.1), (0.7, 1.3), (-0.1, 0), (0.3, -1.3), (0.5, 0.8), (-0.5, -0.1), (-0.2, 0.1),
    (0.1, -0.4), (0, -0.7), (-0.9, 1.1), (-0.9, 0.3), (0.9, 0.3), (0.9, 1.1), (0, -0.7), (-0.1, -0.4), (0.2, 0.1),
    (0, -1.2), (0, 0.1), (0, -1), (0, -0.8), (0.2, 0.1), (-0.9, 0.2), (0, 0.6), (0.9, 0.2), (-0.2, 0.1),
    (-0.5, 0.7), (1.1, 0.2), (0, -0.4), (-0.3, 1), (-0.3, -0.5), (0.6, 0), (0.3, 1), (0, -0.4), (-1.1, 0.2),
    (0.5, 0.7), (-0.6, 0), (0.3, -0.5), (0.1, -0.4), (0.7, -0.4), (0.9, -0.2), (0, -0.6), (-0.9, -0.2),
    (-0.7, -0.4), (-0.1, -0.4), (-0.5, 0.2), (-0.7, -0.7), (0, -0.7), (0.7, -0.7), (0.5, 0.2), (-0.9, 0.1),
    (1, 0.1), (0, 0.5), (-1, 0.1), (0.9, 0.1), (-0.9, 0), (0, 0.4), (0.9, 0),
])  # fmt: skip
MAX_SHARE = 0.5  # of a vertex' way to its neighbours: its triangles keep their sides
# points that must stay on the edge of a lid or a lip, each with the next one on that edge
ON_EDGES = {36: 37, 37: 38, 38: 37, 39: 38, 40: 41, 41: 40, 42: 43, 43: 44, 44: 43, 45: 44, 46: 47, 47: 46}
ON_EDGES |= {60: 61, 61: 62, 62: 61, 63: 62, 64: 63, 65: 66, 66: 65, 67: 66}
ROWS = range(17, 68)


def slide(rows: np.ndarray, mean: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Move the rows of landmarks 17-67 towards SHIFT_MM, each within the triangles about it.

    Parameters
    ----------
    rows : (N, K) float, all that belongs to the vertices
    mean : (N, 3) float, mm
    triangles : (F, 3) int
    landmarks : (68,) int

    Returns
    -------
    (N, K) float
    """
    result = rows.copy()
    for k in ROWS:
        vertex = int(landmarks[k])
        about = triangles[(triangles == vertex).any(axis=1)]
        neighbours = np.unique(about[about != vertex])
        if k in ON_EDGES:
            ahead = mean[landmarks[ON_EDGES[k]]] - mean[vertex]
            result[vertex] = _along_edge(rows, mean, vertex, neighbours, ahead, SHIFT_MM[k])
        else:
            result[vertex] = _within_triangle(rows, mean, vertex, about, SHIFT_MM[k])
    return result


def _along_edge(rows, mean, vertex, neighbours, ahead, shift) -> np.ndarray:
    """Go along the edge, forwards or backwards, by the shift's part in its direction."""
    steps = mean[neighbours] - mean[vertex]
    cosine = steps @ ahead / (np.linalg.norm(steps, axis=1) * np.linalg.norm(ahead))
    forwards = shift @ ahead[:2] > 0
    best = int(np.argmax(cosine if forwards else -cosine))
    step = steps[best]
    share = np.clip(shift @ step[:2] / (step[:2] @ step[:2]), 0.0, MAX_SHARE)
    return rows[vertex] * (1 - share) + rows[neighbours[best]] * share


def _within_triangle(rows, mean, vertex, about, shift) -> np.ndarray:
    """Go by the shift into the triangle that it points to."""
    for triangle in about:
        a, b = triangle[triangle != vertex]
        edges = np.stack([mean[a, :2] - mean[vertex, :2], mean[b, :2] - mean[vertex, :2]], axis=1)
        if abs(np.linalg.det(edges)) < 1e-3:
            continue
        u, v = np.linalg.solve(edges, shift)
        if u >= -1e-6 and v >= -1e-6:
            factor = min(1.0, MAX_SHARE / max(u + v, 1e-9))
            u, v = u * factor, v * factor
            return rows[vertex] * (1 - u - v) + rows[a] * u + rows[b] * v
    return rows[vertex]
