"""Several predictions for one face become one."""

import numpy as np
import pytest

from facet.tracker.agreement import mean_of, unzoomed
from facet.tracker.pose import model_to_image
from facet.tracker.types import FaceParams, Roi

SIZE_PX = 112


def face_of(seed, score=0.5):
    rng = np.random.default_rng(seed)
    camera, shape, expression = (rng.normal(size=size).astype(np.float32) for size in ((3, 4), 5, 7))
    camera[2, 3] = 0
    return FaceParams(camera, shape, expression, score)


@pytest.mark.parametrize("zoom", [0.9, 1.0, 1.2])
def test_a_prediction_for_a_zoomed_crop_lies_in_the_image_where_it_did(zoom):
    face, roi = face_of(0), Roi(30.5, -12.0, 240.0, roll_deg=33.0)
    before = model_to_image(face.camera, roi.zoomed(zoom), SIZE_PX)
    reported = unzoomed(face, zoom, SIZE_PX)
    np.testing.assert_allclose(model_to_image(reported.camera, roi, SIZE_PX), before, atol=1e-4)
    assert (reported.shape is face.shape, reported.expression is face.expression, reported.score) == (True, True, 0.5)


def test_a_zoomed_square_keeps_its_centre_and_roll():
    roi = Roi(10.0, 20.0, 100.0, 15.0)
    assert roi.zoomed(1.1) == Roi(pytest.approx(5.0), pytest.approx(15.0), pytest.approx(110.0), 15.0)
    assert roi.zoomed(1.0) == roi


def test_the_mean_of_answers():
    faces = [face_of(1, 0.25), face_of(2, 0.5), face_of(3, 0.75)]
    mean = mean_of(faces)
    for name in ("camera", "shape", "expression"):
        expected = sum(getattr(face, name) for face in faces) / 3
        np.testing.assert_allclose(getattr(mean, name), expected, atol=1e-6)
        assert getattr(mean, name).dtype == np.float32
    assert mean.score == pytest.approx(0.5)  # odds of 1 to 3, 1 to 1 and 3 to 1
    assert mean_of([*faces, face_of(4, None)]).score is None


def test_one_doubtful_look_does_not_outweigh_the_others():
    sure = [face_of(seed, 0.999) for seed in range(3)]
    assert mean_of([*sure, face_of(3, 0.9)]).score > 0.996  # the mean of the scores would be 0.974
    assert mean_of([face_of(0, 1.0), face_of(1, 0.0)]).score == pytest.approx(0.5)
    assert mean_of([face_of(seed, 1.0) for seed in range(4)]).score > 0.99999
