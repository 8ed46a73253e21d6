"""What VRChat gets, read by another library."""

import pytest
from pythonosc.osc_bundle import OscBundle

from facet.tracker.outputs.vrchat import v2_parameters
from tests.tracker.outputs.clip import GONE, first_face, logged_gaze_deg, received

FLAGS = {f"/avatar/parameters/{name}TrackingActive" for name in ("Eye", "Expression", "Lip")}

SIDED = """
EyeSquint EyeWide BrowPinch BrowLowerer BrowInnerUp BrowOuterUp NoseSneer CheekSquint CheekPuff MouthUpperUp MouthLower
MouthLowerDown MouthCornerPull MouthCornerSlant MouthFrown MouthStretch MouthDimple MouthPress LipFunnelUpper EyeLid
LipFunnelLower LipPuckerUpper LipPuckerLower MouthUpper LipSuckUpper LipSuckLower
"""
SINGLE = """
JawOpen JawLeft JawRight JawForward JawX JawZ MouthClosed MouthRaiserUpper MouthRaiserLower TongueOut EyeLeftX
EyeRightX EyeY
"""


def messages(packets):
    return {message.address: message.params for packet in packets for message in OscBundle(packet)}


def test_a_clip_as_vrchat_reads_it():
    for k, (record, packets) in enumerate(received("vrchat://127.0.0.1:{port}")):
        found, face = messages(packets), first_face(record)
        assert {address: found[address] for address in FLAGS} == {flag: [k not in GONE] for flag in FLAGS}
        if face is None:
            assert set(found) == FLAGS
            continue
        weights = face["blendshapes"]
        (left_yaw, left_pitch), (right_yaw, right_pitch) = (logged_gaze_deg(face, side) for side in ("Left", "Right"))
        gaze = [left_pitch, left_yaw, right_pitch, right_yaw]  # degrees, positive down and to the subject's right
        assert found["/tracking/eye/LeftRightPitchYaw"] == pytest.approx(gaze, abs=6e-3)
        closed = (weights["eyeBlinkLeft"] + weights["eyeBlinkRight"]) / 2
        assert found["/tracking/eye/EyesClosedAmount"] == pytest.approx([closed], abs=1e-4)
        for prefix in ("v2/", "FT/v2/"):
            of = {name: found[f"/avatar/parameters/{prefix}{name}"][0] for name in ("JawOpen", "JawX", "EyeY")}
            assert of["JawOpen"] == pytest.approx(weights["jawOpen"], abs=1e-4)
            assert of["JawX"] == pytest.approx(weights["jawRight"] - weights["jawLeft"], abs=1e-4)
            for side in ("Left", "Right"):
                smile = found[f"/avatar/parameters/{prefix}MouthCornerPull{side}"]
                assert smile == pytest.approx([weights[f"mouthSmile{side}"]], abs=1e-4)


def test_all_parameters_are_there_and_in_range():
    names = {name + side for name in SIDED.split() for side in ("Left", "Right")} | set(SINGLE.split())
    record, _ = next(received("vrchat://127.0.0.1:{port}", frames=1))
    found = v2_parameters(first_face(record)["blendshapes"])
    assert set(found) == names
    assert all(-1 <= value <= 1 for value in found.values())


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, {"EyeLidLeft": 0.75, "EyeLidRight": 0.75, "LipSuckUpperLeft": 0}),
        ({"eyeBlinkLeft": 1}, {"EyeLidLeft": 0, "EyeLidRight": 0.75}),
        ({"eyeWideRight": 1}, {"EyeLidRight": 1, "EyeLidLeft": 0.75}),
        ({"eyeBlinkLeft": 0.5, "eyeSquintLeft": 1}, {"EyeLidLeft": 0}),
        ({"eyeLookOutLeft": 1, "eyeLookInRight": 1}, {"EyeLeftX": -1, "EyeRightX": -1}),  # to the subject's left
        ({"eyeLookUpLeft": 1, "eyeLookUpRight": 1}, {"EyeY": 1}),
        ({"mouthLeft": 0.5}, {"MouthUpperLeft": 0.5, "MouthLowerLeft": 0.5, "MouthUpperRight": 0}),
        ({"mouthRollUpper": 1, "mouthUpperUpLeft": 0.75}, {"LipSuckUpperLeft": 0.25, "LipSuckUpperRight": 1}),
        ({"browDownRight": 0.5}, {"BrowPinchRight": 0.5, "BrowLowererRight": 0.5}),
        ({"cheekPuff": 0.5}, {"CheekPuffLeft": 0.5, "CheekPuffRight": 0.5}),
        ({"jawRight": 1}, {"JawX": 1}),
    ],
)
def test_parameters_of_single_expressions(weights, expected):
    found = v2_parameters(weights)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
