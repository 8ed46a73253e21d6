"""What is drawn of a face model: triangles, colours of the skin, normals, light. Arrays only; no GL here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facet.tracker.compiling import njit
from facet.tracker.morphable import MorphableModel

# BGR in [0, 1]
SKIN = (0.93, 0.90, 0.89)
LIPS = (0.62, 0.58, 0.88)
MOUTH = (0.30, 0.26, 0.42)
EYEBALL = (1.0, 1.0, 1.0)
IRIS = (0.52, 0.36, 0.22)
PUPIL = (0.07, 0.06, 0.06)

FADE_MM = 22.0  # the mesh grows transparent towards its outer border within this distance

OUTER_LIP = slice(48, 60)  # of the 68 landmarks
INNER_LIP = slice(60, 68)
NOSE = slice(27, 31)
JAW_AND_BROWS = slice(0, 27)


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """The unchanging part of what is drawn; made once from a face model."""

    mean: np.ndarray  # (N, 3) float32, mm
    triangles: np.ndarray  # (F, 3) int32, counter-clockwise for the viewer, y up; (0, 3) for a model of points
    light_triangles: np.ndarray  # (f, 3) int32 into the same vertices, for small faces and for the wire
    albedo: np.ndarray  # (N, 3) float32, BGR, [0, 1]
    opacity: np.ndarray  # (N,) float32, [0, 1]
    nose_to_centre_mm: np.ndarray  # (3,) float32, model space: from the bridge of the nose to the middle of the head
    codes: dict[str, np.ndarray]  # colours that encode the place on the face, (N, 3) float32, BGR, [0, 1]: pncc, uv
    model: MorphableModel | None = None  # for those that evaluate it themselves; None where only points are known

    @property
    def vertex_count(self) -> int:
        return len(self.mean)


def geometry_of(model) -> Geometry:
    """Prepare a face model for drawing.

    Parameters
    ----------
    model : tracker.morphable.MorphableModel, or anything with `mean` (N, 3) mm, `triangles` (F, 3), `landmark_vertices`
        (68,) and, where it has them, `light_triangles` and `region` with `region_names`

    Returns
    -------
    Geometry
    """
    mean = np.asarray(model.mean, np.float32)
    triangles = _facing_viewer(mean, model.triangles)
    light = getattr(model, "light_triangles", None)
    light = triangles if light is None or not len(light) else _facing_viewer(mean, light)
    points = mean[np.asarray(model.landmark_vertices)]
    centre = points[JAW_AND_BROWS].mean(axis=0)
    centre[2] = 0.0
    return Geometry(
        mean=mean,
        triangles=triangles,
        light_triangles=light,
        albedo=_albedo(model, mean, triangles, points),
        opacity=_opacity(model, mean, triangles),
        nose_to_centre_mm=centre - points[NOSE].mean(axis=0),
        codes=_codes(model, mean),
        model=model if isinstance(model, MorphableModel) else None,
    )


def _facing_viewer(mean: np.ndarray, triangles) -> np.ndarray:
    """Triangles counter-clockwise for the viewer: some models, BFM among them, are wound the other way round."""
    triangles = np.ascontiguousarray(np.asarray([] if triangles is None else triangles, np.int32).reshape(-1, 3))
    a, b, c = (mean[triangles[:, i], :2] for i in range(3))
    u, v = b - a, c - a
    # an open surface in front of the head: what faces the viewer outweighs what looks away
    if float((u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum()) < 0:
        triangles = np.ascontiguousarray(triangles[:, ::-1])
    return triangles


def _albedo(model, mean: np.ndarray, triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Colour of each vertex: skin, lips found from the landmarks, eyes and mouth where the model names them."""
    albedo = np.tile(np.array(SKIN, np.float32), (len(mean), 1))
    colours = {"eyeball": EYEBALL, "iris": IRIS, "pupil": PUPIL, "mouth": MOUTH}
    inside = np.zeros(len(mean), bool)
    for name, colour in colours.items():
        here = _in_region(model, name)
        albedo[here] = colour
        inside |= here
    lips = _in_polygon(mean, points[OUTER_LIP]) & ~_in_polygon(mean, points[INNER_LIP])
    lips &= ~inside & (mean[:, 2] > points[OUTER_LIP, 2].min() - 3.0)
    # the border of the lips follows the triangles: soften it
    share = _smooth(lips.astype(np.float32), triangles, inside)[:, None]
    return (albedo * (1 - share) + np.array(LIPS, np.float32) * share).astype(np.float32)


def _codes(model, mean: np.ndarray) -> dict[str, np.ndarray]:
    """Colours by the place on the face.

    `pncc`: where a vertex lies in the box around the mean face; x, y, z as B, G, R, as 3DDFA wrote it. `uv`: u as R,
    v as G, where the model has such a layout.
    """
    low, size = mean.min(axis=0, initial=np.inf), np.ptp(mean, axis=0) if len(mean) else np.ones(3)
    known = np.asarray(getattr(model, "pncc", ()), np.float32).reshape(-1, 3)
    codes = {"pncc": known if len(known) else ((mean - low) / np.maximum(size, 1e-6)).astype(np.float32)}
    uv = np.asarray(getattr(model, "uv", ()), np.float32).reshape(-1, 2)
    if len(uv):
        codes["uv"] = np.column_stack([np.zeros(len(uv), np.float32), uv[:, 1], uv[:, 0]])
    return codes


def _in_region(model, name: str) -> np.ndarray:
    """Which vertices belong to a region, (N,) bool; none where the model does not name it."""
    names = tuple(getattr(model, "region_names", ()))
    return model.region == names.index(name) if name in names else np.zeros(len(model.mean), bool)


