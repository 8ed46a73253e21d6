"""The surface of a solid that is given by voxels, closed and wound alike: marching cubes.

The table of cases is made from one rule, by which both cells at a face cut it alike: where its corners are inside and
outside in turn, those inside are apart. So every edge has two triangles, whatever the voxels hold.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from facet.tracker.compiling import njit

# corner k of a cell lies at x = k & 1, y = k >> 1 & 1, z = k >> 2
EDGES = tuple((k, k | bit) for bit in (1, 2, 4) for k in range(8) if not k & bit)
FACES = ((0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5))  # around, from outside
MOST_TRIANGLES = 10  # of a cell
NEAREST = 1e-3  # of an edge, that a vertex keeps from its ends: no triangle is without area
BESIDE = np.array([(0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0)])
AROUND = np.array([d for d in np.ndindex(3, 3, 3) if 0 < sum(k != 1 for k in d) < 3]) - 1  # faces and edges


@cache
def table() -> tuple[np.ndarray, np.ndarray]:
    """The triangles of every case.

    Returns
    -------
    (256, MOST_TRIANGLES, 3) int8, edges of EDGES; (256,) int8, how many; a case has bit k set where corner k is inside
    """
    triangles, counts = np.zeros((256, MOST_TRIANGLES, 3), np.int8), np.zeros(256, np.int8)
    for case in range(256):
        found = [corner for loop in _loops(case) for corner in _triangulated(loop)]
        counts[case] = len(found)
        triangles[case, : len(found)] = np.reshape(found, (-1, 3))
    return triangles, counts


def _loops(case: int) -> list[list[int]]:
    """The polygons of a case, as edges in order."""
    following = {}
    for face in FACES:
        inside = [case >> corner & 1 for corner in face]
        for k in range(4):
            if inside[k] or not inside[(k + 1) % 4]:
                continue
            end = next(m for m in range(k + 1, k + 5) if inside[m % 4] and not inside[(m + 1) % 4])
            following[_edge(face, k)] = _edge(face, end)
    loops = []
    while following:
        start, at = following.popitem()
        loop = [start]
        while at != start:
            loop.append(at)
            at = following.pop(at)
        loops.append(loop)
    return loops


def _edge(face: tuple[int, ...], k: int) -> int:
    a, b = face[k % 4], face[(k + 1) % 4]
    return EDGES.index((min(a, b), max(a, b)))


def _triangulated(loop: list[int]) -> list[tuple[int, int, int]]:
    """Triangles of a polygon. No line between them lies in a face of the cell: the next cell could have it, too."""
    for triangles in _triangulations(tuple(loop)):
        lines = [line for triangle in triangles for line in zip(triangle, (*triangle[1:], triangle[0]), strict=True)]
        sides = set(zip(loop, (*loop[1:], loop[0]), strict=True))
        if not any(_share_face(a, b) for a, b in lines if (a, b) not in sides and (b, a) not in sides):
            return triangles
    raise AssertionError("every polygon has one")


def _triangulations(loop: tuple[int, ...]):
    if len(loop) < 3:
        yield []
        return
    for k in range(1, len(loop) - 1):
        for left in _triangulations(loop[: k + 1]):
            for right in _triangulations(loop[k:]):
                yield [*left, (loop[0], loop[k], loop[-1]), *right]


def _share_face(one: int, other: int) -> bool:
    return any(set(EDGES[one]) <= set(face) and set(EDGES[other]) <= set(face) for face in FACES)


def isosurface(inside: np.ndarray, level: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The surface of the largest solid in a volume, without the hollows within it; capped where the volume ends.

    Parameters
    ----------
    inside : (slices, rows, columns) float, how much of each voxel is inside
    level : above it a voxel is inside

    Returns
    -------
    points (N, 3) float64, x, y, z in voxels from the corner of the first; triangles (F, 3) int32, counter-clockwise
    seen from outside where x, y and z are right-handed. Both are empty where nothing is inside
    """
    volume, level = np.nan_to_num(np.asarray(inside, np.float32)), np.float32(level)
    within = volume > level
    if not within.any():
        return np.empty((0, 3)), np.empty((0, 3), np.int32)
    ends = []
    for axis in range(3):
        used = np.flatnonzero(within.any(axis=tuple(k for k in range(3) if k != axis)))
        ends.append((max(used[0] - 1, 0), used[-1] + 2))
    volume = np.pad(volume[tuple(slice(*each) for each in ends)], 1)
    _keep_largest(volume, level, BESIDE, AROUND)
    points, triangles = _march(volume, (volume > level).view(np.uint8), level, *table(), np.array(EDGES))
    return points - 0.5 + [start for start, _ in reversed(ends)], triangles


