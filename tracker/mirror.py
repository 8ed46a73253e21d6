"""Faces in the mirror: which landmark becomes which, and how a network's answer to a mirrored crop is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facet.tracker.morphable import MorphableModel
from facet.tracker.types import FaceParams

MIRROR_68 = np.concatenate(
    [
        [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1), 45, 44, 43, 42, 47, 46],
        [39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65],
    ]
)
FIXED = 17  # landmarks before slide on the contour
SIDEWAYS = {"jawLeft": "jawRight", "jawRight": "jawLeft", "mouthLeft": "mouthRight", "mouthRight": "mouthLeft"}
# of a coefficient's squared motion of the landmarks, what may differ in the mirror; our own model has at most 0.037
MAX_DIFFERENCE = 0.05


def other_side(name: str) -> str:
    """The blendshape that another one is in the mirror."""
    if name[-2:] in ("_L", "_R"):
        return name[:-1] + ("R" if name[-1] == "L" else "L")
    return SIDEWAYS.get(name, name)


@dataclass(frozen=True, slots=True, eq=False)
class Mirror:
    """What becomes of the coefficients of a face model whose shapes are each alike or opposite on both sides."""

    shape_sign: np.ndarray  # (Ks,) float32, 1 where a shape is alike on both sides, -1 where opposite
    expression_partner: np.ndarray  # (Ke,) int: which expression each becomes

    @classmethod
    def of(cls, model: MorphableModel) -> Mirror | None:
        """None for models of another kind."""
        names = list(model.expression_names)
        if not names or {other_side(name) for name in names} != set(names):
            return None
        partner = np.array([names.index(other_side(name)) for name in names])
        moves = model.sparse.basis.reshape(-1, len(model.sparse.mean), 3)[:, FIXED:68]
        turned = moves[:, MIRROR_68[FIXED:] - FIXED] * np.array([-1, 1, 1], np.float32)
        shapes = model.shape_count
        sign = np.where((moves[:shapes] * turned[:shapes]).sum(axis=(1, 2)) < 0, -1, 1).astype(np.float32)
        expected = np.concatenate([moves[:shapes] * sign[:, None, None], moves[shapes:][partner]])
        difference, motion = ((turned - expected) ** 2).sum(axis=(1, 2)), (moves**2).sum(axis=(1, 2))
        return cls(sign, partner) if (difference <= MAX_DIFFERENCE * motion).all() else None

    def face(self, face: FaceParams, size_px: int) -> FaceParams:
        """The mirror image of a prediction for a crop of `size_px`; without other heads, whose mirror is not known."""
        camera = mirrored_camera(face.camera, size_px)
        return FaceParams(camera, *self.coefficients(face.shape, face.expression), face.score)

    def coefficients(self, shape: np.ndarray, expression: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of the mirror image of a face, or of many: (..., Ks), (..., Ke)."""
        return shape * self.shape_sign, expression[..., self.expression_partner]


def mirrored_camera(camera: np.ndarray, size_px: int) -> np.ndarray:
    """Camera (..., 3, 4), model mm -> px of a picture `size_px` wide, of the mirrored picture and face."""
    mirrored = camera * np.array([[-1], [1], [1]], np.float32) * np.array([-1, 1, 1, 1], np.float32)
    mirrored[..., 0, 3] += size_px
    return mirrored
