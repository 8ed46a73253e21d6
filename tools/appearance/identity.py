"""Which photographs of a set show somebody else than the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facet.tracker.appearance import Appearance, thumbnail
from facet.tracker.crop import CropSpec, cut, roi_from_landmarks
from facet.tracker.types import FaceTrack

CROP_PX, LANDMARK_SCALE = 112, 1.42  # of tools/thumbnail.py
# likeness to the nearest of the others below which a photograph shows somebody else: of 31 held-out people with five
# photographs each, 71 % of strangers lie below, and 10 % of the people's own photographs
ALIKE = 0.3


def others(images: Sequence[np.ndarray], faces: Sequence[FaceTrack]) -> list[int]:
    """Indices of photographs that resemble none of the rest; none where there are fewer than three.

    Parameters
    ----------
    images : (H, W, 3) uint8, BGR
    faces : of each the face that counts
    """
    if len(images) < 3:
        return []
    spec = CropSpec(CROP_PX, LANDMARK_SCALE, 0.0, LANDMARK_SCALE, upright=True)
    thumbs = [
        thumbnail(cut(image, roi_from_landmarks(face.landmarks, spec, face.pose.roll_deg), CROP_PX), LANDMARK_SCALE)
        for image, face in zip(images, faces, strict=True)
    ]
    likeness = np.full((len(thumbs), len(thumbs)), -1.0)
    for i, one in enumerate(thumbs):
        known = Appearance()
        known.add(one)
        for j, other in enumerate(thumbs):
            if i != j:
                likeness[i, j] = known.likeness(other)
    return [k for k in range(len(thumbs)) if max(likeness[k].max(), likeness[:, k].max()) < ALIKE]
