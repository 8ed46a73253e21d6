"""The albedo of a face on the UV layout: of the image where it shows skin, else of the skin model."""

from __future__ import annotations

import cv2
import numpy as np

from facet.render.cpu.raster import rasterise_values
from facet.render.geometry import Geometry, vertex_normals
from facet.render.lit import skin_model
from facet.render.unwrap import skin_triangles
from facet.tracker.lighting import Light

SIDES_PX = 512, 1024, 2048
DIM = 0.12, 0.3  # shading between which what the image shows begins to count: dark pixels are mostly noise
SOFT_SHARE = 0.012  # of the layout: over this the image's skin fades into the model's


def side_of(face_px: float) -> int:
    """Side of a layout that keeps what an image shows of a face this wide."""
    return next((side for side in SIDES_PX if side >= 2 * face_px), SIDES_PX[-1])


def on_layout(geometry: Geometry, values: np.ndarray, side: int) -> np.ndarray:
    """Values of vertices (N, C) on the skin of the UV layout, (side, side, C) float32; 0 elsewhere."""
    uv = geometry.codes["uv"][:, :0:-1]
    flat = np.column_stack([uv[:, 0], 1 - uv[:, 1], np.zeros(len(uv))]).astype(np.float32) * np.float32(side)
    skin = np.ascontiguousarray(geometry.triangles[skin_triangles(geometry)])
    layers = []
    for column in np.ascontiguousarray(values.T, np.float32):
        depth, target = np.full((side, side), -np.inf, np.float32), np.zeros((side, side), np.float32)
        rasterise_values(flat, skin, column, depth, target)
        layers.append(target)
    return np.stack(layers, axis=-1)


def albedo_texture(
    image: np.ndarray,
    vertices: np.ndarray,
    geometry: Geometry,
    seen: np.ndarray,
    light: Light,
    skin: np.ndarray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """The albedo of a face.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR
    vertices : (N, 3) float32, image px
    seen : (N,) float32, of `unwrap.seen_share`
    light, skin : as estimated on the face; skin (K,)
    mask : (H, W) float32, probability that a pixel shows the face; without one, what differs much from the skin model
        is taken for hair or a hand

    Returns
    -------
    (S, S, 3) uint8, BGR; the first row is v = 1
    """
    side = side_of(float(np.ptp(vertices[:, 0])))
    model = skin_model().albedo(skin)[..., ::-1]
    model = np.clip(cv2.resize(model, (side, side), interpolation=cv2.INTER_CUBIC), 0.01, 1)
    normals = np.empty_like(vertices)
    vertex_normals(vertices, geometry.triangles, normals)
    shading = light.shading(normals * np.array([1, -1, 1], np.float32))[:, ::-1]
    layers = on_layout(geometry, np.column_stack([vertices[:, :2], seen, shading]), side)
    x, y = layers[..., 0] - 0.5, layers[..., 1] - 0.5
    shade = layers[..., 3:]
    colour = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32) / 255
    found = np.clip(colour / np.maximum(shade, 0.05), 0.01, 1)
    low, high = DIM
    weight = layers[..., 2] * np.clip((shade.min(axis=2) - low) / (high - low), 0, 1)
    height, width = image.shape[:2]
    weight *= (x > 0) & (y > 0) & (x < width - 1) & (y < height - 1)
    weight *= 1 - np.clip((colour.min(axis=2) - 0.93) / 0.05, 0, 1)  # of what is white nobody knows how white
    if mask is not None:
        shown = cv2.remap(mask, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        weight *= np.clip((shown - 0.5) / 0.35, 0, 1)
    # what lies before the skin: unlike the model over more than a pore or a brow
    radius = 0.02 * side
    ratio = cv2.GaussianBlur(np.log(found / model).mean(axis=2), (0, 0), radius)
    weight *= np.clip(1.6 - np.abs(ratio) / 0.45, 0, 1)
    soft = SOFT_SHARE * side
    inner = cv2.erode(weight, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(soft) + 1,) * 2))
    weight = np.minimum(cv2.GaussianBlur(inner, (0, 0), soft / 2), weight)[..., None]
    # the model takes on the tone that the image shows
    sure = float(weight.sum())
    if sure > 0.01 * side * side:
        model = np.clip(model * np.exp((weight * np.log(found / model)).sum(axis=(0, 1)) / sure), 0.01, 1)
    return np.rint(255 * (weight * found + (1 - weight) * model)).astype(np.uint8)
