"""Parts that ICT-FaceKit models in more detail than an overlay needs: eyeballs and the inside of the mouth."""

from __future__ import annotations

import numpy as np

PUPIL_MM, IRIS_MM = 2.0, 5.9  # radii; of the iris, the same in all adults
# Rings of an eyeball: radii around the gaze axis up to the iris' edge, which is doubled so that its colour ends there,
# then degrees from the axis
RINGS_DEG = (42.0, 56.0, 72.0, 90.0)
SEGMENTS = 20
# The ball lies this much deeper than ICT's, so that closed lids, which are coarse, cover it
DEEPER_MM = 0.8
# How far each eyeLook shape turns the eye, degrees outwards and up. ICT's eyeballs stay as they are; this is what its
# lids follow: the upper one comes 7 mm down for Down, 3 mm up for Up.
GAZE_DEG = {"Out": (30.0, 0.0), "In": (-30.0, 0.0), "Up": (0.0, 20.0), "Down": (0.0, -25.0)}
# a shut upper lid lies this much below the lower rim and before it; the correction fades within this distance
LID_OVERLAP_MM, LID_SPREAD_MM = np.array([0.0, -0.25, 0.15]), 4.0
# how far the inside of the mouth reaches behind the lips, mm, and how wide it is there
MOUTH_DEPTHS_MM, MOUTH_WIDTHS = (6.0, 20.0), (1.0, 0.75)


def eyeball_rows(rows: np.ndarray, sclera: np.ndarray, gaze_rows: dict[int, np.ndarray]):
    """One eyeball as rows of a sphere.

    Parameters
    ----------
    rows : (N, M, 3) float, mean and bases of all of ICT's vertices, mm
    sclera : indices of the eyeball's vertices in them
    gaze_rows : which of the M rows turn the eye, and the (3, 3) rotation that each reaches at 1

    Returns
    -------
    rows of the new vertices, (V, M, 3); their triangles, (F, 3); "pupil", "iris" or "eyeball" for each vertex
    """
    ball = rows[sclera]
    centre, radius = fit_sphere(ball[:, 0])
    directions, triangles, part = _cap(radius)
    offset = ball[:, 0] - centre
    shift, growth = shift_and_growth(ball, offset)  # of the shapes: they move and resize the ball
    out = shift + growth[:, None] * (radius * directions - offset.mean(axis=0))[:, None]
    out[:, 0] = centre - (0.0, 0.0, DEEPER_MM) + radius * directions
    for row, turn in gaze_rows.items():
        out[:, row] = radius * directions @ (turn - np.eye(3)).T
    return out, triangles, part


