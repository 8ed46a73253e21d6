"""A regressor on prepared crops: what needs no tracker to be judged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facet.tracker.crop import CropSpec
from facet.tracker.morphable import MorphableModel, load_face_model
from facet.tracker.regressor import Regressor
from facet.tracker.types import FaceParams
from facet.tracker.weights import find_entry
from tools.data.crops import SIZE_PX


def load(weights: str) -> tuple[Regressor, MorphableModel]:
    """A network of a manifest and the face model behind it."""
    network = Regressor.open(find_entry(weights, "regressor"))
    return network, load_face_model(network.face_model_file)


def place(points: np.ndarray, spec: CropSpec) -> np.ndarray:
    """The map (2, 3) from cut px to the crop that tracking would take of upright (68, 2) points."""
    low, high = points.min(axis=0), points.max(axis=0)
    longer = (high - low).max()
    zoom = spec.size_px / (spec.landmark_scale * longer)
    centre = (low + high) / 2 + (0, spec.landmark_shift_y * longer)
    return np.column_stack([np.eye(2) * zoom, spec.size_px / 2 - zoom * centre])


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 3) of an image by a map (2, 3) of corner coordinates."""
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(image, matrix, (size, size))


def regress(network: Regressor, crops: np.ndarray, at_once: int = 64) -> list[FaceParams]:
    """All crops, some at a time."""
    return [face for i in range(0, len(crops), at_once) for face in network(crops[i : i + at_once])]


def cut_faces(folder: Path) -> tuple[np.ndarray, dict]:
    """The faces that `tools.data.build faces` cut, and their labels."""
    images = np.memmap(folder / "faces.u8", np.uint8, "r").reshape(-1, SIZE_PX, SIZE_PX, 3)
    with np.load(folder / "faces.npz") as file:
        return images, {name: file[name] for name in file.files}


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """The share of pairs in which the positive scores higher."""
    ranks = np.argsort(np.argsort(np.concatenate([positive, negative]), kind="stable"), kind="stable")
    own = ranks[: len(positive)].sum() - len(positive) * (len(positive) - 1) / 2
    return float(own / (len(positive) * len(negative)))
