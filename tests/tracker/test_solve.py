from dataclasses import replace

import numpy as np
import pytest

from facet.tracker import solve
from facet.tracker.aligner import COUNT, IRISES, JAW, Alignment
from facet.tracker.errors import WeightsError
from facet.tracker.mirror import MIRROR_68, Mirror, mirrored_camera
from facet.tracker.morphable import load_face_model
from facet.tracker.pose import FLIP_Y, pose_from_camera, rotation_from_angles
from facet.tracker.solve import GAPS, LEAST_MM, PointSolver
from facet.tracker.types import Roi
from tests.conftest import ROOT

Rotation = pytest.importorskip("scipy.spatial.transform").Rotation  # only the tools have SciPy

SIZE_PX = 640


@pytest.fixture(scope="module")
def model():
    return load_face_model(ROOT / "weights" / "face_model.npz")


@pytest.fixture(scope="module")
def solver(model):
    return PointSolver.open(ROOT / "weights" / "face_model_points.npz", model)


def camera_of(yaw=0.0, pitch=0.0, roll=0.0, scale=2.0):
    camera = np.zeros((3, 4), np.float32)
    camera[:, :3] = rotation_from_angles(yaw, pitch, roll) * FLIP_Y[:, None] * scale
    camera[:2, 3] = 320.0, 240.0
    return camera


def face_of(model, seed=0, **weights):
    """A shape, and an expression of these weights."""
    rng = np.random.default_rng(seed)
    expression = np.zeros(model.expression_count, np.float32)
    for name, weight in weights.items():
        expression[model.expression_names.index(name)] = weight
    return rng.normal(0, 0.6, model.shape_count).astype(np.float32), expression


def aligned(model, solver, camera, shape, expression, spread_px=0.2):
    """What an aligner without an error would find of a face."""
    points = np.zeros((COUNT, 3), np.float32)
    points[:68] = model.landmarks(camera, shape, expression)
    fixed = solver.points(camera, shape, expression)
    points[17:68], points[IRISES] = fixed[:51], fixed[51:]
    return Alignment(
        points, np.ones(COUNT, np.float32), np.full(COUNT, spread_px, np.float32), np.ones((2, 2)), Roi(0, 0, 1)
    )


def solved(solver, found, camera, shape, expression, frames=1):
    solving = solver.start()
    for _ in range(frames):
        face = solving(found, camera, pose_from_camera(camera), shape, expression)
    return face


def nothing(model):
    return np.zeros(model.shape_count, np.float32), np.zeros(model.expression_count, np.float32)


def turned_by(a, b):
    """Degrees between the poses of two cameras."""
    turn = pose_from_camera(a).rotation @ pose_from_camera(b).rotation.T
    return np.degrees(Rotation.from_matrix(turn).magnitude())


def shifted(camera, degrees, pixels):
    """A camera that is somewhat wrong, as a regressor's is."""
    turn = Rotation.from_rotvec(np.radians(degrees)).as_matrix()
    camera = camera.copy()
    camera[:, :3] = (turn @ (camera[:, :3] * FLIP_Y[:, None])) * FLIP_Y[:, None]
    camera[:2, 3] += pixels
    return camera


@pytest.mark.parametrize("yaw", (0.0, -35.0))
def test_points_of_a_face_give_it_back(model, solver, yaw):
    shape, expression = face_of(model, 1, jawOpen=0.7, eyeBlink_L=0.9, browOuterUp_R=0.8, mouthSmile_L=0.6)
    camera = camera_of(yaw, 5.0, 8.0)
    found = aligned(model, solver, camera, shape, expression)
    face = solved(solver, found, shifted(camera, (2, -2, 1), (6, -4)), 0.7 * shape, 0.5 * expression, frames=3)
    places = solver.points(face.camera, face.shape, face.expression)
    off = np.linalg.norm(places[:51, :2] - found.points[17:68, :2], axis=1)
    assert off.mean() < 0.6 and off.max() < 2.5  # px, at 2 px a mm
    assert turned_by(face.camera, camera) < 1.7
    for name, weight in (("jawOpen", 0.7), ("eyeBlink_L", 0.9), ("eyeBlink_R", 0.0)):
        assert abs(face.expression[model.expression_names.index(name)] - weight) < 0.15, name


