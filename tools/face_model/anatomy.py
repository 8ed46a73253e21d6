"""Where the anatomical convention (tools/data/convention.py) has its points on the face model's mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facet.tracker.mirror import FIXED, MIRROR_68
from facet.tracker.morphable import MorphableModel
from tools.face_model.meshes import border_loops

# Landmarks 17-67 of the mean face, x, y, z in mm: medians over 80 rendered people of the places that MediaPipe draws,
# corrected as tools/data/convention.py does for photographs. Of 22-26 and the like only one side is written.
# fmt: off
PLACES_MM = {
    17: (-63.2, 45.7, 56.7), 18: (-51.9, 49.0, 79.2), 19: (-41.9, 52.6, 87.4), 20: (-29.2, 52.6, 93.9),
    21: (-14.7, 50.9, 97.1), 27: (0.0, 32.8, 96.6), 28: (0.0, 18.9, 106.0), 29: (0.0, 5.7, 116.2),
    30: (0.0, -2.5, 119.6), 31: (-12.4, -13.3, 101.1), 32: (-7.4, -16.4, 103.4), 33: (0.0, -16.2, 106.9),
    36: (-44.8, 27.8, 77.0), 37: (-39.0, 32.5, 84.1), 38: (-28.5, 33.6, 86.4), 39: (-17.8, 26.1, 83.9),
    40: (-27.6, 24.4, 85.1), 41: (-37.7, 24.1, 82.8), 48: (-25.8, -40.7, 92.3), 49: (-15.1, -32.6, 103.2),
    50: (-7.3, -29.7, 106.9), 51: (0.0, -31.1, 108.2), 57: (0.0, -50.0, 104.7), 58: (-7.4, -49.5, 104.2),
    59: (-13.9, -47.8, 101.8), 60: (-22.5, -40.8, 93.3), 61: (-5.9, -38.7, 103.2), 62: (0.0, -38.8, 104.1),
    66: (0.0, -39.0, 103.6), 67: (-5.8, -38.9, 103.0),
}
# fmt: on
# lie on the edge of the lids; the inner corners do not, as the skin goes on there to where the lids meet
LIDS = ((36, 37, 38, 40, 41), (43, 44, 45, 46, 47))
LIP_EDGES = ((60, 61, 62, 63, 64), (65, 66, 67))  # on the line through the model's own points of each lip
LIPS = ((61, 67), (62, 66), (63, 65))  # coincide when the lips touch, as they do on the neutral face
MARGIN_RINGS = 2  # the lids' visible edge, counted from the border of the skin, which is folded in behind them


@dataclass(frozen=True, slots=True, eq=False)
class AnatomicalPoints:
    """Linear rows of landmarks 17-67 and the two irises' centres, subject's right first."""

    mean: np.ndarray  # (53, 3) float64, mm
    basis: np.ndarray  # (Ks + Ke, 53, 3) float64, mm
    vertices: np.ndarray  # (53,) int, the nearest vertex of each

    def __call__(self, coefficients: np.ndarray) -> np.ndarray:
        """(..., 53, 3) mm of shapes and expressions (..., Ks + Ke)."""
        return self.mean + np.tensordot(coefficients, self.basis, 1)


def anatomical_points(model: MorphableModel) -> AnatomicalPoints:
    """Find the points on our own face model."""
    places = np.zeros((68, 3))
    for k, place in PLACES_MM.items():
        places[k] = place
        places[MIRROR_68[k]] = np.array(place) * (1 if MIRROR_68[k] == k else -1, 1, 1)
    skin = np.isin(model.region, [model.region_names.index(name) for name in ("face", "ear", "neck")])
    triangles = model.triangles[skin[model.triangles].all(axis=1)]
    basis = _dense_basis(model)
    edges = [lid_edge(model.mean, triangles, side) for side in (-1, 1)]
    combined = [on_surface(model.mean, triangles, places[k]) for k in range(FIXED, 68)]
    for edge, points in zip(edges, LIDS, strict=True):
        for k in points:
            combined[k - FIXED] = _on_line(model.mean, edge, places[k])
    lips = model.landmark_vertices[[60, 61, 62, 63, 64]], model.landmark_vertices[[64, 65, 66, 67, 60]]
    for line, points in zip(lips, LIP_EDGES, strict=True):
        for k in points:
            combined[k - FIXED] = _on_line(model.mean, line, places[k])
    mean = np.stack([weight @ model.mean[vertex] for vertex, weight in combined])
    moves = np.stack([np.tensordot(weight, basis[:, vertex], (0, 1)) for vertex, weight in combined], axis=1)
    for upper, lower in LIPS:
        mean[[upper - FIXED, lower - FIXED]] = mean[[upper - FIXED, lower - FIXED]].mean(axis=0)
    disc = np.isin(model.region, [model.region_names.index(name) for name in ("iris", "pupil")])
    eyes = [disc & (side * model.mean[:, 0] > 0) for side in (-1, 1)]
    nearest = [vertex[np.argmax(weight)] for vertex, weight in combined]
    nearest += [np.flatnonzero(eye)[0] for eye in eyes]
    return AnatomicalPoints(
        np.concatenate([mean, [model.mean[eye].mean(axis=0) for eye in eyes]]),
        np.concatenate([moves, np.stack([basis[:, eye].mean(axis=1) for eye in eyes], axis=1)], axis=1),
        np.array(nearest),
    )


def _dense_basis(model: MorphableModel) -> np.ndarray:
    """(Ks + Ke, N, 3) mm."""
    basis = np.zeros((model.shape_count + model.expression_count, *model.mean.shape))
    basis[: model.shape_count] = model.shape_basis
    for k in range(model.expression_count):
        span = slice(*model.expression_start[k : k + 2])
        basis[model.shape_count + k, model.expression_vertex[span]] = model.expression_delta[span]
    return basis


def on_surface(mean: np.ndarray, triangles: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The triangle that a line along z through the place meets nearest to it: its corners, and their weights."""
    a, b, c = (mean[triangles[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    area = np.where(np.abs(area) < 1e-9, np.nan, area)
    x, y = place[:2]
    wb = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y - a[:, 1]) * (c[:, 0] - a[:, 0])) / area
    wc = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / area
    weight = np.stack([1 - wb - wc, wb, wc], axis=1)
    z = (weight * mean[triangles][..., 2]).sum(axis=1)
    inside = (np.nan_to_num(weight, nan=-1) >= -1e-9).all(axis=1)
    best = int(np.argmin(np.where(inside, np.abs(z - place[2]), np.inf)))
    return triangles[best], weight[best]


def lid_edge(mean: np.ndarray, triangles: np.ndarray, side: int) -> np.ndarray:
    """The edge of the lids of one eye as a closed line of vertices."""
    loops = [loop for loop in border_loops(triangles) if side * mean[loop, 0].mean() > 10]
    ring, seen = loops[0], set(loops[0].tolist())
    for _ in range(MARGIN_RINGS):
        about = np.unique(triangles[np.isin(triangles, ring).any(axis=1)])
        ring = np.array([v for v in about.tolist() if v not in seen])
        seen |= set(ring.tolist())
    centre = mean[ring].mean(axis=0)
    # the openings are about three times as wide as high
    ring = ring[np.argsort(np.arctan2(3 * (mean[ring, 1] - centre[1]), mean[ring, 0] - centre[0]))]
    return np.r_[ring, ring[:1]]


def _on_line(mean: np.ndarray, line: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest point of a line of vertices: two of them, and their weights."""
    start, step = mean[line[:-1]], np.diff(mean[line], axis=0)
    share = np.clip(((place - start) * step).sum(axis=1) / (step**2).sum(axis=1), 0, 1)
    best = int(np.linalg.norm(start + share[:, None] * step - place, axis=1).argmin())
    return line[best : best + 2], np.array([1 - share[best], share[best]])