def _smooth(values: np.ndarray, triangles: np.ndarray, fixed: np.ndarray, rounds: int = 2) -> np.ndarray:
    """Average each value with its neighbours' mean; the fixed ones keep theirs."""
    edges = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    count = np.maximum(np.bincount(edges[:, 0], minlength=len(values)), 1)
    for _ in range(rounds):
        mean = np.bincount(edges[:, 0], weights=values[edges[:, 1]], minlength=len(values)) / count
        values = np.where(fixed, values, (values + mean) / 2)
    return values


def _in_polygon(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Which points lie inside the polygon, seen from the front; even-odd rule."""
    inside = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(corners[:, :2], np.roll(corners[:, :2], -1, axis=0), strict=True):
        crosses = (y0 > points[:, 1]) != (y1 > points[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (points[:, 0] < x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _opacity(model, mean: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """1 on the face, falling to 0 at the outer border of the mesh, so that the overlay ends softly.

    It ends before the ears, where the model names them: no landmark lies there, and a glassy ear beside the real one
    catches the eye more than anything else.
    """
    opacity = np.ones(len(mean), np.float32)
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64), axis=1)
    # one number per edge: much quicker to sort than rows
    codes, counts = np.unique(edges[:, 0] * len(mean) + edges[:, 1], return_counts=True)
    edges = np.stack(np.divmod(codes, len(mean)), axis=1)
    border = edges[counts == 1]
    if not len(border):
        return opacity
    # the border that spans the most is the outer one; lids, lips and nostrils have theirs too
    group = np.arange(len(mean))
    for _ in range(len(border)):
        low = np.minimum(group[border[:, 0]], group[border[:, 1]])
        before = group.copy()
        np.minimum.at(group, border[:, 0], low)
        np.minimum.at(group, border[:, 1], low)
        group = group[group]
        if np.array_equal(before, group):
            break
    on_border = np.unique(border)
    spans = {g: np.ptp(mean[on_border[group[on_border] == g]], axis=0).sum() for g in np.unique(group[on_border])}
    outer = on_border[group[on_border] == max(spans, key=lambda g: spans[g])]
    length = np.linalg.norm(mean[edges[:, 0]] - mean[edges[:, 1]], axis=1)
    distance = np.full(len(mean), np.inf, np.float32)
    distance[outer] = 0
    distance[_in_region(model, "ear")] = 0
    for _ in range(64):
        before = distance.copy()
        np.minimum.at(distance, edges[:, 0], before[edges[:, 1]] + length)
        np.minimum.at(distance, edges[:, 1], before[edges[:, 0]] + length)
        if np.array_equal(before, distance):
            break
    t = np.clip(distance / FADE_MM, 0, 1)
    # distances along edges are ragged
    return _smooth(t * t * (3 - 2 * t), triangles, distance == 0, rounds=4).astype(np.float32)


@njit(nogil=True)
def vertex_normals(vertices: np.ndarray, triangles: np.ndarray, normals: np.ndarray) -> None:
    """Unit normals of a mesh, each the sum of its triangles' area vectors.

    Parameters
    ----------
    vertices : (N, 3) float32, image px
    triangles : (F, 3) int32, counter-clockwise for the viewer with y up
    normals : (N, 3) float32, written: image axes (x right, y down, z to the viewer); 0 where no triangle is
    """
    normals[:] = 0
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        # y down mirrors the axes, hence v x u
        nx, ny, nz = uz * vy - uy * vz, ux * vz - uz * vx, uy * vx - ux * vy
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(len(normals)):
        x, y, z = normals[i]
        length = np.sqrt(x * x + y * y + z * z)
        if length > 0:
            scale = np.float32(1) / length
            normals[i, 0] = x * scale
            normals[i, 1] = y * scale
            normals[i, 2] = z * scale


@njit(nogil=True)
def lit_colours(normals: np.ndarray, albedo: np.ndarray, opacity: np.ndarray, colours: np.ndarray) -> None:
    """Light the skin: a soft key from above left, light from the sky, a small highlight.

    Parameters
    ----------
    normals : (N, 3) float32, image axes
    albedo : (N, 3) float32, BGR, [0, 1]
    opacity : (N,) float32, [0, 1]
    colours : (N, 4) uint8, written: BGR times alpha, alpha
    """
    one = np.float32(1)
    for i in range(len(normals)):
        x, y, z = normals[i]
        key = max(np.float32(-0.34) * x - np.float32(0.46) * y + np.float32(0.82) * z, np.float32(0))
        sky = np.float32(0.5) - np.float32(0.5) * y
        light = np.float32(0.20) + np.float32(0.24) * sky + np.float32(0.62) * key
        # halfway between the key and the viewer
        half = max(np.float32(-0.178) * x - np.float32(0.241) * y + np.float32(0.954) * z, np.float32(0))
        half *= half
        half *= half
        half *= half
        half *= half
        shine = np.float32(0.16) * half * half
        # what turns away from the viewer lets more of the picture through: no hard outline on the cheek
        facing = min(max(z, np.float32(0)) * np.float32(2.2), one)
        alpha = opacity[i] * (np.float32(0.28) + np.float32(0.35) * facing)
        for c in range(3):
            value = min(light * albedo[i, c] + shine, one)
            colours[i, c] = np.uint8(value * alpha * np.float32(255) + np.float32(0.5))
        colours[i, 3] = np.uint8(alpha * np.float32(255) + np.float32(0.5))
