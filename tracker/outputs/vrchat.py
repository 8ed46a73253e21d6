"""A face for VRChat: its own eye tracking, and the v2 parameters of avatars made for VRCFaceTracking.

Sources: VRChat's documentation of OSC eye tracking (degrees, positive down and to the right), and the Unified
Expressions of VRCFaceTracking with its module for ARKit.
"""

from __future__ import annotations

from collections.abc import Iterator

from facet.tracker.outputs.avatar import OneFace, Weights, gaze_deg
from facet.tracker.outputs.osc import osc_bundles, osc_message
from facet.tracker.types import FaceTrack, Frame

AVATAR = "/avatar/parameters/"
PREFIXES = ("v2/", "FT/v2/")  # both are in use; VRChat ignores what an avatar does not have
ACTIVE = ("EyeTrackingActive", "ExpressionTrackingActive", "LipTrackingActive")
LID_OPEN = 0.75  # of EyeLid: above it the eye is wide
SIDES = ("Left", "Right")
# ours -> its own, which have both sides in each
SIDED = {
    **{name: (name[0].upper() + name[1:],) for name in ("eyeSquint", "eyeWide", "browOuterUp", "noseSneer")},
    **{name: (name[0].upper() + name[1:],) for name in ("cheekSquint", "mouthUpperUp", "mouthLowerDown")},
    **{name: (name[0].upper() + name[1:],) for name in ("mouthFrown", "mouthStretch", "mouthDimple", "mouthPress")},
    "mouthSmile": ("MouthCornerPull", "MouthCornerSlant"),
    "browDown": ("BrowPinch", "BrowLowerer"),
}
TO_BOTH_SIDES = {
    "browInnerUp": ("BrowInnerUp",),
    "cheekPuff": ("CheekPuff",),
    "mouthFunnel": ("LipFunnelUpper", "LipFunnelLower"),
    "mouthPucker": ("LipPuckerUpper", "LipPuckerLower"),
    "mouthRollLower": ("LipSuckLower",),
}
SINGLE = {
    **{"jawOpen": "JawOpen", "jawLeft": "JawLeft", "jawRight": "JawRight", "jawForward": "JawForward"},
    **{"mouthClose": "MouthClosed", "mouthShrugUpper": "MouthRaiserUpper", "mouthShrugLower": "MouthRaiserLower"},
    "tongueOut": "TongueOut",
}


class VrChat:
    """The datagrams of the first face; without one they say that nothing is tracked."""

    def __init__(self):
        self._one = OneFace()

    def __call__(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> Iterator[bytes]:
        face = self._one.of(faces, frame.time_s)
        messages = [osc_message(AVATAR + name, face is not None) for name in ACTIVE]
        if face:
            messages += _eyes(face.blendshapes)
            for name, value in v2_parameters(face.blendshapes).items():
                messages += [osc_message(AVATAR + prefix + name, float(value)) for prefix in PREFIXES]
        return osc_bundles(messages)


def _eyes(blendshapes: dict[str, float]) -> Iterator[bytes]:
    """VRChat's own eye tracking, which takes one closing of both eyes."""
    angles = [angle for side in SIDES for angle in reversed(gaze_deg(blendshapes, side))]
    yield osc_message("/tracking/eye/LeftRightPitchYaw", *angles)
    yield osc_message("/tracking/eye/EyesClosedAmount", Weights(blendshapes).mean("eyeBlink"))


def v2_parameters(blendshapes: dict[str, float]) -> dict[str, float]:
    """The parameters of avatars, by name, from blendshapes by ARKit's names."""
    get = Weights(blendshapes)
    found = {its: get(name) for name, its in SINGLE.items()}
    for side in SIDES:
        found |= {its + side: get(name + side) for name, both in SIDED.items() for its in both}
        found |= {its + side: get(name) for name, both in TO_BOTH_SIDES.items() for its in both}
        found |= {f"Mouth{lip}{side}": get(f"mouth{side}") for lip in ("Upper", "Lower")}
        # a lip that is raised is not sucked in
        found[f"LipSuckUpper{side}"] = min(get("mouthRollUpper"), 1 - get(f"mouthUpperUp{side}"))
        openness = max(1 - get(f"eyeBlink{side}") * (1 + get(f"eyeSquint{side}")), 0.0)
        found[f"EyeLid{side}"] = LID_OPEN * openness + (1 - LID_OPEN) * get(f"eyeWide{side}")
    found["EyeLeftX"] = get("eyeLookInLeft") - get("eyeLookOutLeft")
    found["EyeRightX"] = get("eyeLookOutRight") - get("eyeLookInRight")
    found["EyeY"] = get.mean("eyeLookUp") - get.mean("eyeLookDown")
    found["JawX"], found["JawZ"] = get("jawRight") - get("jawLeft"), get("jawForward")
    return found
