import math

import cv2
import numpy as np
import pytest

from facet.tracker.crop import STYLES, CropSpec, crop_to_image, cut, cut_batch, roi_from_box, roi_from_landmarks
from facet.tracker.types import Box, Roi
from tests import reference

UPSTREAM = CropSpec(
    size_px=120, box_scale=1.58, box_shift_y=0.14, landmark_scale=math.sqrt(2), style="upstream", origin_px=0.5
)
UPRIGHT = CropSpec(
    size_px=112, box_scale=1.5, box_shift_y=0.1, landmark_scale=1.4, landmark_shift_y=-0.05, upright=True
)


def apply(matrix, points):
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def blob(width, height, x, y, sigma):
    """A bright spot whose centre is known to a thousandth of a pixel."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spot = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(spot.round().astype(np.uint8)[..., None], 3, axis=2)


def centroid(crop):
    weight = crop[..., 0].astype(np.float64)
    at = np.arange(len(crop)) + 0.5
    return np.array([(weight * at).sum(), (weight * at[:, None]).sum()]) / weight.sum()


# --- where the crop lies


@pytest.mark.parametrize("box", [(119.597, 93.464, 290.694, 312.381), (-20.5, -3.0, 40.0, 55.5), (0, 0, 7, 9)])
def test_box_crop_is_upstreams(box):
    roi = roi_from_box(Box(*box, score=0.9), UPSTREAM)
    assert (roi.x, roi.y, roi.x + roi.size, roi.y + roi.size) == pytest.approx(
        reference.Upstream3DDFA.roi_of_box(*box), abs=1e-9
    )


def test_landmark_crop_is_upstreams_but_for_its_half_pixel():
    points = np.random.default_rng(0).uniform(50, 250, (68, 3))
    seen_in = Roi(10, 20, 360)
    shifted = points[:, :2] - 0.5 * 360 / 120
    roi = roi_from_landmarks(points, UPSTREAM, 30.0, seen_in)
    assert (roi.x, roi.y, roi.x + roi.size, roi.y + roi.size) == pytest.approx(
        reference.Upstream3DDFA.roi_of_points(shifted.T), abs=1e-9
    )
    assert roi.roll_deg == 0


@pytest.mark.parametrize("roll", [0.0, 17.0, -120.0])
def test_upright_crop_turns_with_the_head(roll):
    # an upright head, then the same head turned counter-clockwise on the screen about the image's origin
    points = np.random.default_rng(1).uniform([100, 60], [180, 200], (68, 2))
    upright = roi_from_landmarks(points, UPRIGHT, 0.0)
    angle = math.radians(roll)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = roi_from_landmarks(points @ turn.T, UPRIGHT, roll)
    assert turned.size == pytest.approx(upright.size)
    assert turned.roll_deg == roll
    # each point keeps its place in the crop
    for point in points[:5]:
        before = np.linalg.solve(crop_to_image(upright, 112)[:, :2], point - crop_to_image(upright, 112)[:, 2])
        matrix = crop_to_image(turned, 112)
        after = np.linalg.solve(matrix[:, :2], turn @ point - matrix[:, 2])
        assert after == pytest.approx(before, abs=1e-9)


def test_shift_moves_the_crop_down_by_a_share_of_the_longer_side():
    points = np.array([[0, 0], [50, 100.0]])
    centre = roi_from_landmarks(points, UPRIGHT).centre
    assert centre == pytest.approx((25, 50 - 0.05 * 100))


@pytest.mark.parametrize("roi", [Roi(0, 0, 112), Roi(-30.25, 12.5, 400), Roi(5, 6, 33.3, 25.0), Roi(0, 0, 80, -170.0)])
def test_crop_to_image_keeps_centre_and_length(roi):
    matrix = crop_to_image(roi, 112)
    assert apply(matrix, [56, 56]) == pytest.approx(roi.centre)
    corners = apply(matrix, [[0, 0], [112, 0], [0, 112]])
    assert np.linalg.norm(corners[1] - corners[0]) == pytest.approx(roi.size)
    assert np.linalg.norm(corners[2] - corners[0]) == pytest.approx(roi.size)
    if roi.roll_deg == 0:
        assert corners[0] == pytest.approx((roi.x, roi.y))


def test_positive_roll_stands_a_head_tilted_counter_clockwise_upright():
    # its chin-to-brow direction points to the upper left of the screen
    up = apply(crop_to_image(Roi(0, 0, 100, 30.0), 100), [[50, 50], [50, 0]])
    assert (up[1] - up[0]) / 50 == pytest.approx((-math.sin(math.radians(30)), -math.cos(math.radians(30))))


@pytest.mark.parametrize(
    "values", [{"style": "nearest"}, {"size_px": 0}, {"box_scale": 0.0}, {"landmark_scale": -1.0}]
)
def test_bad_spec_is_refused(values):
    good = {"size_px": 112, "box_scale": 1.5, "box_shift_y": 0.0, "landmark_scale": 1.4}
    with pytest.raises(ValueError):
        CropSpec(**(good | values))


# --- what is in it


@pytest.mark.parametrize("style", STYLES)
def test_whole_pixels_at_scale_one_are_copied(style):
    image = np.random.default_rng(0).integers(0, 256, (90, 100, 3), dtype=np.uint8)
    assert (cut(image, Roi(13, 7, 64), 64, style) == image[7:71, 13:77]).all()


@pytest.mark.parametrize("roi", [Roi(-15, -9, 64), Roi(70, 60, 64)])
@pytest.mark.parametrize("style", STYLES)
def test_outside_the_image_is_black(style, roi):
    image = np.random.default_rng(0).integers(1, 256, (90, 100, 3), dtype=np.uint8)
    crop = cut(image, roi, 64, style)
    padded = np.zeros((290, 300, 3), np.uint8)
    padded[100:190, 100:200] = image
    assert (crop == padded[100 + int(roi.y) : 164 + int(roi.y), 100 + int(roi.x) : 164 + int(roi.x)]).all()


@pytest.mark.parametrize(
    "roi",
    [
        Roi(500, 10, 40), Roi(-90, -90, 60, 30.0), Roi(1e8, 0, 50), Roi(1e300, 0, 50), Roi(0, -1e300, 1e299),
        Roi(0, 0, 1e12),
    ],
)  # fmt: skip
@pytest.mark.parametrize("style", STYLES)
def test_nothing_of_the_image_in_the_crop_is_no_error(style, roi):
    crop = cut(np.full((40, 50, 3), 255, np.uint8), roi, 32, style)
    assert crop.shape == (32, 32, 3) and crop.dtype == np.uint8
    assert crop.max() == 0


@pytest.mark.parametrize("size", [0.0, -3.0, math.nan, math.inf])
@pytest.mark.parametrize("style", STYLES)
def test_no_area_is_refused(style, size):
    with pytest.raises(ValueError, match="area"):
        cut(np.zeros((40, 50, 3), np.uint8), Roi(0, 0, size), 32, style)


@pytest.mark.parametrize("style", STYLES)
def test_one_pixel_image_and_tiny_roi(style):
    image = np.full((1, 1, 3), 77, np.uint8)
    assert cut(image, Roi(0, 0, 1), 16, style)[8, 8] == pytest.approx(77, abs=6)  # "area" meets the black outside
    assert cut(image, Roi(0, 0, 1e-3), 16, style).shape == (16, 16, 3)


@pytest.mark.parametrize("seed", range(24))
def test_area_crop_puts_a_spot_where_it_belongs(seed):
    random = np.random.default_rng(seed)
    size = int(random.choice([96, 112, 120]))
    side = float(np.exp(random.uniform(np.log(40), np.log(700))))
    roll = float(random.uniform(-60, 60)) if seed % 3 else 0.0
    at = random.uniform(350, 450, 2)
    corner = at - random.uniform(0.4, 0.6, 2) * side
    roi = Roi(*corner.tolist(), side, roll)
    image = blob(800, 800, *at, sigma=4 * max(0.8, side / size))
    assert apply(crop_to_image(roi, size), centroid(cut(image, roi, size))) == pytest.approx(at, abs=0.02 * side / size)


@pytest.mark.parametrize("roi", [Roi(20.3, 31.7, 230), Roi(-20, 100.2, 301.5), Roi(60.5, 60.5, 171, 33.0)])
def test_area_crop_averages(roi):
    # against the mean of many samples of each crop pixel, on a picture that is smooth at the scale of the crop
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(noise, (0, 0), 3 * roi.size / 64, borderType=cv2.BORDER_REFLECT)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    expected = reference.area_crop(image, roi, 64)
    difference = np.abs(cut(image, roi, 64) - expected)
    assert difference.mean() < 1.5
    assert np.percentile(difference, 95) < 4.0


@pytest.mark.parametrize("halvings", [1, 2, 3])
@pytest.mark.parametrize("odd", [0, 1])
def test_a_crop_of_whole_blocks_is_their_means(halvings, odd):
    """The crop's right and lower border lies beyond an image whose sides may be odd: there the missing pixels are 0."""
    size, block = 40, 2**halvings
    side = size * block - odd
    image = np.random.default_rng(halvings).integers(0, 256, (side, side, 3), dtype=np.uint8)
    expected = np.zeros((size * block, size * block, 3))
    expected[:side, :side] = image
    for _ in range(halvings):
        expected = np.floor(expected.reshape(len(expected) // 2, 2, -1, 2, 3).mean(axis=(1, 3)) + 0.5)
    assert (cut(image, Roi(0, 0, size * block), size) == expected).all()


@pytest.mark.parametrize("side", [130, 260, 430, 700])
def test_area_crop_calms_noise_as_it_shrinks(side):
    random = np.random.default_rng(0)
    image = (128 + random.normal(0, 20, (800, 800, 3))).clip(0, 255).astype(np.uint8)
    scale = side / 112
    assert cut(image, Roi(31.4, 27.8, side), 112).std() < 20 / scale * 1.35
    # what upstream's way leaves standing
    if scale > 3:
        assert cut(image, Roi(31.4, 27.8, side), 112, "upstream").std() > 20 / scale * 1.5


def test_flat_picture_stays_flat_whatever_the_turn():
    image = np.full((601, 603, 3), 200, np.uint8)
    for seed in range(40):
        random = np.random.default_rng(seed)
        side = float(np.exp(random.uniform(np.log(5), np.log(380))))
        x, y = random.uniform(280, 320, 2) - side / 2
        assert (cut(image, Roi(x, y, side, float(random.uniform(-180, 180))), 64) == 200).all()


@pytest.mark.parametrize("roi", [Roi(10.4, 7.6, 77), Roi(-31.5, 3.5, 120.2), Roi(40, -100, 333.3), Roi(3, 3, 30.5)])
def test_upstream_crop_is_upstreams(roi):
    image = np.random.default_rng(2).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    edges = roi.x, roi.y, roi.x + roi.size, roi.y + roi.size
    assert (cut(image, roi, 120, "upstream") == reference.Upstream3DDFA.crop(image, edges)).all()


def test_batch_is_the_single_cuts():
    image = np.random.default_rng(0).integers(0, 256, (90, 100, 3), dtype=np.uint8)
    rois = [Roi(3, 4, 50), Roi(20, 10, 70, 12.0)]
    crops = cut_batch(image, rois, 32)
    assert (crops == np.stack([cut(image, roi, 32) for roi in rois])).all()
    assert cut_batch(image, [], 32).shape == (0, 32, 32, 3)


def test_image_is_left_alone_and_may_be_a_view():
    image = np.random.default_rng(0).integers(0, 256, (90, 200, 3), dtype=np.uint8)
    before, view = image.copy(), image[:, ::2]
    assert (cut(view, Roi(3, 4, 70), 32) == cut(np.ascontiguousarray(view), Roi(3, 4, 70), 32)).all()
    assert (image == before).all()


@pytest.mark.parametrize("roi", [Roi(3.3, 7.7, 700.0), Roi(-80.0, -50.0, 1200.0, 25.0)])
def test_a_large_crop_is_shrunk_in_bands_without_a_difference(monkeypatch, roi):
    image = np.random.default_rng(3).integers(0, 256, (903, 1001, 3), np.uint8)
    whole = cut(image, roi, 64)
    monkeypatch.setattr("facet.tracker.crop.BAND_PX", 20_000)
    assert np.array_equal(cut(image, roi, 64), whole)
