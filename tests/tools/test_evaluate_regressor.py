"""The figures that the evaluation tells, against values by hand."""

import numpy as np
import pytest

pytest.importorskip("torch")
from tests.conftest import material as need_material
from tools import evaluate
from tools.data.split import held_out
from tools.evaluation import blink, crops, jitter, landmarks, pose, score
from tracker.crop import CropSpec, roi_from_landmarks


def faces(count=3):
    rng = np.random.default_rng(0)
    truth = rng.uniform(10, 90, (count, 68, 2))
    truth[:, 0], truth[:, 1] = (0, 0), (100, 100)
    truth[:, 36], truth[:, 45] = (30, 50), (70, 50)
    return truth


def test_a_perfect_tracker_has_no_error():
    truth = faces()
    result = landmarks.metrics(truth, truth)
    assert result["nme"] == result["inner"] == result["offset"] == result["failures_10"] == result["std"] == 0
    assert result["auc_10"] == 1


def test_landmark_errors_by_hand():
    truth = faces()
    result = landmarks.metrics(truth + np.array([3.0, 4.0]), truth)
    assert result["nme"] == pytest.approx(5.0)
    assert result["inner"] == pytest.approx(100 * 5 / 40)
    assert result["offset"] == pytest.approx(4.0)
    assert result["std"] == pytest.approx(0.0)
    assert result["auc_10"] == pytest.approx(26 / 50)  # thresholds 5.0, 5.2, ... 10 are reached
    far = landmarks.metrics(truth + 20.0, truth)
    assert far["failures_10"] == 100 and far["auc_10"] == 0


def test_lip_and_mouth_errors_are_of_distances():
    truth = faces()
    wider = truth.copy()
    wider[:, 54] += (truth[:, 54] - truth[:, 48]) * 0.5
    result = landmarks.metrics(wider, truth)
    width = np.linalg.norm(truth[:, 54] - truth[:, 48], axis=1)
    assert result["mouth_width"] == pytest.approx(100 * (0.5 * width / 40).mean())
    assert result["lips"] == 0


def test_a_face_elsewhere_is_a_miss():
    truth = faces(1)[0]
    image = np.zeros((10, 10, 3), np.uint8)
    result, found = landmarks.judge(lambda _: [truth + 500, truth + 1], [(image, truth)])
    assert result["missed"] == 0 and np.array_equal(found[0], truth + 1)
    answers = iter([[], [truth]])
    result, found = landmarks.judge(lambda _: next(answers), [(image, truth), (image, truth)])
    assert result["missed"] == 1 and found[0] is None


def test_jitter_by_hand():
    still = faces(1)
    assert jitter.jitter(np.repeat(still, 5, axis=0)) == 0
    shaking = np.repeat(still, 4, axis=0)
    shaking[1::2] += np.array([3.0, 4.0])
    assert jitter.jitter(shaking) == pytest.approx(5 / 100)


def test_the_enlarged_face_is_in_the_middle():
    rng = np.random.default_rng(1)
    points = rng.uniform(20, 80, (68, 2))
    image = np.zeros((100, 100, 3), np.uint8)
    spot = np.array([50, 60])
    image[spot[1] - 2 : spot[1] + 2, spot[0] - 2 : spot[0] + 2] = 255
    picture = jitter.enlarge(image, points)
    assert picture.shape == (720, 1280, 3)
    bright = (picture[..., 0] > 200) & (picture[..., 1] > 200)
    y, x = np.nonzero(bright)
    zoom = jitter.FACE_PX / np.ptp(points, axis=0).max()
    expected = np.array([640, 360]) + zoom * (spot - (points.min(0) + points.max(0)) / 2)
    np.testing.assert_allclose((x.mean() + 0.5, y.mean() + 0.5), expected, atol=1)


def test_auc_counts_pairs():
    assert crops.auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert crops.auc(np.array([1.0, 4.0]), np.array([2.0, 3.0])) == pytest.approx(0.5)
    assert crops.auc(np.array([0.0]), np.array([1.0, 2.0])) == 0


def test_crops_are_placed_as_tracking_places_them():
    spec = CropSpec(112, box_scale=1.4, box_shift_y=0.1, landmark_scale=1.35, landmark_shift_y=0.05)
    points = np.random.default_rng(2).uniform(40, 160, (68, 2))
    place = crops.place(points, spec)
    roi = roi_from_landmarks(points, spec)
    np.testing.assert_allclose(place @ [roi.x, roi.y, 1], [0, 0], atol=1e-6)
    np.testing.assert_allclose(place @ [roi.x + roi.size, roi.y + roi.size, 1], [112, 112], atol=1e-6)


@pytest.mark.parametrize("kind", ["half", "small", "large"])
def test_wrong_crops_miss_the_face(kind):
    place = np.array([[0.8, 0.0, -20.0], [0.0, 0.8, -30.0]])
    moved = score.wrong_crops(kind, place, 112, np.random.default_rng(0))
    middle = np.linalg.solve(place[:, :2], [56, 56] - place[:, 2])
    offset = np.linalg.norm(moved[:, :2] @ middle + moved[:, 2] - 56)
    zoom = moved[0, 0] / place[0, 0]
    assert (kind == "half") == (offset > 50)
    assert {"half": zoom == 1, "small": zoom < 0.5, "large": zoom > 2}[kind]


def test_lid_gaps_by_hand():
    points = np.zeros((2, 68, 2))
    for eye in (36, 42):
        points[:, eye], points[:, eye + 3] = (0, 0), (20, 0)
        points[1, [eye + 1, eye + 2]] = (10, -3)
        points[1, [eye + 4, eye + 5]] = (10, 3)
    np.testing.assert_allclose(blink.lid_gaps(points), [[0, 0], [0.3, 0.3]])


def test_angles_have_the_projects_signs():
    camera = np.zeros((3, 4))
    yaw = np.radians(-25)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    camera[:, :3] = np.diag([1, -1, 1]) @ turn
    np.testing.assert_allclose(pose.angles(camera), [25, 0, 0], atol=1e-3)


def test_the_dispatcher_knows_its_parts(capsys):
    assert {"landmarks", "jitter", "blink", "score", "pose"} <= set(evaluate.PARTS)
    assert evaluate.main(["nothing"]) == 2
    assert "landmarks" in capsys.readouterr().err


def test_only_held_out_people_are_judged():
    need_material("faces", "annotated_68.npz")
    from tools.data import material

    people = {photo.file: photo.identity for photo in material.photos()}
    names = [name for name in material.annotated_68()[0] if held_out(people[name], name)]
    photographs = landmarks.held_out_photographs()
    assert [name for name, _, _ in photographs] == names and 300 < len(names) < 500
