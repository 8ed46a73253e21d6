"""The training's view of the face model against the runtime's, and fits whose truth is known."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from facet.tracker.morphable import contour_weights, load_face_model
from facet.tracker.pose import pose_from_camera
from facet.tracker.regressor import translate_facet
from facet.tracker.weights import ROOT
from tests.tracker.nets import facet_heads
from tools.data import fit, profiles
from tools.data.crops import SIZE_PX
from tools.raster import rasterise

FILE = ROOT / "weights" / "face_model.npz"


@pytest.fixture(scope="module")
def model():
    return load_face_model(FILE)


@pytest.fixture(scope="module")
def points():
    return fit.load_points(FILE, cloud_count=20)


def camera_of(yaw_deg, pitch_deg, scale, x, y):
    camera = np.zeros((3, 4))
    camera[:, :3] = np.diag([1, -1, 1]) @ profiles.rotation(yaw_deg, pitch_deg) * scale
    camera[:2, 3] = x, y
    return camera


def coefficients_of(model, rng, many=1):
    shape = rng.normal(0, 0.7, (many, model.shape_count))
    expression = np.clip(rng.normal(-0.1, 0.2, (many, model.expression_count)), 0, 1)
    return np.concatenate([shape, expression], axis=1).astype(np.float32)


@pytest.mark.parametrize("yaw_deg", [-70, -20, 0, 45])
def test_landmarks_are_the_runtimes(model, points, yaw_deg):
    known = coefficients_of(model, np.random.default_rng(1))
    camera = camera_of(yaw_deg, 10, 0.7, 90, 110)
    rotation = torch.from_numpy(profiles.rotation(yaw_deg, 10)[None].astype(np.float32))
    spots = fit.model_points(points, torch.from_numpy(known))
    turned = spots @ rotation.transpose(1, 2)
    pick = fit.contour_pick(points, turned, rotation)
    shown = spots @ torch.from_numpy(camera[:, :3].T.astype(np.float32)) + torch.from_numpy(
        camera[:, 3].astype(np.float32)
    )
    found = fit.landmarks_of(points, shown, pick)[0].numpy()
    expected = model.landmarks(camera, known[0, : model.shape_count], known[0, model.shape_count :])
    np.testing.assert_allclose(found, expected, atol=2e-2)
    candidates = shown[0, points.contour].numpy()
    np.testing.assert_allclose(pick[0], contour_weights(candidates, camera, model.sparse.outward), atol=2e-2)


def test_the_cloud_lies_on_the_face(model, points):
    neutral = points.mean[points.cloud].numpy()
    distance = np.linalg.norm(neutral[:, None] - model.mean[None], axis=2).min(axis=1)
    assert distance.max() < 1e-3
    assert points.mean[points.irises][0, 0] < 0 < points.mean[points.irises][1, 0]


def test_a_fit_finds_what_made_the_points(model, points):
    rng = np.random.default_rng(4)
    many = 6
    known = coefficients_of(model, rng, many)
    known[:, model.shape_count :] = 0
    known[:3, model.shape_count + model.expression_names.index("jawOpen")] = 0.5
    yaw_deg = rng.uniform(-35, 35, many)
    cameras = [camera_of(yaw, 5, 0.62, 100, 112) for yaw in yaw_deg]
    landmarks = np.stack(
        [
            model.landmarks(c, k[: model.shape_count], k[model.shape_count :])
            for c, k in zip(cameras, known, strict=True)
        ]
    )
    table = {
        "points": landmarks[..., :2],
        "annotated": np.full((many, 68, 2), np.nan, np.float32),
        "mesh": np.full((many, 478, 3), np.nan, np.float32),
        "depth": landmarks[..., 2],
        "blink": np.zeros((many, 2), np.float32),
        "gaze": np.full((many, 2, 2), np.nan, np.float32),
        "yaw_deg": yaw_deg.astype(np.float32),
        "roi": np.full((many, 4), 300, np.float32),
        "identity": np.array([""] * many),
    }
    result = fit.fit(points, table, steps=150)
    assert result["camera"].shape == (many, 2, 3, 4)
    assert result["error"].max() < 0.01
    found = np.array([pose_from_camera(camera).yaw_deg for camera in result["camera"][:, 0]])
    np.testing.assert_allclose(found, yaw_deg, atol=3)
    # the mirror image turns the other way
    mirrored = np.array([pose_from_camera(camera).yaw_deg for camera in result["camera"][:, 1]])
    np.testing.assert_allclose(mirrored, -yaw_deg, atol=3)
    jaw = result["coefficients"][:, 0, model.shape_count + model.expression_names.index("jawOpen")]
    assert jaw[:3].min() > jaw[3:].max() + 0.15
    expression = result["coefficients"][..., model.shape_count :]
    assert expression.min() >= 0 and expression.max() <= 1


def test_rotations_are_the_runtimes():
    params = np.random.default_rng(0).normal(0, 1, (5, 9 + 4 + 3 + 1)).astype(np.float32)
    cameras, *_ = translate_facet(0.005, facet_heads(4, 3), 112)(params)
    rotation = fit.rotation_of(torch.from_numpy(params[:, 1:7])).numpy()
    scale = 112 * 0.005 * np.exp(params[:, 0])
    expected = rotation * scale[:, None, None] * np.array([1, -1, 1])[:, None]
    np.testing.assert_allclose(cameras[:, :, :3], expected, atol=1e-5)


def test_turning_leaves_the_pivot_in_place_and_has_the_projects_signs():
    camera = camera_of(0, 0, 0.6, 100, 90)
    pivot = np.array([0.0, 10.0, 40.0])
    turned = profiles.turn_about(camera, profiles.rotation(30, 20), pivot)
    np.testing.assert_allclose(turned[:, :3] @ pivot + turned[:, 3], camera[:, :3] @ pivot + camera[:, 3], atol=1e-9)
    pose = pose_from_camera(turned.astype(np.float32))
    assert pose.yaw_deg == pytest.approx(30, abs=1e-3) and pose.pitch_deg == pytest.approx(20, abs=1e-3)


def test_the_rasteriser_draws_what_is_nearer():
    near = np.array([[2, 2, 5], [2, 12, 5], [12, 2, 5.0]])
    points = np.concatenate([near - (0, 0, 3), near, near - (0, 0, 9)])
    triangles = np.arange(9).reshape(3, 3)
    owner, weight = rasterise(points, triangles, 16, 14)
    assert owner.shape == (14, 16) and set(np.unique(owner)) == {-1, 1} and owner[13, 14] == -1
    np.testing.assert_allclose(weight[4, 4] @ near, (4.5, 4.5, 5), atol=1e-5)


def test_a_triangle_faces_us_one_way_round_only():
    turned = np.array([[2, 2, 0], [2, 12, 0], [12, 2, 10.0]])  # clockwise on the screen seen with y up
    facing = profiles.facing(turned, np.array([[0, 1, 2], [0, 2, 1]]))
    np.testing.assert_allclose(facing, [np.sqrt(0.5), -np.sqrt(0.5)])


def test_a_face_drawn_with_its_own_pose_is_the_photograph(model):
    rng = np.random.default_rng(3)
    photograph = rng.integers(0, 256, (20, 20, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    camera = camera_of(0, 0, 0.6, 100, 100)
    shape, expression = np.zeros(model.shape_count), np.zeros(model.expression_count)
    drawn = profiles.render(model, photograph, photograph, camera, shape, expression, camera, expression)
    middle = slice(70, 130)
    apart = np.abs(drawn[middle, middle].astype(int) - photograph[middle, middle])
    assert np.median(apart) <= 2 and drawn.shape == (SIZE_PX, SIZE_PX, 3)
