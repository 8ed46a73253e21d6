"""Landmarks where annotators put them: at other vertices, which are slid along the surface between their neighbours."""

from __future__ import annotations

import numpy as np

# How far annotators' points lie from LANDMARKS_68, x and y in mm: means over the faces that nobody holds out, of the
# fitted model and of networks that were trained on it. Of the jaw's points only what runs along the jaw counts.
SHIFT_MM = np.array([
    (0.5, -0.1), (-0.5, 0.8), (-0.3, -1.3), (0.1, 0), (-0.7, 1.3), (0, -0.1), (-1.7, 1.8), (1.1, 0), (0, -0.1),
    (-1.1, 0), (1.7, 1.8), (0, -0.1), (0.7, 1.3), (-0.1, 0), (0.3, -1.3), (0.5, 0.8), (-0.5, -0.1), (0, -0.2),
    (0.2, -0.8), (-0.3, -1), (-1.1, 0.8), (-1.2, 0.1), (1.2, 0.1), (1.1, 0.8), (0.3, -1), (-0.2, -0.8), (0, -0.2),
    (0, -1.3), (0, -0.1), (0, -1.3), (0, -1.1), (0.4, 0.1), (-0.7, 0.3), (0, 0.9), (0.7, 0.3), (-0.4, 0.1), (-0.3, 1),
    (1.5, 0.6), (0, -0.2), (-0.5, 0.8), (-0.7, -0.2), (1, 0.1), (0.5, 0.8), (0, -0.2), (-1.5, 0.6), (0.3, 1),
    (-1, 0.1), (0.7, -0.2), (-0.2, -0.3), (1, -0.3), (1.2, -0.1), (0, -0.7), (-1.2, -0.1), (-1, -0.3), (0.2, -0.3),
    (-0.8, 0.2), (-1.2, -0.9), (0, -0.8), (1.2, -0.9), (0.8, 0.2), (-1.1, 0), (1.4, -0.2), (0, 0.2), (-1.4, -0.2),
    (1.1, 0), (-1.3, 0.1), (0, 0.4), (1.3, 0.1),
])  # fmt: skip
MAX_SHARE = 0.5  # of a vertex' way to its neighbours: its triangles keep their sides
RINGS = 3  # of neighbours, among which the vertex is looked for
# points that must stay on the edge of a lid or a lip, each with the next one on that edge
ON_EDGES = {37: 38, 38: 37, 40: 41, 41: 40, 43: 44, 44: 43, 46: 47, 47: 46}
ON_EDGES |= {60: 61, 61: 62, 62: 61, 63: 62, 64: 63, 65: 66, 66: 65, 67: 66}
ROWS = range(17, 68)


def nearest_vertices(mean: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices next to where SHIFT_MM puts landmarks 17-67, and what is left of the way.

    Parameters
    ----------
    mean : (N, 3) float, mm
    triangles : (F, 3) int
    landmarks : (68,) int, LANDMARKS_68 in this mesh

    Returns
    -------
    vertices : (68,) int
    shift : (68, 2) float, x and y in mm
    """
    vertices, shift = landmarks.copy(), SHIFT_MM.copy()
    for k in ROWS:
        start = int(landmarks[k])
        if k in ON_EDGES:
            vertices[k], shift[k] = _step_along_edge(mean, triangles, start, _ahead(mean, landmarks, k), shift[k])
            continue
        about = np.array([start])
        for _ in range(RINGS):
            about = np.unique(triangles[np.isin(triangles, about).any(axis=1)])
        way = mean[start, :2] + shift[k] - mean[about, :2]
        best = int(np.argmin((way**2).sum(axis=1)))
        vertices[k], shift[k] = about[best], way[best]
    return vertices, shift


def slide(
    rows: np.ndarray, mean: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Move the rows of landmarks 17-67 by the rest of their way, each within the triangles about it.

    Parameters
    ----------
    rows : (N, K) float, all that belongs to the vertices
    mean, triangles : as above
    landmarks, shift : of nearest_vertices

    Returns
    -------
    (N, K) float
    """
    result = rows.copy()
    for k in ROWS:
        vertex = int(landmarks[k])
        if k in ON_EDGES:
            neighbour, share = _along_edge(mean, triangles, vertex, _ahead(mean, landmarks, k), shift[k])
            share = min(share, MAX_SHARE)
            result[vertex] = rows[vertex] * (1 - share) + rows[neighbour] * share
        else:
            about = triangles[(triangles == vertex).any(axis=1)]
            result[vertex] = _within_triangle(rows, mean, vertex, about, shift[k])
    return result


def _ahead(mean, landmarks, k) -> np.ndarray:
    return mean[landmarks[ON_EDGES[k]]] - mean[landmarks[k]]


def _along_edge(mean, triangles, vertex, ahead, shift) -> tuple[int, float]:
    """The next vertex of the edge, forwards or backwards as the shift says, and its part of the way there."""
    neighbours = np.unique(triangles[(triangles == vertex).any(axis=1)])
    neighbours = neighbours[neighbours != vertex]
    steps = mean[neighbours] - mean[vertex]
    cosine = steps @ ahead / (np.linalg.norm(steps, axis=1) * np.linalg.norm(ahead))
    forwards = shift @ ahead[:2] > 0
    best = int(np.argmax(cosine if forwards else -cosine))
    step = steps[best]
    return int(neighbours[best]), max(0.0, float(shift @ step[:2] / (step[:2] @ step[:2])))


def _step_along_edge(mean, triangles, vertex, ahead, shift) -> tuple[int, np.ndarray]:
    """Go from vertex to vertex of the edge while the shift is longer than half of the step."""
    neighbour, share = _along_edge(mean, triangles, vertex, ahead, shift)
    while share > MAX_SHARE:
        shift = shift - (mean[neighbour] - mean[vertex])[:2]
        vertex = neighbour
        neighbour, share = _along_edge(mean, triangles, vertex, ahead, shift)
    return vertex, shift


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