def test_the_result_meets_the_conditions_of_a_minimum(model, solver, monkeypatch):
    """The function, written plainly, has no slope inside the bounds (Karush, Kuhn, Tucker)."""
    shape, expression = face_of(model, 2, jawOpen=0.5, mouthSmile_R=0.8, browDown_L=0.6)
    camera, rng = camera_of(12.0, -6.0, 4.0), np.random.default_rng(3)
    found = aligned(model, solver, camera, shape, expression)
    found.points[:, :2] += rng.normal(0, 2.0, (COUNT, 2))
    found.spread_px[:] = rng.uniform(1.0, 4.0, COUNT)
    found.visible[:] = rng.uniform(0.3, 1.0, COUNT)
    prior_camera = shifted(camera, (1, 2, -1), (3, 3))
    prior = np.concatenate([shape + rng.normal(0, 0.3, len(shape)), 0.5 * expression]).astype(np.float32)
    monkeypatch.setattr(solve, "FIRST_ROUNDS", 20)
    face = solved(solver, found, prior_camera, *np.split(prior, [model.shape_count]))
    pose = pose_from_camera(prior_camera)
    scale, turn, pivot = pose.scale_px_per_mm, np.asarray(pose.rotation, float), solver.pivot
    places_px = np.r_[17:68, 85:87]
    weight = found.visible[places_px] / ((found.spread_px[places_px] / scale) ** 2 + LEAST_MM[17:] ** 2)
    outer = found.visible[:17] / ((found.spread_px[:17] / scale) ** 2 + LEAST_MM[:17] ** 2)
    errors = 1 / np.sqrt(solver.precision)
    shapes = model.shape_count
    mean = prior.astype(float)
    mean[:shapes] *= solve.SHAPE_ERROR**-2 * errors[:shapes] ** 2

    def residuals(z):
        matrix = np.zeros((3, 4))
        rotation = Rotation.from_rotvec(z[:3]).as_matrix() @ turn
        size = scale * np.exp(z[3])
        matrix[:, :3] = size * rotation * FLIP_Y[:, None]
        at = prior_camera[:2, :3] @ pivot + prior_camera[:2, 3] + z[4:6] * (scale, -scale)
        matrix[:2, 3] = at - matrix[:2, :3] @ pivot
        a, e = z[6 : 6 + shapes], z[6 + shapes :]
        off = (found.points[places_px, :2] - solver.points(matrix, a, e)[:, :2]) / scale
        # across the contour, which is where the model's own choice of it leads
        line = (found.points[:17, :2] - model.landmarks(matrix, a, e)[:17, :2]) / scale * (1, -1)
        across = solver.outward @ rotation[:2, :2].T
        line = (line * across).sum(axis=1) / np.linalg.norm(across, axis=1)
        up = rotation[:2, 1] / np.linalg.norm(rotation[:2, 1]) * (1, -1)
        both = [2 * solve.GAP_FACTOR * weight[i] * weight[j] / (weight[i] + weight[j]) for i, j in GAPS]
        gaps = [np.sqrt(factor) * ((off[i] - off[j]) @ up) for factor, (i, j) in zip(both, GAPS, strict=True)]
        return np.concatenate([
            (off * np.sqrt(weight)[:, None]).ravel(), line * np.sqrt(outer), gaps, z[:6] / solve.POSE_ERROR,
            (z[6 : 6 + shapes] - mean[:shapes]) / errors[:shapes],
            (e - mean[shapes:] + solve.EXPRESSION_COST * errors[shapes:] ** 2) / errors[shapes:],
        ])  # fmt: skip

    z = np.r_[np.zeros(6), face.shape, face.expression].astype(float)
    rotation = np.asarray(pose_from_camera(face.camera).rotation, float) @ turn.T
    z[:3] = Rotation.from_matrix(rotation).as_rotvec()
    z[3] = np.log(pose_from_camera(face.camera).scale_px_per_mm / scale)
    at = [camera[:2, :3] @ pivot + camera[:2, 3] for camera in (face.camera, prior_camera)]
    z[4:6] = (at[0] - at[1]) / (scale, -scale)
    units = np.r_[solve.POSE_ERROR, errors]

    def slope_of(z):
        cost = [[(residuals(z + side * step) ** 2).sum() / 2 for side in (1, -1)] for step in np.diag(1e-3 * units)]
        return np.diff(cost, axis=1)[:, 0] / -2e-3

    slope, before = slope_of(z), slope_of(np.r_[np.zeros(6), prior.clip(solver.low, solver.high)])
    at_low, at_high = (np.r_[np.zeros(6, bool), z[6:] == bound] for bound in (solver.low, solver.high))
    inside = ~(at_low | at_high)
    assert np.abs(before).max() > 50 and np.abs(slope[inside]).max() < 0.5
    assert slope[at_low].min() > -0.5 and slope[at_high].max(initial=0) < 0.5
    assert at_low.any() and inside[6 + shapes :].any()


