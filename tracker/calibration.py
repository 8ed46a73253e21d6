"""What a user has set of the faces that leave the program: a centre, and gain, offset and limits of each blendshape.

The file of `--calibration` is TOML:

    auto_centre_s = 0.0
    [shapes.jawOpen]
    gain = 1.3
    offset = -0.05
    [centre]
    yaw_deg = -20.0
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np

from facet.tracker.arkit import NAMES, arkit_name
from facet.tracker.config import load_config, to_toml
from facet.tracker.errors import ConfigError
from facet.tracker.files import new_file
from facet.tracker.morphable import MorphableModel, add_expression
from facet.tracker.outputs.avatar import turned_part
from facet.tracker.pose import angles_from_rotation, rotation_from_angles
from facet.tracker.types import FaceTrack

AWAY = np.array([1.0, 1.0, -1.0])  # between z away from the camera, as positions have it, and z to the viewer


@dataclass(frozen=True, slots=True)
class ShapeCalibration:
    """What becomes of a blendshape: gain x weight + offset, kept within the limits."""

    gain: Annotated[float, "factor of the weight"] = 1.0
    offset: Annotated[float, "added to it"] = 0.0
    low: Annotated[float, "least weight that is passed on, 0 to 1"] = 0.0
    high: Annotated[float, "largest weight that is passed on, 0 to 1"] = 1.0

    def __post_init__(self):
        if not abs(self.gain) <= 100 or not abs(self.offset) <= 100:
            raise ValueError(f"gain and offset must be within -100 and 100, got {self.gain} and {self.offset}")
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"low and high must be in [0, 1], low not above high, got {self.low} and {self.high}")


@dataclass(frozen=True, slots=True)
class Centre:
    """The pose and position that count as zero, in the terms of `FaceTrack.pose` and `FaceTrack.translation_mm`."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    x_mm: float = 0.0
    y_mm: float = 0.0
    z_mm: float = 0.0

    @classmethod
    def of(cls, rotation: np.ndarray, place_mm: np.ndarray | None) -> Centre:
        """Of a head with this rotation (3, 3) at this place (3,), None where that is not known."""
        place = np.zeros(3) if place_mm is None else place_mm
        return cls(*map(float, (*angles_from_rotation(rotation), *place)))

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) float64."""
        return rotation_from_angles(self.yaw_deg, self.pitch_deg, self.roll_deg)

    @property
    def place_mm(self) -> np.ndarray:
        """(3,) float64, z away from the camera."""
        return np.array([self.x_mm, self.y_mm, self.z_mm])


@dataclass(frozen=True, slots=True)
class Calibration:
    """The settings of a calibration file."""

    auto_centre_s: Annotated[float, "seconds in which the centre follows the face by two thirds; 0: it stays"] = 0.0
    centre: Centre | None = None
    shapes: dict[str, ShapeCalibration] = field(default_factory=dict)  # by ARKit's names

    def __post_init__(self):
        if not 0 <= self.auto_centre_s <= 1e6:
            raise ValueError(f"auto_centre_s must be at least 0, got {self.auto_centre_s}")
        for name in self.shapes:
            check_shape(name)

    def with_shape(self, name: str, **values: float) -> Calibration:
        """The same with other values of a blendshape."""
        shape = replace(self.shapes.get(name, ShapeCalibration()), **values)
        return replace(self, shapes={**self.shapes, name: shape})


def check_shape(name: str) -> None:
    """Raise ValueError where ARKit has no blendshape of this name."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        raise ValueError(f"unknown blendshape {name}; {f'did you mean {near[0]}?' if near else 'use names of ARKit'}")


def load_calibration(path: Path) -> Calibration:
    """Read a calibration file.

    Raises
    ------
    ConfigError
        Where it is missing, no TOML, or holds an unknown key or a value out of range.
    """
    if not path.exists():
        raise ConfigError(f"--calibration {path}: no such file; make an empty one to begin with")
    return load_config(Calibration, path)


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration file that `load_calibration` reads back; one that exists is replaced.

    Raises
    ------
    SinkError
        Where it cannot be written.
    """
    with new_file(path) as partial:
        partial.write_text(to_toml(calibration), encoding="utf-8")


class ShapeTable:
    """Gain, offset and limits of all weights at once.

    Parameters
    ----------
    shapes : by ARKit's names
    model : of the mesh; None where its weights are not to be changed
    """

    def __init__(self, shapes: dict[str, ShapeCalibration], model: MorphableModel | None):
        self._shapes, self._model = shapes, model
        names: Sequence[str] = () if model is None else model.expression_names
        rows = [shapes.get(arkit_name(name)) for name in names]
        self._rows = [k for k, row in enumerate(rows) if row is not None]
        found = [(row.gain, row.offset, row.low, row.high) for row in rows if row is not None]
        self._values = np.array(found, np.float32).reshape(-1, 4).T

    def __call__(self, face: FaceTrack) -> FaceTrack:
        """The face with calibrated blendshapes, and with a mesh that does the same; landmarks stay as measured."""
        blendshapes = dict(face.blendshapes)
        for name, shape in self._shapes.items():
            if name in blendshapes:
                value = shape.gain * blendshapes[name] + shape.offset
                blendshapes[name] = min(max(value, shape.low), shape.high)
        face = replace(face, blendshapes=blendshapes)
        if not self._rows:
            return face
        gain, offset, low, high = self._values
        expression = face.expression.astype(np.float32)
        expression[self._rows] = np.clip(gain * expression[self._rows] + offset, low, high)
        vertices = face.vertices
        model = self._model
        if vertices is not None and model is not None:
            still = np.zeros_like(vertices)
            start, vertex, delta = model.expression_start, model.expression_vertex, model.expression_delta
            moved = add_expression(still, expression - face.expression.astype(np.float32), start, vertex, delta)
            vertices = vertices + moved @ face.model_to_image[:, :3].T.astype(np.float32)
        return replace(face, expression=expression, vertices=vertices)


def centred(face: FaceTrack, centre: Centre) -> FaceTrack:
    """The face with pose and position relative to a centre: both zero for a head that is there.

    Axes are those of the head at the centre: who faces a screen beside the camera nods about their own axis.
    """
    turn = centre.rotation
    rotation = turn.T @ face.pose.rotation
    yaw, pitch, roll = angles_from_rotation(rotation)
    pose = replace(face.pose, rotation=rotation.astype(np.float32), yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll)
    place = face.translation_mm
    if place is not None and np.isfinite(place).all():
        place = (turn.T @ ((place - centre.place_mm) * AWAY) * AWAY).astype(np.float32)
    return replace(face, pose=pose, translation_mm=place, uncentred=face.pose)


def approached(centre: Centre, face: FaceTrack, share: float) -> Centre:
    """A centre moved by a share of the way to where the head is."""
    way = centre.rotation.T @ face.image_pose.rotation
    turned = centre.rotation @ turned_part(way, share)
    place = centre.place_mm
    if face.translation_mm is not None and np.isfinite(face.translation_mm).all():
        place = place + share * (face.translation_mm - place)
    return Centre.of(turned, place)
