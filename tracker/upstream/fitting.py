"""Fits a face model to points in an image: weak-perspective pose, shape and expression by regularised least squares."""

from __future__ import annotations

import numpy as np

from facet.tracker.bounded import descend
from facet.tracker.compiling import njit
from facet.tracker.morphable import MorphableModel, contour_weights, project
from facet.tracker.pose import FLIP_Y, nearest_rotation
from facet.tracker.solve import combine, slide
from facet.tracker.types import FaceParams

# What a coefficient of 1 costs, against squared distances in mm summed over all points. Expressions cost by their
# square and their size, so that few take part. Found by leaving points out of fits to annotated faces.
SHAPE_COST = 2.0
EXPRESSION_COST, EXPRESSION_SIZE_COST = 5.0, 3.0
SHAPE_LIMIT = 3.0
# The jaw line is vague, eyelids and lips are exact and small.
LANDMARK_WEIGHTS = np.repeat([0.4, 1.0, 1.0, 1.5, 1.0, 1.5], [17, 10, 9, 12, 12, 8])
FIRST_ROUNDS, ROUNDS = 8, 2
SWEEPS, LEAST_STEP = 30, 1e-5
# A track's shape is the mean of its frames, the newest counting at least one in so many.
SETTLED_FRAMES = 30
HOLD_PER_FRAME = 30.0
FRONTAL = np.diag(FLIP_Y) @ np.eye(3, 4)


def fit_landmarks(model: MorphableModel, landmarks: np.ndarray) -> FaceParams:
    """Fit a model to the 68 landmarks of one picture.

    Parameters
    ----------
    landmarks : (68, 2 or 3) float, image px; z is not looked at

    Returns
    -------
    FaceParams
        The camera is model mm -> image px; its z has the scale of x and is 0 at the model's origin.
    """
    return LandmarkFitter(model)(landmarks)


def fit_vertices(model: MorphableModel, vertices: np.ndarray, points: np.ndarray, weights: np.ndarray) -> FaceParams:
    """Fit a model to points of which one knows the vertices.

    Parameters
    ----------
    vertices : (P,) int
    points : (P, 2) float, image px
    weights : (P,) float, 1 for a point that is as exact as a landmark

    Returns
    -------
    FaceParams, as `fit_landmarks`
    """
    zero = np.zeros(model.shape_count, np.float32)
    mean = model.mean[vertices].astype(np.float64)
    basis = np.empty((len(vertices), 3, model.shape_count + model.expression_count))
    basis[:, :, : model.shape_count] = model.shape_basis[:, vertices].transpose(1, 2, 0)
    for k, one in enumerate(np.eye(model.expression_count, dtype=np.float32)):
        basis[:, :, model.shape_count + k] = model.vertices(zero, one, model.mean)[vertices] - model.mean[vertices]
    x = np.zeros(basis.shape[2])
    for _ in range(FIRST_ROUNDS):
        camera = weak_perspective(combine(mean, basis, x), points, weights)
        x = _solve(mean, basis, camera, points, weights, x, model.shape_count, 0.0)
    return _params(camera, x, model.shape_count)


