"""Measure how a regressor answers to each blendshape, so that the tracker can read its answers.

usage: python -m tools.answers [--weights weights/regressor.onnx] [--people 120] [--data runs/data]
       python -m tools.answers --aligner weights/aligner.onnx [--people 60]

Rendered people rest and do this and that; what the network reports of them, beyond what it reports of each at rest, is
regressed on what they do. What faces answer at rest is taken from photographs, most of which show little of anything.
Written beside the network, and entered in the manifest there. With `--aligner` the answers are those of precise mode:
the expressions that are solved for, then the regressor's; what reading them shrinks is measured, too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.aligner import Aligner, Alignment
from facet.tracker.blendshapes import MOST_GAIN, BlendshapeReader
from facet.tracker.crop import cut, roi_from_landmarks
from facet.tracker.expression import ExpressionSolver
from facet.tracker.files import new_file
from facet.tracker.mirror import Mirror
from facet.tracker.morphable import MorphableModel
from facet.tracker.pose import model_to_image, pose_from_camera
from facet.tracker.regressor import Regressor
from facet.tracker.solve import PointSolver, Solving
from facet.tracker.types import FaceParams, Pose
from facet.tracker.weights import MANIFEST_NAME, ROOT, find_entry
from tools.data import material, rendered
from tools.evaluation import crops, people
from tools.evaluation.common import correlation
from tools.manifest import describe, update_manifest
from tools.regressor.losses import partner

SEED = 4242  # other people than those of the trainings and evaluations
AT_REST, SHOTS = 6, 60  # of each person
# a move alone reports what the answer to it is, mixtures how much else there may be in an answer
ALONE = (np.arange(SHOTS) >= AT_REST) & (np.arange(SHOTS) % 2 == 1)
LEAST_PX = 100  # of the photographs
RIDGE, LEAST_VARIANCE = 1.0, 1e-4
REAL_FACTOR = 2.0  # rendered people differ less from one another than real ones: of the variance in precise mode
LEAST_CORRELATION = 0.6  # of what is stretched
PRECISE_PHOTOGRAPHS = 600  # at most about so many


def one_move(rng: np.random.Generator, names: list[str]) -> np.ndarray:
    """Weights of one blendshape alone, or of what the other side does with it, or of both."""
    weights = np.zeros(len(names), np.float32)
    name = rng.choice([name for name in names if not name.endswith("_R")])
    sides = [name, partner(name)] if name.endswith("_L") else [name]
    if rng.random() < 0.6:
        sides = [rng.choice(sides)]
    weights[[names.index(side) for side in sides]] = rng.uniform(0.2, 1)
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A picture as tracking would see it, and what is done in it."""

    picture: np.ndarray  # (H, W, 3) uint8, BGR
    landmarks: np.ndarray  # (68, 3) px, where tracking would look
    roll_deg: float
    expression: np.ndarray  # (Ke,) float32


def shots(model: MorphableModel, person: people.Person, rng: np.random.Generator) -> list[Shot]:
    """SHOTS of a person, first at rest."""
    names = list(model.expression_names)
    usual = rng.normal(0, (9, 6, 4))
    taken = []
    for k in range(SHOTS):
        expression = np.zeros(len(names), np.float32)
        if k >= AT_REST:
            expression = one_move(rng, names) if ALONE[k] else rendered.random_expression(rng, names)
        angles = usual + rng.normal(0, (6, 4, 2))
        shot = person.shot(*angles, expression)
        picture = cv2.GaussianBlur(shot.picture, (0, 0), rng.uniform(0.1, 1.2))
        taken.append(Shot(picture, shot.landmarks + rng.normal(0, 1.0, 3) * (1, 1, 0), angles[2], expression))
    return taken


