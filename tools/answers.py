"""Measure how a regressor answers to each blendshape, so that the tracker can read its answers.

usage: python -m tools.answers [--weights weights/regressor.onnx] [--people 120] [--data runs/data]

Rendered people rest and do this and that; what the network tells of them, beyond what it tells of each at rest, is
regressed on what they do. What faces answer at rest is taken from photographs, most of which show little of anything.
Written beside the network, and entered in the manifest there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.crop import CropSpec, cut, roi_from_landmarks
from facet.tracker.expression import ExpressionSolver
from facet.tracker.files import new_file
from facet.tracker.mirror import Mirror
from facet.tracker.morphable import MorphableModel
from facet.tracker.regressor import Regressor
from facet.tracker.weights import MANIFEST_NAME, ROOT, find_entry
from tools.data import material, rendered
from tools.evaluation import crops, people
from tools.manifest import describe, update_manifest
from tools.regressor.losses import partner

SEED = 4242  # other people than those of the trainings and evaluations
AT_REST, SHOTS = 6, 60  # of each person
# a move alone tells what the answer to it is, mixtures how much else there may be in an answer
ALONE = (np.arange(SHOTS) >= AT_REST) & (np.arange(SHOTS) % 2 == 1)
LEAST_PX = 100  # of the photographs
RIDGE, LEAST_VARIANCE = 1.0, 1e-4


def one_move(rng: np.random.Generator, names: list[str]) -> np.ndarray:
    """Weights of one blendshape alone, or of what the other side does with it, or of both."""
    weights = np.zeros(len(names), np.float32)
    name = rng.choice([name for name in names if not name.endswith("_R")])
    sides = [name, partner(name)] if name.endswith("_L") else [name]
    if rng.random() < 0.6:
        sides = [rng.choice(sides)]
    weights[[names.index(side) for side in sides]] = rng.uniform(0.2, 1)
    return weights


def shots(model: MorphableModel, person: people.Person, spec: CropSpec, rng) -> tuple[np.ndarray, np.ndarray]:
    """Crops (SHOTS, S, S, 3) of a person as tracking would take them, and the truth (SHOTS, Ke); first at rest."""
    names = list(model.expression_names)
    truth = np.zeros((SHOTS, len(names)), np.float32)
    pictures = np.empty((SHOTS, spec.size_px, spec.size_px, 3), np.uint8)
    usual = rng.normal(0, (9, 6, 4))
    for k in range(SHOTS):
        if k >= AT_REST:
            truth[k] = one_move(rng, names) if ALONE[k] else rendered.random_expression(rng, names)
        angles = usual + rng.normal(0, (6, 4, 2))
        shot = person.shot(*angles, truth[k])
        picture = cv2.GaussianBlur(shot.picture, (0, 0), rng.uniform(0.1, 1.2))
        roi = roi_from_landmarks(shot.landmarks + rng.normal(0, 1.0, 3) * (1, 1, 0), spec, angles[2])
        pictures[k] = cut(picture, roi, spec.size_px, spec.style)
    return pictures, truth


def answers(network: Regressor, solve: ExpressionSolver, pictures: np.ndarray) -> np.ndarray:
    """What a tracker would have of the network's answers once the shape has settled, (SHOTS, Ke)."""
    faces = crops.regress(network, pictures)
    settled = np.mean([face.shape for face in faces], axis=0)
    return np.array([solve(face.expression, face.shape, settled) for face in faces])


def measure(told: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Response and precision, (Ke, Ke) both, from answers and truth, (people, SHOTS, Ke)."""
    count = truth.shape[2]
    rest = told[:, :AT_REST].mean(axis=1, keepdims=True)
    beyond = told - rest
    alone, to_it = truth[:, ALONE].reshape(-1, count), beyond[:, ALONE].reshape(-1, count)
    response = np.linalg.solve(alone.T @ alone + RIDGE * np.eye(count), alone.T @ to_it)
    spread = np.cov((beyond - truth @ response).reshape(-1, count).T) + LEAST_VARIANCE * np.eye(count)
    return {"response": response, "precision": np.linalg.inv(spread)}


def at_rest(network: Regressor, data: Path) -> np.ndarray:
    """What the network tells of a third of the photographs at most, (Ke,); those held out are not looked at."""
    images, table = crops.cut_faces(data)
    fit = ~table["held_out"] & (np.abs(table["yaw_deg"]) < material.REST_YAW_DEG) & (table["roi"][:, 2] > LEAST_PX)
    told = []
    for row in np.flatnonzero(fit & np.isin(table["group"], material.BARE_FACES)):
        place = crops.place(table["points"][row], network.crop_spec)
        told += network(crops.warp(images[row], place, network.size)[None])
    return np.percentile([face.expression.clip(0, 1) for face in told], material.REST_PERCENT, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "regressor.onnx")
    parser.add_argument("--people", type=int, default=120)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    args = parser.parse_args()
    entry = find_entry(args.weights, "regressor")
    network, model = crops.load(args.weights)
    solve, rng = ExpressionSolver(model), np.random.default_rng(SEED)
    told, truth = [], []
    for person in people.cast(args.people, SEED)[1]:
        pictures, done = shots(model, person, network.crop_spec, rng)
        told.append(answers(network, solve, pictures))
        truth.append(done)
    # mirror images were taught alike; what differs between the sides here is chance, for the most part
    other = Mirror.of(model).expression_partner
    told, truth = (np.concatenate([part, np.array(part)[..., other]]) for part in (told, truth))
    rest = at_rest(network, args.data)
    parts = {"rest": (rest + rest[other]) / 2} | measure(told, truth)
    network.close()
    output = entry.path.with_name(f"{entry.path.stem}_answers.npz")
    arrays = {name: part.astype(np.float32) for name, part in parts.items()}
    with new_file(output, ".npz") as partial:
        np.savez(partial, names=model.expression_names, **arrays)
    provenance = f"{entry.path.name} on {args.people} rendered people and on photographs; tools/answers.py"
    described = describe(output, kind="answers", licence="MIT", provenance=provenance)
    update_manifest(
        entry.path.parent / MANIFEST_NAME,
        {entry.name: dict(entry.table) | {"answers": output.name}, output.stem: described},
    )
    print(f"{output}: median answer to a blendshape {np.median(np.diag(parts['response'])):.2f}")


if __name__ == "__main__":
    main()
