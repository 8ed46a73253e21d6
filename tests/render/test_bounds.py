"""Bounds of a face that is given by coefficients."""

import numpy as np
import pytest

from facet.render.bounds import BlockBounds
from facet.tracker.morphable import load_face_model, make_model, project
from facet.tracker.weights import ROOT
from tests.render.heads import egg, place


@pytest.fixture(scope="module")
def model():
    return load_face_model(ROOT / "weights" / "face_model.npz")


@pytest.fixture(scope="module")
def bounds(model):
    return BlockBounds(model)


@pytest.mark.parametrize("seed", range(12))
def test_no_vertex_leaves_them_and_they_lie_close(model, bounds, seed):
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=model.shape_count).astype(np.float32)
    some = rng.random(model.expression_count) < 0.2
    expression = (rng.uniform(-0.2, 1, model.expression_count) * some).astype(np.float32)
    camera = place(egg(), *rng.uniform(-80, 80, 3), scale=1.3).model_to_image
    vertices = project(model.vertices(shape, expression), camera)
    low, high = bounds.in_picture(bounds.boxes(model.bake(shape)), expression, camera)
    assert (low <= vertices.min(axis=0) + 1e-3).all() and (high >= vertices.max(axis=0) - 1e-3).all()
    assert np.prod((high - low)[:2]) < 1.35 * np.prod(np.ptp(vertices[:, :2], axis=0))


@pytest.mark.parametrize("damaged", ["boxes", "expression", "camera"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_damage_shows(model, bounds, damaged, value):
    boxes, camera = bounds.boxes(model.mean).copy(), np.eye(3, 4, dtype=np.float32)
    expression = np.zeros(model.expression_count, np.float32)
    {"boxes": boxes[0, 7], "expression": expression, "camera": camera[0]}[damaged][1] = value
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(bounds.in_picture(boxes, expression, camera)).all()


def test_a_model_without_expressions():
    head = egg(8, 10)
    shapes, none = (np.zeros((count, *head.mean.shape), np.float32) for count in (1, 0))
    bounds = BlockBounds(make_model(head.mean, shapes, none, head.triangles, head.landmark_vertices))
    low, high = bounds.in_picture(bounds.boxes(head.mean), np.zeros(0, np.float32), np.eye(3, 4, dtype=np.float32))
    np.testing.assert_allclose([low, high], [head.mean.min(axis=0), head.mean.max(axis=0)], atol=1e-4)
