"""What the page receives: the face model once, then a message a frame.

A message is one binary block, little-endian:

    uint32            length of the header
    header            JSON, filled up with blanks so that the numbers behind it begin at a multiple of four
    faces x float32   numbers of each face, as `NUMBERS` lists them
    JPEG              the drawn image; may be absent

The face model begins like it; its header names the arrays that follow (`model_message`).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from facet.render.geometry import Geometry
from facet.tracker.outputs.avatar import gaze_deg
from facet.tracker.types import FaceTrack

NUMBERS = ("model_to_image", "coefficients", "blendshapes", "landmarks", "irises")
LONGEST_SIDE_PX = 1280  # of the image as it is sent; the page shows it no larger on most screens
JPEG_QUALITY = 80
BASIS_COLUMNS = 128  # of the texture that holds one row of the basis


def packed(header: dict, *blocks: bytes) -> bytes:
    """A header and what follows it."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return b"".join((struct.pack("<I", len(text)), text, *blocks))


def face_header(face: FaceTrack) -> dict:
    """What the page shows of a face as text."""
    pose, place = face.pose, face.translation_mm
    left, right = (gaze_deg(face.blendshapes, side) for side in ("Left", "Right"))
    return {
        "id": face.id,
        "state": face.state.value,
        "score": None if face.score is None else _rounded(face.score),
        "detected": face.detected,
        "pose_deg": [_rounded(value) for value in (pose.yaw_deg, pose.pitch_deg, pose.roll_deg)],
        "gaze_deg": [_rounded((a + b) / 2) for a, b in zip(left, right, strict=True)],
        "translation_mm": None if place is None else [_rounded(value) for value in place],
    }


def face_numbers(face: FaceTrack, blendshapes: Sequence[str]) -> np.ndarray:
    """The numbers of a face in the order of NUMBERS, (n,) float32; NaN where an iris is not known."""
    irises = np.full(6, np.nan) if face.irises is None else face.irises
    weights = [face.blendshapes.get(name, 0.0) for name in blendshapes]
    parts = (face.model_to_image, face.shape, face.expression, weights, face.landmarks, irises)
    return np.concatenate([np.ravel(part) for part in parts]).astype("<f4")


def encoded(image: np.ndarray) -> bytes:
    """An image, (H, W, 3) uint8 BGR, as JPEG of a size that suits a page."""
    height, width = image.shape[:2]
    if max(height, width) > LONGEST_SIDE_PX:
        scale = LONGEST_SIDE_PX / max(height, width)
        size = max(1, round(scale * width)), max(1, round(scale * height))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()


def model_message(geometry: Geometry) -> bytes:
    """The face model for the page, which evaluates it in its vertex shader.

    Arrays: `mean` (N, 3) float32 mm, `albedo` (N, 3) float32 RGB, `opacity` (N,) float32, `triangles` (F, 3) uint32,
    `basis` (Ks + Ke, rows, BASIS_COLUMNS, 4) float16 mm: a texture for each coefficient, a texel for each vertex.
    """
    model = geometry.model
    count, basis = geometry.vertex_count, np.zeros((0, 0, 3), np.float32)
    if model is not None:
        expression = np.zeros((model.expression_count, count, 3), np.float32)
        rows = np.repeat(np.arange(model.expression_count), np.diff(model.expression_start))
        expression[rows, model.expression_vertex] = model.expression_delta
        basis = np.concatenate([model.shape_basis, expression])
    texels = -(-count // BASIS_COLUMNS) * BASIS_COLUMNS
    texture = np.zeros((len(basis), texels, 4), "<f2")
    texture[:, :count, :3] = basis
    arrays: Mapping[str, np.ndarray] = {
        "mean": geometry.mean.astype("<f4"),
        "albedo": geometry.albedo[:, ::-1].astype("<f4"),
        "opacity": geometry.opacity.astype("<f4"),
        "triangles": geometry.triangles.astype("<u4"),
        "basis": texture.reshape(len(basis), -1, BASIS_COLUMNS, 4),
    }
    header = {name: list(array.shape) for name, array in arrays.items()}
    return packed(header, *(np.ascontiguousarray(array).tobytes() for array in arrays.values()))


def _rounded(value: float) -> float | None:
    """With three decimals; None for what is no number, which JSON does not have."""
    return round(float(value), 3) if math.isfinite(value) else None