@njit()
def _spread(label, own, new, start, moves):
    """Give the voxels that hang together with one, (3,), and have its label another; how many there are."""
    stack = [(start[0], start[1], start[2])]
    label[start[0], start[1], start[2]] = new
    count = 0
    while len(stack):
        z, y, x = stack.pop()
        count += 1
        for k in range(len(moves)):
            c, b, a = z + moves[k, 0], y + moves[k, 1], x + moves[k, 2]
            if not (0 <= c < label.shape[0] and 0 <= b < label.shape[1] and 0 <= a < label.shape[2]):
                continue
            if label[c, b, a] == own:
                label[c, b, a] = new
                stack.append((c, b, a))
    return count


@njit()
def _keep_largest(volume, level, beside, around):
    """Empty all but the largest solid of a volume, and fill its hollows, in place."""
    label = np.zeros(volume.shape, np.int32)  # 0 outside, 1 inside, then 2 and up by solid
    for z in range(volume.shape[0]):
        for y in range(volume.shape[1]):
            for x in range(volume.shape[2]):
                label[z, y, x] = volume[z, y, x] > level
    best, most, following = 0, 0, 2
    for z in range(volume.shape[0]):
        for y in range(volume.shape[1]):
            for x in range(volume.shape[2]):
                if label[z, y, x] == 1:
                    count = _spread(label, 1, following, (z, y, x), beside)
                    if count > most:
                        best, most = following, count
                    following += 1
    for z in range(volume.shape[0]):
        for y in range(volume.shape[1]):
            for x in range(volume.shape[2]):
                if label[z, y, x] != best and label[z, y, x] != 0:
                    volume[z, y, x] = 0.0
                    label[z, y, x] = 0
    _spread(label, 0, -1, (0, 0, 0), around)
    for z in range(volume.shape[0]):
        for y in range(volume.shape[1]):
            for x in range(volume.shape[2]):
                if label[z, y, x] == 0:
                    volume[z, y, x] = 1.0


@njit()
def _march(volume, within, level, cases, counts, edges):
    slices, rows, columns = volume.shape
    total, crossed = 0, 0
    for z in range(slices - 1):
        for y in range(rows - 1):
            for x in range(columns - 1):
                total += counts[_case(within, z, y, x)]
                here = within[z, y, x]
                crossed += here != within[z, y, x + 1]
                crossed += here != within[z, y + 1, x]
                crossed += here != within[z + 1, y, x]
    points, triangles = np.empty((crossed, 3)), np.empty((total, 3), np.int32)
    number = np.full((2, rows, columns, 3), -1, np.int32)  # of the vertex on the edge from a voxel along x, y or z
    made, drawn = 0, 0
    for z in range(slices - 1):
        number[0] = number[1]
        number[1] = -1
        for y in range(rows - 1):
            for x in range(columns - 1):
                case = _case(within, z, y, x)
                for t in range(counts[case]):
                    for k in range(3):
                        edge = cases[case, t, k]
                        first, axis = edges[edge, 0], edge // 4
                        dz, b, a = first >> 2, y + (first >> 1 & 1), x + (first & 1)
                        if number[dz, b, a, axis] < 0:
                            here = volume[z + dz, b, a]
                            there = volume[z + dz + (axis == 2), b + (axis == 1), a + (axis == 0)]
                            share = min(max((level - here) / (there - here), NEAREST), 1 - NEAREST)
                            points[made, 0], points[made, 1], points[made, 2] = a, b, z + dz
                            points[made, axis] += share
                            number[dz, b, a, axis] = made
                            made += 1
                        triangles[drawn, k] = number[dz, b, a, axis]
                    drawn += 1
    return points, triangles


@njit()
def _case(within, z, y, x):
    case = 0
    for k in range(8):
        case |= within[z + (k >> 2), y + (k >> 1 & 1), x + (k & 1)] << k
    return case
