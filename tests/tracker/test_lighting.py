"""Light and skin: the harmonics against published constants and integration, estimates against drawn faces."""

import math
from dataclasses import replace

import numpy as np
import pytest

from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from facet.tracker.errors import WeightsError
from facet.tracker.lighting import (
    FaceAppearance,
    Light,
    LightConfig,
    LightEstimator,
    LightTrack,
    basis,
    fitted_light,
    lamp,
    load_skin,
    sphere,
    turned_light,
)
from facet.tracker.morphable import load_face_model, make_model
from facet.tracker.weights import ROOT
from tests.reference import light_and_skin
from tests.render.heads import place, rotation

MODEL = load_face_model(ROOT / "weights" / "face_model.npz")
GEOMETRY = replace(geometry_of(MODEL), opacity=np.ones(len(MODEL.mean), np.float32))
SKIN = load_skin()
ESTIMATOR = LightEstimator(MODEL, SKIN)
SIZE, FRONT = 300, sphere(500)[sphere(500)[:, 2] > 0.3]
STILL = np.zeros(MODEL.shape_count, np.float32), np.zeros(MODEL.expression_count, np.float32)


def drawn(light, skin, yaw_deg=0.0, pitch_deg=0.0):
    """A face of the model under a light, and its track."""
    track = place(MODEL, yaw_deg, pitch_deg, scale=1.1, at=(SIZE / 2, SIZE / 2))
    track = replace(track, shape=STILL[0], expression=STILL[1], appearance=FaceAppearance(light, skin))
    image = CpuRenderer(GEOMETRY, ("lit",)).draw(np.full((SIZE, SIZE, 3), 90, np.uint8), (track,))
    return image, track


def random_light(seed):
    rng = np.random.default_rng(seed)
    return lamp((rng.uniform(-1, 1), rng.uniform(-0.3, 1), rng.uniform(0.3, 1)), rng.uniform(0.4, 0.7), 0.3)


def test_the_basis_has_the_constants_of_deep3dfacerecon():
    """Its a and c, and the polynomials, as published with its code."""
    a, c = (math.pi, 2 * math.pi / 3**0.5, 2 * math.pi / 8**0.5), (0.28209479, 0.48860251, 1.09254843)
    x, y, z = 0.48, -0.6, 0.64
    expected = [
        *(a[0] * c[0], -a[1] * c[1] * y, a[1] * c[1] * z, -a[1] * c[1] * x),
        *(a[2] * c[2] * x * y, -a[2] * c[2] * y * z, 0.5 * a[2] * c[2] / 3**0.5 * (3 * z * z - 1)),
        *(-a[2] * c[2] * x * z, 0.5 * a[2] * c[2] * (x * x - y * y)),
    ]
    np.testing.assert_allclose(basis(np.array([[x, y, z]]))[0], expected, rtol=1e-6)


def test_the_basis_is_orthogonal_on_the_sphere():
    """By numerical integration: the harmonics are orthonormal but for the factor a of their band."""
    bands = basis(sphere(40_000)).astype(np.float64)
    product = 4 * math.pi * bands.T @ bands / len(bands)
    factors = np.repeat([math.pi, 2 * math.pi / 3**0.5, 2 * math.pi / 8**0.5], [1, 3, 5])
    np.testing.assert_allclose(product, np.diag(factors**2), atol=0.01)


def test_the_light_of_a_lit_sphere_is_recovered():
    light = Light(np.random.default_rng(0).normal(size=(3, 9)).astype(np.float32))
    normals = sphere(300)
    found = fitted_light(normals, basis(normals) @ light.harmonics.T)
    np.testing.assert_allclose(found.harmonics, light.harmonics, atol=1e-4)


@pytest.mark.parametrize("toward", [(-1, 0.2, 0.4), (0.7, 0.7, 0.2), (0, -0.5, 0.8), (0, 0, 1)])
def test_the_main_direction_is_that_of_a_lamp(toward):
    unit = np.array(toward) / np.linalg.norm(toward)
    light = lamp(toward, 0.8, 0.2)
    assert np.degrees(np.arccos(np.clip(light.direction @ unit, -1, 1))) < 8
    assert light.intensity == pytest.approx(1.0, abs=0.1)
    np.testing.assert_allclose(light.tint, 1, atol=1e-6)


def test_a_turned_light_shades_turned_surfaces_alike():
    light, turn = Light(np.random.default_rng(1).normal(size=(3, 9)).astype(np.float32)), rotation(30, -20, 50)
    normals = sphere(50)
    turned = turned_light(light, turn)
    np.testing.assert_allclose(turned.shading(normals @ turn.T), light.shading(normals), atol=1e-4)


@pytest.mark.parametrize(("seed", "yaw_deg", "pitch_deg"), [(1, 0, 0), (2, 25, 5), (3, -35, -10), (4, 10, 20)])
def test_light_and_skin_of_a_drawn_face_are_recovered(seed, yaw_deg, pitch_deg):
    rng = np.random.default_rng(seed)
    light, skin = random_light(seed), (0.5 * rng.normal(size=SKIN.count)).astype(np.float32)
    image, track = drawn(light, skin, yaw_deg, pitch_deg)
    found = LightTrack(ESTIMATOR, 1.0)(image, track.model_to_image, *STILL, 0.0)
    reported, true = found.light.shading(FRONT), light.shading(FRONT)
    # the level is the light's as much as the skin's
    reported = reported * (reported * true).sum() / (reported**2).sum()
    assert np.sqrt(((reported - true) ** 2).mean()) / true.mean() < 0.08
    assert np.degrees(np.arccos(np.clip(found.light.direction @ light.direction, -1, 1))) < 12
    mean, modes = SKIN.at(ESTIMATOR.patches.uv)
    albedos = [np.log(np.maximum(mean + modes @ values, 0.02)) for values in (found.skin, skin)]
    error, spread = (a - b - (a - b).mean() for a, b in ((albedos[0], albedos[1]), (albedos[1], np.log(mean))))
    assert np.sqrt((error**2).mean()) < 0.7 * np.sqrt((spread**2).mean())


