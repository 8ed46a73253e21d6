import numpy as np
import pytest

from facet.tracker.morphable import load_face_model, make_model
from facet.tracker.pose import FLIP_Y, pose_from_camera, rotation_from_angles
from facet.tracker.upstream.fitting import LandmarkFitter, fit_landmarks, fit_vertices, weak_perspective
from tests.conftest import ROOT
from tests.reference import mirror_68


@pytest.fixture(scope="module")
def model():
    return load_face_model(ROOT / "weights" / "face_model.npz")


def camera_of(yaw, pitch=0.0, roll=0.0, scale=2.0):
    camera = np.zeros((3, 4), np.float32)
    camera[:, :3] = rotation_from_angles(yaw, pitch, roll) * FLIP_Y[:, None] * scale
    camera[:2, 3] = 320.0, 240.0
    return camera


def face_of(model, rng, **weights):
    expression = np.zeros(model.expression_count, np.float32)
    for name, weight in weights.items():
        expression[model.expression_names.index(name)] = weight
    return rng.normal(0, 0.7, model.shape_count).astype(np.float32), expression


def distance_mm(model, params, landmarks, scale=2.0):
    again = model.landmarks(params.camera, params.shape, params.expression)
    return np.linalg.norm((again - landmarks)[:, :2], axis=1).mean() / scale


@pytest.mark.parametrize("yaw", [-50, -20, 0, 35])
@pytest.mark.parametrize("noise_px", [0.0, 2.0])
def test_known_faces_are_found_again(model, yaw, noise_px):
    rng = np.random.default_rng(yaw + 100)
    shape, expression = face_of(model, rng, jawOpen=0.4, mouthSmile_L=0.5, browInnerUp_R=0.6)
    landmarks = model.landmarks(camera_of(yaw, 12, -15), shape, expression)
    params = fit_landmarks(model, landmarks + rng.normal(0, noise_px, landmarks.shape))
    pose = pose_from_camera(params.camera)
    assert distance_mm(model, params, landmarks) < (0.6 if noise_px == 0 else 1.1)
    assert abs(pose.yaw_deg - yaw) < 4 and abs(pose.pitch_deg - 12) < 4 and abs(pose.roll_deg + 15) < 2
    # only what sizes are usual reports a near small head from a far large one
    assert abs(pose.scale_px_per_mm / 2 - 1) < (0.1 if noise_px == 0 else 0.12)
    assert params.expression.min() >= 0 and params.expression.max() <= 1
    assert params.camera.dtype == params.shape.dtype == params.expression.dtype == np.float32


@pytest.mark.parametrize(
    "name", ["eyeBlink_L", "eyeBlink_R", "jawOpen", "mouthSmile_L", "mouthSmile_R", "mouthPucker", "browInnerUp_L"]
)
def test_an_expression_is_reported_by_its_landmarks(model, name):
    landmarks = model.landmarks(camera_of(10), *face_of(model, np.random.default_rng(0), **{name: 1.0}))
    found = dict(zip(model.expression_names, fit_landmarks(model, landmarks).expression, strict=True))
    assert found.pop(name) > 0.6
    assert max(found.values()) < 0.45


def test_shift_and_scale_of_the_picture_do_not_matter(model):
    landmarks = model.landmarks(camera_of(25), *face_of(model, np.random.default_rng(1), jawOpen=0.3))
    one, other = fit_landmarks(model, landmarks), fit_landmarks(model, landmarks * 10 + 1000)
    assert np.allclose(one.expression, other.expression, atol=0.02)
    assert np.allclose(one.camera[:2, :3] * 10, other.camera[:2, :3], rtol=0.01, atol=0.05)


def test_a_track_settles_its_shape_and_follows_its_pose(model):
    rng = np.random.default_rng(2)
    shape, expression = face_of(model, rng)
    fitter, shapes = LandmarkFitter(model), []
    for frame in range(60):
        yaw, blink = frame - 30.0, 1.0 if frame == 50 else 0.0
        expression[model.expression_names.index("eyeBlink_L")] = blink
        landmarks = model.landmarks(camera_of(yaw), shape, expression)
        params = fitter(landmarks + rng.normal(0, 1.0, landmarks.shape))
        shapes.append(params.shape)
        assert abs(pose_from_camera(params.camera).yaw_deg - yaw) < 5
        assert abs(params.expression[model.expression_names.index("eyeBlink_L")] - blink) < 0.4
    steps = np.abs(np.diff(shapes, axis=0)).max(axis=1)
    assert steps[40:].max() < 0.15 and steps[40:].mean() < 0.5 * steps[:10].mean()


