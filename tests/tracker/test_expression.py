"""Expressions for a settled shape: nothing is lost, nothing is made up, what is drawn stays where it was seen."""

from dataclasses import replace

import numpy as np
import pytest

from facet.tracker.expression import ExpressionSolver
from facet.tracker.morphable import load_face_model
from facet.tracker.weights import ROOT

CAMERA = np.float32([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0]])


@pytest.fixture(scope="module")
def model():
    return load_face_model(ROOT / "weights" / "face_model.npz")


def a_face(model, seed):
    rng = np.random.default_rng(seed)
    shape = (0.8 * rng.normal(size=model.shape_count)).astype(np.float32)
    expression = np.zeros(model.expression_count, np.float32)
    expression[rng.choice(len(expression), 5, replace=False)] = rng.uniform(0.2, 0.8, 5)
    return shape, expression


def test_with_its_own_shape_an_expression_stays(model):
    shape, expression = a_face(model, 1)
    np.testing.assert_allclose(ExpressionSolver(model)(expression, shape, shape), expression, atol=1e-6)


@pytest.mark.parametrize("name", ["mouthSmile_L", "jawOpen", "browOuterUp_R", "mouthPucker"])
def test_what_the_network_lays_into_the_shape_comes_back(model, name):
    settled, _ = a_face(model, 2)
    truth = np.zeros(model.expression_count, np.float32)
    truth[model.expression_names.index(name)] = 0.6
    wanted = model.landmarks(CAMERA, settled, truth)
    # a network that answers with the shape that comes nearest, and no expression
    basis = model.sparse.basis.reshape(-1, len(model.sparse.mean), 3)[: model.shape_count, 17:68]
    move = (wanted - model.landmarks(CAMERA, settled, 0 * truth))[17:] * (1, -1, 1)
    basis = basis.reshape(model.shape_count, -1).T
    guessed = settled + np.linalg.solve(basis.T @ basis + np.eye(basis.shape[1]), basis.T @ move.ravel())
    found = ExpressionSolver(model)(0 * truth, guessed.astype(np.float32), settled)
    assert found.min() >= 0 and found.max() <= 1 and found.dtype == np.float32

    def off(expression):
        apart = model.landmarks(CAMERA, settled, expression) - model.landmarks(CAMERA, guessed, 0 * truth)
        apart = apart[17:, :2] - apart[17:, :2].mean(axis=0)
        return np.sqrt((apart**2).mean())

    assert off(found) < (0.8 if name.startswith("brow") else 0.5) * off(0 * truth)  # people's brows differ a lot


def test_it_stays_within_the_range_of_blendshapes_and_is_free_without_names(model):
    shape, expression = a_face(model, 3)
    far, _ = a_face(model, 4)
    found = ExpressionSolver(model)(expression, shape, far)
    assert found.min() >= 0 and found.max() <= 1
    free = ExpressionSolver(replace(model, expression_names=()))(expression, shape, far)
    assert free.min() < 0 and np.isfinite(free).all()
