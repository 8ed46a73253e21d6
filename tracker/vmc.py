"""Faces in the Virtual Motion Capture protocol: OSC messages that avatar programs read.

Coordinates are Unity's: y up, left-handed, the avatar looks along z and its right hand is at positive x. Sources: the
specification of the protocol, https://protocol.vmc.info/english, and that of Open Sound Control 1.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from tracker.avatar import arkit_blendshapes, gaze_deg, quaternion
from tracker.pose import rotation_from_angles
from tracker.types import FaceTrack, Frame

BUNDLE_BYTES = 1400  # at most, so that no network has to take one apart
BUNDLE_HEAD = b"#bundle\0" + struct.pack(">Q", 1)  # time tag 1: now


def vmc_packets(frame: Frame, faces: Sequence[FaceTrack]) -> Iterator[bytes]:
    """The datagrams of a frame: OSC bundles.

    They tell of one face, as an avatar has one head: the one with the lowest ID. The turns of head and eyes are told as
    those of the bones Head, LeftEye and RightEye, the blendshapes under ARKit's names. There are none without a face.
    """
    if not faces:
        return
    face = min(faces, key=lambda one: one.id)
    messages = [osc_message("/VMC/Ext/OK", 1), osc_message("/VMC/Ext/T", float(frame.time_s))]
    messages.append(_bone("Head", face.pose.rotation))
    if face.blendshapes:
        for bone, side in (("LeftEye", "L"), ("RightEye", "R")):
            yaw_deg, pitch_deg = gaze_deg(face.blendshapes, side)
            messages.append(_bone(bone, rotation_from_angles(yaw_deg, pitch_deg, 0.0)))
        for name, weight in arkit_blendshapes(face.blendshapes).items():
            messages.append(osc_message("/VMC/Ext/Blend/Val", name, float(weight)))
        messages.append(osc_message("/VMC/Ext/Blend/Apply"))
    yield from _bundles(messages)


def osc_message(address: str, *values: str | int | float) -> bytes:
    """One OSC message; texts, int32 and float32 are all that is needed here."""
    tags, data = ",", b""
    for value in values:
        if isinstance(value, str):
            tags, data = tags + "s", data + _text(value)
        elif isinstance(value, int):
            tags, data = tags + "i", data + struct.pack(">i", value)
        else:
            tags, data = tags + "f", data + struct.pack(">f", value)
    return _text(address) + _text(tags) + data


def _text(value: str) -> bytes:
    """Ended by one to four zeros, a multiple of four bytes long."""
    data = value.encode("ascii")
    return data + bytes(4 - len(data) % 4)


def _bone(name: str, rotation: np.ndarray) -> bytes:
    """A bone turned; where it is, the avatar knows."""
    x, y, z, w = quaternion(rotation).tolist()
    # x points the other way there; an axis of rotation is mirrored in the two others
    return osc_message("/VMC/Ext/Bone/Pos", name, 0.0, 0.0, 0.0, x, -y, -z, w)


def _bundles(messages: Sequence[bytes]) -> Iterator[bytes]:
    bundle = BUNDLE_HEAD
    for message in messages:
        part = struct.pack(">i", len(message)) + message
        if len(bundle) + len(part) > BUNDLE_BYTES:
            yield bundle
            bundle = BUNDLE_HEAD
        bundle += part
    yield bundle
