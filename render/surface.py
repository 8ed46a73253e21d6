"""From tracked faces to coloured triangles in the picture: what both renderers are given to rasterise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facet.render.geometry import Geometry, lit_colours, vertex_normals
from facet.render.lit import lit_skin
from facet.tracker.compiling import njit
from facet.tracker.errors import RenderError
from facet.tracker.pose import camera_scale, focal_px
from facet.tracker.types import FaceTrack

LIGHT_BELOW_PX = 64.0  # smaller faces are drawn with fewer triangles; no difference is visible
MAX_COORDINATE_PX = 1e5  # a face beyond is no face
DEPTH_NEAR_MM, DEPTH_FAR_MM = 122.0, -60.0  # of the model's origin; white and dark grey of the depth view
DEPTH_MAP_ORIGIN = 32768  # value of the 16-bit map at the model's origin
DEPTH_MAP_PER_MM = 100.0  # steps of the 16-bit map per millimetre, nearer is larger
WIRE_RADIUS_PX = 0.5
WIRE_COLOUR = (255, 250, 200)


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """One face, ready to be rasterised."""

    vertices: np.ndarray  # (N, 3) float32: x, y in image px; z: depth in mm, the same scale for all faces
    light: bool  # whether the light triangles are to be used
    colours: np.ndarray  # (N, 4) uint8, BGR times alpha, alpha


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Faces that overlap, and the part of the picture they cover."""

    rect: tuple[int, int, int, int]  # x_min, y_min, x_max, y_max, px, within the picture
    surfaces: tuple  # of Surface, or of what else a renderer draws of a face


Paint = Callable[[Geometry, np.ndarray, np.ndarray, FaceTrack], np.ndarray]


@dataclass(frozen=True, slots=True)
class SurfaceView:
    """A view of the dense mesh: how its vertices are coloured, and whether only the edges show."""

    paint: Paint  # (geometry, triangles, vertices, track) -> (N, 4) uint8
    wire: bool = False


def paint_skin(geometry: Geometry, triangles: np.ndarray, vertices: np.ndarray, track: FaceTrack) -> np.ndarray:
    """Lit skin, let through where the surface turns away."""
    normals = np.empty_like(vertices)
    vertex_normals(vertices, triangles, normals)
    colours = np.empty((len(vertices), 4), np.uint8)
    lit_colours(normals, geometry.albedo, geometry.opacity, colours)
    return colours


def paint_wire(geometry: Geometry, triangles: np.ndarray, vertices: np.ndarray, track: FaceTrack) -> np.ndarray:
    """One colour that ends softly with the mesh."""
    return np.rint(np.outer(0.8 * geometry.opacity, (*WIRE_COLOUR, 255))).astype(np.uint8)


def paint_depth(geometry: Geometry, triangles: np.ndarray, vertices: np.ndarray, track: FaceTrack) -> np.ndarray:
    """Grey by the distance from the model's origin along the view: near is white.

    The range is fixed in millimetres, not fitted to each frame, so that a face at rest does not flicker.
    """
    z_mm = _z_mm(vertices, track)
    grey = np.clip(40 + 215 * (z_mm - DEPTH_FAR_MM) / (DEPTH_NEAR_MM - DEPTH_FAR_MM), 40, 255)
    colours = np.full((len(vertices), 4), 255, np.uint8)
    colours[:, :3] = np.rint(grey)[:, None]
    return colours


def paint_normals(geometry: Geometry, triangles: np.ndarray, vertices: np.ndarray, track: FaceTrack) -> np.ndarray:
    """Where the surface looks: right as R, up as G, to the viewer as B; -1 to 1 over the range."""
    normals = np.empty_like(vertices)
    vertex_normals(vertices, triangles, normals)
    return _opaque(0.5 + 0.5 * normals[:, ::-1] * np.array([1, -1, 1], np.float32))


def paint_pncc(geometry: Geometry, triangles: np.ndarray, vertices: np.ndarray, track: FaceTrack) -> np.ndarray:
    """Which place of the face this is, by its place on the mean face."""
    return _opaque(geometry.codes["pncc"])


def paint_uv(geometry: Geometry, triangles: np.ndarray, vertices: np.ndarray, track: FaceTrack) -> np.ndarray:
    """Which place of the face this is, by its place on the UV layout."""
    return _opaque(geometry.codes["uv"])


def _opaque(bgr: np.ndarray) -> np.ndarray:
    """(N, 4) uint8 of colours (N, 3) in [0, 1]."""
    return np.column_stack([np.rint(255 * bgr), np.full(len(bgr), 255)]).astype(np.uint8)


def paint_lit(geometry: Geometry, triangles: np.ndarray, vertices: np.ndarray, track: FaceTrack) -> np.ndarray:
    """The face's own skin under the light of the image."""
    normals = np.empty_like(vertices)
    vertex_normals(vertices, triangles, normals)
    return lit_skin(geometry, normals, track)


