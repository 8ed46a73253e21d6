import numpy as np
import pytest

from facet.detect.postprocess import best_boxes, decode, suppress
from facet.detect.priors import make_priors
from tests import reference


def random_boxes(count, seed, spread=100.0):
    random = np.random.default_rng(seed)
    corner = random.uniform(0, spread, (count, 2))
    size = random.uniform(5, 60, (count, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32), random.permutation(count).astype(
        np.float32
    ) / max(1, count)


@pytest.mark.parametrize("min_score", [0.0, 0.5, 0.99, 1.0])
def test_decoding_is_the_plain_one(min_score):
    random = np.random.default_rng(0)
    priors = make_priors(96, 128)
    offsets = random.normal(0, 1.5, (len(priors), 4)).astype(np.float32)
    scores = random.uniform(0, 1, len(priors)).astype(np.float32)
    boxes, kept = decode(offsets, scores, priors, min_score)
    expected = reference.decode(offsets, reference.priors(96, 128)) * [128, 96, 128, 96]
    assert boxes == pytest.approx(expected[scores > min_score], rel=1e-4, abs=1e-3)
    assert (kept == scores[scores > min_score]).all()


def test_nothing_above_the_threshold():
    priors = make_priors(32, 32)
    boxes, scores = decode(np.zeros((23, 4), np.float32), np.zeros(23, np.float32), priors, 0.5)
    assert boxes.shape == (0, 4) and scores.shape == (0,)
    boxes, scores = best_boxes(boxes, scores, 0.3, 1.0, 5000, 750)
    assert boxes.shape == (0, 4) and scores.shape == (0,)


def test_a_score_that_is_no_number_is_no_face():
    priors = make_priors(32, 32)
    scores = np.full(23, np.nan, np.float32)
    assert len(decode(np.zeros((23, 4), np.float32), scores, priors, 0.5)[0]) == 0


@pytest.mark.parametrize("edge_px", [0.0, 1.0])
@pytest.mark.parametrize("max_iou", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("count", [0, 1, 2, 30, 300])
def test_suppression_is_the_plain_one(count, max_iou, edge_px):
    boxes, scores = random_boxes(count, seed=count)
    kept_boxes, kept_scores = best_boxes(boxes, scores, max_iou, edge_px, 5000, 750)
    expected = reference.nms(boxes, scores, max_iou, edge_px)
    assert (kept_boxes == boxes[expected].reshape(-1, 4)).all()
    assert (kept_scores == scores[expected]).all()


def test_the_edge_pixel_makes_small_boxes_overlap_more():
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2]], np.float32)  # 2 of 6 without, 6 of 12 with the edge
    order = np.arange(2)
    assert suppress(boxes, order, 0.4, 0.0, 10).tolist() == [0, 1]
    assert suppress(boxes, order, 0.4, 1.0, 10).tolist() == [0]


def test_equality_suppresses():
    boxes = np.array([[0, 0, 2, 2], [0, 0, 2, 4]], np.float32)  # exactly one half
    assert suppress(boxes, np.arange(2), 0.5, 0.0, 10).tolist() == [0]


def test_limits():
    boxes = np.array([[10 * i, 0, 10 * i + 5, 5] for i in range(20)], np.float32)
    scores = np.linspace(0, 0.9, 20, dtype=np.float32)
    assert len(best_boxes(boxes, scores, 0.3, 0.0, 5000, 7)[0]) == 7
    few, best = best_boxes(boxes, scores, 0.3, 0.0, 3, 750)
    assert len(few) == 3 and best.tolist() == scores[::-1][:3].tolist()


def test_boxes_without_extent_stand_alone():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [9, 9, 3, 3]], np.float32)
    assert len(best_boxes(boxes, np.array([0.9, 0.8, 0.7], np.float32), 0.3, 0.0, 10, 10)[0]) >= 1
