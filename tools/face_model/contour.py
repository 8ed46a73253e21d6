"""Candidates for the visible contour: for each jaw landmark a line over the face on which the contour point slides."""

from __future__ import annotations

import numpy as np

CANDIDATES = 24
# Landmarks 0-16 lie around this point, x = 0; y and z mm. Lines are where the mesh meets planes through it.
CENTRE_Y_MM = 20.0
SPACING_MM = 4.0
EDGE_DROP_MM, BEYOND_EDGE_MM = 2.0, 12.0


def contour_lines(mean: np.ndarray, triangles: np.ndarray, jaw: np.ndarray, usable: np.ndarray, reach_mm=(55.0, 45.0)):
    """Cut the mesh by one plane a landmark; sample the cut evenly around the landmark.

    Parameters
    ----------
    mean : (N, 3) float, mm
    triangles : (F, 3) int, of the face alone
    jaw : (17, 3) float, the frontal jaw line
    usable : (N,) bool, where a contour point may lie: not on ears, not on the neck
    reach_mm : how far the line goes from the landmark towards the face's front and towards its back

    Returns
    -------
    edges : (17, CANDIDATES, 2) int32, the two vertices between which each candidate lies
    share : (17, CANDIDATES) float32, 0 at the first of them
    """
    all_edges, all_shares = [], []
    for point in jaw:
        centre = np.array([0.0, min(CENTRE_Y_MM, point[1]) if abs(point[0]) > 60 else CENTRE_Y_MM, 0.0])
        if abs(point[0]) > 60:
            centre[1] = point[1]
        outward = point - centre
        outward[2] = 0.0
        outward /= np.linalg.norm(outward)
        normal = np.cross(outward, [0.0, 0.0, 1.0])
        height = (mean - centre) @ normal
        edges = np.unique(
            np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1), axis=0
        )
        edges = edges[usable[edges].all(axis=1)]
        a, b = height[edges[:, 0]], height[edges[:, 1]]
        crosses = (a > 0) != (b > 0)
        edges, share = edges[crosses], (a / np.where(a == b, 1.0, a - b))[crosses]
        points = mean[edges[:, 0]] * (1 - share[:, None]) + mean[edges[:, 1]] * share[:, None]
        good = (points - centre) @ outward > 15.0
        edges, share, points = edges[good], share[good], points[good]
        order = _walk(points, int(np.argmin(((points - point) ** 2).sum(axis=1))))
        points, edges, share = points[order], edges[order], share[order]
        length = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
        here = length[np.argmin(((points - point) ** 2).sum(axis=1))]
        # the line goes on over the jaw's edge, and ends soon after it: the neck is no contour of the face
        out = (points - centre) @ outward
        edge = start = int(np.argmin(((points - point) ** 2).sum(axis=1)))
        while start + 1 < len(out) and out[start + 1] > out[edge] - EDGE_DROP_MM:
            start += 1
            edge = start if out[start] > out[edge] else edge
        high = min(length[edge] + BEYOND_EDGE_MM, here + reach_mm[1], length[-1])
        low = max(0.0, here - reach_mm[0])
        wanted = np.linspace(low, high, CANDIDATES)
        pick = np.abs(length[:, None] - wanted).argmin(axis=0)
        all_edges.append(edges[pick])
        all_shares.append(share[pick])
    return np.array(all_edges, np.int32), np.array(all_shares, np.float32)


def _walk(points: np.ndarray, start: int) -> np.ndarray:
    """Order the points of a cut along it, from the face's front (large z) to its back."""

    def chain(first: int, towards_front: bool, free: set[int]) -> list[int]:
        path, here = [], first
        while True:
            others = np.array(sorted(free))
            if not len(others):
                return path
            steps = points[others] - points[here]
            distance = np.linalg.norm(steps, axis=1)
            ahead = steps[:, 2] > -0.3 * distance if towards_front else steps[:, 2] < 0.3 * distance
            distance = np.where(ahead, distance, np.inf)
            best = int(np.argmin(distance))
            if distance[best] > 8.0:
                return path
            here = int(others[best])
            free.discard(here)
            path.append(here)

    free = set(range(len(points))) - {start}
    front = chain(start, True, free)
    back = chain(start, False, free)
    return np.array([*front[::-1], start, *back])
