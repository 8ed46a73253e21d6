"""OpenFace's columns, read as its users' scripts do, by its description of them."""

import csv

import numpy as np
import pytest

from facet.tracker.outputs.logs import open_log
from facet.tracker.outputs.record import frame_record
from tests.tracker.outputs.clip import GONE, about, clip, logged_gaze_deg, logged_rotation

INTENSITIES = "01 02 04 05 06 07 09 10 12 14 15 17 20 23 25 26 45"
FLIP = np.diag([1, -1, -1])  # its camera: x to image right, y down, z away


def header():
    """By the page, without the columns that are left out."""
    names = ["frame", "face_id", "timestamp", "confidence", "success"]
    names += ["gaze_0_x", "gaze_0_y", "gaze_0_z", "gaze_1_x", "gaze_1_y", "gaze_1_z", "gaze_angle_x", "gaze_angle_y"]
    names += ["pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz"]
    names += [f"{axis}_{k}" for axis in ("x", "y", "X", "Y", "Z") for k in range(68)]
    units = INTENSITIES.split()
    return [*names, *(f"AU{n}_r" for n in units), *(f"AU{n}_c" for n in sorted([*units, "28"]))]


def read(path):
    with open(path, newline="", encoding="ascii") as file:
        rows = list(csv.reader(file))
    return rows[0], [dict(zip(rows[0], map(float, row), strict=True)) for row in rows[1:]]


def write(path, records):
    with open_log(path, ()) as log:
        for record in records:
            log.write(record)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "clip.openface.csv"
    records = [frame_record(frame, faces) for frame, faces in clip()]
    write(path, records)
    names, rows = read(path)
    assert names == header()
    faces = [(record, face) for record in records for face in record["faces"] or [None]]
    return list(zip(rows, faces, strict=True))


def test_frames_and_success(recorded):
    for row, (record, face) in recorded:
        assert row["frame"] == record["frame"] + 1
        assert row["timestamp"] == pytest.approx(record["time_s"], abs=6e-4)
        if face is None:
            assert record["frame"] in GONE
            assert {value for name, value in row.items() if name not in ("frame", "timestamp")} == {0}
        else:
            assert (row["success"], row["face_id"]) == (1, face["id"] - 1)
            assert row["confidence"] == face["score"]


def test_the_pose_turns_the_head_as_logged(recorded):
    """Its R = Rx Ry Rz in its camera."""
    for row, (_, face) in recorded:
        if face:
            x, y, z = (np.degrees(row[f"pose_R{axis}"]) for axis in "xyz")
            found = about("x", x) @ about("y", y) @ about("z", z)
            np.testing.assert_allclose(found, FLIP @ logged_rotation(face) @ FLIP, atol=2e-4)
            place = [row[f"pose_T{axis}"] for axis in "xyz"]
            np.testing.assert_allclose(place, np.array(face["translation_mm"]) * (1, -1, 1), atol=0.006)


def test_points(recorded):
    for row, (_, face) in recorded[::20]:
        if face:
            points = np.array(face["landmarks"])
            flat = np.array([[row[f"{axis}_{k}"] for axis in "xy"] for k in range(68)])
            np.testing.assert_allclose(flat, points[:, :2] - 0.5, atol=0.006)
            solid = np.array([[row[f"{axis}_{k}"] for axis in "XYZ"] for k in range(68)])
            pose = face["pose"]
            # from the head's origin, in millimetres of the image: the same as in pixels, nearer is a smaller Z
            expected = (points - pose["translation_px"]) / pose["scale_px_per_mm"] * (1, 1, -1)
            place = [row[f"pose_T{axis}"] for axis in "xyz"]
            np.testing.assert_allclose(solid - place, expected, atol=0.02)


def test_gaze(recorded):
    for row, (_, face) in recorded:
        if not face:
            continue
        vectors = np.array([[row[f"gaze_{eye}_{axis}"] for axis in "xyz"] for eye in (0, 1)])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        for vector, side in zip(vectors, ("Right", "Left"), strict=True):  # eye 0 is the one at image left
            yaw, pitch = logged_gaze_deg(face, side)
            ahead = about("y", -yaw) @ about("x", pitch) @ (0, 0, 1)
            np.testing.assert_allclose(vector, FLIP @ logged_rotation(face) @ ahead, atol=2e-4)
        x, y, z = vectors.mean(axis=0)
        # to the subject's left, which is image right, and down are positive
        assert row["gaze_angle_x"] == pytest.approx(np.arctan2(x, -z), abs=1e-3)
        assert row["gaze_angle_y"] == pytest.approx(np.arctan2(y, -z), abs=1e-3)


@pytest.mark.parametrize(
    ("weights", "unit", "intensity"),
    [
        ({"browInnerUp": 0.5}, "01", 2.5),
        ({"browOuterUpLeft": 0.5}, "02", 1.25),
        ({"mouthSmileLeft": 1, "mouthSmileRight": 1}, "12", 5),
        ({"jawOpen": 0.1}, "26", 0.5),
        ({"jawOpen": 0.4}, "25", 2),
        ({"jawOpen": 0.4, "mouthClose": 0.4}, "25", 0),
        ({"eyeBlinkLeft": 1, "eyeBlinkRight": 1}, "45", 5),
        ({}, "04", 0),
    ],
)
def test_action_units_are_shares_of_five(tmp_path, weights, unit, intensity):
    frame, (track,) = next(clip())
    record = frame_record(frame, (track,))
    record["faces"][0]["blendshapes"] = dict.fromkeys(record["faces"][0]["blendshapes"], 0.0) | weights
    write(tmp_path / "a.openface.csv", [record])
    _, (row,) = read(tmp_path / "a.openface.csv")
    assert row[f"AU{unit}_r"] == pytest.approx(intensity)
    assert row[f"AU{unit}_c"] == (intensity >= 1)


def test_a_face_whose_place_is_unknown(tmp_path):
    frame, (track,) = next(clip())
    record = frame_record(frame, (track,))
    record["faces"][0] |= {"translation_mm": None, "score": None}
    write(tmp_path / "a.openface.csv", [record])
    _, (row,) = read(tmp_path / "a.openface.csv")
    assert (row["pose_Tx"], row["pose_Tz"], row["confidence"]) == (0, 0, 1)
