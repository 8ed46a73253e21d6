"""One face model fitted to precise points of one or several photographs of a person, by Gauss-Newton.

Shape may be common to all photographs; pose and expression are each photograph's own. Blendshape weights stay within
[0, 1]. A further term (`tools.appearance.photometric`) may add its own normal equations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from facet.tracker.aligner import COUNT, IRISES, JAW, Alignment
from facet.tracker.crop import crop_to_image
from facet.tracker.mirror import FIXED
from facet.tracker.morphable import MorphableModel, contour_weights
from facet.tracker.pose import pose_from_camera
from tools.data.fit import EXCLUSIVE, VAGUE
from tools.face_model.anatomy import anatomical_points

POSE = 6  # log scale, rotation (3), shift (2)
SIGMA_MM = 1.0  # of a point, beside what the aligner expects: the model's own error and the convention's
DEPTH_SIGMA_MM = 8.0
JAW_SIGMA_MM = 5.0  # of points on the jaw, along which they slide
STEPS = 12
# priors on blendshape weights, as of tools/data/fit.py in units of a standard deviation
EXPRESSION_SQUARE, EXPRESSION_SPARSE, VAGUE_FACTOR, EXCLUSIVE_WEIGHT = 0.5, 0.75, 3.0, 25.0
MAX_SHAPE = 3.0

# (fit) -> Hessian (P, P) and gradient (P,) of another term in the pose, the shape and the expression
Term = Callable[["Fit"], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What is known of a face in a photograph; image px."""

    points: np.ndarray  # (87, 3) float; z larger is nearer, 0 at the mean of points 17-67
    sigma_px: np.ndarray  # (87,) float, expected error; infinite where nothing is known


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A face of the model in a photograph."""

    rotation: np.ndarray  # (3, 3) float64, y up, z to the viewer
    scale: float  # px per mm
    shift: np.ndarray  # (2,) float64, px
    shape: np.ndarray  # (Ks,) float64
    expression: np.ndarray  # (Ke,) float64

    @property
    def camera(self) -> np.ndarray:
        """(3, 4) float64, model mm -> image px, y down."""
        camera = np.zeros((3, 4))
        camera[:, :3] = self.rotation * (self.scale * np.array([1.0, -1.0, 1.0]))[:, None]
        camera[:2, 3] = self.shift
        return camera

    def moved(self, step: np.ndarray) -> Fit:
        """After a step in the pose, the shape and the expression, (6 + Ks + Ke,)."""
        shapes = len(self.shape)
        shape = np.clip(self.shape + step[POSE : POSE + shapes], -MAX_SHAPE, MAX_SHAPE)
        expression = np.clip(self.expression + step[POSE + shapes :], 0, 1)
        scale = self.scale * float(np.exp(np.clip(step[0], -0.3, 0.3)))
        return Fit(turn(step[1:4]) @ self.rotation, scale, self.shift + step[4:6], shape, expression)


def turn(vector: np.ndarray) -> np.ndarray:
    """The rotation about a vector by its length in radians (at most half a one), (3, 3)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = min(angle, 0.5)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


