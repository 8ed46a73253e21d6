"""Several looks at one face, in crops that differ a little, made one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tracker.types import FaceParams

LEAST_DOUBT = 1e-6  # a belief nearer to 0 or 1 counts as this one


def unzoomed(face: FaceParams, zoom: float, size_px: int) -> FaceParams:
    """What was told of a crop of `size_px`, in px of the crop that is as large but of a square 1 / `zoom` the size.

    Both squares have the same centre and roll.
    """
    camera = face.camera * np.float32(zoom)
    camera[:2, 3] += size_px / 2 * (1 - zoom)
    return replace(face, camera=camera)


def mean_of(faces: Sequence[FaceParams]) -> FaceParams:
    """The mean of answers about one face, which hardly differ in pose; without a score where one has none.

    Other heads are those of the first, as some of the others may be of mirror images.

    Scores are averaged as log odds, which is what a network tells: a doubtful look must not outweigh three sure ones.
    """
    scores = [face.score for face in faces]
    return FaceParams(
        np.mean([face.camera for face in faces], axis=0),
        np.mean([face.shape for face in faces], axis=0),
        np.mean([face.expression for face in faces], axis=0),
        None if None in scores else _mean_belief(np.clip(scores, LEAST_DOUBT, 1 - LEAST_DOUBT)),
        faces[0].heads,
    )


def _mean_belief(scores: np.ndarray) -> float:
    odds = np.exp(np.mean(np.log(scores / (1 - scores))))
    return float(odds / (1 + odds))