SURFACE_VIEWS: dict[str, SurfaceView] = {
    "mesh": SurfaceView(paint_skin),
    "wire": SurfaceView(paint_wire, wire=True),
    "depth": SurfaceView(paint_depth),
    "normals": SurfaceView(paint_normals),
    "pncc": SurfaceView(paint_pncc),
    "uv": SurfaceView(paint_uv),
    "lit": SurfaceView(paint_lit),
}


def _z_mm(vertices: np.ndarray, track: FaceTrack) -> np.ndarray:
    return (vertices[:, 2] - track.model_to_image[2, 3]) / np.float32(camera_scale(track.model_to_image))


def depth_values(vertices: np.ndarray, track: FaceTrack) -> np.ndarray:
    """Values of the 16-bit depth map at the vertices, (N,) float32; see `Renderer.depth_map`."""
    return np.clip(DEPTH_MAP_ORIGIN + DEPTH_MAP_PER_MM * _z_mm(vertices, track), 1, 65535).astype(np.float32)


def patches(
    view: SurfaceView, geometry: Geometry, tracks: Sequence[FaceTrack], size_wh: tuple[int, int]
) -> list[Patch]:
    """What a view has to rasterise in a picture.

    Parameters
    ----------
    tracks : faces; left out are those without vertices, with vertices that are not finite, and outside the picture
    size_wh : the picture's size, px

    Returns
    -------
    list of Patch, not overlapping

    Raises
    ------
    RenderError
        Where a face has another number of vertices than the geometry.
    """
    found = []
    for track in tracks:
        placed = place(geometry, track, size_wh)
        if placed is not None and track.vertices is not None:
            rect, vertices, light = placed
            triangles = geometry.light_triangles if light or view.wire else geometry.triangles
            colours = view.paint(geometry, triangles, track.vertices, track)
            found.append(Patch(rect, (Surface(vertices, light or view.wire, colours),)))
    return join_overlapping(found)


def place(geometry: Geometry, track: FaceTrack, size_wh: tuple[int, int]):
    """Where a face lies in the picture, or None.

    Weak perspective gives depth within a face only; between faces the size gives it: a head twice as large is half as
    far away. Depth is minus the distance from a camera with `tracker.pose.FOV_DEG`.

    Returns
    -------
    rect (x_min, y_min, x_max, y_max) px, vertices (N, 3) float32 with depth in mm, whether light triangles do
    """
    if track.vertices is None or not len(geometry.triangles):
        return None
    vertices = check_vertices(geometry, track.vertices)
    scale = camera_scale(track.model_to_image)
    if not scale > 1e-6:
        return None
    nearer = np.empty_like(vertices)
    x0, y0, x1, y1 = _to_depth(vertices, focal_px(size_wh), scale, nearer)
    rect = in_picture(x0, y0, x1, y1, size_wh)
    if rect is None or not np.isfinite(nearer[:, 2].sum()):
        return None
    return rect, nearer, max(x1 - x0, y1 - y0) < LIGHT_BELOW_PX


def check_vertices(geometry: Geometry, vertices: np.ndarray) -> np.ndarray:
    """The vertices of a face, (N, 3) float32, of which there must be as many as the geometry has."""
    if vertices.shape != (geometry.vertex_count, 3):
        raise RenderError(
            f"expected {geometry.vertex_count} vertices a face, found {len(vertices)}; "
            "draw with the face model that the tracker was given"
        )
    return np.ascontiguousarray(vertices, np.float32)


def in_picture(x0, y0, x1, y1, size_wh: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The pixels of a picture that bounds in px touch; None where there are none, or the bounds are damaged."""
    # written so that NaN fails too
    if not max(abs(x0), abs(y0), abs(x1), abs(y1)) < MAX_COORDINATE_PX:
        return None
    rect = max(int(x0), 0), max(int(y0), 0), min(int(x1) + 1, size_wh[0]), min(int(y1) + 1, size_wh[1])
    return None if x1 <= 0 or y1 <= 0 or rect[0] >= rect[2] or rect[1] >= rect[3] else rect


@njit(nogil=True)
def _to_depth(vertices, focal_px, scale, nearer):
    """Copy the vertices with z as depth; returns their bounds, NaN where one is not a number."""
    x0 = y0 = np.inf
    x1 = y1 = -np.inf
    damaged = False
    for i in range(len(vertices)):
        x, y = vertices[i, 0], vertices[i, 1]
        damaged |= not np.isfinite(x + y)
        x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
        nearer[i, 0] = x
        nearer[i, 1] = y
        nearer[i, 2] = (vertices[i, 2] - focal_px) / scale
    if damaged:
        return np.nan, np.nan, np.nan, np.nan
    return x0, y0, x1, y1


def join_overlapping(found: list[Patch]) -> list[Patch]:
    """Join patches until none overlaps another: one depth buffer serves each."""
    joined: list[Patch] = []
    for patch in found:
        while True:
            other = next((p for p in joined if _overlap(p.rect, patch.rect)), None)
            if other is None:
                break
            joined.remove(other)
            a, b = other.rect, patch.rect
            rect = min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
            patch = Patch(rect, other.surfaces + patch.surfaces)
        joined.append(patch)
    return joined


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
