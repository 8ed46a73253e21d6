"""Fits a face model to points: weak-perspective pose, shape and expression by regularised least squares."""

from __future__ import annotations

import numpy as np
from numba import njit

from tracker.morphable import MorphableModel, contour_weights
from tracker.pose import FLIP_Y, nearest_rotation
from tracker.types import FaceParams

# Ridge weights in units of squared image error of a face 140 px wide.
SHAPE_WEIGHT = 2.0
EXPRESSION_WEIGHT = 0.5
# The jaw line is vague, eyelids and lips are exact and small.
LANDMARK_WEIGHTS = np.repeat([0.4, 1.0, 1.0, 1.5, 1.0, 1.5], [17, 10, 9, 12, 12, 8]).astype(np.float64)


@njit(cache=True)
def solve_bounded(matrix, vector, start, low, high, sweeps):
    """Minimise x'Ax/2 - b'x with low <= x <= high by coordinate descent.

    Parameters
    ----------
    matrix : (n, n) float64, symmetric, positive definite
    vector, start, low, high : (n,) float64

    Returns
    -------
    (n,) float64
    """
    x = start.copy()
    gradient = matrix @ x - vector
    for _ in range(sweeps):
        largest = 0.0
        for i in range(len(x)):
            new = min(max(x[i] - gradient[i] / matrix[i, i], low[i]), high[i])
            step = new - x[i]
            if step != 0.0:
                gradient += matrix[:, i] * step
                x[i] = new
                largest = max(largest, abs(step))
        if largest < 1e-5:
            break
    return x


class LandmarkFitter:
    """Follows the landmarks of one track; each fit starts from the one before, the shape settles."""

    def __init__(self, model: MorphableModel):
        self._model = model
        count_shape, count_expression = model.shape_count, model.expression_count
        self._mean = model.sparse.mean.astype(np.float64)
        self._basis = model.sparse.basis.reshape(count_shape + count_expression, -1, 3).astype(np.float64)
        self._camera: np.ndarray | None = None
        self._x = np.zeros(count_shape + count_expression)
        self._count_shape = count_shape
        self._low = np.r_[np.full(count_shape, -3.0), np.zeros(count_expression)]
        self._high = np.r_[np.full(count_shape, 3.0), np.ones(count_expression)]
        self._ridge = np.r_[np.full(count_shape, SHAPE_WEIGHT), np.full(count_expression, EXPRESSION_WEIGHT)]
        self._frames = 0

    def __call__(self, landmarks: np.ndarray) -> FaceParams:
        """Fit the model to 68 landmarks, (68, 2 or 3) image px; the camera is model mm -> image px."""
        points = np.asarray(landmarks[:, :2], np.float64)
        for _ in range(8 if self._frames == 0 else 2):
            mean, basis = self._rows()
            model_points = mean + np.tensordot(self._x, basis, 1)
            self._camera = weak_perspective(model_points, points, LANDMARK_WEIGHTS)
            self._solve(mean, basis, points)
        self._frames += 1
        return FaceParams(
            self._camera.astype(np.float32),
            self._x[: self._count_shape].astype(np.float32),
            self._x[self._count_shape :].astype(np.float32),
        )

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (68, 3) and basis (K, 68, 3) of the landmarks, those of the contour as the last camera saw it."""
        mean, basis, sparse = self._mean, self._basis, self._model.sparse
        if not sparse.lines:
            return mean[:68], basis[:, :68]
        if self._camera is None:
            # frontal until there is a camera
            camera = np.array([[1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 1.0, 0]])
        else:
            camera = self._camera
        points = mean[68:] + np.tensordot(self._x, basis[:, 68:], 1)
        weight = contour_weights(points @ camera[:, :3].T + camera[:, 3], camera, sparse.outward)
        lines = sparse.lines
        slid_mean = (weight[:, :, None] * mean[68:].reshape(lines, -1, 3)).sum(axis=1)
        slid_basis = np.einsum("lc,klcd->kld", weight, basis[:, 68:].reshape(len(basis), lines, -1, 3))
        return np.concatenate([slid_mean, mean[lines:68]]), np.concatenate([slid_basis, basis[:, lines:68]], axis=1)

    def _solve(self, mean: np.ndarray, basis: np.ndarray, points: np.ndarray) -> None:
        camera = self._camera
        to_mm = 1.0 / np.linalg.norm(camera[0, :3])
        projected = (basis @ camera[:2, :3].T * to_mm).reshape(len(self._x), -1)
        target = ((points - camera[:2, 3] - mean @ camera[:2, :3].T) * to_mm).ravel()
        weighted = projected * np.repeat(LANDMARK_WEIGHTS, 2)
        # the shape learns ever more slowly
        hold = np.zeros(len(self._x))
        hold[: self._count_shape] = 30.0 * min(self._frames, 30)
        matrix = weighted @ projected.T + np.diag(self._ridge + hold)
        vector = weighted @ target + hold * self._x
        self._x = solve_bounded(matrix, vector, self._x, self._low, self._high, 30)


def weak_perspective(model_points: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The scaled rotation and shift that bring model points, (K, 3) mm, nearest to image points, (K, 2) px.

    Returns
    -------
    (3, 4) float64, y down
    """
    total = weights.sum()
    centre_model, centre_image = weights @ model_points / total, weights @ points / total
    a, b = model_points - centre_model, points - centre_image
    affine = np.linalg.lstsq(a * np.sqrt(weights)[:, None], b * np.sqrt(weights)[:, None], rcond=None)[0].T
    rotation = nearest_rotation(affine * FLIP_Y[:2, None])
    directions = rotation * FLIP_Y[:, None]
    shown = a @ directions[:2].T
    scale = (weights[:, None] * shown * b).sum() / (weights[:, None] * shown * shown).sum()
    camera = np.empty((3, 4))
    camera[:, :3] = directions * scale
    camera[:2, 3] = centre_image - camera[:2, :3] @ centre_model
    camera[2, 3] = 0.0
    return camera
