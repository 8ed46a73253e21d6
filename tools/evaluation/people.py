"""People who do not exist, rendered for the evaluation: not those of the training, and needing no material."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from facet.tracker.morphable import MorphableModel, load_face_model
from facet.tracker.pose import camera_from_pose, rotation_from_angles
from facet.tracker.types import Pose
from facet.tracker.weights import find_entry, load_arrays
from tools.actor import Actor, Look
from tools.data import rendered

SEED = 90210  # the trainings' people have other seeds
SIDE_PX = 360
FACE_PX = 150.0  # longer side of the landmarks
NOISE = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A picture, and all that is true of it."""

    picture: np.ndarray  # (S, S, 3) uint8, BGR, S being SIDE_PX for faces of FACE_PX
    landmarks: np.ndarray  # (68, 3) px
    angles_deg: np.ndarray  # (3,) yaw, pitch, roll
    expression: np.ndarray  # (Ke,)
    camera: np.ndarray  # (3, 4) mm -> px


class Person:
    """Somebody before a blurred ground."""

    def __init__(self, model: MorphableModel, texture: dict[str, np.ndarray], rng: np.random.Generator):
        self._model, self._rng = model, rng
        shape = (rendered.SHAPE_STD * rng.normal(size=model.shape_count)).astype(np.float32)
        self._actor = Actor(model, texture, shape, rendered.random_look(rng, len(texture["modes"])))
        patches = (rng.uniform(20, 220, (6, 6, 1)) * rng.uniform(0.85, 1.15, (6, 6, 3))).astype(np.float32)
        self._ground = cv2.resize(patches, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)

    @property
    def shape(self) -> np.ndarray:
        """(Ks,)."""
        return self._actor.shape

    @property
    def look(self) -> Look:
        return self._actor.look

    def shading(self, normals: np.ndarray) -> np.ndarray:
        """Light (n, 3), R, G, B, that unit normals (n, 3) receive; view axes, y up."""
        return self._actor.shade(normals * (1, -1, 1))[:, ::-1]

    def shot(
        self, yaw_deg: float, pitch_deg: float, roll_deg: float, expression: np.ndarray, face_px: float = FACE_PX
    ) -> Shot:
        """A picture of the person with the neutral face's landmarks in the middle, their longer side `face_px`."""
        side = round(SIDE_PX * face_px / FACE_PX)
        model, shape = self._model, self._actor.shape
        pose = Pose(rotation_from_angles(yaw_deg, pitch_deg, roll_deg), 1.0, np.zeros(3), yaw_deg, pitch_deg, roll_deg)
        camera = camera_from_pose(pose)
        points = model.landmarks(camera, shape, np.zeros(model.expression_count, np.float32))[:, :2]
        low, high = points.min(axis=0), points.max(axis=0)
        camera = camera * (face_px / (high - low).max())
        camera[:2, 3] += side / 2 - face_px / (high - low).max() * (low + high) / 2
        ground = self._ground if side == SIDE_PX else cv2.resize(self._ground, (side, side))
        drawn = cv2.GaussianBlur(self._actor.draw(ground, camera, expression), (0, 0), 0.7)
        drawn += NOISE * self._rng.standard_normal(drawn.shape, np.float32)
        landmarks = model.landmarks(camera, shape, expression).astype(np.float64)
        angles = np.array([yaw_deg, pitch_deg, roll_deg])
        return Shot(np.clip(drawn, 0, 255).astype(np.uint8), landmarks, angles, expression, camera)


def cast(count: int, seed: int = SEED) -> tuple[MorphableModel, Iterator[Person]]:
    """The face model, and people, one by one."""
    model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
    texture = load_arrays(find_entry("weights/skin.npz", "skin").path)
    rng = np.random.default_rng(seed)
    return model, (Person(model, texture, rng) for _ in range(count))


def portraits(count: int, yaw_deg: float = 80.0, seed: int = SEED) -> Iterator[Shot]:
    """A picture each of people with any expression, turned by up to so much."""
    model, people = cast(count, seed)
    rng = np.random.default_rng(seed + 1)
    for person in people:
        angles = rng.uniform(-yaw_deg, yaw_deg), rng.uniform(-20, 20), rng.uniform(-15, 15)
        yield person.shot(*angles, rendered.random_expression(rng, list(model.expression_names)))
