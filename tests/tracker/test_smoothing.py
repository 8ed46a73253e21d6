"""The filters, against a plain scalar version of the published algorithm and by what they must keep."""

import math

import numpy as np
import pytest

from facet.tracker.pose import pose_from_camera, rotation_from_angles
from facet.tracker.smoothing import (
    EuroParams,
    FaceFilter,
    RotationFilter,
    Sample,
    SmoothingConfig,
    VectorFilter,
    both_ways,
)


def plain_one_euro(samples, times, min_cutoff, beta, derivative_cutoff):
    """The published algorithm for one number, step by step."""
    out, last_raw, last_out, last_speed, last_time = [], None, None, 0.0, None
    for x, t in zip(samples, times, strict=True):
        if last_time is None:
            last_out = x
        else:
            dt = t - last_time
            alpha = lambda cutoff, dt=dt: 1.0 / (1.0 + (1.0 / (2 * math.pi * cutoff)) / dt)  # noqa: E731
            a = alpha(derivative_cutoff)
            last_speed = a * (x - last_raw) / dt + (1 - a) * last_speed
            a = alpha(min_cutoff + beta * abs(last_speed))
            last_out = a * x + (1 - a) * last_out
        last_raw, last_time = x, t
        out.append(last_out)
    return np.array(out)


def test_vector_filter_is_the_published_one():
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.uniform(0.01, 0.05, 200))
    samples = np.sin(3 * times) + rng.normal(0, 0.05, 200)
    smooth = VectorFilter(EuroParams(1.2, 0.7, 1.0))
    got = np.array([smooth(np.array([x]), t)[0] for x, t in zip(samples, times, strict=True)])
    np.testing.assert_allclose(got, plain_one_euro(samples, times, 1.2, 0.7, 1.0), atol=1e-12)


@pytest.mark.parametrize("start_s", [0.0, 7.5])
def test_first_sample_passes_and_a_constant_stays(start_s):
    smooth = VectorFilter(EuroParams(1.0, 0.1))
    value = np.array([3.0, -2.0])
    for step in range(5):
        np.testing.assert_allclose(smooth(value, start_s + step / 30), value)


def test_a_repeated_or_earlier_time_changes_nothing():
    smooth = VectorFilter(EuroParams(1.0, 0.1))
    smooth(np.zeros(1), 1.0)
    before = smooth(np.ones(1), 1.1)
    np.testing.assert_array_equal(smooth(np.full(1, 99.0), 1.1), before)
    np.testing.assert_array_equal(smooth(np.full(1, 99.0), 0.5), before)


