"""What a face does, separated from what it is: expressions that go with the settled shape of a track."""

from __future__ import annotations

import numpy as np

from facet.tracker.bounded import descend
from facet.tracker.compiling import njit
from facet.tracker.morphable import MorphableModel

FIRST = 17  # the landmarks of the jaw slide on the contour and say little of either
DEPTH_WEIGHT = 0.3  # depth is guessed more than seen
# mm^2: what leaving the network's answer by one whole expression costs; eyes it was taught by name
TRUST, EYE_TRUST = 100.0, 1000.0
SWEEPS, LEAST_STEP = 4, 5e-4


class ExpressionSolver:
    """Gives to the expressions what a network sees of a face beyond the shape that its track has settled on.

    A network guesses shape and expression anew from every crop and lays a part of each smile into the shape. Drawn with
    the settled shape the face would smile less than it does; so the expressions are solved for again, by regularised
    least squares over landmarks 17-67 in model space, what a change of pose could do as well left out.

    Parameters
    ----------
    model : the face model whose coefficients the network predicts; where it names its expressions they stay in [0, 1]
    """

    def __init__(self, model: MorphableModel):
        shapes, count = model.shape_count, model.expression_count
        weight = np.array([1.0, 1.0, DEPTH_WEIGHT])
        basis = model.sparse.basis.reshape(shapes + count, -1, 3)[:, FIRST:68] * weight
        points = model.sparse.mean[FIRST:68].astype(np.float64)
        points -= points.mean(axis=0)
        axes = np.eye(3)
        moves = [np.broadcast_to(axis, points.shape) for axis in axes] + [np.cross(axis, points) for axis in axes]
        moves = np.stack([(move * weight).ravel() for move in [*moves, points]], axis=1)
        flat = basis.reshape(shapes + count, -1).T.astype(np.float64)
        pose = np.linalg.qr(moves)[0]
        flat -= pose @ (pose.T @ flat)
        shape, expression = flat[:, :shapes], flat[:, shapes:]
        self._from_shape = np.ascontiguousarray(shape.T @ expression)
        trust = [EYE_TRUST if name.startswith("eye") else TRUST for name in model.expression_names] or TRUST
        self._matrix = expression.T @ expression + np.eye(count) * trust
        low, high = (0.0, 1.0) if model.expression_names else (-np.inf, np.inf)
        self._low, self._high = np.full(count, low), np.full(count, high)

    def __call__(self, expression: np.ndarray, shape: np.ndarray, settled: np.ndarray) -> np.ndarray:
        """Expressions (Ke,) float32 that do with the shape `settled` (Ks,) what `expression` did with `shape`."""
        return _solve(expression, shape, settled, self._from_shape, self._matrix, self._low, self._high)


@njit(nogil=True, fastmath=True)
def _solve(expression, shape, settled, from_shape, matrix, low, high):
    """Coordinate descent from `expression`, where what the shapes differ by is the whole gradient."""
    x, gradient = expression.astype(np.float64), np.zeros(len(expression))
    for k in range(len(shape)):
        change = shape[k] - settled[k]
        for i in range(len(x)):
            gradient[i] -= from_shape[k, i] * change
    descend(matrix, gradient, x, low, high, SWEEPS, LEAST_STEP)
    return x.astype(np.float32)
