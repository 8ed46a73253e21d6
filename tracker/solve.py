"""Pose, shape and expression of a face, solved for so that the mesh goes through the points of an aligner.

Regularised least squares over the points in mm. The regressor's prediction is the prior: a point counts by its expected
error, and what no point shows stays as the regressor predicts it. The shape belongs to the track and moves slowly.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from facet.tracker.aligner import COUNT, IRISES, Alignment
from facet.tracker.bounded import descend, divide, factor
from facet.tracker.compiling import njit
from facet.tracker.errors import WeightsError
from facet.tracker.mirror import FIXED
from facet.tracker.morphable import MorphableModel, Steps, contour_weights, project
from facet.tracker.pose import FLIP_Y
from facet.tracker.smoothing import multiply, set_rotation
from facet.tracker.types import FaceParams, Pose
from facet.tracker.weights import load_arrays

POSE = 6  # turns about x, y, z, radians; logarithm of the size; shifts in x and y, mm
ROWS = 53  # points that are fixed on the face: landmarks 17-67, then the irises
OF_ALIGNER = np.r_[FIXED:68, IRISES]  # where they are among the aligner's
# Expected error of a point where the aligner expects none, mm: what the face model cannot follow. Jaw, brows, nose,
# eyes, lips, irises.
LEAST_MM = np.repeat([2.0, 0.6, 0.6, 0.3, 0.35, 0.35], [17, 10, 9, 12, 20, 2])
# Distances that are more exact than the places of both their points: of the lips' inner edges and of the lids.
GAPS = np.array([(61, 67), (62, 66), (63, 65), (37, 41), (38, 40), (43, 47), (44, 46)]) - FIXED
GAP_FACTOR = 6.0
# Expected errors of the prior: pose (as POSE), shape (standard deviations), expressions, those of the eyes
POSE_ERROR = np.array([*[math.radians(3.0)] * 3, 0.04, 6.0, 6.0])
SHAPE_ERROR, SHAPE_SPREAD, EXPRESSION_ERROR, EYE_ERROR = 0.5, 1.0, 0.35, 0.25
EXPRESSION_COST = 0.5  # of a whole expression, so that few take part
SHAPE_LIMIT = 3.0
# The shape of the frame before counts as much as so many measurements with an error of 1, once for each frame so far.
HOLD, HELD_FRAMES = 20.0, 90
FIRST_ROUNDS, ROUNDS = 6, 1  # of Gauss-Newton steps, in the first frame of a track and in the others
SWEEPS, LEAST_STEP = 30, 1e-5
LEAST_VISIBLE = 0.02


class PointSolver:
    """The points of an aligner on a face model.

    Parameters
    ----------
    model : with names of its expressions and a contour
    mean : (53, 3) float, mm: landmarks 17-67 and both irises in the aligner's convention
    basis : (Ks + Ke, 53, 3) float, mm
    """

    def __init__(self, model: MorphableModel, mean: np.ndarray, basis: np.ndarray):
        count = model.shape_count + model.expression_count
        if mean.shape != (ROWS, 3) or basis.shape != (count, ROWS, 3):
            raise ValueError(f"expected {ROWS} points of {count} coefficients, got {mean.shape} and {basis.shape}")
        self.shapes, self.expressions = model.shape_count, model.expression_count
        lines = np.concatenate([model.sparse.mean[None, 68:], model.sparse.basis.reshape(count, -1, 3)[:, 68:]])
        self.mean, self.line_mean = np.asarray(mean, np.float64), lines[0].astype(np.float64)
        self.basis, self.line_basis = (
            np.ascontiguousarray(rows.transpose(1, 2, 0), np.float64) for rows in (basis, lines[1:])
        )
        self.outward = model.sparse.outward
        self.pivot = self.mean[: ROWS - 2].mean(axis=0)
        errors = np.where([n.startswith("eye") for n in model.expression_names], EYE_ERROR, EXPRESSION_ERROR)
        self.precision = np.r_[np.full(self.shapes, SHAPE_ERROR**-2 + SHAPE_SPREAD**-2), errors**-2.0]
        self.low = np.r_[np.full(self.shapes, -SHAPE_LIMIT), np.zeros(self.expressions)]
        self.high = np.r_[np.full(self.shapes, SHAPE_LIMIT), np.ones(self.expressions)]

    @classmethod
    def open(cls, path: Path, model: MorphableModel) -> PointSolver:
        """Load what `tools.face_model.points` wrote of this face model.

        Raises
        ------
        WeightsError
            If the file is of another face model, damaged, or lacks a part.
        """
        remedy = "write it anew with python -m tools.face_model.points"
        arrays = load_arrays(path, "points on the face model", remedy)
        try:
            basis = Steps.whole(arrays["steps"], arrays["step_mm"]).rows
            if not (np.isfinite(basis).all() and np.isfinite(arrays["mean"]).all()):
                raise ValueError("numbers that are not finite")
            return cls(model, arrays["mean"], basis.reshape(len(basis), -1, 3))
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise WeightsError(f"{path}: expected points on the face model, found: {error}; {remedy}") from error

    def start(self) -> Solving:
        """Begin with a face that nothing is known of."""
        return Solving(self)

    def points(self, camera: np.ndarray, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """(53, 3) float64 image px, of a face: landmarks 17-67 and both irises in the aligner's convention."""
        coefficients = np.concatenate([shape, expression]).astype(np.float64)
        return project(combine(self.mean, self.basis, coefficients), np.asarray(camera, np.float64))