def test_the_compiled_solver_agrees_with_the_plain_one():
    image, track = drawn(random_light(5), np.full(SKIN.count, 0.3, np.float32), 15)
    observed = ESTIMATOR.observe(image, track.model_to_image, *STILL)
    found = ESTIMATOR.solve(*observed, rounds=5)
    expected = light_and_skin(*observed, ESTIMATOR.mean, ESTIMATOR.modes, SKIN, rounds=5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=5e-3)


def test_a_light_on_skin_that_is_known_is_the_one_that_drew_it():
    light, skin = random_light(6), (0.8 * np.random.default_rng(6).normal(size=SKIN.count)).astype(np.float32)
    image, track = drawn(light, skin, -10)
    found = ESTIMATOR.light_under(*ESTIMATOR.observe(image, track.model_to_image, *STILL), skin)
    true = light.shading(FRONT)
    assert np.abs(Light(found.reshape(3, 9)).shading(FRONT) - true).mean() / true.mean() < 0.04


@pytest.mark.parametrize("level", [0, 3, 255])
def test_of_a_face_without_light_or_contrast_nothing_is_reported(level):
    image = np.full((SIZE, SIZE, 3), level, np.uint8)
    track = place(MODEL, scale=1.1, at=(SIZE / 2, SIZE / 2))
    found = LightTrack(ESTIMATOR, 1.0)(image, track.model_to_image, *STILL, 0.0)
    assert found.light is None and found.skin is None


@pytest.mark.parametrize("at", [(-900, 100), (150, 2000), (1e9, 0), (float("nan"), 0)])
def test_of_a_face_outside_the_image_nothing_is_reported(at):
    track = place(MODEL, scale=1.1, at=at)
    image = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8)
    assert LightTrack(ESTIMATOR, 1.0)(image, track.model_to_image, *STILL, 0.0).light is None


@pytest.mark.parametrize("yaw_deg", [-90, 60, 90])
def test_a_profile_gives_finite_numbers_near_the_average_light(yaw_deg):
    image, track = drawn(random_light(7), np.zeros(SKIN.count, np.float32), yaw_deg)
    found = LightTrack(ESTIMATOR, 1.0)(image, track.model_to_image, *STILL, 0.0)
    assert np.isfinite(found.light.harmonics).all() and np.isfinite(found.skin).all()
    assert found.light.shading(sphere(100)).max() < 3


def test_a_grey_photograph_has_grey_light_and_noise_gives_finite_numbers():
    image, track = drawn(random_light(8), np.zeros(SKIN.count, np.float32))
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, image.shape, np.uint8)
    for picture in (grey, noise):
        found = LightTrack(ESTIMATOR, 1.0)(picture, track.model_to_image, *STILL, 0.0)
        assert np.isfinite(found.light.harmonics).all() and np.isfinite(found.light.tint).all()


def test_light_follows_a_change_with_its_time_constant():
    first, second = random_light(9), random_light(10)
    skin = np.zeros(SKIN.count, np.float32)
    (image, track), (other, _) = drawn(first, skin), drawn(second, skin)
    follow = LightTrack(ESTIMATOR, 1.0)
    start = follow(image, track.model_to_image, *STILL, 0.0).light.harmonics
    for k in range(1, 300):  # ten seconds at 30 Hz
        now = follow(other, track.model_to_image, *STILL, k / 30).light.harmonics
        if k == 30:
            middle = now
    way = np.linalg.norm(now - start)
    assert np.linalg.norm(middle - start) / way == pytest.approx(1 - math.exp(-1), abs=0.12)
    again = follow(other, track.model_to_image, *STILL, 10.0).light.harmonics
    assert np.abs(again - now).max() < 0.01


def test_without_smoothing_a_change_counts_at_once_and_settings_are_checked():
    skin = np.zeros(SKIN.count, np.float32)
    (image, track), (other, _) = drawn(random_light(11), skin), drawn(random_light(12), skin)
    follow = LightTrack(ESTIMATOR, 0.0)
    follow(image, track.model_to_image, *STILL, 0.0)
    for k in range(12):
        now = follow(other, track.model_to_image, *STILL, (k + 1) / 30)
    fresh = LightTrack(ESTIMATOR, 0.0)(other, track.model_to_image, *STILL, 0.0)
    np.testing.assert_allclose(now.light.shading(FRONT), fresh.light.shading(FRONT), atol=0.05)
    with pytest.raises(ValueError, match="smoothing_s"):
        LightConfig(smoothing_s=-1)


def test_a_face_model_without_a_layout_is_refused_in_one_line():
    plain = make_model(
        MODEL.mean, MODEL.shape_basis, np.zeros((1, *MODEL.mean.shape)), MODEL.triangles, MODEL.landmark_vertices
    )
    with pytest.raises(WeightsError, match="UV layout"):
        LightEstimator(plain, SKIN)
