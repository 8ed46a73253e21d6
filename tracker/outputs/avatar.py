"""What programs that animate avatars need of a face: angles, quaternions, where it has moved, which face it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from facet.tracker.types import FaceTrack

# how far our face model turns an eyeball at a weight of 1
LOOK_OUT_DEG, LOOK_UP_DEG, LOOK_DOWN_DEG = 30.0, 20.0, 25.0
NOT_TRACKED = {"tongueOut": 0.0}  # the 52nd blendshape, which receivers expect
KEPT_S = 3.0  # a face that is not seen keeps its number, as a lost track keeps its ID


def gaze_deg(weights: dict[str, float], side: str) -> tuple[float, float]:
    """Where an eye looks, seen from its head.

    Parameters
    ----------
    weights : by ARKit's names; what is missing counts as 0
    side : "Left" or "Right", the subject's

    Returns
    -------
    Yaw, positive to image left of an upright head that faces us, and pitch, positive down: the signs of a head's pose.
    """

    def look(where: str) -> float:
        return weights.get(f"eyeLook{where}{side}", 0.0)

    outwards = LOOK_OUT_DEG * (look("Out") - look("In"))
    # the subject's left is image right
    return (-outwards if side == "Left" else outwards), LOOK_DOWN_DEG * look("Down") - LOOK_UP_DEG * look("Up")


def head_angles_deg(rotation: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a head, (3, 3), for programs that turn it by yaw, then pitch, then roll.

    The signs are those of `tracker.types`, where roll is the last: R = Ry(-yaw) Rx(pitch) Rz(roll).
    """
    (_, _, x), (sin_roll, cos_roll, down), (_, _, z) = np.asarray(rotation, float).tolist()
    pitch = math.asin(min(max(-down, -1.0), 1.0))
    return math.degrees(math.atan2(-x, z)), math.degrees(pitch), math.degrees(math.atan2(sin_roll, cos_roll))


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """The unit quaternion (x, y, z, w) of a rotation that turns column vectors, (3, 3); w is at least 0."""
    m = np.asarray(rotation, float)
    # 4 q q^T, of which the row with the largest diagonal gives the rest best
    products = np.array([
        [1 + m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
        [m[0, 1] + m[1, 0], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
        [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 - m[0, 0] - m[1, 1] + m[2, 2], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + m[0, 0] + m[1, 1] + m[2, 2]],
    ])  # fmt: skip
    row = products[int(np.argmax(np.diag(products)))]
    row = row / np.linalg.norm(row)
    return row if row[3] >= 0 else -row


def turned_part(rotation: np.ndarray, share: float) -> np.ndarray:
    """A rotation, (3, 3), about the same axis by a share of the angle."""
    *axis, w = quaternion(rotation).tolist()
    axis, angle = np.array(axis), 2 * np.arccos(min(w, 1.0))
    length = np.linalg.norm(axis)
    if length < 1e-9:
        return np.eye(3)
    x, y, z = axis / length
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(share * angle) * cross + (1 - np.cos(share * angle)) * cross @ cross  # Rodrigues


class Numbers:
    """Numbers from 0 for faces; each stays with its face, and is free again `KEPT_S` after the face was last seen."""

    def __init__(self):
        self._of: dict[int, int] = {}
        self._seen_s: dict[int, float] = {}

    def __call__(self, faces: Sequence[FaceTrack], time_s: float) -> dict[int, FaceTrack | None]:
        """The faces of a frame by number, in order; None where the face of a number is not seen now."""
        for face in sorted(faces, key=lambda face: face.id):
            if face.id not in self._of:
                self._of[face.id] = next(n for n in range(len(self._of) + 1) if n not in self._of.values())
            self._seen_s[face.id] = time_s
        for track in [track for track, seen_s in self._seen_s.items() if time_s - seen_s > KEPT_S]:
            del self._of[track], self._seen_s[track]
        by_id = {face.id: face for face in faces}
        return {number: by_id.get(track) for track, number in sorted(self._of.items(), key=lambda item: item[1])}


class OneFace:
    """The face for receivers that take one: the first, until it has not been seen for `KEPT_S`; then another."""

    def __init__(self):
        self._id: int | None = None
        self._seen_s = -math.inf

    def __call__(self, ids: Iterable[int], time_s: float) -> int | None:
        """The ID of that face, of the IDs of a frame; None where it is not seen now."""
        ids = sorted(ids)
        if ids and self._id not in ids and (self._id is None or time_s - self._seen_s > KEPT_S):
            self._id = ids[0]
        if self._id not in ids:
            return None
        self._seen_s = time_s
        return self._id

    def of(self, faces: Iterable[FaceTrack], time_s: float) -> FaceTrack | None:
        """The same, of the faces themselves."""
        by_id = {face.id: face for face in faces}
        chosen = self(by_id, time_s)
        return None if chosen is None else by_id[chosen]


class Moved:
    """How far a head has moved from where it was first seen, or from the centre where one was set."""

    def __init__(self):
        self._id: int | None = None
        self._start = np.zeros(3)

    def __call__(self, face: FaceTrack) -> np.ndarray:
        """(3,) mm: to the subject's left, up, towards the camera; zeros where its place is not known."""
        if face.translation_mm is None:
            return np.zeros(3)
        if face.uncentred is not None:  # its place is relative to a centre already
            self._id, self._start = face.id, np.zeros(3)
        elif face.id != self._id:
            self._id, self._start = face.id, face.translation_mm
        return (face.translation_mm - self._start).astype(float) * (1, 1, -1)


class Weights:
    """Blendshapes by ARKit's names, each within [0, 1]; what is missing counts as 0."""

    def __init__(self, blendshapes: dict[str, float]):
        self._blendshapes = blendshapes

    def __call__(self, name: str) -> float:
        return min(max(self._blendshapes.get(name, 0.0), 0.0), 1.0)

    def mean(self, name: str) -> float:
        """Of the left and the right one."""
        return (self(f"{name}Left") + self(f"{name}Right")) / 2
