import math

import numpy as np
import pytest

from facet.tracker.pose import (
    angles_from_rotation,
    camera_from_pose,
    model_to_image,
    nearest_rotation,
    pose_from_camera,
    rotation_from_angles,
    translation_mm,
)
from facet.tracker.types import Roi

ANGLES = [(0, 0, 0), (30, -20, 10), (-75, 40, -160), (89, 5, 5), (10, 80, 179), (-45, -60, 90)]


def camera(yaw=0.0, pitch=0.0, roll=0.0, scale=2.0, translation=(320.0, 240.0, 0.0)):
    matrix = np.empty((3, 4))
    matrix[:, :3] = np.diag([scale, -scale, scale]) @ rotation_from_angles(yaw, pitch, roll)
    matrix[:, 3] = translation
    return matrix


@pytest.mark.parametrize("angles", ANGLES)
def test_angles_and_rotation_are_inverse(angles):
    rotation = rotation_from_angles(*angles)
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert angles_from_rotation(rotation) == pytest.approx(angles, abs=1e-6)


@pytest.mark.parametrize("yaw", [90, -90])
@pytest.mark.parametrize("pitch", [0, 35, -120])
@pytest.mark.parametrize("roll", [0, 25])
def test_at_a_right_angle_of_yaw_the_rotation_is_still_reported(yaw, pitch, roll):
    rotation = rotation_from_angles(yaw, pitch, roll)
    found = angles_from_rotation(rotation)
    assert found[2] == 0
    assert rotation_from_angles(*found) == pytest.approx(rotation, abs=1e-9)


def test_signs_are_those_of_the_conventions():
    nose, brow, left_eye = np.array([0, 0, 100.0]), np.array([0, 60.0, 80]), np.array([30.0, 30, 60])
    assert (rotation_from_angles(20, 0, 0) @ nose)[0] < 0  # to image left
    assert (rotation_from_angles(0, 20, 0) @ nose)[1] < 0  # nods down
    assert (rotation_from_angles(0, 0, 20) @ brow)[0] < 0  # counter-clockwise on the screen: the brow goes left,
    assert (rotation_from_angles(0, 0, 20) @ left_eye)[1] > left_eye[1]  # what is right on the screen goes up


@pytest.mark.parametrize("angles", ANGLES)
def test_mirrored_face_has_the_negated_yaw_and_roll(angles):
    mirror = np.diag([-1.0, 1, 1])
    mirrored = mirror @ rotation_from_angles(*angles) @ mirror
    assert angles_from_rotation(mirrored) == pytest.approx((-angles[0], angles[1], -angles[2]), abs=1e-6)


@pytest.mark.parametrize("angles", ANGLES)
def test_pose_of_a_camera(angles):
    matrix = camera(*angles, scale=1.7, translation=(101.5, -7.25, 3.0))
    pose = pose_from_camera(matrix)
    assert (pose.yaw_deg, pose.pitch_deg, pose.roll_deg) == pytest.approx(angles, abs=1e-4)
    assert pose.scale_px_per_mm == pytest.approx(1.7)
    assert pose.translation_px == pytest.approx((101.5, -7.25, 3.0))
    assert pose.rotation.dtype == pose.translation_px.dtype == np.float32
    assert camera_from_pose(pose) == pytest.approx(matrix, abs=1e-4)


def test_nearest_rotation_is_the_one_of_the_singular_value_decomposition():
    random = np.random.default_rng(0)
    for _ in range(50):
        rows = rotation_from_angles(*random.uniform(-80, 80, 3))[:2] + random.normal(0, 0.1, (2, 3))
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        u, _, v = np.linalg.svd(unit, full_matrices=False)
        rotation = nearest_rotation(rows * [[0.3], [7.0]])
        assert rotation[:2] == pytest.approx(u @ v, abs=1e-9)
        assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, 3)),
        [[1, 0, 0], [0, 0, 0]],
        [[1, 0, 0], [2, 0, 0]],
        [[1, 0, 0], [-1, 0, 0]],
        np.full((2, 3), np.nan),
    ],
)
def test_a_camera_without_extent_has_no_rotation(rows):
    assert (nearest_rotation(np.array(rows, float)) == np.eye(3)).all()


def test_model_to_image_moves_points_as_the_crop_does():
    roi = Roi(37.5, -12.25, 224.0)
    matrix = camera(25, 10, -5, scale=0.5, translation=(60, 61, 2))
    point = np.array([12.0, -30.0, 44.0, 1.0])
    in_crop = matrix @ point
    in_image = model_to_image(matrix, roi, 112) @ point
    assert in_image == pytest.approx((in_crop[0] * 2 + 37.5, in_crop[1] * 2 - 12.25, in_crop[2] * 2), abs=1e-4)


@pytest.mark.parametrize("roll", [20.0, -75.0])
def test_turned_crop_gives_its_roll_back(roll):
    """A head that is upright in a crop turned by `roll` has that roll in the image, about the same place."""
    roi = Roi(100, 100, 200, roll)
    matrix = model_to_image(camera(15, -10, 0, scale=0.5, translation=(56, 56, 0)), roi, 112)
    pose = pose_from_camera(matrix)
    assert (pose.yaw_deg, pose.pitch_deg, pose.roll_deg) == pytest.approx((15, -10, roll), abs=1e-3)
    assert pose.translation_px[:2] == pytest.approx((200, 200))


def test_translation_is_what_a_pinhole_sees():
    focal = 640 / math.tan(math.radians(30))
    x, y, z = 120.0, -80.0, 900.0  # right, up, away
    scale = focal / z
    matrix = camera(20, 5, 3, scale=scale, translation=(640 + x * scale, 360 - y * scale, 0))
    assert translation_mm(matrix, (1280, 720), 60.0) == pytest.approx((x, y, z), rel=1e-5)
    # the longer side counts, upright pictures too
    matrix[:2, 3] = 360 + x * scale, 640 - y * scale
    assert translation_mm(matrix, (720, 1280), 60.0) == pytest.approx((x, y, z), rel=1e-5)


def test_translation_of_a_camera_without_extent_is_infinite():
    assert np.isinf(translation_mm(np.zeros((3, 4)), (640, 480))).all()
