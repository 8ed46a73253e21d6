"""Volumes in VRN's format: 200 x 192 x 192 bytes, [slice, row, column], of a crop placed by the 68 landmarks.

The crop's side is 192 px where the square root of the area of the landmarks' rectangle is 90; a slice is half as deep
as a pixel is wide. A byte is the probability of being inside, 255 is 1; VRN draws the surface at 10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from facet.render.bust import bust_of
from facet.render.sinks.mesh_files import Head
from facet.tracker.errors import SourceError
from facet.tracker.files import new_file
from facet.tracker.volume import Volume

SHAPE = (200, 192, 192)
FACE_PX, SLICE_PX = 90.0, 0.5
LEVEL = 10 / 255


def raw_to_image(landmarks: np.ndarray) -> np.ndarray:
    """The map (3, 4) of voxels, from the corner of the first, to image px, for landmarks (68, 3) px; z as theirs."""
    low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
    px = float(np.sqrt(np.prod(high - low))) / FACE_PX  # of the image in a px of the crop
    step = np.array([px, px, px * SLICE_PX])
    middle = np.append((low + high) / 2, landmarks[:, 2].mean())
    return np.column_stack([np.diag(step), middle - step * np.array(SHAPE[::-1]) / 2])


def resampled(volume: Volume, landmarks: np.ndarray) -> np.ndarray:
    """A volume in VRN's format, SHAPE uint8, for the landmarks (68, 3) of its face, image px."""
    back = np.linalg.inv(volume.to_image[:, :3])
    wanted = raw_to_image(landmarks)
    matrix = back @ wanted[:, :3]
    offset = back @ (wanted[:, 3] - volume.to_image[:, 3]) + matrix @ (0.5, 0.5, 0.5) - 0.5
    found = ndimage.affine_transform(volume.inside, matrix[::-1, ::-1], offset[::-1], SHAPE, order=1)
    return np.rint(255 * np.clip(found, 0, 1)).astype(np.uint8)


def write_raw(path: Path, values: np.ndarray) -> None:
    """Write a volume, SHAPE uint8."""
    with new_file(path, replace=False) as partial:
        values.tofile(partial)


def read_raw(path: Path) -> np.ndarray:
    """Read a volume, SHAPE uint8.

    Raises
    ------
    SourceError
        If the file has another size.
    """
    try:
        size = path.stat().st_size
        if size == np.prod(SHAPE):
            return np.fromfile(path, np.uint8).reshape(SHAPE)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error}); give an existing file") from error
    expected = " x ".join(map(str, SHAPE))
    raise SourceError(f"{path}: expected a volume of {expected} bytes, found {size}; give a .raw file of VRN")


def raw_head(values: np.ndarray) -> Head | None:
    """The mesh of a volume in VRN's format, in px of its crop, y up; None where nothing is inside."""
    flip = np.diag([1, -1, SLICE_PX])
    to_model = np.column_stack([flip, -flip @ np.array(SHAPE[::-1]) / 2])
    return bust_of(values / np.float32(255), to_model, LEVEL)
