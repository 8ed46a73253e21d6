"""Live controls and calibration files: what becomes of the faces that leave the program."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facet.tracker.calibration import (
    Calibration,
    Centre,
    ShapeCalibration,
    ShapeTable,
    centred,
    load_calibration,
    save_calibration,
)
from facet.tracker.controls import COMMANDS, WAITING, Controls
from facet.tracker.errors import ConfigError
from facet.tracker.morphable import load_face_model, project
from facet.tracker.outputs.avatar import Moved
from facet.tracker.outputs.openseeface import face_packet
from facet.tracker.pose import camera_from_pose, rotation_from_angles
from facet.tracker.types import FaceTrack, Frame, Pose, Roi, TrackState
from tests.conftest import ROOT


def face(yaw=0.0, pitch=0.0, roll=0.0, place=(0.0, 0.0, 600.0), number=1, **more) -> FaceTrack:
    rotation = rotation_from_angles(yaw, pitch, roll).astype(np.float32)
    pose = Pose(rotation, 1.0, np.float32([100, 100, 0]), yaw, pitch, roll)
    values = {"blendshapes": {"jawOpen": 0.4, "mouthFunnel": 0.1}} | more
    return FaceTrack(
        id=number,
        state=TrackState.TRACKED,
        score=1.0,
        detected=False,
        roi=Roi(0, 0, 1),
        model_to_image=camera_from_pose(pose),
        shape=np.zeros(48, np.float32),
        expression=values.pop("expression", np.zeros(53, np.float32)),
        pose=pose,
        landmarks=np.zeros((68, 3), np.float32),
        translation_mm=np.float32(place),
        **values,
    )


def angles(found: FaceTrack) -> tuple[float, float, float]:
    return found.pose.yaw_deg, found.pose.pitch_deg, found.pose.roll_deg


@pytest.mark.parametrize("turn", [(0, 0, 0), (20, 0, 0), (-30, 12, 5), (0, -25, 0), (40, 10, -15)])
def test_a_head_at_its_centre_is_at_zero(turn):
    controls, here = Controls(), face(*turn, place=(50, -20, 700))
    controls.post("centre")
    (found,) = controls((here,), 0.0)
    np.testing.assert_allclose(angles(found), 0, atol=1e-4)
    np.testing.assert_allclose(found.pose.rotation, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(found.translation_mm, 0, atol=1e-4)
    assert found.image_pose is here.pose and found.model_to_image is here.model_to_image


@pytest.mark.parametrize("turn", [(30, 0, 0), (0, 25, 0), (-20, 15, 0)])
def test_a_turn_from_the_centre_is_about_the_heads_own_axes(turn):
    """Who faces a screen beside the camera and turns by 15 degrees is seen to turn by 15 degrees, and by no other."""
    controls, base = Controls(), rotation_from_angles(*turn)
    controls.post("centre")
    controls((face(*turn),), 0.0)
    moved = face(*turn)
    rotation = (base @ rotation_from_angles(15, 0, 0)).astype(np.float32)
    (found,) = controls((replace(moved, pose=replace(moved.pose, rotation=rotation)),), 0.1)
    np.testing.assert_allclose(angles(found), (15, 0, 0), atol=1e-3)


def test_a_move_from_the_centre_is_along_the_heads_own_axes():
    """Yaw 90 at the centre: the head looks to image left, so a step to image left is a step forward, to smaller z."""
    centre = Centre.of(rotation_from_angles(90, 0, 0), np.array([0.0, 0.0, 600.0]))
    found = centred(face(90, place=(-100, 0, 600)), centre)
    np.testing.assert_allclose(found.translation_mm, (0, 0, -100), atol=1e-3)


def test_senders_that_move_the_body_count_from_the_centre():
    moved, controls = Moved(), Controls()
    (first,) = controls((face(place=(0, 0, 600)),), 0.0)
    np.testing.assert_allclose(moved(first), 0)
    controls.post("centre")
    (second,) = controls((face(place=(80, 0, 500)),), 0.1)
    np.testing.assert_allclose(moved(second), 0, atol=1e-4)
    (third,) = controls((face(place=(80, 30, 450)),), 0.2)
    np.testing.assert_allclose(moved(third), (0, 30, 50), atol=1e-4)


def test_openseeface_gets_the_centre_too_and_the_points_of_the_head_as_they_are():
    """Its packet: after the eyes and a flag the quaternion, the angles and the place; 3D points follow the 2D ones."""
    controls, frame = Controls(), Frame(0, 0.0, np.zeros((480, 640, 3), np.uint8))
    points = np.random.default_rng(3).uniform(100, 200, (68, 3)).astype(np.float32)
    here = replace(face(25, 10, -5, place=(60, 20, 700)), landmarks=points)
    frontal = replace(face(), landmarks=points)

    def packet(one):
        data = face_packet(frame, one, 0, 0.0)
        # time, number, 6 of size and eyes, 1 of success, error, then quaternion, angles, place
        return np.frombuffer(data, "<f4", 10, 33), np.frombuffer(data[73:], "<f4")

    controls.post("centre")
    (centred_one,) = controls((here,), 0.0)
    head, rest = packet(centred_one)
    np.testing.assert_allclose(head[:4], packet(frontal)[0][:4], atol=1e-6)
    np.testing.assert_allclose(head[4:7] % 360, packet(frontal)[0][4:7] % 360, atol=1e-3)
    np.testing.assert_allclose(head[7:], 0, atol=1e-6)
    np.testing.assert_allclose(rest, packet(here)[1], atol=1e-4)
    (moved,) = controls((replace(here, translation_mm=np.float32([200, 90, 700])),), 0.1)
    offset = rotation_from_angles(25, 10, -5).T @ (140, 70, 0)
    expected = (offset[1] / 140, -offset[0] / 140, 1.1547 * offset[2] / 140)
    np.testing.assert_allclose(packet(moved)[0][7:], expected, atol=1e-3)


def test_each_face_has_its_centre_and_later_ones_that_of_the_first():
    controls = Controls()
    controls.post("centre")
    found = controls((face(10, number=1), face(-20, number=2)), 0.0)
    np.testing.assert_allclose([angles(one)[0] for one in found], 0, atol=1e-4)
    (later,) = controls((face(25, number=3),), 5.0)
    assert angles(later)[0] == pytest.approx(15, abs=1e-3)
    controls.post("uncentre")
    same = face(25, number=3)
    assert controls((same,), 5.1) == (same,)


def test_nothing_set_is_nothing_changed():
    faces = (face(5), face(6, number=2))
    assert Controls()(faces, 0.0) is faces


def test_centre_without_a_face_says_so():
    controls = Controls()
    controls.post("centre")
    assert controls((), 0.0) == ()
    assert list(controls.notes) == ["no face to centre"] and not controls.state()["centred"]


def test_the_automatic_centre_follows_and_stops_while_the_face_is_gone():
    controls = Controls(Calibration(auto_centre_s=1.0, centre=Centre()))
    for step in range(31):
        (found,) = controls((face(20),), step / 30)
    # after one time constant 1/e of 20 degrees is left
    assert angles(found)[0] == pytest.approx(20 * np.exp(-1), rel=0.03)
    before = controls.calibration.centre
    for step in range(31, 400):
        assert controls((), step / 30) == ()
    assert controls.calibration.centre == before
    controls((face(20),), 400 / 30)
    assert controls.calibration.centre.yaw_deg == pytest.approx(before.yaw_deg), "the gap counts for nothing"
    before = controls.calibration.centre
    controls.post("auto_centre", "off")
    for step in range(401, 440):
        controls((face(60),), step / 30)
    assert controls.calibration.centre == before


def test_frozen_faces_stand_still_even_where_nobody_is():
    controls = Controls()
    (shown,) = controls((face(5),), 0.0)
    controls.post("freeze")
    assert controls((face(30),), 0.1) == (shown,) and controls((), 0.2) == (shown,)
    controls.post("freeze", "off")
    assert angles(controls((face(30),), 0.3)[0])[0] == 30


def test_pause_and_relearn():
    called = []
    controls = Controls(relearn_rest=lambda: called.append(1))
    controls.post("pause")
    controls.post("relearn")
    controls((), 0.0)
    assert not controls.sending and called == [1]
    controls.post("pause", False)
    controls((), 0.1)
    assert controls.sending


@pytest.mark.parametrize(
    "shape, value, expected",
    [
        (ShapeCalibration(), 0.4, 0.4),
        (ShapeCalibration(gain=2.0), 0.4, 0.8),
        (ShapeCalibration(gain=4.0), 0.4, 1.0),
        (ShapeCalibration(offset=-0.5), 0.4, 0.0),
        (ShapeCalibration(gain=2.0, offset=-0.1, low=0.1, high=0.6), 0.4, 0.6),
        (ShapeCalibration(low=0.3), 0.1, 0.3),
    ],
)
def test_gain_offset_and_limits(shape, value, expected):
    controls = Controls(Calibration(shapes={"jawOpen": shape}))
    (found,) = controls((face(blendshapes={"jawOpen": value, "mouthFunnel": 0.2}),), 0.0)
    assert found.blendshapes["jawOpen"] == pytest.approx(expected)
    assert found.blendshapes["mouthFunnel"] == 0.2


def test_the_mesh_moves_by_calibrated_weights():
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    rng = np.random.default_rng(1)
    expression = rng.uniform(0, 0.5, model.expression_count).astype(np.float32)
    here = face(20, expression=expression)
    vertices = project(model.vertices(here.shape, expression), here.model_to_image)
    found = ShapeTable({"jawOpen": ShapeCalibration(gain=1.5), "browInnerUp": ShapeCalibration(high=0.1)}, model)(
        replace(here, vertices=vertices)
    )
    names = list(model.expression_names)
    expected = expression.copy()
    expected[names.index("jawOpen")] *= 1.5
    for side in "LR":
        k = names.index(f"browInnerUp_{side}")
        expected[k] = min(expected[k], 0.1)
    np.testing.assert_allclose(found.expression, expected, atol=1e-6)
    again = project(model.vertices(here.shape, expected), here.model_to_image)
    np.testing.assert_allclose(found.vertices, again, atol=1e-3)


@pytest.mark.parametrize(
    "name, values, message",
    [
        ("center", (), "unknown command center"),
        ("centre", (1,), "expected no value"),
        ("freeze", ("perhaps",), "on, off or toggle"),
        ("shape", ("jawOpen", "gain"), "gain, offset"),
        ("shape", ("jawOpn", "gain", 1), "did you mean jawOpen"),
        ("shape", ("jawOpen", "gian", 1), "gain, offset"),
        ("shape", ("jawOpen", "gain", "much"), "a number for gain"),
    ],
)
def test_wrong_commands_are_refused_when_they_are_posted(name, values, message):
    with pytest.raises(ConfigError, match=message):
        Controls().post(name, *values)


def test_a_value_out_of_range_changes_nothing_and_is_noted():
    controls = Controls()
    controls.post("shape", "jawOpen", "low", 2)
    controls((), 0.0)
    assert "low and high" in controls.notes[-1] and not controls.state()["shapes"]


def test_commands_come_from_many_threads_and_their_number_is_bounded():
    controls = Controls()
    threads = [threading.Thread(target=lambda: [controls.post("freeze") for _ in range(40)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not controls.post("freeze")
    controls((), 0.0)
    assert controls.frozen == bool(WAITING % 2) and controls.post("freeze")


def test_every_command_has_a_key_of_its_own_or_none():
    keys = [command.key for command in COMMANDS.values() if command.key]
    assert len(set(keys)) == len(keys)


def test_a_saved_calibration_reads_back(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("")
    controls = Controls(load_calibration(path), path=path)
    for command in (("centre",), ("shape", "jawOpen", "gain", 1.5), ("shape", "jawOpen", "high", 0.9), ("save",)):
        controls.post(*command)
    controls((face(12, 3, -4, place=(10, 20, 500)),), 0.0)
    again = load_calibration(path)
    assert again == controls.calibration
    assert again.shapes == {"jawOpen": ShapeCalibration(gain=1.5, high=0.9)}
    assert again.centre.yaw_deg == pytest.approx(12, abs=1e-4) and again.centre.z_mm == pytest.approx(500)


def test_without_a_file_nothing_is_saved():
    controls = Controls()
    controls.post("save")
    controls((), 0.0)
    assert "--calibration" in controls.notes[-1]


BAD = {
    "no TOML": ("[shapes", "not valid TOML"),
    "unknown key": ("gain = 1", "unknown key gain"),
    "unknown shape": ("[shapes.jawOpn]\ngain = 1", "did you mean jawOpen"),
    "unknown value": ("[shapes.jawOpen]\ngian = 1", "did you mean gain"),
    "text for a number": ('[shapes.jawOpen]\ngain = "much"', "gain must be of type float"),
    "limits that cross": ("[shapes.jawOpen]\nlow = 0.9\nhigh = 0.1", "low and high"),
    "no number": ("[shapes.jawOpen]\ngain = nan", "must be a number"),
    "a value for a table": ("shapes = 3", "shapes must be a table"),
    "a value for a shape": ("[shapes]\njawOpen = 3", "jawOpen must be a table"),
    "centre is no table": ("centre = 1", "centre must be a table"),
    "negative time": ("auto_centre_s = -1", "auto_centre_s"),
}


@pytest.mark.parametrize("text, message", BAD.values(), ids=BAD)
def test_bad_calibration_files_are_reported(tmp_path: Path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as found:
        load_calibration(path)
    assert "mine.toml" in str(found.value)


def test_a_missing_calibration_file_is_reported(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_calibration(tmp_path / "none.toml")


def test_an_empty_calibration_reads_back(tmp_path):
    save_calibration(tmp_path / "a.toml", Calibration())
    assert load_calibration(tmp_path / "a.toml") == Calibration()
