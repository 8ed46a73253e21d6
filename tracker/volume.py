"""The head as a solid: where its volume lies, and the network that predicts it.

A volume is a cube about a point of the head, seen by the camera that sees the face: x to image right, y down, z to the
viewer, turned upright by the head's roll. Its voxels are indexed [slice, row, column]; the first slice is the farthest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facet.tracker.crop import crop_to_image, cut_batch
from facet.tracker.runtime import RuntimeConfig, Session, open_session
from facet.tracker.types import FaceTrack, Roi
from facet.tracker.weights import WeightsEntry

MIDDLE_MM = (0.0, 15.0, 0.0)  # model space: the middle of every cube
SIDE_MM = 280.0
POINTS = 68
GUIDE_SIGMA = 0.03  # of the Gaussians about the landmarks, in shares of the side


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """What the network predicts of one head."""

    inside: np.ndarray  # (slices, rows, columns) float32, how much of each voxel is inside, [0, 1]
    to_model: np.ndarray  # (3, 4) float64, x, y and z in voxels, from the corner of the first -> model mm
    to_image: np.ndarray  # (3, 4) float64, the same -> image px, z as of landmarks


class VolumeNet:
    """The network that predicts the heads of faces as volumes.

    Attributes
    ----------
    guided : whether it sees the landmarks, too
    """

    def __init__(self, session: Session, size_px: int, slices: int, guided: bool):
        self._session, self._size, self._slices, self.guided = session, size_px, slices, guided

    @classmethod
    def open(cls, entry: WeightsEntry, config: RuntimeConfig = RuntimeConfig()) -> VolumeNet:
        """Load the network of a manifest entry.

        Raises
        ------
        WeightsError
            If the entry lacks a value, or the network has other inputs or outputs.
        ConfigError
            If the execution provider is not to be had.
        """
        size, slices, guided = entry.get("size_px", int), entry.get("slices", int), entry.get("guided", bool, False)
        session = open_session(entry.path, config, keep_memory=False)
        session.require(
            inputs={"crops": (None, size, size, 3 + POINTS * guided)}, outputs={"inside": (None, slices, size, size)}
        )
        return cls(session, size, slices, guided)

    def __call__(self, image: np.ndarray, face: FaceTrack) -> Volume:
        """Predict the head of a face.

        Parameters
        ----------
        image : (H, W, 3) uint8, BGR
        face : as it was tracked in this image; where it is beyond the image, the volume is a guess
        """
        size = self._size
        roi = bust_roi(face.model_to_image, face.pose.roll_deg)
        crop = cut_batch(image, [roi], size)[0]
        to_image = crop_to_image(roi, size)
        if self.guided:
            crop = guide(crop, (face.landmarks[:, :2] - to_image[:, 2]) @ np.linalg.inv(to_image[:, :2]).T)
        inside = self._session.run(crops=crop[None])[0]
        grid = grid_from_model(camera_in_crop(face.model_to_image, roi, size), size, self._slices)
        turn = np.linalg.inv(grid[:, :3])
        shown = np.zeros((3, 4))
        shown[:2, :2], shown[:2, 3] = to_image[:, :2], to_image[:, 2]
        shown[2, 2:] = roi.size / self._slices * np.array([1, -grid[2, 3]])
        return Volume(inside[0], np.column_stack([turn, -turn @ grid[:, 3]]), shown)


def bust_roi(model_to_image: np.ndarray, roll_deg: float) -> Roi:
    """The square of the image that holds the head of a face, image px.

    Parameters
    ----------
    model_to_image : (3, 4) float, model mm -> image px
    roll_deg : of the head
    """
    camera = np.asarray(model_to_image, np.float64)
    size = SIDE_MM * float(np.sqrt(np.linalg.norm(camera[0, :3]) * np.linalg.norm(camera[1, :3])))
    x, y = camera[:2, :3] @ MIDDLE_MM + camera[:2, 3]
    return Roi(float(x - size / 2), float(y - size / 2), size, roll_deg)


def grid_from_model(camera: np.ndarray, size: int, slices: int) -> np.ndarray:
    """The map (3, 4) of model mm to voxels, for a camera (3, 4) of model mm to px of a square crop of `size` px."""
    grid = np.array(camera, np.float64)
    grid[2, 3] = -grid[2, :3] @ MIDDLE_MM
    grid[2] *= slices / size
    grid[2, 3] += slices / 2
    return grid


def camera_in_crop(model_to_image: np.ndarray, roi: Roi, size: int) -> np.ndarray:
    """The camera (3, 4), model mm -> crop px, of a crop of an image."""
    matrix = crop_to_image(roi, size)
    inverse = np.linalg.inv(matrix[:, :2])
    camera = np.array(model_to_image, np.float64)
    camera[:2, 3] -= matrix[:, 2]
    camera[:2] = inverse @ camera[:2]
    camera[2] *= size / roi.size
    return camera


def guide(crop: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A crop with a map of each landmark, for networks that are guided by them.

    Parameters
    ----------
    crop : (S, S, 3) uint8, BGR
    points : (68, 2 or more) float, crop px

    Returns
    -------
    (S, S, 71) uint8: the crop, and Gaussians about the landmarks that peak at 255
    """
    size = len(crop)
    away = (np.arange(size) + 0.5)[None] - points[:, :2].T[:, :, None]  # (2, 68, S)
    x, y = np.exp(-0.5 * (away / (GUIDE_SIGMA * size)) ** 2)
    maps = np.einsum("pi,pj->ijp", y, x) * 255
    return np.concatenate([crop, maps.astype(np.uint8)], axis=2)
