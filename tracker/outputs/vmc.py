"""Faces in the Virtual Motion Capture protocol: OSC messages that avatar programs read.

Coordinates are Unity's: y up, left-handed, the avatar looks along z and its right hand is at positive x. Sources: the
specification of the protocol, https://protocol.vmc.info/english, and that of Open Sound Control 1.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from tracker.outputs.avatar import quaternion
from tracker.types import FaceTrack

NOT_TRACKED = {"tongueOut": 0.0}  # "perfect sync" has 52 blendshapes
BUNDLE_BYTES = 1400  # at most, so that no network has to take one apart
BUNDLE_HEAD = b"#bundle\0" + struct.pack(">Q", 1)  # time tag 1: now


def vmc_packets(time_s: float, face: FaceTrack | None) -> Iterator[bytes]:
    """The datagrams of a frame: OSC bundles, with the turn of the bone Head and the blendshapes under ARKit's names.

    Eyes are told by their blendshapes alone. Without a face there is only the time, and that nobody is there.
    """
    messages = [osc_message("/VMC/Ext/OK", int(face is not None)), osc_message("/VMC/Ext/T", float(time_s))]
    if face:
        messages.append(_bone("Head", face.pose.rotation))
        for name, weight in (NOT_TRACKED | face.blendshapes).items():
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
    """A bone turned, at the origin: where it is, only the avatar could say."""
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