def test_rotation_filter_stays_a_rotation_and_converges():
    smooth = RotationFilter(EuroParams(1.0, 0.5))
    smooth(np.eye(3), 0.0)
    target = rotation_from_angles(60, -20, 35)
    for step in range(1, 200):
        got = smooth(target, step / 30)
        np.testing.assert_allclose(got @ got.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(got) == pytest.approx(1)
    np.testing.assert_allclose(got, target, atol=1e-3)


def test_rotation_filter_takes_the_short_way_through_180_degrees():
    smooth = RotationFilter(EuroParams(0.5, 0.0))
    smooth(rotation_from_angles(0, 0, 170), 0.0)
    got = smooth(rotation_from_angles(0, 0, -170), 1 / 30)
    roll = math.degrees(math.atan2(got[1, 0], got[0, 0]))
    assert abs(roll) > 169


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0, -0.8), (-0.6, 0.48, 0.64)])
@pytest.mark.parametrize("degrees", [1e-4, 60, 179.9, 180])
def test_rotation_filter_turns_about_the_axis_of_the_turn(axis, degrees):
    angle, (x, y, z) = math.radians(degrees), axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    target = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    smooth = RotationFilter(EuroParams(2.0, 0.0))
    smooth(np.eye(3), 0.0)
    got = smooth(target, 1 / 30)
    np.testing.assert_allclose(got @ got.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(got @ axis, axis, atol=1e-9)
    gain = 1 / (1 + 30 / (2 * math.pi * 2.0))
    assert math.acos(min(1.0, (np.trace(got) - 1) / 2)) == pytest.approx(gain * angle, rel=1e-3, abs=1e-7)


def test_a_trend_takes_the_lag_of_even_motion_away():
    times = np.arange(90) / 30
    ramp = 0.2 * times
    late = {}
    for trend in (False, True):
        smooth = VectorFilter(EuroParams(2.0, 0.0, 1.0, trend))
        late[trend] = ramp[-1] - [smooth(np.array([x]), t)[0] for x, t in zip(ramp, times, strict=True)][-1]
    assert late[False] == pytest.approx(0.2 / (2 * math.pi * 2.0), rel=0.01), "speed x time constant"
    assert abs(late[True]) < 1e-4
    turns = [rotation_from_angles(40 * t, 0, 0) for t in times]
    smooth = RotationFilter(EuroParams(2.0, 0.0, 1.0, True))
    got = [smooth(turn, t) for turn, t in zip(turns, times, strict=True)][-1]
    np.testing.assert_allclose(got, turns[-1], atol=1e-3)


def test_a_head_that_stops_stops():
    config = SmoothingConfig()
    smooth = VectorFilter(
        EuroParams(config.position_cutoff_hz, config.position_beta, config.derivative_cutoff_hz, True)
    )
    path = np.concatenate([np.zeros(10), np.linspace(0, 1, 15), np.ones(30)])  # a face width in half a second
    got = np.array([smooth(np.array([x]), t / 30)[0] for t, x in enumerate(path)])
    assert got.max() < 1.01
    assert abs(got[-1] - 1) < 1e-3


def test_errors_that_cancel_at_the_anchor_stay_cancelled():
    """A head turned about its landmarks' middle moves the model's origin; the landmarks' middle must not move."""
    anchor = np.array([0.0, -8.0, 80.0])
    smooth, rng = None, np.random.default_rng(5)
    for step in range(40):
        camera = camera_of(rng.normal(0, 1.0), 2.0 * np.exp(rng.normal(0, 0.01)), [0, 0, 0]).astype(np.float64)
        camera[:2, 3] = (300, 200) - camera[:2, :3] @ anchor
        pose = pose_from_camera(camera)
        smooth = smooth or FaceFilter(SmoothingConfig(), (), pose, anchor)
        got, _ = apply(smooth, camera, np.zeros(0, "f4"), step / 30)
        np.testing.assert_allclose(got[:2, :3] @ anchor + got[:2, 3], [300, 200], atol=1e-3)
    assert got[2, 3] == 0, "z counts from the model's origin"


def test_shapes_stay_between_0_and_1():
    still = camera_of(0, 2.0, [300, 200, 0])
    smooth = FaceFilter(SmoothingConfig(), ("eyeBlink_L", "jawOpen"), pose_from_camera(still))
    wave = np.clip(0.5 + np.sin(np.arange(200) ** 1.5 / 20), 0, 1)
    got = [apply(smooth, still, np.full(2, w, "f4"), t / 30)[1] for t, w in enumerate(wave)]
    assert np.min(got) >= 0
    assert np.max(got) <= 1


@pytest.mark.parametrize("length", [3, 5])
def test_a_blink_keeps_its_depth(length):
    still = camera_of(0, 2.0, [300, 200, 0])
    smooth = FaceFilter(SmoothingConfig(), ("eyeBlink_L",), pose_from_camera(still))
    closing = np.zeros(40)
    closing[20 : 20 + length] = 1 - np.abs(np.linspace(-1, 1, length + 2)[1:-1])
    got = [apply(smooth, still, np.array([c], "f4"), t / 30)[1][0] for t, c in enumerate(closing)]
    assert max(got) >= 0.9


def apply(smooth, camera, expression, time_s):
    """Camera and expression after a face's filter."""
    done = smooth(Sample(np.asarray(camera, "f4"), pose_from_camera(camera), np.asarray(expression, "f4"), time_s))
    return done.camera, done.expression


def camera_of(yaw, scale, shift):
    flip = np.diag([1.0, -1.0, 1.0])
    return np.column_stack([flip @ rotation_from_angles(yaw, 5, 10) * scale, shift]).astype(np.float32)


def test_a_resting_face_passes_unchanged_and_noise_is_damped():
    rng = np.random.default_rng(0)
    still = camera_of(20, 2.0, [300, 200, 0])
    names = ("eyeBlink_L", "jawOpen")
    smooth = FaceFilter(SmoothingConfig(), names, pose_from_camera(still))
    raw, out = [], []
    for step in range(120):
        noisy = still + np.float32([[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]) * rng.normal(0, 0.15, (3, 1)).astype(
            "f4"
        )
        camera, expression = apply(smooth, noisy, np.array([0.1, 0.2], "f4"), step / 30)
        raw.append(noisy[:2, 3])
        out.append(camera[:2, 3])
    np.testing.assert_allclose(expression, [0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(camera[:, :3], still[:, :3], atol=1e-4)
    assert np.std(np.diff(out[10:], axis=0)) < 0.3 * np.std(np.diff(raw[10:], axis=0))


def test_eyes_follow_faster_than_the_rest():
    still = camera_of(0, 2.0, [300, 200, 0])
    smooth = FaceFilter(SmoothingConfig(), ("eyeBlink_L", "jawOpen"), pose_from_camera(still))
    apply(smooth, still, np.zeros(2, "f4"), 0.0)
    _, expression = apply(smooth, still, np.ones(2, "f4"), 1 / 30)
    assert expression[0] > expression[1]


@pytest.mark.parametrize("setting", [{"position_cutoff_hz": 0.0}, {"rotation_beta": -1.0}, {"eyelid_beta": math.nan}])
def test_settings_out_of_range(setting):
    with pytest.raises(ValueError, match=r"must be at least 0|0 Hz"):
        SmoothingConfig(**setting)


def test_both_ways_has_no_lag_and_less_noise():
    rng = np.random.default_rng(1)
    config = SmoothingConfig()
    true = np.column_stack([300 + 6 * np.sin(np.arange(120) / 14), np.full(120, 200.0)])
    samples = []
    for t, place in enumerate(true + rng.normal(0, 0.5, true.shape)):
        camera = camera_of(0, 2.0, [*place, 0])
        samples.append(Sample(camera, pose_from_camera(camera), np.zeros(0, "f4"), t / 30))
    ahead = 12
    forward, past, both = FaceFilter(config, (), samples[0].pose), [], []
    for t, sample in enumerate(samples):
        past.append(forward(sample))
        if t >= ahead:
            both.append(both_ways(forward, past[t - ahead], samples[t - ahead : t + 1]).camera[:2, 3])
    error = {
        name: np.sqrt(np.mean((np.array(places)[20:] - true[20 : len(places)]) ** 2))
        for name, places in {
            "raw": [sample.camera[:2, 3] for sample in samples[:-ahead]],
            "past": [sample.camera[:2, 3] for sample in past[:-ahead]],
            "both": both,
        }.items()
    }
    assert error["both"] < 0.8 * error["raw"]
    assert error["both"] < error["past"]


def test_both_ways_of_a_single_frame_is_that_frame():
    camera = camera_of(10, 2.0, [300, 200, 0])
    sample = Sample(camera, pose_from_camera(camera), np.zeros(0, "f4"), 0.0)
    forward = FaceFilter(SmoothingConfig(), (), sample.pose)
    np.testing.assert_allclose(both_ways(forward, forward(sample), [sample]).camera, camera, atol=1e-4)


@pytest.mark.parametrize("setting", [{"lookahead": -1}, {"lookahead": 3, "enabled": False}])
def test_wrong_lookahead(setting):
    with pytest.raises(ValueError, match="lookahead"):
        SmoothingConfig(**setting)
