"""What a face does in ARKit's terms, read from how a network answers to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from facet.tracker.bounded import descend
from facet.tracker.compiling import njit
from facet.tracker.errors import WeightsError
from facet.tracker.weights import load_arrays

# What reporting one whole blendshape more costs, where a deviation by the usual error costs 1/2. Those that would lose
# LOST or more of their weight to that are not reported, as an answer says too little of them.
COST, LOST = 1.5, 0.3
SWEEPS, LEAST_STEP = 12, 1e-3
# The answer at rest is a mean over so many frames, at first and at most. It stays within FARTHEST of the usual one, and
# within this part of the whole answer to a blendshape, so that most of what is held stays reported.
FIRST_FRAMES, MOST_FRAMES = 40.0, 900.0
FARTHEST, LARGEST_PART = 0.25, 0.25
KNOWN = "eyeBlink"  # trained under its name, on photographs, too: it needs no reading
# Of two sources the second one's part in how shut an eye is, and a factor: the first follows lids better and shuts them
# less. By the lids that MediaPipe sees in videos.
SECOND_PART, BLINK_GAIN = 0.25, 1.35
MOST_GAIN = 1.5  # reading shrinks what it is not sure of; more than this would mostly be noise
NO_REST = "eyeLook"  # a face that looks aside is not at rest
OPPOSITE = {"eyeWide_L": "eyeBlink_L", "eyeWide_R": "eyeBlink_R"}  # no lid rises while it falls
# eyes look together: what half of the squared difference of two weights costs
TOGETHER = {
    "eyeLookIn_L": "eyeLookOut_R",
    "eyeLookOut_L": "eyeLookIn_R",
    "eyeLookUp_L": "eyeLookUp_R",
    "eyeLookDown_L": "eyeLookDown_R",
}
APART_COST = 200.0
EYES = ("eyeBlinkLeft", "eyeBlinkRight")


@dataclass(frozen=True, slots=True)
class BlendshapesConfig:
    """What is done with blendshapes."""

    # linking takes real winks away sooner than false ones: python -m tools.evaluate blink --video
    link_eyes: Annotated[
        float, "how far eyeBlink of each eye is drawn to the mean of both: 0 each by itself, 1 both alike"
    ] = 0.0

    def __post_init__(self):
        if not 0 <= self.link_eyes <= 1:
            raise ValueError(f"link_eyes must be in [0, 1], got {self.link_eyes}")


def linked(blendshapes: dict[str, float], share: float) -> dict[str, float]:
    """Blendshapes by name, with `eyeBlink` of each eye drawn to the mean of both by a share in [0, 1]."""
    if not share or EYES[0] not in blendshapes:
        return blendshapes
    mean = sum(blendshapes[eye] for eye in EYES) / 2
    return blendshapes | {eye: blendshapes[eye] + share * (mean - blendshapes[eye]) for eye in EYES}


class BlendshapeReader:
    """Reads the blendshapes from the expressions that a network predicts.

    To what it is not sure of a network answers faintly, and a little with all that moves alike: that comes nearest to
    the truth in every coefficient, and draws the face where it is, but no avatar would ever reach its range. How it
    answers to each blendshape, and how much that varies, was measured on rendered people (tools/answers.py). The result
    is the weights in [0, 1] that explain an answer best while being few, by least squares with a cost for each; what a
    face answers at rest is its own and is learnt on the way.

    Parameters
    ----------
    names : of the Ke expressions
    rest : (n,) what most faces answer at rest; n is Ke, or twice so much where two sources predict the expressions
    response : (Ke, n) by what the answer changes with a whole blendshape, one a row
    precision : (n, n) inverse covariance of what is left then
    gain : (Ke,) by what the weights that are read are multiplied, 1 to MOST_GAIN; 1 where nothing is said

    Raises
    ------
    ValueError
        If the arrays have other shapes or are not finite.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        rest: np.ndarray,
        response: np.ndarray,
        precision: np.ndarray,
        gain: np.ndarray | None = None,
    ):
        rest, response, precision = (np.asarray(part, np.float64) for part in (rest, response, precision))
        self.stretch = np.ones(len(names)) if gain is None else np.asarray(gain, np.float64)
        count, size = len(names), len(rest)
        if size not in (count, 2 * count) or response.shape != (count, size) or precision.shape != (size, size):
            raise ValueError(f"expected {count} blendshapes, got {rest.shape}, {response.shape} and {precision.shape}")
        if self.stretch.shape != (count,) or not ((self.stretch >= 1) & (self.stretch <= MOST_GAIN)).all():
            raise ValueError(f"expected {count} gains from 1 to {MOST_GAIN}")
        self.rest = rest
        self.gain = np.ascontiguousarray(precision @ response.T)
        self.matrix = np.ascontiguousarray(response @ self.gain)
        if not np.isfinite(self.matrix).all():
            raise ValueError("expected finite answers")
        self.known = np.array([name.startswith(KNOWN) for name in names])
        self.readable = self.known | (np.diag(self.matrix) > COST / LOST)
        learnt = np.array([not name.startswith((KNOWN, NO_REST)) for name in names])
        own = np.arange(size) % max(count, 1)  # the expression that each number of an answer is about
        self.farthest = np.minimum(FARTHEST, LARGEST_PART * response[own, np.arange(size)].clip(min=0)) * learnt[own]
        # by what else each is held down, Ke where by nothing
        self.opposite = np.array([names.index(OPPOSITE[n]) if OPPOSITE.get(n) in names else count for n in names])
        for one, other in TOGETHER.items():
            if one in names and other in names:
                pair = [names.index(one), names.index(other)]
                self.matrix[np.ix_(pair, pair)] += APART_COST * np.array([[1.0, -1.0], [-1.0, 1.0]])

    @classmethod
    def open(cls, path: Path, names: tuple[str, ...]) -> BlendshapeReader:
        """Load what `tools.answers` wrote of a network whose expressions have these names.

        Raises
        ------
        WeightsError
            If the file is of other blendshapes, damaged, or lacks a part.
        """
        file = load_arrays(path, "how a network answers", "write it anew with tools/answers.py")
        try:
            parts = {name: file[name] for name in ("names", "rest", "response", "precision")}
            if tuple(parts.pop("names").tolist()) != names:
                raise ValueError("it is of another face model")
            return cls(names, **parts, gain=file.get("gain"))
        except (TypeError, ValueError, KeyError) as error:
            raise WeightsError(
                f"{path}: expected how a network answers: {error}; write it anew with tools/answers.py"
            ) from error

    def start(self) -> Reading:
        """Begin with a face nobody has seen yet."""
        return Reading(self)


