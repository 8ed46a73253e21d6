"""ARKit's blendshapes from the expression weights of the face model.

The face model has 53 expressions, with sides as `_L` and `_R`. Logs, the API and other programs get 51 blendshapes
under ARKit's own names, with sides as `Left` and `Right`. Both mean the subject's sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ONE_IN_ARKIT = ("browInnerUp", "cheekPuff")  # the face model moves their sides by themselves
SIDES = {"_L": "Left", "_R": "Right"}
_BOTH = ("Left", "Right")
_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")
NAMES = (
    *(name + side for side in _BOTH for name in _EYE),
    *("jawForward", "jawLeft", "jawRight", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight"),
    *(f"mouth{name}{side}" for name in ("Smile", "Frown", "Dimple", "Stretch") for side in _BOTH),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *(f"mouth{name}{side}" for name in ("Press", "LowerDown", "UpperUp") for side in _BOTH),
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut"),
)  # ARKit's 52, in the order of the app Live Link Face


def arkit_name(name: str) -> str:
    """ARKit's name of the blendshape that an expression of the face model belongs to."""
    stem, side = (name[:-2], name[-2:]) if name[-2:] in SIDES else (name, "")
    return stem if stem in ONE_IN_ARKIT else stem + SIDES.get(side, "")


class ArkitBlendshapes:
    """Converts expression weights to blendshapes.

    Parameters
    ----------
    expression_names : of the face model, in the order of its weights; () where it names none

    Attributes
    ----------
    names : ARKit's names, in the order of the first expression of each
    members : for each, the indices of its expressions, one or two
    """

    def __init__(self, expression_names: Sequence[str]):
        members: dict[str, list[int]] = {}
        for k, name in enumerate(expression_names):
            members.setdefault(arkit_name(name), []).append(k)
        self.names = tuple(members)
        self.members = tuple(tuple(indices) for indices in members.values())
        self._first, self._last = (np.array([indices[end] for indices in self.members], int) for end in (0, -1))

    def __call__(self, weights: np.ndarray) -> dict[str, float]:
        """Blendshapes by name, from weights (Ke,); a blendshape of two expressions gets their mean."""
        means = (weights[self._first] + weights[self._last]) / 2
        return dict(zip(self.names, means.tolist(), strict=True))
