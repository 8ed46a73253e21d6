"""Rendered people one side of whose face is weak, and healthy ones: their movements with exact truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from facet.tracker.mirror import other_side
from tools.evaluation import people

SEED = 60718
YAW_DEG, PITCH_DEG, ROLL_DEG = 30.0, 10.0, 8.0
WEAKEST, STRONGEST = 0.0, 0.4  # share of the other side's movement that a weak side makes
# what each movement raises at most, on both sides
MOVEMENTS = {
    "brows": {"browInnerUp_L": 1.0, "browOuterUp_L": 1.0},
    "eyes": {"eyeBlink_L": 1.0, "noseSneer_L": 1.0},
    "smile": {"mouthSmile_L": 1.0, "cheekSquint_L": 0.6},
    "frown": {"mouthFrown_L": 1.0, "browDown_L": 0.8},
}
DROOP = {"mouthFrown": 0.3, "browDown": 0.25, "eyeWide": 0.2}  # of a weak side at rest


def expression(names: list[str], movement: str, strength: float, weak: str = "", share: float = 1.0) -> np.ndarray:
    """Weights (Ke,) of a movement.

    Parameters
    ----------
    movement : of MOVEMENTS, or "" for rest
    strength : 0 to 1
    weak : L or R, the side that makes a `share` of it and droops; "" for none
    """
    weights = np.zeros(len(names), np.float32)
    if weak:
        for name, value in DROOP.items():
            weights[names.index(f"{name}_{weak}")] = value
    for name, most in MOVEMENTS.get(movement, {}).items():
        for each in (name, other_side(name)):
            part = share if each.endswith(f"_{weak}") and weak else 1.0
            weights[names.index(each)] += most * strength * part
    return weights.clip(0, 1)


def angles(rng: np.random.Generator) -> np.ndarray:
    """Yaw, pitch and roll of a head that faces the camera more or less."""
    return rng.uniform(-1, 1, 3) * (YAW_DEG, PITCH_DEG, ROLL_DEG)


def portraits(count: int, seed: int = SEED) -> Iterator[people.Shot]:
    """A picture each of people with a weak side, in one of the movements."""
    model, cast = people.cast(count, seed)
    rng = np.random.default_rng(seed + 1)
    names = list(model.expression_names)
    for person in cast:
        weak, share = rng.choice(["L", "R"]), rng.uniform(WEAKEST, STRONGEST)
        weights = expression(names, rng.choice(list(MOVEMENTS)), rng.uniform(0.3, 1), weak, share)
        yield person.shot(*angles(rng), weights)