class Fitter:
    """Fits faces of one model."""

    def __init__(self, model: MorphableModel):
        self.model = model
        inner, sparse = anatomical_points(model), model.sparse
        rows = np.concatenate([sparse.mean[None], sparse.basis.reshape(len(sparse.basis), -1, 3)]).astype(np.float64)
        lines = rows[:, 68:]
        jaw = rows[:, :FIXED]
        self._mean = np.concatenate([jaw[0], inner.mean, lines[0]])
        self._basis = np.concatenate([jaw[1:], inner.basis, lines[1:]], axis=1)
        self._contour = slice(FIXED + len(inner.mean), len(self._mean))
        names = list(model.expression_names)
        vague = np.array([VAGUE_FACTOR if name.startswith(VAGUE) else 1.0 for name in names])
        self._sparse = EXPRESSION_SPARSE * vague
        self._exclusive = [[names.index(name) for name in pair] for pair in EXCLUSIVE]

    def start(self, camera: np.ndarray, shape: np.ndarray, expression: np.ndarray) -> Fit:
        """What a tracker estimates of a face as a fit; `camera` (3, 4), model mm -> image px."""
        pose = pose_from_camera(camera)
        return Fit(
            pose.rotation.astype(np.float64),
            float(pose.scale_px_per_mm),
            camera[:2, 3].astype(np.float64),
            np.clip(shape.astype(np.float64), -MAX_SHAPE, MAX_SHAPE),
            np.clip(expression.astype(np.float64), 0, 1),
        )

    def __call__(
        self,
        known: Sequence[Points],
        starts: Sequence[Fit],
        centre: np.ndarray | None = None,
        precision: np.ndarray | float = 1.0,
        terms: Sequence[Term] = (),
        steps: int = STEPS,
    ) -> list[Fit]:
        """Fit photographs of one person.

        Parameters
        ----------
        known, starts : of each photograph
        centre, precision : (Ks,) of the prior on the shape, in standard deviations; without, the mean face
        terms : of each photograph a further term, or none at all

        Returns
        -------
        one Fit a photograph, all with the same shape
        """
        shapes = self.model.shape_count
        centre = np.zeros(shapes) if centre is None else centre
        common = np.mean([fit.shape for fit in starts], axis=0)
        fits = [replace(fit, shape=common) for fit in starts]
        prior = np.broadcast_to(np.asarray(precision, np.float64), (shapes,))
        shared = slice(POSE, POSE + shapes)
        own = np.r_[0:POSE, POSE + shapes : POSE + shapes + self.model.expression_count]
        for _ in range(steps):
            total, gradient = np.diag(prior), prior * (common - centre)
            reduced = []
            for k, (points, fit) in enumerate(zip(known, fits, strict=True)):
                hessian, slope = self._equations(points, fit)
                if terms:
                    more, slope_more = terms[k](fit)
                    hessian, slope = hessian + more, slope + slope_more
                free = own[self._free(fit, slope)[own]]
                inner = hessian[np.ix_(free, free)] + 1e-6 * np.eye(len(free))
                cross = hessian[np.ix_(free, range(shared.start, shared.stop))]
                solved = np.linalg.solve(inner, np.column_stack([cross, slope[free]]))
                total = total + hessian[shared, shared] - cross.T @ solved[:, :-1]
                gradient = gradient + slope[shared] - cross.T @ solved[:, -1]
                reduced.append((free, solved))
            step = -np.linalg.solve(total, gradient)
            for k, (free, solved) in enumerate(reduced):
                move = np.zeros(len(own) + shapes)
                move[shared] = step
                move[free] = -solved[:, -1] - solved[:, :-1] @ step
                fits[k] = fits[k].moved(move)
            common = fits[0].shape
        return fits

    def _free(self, fit: Fit, slope: np.ndarray) -> np.ndarray:
        """Which unknowns may move: not those at a bound that would leave it."""
        free = np.ones(len(slope), bool)
        first = POSE + len(fit.shape)
        free[first:] = ~((fit.expression <= 0) & (slope[first:] > 0) | (fit.expression >= 1) & (slope[first:] < 0))
        return free

    def _equations(self, known: Points, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
        """Hessian and gradient of the points and of the priors on the expression."""
        coefficients = np.concatenate([fit.shape, fit.expression])
        model = self._mean + np.tensordot(coefficients, self._basis, 1)
        moves = np.concatenate([model[None], self._basis])  # (1 + K, P, 3)
        turned = moves @ fit.rotation.T
        place = turned[0, self._contour] @ np.diag([fit.scale, -fit.scale, fit.scale])
        weight = contour_weights(place.astype(np.float32), fit.camera, self.model.sparse.outward)
        lines = turned[:, self._contour].reshape(len(turned), *weight.shape, 3)
        slid = (lines * weight[..., None]).sum(axis=2)
        # in the order of the aligner: 17 on the contour, 51 inner, 17 of the jaw, 2 irises
        inner = turned[:, FIXED : self._contour.start]
        turned = np.concatenate([slid, inner[:, :-2], turned[:, :FIXED], inner[:, -2:]], axis=1)
        flat, across = turned[0], fit.scale * np.array([1.0, -1.0])
        count = COUNT
        jacobian = np.zeros((POSE + len(coefficients), count, 3))
        jacobian[0, :, :2] = flat[:, :2] * across
        jacobian[0, :, 2] = fit.scale * flat[:, 2]
        x, y, z = flat.T
        zero = np.zeros(count)
        for k, columns in enumerate(((zero, -z, y), (z, zero, -x), (-y, x, zero)), start=1):
            jacobian[k] = np.stack(columns, axis=1) * fit.scale * np.array([1.0, -1.0, 1.0])
        jacobian[4, :, 0] = jacobian[5, :, 1] = 1
        jacobian[POSE:] = turned[1:] * fit.scale * np.array([1.0, -1.0, 1.0])
        shown = flat * fit.scale * np.array([1.0, -1.0, 1.0])
        shown[:, :2] += fit.shift
        residual = shown - known.points
        middle = slice(FIXED, 68)
        residual[:, 2] -= residual[middle, 2].mean()
        jacobian[:, :, 2] -= jacobian[:, middle, 2].mean(axis=1, keepdims=True)
        sigma = np.hypot(known.sigma_px, SIGMA_MM * fit.scale)
        sigma[JAW] = np.hypot(known.sigma_px[JAW], JAW_SIGMA_MM * fit.scale)
        precision = np.zeros((count, 3))
        precision[:, :2] = 1 / sigma[:, None] ** 2
        precision[:, 2] = np.isfinite(known.sigma_px) / np.hypot(sigma, DEPTH_SIGMA_MM * fit.scale) ** 2
        precision[:FIXED, 2] = precision[JAW, 2] = precision[IRISES, 2] = 0
        # a point that lies far off is not one of this face
        far = (residual[:, :2] ** 2).sum(axis=1) / sigma**2
        precision /= np.where(np.isfinite(far), 1 + np.nan_to_num(far) / 18, 1)[:, None]
        rows = jacobian.reshape(len(jacobian), -1)
        weighted = rows * precision.ravel()
        hessian = weighted @ rows.T
        gradient = weighted @ np.nan_to_num(residual).ravel()
        first = POSE + len(fit.shape)
        expressions = np.arange(first, len(hessian))
        hessian[expressions, expressions] += EXPRESSION_SQUARE
        gradient[expressions] += EXPRESSION_SQUARE * fit.expression + self._sparse
        for one, other in self._exclusive:
            hessian[first + one, first + other] += EXCLUSIVE_WEIGHT / 2
            hessian[first + other, first + one] += EXCLUSIVE_WEIGHT / 2
            hessian[first + one, first + one] += EXCLUSIVE_WEIGHT / 2  # keeps it definite
            hessian[first + other, first + other] += EXCLUSIVE_WEIGHT / 2
            gradient[first + one] += EXCLUSIVE_WEIGHT * fit.expression[other]
            gradient[first + other] += EXCLUSIVE_WEIGHT * fit.expression[one]
        return hessian, gradient


def points_of(alignment: Alignment) -> Points:
    """What an aligner predicts of a face, for the fit."""
    points = alignment.points.astype(np.float64)
    points[:, 2] -= points[FIXED:68, 2].mean()
    return Points(points, alignment.spread_px.astype(np.float64))


def mask_of(alignment: Alignment, shape: tuple[int, int]) -> np.ndarray:
    """An aligner's map of the visible face in image px, (H, W) float32."""
    size = alignment.face.shape[0]
    forward = crop_to_image(alignment.roi, size)
    forward[:, 2] += forward[:, :2].sum(axis=1) / 2 - 0.5  # from corners of pixels to their centres
    face = alignment.face.astype(np.float32)
    # the crop ends on the forehead: the face goes on as it is at the border
    return cv2.warpAffine(face, forward, shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