class Solving:
    """One track, frame after frame."""

    def __init__(self, solver: PointSolver):
        self._solver = solver
        self._x = np.zeros(len(solver.low))
        self._frames = 0

    def __call__(self, found: Alignment, camera: np.ndarray, pose: Pose, shape: np.ndarray, expression: np.ndarray):
        """Solve for one frame.

        Parameters
        ----------
        found : the points; those with an infinite `spread_px` have no influence
        camera, pose : (3, 4) model mm -> image px, and the same as a pose; of the regressor
        shape, expression : (Ks,), (Ke,) as the regressor predicts them

        Returns
        -------
        FaceParams, camera in image px; `expression` as it is where a number is not finite
        """
        s = self._solver
        scale = pose.scale_px_per_mm
        weight = found.visible.clip(LEAST_VISIBLE, 1.0) / ((found.spread_px / scale) ** 2 + _LEAST_SQUARED)
        targets = found.points[:, :2] * (1.0, -1.0) / scale
        prior = np.concatenate([shape, expression]).astype(np.float64)
        if not (np.isfinite(weight).all() and np.isfinite(targets).all()):
            return FaceParams(camera, shape, expression)
        hold = HOLD * min(self._frames, HELD_FRAMES)
        if self._frames == 0:
            self._x[:] = prior
        precision, wanted = s.precision.copy(), s.precision * prior
        wanted[: s.shapes] *= SHAPE_ERROR**-2 / (SHAPE_ERROR**-2 + SHAPE_SPREAD**-2)
        precision[: s.shapes] += hold
        wanted[: s.shapes] += hold * self._x[: s.shapes]
        wanted[s.shapes :] -= EXPRESSION_COST
        turn, size, shift = _solve(
            s.mean, s.basis, s.line_mean, s.line_basis, s.outward, s.pivot, np.asarray(pose.rotation, np.float64),
            (camera[:2, :3] @ s.pivot + camera[:2, 3]) * (1.0, -1.0) / scale, targets, weight,
            self._x, precision, wanted, s.low, s.high, FIRST_ROUNDS if self._frames == 0 else ROUNDS,
        )  # fmt: skip
        self._frames += 1
        solved = np.empty((3, 4), np.float32)
        solved[:, :3] = turn * (size * scale) * FLIP_Y[:, None]
        solved[:2, 3] = shift * (scale, -scale) - solved[:2, :3] @ s.pivot
        solved[2, 3] = camera[2, 3]
        shape, expression = np.split(self._x.astype(np.float32), [s.shapes])
        return FaceParams(solved, shape, expression)


