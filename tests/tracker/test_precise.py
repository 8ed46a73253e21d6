"""Precise mode: the aligner's points are published, smoothed in the face's own axes; without one nothing changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facet.tracker.aligner import COUNT, Alignment, PointFilter, placed
from facet.tracker.loop import FaceTracker
from facet.tracker.outputs.record import columns, frame_record, rows
from facet.tracker.pose import pose_from_camera
from facet.tracker.smoothing import Sample, SmoothingConfig
from facet.tracker.types import Roi
from tests.tracker.fakes import BLUE, RED, DiscDetector, DiscRegressor, RingModel, frame

RAW = SmoothingConfig(enabled=False)


class SquareAligner:
    """Puts all points on a square about the middle of the landmarks that it is given, moved by `shift`."""

    def __init__(self):
        self.faces: list[int] = []
        self.shift = np.zeros(2)
        angle = np.linspace(0.01, 2 * np.pi, COUNT, endpoint=False)
        self.square = np.column_stack([np.sign(np.cos(angle)), np.sign(np.sin(angle)), np.zeros(COUNT)])

    def __call__(self, image, landmarks, rolls_deg):
        self.faces.append(len(landmarks))
        found = []
        for points in landmarks:
            middle = np.r_[points[:, :2].mean(axis=0) + self.shift, 0]
            spread = np.linspace(1, 2, COUNT, dtype=np.float32)
            face = np.zeros((32, 32), np.float32)
            aligned = (middle + 20 * self.square).astype(np.float32)
            found.append(Alignment(aligned, spread / 4, spread, face, Roi(0, 0, 1)))
        return found


def make_tracker(aligner, smoothing=RAW):
    return FaceTracker(DiscDetector(), DiscRegressor(), RingModel(), smoothing=smoothing, aligner=aligner)


def test_the_aligners_points_are_published():
    aligner = SquareAligner()
    tracker = make_tracker(aligner)
    for index in range(3):
        (face,) = tracker.step(frame(index, (100, 80, 30, RED)))
        np.testing.assert_allclose(np.abs(face.landmarks[:, :2] - (100, 80)), 20, atol=1.0)
        assert face.irises.shape == (2, 3)
        np.testing.assert_allclose(face.landmark_spread_px, np.linspace(1, 2, COUNT)[:68], atol=1e-5)
        assert face.landmark_visible.shape == (68,)


def test_all_faces_go_through_the_aligner_in_one_run_and_none_where_there_is_none():
    aligner = SquareAligner()
    tracker = make_tracker(aligner)
    tracker.step(frame(0))
    for index in range(1, 4):
        assert len(tracker.step(frame(index, (80, 80, 30, RED), (230, 150, 30, BLUE)))) == 2
    assert aligner.faces == [0, 2, 2, 2]


def test_without_an_aligner_records_are_as_before():
    picture = frame(0, (100, 80, 30, RED))
    plain, precise = (make_tracker(a).step(picture) for a in (None, SquareAligner()))
    before, after = frame_record(picture, plain)["faces"][0], frame_record(picture, precise)["faces"][0]
    assert set(after) - set(before) == {"landmark_spread_px", "landmark_visible"}
    assert before["irises"] is None and len(after["irises"]) == 2
    assert len(after["landmark_spread_px"]) == len(after["landmark_visible"]) == 68
    # tables have the columns of all modes
    for record in (frame_record(picture, plain), frame_record(picture, precise)):
        assert set(rows(record)[0]) <= set(columns(()) + tuple(f"blendshapes.{n}" for n in before["blendshapes"]))


def test_smoothed_points_of_a_face_at_rest_stay_and_follow_a_moving_head():
    aligner = SquareAligner()
    tracker = make_tracker(aligner, SmoothingConfig())
    rng = np.random.default_rng(0)
    still = []
    for index in range(60):
        aligner.shift = rng.normal(0, 0.5, 2)
        (face,) = tracker.step(frame(index, (100, 80, 30, RED)))
        still.append(face.landmarks[:, :2])
    assert np.abs(np.diff(still[30:], axis=0)).mean() < 0.25  # 0.56 where nothing smooths
    np.testing.assert_allclose(np.abs(np.mean(still[30:], axis=0) - (100, 80)), 20, atol=1.0)
    aligner.shift = np.zeros(2)
    for index in range(60, 90):
        (face,) = tracker.step(frame(index, (100 + 2 * (index - 59), 80, 30, RED)))
    np.testing.assert_allclose(np.abs(face.landmarks[:, :2] - (160, 80)), 20, atol=2.5)


def test_lookahead_publishes_them_too():
    tracker = make_tracker(SquareAligner(), SmoothingConfig(lookahead=3))
    done = []
    for index in range(6):
        done += tracker.push(frame(index, (100, 80, 30, RED)))
    done += tracker.flush()
    assert len(done) == 6
    for _, (face,) in done:
        np.testing.assert_allclose(np.abs(face.landmarks[:, :2] - (100, 80)), 20, atol=1.0)
        assert face.irises is not None


@pytest.mark.parametrize("roll_deg", [0.0, 35.0, 180.0])
def test_a_filter_gives_back_its_first_points(roll_deg):
    angle = np.radians(roll_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    camera = np.array([[cos, -sin, 0, 300], [-sin, -cos, 0, 200], [0, 0, 1, 0]], np.float32) * 1.5
    sample = Sample(camera, pose_from_camera(camera), np.zeros(1, np.float32), 0.0)
    points = np.random.default_rng(0).uniform(0, 500, (COUNT, 3))
    anchor = np.array([1.0, -20, 60])
    own = PointFilter(SmoothingConfig())(points, sample, anchor)
    np.testing.assert_allclose(placed(own, sample, anchor), points, atol=1e-2)
    # of the same face elsewhere they move with it
    moved = replace(sample, camera=camera + np.array([[0, 0, 0, 7], [0, 0, 0, -3], [0, 0, 0, 0]], np.float32))
    np.testing.assert_allclose(
        placed(own, moved, anchor) - placed(own, sample, anchor), [[7, -3, 0]] * COUNT, atol=1e-2
    )
