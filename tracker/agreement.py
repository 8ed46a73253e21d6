"""Several predictions for one face, from crops that differ a little: their mean, and how far they agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from facet.tracker.types import FaceParams

# of the logit of the score, of the logarithm of the spread, of the box's score
SPREAD_UNIT = 0.02
FIT_BIAS, FIT_SCORE, FIT_SPREAD, FIT_BOX = -2.23, 0.57, -2.31, 1.03
LEAST_DOUBT = 1e-6  # a belief nearer to 0 or 1 counts as this one


def unzoomed(face: FaceParams, zoom: float, size_px: int) -> FaceParams:
    """The prediction for a crop of `size_px`, in px of the crop that is as large but of a square 1 / `zoom` the size.

    Both squares have the same centre and roll.
    """
    camera = face.camera * np.float32(zoom)
    camera[:2, 3] += size_px / 2 * (1 - zoom)
    return replace(face, camera=camera)


def mean_of(faces: Sequence[FaceParams]) -> FaceParams:
    """The mean of predictions for one face, which hardly differ in pose; without a score where one has none.

    Other heads are those of the first, as some of the others may be of mirror images.

    Scores are averaged as log odds, which is what a network predicts: a doubtful one must not outweigh three sure ones.
    """
    scores = [face.score for face in faces if face.score is not None]
    return FaceParams(
        np.mean([face.camera for face in faces], axis=0),
        np.mean([face.shape for face in faces], axis=0),
        np.mean([face.expression for face in faces], axis=0),
        None if len(scores) < len(faces) else _mean_belief(np.clip(scores, LEAST_DOUBT, 1 - LEAST_DOUBT)),
        faces[0].heads,
    )


def spread_of(landmarks: np.ndarray) -> float:
    """Mean distance of several predictions of landmarks from their mean, relative to the face's size.

    Right fits hardly depend on the crop, wrong ones do: upside down, on an animal, on a wall.

    Parameters
    ----------
    landmarks : (V, N, 2) or (V, N, 3) float, px; z is not used

    Returns
    -------
    share of sqrt(width * height) of the mean's rectangle
    """
    flat = landmarks[..., :2]
    mean = flat.mean(axis=0)
    size = np.sqrt(np.prod(np.ptp(mean, axis=0)))
    return float(np.linalg.norm(flat - mean, axis=2).mean() / max(size, 1e-6))


def fit_score(score: float, spread: float, box_score: float) -> float:
    """Probability that a fit lies on a human face.

    Parameters
    ----------
    score : of the regressor, mean of the views, [0, 1]
    spread : of their landmarks, as `spread_of` gives it
    box_score : of the detector, [0, 1]

    Source: logistic regression on right fits (photographs, turned too) and wrong ones (upside down, animals, images
    without a face), `python -m tools.fit_score`.
    """
    odds = min(max(score, LEAST_DOUBT), 1 - LEAST_DOUBT)
    logit = math.log(odds / (1 - odds))
    value = FIT_BIAS + FIT_SCORE * logit + FIT_SPREAD * math.log(max(spread, 1e-4) / SPREAD_UNIT) + FIT_BOX * box_score
    return 1 / (1 + math.exp(-value))


def _mean_belief(scores: np.ndarray) -> float:
    odds = np.exp(np.mean(np.log(scores / (1 - scores))))
    return float(odds / (1 + odds))
