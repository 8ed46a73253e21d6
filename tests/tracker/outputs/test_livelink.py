"""Live Link Face, read as its receivers read it."""

import struct

import numpy as np
import pytest

from facet.tracker.outputs.livelink import livelink_packet
from tests.tracker.outputs.clip import GONE, about, first_face, logged_gaze_deg, logged_rotation, received

# as the packet of the app has them
NAMES = """
EyeBlinkLeft EyeLookDownLeft EyeLookInLeft EyeLookOutLeft EyeLookUpLeft EyeSquintLeft EyeWideLeft EyeBlinkRight
EyeLookDownRight EyeLookInRight EyeLookOutRight EyeLookUpRight EyeSquintRight EyeWideRight JawForward JawLeft JawRight
JawOpen MouthClose MouthFunnel MouthPucker MouthLeft MouthRight MouthSmileLeft MouthSmileRight MouthFrownLeft
MouthFrownRight MouthDimpleLeft MouthDimpleRight MouthStretchLeft MouthStretchRight MouthRollLower MouthRollUpper
MouthShrugLower MouthShrugUpper MouthPressLeft MouthPressRight MouthLowerDownLeft MouthLowerDownRight MouthUpperUpLeft
MouthUpperUpRight BrowDownLeft BrowDownRight BrowInnerUp BrowOuterUpLeft BrowOuterUpRight CheekPuff CheekSquintLeft
CheekSquintRight NoseSneerLeft NoseSneerRight TongueOut HeadYaw HeadPitch HeadRoll LeftEyeYaw LeftEyePitch LeftEyeRoll
RightEyeYaw RightEyePitch RightEyeRoll
"""
ORDER = NAMES.split()


def read(data):
    """The fields of a packet; without values where it ends after the time."""
    offset = 0

    def take(form):
        nonlocal offset
        values = struct.unpack_from(">" + form, data, offset)
        offset += struct.calcsize(">" + form)
        return values[0] if len(values) == 1 else values

    fields = {"version": take("B")}
    fields["device"] = take(f"{take('i')}s").decode()
    fields["subject"] = take(f"{take('i')}s").decode()
    fields |= dict(zip(("frame", "sub", "numerator", "denominator"), take("ifii"), strict=True))
    if offset < len(data):
        assert take("B") == 61
        fields["values"] = dict(zip(ORDER, take("61f"), strict=True))
    assert offset == len(data)
    return fields


def test_the_known_packet_byte_for_byte():
    values = [0.0] * 61
    values[17], values[52] = 0.5, 0.25
    data = livelink_packet(values, 1800, 0.0, rate=30)
    assert len(data) == 311
    assert data[:5] == bytes.fromhex("0600000024") and data[5:41] == b"00000000-0000-4000-8000-000000FACE70"
    assert data[41:67] == bytes.fromhex("00000005 6661636574 00000708 00000000 0000001e 00000001 3d")
    assert struct.unpack(">61f", data[67:]) == tuple(values)
    assert read(data)["values"]["JawOpen"] == 0.5 and read(data)["values"]["HeadYaw"] == 0.25


def test_a_clip_as_receivers_read_it():
    for k, (record, (data,)) in enumerate(received("livelink://127.0.0.1:{port}")):
        fields, face = read(data), first_face(record)
        assert (fields["version"], len(fields["device"]), fields["subject"]) == (6, 36, "facet")
        rate = fields["numerator"] / fields["denominator"]
        assert (fields["frame"] + fields["sub"]) / rate == pytest.approx(record["time_s"], abs=1e-4)
        assert (face is None) == ("values" not in fields) == (k in GONE)
        if face is None:
            assert len(data) == 66
            continue
        values = fields["values"]
        for name, weight in face["blendshapes"].items():
            assert values[name[0].upper() + name[1:]] == pytest.approx(weight, abs=6e-5), name
        assert values["TongueOut"] == values["LeftEyeRoll"] == values["RightEyeRoll"] == 0
        yaw, pitch, roll = (np.degrees(values[f"Head{angle}"]) for angle in ("Yaw", "Pitch", "Roll"))
        # yaw to his right is image left; pitch down; roll clockwise on the screen; yaw is the last that turns
        found = about("y", -yaw) @ about("x", pitch) @ about("z", -roll)
        np.testing.assert_allclose(found, logged_rotation(face), atol=1e-4)
        for side in ("Left", "Right"):
            gaze = np.degrees([values[f"{side}EyeYaw"], values[f"{side}EyePitch"]])
            assert gaze == pytest.approx(logged_gaze_deg(face, side), abs=6e-3)


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_an_eye_that_looks_to_the_subjects_right_has_a_positive_yaw(side):
    """The app: the left eye's yaw is positive towards the nose, the right eye's away from it."""
    record, (data,) = next(received("livelink://127.0.0.1:{port}", frames=1))
    weights = first_face(record)["blendshapes"]
    towards_right = weights[f"eyeLook{'In' if side == 'Left' else 'Out'}{side}"]
    away = weights[f"eyeLook{'Out' if side == 'Left' else 'In'}{side}"]
    assert np.sign(read(data)["values"][f"{side}EyeYaw"]) == np.sign(towards_right - away) != 0