def test_mirrored_points_give_the_mirrored_face(model, solver):
    shape, expression = face_of(model, 4, jawOpen=0.3, mouthSmile_L=0.9, eyeBlink_R=0.8, browInnerUp_L=0.7)
    camera = camera_of(-20.0, 8.0, 5.0)
    found = aligned(model, solver, camera, shape, expression, spread_px=1.0)
    mirror = Mirror.of(model)
    order = np.r_[MIRROR_68, JAW, IRISES.stop - 1, IRISES.start]
    flipped = replace(found, points=(found.points * (-1, 1, 1) + (SIZE_PX, 0, 0))[order])
    prior = 0.5 * shape, 0.5 * expression
    face = solved(solver, found, camera, *prior)
    other = solved(solver, flipped, mirrored_camera(camera, SIZE_PX), *mirror.coefficients(*prior))
    back = mirrored_camera(other.camera, SIZE_PX), *mirror.coefficients(other.shape, other.expression)
    # the model's shapes are alike on both sides but for a hundredth
    assert turned_by(face.camera, back[0]) < 0.7
    np.testing.assert_allclose(back[2], face.expression, atol=0.12)
    places = [solver.points(*part)[:, :2] for part in ((face.camera, face.shape, face.expression), back)]
    assert np.linalg.norm(places[0] - places[1], axis=1).max() < 2.0


def test_points_without_weight_have_no_influence(model, solver):
    shape, expression = face_of(model, 5, jawOpen=0.6)
    camera = camera_of(10.0)
    found = aligned(model, solver, camera, shape, expression)
    unseen = np.r_[0:9, 36:42, 60:68, 85]
    found.spread_px[unseen] = np.inf
    face = solved(solver, found, camera, *nothing(model))
    moved = replace(found, points=found.points.copy())
    moved.points[unseen] += 50.0
    moved.points[JAW] -= 80.0  # guessed, never used
    again = solved(solver, moved, camera, *nothing(model))
    for name in ("camera", "shape", "expression"):
        np.testing.assert_array_equal(getattr(face, name), getattr(again, name))


def test_without_points_the_regressor_is_followed(model, solver):
    shape, expression = face_of(model, 6, jawOpen=0.6, eyeBlink_L=1.0)
    camera = camera_of(25.0, 3.0, -4.0)
    found = aligned(model, solver, camera_of(), *nothing(model))
    found.spread_px[:] = np.inf
    face = solved(solver, found, camera, shape, expression)
    np.testing.assert_allclose(face.camera, camera, atol=1e-3)
    np.testing.assert_allclose(face.expression, expression, atol=solve.EXPRESSION_COST * solve.EXPRESSION_ERROR**2)


