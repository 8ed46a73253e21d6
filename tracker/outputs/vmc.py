"""Faces in the Virtual Motion Capture protocol: OSC messages that avatar programs read.

Coordinates are Unity's: y up, left-handed, the avatar looks along z and its right hand is at positive x. Sources: the
specification of the protocol, https://protocol.vmc.info/english, and the expression presets of VRM 0 and VRM 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from facet.tracker.outputs.avatar import NOT_TRACKED, Moved, OneFace, Weights, gaze_deg, quaternion, turned_part
from facet.tracker.outputs.osc import osc_bundles, osc_message
from facet.tracker.pose import rotation_from_angles
from facet.tracker.types import FaceTrack, Frame

NAMES = ("arkit", "vrm0", "vrm1", "all")
BONES = ("head", "all")
NECK_SHARE = 0.4  # of the turn of a head
VRM1_TO_VRM0 = {
    **{"aa": "A", "ih": "I", "ou": "U", "ee": "E", "oh": "O"},
    **{"blink": "Blink", "blinkLeft": "Blink_L", "blinkRight": "Blink_R"},
    **{"lookUp": "LookUp", "lookDown": "LookDown", "lookLeft": "LookLeft", "lookRight": "LookRight"},
}


class Vmc:
    """The datagrams of the first face.

    Parameters
    ----------
    names : of the blendshapes, one of NAMES
    bones : "head" turns the bone Head alone; "all" shares the turn with Neck, turns the eyes and moves the root
    """

    def __init__(self, names: str = "arkit", bones: str = "head"):
        self._names, self._bones = names, bones
        self._one, self._moved = OneFace(), Moved()

    def __call__(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> Iterator[bytes]:
        face = self._one.of(faces, frame.time_s)
        moved_mm = self._moved(face) if face and self._bones == "all" else None
        return vmc_packets(frame.time_s, face, self._names, moved_mm)


def vmc_packets(
    time_s: float, face: FaceTrack | None, names: str = "arkit", moved_mm: np.ndarray | None = None
) -> Iterator[bytes]:
    """The datagrams of a frame: OSC bundles with bones and blendshapes.

    Without a face there is only the time, and that nobody is there.

    Parameters
    ----------
    time_s : of the frame
    face : to be sent
    names : of the blendshapes, one of NAMES
    moved_mm : (3,) how far the head has moved, as `Moved` returns it; None sends the bone Head alone
    """
    messages = [osc_message("/VMC/Ext/OK", int(face is not None)), osc_message("/VMC/Ext/T", float(time_s))]
    if face:
        if moved_mm is None:
            messages.append(_bone("Head", face.pose.rotation))
        else:
            messages += _body(face, moved_mm)
        for name, weight in _blendshapes(face.blendshapes, names).items():
            messages.append(osc_message("/VMC/Ext/Blend/Val", name, float(weight)))
        messages.append(osc_message("/VMC/Ext/Blend/Apply"))
    return osc_bundles(messages)


def _body(face: FaceTrack, moved_mm: np.ndarray) -> Iterator[bytes]:
    """The root, the neck and the head above it, and both eyes in the head."""
    left, up, near = (moved_mm / 1000).tolist()
    yield osc_message("/VMC/Ext/Root/Pos", "root", -left, up, near, 0.0, 0.0, 0.0, 1.0)
    neck = turned_part(face.pose.rotation, NECK_SHARE)
    yield _bone("Neck", neck)
    yield _bone("Head", neck.T @ face.pose.rotation)
    for side in ("Left", "Right"):
        yield _bone(f"{side}Eye", rotation_from_angles(*gaze_deg(face.blendshapes, side), 0.0))


def _blendshapes(weights: dict[str, float], names: str) -> dict[str, float]:
    """By the names that were asked for."""
    found = NOT_TRACKED | weights if names in ("arkit", "all") else {}
    if names != "arkit":
        presets = vrm_presets(weights)
        if names in ("vrm0", "all"):
            found = found | {VRM1_TO_VRM0[name]: weight for name, weight in presets.items()}
        if names in ("vrm1", "all"):
            found = found | presets
    return found


def vrm_presets(blendshapes: dict[str, float]) -> dict[str, float]:
    """Vowels, blinks and looks of VRM 1, each in [0, 1], from blendshapes by ARKit's names.

    The vowels add up to at most 1, and so do the blinks of an eye: avatars add up what they get.
    """
    get = Weights(blendshapes)
    jaw = max(get("jawOpen") - get("mouthClose"), 0.0)
    wide = max(get.mean("mouthStretch"), get.mean("mouthSmile") / 2)
    opened = min(2 * jaw, 1.0)  # vowels of a round or wide mouth differ by the jaw
    vowels = {
        "aa": jaw,
        "ih": wide * (1 - opened),
        "ou": max(get("mouthPucker"), get("mouthFunnel") * (1 - opened)),
        "ee": wide * opened,
        "oh": get("mouthFunnel") * opened,
    }
    vowels["aa"] *= 1 - min(max(vowels["ou"], vowels["ee"], vowels["oh"]), 1.0)
    total = max(sum(vowels.values()), 1.0)
    left, right = get("eyeBlinkLeft"), get("eyeBlinkRight")
    both = min(left, right)
    up = get.mean("eyeLookUp") - get.mean("eyeLookDown")
    # the subject's left
    aside = (get("eyeLookOutLeft") - get("eyeLookInLeft") + get("eyeLookInRight") - get("eyeLookOutRight")) / 2
    return {
        **{name: weight / total for name, weight in vowels.items()},
        **{"blink": both, "blinkLeft": left - both, "blinkRight": right - both},
        **{"lookUp": max(up, 0.0), "lookDown": max(-up, 0.0)},
        **{"lookLeft": max(aside, 0.0), "lookRight": max(-aside, 0.0)},
    }


def _bone(name: str, rotation: np.ndarray) -> bytes:
    """A bone turned, at the origin: where it is, only the avatar could say."""
    x, y, z, w = quaternion(rotation).tolist()
    # x points the other way there; an axis of rotation is mirrored in the two others
    return osc_message("/VMC/Ext/Bone/Pos", name, 0.0, 0.0, 0.0, x, -y, -z, w)