class LandmarkFitter:
    """Follows the landmarks of one track; each fit starts from the one before, the shape settles.

    Parameters
    ----------
    model : MorphableModel
    jaw_slides : whether landmarks 0-16 follow the visible contour, as the project's own do; those of 3DDFA and others
        of its kind are points of the jaw, and the far ones hide behind the face
    """

    def __init__(self, model: MorphableModel, jaw_slides: bool = True):
        count = model.shape_count + model.expression_count
        self._shape_count = model.shape_count
        self._mean = model.sparse.mean.astype(np.float64)
        self._basis = np.ascontiguousarray(model.sparse.basis.reshape(count, -1, 3).transpose(1, 2, 0), np.float64)
        self._lines, self._outward = model.sparse.lines if jaw_slides else 0, model.sparse.outward
        self._camera = FRONTAL
        self._x = np.zeros(count)
        self._frames = 0

    def __call__(self, landmarks: np.ndarray) -> FaceParams:
        """Fit the model to the 68 landmarks of the track's next frame; see `fit_landmarks`."""
        points = np.asarray(landmarks[:, :2], np.float64)
        # the shape learns ever more slowly
        hold = HOLD_PER_FRAME * min(self._frames, SETTLED_FRAMES)
        for _ in range(ROUNDS if self._frames else FIRST_ROUNDS):
            mean, basis = self._rows()
            self._camera = weak_perspective(combine(mean, basis, self._x), points, LANDMARK_WEIGHTS)
            self._x = _solve(mean, basis, self._camera, points, LANDMARK_WEIGHTS, self._x, self._shape_count, hold)
        self._frames += 1
        return _params(self._camera, self._x, self._shape_count)

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (68, 3) and basis (68, 3, K) of the landmarks, those of the contour as the last camera saw it."""
        lines = self._lines
        if not lines:
            return self._mean[:68], self._basis[:68]
        candidates = combine(self._mean[68:], self._basis[68:], self._x)
        weight = contour_weights(project(candidates, self._camera), self._camera, self._outward)
        mean, basis = slide(self._mean[68:], self._basis[68:], weight)
        return np.concatenate([mean, self._mean[lines:68]]), np.concatenate([basis, self._basis[lines:68]])


def _solve(mean, basis, camera, points, weights, x, shape_count, hold) -> np.ndarray:
    """Coefficients (K,) for a known camera; `hold` ties the shape to that of `x`, from which the search starts."""
    seen = combine(mean, basis, x) @ camera[:, :3].T
    seen -= seen.mean(axis=0)
    matrix, vector, pose_matrix, pose_basis, pose_vector = normal_equations(mean, basis, camera, points, weights, seen)
    # The pose is free to follow: without its columns (a Schur complement) one round does what alternation does in many.
    # The ridge keeps what the points do not determine, as in a profile, from being divided by nothing.
    share = np.linalg.solve(pose_matrix + np.eye(6) * (1e-6 * np.trace(pose_matrix)), pose_basis).T
    matrix -= share @ pose_basis
    vector -= share @ pose_vector
    cost = np.full(len(x), EXPRESSION_COST)
    cost[:shape_count] = SHAPE_COST + hold
    matrix[np.diag_indices(len(x))] += cost
    vector[:shape_count] += hold * x[:shape_count]
    vector[shape_count:] -= EXPRESSION_SIZE_COST / 2
    low, high = np.zeros(len(x)), np.ones(len(x))
    low[:shape_count], high[:shape_count] = -SHAPE_LIMIT, SHAPE_LIMIT
    x = x.copy()
    descend(matrix, matrix @ x - vector, x, low, high, SWEEPS, LEAST_STEP)
    return x


@njit(nogil=True, fastmath=True)
def normal_equations(mean, basis, camera, points, weights, seen):
    """Normal equations of weighted distances in mm, linear in coefficients and in small changes of the pose.

    Parameters
    ----------
    mean : (P, 3), basis : (P, 3, K) float64, mm
    camera : (3, 4) float64; points : (P, 2) float64, px; weights : (P,) float64
    seen : (P, 3) float64, the model's points as they are now, relative to their middle, px

    Returns
    -------
    A'WA (K, K), A'Wb (K,) of the coefficients; B'WB (6, 6), B'WA (6, K), B'Wb (6,) with the pose's columns; float64
    """
    count = basis.shape[2]
    matrix, vector, row = np.zeros((count, count)), np.zeros(count), np.empty(count)
    # what a small change of the pose does to a point: shifts, scale and roll, yaw, pitch
    pose_matrix, pose_basis, pose_vector, move = np.zeros((6, 6)), np.zeros((6, count)), np.zeros(6), np.empty(6)
    to_mm = 1.0 / max(np.sqrt((camera[0, :3] ** 2).sum()), 1e-9)  # points on one spot have no scale
    for p in range(len(mean)):
        for axis in range(2):
            a, b, c = camera[axis, 0] * to_mm, camera[axis, 1] * to_mm, camera[axis, 2] * to_mm
            for k in range(count):
                row[k] = a * basis[p, 0, k] + b * basis[p, 1, k] + c * basis[p, 2, k]
            target = (points[p, axis] - camera[axis, 3]) * to_mm - (a * mean[p, 0] + b * mean[p, 1] + c * mean[p, 2])
            for i in range(count):
                wi = weights[p] * row[i]
                vector[i] += wi * target
                if wi != 0.0:
                    for j in range(i + 1):
                        matrix[i, j] += wi * row[j]
            x, y, z = seen[p, 0] * to_mm, seen[p, 1] * to_mm, seen[p, 2] * to_mm
            if axis == 0:
                move[:] = (1.0, 0.0, x, -y, z, 0.0)
            else:
                move[:] = (0.0, 1.0, y, x, 0.0, z)
            for i in range(6):
                wi = weights[p] * move[i]
                pose_vector[i] += wi * target
                for j in range(6):
                    pose_matrix[i, j] += wi * move[j]
                if wi != 0.0:
                    for j in range(count):
                        pose_basis[i, j] += wi * row[j]
    for i in range(count):
        for j in range(i):
            matrix[j, i] = matrix[i, j]
    return matrix, vector, pose_matrix, pose_basis, pose_vector


def weak_perspective(model_points: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The scaled rotation and shift that bring model points, (P, 3) mm, nearest to image points, (P, 2) px.

    Returns
    -------
    (3, 4) float64, model mm -> image px, y down
    """
    total = weights.sum()
    centre_model, centre_image = weights @ model_points / total, weights @ points / total
    a, b = model_points - centre_model, points - centre_image
    weighted = a * weights[:, None]
    affine = np.linalg.lstsq(weighted.T @ a, weighted.T @ b, rcond=1e-9)[0].T
    directions = nearest_rotation(affine * FLIP_Y[:2, None]) * FLIP_Y[:, None]
    shown = a @ directions[:2].T
    scale = (weights[:, None] * shown * b).sum() / (weights[:, None] * shown * shown).sum()
    camera = np.zeros((3, 4))
    camera[:, :3] = directions * scale
    camera[:2, 3] = centre_image - camera[:2, :3] @ centre_model
    return camera


def _params(camera: np.ndarray, x: np.ndarray, shape_count: int) -> FaceParams:
    shape, expression = np.split(x.astype(np.float32), [shape_count])
    return FaceParams(camera.astype(np.float32), shape, expression)
