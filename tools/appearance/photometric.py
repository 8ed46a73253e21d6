"""A term of the fit: the colours of the photograph at points of the mesh against skin under the estimated light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facet.tracker.lighting import BANDS, EFFECTIVE_POINTS, OUTLIER, LightEstimator
from tools.appearance.fit import POSE, Fit

POINTS = 1000
# steps of the finite differences: log scale, radians, px, standard deviations, blendshape weights
STEP_SCALE, STEP_TURN, STEP_SHIFT_MM, STEP_SHAPE, STEP_EXPRESSION = 0.01, 0.01, 0.5, 0.2, 0.1


@dataclass(slots=True, eq=False)
class Photometric:
    """Adds the equations of a photograph's colours; light and skin are set between fits by `update`.

    Attributes
    ----------
    image : (H, W, 3) uint8, BGR
    mask : (H, W) float32, probability that a pixel shows the face, or None
    trust : of the colours, beside what their noise says
    light, skin : (27,) and (K,) float32, or None where the colours report nothing
    """

    estimator: LightEstimator
    image: np.ndarray
    mask: np.ndarray | None = None
    trust: float = 1.0
    light: np.ndarray | None = None
    skin: np.ndarray | None = None

    def observe(self, fit: Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colours, harmonics and weights at the points; see `LightEstimator.observe`."""
        colours, harmonics, weights = self.estimator.observe(self.image, fit.camera, fit.shape, fit.expression)
        if self.mask is not None:
            weights = weights * self._shown(fit)
        return colours, harmonics, weights

    def _shown(self, fit: Fit) -> np.ndarray:
        vertices = self.estimator.vertices(fit.shape, fit.expression)[self.estimator.patches.own]
        x, y = (fit.camera[:2, :3] @ vertices.T + fit.camera[:2, 3:]).astype(int)
        height, width = self.mask.shape
        shown = self.mask[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        return np.clip((shown - 0.4) / 0.4, 0, 1).astype(np.float32)

    def update(self, fit: Fit) -> bool:
        """Estimate light and skin anew; whether the colours report them."""
        start = None if self.light is None else (self.light, self.skin)
        found = self.estimator.solve(*self.observe(fit), start=start)
        self.light, self.skin = found or (None, None)
        return found is not None

    def __call__(self, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
        shapes, expressions = len(fit.shape), len(fit.expression)
        count = POSE + shapes + expressions
        if self.light is None:
            return np.zeros((count, count)), np.zeros(count)
        albedo = np.maximum(self.estimator.mean + self.estimator.modes @ self.skin, 0.01)
        bands = self.light.reshape(3, BANDS).T

        def residual(of: Fit) -> np.ndarray:
            colours, harmonics, _ = self.estimator.observe(self.image, of.camera, of.shape, of.expression)
            return albedo * (harmonics @ bands) - colours

        colours, harmonics, weights = self.observe(fit)
        now = albedo * (harmonics @ bands) - colours
        noise = self.estimator.skin.noise
        robust = weights / (1 + (now**2).mean(axis=1) / (OUTLIER * noise) ** 2) ** 2
        trust = self.trust * EFFECTIVE_POINTS / max(float(weights.sum()), 1.0) / noise**2
        steps = np.r_[STEP_SCALE, [STEP_TURN] * 3, [STEP_SHIFT_MM * fit.scale] * 2]
        steps = np.r_[steps, [STEP_SHAPE] * shapes, [STEP_EXPRESSION] * expressions]
        first = POSE + shapes
        steps[first:] = np.where(fit.expression > 0.5, -steps[first:], steps[first:])
        steps[POSE:first] = np.where(fit.shape > 0, -steps[POSE:first], steps[POSE:first])
        used = robust > 1e-4
        rows = np.empty((count, int(used.sum()), 3), np.float32)
        for k in range(count):
            move = np.zeros(count)
            move[k] = steps[k]
            rows[k] = (residual(fit.moved(move))[used] - now[used]) / steps[k]
        # what is hidden or saturated after a step would look like a change
        rows = np.clip(rows, -50, 50).reshape(count, -1)
        weighted = rows * np.repeat(trust * robust[used], 3)
        return (weighted @ rows.T).astype(np.float64), (weighted @ now[used].ravel()).astype(np.float64)
