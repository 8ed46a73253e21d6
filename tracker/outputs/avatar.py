"""What programs that animate avatars need of a face: gaze angles, quaternions, a number that stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracker.types import FaceTrack

# how far our face model turns an eyeball at a weight of 1
LOOK_OUT_DEG, LOOK_UP_DEG, LOOK_DOWN_DEG = 30.0, 20.0, 25.0
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


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """The unit quaternion (x, y, z, w) of a rotation that turns column vectors, (3, 3); w is at least 0."""
    m = np.asarray(rotation, float)
    # 4 q q^T, of which the row with the largest diagonal tells the rest best
    products = np.array([
        [1 + m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
        [m[0, 1] + m[1, 0], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
        [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 - m[0, 0] - m[1, 1] + m[2, 2], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + m[0, 0] + m[1, 1] + m[2, 2]],
    ])  # fmt: skip
    row = products[int(np.argmax(np.diag(products)))]
    row = row / np.linalg.norm(row)
    return row if row[3] >= 0 else -row


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
