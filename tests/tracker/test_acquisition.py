"""Boxes completed at the border, and searched for in turned images."""

import cv2
import numpy as np
import pytest

from facet.detect import open_detector
from facet.tracker import FaceTracker
from facet.tracker.acquisition import QUARTER_TURNS, completed, turned_boxes, whole_boxes
from facet.tracker.crop import CropSpec, roi_from_box
from facet.tracker.tracks import TrackerConfig
from facet.tracker.types import Box, Frame
from tests.conftest import ROOT

SPEC = CropSpec(size_px=112, box_scale=1.42, box_shift_y=0.12, landmark_scale=1.35, upright=True)


@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((100, 100, 150, 200), (100, 100, 150, 200)),  # narrow, but nothing cuts it off
        ((0, 100, 40, 200), (-40, 100, 40, 200)),
        ((3, 100, 43, 200), (-37, 100, 43, 200)),  # a detector's boxes end near the border, not on it
        ((280, 100, 320, 200), (280, 100, 360, 200)),
        ((100, 0, 180, 40), (100, -60, 180, 40)),
        ((100, 200, 180, 240), (100, 200, 180, 300)),
        ((0, 0, 320, 240), (0, 0, 320, 240)),  # the whole image: it is not known where the rest lies
    ],
)
def test_a_box_at_the_border_is_completed(box, whole):
    found = completed(Box(*box, 0.9), 320, 240, aspect=0.8)
    assert (found.x_min, found.y_min, found.x_max, found.y_max) == pytest.approx(whole)


def test_a_box_inside_the_image_is_one_candidate():
    box = Box(100, 100, 150, 200, 0.9)
    assert whole_boxes([box], 320, 240) == [[box]]
    assert len(whole_boxes([Box(0, 100, 40, 200, 0.9)], 320, 240)[0]) > 1


def test_no_box_is_no_candidate():
    assert whole_boxes([], 320, 240) == []
    assert turned_boxes(lambda image: (), np.zeros((24, 32, 3), np.uint8), 90) == []


@pytest.mark.parametrize("roll_deg", QUARTER_TURNS)
@pytest.mark.parametrize("size_wh", [(320, 240), (5000, 300)])
def test_a_patch_is_found_where_it_is_in_whatever_turn(roll_deg, size_wh):
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    image[40:90, 200:260] = 255

    def detect(turned):
        y, x = np.nonzero(turned[..., 0] > 127)
        return (Box(x.min(), y.min(), x.max() + 1, y.max() + 1, 0.9),)

    ((box,),) = turned_boxes(detect, image, roll_deg)
    assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx((200, 40, 260, 90), abs=1.5)
    assert box.roll_deg == roll_deg


@pytest.mark.parametrize(
    ("roll_deg", "down"), [(0, (0, 1)), (90, (1, 0)), (-90, (-1, 0)), (180, (0, -1))]
)  # counter-clockwise: at 90 degrees the chin points to image right
def test_the_first_crop_lies_lower_in_the_heads_own_sense(roll_deg, down):
    roi = roi_from_box(Box(100, 100, 200, 200, 0.9, roll_deg), SPEC)
    assert roi.centre == pytest.approx((150 + 12 * down[0], 150 + 12 * down[1]))
    assert roi.roll_deg == roll_deg


@pytest.fixture(scope="module")
def portrait():
    """A frame of the demo with the landmarks of the face in it, upright."""
    ok, image = cv2.VideoCapture(str(ROOT / "samples" / "demo.mp4")).read()
    assert ok
    with_face = FaceTracker.open(open_detector())
    (face,) = with_face.step(Frame(0, 0.0, image, first=True, still=True))
    return image, face.landmarks[:, :2]


def rolled(image, points, roll_deg):
    """Image and points turned counter-clockwise about the middle, in a square that holds all of it."""
    height, width = image.shape[:2]
    side = int(np.hypot(height, width))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), roll_deg, 1.0)
    matrix[:, 2] += side / 2 - np.array([width, height]) / 2
    pixels = matrix.copy()
    pixels[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(image, pixels, (side, side), borderMode=cv2.BORDER_REPLICATE), (
        points @ matrix[:, :2].T + matrix[:, 2]
    )


@pytest.mark.parametrize("roll_deg", range(0, 360, 30))
def test_a_still_is_fitted_right_at_any_roll(portrait, roll_deg):
    image, points = rolled(*portrait, roll_deg)
    tracker = FaceTracker.open(open_detector())
    (face,) = tracker.step(Frame(0, 0.0, image, first=True, still=True))
    size = np.sqrt(np.prod(np.ptp(portrait[1], axis=0)))
    assert np.linalg.norm(face.landmarks[:, :2] - points, axis=1).mean() < 0.03 * size
    assert abs((face.pose.roll_deg - roll_deg + 180) % 360 - 180) < 15


@pytest.mark.parametrize("roll_deg", [90, 180, 270])
def test_a_rolled_head_that_comes_into_an_empty_scene_is_tracked_within_ten_frames(portrait, roll_deg):
    image, points = rolled(*portrait, roll_deg)
    empty = np.full_like(image, 90)
    calls = []
    detector = open_detector()

    def detect(image):
        calls.append(image.shape)
        return detector(image)

    tracker = FaceTracker.open(detect)
    for index in range(20):
        assert tracker.step(Frame(index, index / 30, empty, first=index == 0)) == ()
    assert len(calls) <= 3 + 2 * 20, "an empty scene costs at most twice the detections"
    faces = [tracker.step(Frame(20 + k, (20 + k) / 30, image)) for k in range(10)]
    assert faces[-1]
    size = np.sqrt(np.prod(np.ptp(portrait[1], axis=0)))
    assert np.linalg.norm(faces[-1][0].landmarks[:, :2] - points, axis=1).mean() < 0.05 * size


def test_half_a_face_at_the_border_is_fitted_where_it_is(portrait):
    image, points = portrait
    middle = int(points[30, 0])
    for part, shift in ((image[:, middle:], -middle), (image[:, : middle + 1], 0)):
        tracker = FaceTracker.open(open_detector(), config=TrackerConfig(start_fit=0.3))
        (face,) = tracker.step(Frame(0, 0.0, np.ascontiguousarray(part), first=True, still=True))
        size = np.sqrt(np.prod(np.ptp(points, axis=0)))
        assert np.linalg.norm(face.landmarks[:, :2] - points - (shift, 0), axis=1).mean() < 0.1 * size
