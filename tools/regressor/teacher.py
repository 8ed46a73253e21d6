"""A trained network as the teacher of another: its points are free of what annotators were unsure of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from facet.tracker.mirror import MIRROR_68
from tools.data.augment import Crops, open_images, tracking_crop

VIEWS = 3  # crops of each face, each also mirrored: their mean lies 2.48 % from annotators, a single one 2.56 %
FACES_AT_ONCE = 64

# (B, S, S, 3) uint8 crops -> (B, 68, 3) in shares of the crop's side
Predictor = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def teacher_landmarks(landmarks_of: Predictor, data: Path, points: np.ndarray, spec: Crops) -> np.ndarray:
    """A teacher's landmarks of the cut photographs as they are, computed once as a run starts.

    Parameters
    ----------
    data : of `tools.data.build`
    points : (n, 68, 2) cut px, where the faces lie

    Returns
    -------
    (n, 68, 3) float32, cut px.
    """
    rng = np.random.default_rng(4)
    result = np.zeros((len(points), 68, 3), np.float32)
    images = open_images(data)[0]
    for rows in np.array_split(np.arange(len(points)), -(-len(points) // FACES_AT_ONCE)):
        for _ in range(VIEWS):
            some = [tracking_crop(images[row], points[row], spec, rng) for row in rows]
            crops, affine = (np.array(values) for values in zip(*some, strict=True))
            found = symmetric_landmarks(landmarks_of, torch.from_numpy(crops)).cpu().numpy() * spec.size_px
            found[..., :2] -= affine[:, None, :, 2]
            result[rows] += found / affine[:, None, :1, 0] / VIEWS
    return result


def symmetric_landmarks(landmarks_of: Predictor, crops: torch.Tensor) -> torch.Tensor:
    """The mean of the landmarks of crops and of the mirrored crops; (B, 68, 3) in shares of the side."""
    plain, mirrored = landmarks_of(torch.cat([crops, crops.flip(2)])).chunk(2)
    return (plain + mirrored_landmarks(mirrored)) / 2


def mirrored_landmarks(landmarks: torch.Tensor) -> torch.Tensor:
    """Landmarks (B, 68, 3) of mirrored crops as they lie in the crops, in shares of the side."""
    flip, offset = landmarks.new_tensor([-1, 1, 1]), landmarks.new_tensor([1, 0, 0])
    return (landmarks * flip + offset)[:, MIRROR_68]
