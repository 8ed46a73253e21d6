"""The figures that the evaluation reports, against values by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
from facet.tracker.crop import CropSpec, roi_from_landmarks
from tests.clips import make_clip
from tests.conftest import material as need_material
from tools import evaluate
from tools.data import labels
from tools.data.split import held_out
from tools.evaluation import blink, brows, crops, jitter, landmarks, photographs, pose, score
from tools.evaluation.photographs import Sample, sqrt_wh


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


def test_spread_is_of_the_points_within_a_face():
    truth = faces(2)
    reported = truth.copy()
    reported[0, ::2] += (6.0, 0.0)  # half of the points off by 6 %: variance 9; the other face: none
    assert landmarks.metrics(reported, truth)["std"] == pytest.approx(np.sqrt(9 / 2))


def test_depth_counts_without_its_mean():
    truth = np.concatenate([faces(2), np.zeros((2, 68, 1))], axis=2)
    assert landmarks.metrics(truth + np.array([0, 0, 9]), truth)["gte"] == pytest.approx(0)
    reported = truth.copy()
    reported[:, ::2, 2] += 2
    result = landmarks.metrics(reported, truth)
    assert result["gte"] == pytest.approx(100 * 1 / 40) and result["gte_std"] == pytest.approx(0, abs=1e-9)
    assert result["nme"] == 0


def test_bins_are_those_of_3ddfa():
    error, yaw = np.arange(1.0, 7.0), np.array([0, 30, 30.1, 60, 60.1, 180])
    result = landmarks.by_yaw(error, yaw)
    assert [result[f"nme_yaw_{name}"] for name in ("0_30", "30_60", "60_90")] == [1.5, 3.5, 5.5]
    assert result["nme_yaw_mean"] == 3.5 and result["nme_yaw_std"] == pytest.approx(np.std([1.5, 3.5, 5.5]))
    assert "nme_yaw_mean" not in landmarks.by_yaw(error[:2], yaw[:2])
    assert landmarks.by_yaw(error, np.full(6, np.nan)) == {}


def test_21_points_of_68():
    points = np.stack([np.arange(1, 69), np.zeros(68)], axis=1)  # counted from 1, as 3DDFA does
    expected = [18, 20, 22, 23, 25, 27, 37, 39.5, 40, 43, 45.5, 46, 3, 32, 31, 36, 15, 49, 64.5, 55, 9]
    np.testing.assert_array_equal(landmarks.like_aflw(points)[:, 0], expected)


def told_face(points):
    return SimpleNamespace(landmarks=np.column_stack([points, np.zeros(68)]).astype(np.float32))


def test_a_face_elsewhere_is_a_miss():
    truth = faces(1)[0]
    sample = Sample("", np.zeros((10, 10, 3), np.uint8), truth, 5.0, sqrt_wh(truth))
    far, near = told_face(truth + 500), told_face(truth + np.array([1, 0]))
    answers = iter([[far, near], [far]])
    results, errors = landmarks.judge({"one": lambda _: next(answers)}, [sample, sample])
    assert results["one"]["pictures"] == 2 and results["one"]["missed"] == 1
    assert results["one"]["nme"] == pytest.approx(1.0, abs=1e-5) and results["one"]["count_yaw_0_30"] == 1
    assert errors["one"][0] == pytest.approx(1.0, abs=1e-5) and np.isnan(errors["one"][1])


def test_points_that_nobody_annotated_do_not_count():
    truth = landmarks.like_aflw(faces(1)[0])
    truth[3] = np.nan
    sample = Sample("", np.zeros((10, 10, 3), np.uint8), truth, 70.0, 50.0)
    results, _ = landmarks.judge({"one": lambda _: [told_face(faces(1)[0] + np.array([0, 2]))]}, [sample])
    assert results["one"]["nme"] == results["one"]["nme_yaw_60_90"] == pytest.approx(4.0, abs=1e-4)
    assert "inner" not in results["one"]


def test_jitter_by_hand():
    still = faces(1)
    assert jitter.jitter(np.repeat(still, 5, axis=0)) == 0
    shaking = np.repeat(still, 4, axis=0)
    shaking[1::2] += np.array([3.0, 4.0])
    assert jitter.jitter(shaking) == pytest.approx(5 / 100)


def test_tremble_by_hand_and_a_face_that_is_gone():
    reported = [SimpleNamespace(blendshapes={"jawOpen": 0.1 * (t % 2), "eyeWideLeft": 0.5}) for t in range(5)]
    np.testing.assert_allclose(jitter.tremble(reported), [0.1, 0])
    track = jitter.track_of([SimpleNamespace(landmarks=np.ones((68, 3))), None])
    assert track.shape == (2, 68, 2) and (track[0] == 1).all() and np.isnan(track[1]).all()


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


def test_pose_errors_by_hand():
    truth = np.array([[0, 0, 0], [20, 0, 0], [-40, 0, 179], [70, 0, 0.0]])
    found = truth + np.array([[3, 1, 0], [3, 1, 0], [-3, 1, 2], [np.nan] * 3])
    result = pose.figures(found, truth)
    assert result["0_30"] == pytest.approx(
        {"faces": 2, "missed": 0, "yaw": 3, "pitch": 1, "roll": 0, "mean": 4 / 3, "mean_without_bias": 0}
    )
    assert result["30_60"]["roll"] == pytest.approx(2)  # over half a circle
    assert result["60_80"] == {"faces": 0, "missed": 1}
    assert result["0_80"]["missed"] == 1 and result["bias"] == {"yaw": 3, "pitch": 1, "roll": 0}


def test_winks_by_hand():
    shut = np.array([[0, 0], [1, 1], [1, 0], [0, 1]], bool)
    result = blink.rendered_figures(np.where(shut, 0.9, 0.1), shut)
    assert result["winks_reported"] == result["auc"] == result["shut_reported"] == result["open_reported"] == 1
    assert result["wink_difference"] == pytest.approx(0.8)
    together = np.repeat(np.where(shut, 0.9, 0.1).max(axis=1, keepdims=True), 2, axis=1)
    assert blink.rendered_figures(together, shut)["winks_reported"] == 0
    reported = np.vstack([np.where(shut, 0.9, 0.1), [[np.nan] * 2]])
    lost = blink.rendered_figures(reported, np.vstack([shut, [[True, True]]]))
    assert lost["missed"] == 1 and lost["eyes_shut"] == 4


class Winker:
    """Reports of both eyes what it was given, frame after frame."""

    def __init__(self, weights):
        self.weights = iter(weights)

    def step(self, frame):
        right, left = next(self.weights)
        face = SimpleNamespace(pose=SimpleNamespace(scale_px_per_mm=1.0))
        face.blendshapes = {"eyeBlinkRight": right, "eyeBlinkLeft": left}
        return [face] if right is not None else []


def test_blinks_of_a_video_are_held_against_the_lids_of_a_mesh(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", 5)
    gaps = np.array([[0.30, 0.30], [0.04, 0.30], [0.30, 0.04], [0.04, 0.04], [np.nan, np.nan]])
    mesh = np.zeros((5, 478, 2))
    for eye, (_, inner, *pairs) in enumerate(labels.MESH_EYES):
        mesh[:, inner, 0] = 10
        for upper, _ in pairs:
            mesh[:, upper, 1] = 10 * gaps[:, eye]
    np.save(tmp_path / "clip.npy", mesh)
    reported = [(0.0, 0.0), (1.0, 0.0), (0.3, 0.6), (1.0, 0.9), (0.5, 0.5)]
    result = blink.against_mesh(clip, tmp_path / "clip.npy", Winker(reported))
    right = np.corrcoef([0.0, 1.0, 0.3, 1.0], [0.30, 0.04, 0.30, 0.04])[0, 1]
    assert result["correlation_right"] == pytest.approx(-right)
    both = np.corrcoef([0.0, 0.5, 0.45, 0.95], [0.30, 0.17, 0.17, 0.04])[0, 1]
    assert result["correlation_both"] == pytest.approx(-both)
    assert result["mesh_shut_reported"] == pytest.approx(3 / 4)  # not the left eye's 0.6
    assert result["mesh_open_reported"] == pytest.approx(3 / 4)  # not the right eye's 0.3
    # in both frames with one lid shut the weights differ, in the third by too little
    assert (result["real_winks"], result["real_winks_reported"], result["false_winks"]) == (2, 1, 0)
    squint = blink.against_mesh(clip, tmp_path / "clip.npy", Winker([(0.9, 0.2), *reported[1:]]))
    assert squint["false_winks"] == 1
    lost = blink.against_mesh(clip, tmp_path / "clip.npy", Winker([*reported[:2], (None, None), *reported[3:]]))
    assert lost["mesh_open_reported"] == 1
    np.save(tmp_path / "clip.npy", mesh[:4])
    with pytest.raises(ValueError, match="points, found"):
        blink.against_mesh(clip, tmp_path / "clip.npy", Winker(reported))


class Puppet:
    """A face whose brows stand where they were given, frame after frame: heights of the right and the left one."""

    def __init__(self, heights):
        self.heights = iter(heights)

    def step(self, frame):
        right, left = next(self.heights)
        if right is None:
            return []
        landmarks = np.zeros((68, 3))
        landmarks[brows.CORNERS_68, 0] = 100, 140, 160, 200
        landmarks[brows.BROWS_68[0], 1], landmarks[brows.BROWS_68[1], 1] = -100 * right, -100 * left
        landmarks[:, :2] = landmarks[:, :2] @ [[0.8, 0.6], [-0.6, 0.8]] + 300  # a head on its side
        shown = {"browInnerUp": 0.0, "browOuterUpLeft": 0.0, "browDownRight": 0.0}
        shown |= {"browOuterUpRight": right, "browDownLeft": 1 - left}
        return [SimpleNamespace(pose=SimpleNamespace(scale_px_per_mm=1.0), landmarks=landmarks, blendshapes=shown)]


def test_brows_of_a_video_are_held_against_those_of_a_mesh(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", 6)
    seen = np.array([[0.2, 0.2], [0.3, 0.2], [0.4, 0.5], [0.2, 0.3], [0.4, 0.4], [np.nan, np.nan]])
    mesh = np.zeros((6, 478, 3))
    mesh[:, brows.CORNERS_478, 0] = 50, 70, 80, 100
    for side in range(2):
        mesh[:, brows.BROWS_478[side], 1] = -50 * seen[:, side, None]
    mesh[5] = np.nan
    np.save(tmp_path / "clip.npy", mesh)
    half = brows.against_mesh(clip, tmp_path / "clip.npy", Puppet([*seen[:5].tolist(), [0.9, 0.1]]))
    assert half["frames"] == 5 and half["correlation_apart"] == pytest.approx(1)
    for figure in ("correlation", "slope", "blendshapes"):
        assert half[f"{figure}_right"] == pytest.approx(1) and half[f"{figure}_left"] == pytest.approx(1), figure
    alike = [[(right + left) / 2] * 2 for right, left in seen[:4]] + [[None, None], [0.5, 0.5]]
    both = brows.against_mesh(clip, tmp_path / "clip.npy", Puppet(alike))
    assert both["frames"] == 4 and both["slope_apart"] == both["correlation_apart"] == 0
    truth, reported = seen[:4, 0], seen[:4].mean(axis=1)
    assert both["slope_right"] == pytest.approx(np.cov(truth, reported)[0, 1] / np.var(truth, ddof=1))


@pytest.mark.parametrize("part", [blink, brows])
def test_meshes_are_wanted_of_each_video(part, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        part.main(["--video", str(tmp_path / "clip.mp4"), "--meshes", str(tmp_path)])
    assert "clip.npy" in capsys.readouterr().err


def test_meshes_belong_to_videos(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        blink.main(["--meshes", str(tmp_path)])
    assert "--meshes is for --video" in capsys.readouterr().err


def test_a_hand_covers_the_middle():
    rng = np.random.default_rng(3)
    grey = np.full((112, 112, 3), 128, np.uint8)
    for _ in range(5):
        changed = np.abs(score.lay_hand(grey, rng).astype(int) - 128).max(axis=2) > 3
        assert changed[40:72, 40:72].mean() > 0.8 and 0.25 < changed.mean() < 0.9


def test_the_dispatcher_knows_its_parts(capsys):
    assert {"landmarks", "jitter", "lag", "blink", "score", "pose", "blendshapes"} <= set(evaluate.PARTS)
    assert evaluate.main(["nothing"]) == 2
    assert "landmarks" in capsys.readouterr().err


def test_only_held_out_people_are_judged():
    need_material("faces", "annotated_68.npz")
    from tools.data import material

    people = {photo.file: photo.identity for photo in material.photos()}
    names = [name for name in material.annotated_68()[0] if held_out(people[name], name)]
    kept = photographs.held_out_photographs()
    assert [name for name, _, _ in kept] == names and 300 < len(names) < 500
    samples = list(photographs.validation())
    assert [sample.name for sample in samples] == names and max(abs(sample.yaw_deg) for sample in samples) > 45
