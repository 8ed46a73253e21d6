"""What a face does in ARKit's terms, read from how a network answers to it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numba import njit

from tracker.errors import WeightsError

# what telling one whole blendshape more costs, where a deviation by the usual error costs 1/2
COST = 1.5
SWEEPS, LEAST_STEP = 12, 1e-3
# the answer of a face at rest: what it takes to be believed, how many frames it is over, how far it may be from others'
FIRST_FRAMES, MOST_FRAMES, FARTHEST = 10.0, 900.0, 0.3
# of a frame's change; falling counts more, as a face is at rest when it answers least
RISE, FALL = 0.1, 0.3
KNOWN = "eyeBlink"  # told by name in training, on photographs, too: they need no reading
NO_HABIT = "eyeLook"  # a face that looks aside is not at rest
AGAINST = {"eyeWide_L": "eyeBlink_L", "eyeWide_R": "eyeBlink_R"}  # no lid rises while it falls


class BlendshapeReader:
    """Reads the blendshapes from the expressions that a network tells.

    To what it is not sure of a network answers faintly, and a little with all that moves alike: that comes nearest to
    the truth in every coefficient, and draws the face where it is, but no avatar would ever reach its range. How it
    answers to each blendshape, and how much that varies, was measured on rendered people (tools/answers.py). Told are
    the weights in [0, 1] that explain an answer best while being few, by least squares with a cost for each; what a
    face answers at rest is its own and is learnt on the way.

    Parameters
    ----------
    names : of the Ke expressions
    rest : (Ke,) what faces answer at rest
    response : (Ke, Ke) by what the answer changes with a whole blendshape, one a row
    precision : (Ke, Ke) inverse covariance of what is left then
    """

    def __init__(self, names: tuple[str, ...], rest: np.ndarray, response: np.ndarray, precision: np.ndarray):
        response, precision = (np.asarray(part, np.float64) for part in (response, precision))
        self.rest = np.asarray(rest, np.float64)
        self.gain = np.ascontiguousarray(precision @ response.T)
        self.matrix = np.ascontiguousarray(response @ self.gain)
        self.known = np.array([name.startswith(KNOWN) for name in names])
        # by what else each is held down, Ke where by nothing
        self.against = np.array([names.index(AGAINST[n]) if AGAINST.get(n) in names else len(names) for n in names])
        self.habits = np.array([not name.startswith((KNOWN, NO_HABIT)) for name in names])

    @classmethod
    def open(cls, path: Path, names: tuple[str, ...]) -> BlendshapeReader:
        """Load what `tools.answers` wrote of a network whose expressions have these names.

        Raises
        ------
        WeightsError
            If the file is of other blendshapes or lacks a part.
        """
        try:
            with np.load(path) as file:
                parts = {name: file[name] for name in ("names", "rest", "response", "precision")}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{path}: expected what tools/answers.py writes: {error}") from error
        if tuple(parts["names"].tolist()) != names:
            raise WeightsError(f"{path}: expected the face model's blendshapes; write it anew with tools/answers.py")
        return cls(names, parts["rest"], parts["response"], parts["precision"])

    def start(self) -> Reading:
        """Begin with a face nobody has seen yet."""
        return Reading(self)


class Reading:
    """The blendshapes of one track, frame after frame."""

    def __init__(self, reader: BlendshapeReader):
        self._reader = reader
        self._rest, self._weights = reader.rest.copy(), np.zeros_like(reader.rest)
        self._frames = 0.0

    def __call__(self, answer: np.ndarray) -> np.ndarray:
        """Weights (Ke,) float32 in [0, 1] of what the network told, (Ke,)."""
        reader = self._reader
        self._frames = min(self._frames + 1.0, MOST_FRAMES)
        _learn_rest(self._rest, answer, reader.rest, reader.habits, FIRST_FRAMES + self._frames)
        _read(self._weights, answer, self._rest, reader.gain, reader.matrix, reader.known, reader.against)
        return self._weights.astype(np.float32)


@njit(cache=True, nogil=True)
def _learn_rest(rest, answer, usual, habits, frames):
    """Move what a face answers at rest, in place, towards what it answers now."""
    for k in range(len(rest)):
        if habits[k]:
            change = min(max(answer[k] - rest[k], -FALL), RISE)
            rest[k] = min(max(rest[k] + change / frames, usual[k] - FARTHEST), usual[k] + FARTHEST)


@njit(cache=True, nogil=True)
def _read(weights, answer, rest, gain, matrix, known, against):
    """Coordinate descent from the weights of the frame before, in place."""
    count = len(weights)
    gradient = np.full(count, COST)
    for k in range(count):
        if known[k]:
            weights[k] = min(max(answer[k], 0.0), 1.0)
        beyond = answer[k] - rest[k]
        for i in range(count):
            gradient[i] += matrix[k, i] * weights[k] - gain[k, i] * beyond
    for _ in range(SWEEPS):
        moved = False
        for i in range(count):
            if known[i]:
                continue
            highest = 1.0 - weights[against[i]] if against[i] < count else 1.0
            new = min(max(weights[i] - gradient[i] / matrix[i, i], 0.0), highest)
            step = new - weights[i]
            if abs(step) > LEAST_STEP:
                moved = True
                weights[i] = new
                for k in range(count):
                    gradient[k] += matrix[i, k] * step
        if not moved:
            break