def shift_and_growth(moves: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of moves (n, k, 3) leaves the form of points (n, 3) as it is.

    Returns
    -------
    shift (k, 3) of the points' middle; growth (k,) about it
    """
    spread = points - points.mean(axis=0)
    return moves.mean(axis=0), np.einsum("nkc,nc->k", moves, spread) / (spread**2).sum()


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the sphere nearest to points, (n, 3), in the algebraic sense."""
    system = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(system, (points**2).sum(axis=1), rcond=None)[0]
    centre = solution[:3]
    return centre, float(np.sqrt(solution[3] + centre @ centre))


def gaze_rotation(side: str, way: str) -> np.ndarray:
    """How eyeLook`way` turns the subject's `side` ("L" or "R") eye at weight 1, (3, 3)."""
    out, up = np.radians(GAZE_DEG[way])
    out = out if side == "L" else -out  # the subject's left lies on the positive side of x
    about_y = np.array([[np.cos(out), 0, np.sin(out)], [0, 1, 0], [-np.sin(out), 0, np.cos(out)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(up), np.sin(up)], [0, -np.sin(up), np.cos(up)]])
    return about_y @ about_x


def lid_margin(quads: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """The lids' visible edge: two edges from the border of the skin, which lies folded in behind them.

    Parameters
    ----------
    quads : (F, 4) int, -1 in triangles
    loop : (n,) border vertices around one eye

    Returns
    -------
    (n,) vertices, in the order of the loop
    """
    following = np.where(quads[:, [1, 2, 3, 0]] < 0, quads[:, :1], quads[:, [1, 2, 3, 0]])
    edges = np.stack([quads, following], axis=2)[quads >= 0]
    edges = np.concatenate([edges, edges[:, ::-1]])
    ring, seen = loop, set(loop.tolist())
    for _ in range(2):
        onwards = {a: b for a, b in edges[np.isin(edges[:, 0], ring)].tolist() if b not in seen}
        ring = np.array([onwards[v] for v in ring.tolist()])
        seen |= set(ring.tolist())
    return ring


def close_lids(rows: np.ndarray, blink: int, rim: np.ndarray) -> None:
    """Move the upper lid's blink, in place, so that its edge comes to lie on the lower lid's; ICT's leaves slits.

    Parameters
    ----------
    rows : (N, M, 3) float, mean and bases, mm
    blink : which of the M rows shuts the eye
    rim : the lids' edge, a closed line of vertices
    """
    mean = rows[:, 0]
    first, second = sorted((int(np.argmin(mean[rim, 0])), int(np.argmax(mean[rim, 0]))))
    paths = rim[first : second + 1], np.r_[rim[second:], rim[: first + 1]]
    upper, lower = sorted(paths, key=lambda path: -mean[path, 1].mean())
    drop = -rows[upper, blink, 1]
    gap = (mean[upper] - _at_x(mean[lower] + rows[lower, blink], mean[upper, 0]))[:, 1]
    middle = gap > 0.7 * gap.max()
    rows[:, blink] *= (gap[middle] / drop[middle]).mean()
    shut = mean + rows[:, blink]
    correction = _at_x(shut[lower], shut[upper, 0]) + LID_OVERLAP_MM - shut[upper]
    correction[[0, -1]] = 0.0
    # the rest of the lid follows its rim, the less the farther it is and the less it moves in a blink
    near = np.flatnonzero((np.linalg.norm(mean - mean[rim].mean(axis=0), axis=1) < 30.0) & (rows[:, blink, 1] < 0))
    distance = np.linalg.norm(mean[near][:, None] - mean[upper], axis=2)
    nearest = distance.argmin(axis=1)
    share = np.exp(-((distance.min(axis=1) / LID_SPREAD_MM) ** 2)) * np.clip(-rows[near, blink, 1] / 4.0, 0.0, 1.0)
    share[np.isin(near, lower)] = 0.0
    rows[near, blink] += share[:, None] * correction[nearest]
    rows[upper, blink] = shut[upper] + correction - mean[upper]


def _at_x(path: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Points of a path, (n, 3), at given x, (m,); beyond its ends the ends' y and z."""
    path = path[np.argsort(path[:, 0])]
    return np.column_stack([x, *(np.interp(x, path[:, 0], path[:, axis]) for axis in (1, 2))])


def _cap(radius: float):
    """The front half of a unit sphere about +z: directions, triangles (outwards), what each vertex is part of."""
    iris_edge = np.degrees(np.arcsin(IRIS_MM / radius))
    pupil_edge = np.degrees(np.arcsin(PUPIL_MM / radius))
    rings = [(pupil_edge, "pupil"), (pupil_edge + 0.8, "iris"), (iris_edge, "iris"), (iris_edge + 0.8, "eyeball")]
    rings += [(angle, "eyeball") for angle in RINGS_DEG if angle > iris_edge + 3]
    directions, part = [np.array([0.0, 0.0, 1.0])], ["pupil"]
    azimuth = np.arange(SEGMENTS) * 2 * np.pi / SEGMENTS
    for degrees, name in rings:
        angle = np.radians(degrees)
        for a in azimuth:
            directions.append(np.array([np.sin(angle) * np.cos(a), np.sin(angle) * np.sin(a), np.cos(angle)]))
            part.append(name)
    triangles = [[0, 1 + i, 1 + (i + 1) % SEGMENTS] for i in range(SEGMENTS)]
    for index in range(len(rings) - 1):
        a, b = 1 + index * SEGMENTS, 1 + (index + 1) * SEGMENTS
        for i in range(SEGMENTS):
            j = (i + 1) % SEGMENTS
            triangles += [[a + i, b + i, b + j], [a + i, b + j, a + j]]
    return np.array(directions), np.array(triangles), part


def mouth_rows(rows: np.ndarray, loop: np.ndarray):
    """The inside of the mouth: a bag behind the lips that closes their border loop.

    Parameters
    ----------
    rows : (N, M, 3) float, mean and bases
    loop : border vertices of the lips, in the direction of the lips' triangles

    Returns
    -------
    rows of the new vertices, (V, M, 3); triangles over [loop, new vertices], (F, 3)
    """
    lips = rows[loop]
    middle = lips.mean(axis=0)
    count = len(loop)
    new, triangles, previous = [], [], np.arange(count)
    for depth, width in zip(MOUTH_DEPTHS_MM, MOUTH_WIDTHS, strict=True):
        ring = middle + width * (lips - middle)
        ring[:, 0, 2] -= depth
        first = count + len(new) * count
        new.append(ring)
        current = np.arange(first, first + count)
        for i in range(count):
            j = (i + 1) % count
            triangles += [[previous[j], previous[i], current[i]], [previous[j], current[i], current[j]]]
        previous = current
    back = middle.copy()
    back[0, 2] -= MOUTH_DEPTHS_MM[-1] + 6.0
    last = count + len(new) * count
    triangles += [[previous[(i + 1) % count], previous[i], last] for i in range(count)]
    return np.concatenate([*new, back[None]]), np.array(triangles)