_LEAST_SQUARED = np.full(COUNT, np.inf)  # the fixed jaw does not count: the contour is seen, that is guessed
_LEAST_SQUARED[np.r_[0:68, IRISES]] = LEAST_MM**2


@njit(nogil=True, fastmath=True)
def combine(mean, basis, x):
    """mean + basis times x: (P, 3), (P, 3, K), (K,) -> (P, 3); all float64."""
    out = mean.copy()
    for p in range(len(mean)):
        for axis in range(3):
            total = 0.0
            for k in range(len(x)):
                total += basis[p, axis, k] * x[k]
            out[p, axis] += total
    return out


@njit(nogil=True, fastmath=True)
def slide(mean, basis, weight):
    """Rows of contour landmarks: weighted means of their candidates, (L * C, 3) and (L * C, 3, K), (L, C)."""
    lines, candidates = weight.shape
    mean_out, basis_out = np.zeros((lines, 3)), np.zeros((lines, 3, basis.shape[2]))
    for line in range(lines):
        total = 0.0
        for c in range(candidates):
            w = weight[line, c]
            if w < 1e-3:
                continue
            total += w
            row = line * candidates + c
            mean_out[line] += w * mean[row]
            basis_out[line] += w * basis[row]
        mean_out[line] /= total
        basis_out[line] /= total
    return mean_out, basis_out


@njit(nogil=True, fastmath=True)
def _solve(mean, basis, line_mean, line_basis, outward, pivot, turn, shift, targets, weight, x, precision, wanted,
           low, high, rounds):  # fmt: skip
    """Gauss-Newton steps from the regressor's pose and the coefficients `x`, which are changed in place.

    Parameters
    ----------
    turn : (3, 3), shift : (2,) mm, of the prior: where the pivot lies in the image, y up
    targets : (87, 2) image mm of the prior's size, y up; weight : (87,) 1 / mm^2
    x, precision, wanted, low, high : (K,) precision of the prior, and the same times its mean less costs

    Returns
    -------
    rotation (3, 3), size relative to the prior's, shift (2,) mm
    """
    count = len(x)
    turn, shift, size = turn.copy(), shift.copy(), 1.0
    moved, step = np.zeros(POSE), np.empty((3, 3))
    for _ in range(rounds):
        matrix, vector = _normal_equations(
            mean, basis, line_mean, line_basis, outward, pivot, turn, size, shift, targets, weight, x
        )
        for k in range(POSE):
            trust = POSE_ERROR[k] ** -2.0
            matrix[k, k] += trust
            vector[k] -= trust * moved[k]
        for k in range(count):
            matrix[POSE + k, POSE + k] += precision[k]
            vector[POSE + k] += wanted[k] - precision[k] * x[k]
        # the pose is free to follow: without its columns (a Schur complement) only bounded unknowns are left
        lower = factor(matrix[:POSE, :POSE])
        rest, gradient, share = np.empty((count, count)), np.empty(count), np.empty(POSE)
        for i in range(count):
            share[:] = matrix[POSE + i, :POSE]
            divide(lower, share)
            total = vector[POSE + i]
            for k in range(POSE):
                total -= share[k] * vector[k]
            gradient[i] = -total
            for j in range(i + 1):
                total = matrix[POSE + i, POSE + j]
                for k in range(POSE):
                    total -= share[k] * matrix[POSE + j, k]
                rest[i, j] = total
                rest[j, i] = total
        before = x.copy()
        descend(rest, gradient, x, low, high, SWEEPS, LEAST_STEP)
        change = vector[:POSE].copy()
        for i in range(count):
            for k in range(POSE):
                change[k] -= matrix[POSE + i, k] * (x[i] - before[i])
        divide(lower, change)
        moved += change
        old = turn.copy()
        set_rotation(step, change[0], change[1], change[2])
        multiply(step, old, turn)
        size *= math.exp(change[3])
        shift += change[4:]
    return turn, size, shift


