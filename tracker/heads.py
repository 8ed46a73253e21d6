"""What a network's output holds: heads by name, each a slice of its numbers and what becomes of them.

A manifest entry lists them as `heads = {score = [110, 111, "sigmoid"], ...}`: start, stop, activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facet.tracker.errors import WeightsError
from facet.tracker.weights import WeightsEntry

ACTIVATIONS = ("linear", "clip", "sigmoid", "pose")  # clip is to [0, 1]; the regressor makes a camera of a pose
POSE_COUNT = 9  # log scale, two rows of a rotation, shift
LOGIT_LIMIT = 60.0  # keeps the exponential finite


@dataclass(frozen=True, slots=True)
class Head:
    """Numbers `start` to `stop` of an output."""

    start: int
    stop: int
    activation: str = "linear"

    def read(self, output: np.ndarray) -> np.ndarray:
        """The head's values in outputs (B, numbers): (B, stop - start) float32."""
        numbers = output[:, self.start : self.stop]
        if self.activation == "clip":
            return np.clip(numbers, 0, 1)
        if self.activation == "sigmoid":
            return 1 / (1 + np.exp(-np.clip(numbers, -LOGIT_LIMIT, LOGIT_LIMIT)))
        return numbers


def consecutive(counts: Mapping[str, tuple[int, str]]) -> dict[str, Head]:
    """Heads one after the other, of numbers and activations by name."""
    heads, end = {}, 0
    for name, (count, activation) in counts.items():
        heads[name] = Head(end, end + count, activation)
        end += count
    return heads


def heads_of(entry: WeightsEntry) -> dict[str, Head]:
    """The heads of a manifest entry.

    Raises
    ------
    WeightsError
        If they are missing, no whole numbers, empty, overlap, leave gaps, or have an unknown activation.
    """
    heads, end = {}, 0
    for name, value in entry.get("heads", dict).items():
        kinds = [type(part) for part in value] if isinstance(value, list) else []
        if kinds != [int, int, str] or value[2] not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise WeightsError(f"{entry.path}: expected [start, stop, one of {known}] for head {name}, found {value}")
        heads[name] = Head(*value)
    heads = dict(sorted(heads.items(), key=lambda item: item[1].start))
    for name, head in heads.items():
        if head.start != end or head.stop <= end:
            found = f"{head.start} to {head.stop}"
            raise WeightsError(f"{entry.path}: expected head {name} to begin at {end} of its numbers, found {found}")
        end = head.stop
    return heads
