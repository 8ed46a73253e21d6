"""What the detector learns from: its recipe and its batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.data import detection
from tools.detector.model import Net
from tools.training import recipe as shared

MAX_FACES = 96  # of an image; more are neither learnt nor punished


@dataclass(frozen=True, slots=True)
class Data:
    """The [data] of a recipe."""

    size_px: int = 256  # side of the images


@dataclass(frozen=True, slots=True)
class Assign:
    """Which points learn a face (task-aligned assignment: Feng et al., TOOD, ICCV 2021)."""

    candidates: int = 10  # points that a face may have
    score_power: float = 0.5
    iou_power: float = 4.0


@dataclass(frozen=True, kw_only=True)
class Recipe(shared.Recipe):
    """A recipe of the detector."""

    net: Net
    data: Data = Data()
    assign: Assign = Assign()


class Feed:
    """Batches by number: images (B, S, S, 3) uint8, faces and unsure (B, MAX_FACES, 4) float32 px, nan beyond them."""

    def __init__(self, recipe: Recipe, folder: Path):
        self._sampler = detection.Sampler(detection.load(folder), recipe.data.size_px, recipe.train.seed)
        self._count = recipe.train.batch

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        numbers = range(number * self._count, (number + 1) * self._count)
        images, faces, unsure = zip(*map(self._sampler.sample, numbers), strict=True)
        return {"images": np.stack(images), "faces": padded(faces), "unsure": padded(unsure)}


def padded(boxes: tuple[np.ndarray, ...]) -> np.ndarray:
    """Boxes (n, 4) of several images as (B, MAX_FACES, 4) float32, nan beyond them."""
    result = np.full((len(boxes), MAX_FACES, 4), np.nan, np.float32)
    for row, some in zip(result, boxes, strict=True):
        row[: len(some)] = some[:MAX_FACES]
    return result
