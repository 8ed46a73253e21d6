"""Faces as the app iFacialMocap sends them: a line of text a datagram.

Angles in degrees about ARKit's axes (x to the subject's left, y up, z out of the face), for programs that turn by
yaw, then pitch, then roll: x positive down, y positive to the subject's left, z positive counter-clockwise on the
screen. Positions in metres, x to image right, y up, z towards the camera, which is at 0.
"""

from __future__ import annotations

from collections.abc import Iterator

from facet.tracker.outputs.avatar import NOT_TRACKED, OneFace, gaze_deg, head_angles_deg
from facet.tracker.types import FaceTrack, Frame

TWO_SIDED = {"Left": "_L", "Right": "_R"}
ONE_SIDED = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")  # names that end like those of a side


class IFacialMocap:
    """The datagram of the first face; nothing is sent without one, as by the app's own followers."""

    def __init__(self):
        self._one = OneFace()

    def __call__(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> Iterator[bytes]:
        face = self._one.of(faces, frame.time_s)
        if face:
            yield ifacialmocap_line(face).encode("ascii")


def ifacialmocap_line(face: FaceTrack) -> str:
    """The text of one face; weights in whole hundredths."""
    blendshapes = NOT_TRACKED | face.blendshapes
    parts = [f"{its_name(name)}-{round(100 * weight)}" for name, weight in blendshapes.items()]
    yaw, pitch, roll = head_angles_deg(face.pose.rotation)
    place_m = (0.0, 0.0, 0.0) if face.translation_mm is None else (face.translation_mm / 1000).tolist()
    head = (pitch, -yaw, roll, place_m[0], place_m[1], -place_m[2])
    parts.append(f"=head#{_numbers(*head)}")
    for side in ("Right", "Left"):
        yaw, pitch = gaze_deg(face.blendshapes, side)
        parts.append(f"{side.lower()}Eye#{_numbers(pitch, -yaw, 0.0)}")
    return "|".join(parts) + "|"


def its_name(name: str) -> str:
    """iFacialMocap's name of a blendshape by ARKit's."""
    if name not in ONE_SIDED:
        for side, end in TWO_SIDED.items():
            if name.endswith(side):
                return name.removesuffix(side) + end
    return name


def _numbers(*values: float) -> str:
    return ",".join(f"{value:.6f}" for value in values)
