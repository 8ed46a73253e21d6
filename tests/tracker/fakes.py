"""A world simple enough to know the truth of: faces are coloured discs, detector and regressor find them by colour."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from facet.tracker.crop import CropSpec
from facet.tracker.types import Box, FaceParams, Frame

SIZE_WH = (320, 240)
RED, BLUE, YELLOW = (40, 40, 250), (250, 60, 40), (30, 230, 230)


class RingModel:
    """68 points on a circle of 50 mm; one shape coefficient, one expression, neither moves a point."""

    expression_names = ("jawOpen",)
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    mean = np.column_stack([50 * np.cos(angle), 50 * np.sin(angle), np.zeros(68)]).astype(np.float32)
    shape_count = expression_count = 1
    sparse = SimpleNamespace(mean=mean, basis=np.zeros((2, 68 * 3), np.float32))

    def landmarks(self, camera, shape, expression):
        return (self.mean @ camera[:, :3].T + camera[:, 3]).astype(np.float32)

    def bake(self, shape):
        return self.mean

    def vertices(self, shape, expression, neutral=None):
        return self.mean


def frame(index: int, *discs, fps: float = 30.0, first: bool = False, background: int = 90) -> Frame:
    """A grey picture with discs (x, y, radius, colour)."""
    width, height = SIZE_WH
    image = np.full((height, width, 3), background, np.uint8)
    y, x = np.mgrid[:height, :width] + 0.5
    for cx, cy, radius, colour in discs:
        image[np.hypot(x - cx, y - cy) <= radius] = colour
    return Frame(index=index, time_s=index / fps, image=image, source="fake", first=first)


def disc_mask(image: np.ndarray) -> np.ndarray:
    """Pixels that are coloured, that is, face."""
    return np.ptp(image.astype(int), axis=2) > 60


class DiscDetector:
    """Finds each disc colour as one face and counts its calls."""

    def __init__(self, colours=(RED, BLUE, YELLOW)):
        self.calls = 0
        self._colours = colours

    def __call__(self, image: np.ndarray) -> tuple[Box, ...]:
        self.calls += 1
        boxes = []
        for colour in self._colours:
            y, x = np.nonzero((np.abs(image.astype(int) - colour) < 30).all(axis=2))
            if len(x) > 30:
                boxes.append(Box(x.min(), y.min(), x.max() + 1, y.max() + 1, 0.9))
        return tuple(boxes)


class DiscRegressor:
    """Fits a circle to the coloured pixels of a crop; without any it answers with the mean face, as networks do."""

    size = 64
    crop_spec = CropSpec(size_px=64, box_scale=1.5, box_shift_y=0.0, landmark_scale=1.5)

    def __init__(self, with_score: bool = True):
        self.runs: list[int] = []
        self._with_score = with_score

    def __call__(self, crops: np.ndarray) -> list[FaceParams]:
        self.runs.append(len(crops))
        return [self._regress(crop) for crop in crops]

    def _regress(self, crop: np.ndarray) -> FaceParams:
        mask = disc_mask(crop)
        share = mask.mean()
        centre, radius = (self.size / 2, self.size / 2), self.size / 3
        if share > 0.02:
            y, x = np.nonzero(mask)
            centre, radius = (x.mean() + 0.5, y.mean() + 0.5), np.sqrt(mask.sum() / np.pi)
        scale = radius / 50
        camera = np.float32([[scale, 0, 0, centre[0]], [0, -scale, 0, centre[1]], [0, 0, scale, 0]])
        score = (0.99 if share > 0.1 else 0.05) if self._with_score else None
        return FaceParams(camera, np.zeros(1, np.float32), np.zeros(1, np.float32), score)

    def shape_energy(self, shape: np.ndarray) -> float:
        return float((shape**2).mean())

    def close(self) -> None:
        pass