@njit(nogil=True, fastmath=True)
def _normal_equations(mean, basis, line_mean, line_basis, outward, pivot, turn, size, shift, targets, weight, x):
    """J'WJ, lower triangle, (n, n), and J'Wr (n,): of points, gaps and contour; see `_solve`."""
    n = POSE + len(x)
    matrix, vector, row = np.zeros((n, n)), np.zeros(n), np.zeros(n)
    lines = len(outward)
    # points that are fixed on the face
    places = combine(mean, basis, x)
    error = np.empty((len(mean), 2))
    for p in range(len(mean)):
        _turned(places[p], pivot, turn, size)
        at = lines + p if p < ROWS - 2 else COUNT - ROWS + p
        for axis in range(2):
            error[p, axis] = targets[at, axis] - shift[axis] - places[p, axis]
            row[:] = 0.0
            _add_coordinate(row, places[p], basis[p], turn, size, axis, 1.0)
            _add_row(matrix, vector, row, weight[at], error[p, axis])
    # gaps, along the face's own axis
    up = math.hypot(turn[0, 1], turn[1, 1]) + 1e-9
    for k in range(len(GAPS)):
        one, other = GAPS[k]
        both = weight[lines + one] + weight[lines + other]
        if both <= 0.0:
            continue
        row[:] = 0.0
        off = 0.0
        for axis in range(2):
            along = turn[axis, 1] / up
            _add_coordinate(row, places[one], basis[one], turn, size, axis, along)
            _add_coordinate(row, places[other], basis[other], turn, size, axis, -along)
            off += along * (error[one, axis] - error[other, axis])
        _add_row(matrix, vector, row, GAP_FACTOR * 2.0 * weight[lines + one] * weight[lines + other] / both, off)
    # the contour: where along it a point lies is chance, how far out is seen
    if lines == 0:
        return matrix, vector
    camera = np.zeros((3, 4))
    for axis in range(3):
        for k in range(3):
            camera[axis, k] = (-size if axis == 1 else size) * turn[axis, k]
    pick = contour_weights(project(combine(line_mean, line_basis, x), camera), camera, outward)
    slid_mean, slid_basis = slide(line_mean, line_basis, pick)
    slid = combine(slid_mean, slid_basis, x)
    for line in range(lines):
        _turned(slid[line], pivot, turn, size)
        across = turn[:2, 0] * outward[line, 0] + turn[:2, 1] * outward[line, 1]
        across /= math.hypot(across[0], across[1]) + 1e-9
        row[:] = 0.0
        off = 0.0
        for axis in range(2):
            _add_coordinate(row, slid[line], slid_basis[line], turn, size, axis, across[axis])
            off += across[axis] * (targets[line, axis] - shift[axis] - slid[line, axis])
        _add_row(matrix, vector, row, weight[line], off)
    return matrix, vector


@njit(nogil=True, fastmath=True)
def _turned(place, pivot, turn, size):
    """A point (3,) of the model in mm, in place: relative to the pivot, turned and scaled."""
    x, y, z = place[0] - pivot[0], place[1] - pivot[1], place[2] - pivot[2]
    for axis in range(3):
        place[axis] = size * (turn[axis, 0] * x + turn[axis, 1] * y + turn[axis, 2] * z)


@njit(nogil=True, fastmath=True)
def _add_coordinate(row, place, basis, turn, size, axis, factor):
    """Add `factor` times the derivatives of a point's x or y to a row, (n,)."""
    if axis == 0:
        row[1] += factor * place[2]
        row[2] -= factor * place[1]
    else:
        row[0] -= factor * place[2]
        row[2] += factor * place[0]
    row[3] += factor * place[axis]
    row[4 + axis] += factor
    a, b, c = factor * size * turn[axis, 0], factor * size * turn[axis, 1], factor * size * turn[axis, 2]
    for k in range(basis.shape[1]):
        row[POSE + k] += a * basis[0, k] + b * basis[1, k] + c * basis[2, k]


@njit(nogil=True, fastmath=True)
def _add_row(matrix, vector, row, weight, error):
    """Add a weighted row to the lower triangle of the normal equations."""
    for i in range(len(row)):
        weighted = weight * row[i]
        if weighted != 0.0:  # most expressions leave most points alone
            vector[i] += weighted * error
            for j in range(i + 1):
                matrix[i, j] += weighted * row[j]
