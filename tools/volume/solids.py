"""Solids of a person, and how much of each voxel they cover.

Grid coordinates: x right and y down in columns, z to the viewer in slices, origin at the outer corner of the first
voxel. An array of voxels is indexed [row, column, slice] while columns are made, and [slice, row, column] elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facet.tracker.compiling import njit
from facet.tracker.errors import FaceTrackError
from facet.tracker.morphable import MorphableModel
from tools.actor import CHEST, NECK, before_eyes
from tools.solids import ellipsoid, glasses

COVERED = 254  # of a voxel that lies inside; what is above means that nobody knows
RINGS = 12  # of the skull between the face's border and its pole
SKULL_MM, POLE_MM = np.array([0.0, 28.0, -6.0]), np.array([0.0, 22.0, -86.0])  # middle; middle to the back of the head
GLASSES_MM = 2.0  # half the thickness of a frame


class SolidError(FaceTrackError):
    """A surface that bounds no solid."""


@dataclass(frozen=True, slots=True, eq=False)
class Solid:
    """A closed surface with the name of what it is."""

    points: np.ndarray  # (N, 3) float64, mm
    triangles: np.ndarray  # (F, 3) int32, counter-clockwise seen from outside
    part: str  # head, neck, cloth, hair or glasses


def check_solid(points: np.ndarray, triangles: np.ndarray) -> None:
    """Check a surface: points (N, 3) in a right-handed space, triangles (F, 3). Points at one place count as one.

    Raises
    ------
    SolidError
        If it is open, its triangles are not wound alike, or they are wound the wrong way.
    """
    _, same = np.unique(np.round(points, 6) + 0.0, axis=0, return_inverse=True)
    welded = same.reshape(-1)[triangles]
    welded = welded[(welded != np.roll(welded, 1, axis=1)).all(axis=1)]
    _check_edges(welded, len(points))
    volume = volume_of(points, triangles)
    if not volume > 0:
        raise SolidError(
            f"expected triangles counter-clockwise seen from outside, found a volume of {volume:.3g}; "
            "swap two corners of each"
        )


def _check_edges(triangles: np.ndarray, count: int) -> None:
    """Every edge must be run once each way."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).astype(np.int64)
    there, back = np.sort(edges @ (count, 1)), np.sort(edges @ (1, count))
    if len(there) > 1 and (np.diff(there) == 0).any():
        raise SolidError("expected triangles that are wound alike, found an edge that two of them run the same way")
    if not np.array_equal(there, back):
        raise SolidError("expected a closed surface, found an edge with a triangle on one side only; close its holes")


def volume_of(points: np.ndarray, triangles: np.ndarray) -> float:
    """What a closed surface encloses; negative where it is wound the wrong way."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def border_loops(triangles: np.ndarray) -> list[np.ndarray]:
    """The borders of an open surface, each as vertices in the order of its triangles, longest first."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).tolist()
    known = set(map(tuple, edges))
    following = {a: b for a, b in known if (b, a) not in known}
    loops = []
    while following:
        start, at = next(iter(following.items()))
        loop = [start]
        del following[start]
        while at != start:
            loop.append(at)
            at = following.pop(at)
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


class HeadShell:
    """Closes the face model, which ends behind the ears: a skull behind the face, lids over lips and other holes."""

    def __init__(self, model: MorphableModel):
        names = list(model.region_names)
        inside = (model.region == names.index("mouth"))[model.triangles].any(axis=1)
        open_face = model.triangles[~inside]
        loops = border_loops(open_face)
        count, new = len(model.mean), [open_face]
        self._rim, self._holes = loops[0], loops[1:]
        ring = self._rim
        for k in range(1, RINGS):
            inner = count + (k - 1) * len(ring) + np.arange(len(ring))
            new.append(_strip(self._rim if k == 1 else inner - len(ring), inner))
        count += (RINGS - 1) * len(ring)
        new.append(_fan(inner, count))
        for k, loop in enumerate(self._holes):
            new.append(_fan(loop, count + 1 + k))
        self.skull = np.concatenate(new[1 : RINGS + 1])  # its triangles
        self.triangles = np.concatenate(new).astype(np.int32)
        shown = np.isin(model.region, [names.index(name) for name in ("face", "eyeball", "iris", "pupil")])
        shown = np.concatenate([shown, np.zeros(count + 1 + len(self._holes) - len(shown), bool)])
        self.of_face = shown[self.triangles].all(axis=1)

    def points(self, vertices: np.ndarray) -> np.ndarray:
        """Points of the closed head for the model's vertices (N, 3), mm."""
        rim = vertices[self._rim].astype(float) - SKULL_MM
        length = np.linalg.norm(rim, axis=1)[:, None]
        far = np.linalg.norm(POLE_MM)
        angle = np.arccos(np.clip(rim @ POLE_MM / (length[:, 0] * far), -1, 1))[:, None]
        rings = []
        for t in np.arange(1, RINGS) / RINGS:
            unit = (np.sin((1 - t) * angle) * rim / length + np.sin(t * angle) * POLE_MM / far) / np.sin(angle)
            rings.append(SKULL_MM + unit * ((1 - t) * length + t * far))
        middles = [vertices[loop].mean(axis=0) for loop in self._holes]
        return np.concatenate([vertices, *rings, [SKULL_MM + POLE_MM], middles])


