"""Faces in the datagrams of the app Live Link Face, packet version 6.

Angles in radians, as the app records them: yaw positive to the subject's right, pitch positive down, roll positive
clockwise on the screen; those of the eyes are seen from the head.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence

from facet.tracker import arkit
from facet.tracker.outputs.avatar import OneFace, gaze_deg, head_angles_deg
from facet.tracker.types import FaceTrack, Frame

VERSION, RATE = 6, 60  # frame numbers count 1/60 s, whatever the rate of the source
SUBJECT = "facet"
DEVICE = "00000000-0000-4000-8000-000000FACE70"  # 36 characters: readers cut at fixed offsets
SIDES = ("Left", "Right")
SHAPES = tuple(name[0].upper() + name[1:] for name in arkit.NAMES)
NAMES = (
    *SHAPES,
    *(part + angle for part in ("Head", "LeftEye", "RightEye") for angle in ("Yaw", "Pitch", "Roll")),
)


class LiveLink:
    """The datagram of the first face; without one it ends after the time."""

    def __init__(self):
        self._one = OneFace()

    def __call__(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> Iterator[bytes]:
        face = self._one.of(faces, frame.time_s)
        number, sub = frame_number(frame.time_s)
        values = None
        if face:
            by_name = livelink_values(face.blendshapes, head_angles_deg(face.pose.rotation))
            values = [by_name[name] for name in NAMES]
        yield livelink_packet(values, number, sub)


def livelink_packet(
    values: Sequence[float] | None, number: int, sub: float, rate: int = RATE, subject: str = SUBJECT
) -> bytes:
    """A datagram.

    Parameters
    ----------
    values : 61 in the order of NAMES; None where there is no face
    number, sub : of the frame, and its part in [0, 1) that has passed
    rate : frames a second
    subject : name that receivers list
    """
    data = struct.pack(">B", VERSION)
    for text in (DEVICE, subject):
        data += struct.pack(">i", len(text)) + text.encode("ascii")
    data += struct.pack(">ifii", number, sub, rate, 1)
    return data if values is None else data + struct.pack(">B61f", len(values), *values)


def livelink_values(blendshapes: dict[str, float], head_deg: tuple[float, float, float]) -> dict[str, float]:
    """The 61 values by NAMES, of blendshapes by ARKit's names and the angles that `head_angles_deg` returns."""
    values = dict.fromkeys(NAMES, 0.0)
    values |= {name[0].upper() + name[1:]: weight for name, weight in blendshapes.items()}
    yaw, pitch, roll = head_deg
    values |= {"HeadYaw": math.radians(yaw), "HeadPitch": math.radians(pitch), "HeadRoll": -math.radians(roll)}
    for side in SIDES:
        yaw, pitch = gaze_deg(blendshapes, side)
        values |= {f"{side}EyeYaw": math.radians(yaw), f"{side}EyePitch": math.radians(pitch)}
    return values


def frame_number(time_s: float, rate: int = RATE) -> tuple[int, float]:
    """Number of the frame that is shown at a time, and the part of it that has passed, in thousandths."""
    number, thousandths = divmod(round(1000 * rate * time_s), 1000)
    return number, thousandths / 1000