@pytest.mark.parametrize("broken", (np.nan, np.inf))
def test_broken_points_leave_the_regressors_face(model, solver, broken):
    shape, expression = face_of(model, 7, jawOpen=0.4)
    camera = camera_of()
    found = aligned(model, solver, camera, shape, expression)
    found.points[70 - 17] = broken
    face = solved(solver, found, camera, shape, expression)
    np.testing.assert_array_equal(face.camera, camera)
    np.testing.assert_array_equal(face.expression, expression)


def test_each_side_moves_by_itself(model, solver):
    camera = camera_of(5.0)
    shape, _ = face_of(model, 8)
    for name in ("browOuterUp_L", "eyeBlink_R", "mouthSmile_L", "mouthFrown_R"):
        _, expression = face_of(model, 8, **{name: 0.8})
        face = solved(solver, aligned(model, solver, camera, shape, expression), camera, shape, 0 * expression)
        weights = dict(zip(model.expression_names, face.expression, strict=True))
        assert weights[name] > 0.45, name
        other = name[:-1] + ("R" if name[-1] == "L" else "L")
        assert weights[other] < 0.1, name


def test_the_contour_counts_across_not_along(model, solver):
    shape, expression = face_of(model, 9)
    camera = camera_of()
    found = aligned(model, solver, camera, shape, expression, spread_px=1.0)
    face = solved(solver, found, camera, shape, expression)
    along, across = (replace(found, points=found.points.copy()) for _ in range(2))
    out = solver.outward * (1, -1)
    along.points[:17, :2] += 8.0 * np.stack([-out[:, 1], out[:, 0]], axis=1)
    across.points[:17, :2] += 8.0 * out

    def jaw(found):
        face = solved(solver, found, camera, shape, expression)
        return model.landmarks(face.camera, face.shape, face.expression)[2:15, :2]

    before = model.landmarks(face.camera, face.shape, face.expression)[2:15, :2]
    assert np.linalg.norm(jaw(along) - before, axis=1).mean() < 0.5
    assert np.linalg.norm(jaw(across) - before, axis=1).mean() > 1.5


def test_the_shape_settles(model, solver):
    """A mouth that opens moves the expression, not the shape that a track has."""
    shape, rest = face_of(model, 10)
    _, wide = face_of(model, 10, jawOpen=0.9, mouthSmile_L=0.8, mouthSmile_R=0.8)
    camera = camera_of()
    solving, pose = solver.start(), pose_from_camera(camera)
    for _ in range(60):
        face = solving(aligned(model, solver, camera, shape, rest), camera, pose, shape, rest)
    before = face.shape
    for _ in range(5):
        face = solving(aligned(model, solver, camera, shape, wide), camera, pose, shape, rest)
    assert np.abs(face.shape - before).max() < 0.05
    assert face.expression[model.expression_names.index("jawOpen")] > 0.75
    assert turned_by(face.camera, camera) < 1.5


def test_a_file_of_another_model_or_damaged_is_an_error(model, tmp_path):
    with np.load(ROOT / "weights" / "face_model_points.npz") as file:
        arrays = dict(file)
    for change in ({"mean": arrays["mean"][:50]}, {"steps": arrays["steps"][:90]}, {"step_mm": np.full(101, np.nan)}):
        np.savez(tmp_path / "points.npz", **arrays | change)
        with pytest.raises(WeightsError, match=r"tools\.face_model\.points"):
            PointSolver.open(tmp_path / "points.npz", model)
    np.savez(tmp_path / "points.npz", mean=arrays["mean"])
    with pytest.raises(WeightsError, match="step"):
        PointSolver.open(tmp_path / "points.npz", model)