def _strip(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Triangles between a border and the ring of as many vertices behind it."""
    after, behind = np.roll(one, -1), np.roll(other, -1)
    return np.concatenate([np.stack([after, one, other], 1), np.stack([after, other, behind], 1)])


def _fan(loop: np.ndarray, middle: int) -> np.ndarray:
    """Triangles that close a border with one more vertex."""
    return np.stack([np.roll(loop, -1), loop, np.full(len(loop), middle)], 1)


def slab(points: np.ndarray, triangles: np.ndarray, half_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """A surface with a thickness: points (N, 3), triangles (F, 3) of an open surface -> those of a solid."""
    normal = np.zeros_like(points, dtype=float)
    corners = points[triangles]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for k in range(3):
        np.add.at(normal, triangles[:, k], flat)
    normal *= half_mm / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    count = len(points)
    sides = [np.concatenate([triangles, triangles[:, ::-1] + count])]
    for loop in border_loops(triangles):
        sides.append(_strip(loop, loop + count))
    return np.concatenate([points + normal, points - normal]), np.concatenate(sides)


def bust(
    model: MorphableModel, shell: HeadShell, shape: np.ndarray, expression: np.ndarray, hair: np.ndarray, worn: int
) -> list[Solid]:
    """The solids of a person.

    Parameters
    ----------
    shape, expression : coefficients of the face model
    hair : (n, 2, 3) middles and radii of ellipsoids, mm; NaN where there is none
    worn : glasses: 0 none, 1 glasses, 2 dark ones
    """
    neutral = model.bake(shape)
    vertices = model.vertices(shape, expression, neutral)
    solids = [Solid(shell.points(vertices), shell.triangles, "head")]
    solids += [Solid(*ellipsoid(*NECK), "neck"), Solid(*ellipsoid(*CHEST), "cloth")]
    solids += [Solid(*ellipsoid(*each), "hair") for each in hair if np.isfinite(each).all()]
    if worn:
        frames, _ = glasses(*before_eyes(model, neutral), worn == 2)
        solids += [Solid(*slab(*part, GLASSES_MM), "glasses") for part in frames]
    return solids


def join(solids: list[Solid]) -> tuple[np.ndarray, np.ndarray]:
    """Points and triangles of all solids together."""
    starts = np.cumsum([0, *(len(solid.points) for solid in solids)])
    triangles = [solid.triangles + start for solid, start in zip(solids, starts, strict=False)]
    return np.concatenate([solid.points for solid in solids]), np.concatenate(triangles).astype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What fills some columns of a grid."""

    cover: np.ndarray  # (n, slices) uint8, 0 to COVERED
    front: np.ndarray  # (n,) float64, z of the surface nearest the viewer; NaN where there is none
    behind: np.ndarray  # (n,) float64, where the solid that ends there begins
    owner: np.ndarray  # (n,) int32, triangle of that surface, -1 where there is none


def fill(points: np.ndarray, triangles: np.ndarray, shape: tuple[int, int, int], samples: int = 1) -> np.ndarray:
    """How much of each voxel is covered by solids, which may overlap.

    Parameters
    ----------
    points : (N, 3) float, grid coordinates: y points down
    triangles : (F, 3) int, of closed surfaces, counter-clockwise seen from outside on the screen
    shape : slices, rows, columns
    samples : rays a column, along each side

    Returns
    -------
    (slices, rows, columns) uint8, 0 to COVERED
    """
    slices, rows, columns = shape
    total, cells = np.zeros((rows * columns, slices), np.float32), np.arange(rows * columns)
    for place in np.ndindex(samples, samples):
        total += fill_columns(points, triangles, shape, cells, (np.array(place) + 0.5) / samples).cover
    cover = np.round(total / samples**2).astype(np.uint8)
    return np.ascontiguousarray(cover.reshape(rows, columns, slices).transpose(2, 0, 1))


def fill_columns(points: np.ndarray, triangles: np.ndarray, shape, cells: np.ndarray, at=(0.5, 0.5)) -> Columns:
    """`fill` for some columns, row * columns + column each, by one ray through each at (x, y) from its corner."""
    at = np.add(at, (1.7e-6, 2.3e-6))  # through no round number: meets no vertex
    slot = np.full(shape[1] * shape[2], -1, np.int32)
    slot[cells] = np.arange(len(cells))
    points = np.ascontiguousarray(points, np.float64)
    return Columns(*_fill(points, triangles, slot, len(cells), shape, at))


@njit()
def _edge(points, i, j, x, y):
    """On which side of an edge a ray lies: positive on the left; exactly opposite for the edge the other way round."""
    if i > j:
        i, j = j, i
        sign = -1.0
    else:
        sign = 1.0
    a, b = points[i], points[j]
    value = (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
    return sign * value if value != 0.0 else sign * 1e-300


@njit()
def _crossings(points, triangles, slot, shape, at, starts, z, sign, owner):
    """Where the rays meet triangles: with empty `z` only their number, into `starts`, (columns + 1,)."""
    counts_only = len(z) == 0
    rows, columns = shape[1], shape[2]
    for index in range(len(triangles)):
        i, j, k = triangles[index, 0], triangles[index, 1], triangles[index, 2]
        a, b, c = points[i], points[j], points[k]
        x0 = max(0, int(np.ceil(min(a[0], b[0], c[0]) - at[0])))
        x1 = min(columns - 1, int(np.floor(max(a[0], b[0], c[0]) - at[0])))
        y0 = max(0, int(np.ceil(min(a[1], b[1], c[1]) - at[1])))
        y1 = min(rows - 1, int(np.floor(max(a[1], b[1], c[1]) - at[1])))
        for row in range(y0, y1 + 1):
            y = row + at[1]
            for column in range(x0, x1 + 1):
                cell = slot[row * columns + column]
                if cell < 0:
                    continue
                x = column + at[0]
                u, v, w = _edge(points, j, k, x, y), _edge(points, k, i, x, y), _edge(points, i, j, x, y)
                if not ((u > 0 and v > 0 and w > 0) or (u < 0 and v < 0 and w < 0)):
                    continue
                if counts_only:
                    starts[cell + 1] += 1
                    continue
                place = starts[cell]
                starts[cell] += 1
                z[place] = (u * a[2] + v * b[2] + w * c[2]) / (u + v + w)
                sign[place] = 1 if u > 0 else -1  # clockwise on the screen is a back: the ray enters
                owner[place] = index


@njit()
def _fill(points, triangles, slot, count, shape, at):
    slices = shape[0]
    starts = np.zeros(count + 1, np.int64)
    _crossings(points, triangles, slot, shape, at, starts, np.empty(0), np.empty(0, np.int8), np.empty(0, np.int32))
    starts = np.cumsum(starts)
    z, sign, owner = np.empty(starts[-1]), np.empty(starts[-1], np.int8), np.empty(starts[-1], np.int32)
    _crossings(points, triangles, slot, shape, at, starts[:-1].copy(), z, sign, owner)
    cover = np.zeros((count, slices), np.uint8)
    front, behind = np.full(count, np.nan), np.full(count, np.nan)
    surface = np.full(count, -1, np.int32)
    for cell in range(count):
        begin, end = starts[cell], starts[cell + 1]
        for i in range(begin + 1, end):  # few: sorted by insertion
            value, s, o = z[i], sign[i], owner[i]
            j = i - 1
            while j >= begin and z[j] > value:
                z[j + 1], sign[j + 1], owner[j + 1] = z[j], sign[j], owner[j]
                j -= 1
            z[j + 1], sign[j + 1], owner[j + 1] = value, s, o
        depth, since = 0, 0.0
        for i in range(begin, end):
            before = depth
            depth += sign[i]
            if before <= 0 and depth > 0:
                since = z[i]
            elif before > 0 and depth <= 0:
                front[cell], behind[cell], surface[cell] = z[i], since, owner[i]
                low, high = max(since, 0.0), min(z[i], float(slices))
                for k in range(int(low), min(slices, int(np.ceil(high)))):
                    covered = COVERED * max(0.0, min(high, k + 1.0) - max(low, float(k)))
                    cover[cell, k] = min(float(COVERED), cover[cell, k] + covered + 0.5)
    return cover, front, behind, surface
