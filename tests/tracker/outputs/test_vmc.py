"""VMC with the names of VRM, the bones of a body, and a whole clip."""

import math

import numpy as np
import pytest
from pythonosc.osc_bundle import OscBundle

from facet.tracker.outputs.avatar import turned_part
from facet.tracker.outputs.vmc import vrm_presets
from tests.tracker.outputs.clip import GONE, about, first_face, logged_gaze_deg, logged_rotation, received

MIRROR = np.diag([-1, 1, 1])  # Unity: y up, left-handed, the avatar looks along z, its right hand at positive x
VRM0 = {"A", "I", "U", "E", "O", "Blink", "Blink_L", "Blink_R", "LookUp", "LookDown", "LookLeft", "LookRight"}
VRM1 = {"aa", "ih", "ou", "ee", "oh", "blink", "blinkLeft", "blinkRight"}
VRM1 |= {"lookUp", "lookDown", "lookLeft", "lookRight"}


def messages(packets):
    return [(message.address, message.params) for packet in packets for message in OscBundle(packet)]


def weights_of(found):
    return {params[0]: params[1] for address, params in found if address == "/VMC/Ext/Blend/Val"}


def bones_of(found):
    """The rotations of bones, (3, 3) in our axes, by name."""
    bones = {}
    for address, params in found:
        if address == "/VMC/Ext/Bone/Pos":
            name, *numbers = params
            axis, w = np.array(numbers[3:6]), numbers[6]
            turned = [v + 2 * np.cross(axis, np.cross(axis, v) + w * v) for v in np.eye(3)]
            bones[name] = MIRROR @ np.array(turned).T @ MIRROR
    return bones


def test_a_clip_as_receivers_read_it():
    for k, (record, packets) in enumerate(received("osc://127.0.0.1:{port}")):
        found, face = messages(packets), first_face(record)
        time = pytest.approx(record["time_s"], abs=2e-6)
        assert found[:2] == [("/VMC/Ext/OK", [int(k not in GONE)]), ("/VMC/Ext/T", [time])]
        if face is None:
            assert len(found) == 2
            continue
        assert weights_of(found) == pytest.approx(face["blendshapes"] | {"tongueOut": 0}, abs=6e-5)
        assert list(bones_of(found)) == ["Head"]
        np.testing.assert_allclose(bones_of(found)["Head"], logged_rotation(face), atol=1e-4)


def test_the_whole_body_of_a_clip():
    first = None
    for record, packets in received("osc://127.0.0.1:{port}?bones=all", frames=150):
        found, face = messages(packets), first_face(record)
        if face is None:
            continue
        bones = bones_of(found)
        assert set(bones) == {"Neck", "Head", "LeftEye", "RightEye"}
        np.testing.assert_allclose(bones["Neck"] @ bones["Head"], logged_rotation(face), atol=1e-4)
        for side in ("Left", "Right"):
            yaw, pitch = logged_gaze_deg(face, side)
            np.testing.assert_allclose(bones[f"{side}Eye"], about("y", -yaw) @ about("x", pitch), atol=2e-4)
        ((root, *numbers),) = [params for address, params in found if address == "/VMC/Ext/Root/Pos"]
        place = np.array(face["translation_mm"])
        first = place if first is None else first
        right, up, away = (place - first) / 1000  # image right is the subject's left, which is at negative x
        assert root == "root" and numbers == pytest.approx([-right, up, -away, 0, 0, 0, 1], abs=2e-5)


@pytest.mark.parametrize("names", ["vrm0", "vrm1", "all"])
def test_names_that_are_sent(names):
    record, packets = next(received(f"osc://127.0.0.1:{{port}}?names={names}", frames=1))
    arkit = set(first_face(record)["blendshapes"]) | {"tongueOut"}
    expected = {"vrm0": VRM0, "vrm1": VRM1, "all": VRM0 | VRM1 | arkit}[names]
    found = weights_of(messages(packets))
    assert set(found) == expected
    assert all(0 <= weight <= 1 for weight in found.values())
    if names == "all":
        assert found["A"] == found["aa"] and found["Blink_L"] == found["blinkLeft"]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({}, {}),
        ({"jawOpen": 0.8}, {"aa": 0.8}),
        ({"jawOpen": 0.8, "mouthClose": 0.8}, {}),  # the jaw is down behind closed lips
        ({"mouthPucker": 1.0}, {"ou": 1.0}),
        ({"mouthFunnel": 1.0, "jawOpen": 0.5}, {"oh": 1.0}),
        ({"mouthStretchLeft": 1.0, "mouthStretchRight": 1.0}, {"ih": 1.0}),
        ({"mouthStretchLeft": 1.0, "mouthStretchRight": 1.0, "jawOpen": 0.5}, {"ee": 1.0}),
        ({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}, {"blink": 1.0}),
        ({"eyeBlinkLeft": 1.0}, {"blinkLeft": 1.0}),
        ({"eyeBlinkLeft": 0.5, "eyeBlinkRight": 0.75}, {"blink": 0.5, "blinkRight": 0.25}),
        ({"eyeLookUpLeft": 1.0, "eyeLookUpRight": 1.0}, {"lookUp": 1.0}),
        ({"eyeLookDownLeft": 1.0, "eyeLookDownRight": 1.0}, {"lookDown": 1.0}),
        ({"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}, {"lookLeft": 1.0}),
        ({"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0}, {"lookRight": 1.0}),
        ({"eyeLookInLeft": 1.0, "eyeLookInRight": 1.0}, {}),  # cross-eyed
    ],
)
def test_presets_of_single_expressions(weights, expected):
    found = {name: weight for name, weight in vrm_presets(weights).items() if weight}
    assert found == pytest.approx(expected)


def test_vowels_never_add_up_to_more_than_one():
    rng = np.random.default_rng(0)
    names = [f"mouth{n}" for n in ("Pucker", "Funnel", "StretchLeft", "StretchRight", "SmileLeft", "SmileRight")]
    for _ in range(200):
        found = vrm_presets(dict(zip([*names, "jawOpen"], rng.random(7), strict=True)))
        vowels = [found[name] for name in ("aa", "ih", "ou", "ee", "oh")]
        assert sum(vowels) <= 1 + 1e-9 and min(vowels) >= 0


def test_a_part_of_a_turn():
    turn = about("y", 50) @ about("x", 20)
    assert np.degrees(math.acos((np.trace(turned_part(turn, 0.4)) - 1) / 2)) == pytest.approx(
        0.4 * np.degrees(math.acos((np.trace(turn) - 1) / 2))
    )
    np.testing.assert_allclose(np.linalg.matrix_power(turned_part(turn, 0.2), 5), turn, atol=1e-9)
    np.testing.assert_allclose(turned_part(np.eye(3), 0.4), np.eye(3))