class Reading:
    """The blendshapes of one track, frame after frame."""

    def __init__(self, reader: BlendshapeReader):
        self._reader = reader
        self._rest, self._weights = reader.rest.copy(), np.zeros(len(reader.known))
        self._frames = 0.0

    def __call__(self, answer: np.ndarray) -> np.ndarray:
        """Weights (Ke,) float32 in [0, 1] of what was predicted, (n,)."""
        reader = self._reader
        self._frames = min(self._frames + 1.0, MOST_FRAMES)
        _learn_rest(self._rest, answer, reader.rest, reader.farthest, FIRST_FRAMES + self._frames)
        _read(
            self._weights, answer, self._rest, reader.gain, reader.matrix,
            reader.known, reader.readable, reader.opposite,
        )  # fmt: skip
        return np.minimum(self._weights * reader.stretch, 1.0).astype(np.float32)

    def settle(self, rest: np.ndarray) -> None:
        """Take these predictions, (n,), for those of the face at rest."""
        self._rest[:], self._frames = rest, MOST_FRAMES

    def relearn(self) -> None:
        """Take the face for at rest from the next frame on: what was learnt so far no longer counts."""
        self._frames = -FIRST_FRAMES


@njit(nogil=True)
def _learn_rest(rest, answer, usual, farthest, frames):
    """Move what a face answers at rest, in place, towards what it answers now."""
    for k in range(len(rest)):
        change = min(max(answer[k] - rest[k], -farthest[k]), farthest[k])
        rest[k] = min(max(rest[k] + change / frames, usual[k] - farthest[k]), usual[k] + farthest[k])


@njit(nogil=True)
def _read(weights, answer, rest, gain, matrix, known, readable, opposite):
    """Coordinate descent from the weights of the frame before, in place."""
    count = len(weights)
    gradient = np.full(count, COST)
    low, high = np.zeros(count), np.empty(count)
    for k in range(count):
        if known[k]:
            shut = answer[k]
            if len(answer) > count:
                shut = BLINK_GAIN * (answer[k] + SECOND_PART * (answer[count + k] - answer[k]))
            weights[k] = min(max(shut, 0.0), 1.0)
    for k in range(len(answer)):
        beyond = answer[k] - rest[k]
        for i in range(count):
            if k < count:
                gradient[i] += matrix[k, i] * weights[k]
            gradient[i] -= gain[k, i] * beyond
    for i in range(count):
        high[i] = 1.0 - weights[opposite[i]] if opposite[i] < count else 1.0
        if known[i] or not readable[i]:
            low[i] = high[i] = weights[i]
    descend(matrix, gradient, weights, low, high, SWEEPS, LEAST_STEP)
