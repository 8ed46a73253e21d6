"""The colours of a face, taken from the picture it was seen in: on the UV layout, and at the vertices."""

from __future__ import annotations

import cv2
import numpy as np

from facet.render.cpu.raster import rasterise_values
from facet.render.geometry import Geometry, vertex_normals

SIDE_PX = 512  # of a texture
FACING = 0.35, 0.75  # cosines between which what the camera sees begins to count
SLACK_MM = 4.0  # behind the nearest surface by more is hidden
# beside an edge that stands this far before it, too: outlines of noses are never quite where they are thought to be
EDGE_MM, EDGE_DEPTH_MM = 4.0, 10.0
SHADED = 0.8  # of the albedo, where nothing was seen: few pictures show a white as white
LOOK_PX = 400  # a face is looked at for hidden parts at no more than this size
FILL_PX = (2, 4, 8, 16, 32, 64, 128)  # how far colours flow to where nothing was seen


def skin_triangles(geometry: Geometry) -> np.ndarray:
    """Which triangles have a place on the UV layout, (F,) bool; eyes and mouth have none."""
    if "uv" not in geometry.codes:
        return np.zeros(len(geometry.triangles), bool)
    placed = np.any(geometry.codes["uv"] != 0, axis=1)
    return placed[geometry.triangles].all(axis=1)


def seen_share(vertices: np.ndarray, triangles: np.ndarray, scale_px_per_mm: float) -> np.ndarray:
    """How well the camera sees each vertex of (N, 3) px, (N,) float32: squarely 1, turned away or hidden 0."""
    normals = np.empty_like(vertices)
    vertex_normals(vertices, triangles, normals)
    low, high = FACING
    share = np.clip((normals[:, 2] - low) / (high - low), 0, 1)
    origin, size = vertices[:, :2].min(axis=0), np.ptp(vertices[:, :2], axis=0).max()
    zoom = min(1.0, LOOK_PX / max(size, 1e-6))
    small = np.ascontiguousarray(np.column_stack([(vertices[:, :2] - origin) * zoom, vertices[:, 2]]), np.float32)
    shape = tuple(int(n) + 2 for n in small[:, 1::-1].max(axis=0))
    nearest, z = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.float32)
    rasterise_values(small, triangles, small[:, 2], nearest, z)
    column, row = small[:, :2].astype(int).T
    side = 2 * round(EDGE_MM * scale_px_per_mm * zoom) + 1
    around = cv2.dilate(nearest, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    hidden = nearest[row, column] - small[:, 2] > SLACK_MM * scale_px_per_mm
    hidden |= around[row, column] - small[:, 2] > EDGE_DEPTH_MM * scale_px_per_mm
    return np.where(hidden, 0, share * share * (3 - 2 * share)).astype(np.float32)


def vertex_colours(image: np.ndarray, vertices: np.ndarray, seen: np.ndarray, albedo: np.ndarray) -> np.ndarray:
    """Colours at the vertices, (N, 3) uint8 BGR: of the picture where they were seen, else `albedo`, BGR in [0, 1]."""
    place = np.ascontiguousarray(vertices[:, :2] - 0.5, np.float32)[:, None]
    # places of two channels need no second map, which OpenCV's types demand
    found = cv2.remap(image, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]  # type: ignore
    share = (seen * within(vertices, image))[:, None]
    return np.rint(share * found + (1 - share) * 255 * SHADED * albedo).astype(np.uint8)


def texture(image: np.ndarray, vertices: np.ndarray, geometry: Geometry, seen: np.ndarray) -> np.ndarray:
    """The skin on the model's UV layout.

    What the camera does not see is taken from the other side of the face, which the layout mirrors, and where that is
    hidden too colours flow in from what lies around.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR
    vertices : (N, 3) float32, image px
    seen : (N,) float32, of `seen_share`

    Returns
    -------
    (SIDE_PX, SIDE_PX, 3) uint8, BGR; the first row is v = 1
    """
    uv = geometry.codes["uv"][:, :0:-1]
    flat = np.column_stack([uv[:, 0], 1 - uv[:, 1], np.zeros(len(uv))]).astype(np.float32) * np.float32(SIDE_PX)
    skin = np.ascontiguousarray(geometry.triangles[skin_triangles(geometry)])
    x, y, weight = (
        _on_layout(flat, skin, values) for values in (vertices[:, 0], vertices[:, 1], seen * within(vertices, image))
    )
    colour = cv2.remap(image, x - 0.5, y - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    weight = weight[..., None]
    other, other_weight = colour[:, ::-1], weight[:, ::-1] * (1 - weight)
    total = weight + other_weight
    filled = np.where(total > 0, (weight * colour + other_weight * other) / np.maximum(total, 1e-6), 0)
    for radius in FILL_PX:  # near colours first
        near = cv2.GaussianBlur(total, (0, 0), radius)[..., None]
        flow = cv2.GaussianBlur(filled * total, (0, 0), radius) / np.maximum(near, 1e-6)
        share = np.clip(near / 0.02, 0, 1) * (1 - total)
        filled = np.where(total + share > 0, (filled * total + flow * share) / np.maximum(total + share, 1e-6), 0)
        total = total + share
    return np.clip(np.rint(filled), 0, 255).astype(np.uint8)


def _on_layout(flat: np.ndarray, skin: np.ndarray, values: np.ndarray) -> np.ndarray:
    depth, target = np.full((SIDE_PX, SIDE_PX), -np.inf, np.float32), np.zeros((SIDE_PX, SIDE_PX), np.float32)
    rasterise_values(flat, skin, np.ascontiguousarray(values, np.float32), depth, target)
    return target


def within(vertices: np.ndarray, image: np.ndarray) -> np.ndarray:
    """1 for vertices that lie in the picture, else 0."""
    x, y = vertices[:, 0], vertices[:, 1]
    return ((x >= 0) & (y >= 0) & (x <= image.shape[1]) & (y <= image.shape[0])).astype(np.float32)