class Plain:
    """The answers of a regressor: its expressions once the shape has settled."""

    def __init__(self, network: Regressor, model: MorphableModel):
        self._network, self._solve = network, ExpressionSolver(model)

    def of_person(self, taken: list[Shot]) -> np.ndarray:
        """(SHOTS, Ke)."""
        size, spec = self._network.size, self._network.crop_spec
        crop = [cut(s.picture, roi_from_landmarks(s.landmarks, spec, s.roll_deg), size, spec.style) for s in taken]
        faces = crops.regress(self._network, np.stack(crop))
        settled = np.mean([face.shape for face in faces], axis=0)
        return np.array([self._solve(face.expression, face.shape, settled) for face in faces])

    def of_photograph(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(Ke,) of a face with these (68, 2) points."""
        place = crops.place(points, self._network.crop_spec)
        return self._network(crops.warp(image, place, self._network.size)[None])[0].expression


class Precise:
    """The answers of precise mode: expressions that are solved for, then the regressor's, as a track has them."""

    def __init__(self, network: Regressor, model: MorphableModel, aligner: Aligner, solver: PointSolver):
        self._network, self._model, self._aligner, self._solver = network, model, aligner, solver
        self._solve = ExpressionSolver(model)

    def of_person(self, taken: list[Shot]) -> np.ndarray:
        """(SHOTS, 2 * Ke)."""
        seen = [self._see(shot.picture, shot.landmarks, shot.roll_deg) for shot in taken]
        shape, solving = np.mean([face.shape for face, _, _ in seen], axis=0), self._solver.start()
        for face in seen:  # the shape settles
            self._answer(face, shape, solving)
        return np.array([self._answer(face, shape, solving) for face in seen])

    def of_photograph(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(2 * Ke,) of a face with these (68, 2) points."""
        face = self._see(image, np.pad(points, ((0, 0), (0, 1))), 0.0)
        return self._answer(face, face[0].shape, self._solver.start())

    def _see(self, picture, landmarks, roll_deg) -> tuple[FaceParams, Pose, Alignment]:
        network = self._network
        roi = roi_from_landmarks(landmarks, network.crop_spec, roll_deg)
        face = network(cut(picture, roi, network.size, network.crop_spec.style)[None])[0]
        face = replace(face, camera=model_to_image(face.camera, roi, network.size))
        pose = pose_from_camera(face.camera)
        found = self._model.landmarks(face.camera, face.shape, face.expression)
        return face, pose, self._aligner(picture, [found], [pose.roll_deg])[0]

    def _answer(self, seen, shape: np.ndarray, solving: Solving) -> np.ndarray:
        face, pose, found = seen
        expression = self._solve(face.expression, face.shape, shape)
        return np.concatenate([solving(found, face.camera, pose, shape, expression).expression, expression])


def measure(reported: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Response (Ke, n) and precision (n, n), from answers (people, SHOTS, n) and truth (people, SHOTS, Ke)."""
    count, size = truth.shape[2], reported.shape[2]
    rest = reported[:, :AT_REST].mean(axis=1, keepdims=True)
    beyond = reported - rest
    alone, to_it = truth[:, ALONE].reshape(-1, count), beyond[:, ALONE].reshape(-1, size)
    response = np.linalg.solve(alone.T @ alone + RIDGE * np.eye(count), alone.T @ to_it)
    spread = np.cov((beyond - truth @ response).reshape(-1, size).T) + LEAST_VARIANCE * np.eye(size)
    return {"response": response, "precision": np.linalg.inv(spread)}


def gain_of(reader: BlendshapeReader, reported: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """By how much weights that are read have to grow to reach the truth when a move is made alone, (Ke,).

    Only what follows the move at all is stretched: of anything else there would be more noise.
    """
    read = []
    for answers in reported:
        reading = reader.start()
        reading.settle(answers[:AT_REST].mean(axis=0))
        read.append([reading(answer) for answer in answers])
    weights = np.array(read) - np.mean(np.array(read)[:, :AT_REST], axis=1, keepdims=True)
    gain = np.ones(truth.shape[2])
    done, made = truth[:, ALONE].reshape(-1, len(gain)), weights[:, ALONE].reshape(-1, len(gain))
    for k in np.flatnonzero(~reader.known & reader.readable):
        on = done[:, k] > 0
        if on.sum() > 1 and correlation(done[on, k], made[on, k]) >= LEAST_CORRELATION:
            gain[k] = np.clip((done[on, k] @ done[on, k]) / max(done[on, k] @ made[on, k], 1e-9), 1, MOST_GAIN)
    return gain


def at_rest(source: Plain | Precise, data: Path) -> np.ndarray:
    """What is reported a third of the photographs at most, (n,); those held out are not looked at."""
    images, table = crops.cut_faces(data)
    fit = ~table["held_out"] & (np.abs(table["yaw_deg"]) < material.REST_YAW_DEG) & (table["roi"][:, 2] > LEAST_PX)
    rows = np.flatnonzero(fit & np.isin(table["group"], material.BARE_FACES))
    if isinstance(source, Precise):
        rows = rows[:: max(1, len(rows) // PRECISE_PHOTOGRAPHS)]
    reported = [source.of_photograph(images[row], table["points"][row]) for row in rows]
    return np.percentile(np.clip(reported, 0, 1), material.REST_PERCENT, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "regressor.onnx")
    parser.add_argument("--aligner", type=Path, metavar="WEIGHTS", help="measure precise mode with this aligner")
    parser.add_argument("--people", type=int, default=120)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    args = parser.parse_args()
    network, model = crops.load(args.weights)
    entry = find_entry(args.weights, "regressor")
    source = Plain(network, model)
    if args.aligner:
        face_model = find_entry(network.face_model_file, "face_model")
        points = find_entry(network.face_model_file.with_name(face_model.get("points", str)), "model_points")
        entry = find_entry(args.aligner, "aligner")
        source = Precise(network, model, Aligner.open(entry), PointSolver.open(points.path, model))
    rng = np.random.default_rng(SEED)
    reported, truth = [], []
    for person in people.cast(args.people, SEED)[1]:
        taken = shots(model, person, rng)
        reported.append(source.of_person(taken))
        truth.append([shot.expression for shot in taken])
    # mirror images were taught alike; what differs between the sides here is chance, for the most part
    partner_of = Mirror.of(model).expression_partner
    other = np.concatenate([partner_of + start for start in range(0, reported[0].shape[1], len(partner_of))])
    reported, truth = (
        np.concatenate([part, np.array(part)[..., order]]) for part, order in ((reported, other), (truth, partner_of))
    )
    rest = at_rest(source, args.data)
    parts = {"rest": (rest + rest[other]) / 2} | measure(reported, truth)
    if args.aligner:
        parts["precision"] = parts["precision"] / REAL_FACTOR
        gain = gain_of(BlendshapeReader(model.expression_names, **parts), reported, truth)
        parts["gain"] = np.sqrt(gain * gain[partner_of])
    network.close()
    output = entry.path.with_name(f"{entry.path.stem}_answers.npz")
    arrays = {name: part.astype(np.float32) for name, part in parts.items()}
    with new_file(output, ".npz") as partial:
        np.savez(partial, names=model.expression_names, **arrays)
    name = entry.path.name + (f" with {args.weights.name}" if args.aligner else "")
    provenance = f"{name} on {args.people} rendered people and on photographs; tools/answers.py"
    described = describe(output, kind="answers", licence="MIT", provenance=provenance)
    update_manifest(
        entry.path.parent / MANIFEST_NAME,
        {entry.name: dict(entry.table) | {"answers": output.name}, output.stem: described},
    )
    print(f"{output}: median answer to a blendshape {np.median(np.diag(parts['response'])):.2f}")


if __name__ == "__main__":
    main()
