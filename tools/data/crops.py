"""Faces cut out once, upright and with a margin, so that a training sample is one warp."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facet.tracker.crop import crop_to_image, cut
from facet.tracker.mirror import MIRROR_68
from facet.tracker.types import Roi
from tools.data import labels, material

SIZE_PX = 200
SCALE = 2.2  # side of the cut / longer side of the points' rectangle: the widest first crop fits in


def upright_roi(points: np.ndarray) -> Roi:
    """The square about a face's (68, 2) points, turned so that the line through the eyes is level."""
    eyes = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
    angle = np.arctan2(-eyes[1], eyes[0])  # counter-clockwise on the screen
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    xy = points @ turn
    low, high = xy.min(axis=0), xy.max(axis=0)
    size = SCALE * (high - low).max()
    x, y = turn @ ((low + high) / 2)
    return Roi(float(x - size / 2), float(y - size / 2), float(size), float(np.degrees(angle)))


def to_crop(points: np.ndarray, roi: Roi, size: int) -> np.ndarray:
    """Image px -> crop px, for (..., 2) points."""
    matrix = crop_to_image(roi, size)
    return (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def cut_faces(known: labels.Labels, out: Path) -> None:
    """Write `faces.u8` (n, SIZE_PX, SIZE_PX, 3) uint8 BGR and `faces.npz`, the labels in its px, to the folder."""
    out.mkdir(parents=True, exist_ok=True)
    photos = material.photos()
    count = len(known.photo)
    images = np.memmap(out / "faces.u8", np.uint8, "w+", shape=(count, SIZE_PX, SIZE_PX, 3))
    fields = {name: getattr(known, name) for name in known.__dataclass_fields__}
    points, annotated, mesh = known.points.copy(), known.annotated.copy(), known.mesh.copy()
    depth = known.depth.copy()
    rois = np.zeros((count, 4), np.float32)
    image, row = None, -1
    for i in range(count):
        if known.photo[i] != row:
            row = known.photo[i]
            image = cv2.imread(str(material.folder() / "faces" / photos[row].file))
        roi = upright_roi(known.points[i].astype(np.float64))
        images[i] = cut(image, roi, SIZE_PX)
        scale = SIZE_PX / roi.size
        points[i] = to_crop(points[i], roi, SIZE_PX)
        annotated[i] = to_crop(annotated[i], roi, SIZE_PX)
        mesh[i, :, :2] = to_crop(mesh[i, :, :2], roi, SIZE_PX)
        mesh[i, :, 2] *= scale
        depth[i] *= scale
        rois[i] = roi.x, roi.y, roi.size, roi.roll_deg
    images.flush()
    group = np.array([photos[row].group for row in known.photo])
    identity = np.array([photos[row].identity for row in known.photo])
    fields |= {
        "identity": identity,
        "points": points,
        "annotated": annotated,
        "mesh": mesh,
        "depth": depth,
        "roi": rois,
        "group": group,
    }
    np.savez(out / "faces.npz", **fields)


def cut_backgrounds(out: Path) -> None:
    """Write `backgrounds.u8` (n, 256, 256, 3) uint8 BGR: photographs without a human face, stretched to a square."""
    files = sorted((material.folder() / "faces" / "photos" / "backgrounds").iterdir())
    images = np.memmap(out / "backgrounds.u8", np.uint8, "w+", shape=(len(files), 256, 256, 3))
    for i, file in enumerate(files):
        images[i] = cv2.resize(cv2.imread(str(file)), (256, 256), interpolation=cv2.INTER_AREA)
    images.flush()


def mirrored_68(points: np.ndarray) -> np.ndarray:
    """(n, 68, 2) in px of the flipped cut."""
    return (points * np.float32([-1, 1]) + np.float32([SIZE_PX, 0]))[:, MIRROR_68]
