"""A bust from four sides, beside the image that it came from."""

from __future__ import annotations

import numpy as np

from facet.render.sinks.mesh_files import Head
from facet.tracker.crop import cut
from facet.tracker.pose import rotation_from_angles
from facet.tracker.types import FaceTrack
from facet.tracker.volume import MIDDLE_MM, SIDE_MM, bust_roi
from tools.raster import mix, rasterise

CELL_PX = 360
SIDES_DEG = (0.0, 90.0, 180.0, -90.0)  # yaw: front, the subject's left, back, right
LIGHT = np.array([-0.4, 0.5, 0.77])
GROUND = 245


def sheet(head: Head, image: np.ndarray, face: FaceTrack) -> np.ndarray:
    """The crop and the head in colour and in grey from four sides, (2 * CELL_PX, 5 * CELL_PX, 3) uint8 BGR.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR
    """
    crop = cut(image, bust_roi(face.model_to_image, face.pose.roll_deg), CELL_PX)
    seen = view(head, face.pose.rotation)
    columns = [(crop, seen[1]), *(view(head, side(yaw)) for yaw in SIDES_DEG)]
    return np.hstack([np.vstack(column) for column in columns])


def side(yaw_deg: float) -> np.ndarray:
    """The rotation (3, 3) of a head that is turned."""
    return rotation_from_angles(yaw_deg, 0.0, 0.0)


def view(head: Head, rotation: np.ndarray, size: int = CELL_PX) -> tuple[np.ndarray, np.ndarray]:
    """The head turned by a rotation (3, 3): in its colours, and in grey; (size, size, 3) uint8 BGR each."""
    turned = (head.vertices - np.float32(MIDDLE_MM)) @ np.asarray(rotation, np.float64).T
    placed = turned * (1, -1, 1) * (size / SIDE_MM) + (size / 2, size / 2, 0)
    owner, weight = rasterise(placed, head.triangles, size, size)
    seen = owner >= 0
    normals = (head.normals @ np.asarray(rotation, np.float32).T).astype(np.float32)
    values = np.ascontiguousarray(np.column_stack([normals, head.colours.astype(np.float32)]))
    mixed = mix(values, head.triangles[owner[seen]], weight[seen])
    light = 0.35 + 0.65 * np.clip(mixed[:, :3] @ LIGHT, 0, 1)
    colour, grey = (np.full((size, size, 3), GROUND, np.uint8) for _ in range(2))
    colour[seen] = np.clip(mixed[:, 3:], 0, 255)
    grey[seen] = np.clip(225 * light, 0, 255)[:, None]
    return colour, grey
