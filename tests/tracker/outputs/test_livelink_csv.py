"""The CSV of Live Link Face, read by name and by column, as the scripts of others do."""

import csv
import re

import numpy as np
import pytest

from facet.tracker.outputs.livelink_csv import timecode
from facet.tracker.outputs.logs import open_log
from facet.tracker.outputs.record import frame_record
from tests.tracker.outputs.clip import FRAMES, GONE, about, clip, first_face, logged_gaze_deg, logged_rotation
from tests.tracker.outputs.test_livelink import ORDER

HEADER = (  # of a file of the app
    "Timecode,BlendShapeCount,EyeBlinkLeft,EyeLookDownLeft,EyeLookInLeft,EyeLookOutLeft,EyeLookUpLeft,EyeSquintLeft,"
    "EyeWideLeft,EyeBlinkRight,EyeLookDownRight,EyeLookInRight,EyeLookOutRight,EyeLookUpRight,EyeSquintRight,"
    "EyeWideRight,JawForward,JawRight,JawLeft,JawOpen,MouthClose,MouthFunnel,MouthPucker,MouthRight,MouthLeft,"
    "MouthSmileLeft,MouthSmileRight,MouthFrownLeft,MouthFrownRight,MouthDimpleLeft,MouthDimpleRight,MouthStretchLeft,"
    "MouthStretchRight,MouthRollLower,MouthRollUpper,MouthShrugLower,MouthShrugUpper,MouthPressLeft,MouthPressRight,"
    "MouthLowerDownLeft,MouthLowerDownRight,MouthUpperUpLeft,MouthUpperUpRight,BrowDownLeft,BrowDownRight,BrowInnerUp,"
    "BrowOuterUpLeft,BrowOuterUpRight,CheekPuff,CheekSquintLeft,CheekSquintRight,NoseSneerLeft,NoseSneerRight,"
    "TongueOut,HeadYaw,HeadPitch,HeadRoll,LeftEyeYaw,LeftEyePitch,LeftEyeRoll,RightEyeYaw,RightEyePitch,RightEyeRoll"
)


def write(path, records):
    with open_log(path, ()) as log:
        for record in records:
            log.write(record)


def test_the_header_is_that_of_the_app(tmp_path):
    write(tmp_path / "take.livelink.csv", [])
    assert (tmp_path / "take.livelink.csv").read_bytes() == HEADER.encode() + b"\n"
    assert len(HEADER.split(",")) == 63 and set(HEADER.split(",")[2:]) == set(ORDER)


def test_a_clip_reads_back(tmp_path):
    records = [frame_record(frame, faces) for frame, faces in clip()]
    write(tmp_path / "take.livelink.csv", records)
    with open(tmp_path / "take.livelink.csv", newline="", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    seen = [record for record in records if first_face(record)]
    assert len(rows) == len(seen) == FRAMES - len(GONE)
    for row, record in zip(rows, seen, strict=True):
        face = first_face(record)
        assert row["BlendShapeCount"] == "61"
        hours, minutes, seconds, frames = re.fullmatch(r"(\d\d):(\d\d):(\d\d):(\d\d\.\d{3})", row["Timecode"]).groups()
        time_s = int(hours) * 3600 + int(minutes) * 60 + int(seconds) + float(frames) / 60
        assert time_s == pytest.approx(record["time_s"], abs=1e-5)
        assert all(re.fullmatch(r"-?\d\.\d{10}", row[name]) for name in ORDER)
        for name, weight in face["blendshapes"].items():
            assert float(row[name[0].upper() + name[1:]]) == pytest.approx(weight, abs=1e-9)
        yaw, pitch, roll = (np.degrees(float(row[f"Head{angle}"])) for angle in ("Yaw", "Pitch", "Roll"))
        found = about("y", -yaw) @ about("x", pitch) @ about("z", -roll)
        np.testing.assert_allclose(found, logged_rotation(face), atol=1e-7)
        for side in ("Left", "Right"):
            gaze = np.degrees([float(row[f"{side}EyeYaw"]), float(row[f"{side}EyePitch"])])
            assert gaze == pytest.approx(logged_gaze_deg(face, side), abs=1e-6)


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [
        (0.0, "00:00:00:00.000"),
        (1 / 60, "00:00:00:01.000"),
        (1 / 30, "00:00:00:02.000"),
        (0.999999999, "00:00:01:00.000"),
        (61.51, "00:01:01:30.600"),
        (3599.5, "00:59:59:30.000"),
        (25 * 3600.0, "01:00:00:00.000"),  # of the next day
    ],
)
def test_timecodes(time_s, expected):
    assert timecode(time_s) == expected
