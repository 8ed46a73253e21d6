"""Where the aligner's points lie in the image, and files that are no aligner."""

from __future__ import annotations

import numpy as np
import pytest

from facet.tracker.aligner import COUNT, IRISES, VALUES, Aligner
from facet.tracker.crop import CropSpec
from facet.tracker.errors import WeightsError
from facet.tracker.weights import ROOT, WeightsEntry

SIZE = 128
SPEC = CropSpec(SIZE, 1.35, 0.0, 1.35, upright=True)


class BrightestSpot:
    """A network whose points all lie on the brightest pixel of the crop."""

    def run(self, crops):
        points = np.zeros((len(crops), COUNT, VALUES), np.float32)
        for crop, values in zip(crops, points, strict=True):
            y, x = np.unravel_index(crop.sum(axis=2).argmax(), crop.shape[:2])
            values[:] = (x + 0.5) / SIZE, (y + 0.5) / SIZE, 0.1, 0.9, 0.02
        return points, np.ones((len(crops), SIZE // 4, SIZE // 4), np.float32)


def face(centre, longer, roll_deg=0.0):
    """68 points that fill a square."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (68, 2))
    points[:4] = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]
    angle = np.radians(roll_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points * longer @ turn.T + centre).astype(np.float32)


@pytest.mark.parametrize("roll_deg", [0.0, 30.0, -100.0])
def test_points_lie_where_the_image_shows_them(roll_deg):
    image = np.zeros((400, 500, 3), np.uint8)
    image[218:222, 258:262] = 255
    aligner = Aligner(BrightestSpot(), SPEC)
    faces = [face((250, 210), 120, roll_deg), face((255, 215), 160)]
    for found, longer in zip(aligner(image, faces, [roll_deg, 0.0]), (120, 160), strict=True):
        px = 1.35 * longer / SIZE  # of the image in a px of the crop
        np.testing.assert_allclose(found.landmarks[:, :2], np.tile([260, 220], (68, 1)), atol=1.5 * px + 2)
        assert found.points[0, 2] == pytest.approx(0.1 * 1.35 * longer, rel=1e-3)
        assert found.spread_px[0] == pytest.approx(0.02 * 1.35 * longer, rel=1e-3)
        np.testing.assert_array_equal(found.irises, found.points[IRISES])


@pytest.mark.parametrize(("centre", "longer"), [((0, 0), 100), ((499, 399), 24), ((-300, 200), 80), ((250, 200), 3000)])
def test_faces_at_the_border_small_and_large_give_numbers(centre, longer):
    image = np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    (found,) = Aligner(BrightestSpot(), SPEC)(image, [face(centre, longer)], [0.0])
    assert np.isfinite(found.points).all() and np.isfinite(found.spread_px).all()


def test_no_face_runs_nothing():
    assert Aligner(None, SPEC)(np.zeros((10, 10, 3), np.uint8), [], []) == []


def test_a_file_of_another_kind_is_refused():
    path = ROOT / "weights" / "regressor.onnx"
    table = {"size_px": 112, "landmark_scale": 1.35, "upright": True}
    with pytest.raises(WeightsError, match=r"regressor\.onnx: expected"):
        Aligner.open(WeightsEntry("aligner", path, "aligner", "", "", "", table))
    with pytest.raises(WeightsError, match="expected size_px"):
        Aligner.open(WeightsEntry("aligner", path, "aligner", "", "", "", {"landmark_scale": 1.35}))