def test_points_of_a_fixed_jaw(model):
    """3DDFA's jaw does not slide: fitted as such, the pose is right where the sliding one is not."""
    shape, expression = face_of(model, np.random.default_rng(3))
    camera = camera_of(55)
    points = (model.vertices(shape, expression) @ camera[:, :3].T + camera[:, 3])[model.landmark_vertices]
    yaw = [pose_from_camera(LandmarkFitter(model, slides)(points).camera).yaw_deg for slides in (False, True)]
    assert abs(yaw[0] - 55) < 4 and abs(yaw[0] - 55) < abs(yaw[1] - 55)


def test_fit_to_any_vertices(model):
    rng = np.random.default_rng(4)
    shape, expression = face_of(model, rng, jawOpen=0.7, eyeBlink_R=1.0)
    camera = camera_of(-30, 5, 5)
    front = np.flatnonzero((model.region == 0) & (model.mean[:, 2] > 30))
    vertices = rng.choice(front, 478, replace=False)
    points = (model.vertices(shape, expression) @ camera[:, :3].T + camera[:, 3])[:, :2]
    weights = np.full(478, 0.3)
    noisy = points[vertices].astype(np.float64)
    noisy[0] += 500.0  # a wild point that is known to be one
    weights[0] = 0.0
    params = fit_vertices(model, vertices, noisy, weights)
    again = (model.vertices(params.shape, params.expression) @ params.camera[:, :3].T + params.camera[:, 3])[:, :2]
    assert np.linalg.norm((again - points)[front], axis=1).mean() < 0.7 * 2  # mm x px/mm
    assert abs(pose_from_camera(params.camera).yaw_deg + 30) < 2
    assert params.expression[model.expression_names.index("jawOpen")] > 0.6


def test_weak_perspective_of_exact_points():
    rng = np.random.default_rng(6)
    points = rng.normal(0, 50, (68, 3))
    camera = camera_of(40, -20, 70, 3.0).astype(np.float64)
    shown = points @ camera[:2, :3].T + camera[:2, 3]
    assert np.allclose(weak_perspective(points, shown, rng.uniform(0.5, 2, 68)), camera, atol=1e-5)


def test_mirrored_landmarks_turn_the_other_way(model):
    landmarks = model.landmarks(camera_of(30, 5, 10), *face_of(model, np.random.default_rng(7)))
    mirrored = (landmarks * (-1, 1, 1) + (640, 0, 0))[mirror_68()]
    a, b = (pose_from_camera(fit_landmarks(model, p).camera) for p in (landmarks, mirrored))
    assert abs(a.yaw_deg + b.yaw_deg) < 2 and abs(a.roll_deg + b.roll_deg) < 1 and abs(a.pitch_deg - b.pitch_deg) < 2


def test_a_sparse_model_without_a_contour():
    rng = np.random.default_rng(8)
    model = make_model(
        rng.normal(0, 60, (68, 3)),
        rng.normal(0, 1, (5, 68, 3)),
        rng.normal(0, 3, (4, 68, 3)),
        np.zeros((0, 3)),
        np.arange(68),
    )
    landmarks = model.landmarks(camera_of(20), rng.normal(size=5), [0.0, 1.0, 0.4, 0.0])
    params = fit_landmarks(model, landmarks)
    assert distance_mm(model, params, landmarks) < 0.3
    assert np.allclose(params.expression, [0.0, 1.0, 0.4, 0.0], atol=0.15)


def test_points_on_one_spot_or_line_do_not_break_it(model):
    for points in (np.full((68, 2), 100.0), np.column_stack([np.arange(68.0), np.arange(68.0)])):
        params = fit_landmarks(model, points)
        assert params.expression.min() >= 0 and params.expression.max() <= 1
        assert np.isfinite(params.camera).all() and np.isfinite(params.shape).all()
