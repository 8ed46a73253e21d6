"""The head as opentrack's input "UDP over network" takes it.

Six float64: x to the user's right, y up, z away from the camera, in centimetres; yaw positive to the user's right,
pitch positive down, roll positive counter-clockwise on the screen, in degrees, turned by yaw, then pitch, then roll.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from facet.tracker.outputs.avatar import OneFace, head_angles_deg
from facet.tracker.types import FaceTrack, Frame


class OpenTrack:
    """The datagram of the first face; nothing is sent without one, and opentrack holds the last."""

    def __init__(self):
        self._one = OneFace()

    def __call__(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> Iterator[bytes]:
        face = self._one.of(faces, frame.time_s)
        if face:
            right, up, away = (0.0, 0.0, 0.0) if face.translation_mm is None else (face.translation_mm / 10).tolist()
            yield struct.pack("<6d", -right, up, away, *head_angles_deg(face.pose.rotation))
