"""Causal smoothing in frame time: the 1 euro filter with a trend, on vectors and on rotations.

The 1 euro filter opens with speed, so that a head at rest is steady and a fast one is not late. In between it lags;
a trend that is carried on from frame to frame takes that lag away, so that the filter may stay more closed.
The speed that opens the filter is one number a vector (its Euclidean length), so that all components lag alike.

Sources: Casiez, Roussel, Vogel, "1 euro filter: a simple speed-based low-pass filter for noisy input" (CHI 2012); the
trend's gain: Benedict, Bordner, "Synthesis of an optimal set of radar track-while-scan smoothing equations" (1962).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numba import njit

from tracker.pose import FLIP_Y, pose_from_camera
from tracker.types import Pose


@dataclass(frozen=True, slots=True)
class EuroParams:
    """One filter's settings; `beta` counts in the reciprocal of the signal's unit."""

    min_cutoff_hz: float  # at rest: lower is steadier
    beta: float  # how fast the cutoff rises with speed: higher lags less
    derivative_cutoff_hz: float = 1.0
    trend: bool = False  # whether the motion so far is carried on; without, this is the published filter


# Names that begin so are the eyes': a filter that rounds off a blink is worse than a little tremor.
EYE_SHAPES = ("eyeBlink", "eyeSquint", "eyeWide", "eyeLook")
# Positions are filtered in widths of a face, so that one setting serves near and far faces.
FACE_WIDTH_MM = 140.0
FLIPS = np.outer(FLIP_Y, FLIP_Y)  # times a matrix that turns y-up space: the same turn with y down


@dataclass(frozen=True, slots=True)
class SmoothingConfig:
    """Strength of the smoothing of a track; each cutoff is what a head at rest gets.

    Calibrated by `python -m tools.evaluate steady`.
    """

    enabled: bool = True
    position_cutoff_hz: float = 2.0
    position_beta: float = 40.0  # speed in face widths a second
    size_cutoff_hz: float = 1.0
    size_beta: float = 5.0  # speed in sizes a second
    rotation_cutoff_hz: float = 1.5
    rotation_beta: float = 20.0  # speed in radians a second
    expression_cutoff_hz: float = 2.0
    expression_beta: float = 10.0  # speed in full blendshapes a second
    eyelid_cutoff_hz: float = 8.0  # lids are hardly filtered: a blink lasts 5 frames
    eyelid_beta: float = 10.0
    derivative_cutoff_hz: float = 1.0
    lookahead: int = 0  # frames of a file that smoothing may look ahead, which come out that much later

    def __post_init__(self):
        for name in self.__slots__:
            value = getattr(self, name)
            if name != "enabled" and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be at least 0, got {value}")
            if name.endswith("_hz") and value == 0:
                raise ValueError(f"{name}: a cutoff of 0 Hz never moves; give a positive one")
        if self.lookahead and not self.enabled:
            raise ValueError(f"lookahead={self.lookahead} is smoothing, which is not enabled")


@njit(cache=True)
def smoothing_factor(cutoff_hz: float, step_s: float) -> float:
    """Weight of the new sample in a first-order low-pass filter."""
    r = 2.0 * math.pi * cutoff_hz * step_s
    return r / (r + 1.0)


class VectorFilter:
    """1 euro filter of a vector signal. The first sample passes unchanged."""

    def __init__(self, params: EuroParams):
        self._params = params
        self._value: np.ndarray | None = None
        self._raw: np.ndarray | None = None
        self._speed: np.ndarray | None = None
        self._trend: np.ndarray | None = None
        self._time_s = 0.0

    def __call__(self, value: np.ndarray, time_s: float) -> np.ndarray:
        """Filter `value`, (n,) float, seen at `time_s`; a repeated or earlier time returns the last result."""
        if self._value is None:
            self._value, self._raw = np.array(value, np.float64), np.array(value, np.float64)
            self._speed, self._trend = np.zeros_like(self._value), np.zeros_like(self._value)
        elif time_s > self._time_s:
            p = self._params
            _follow(
                np.asarray(value, np.float64), self._value, self._raw, self._speed, self._trend,
                time_s - self._time_s, p.derivative_cutoff_hz, p.min_cutoff_hz, p.beta, p.trend,
            )  # fmt: skip
        else:
            return self._value.copy()
        self._time_s = time_s
        return self._value.copy()


class RotationFilter:
    """1 euro filter on rotations: it moves along the shortest turn from the last result to the new sample."""

    def __init__(self, params: EuroParams):
        self._params = params
        self._value: np.ndarray | None = None
        self._raw: np.ndarray | None = None
        self._speed = np.zeros(3)  # rotation vector a second
        self._trend = np.zeros(3)  # rotation vector a second
        self._time_s = 0.0

    def __call__(self, rotation: np.ndarray, time_s: float) -> np.ndarray:
        """Filter `rotation`, (3, 3) orthonormal, seen at `time_s`; returns (3, 3) float64."""
        rotation = np.asarray(rotation, np.float64)
        if self._value is None:
            self._value = self._raw = rotation.copy()
        elif time_s > self._time_s:
            step_s = time_s - self._time_s
            a = smoothing_factor(self._params.derivative_cutoff_hz, step_s)
            self._speed = self._speed + a * (rotation_vector(rotation @ self._raw.T) / step_s - self._speed)
            p = self._params
            gain, trend_gain = gains(p.min_cutoff_hz, p.beta, p.trend, length(self._speed), step_s)
            predicted = cv2.Rodrigues(self._trend * step_s)[0] @ self._value
            error = rotation_vector(rotation @ predicted.T)
            self._value = cv2.Rodrigues(gain * error)[0] @ predicted
            self._trend = self._trend + trend_gain / step_s * error
            self._raw = rotation.copy()
        else:
            return self._value.copy()
        self._time_s = time_s
        return self._value.copy()


@njit(cache=True)
def gains(min_cutoff_hz, beta, has_trend, speed, step_s):
    """How far the value, and the trend over a step, follow what was not foreseen."""
    gain = smoothing_factor(min_cutoff_hz + beta * speed, step_s)
    return gain, gain * gain / (2.0 - gain) if has_trend else 0.0


@njit(cache=True)
def _follow(new, value, raw, speed, trend, step_s, derivative_cutoff_hz, min_cutoff_hz, beta, has_trend):
    """One step of a vector's filter; all arrays (n,) float64, `value`, `raw`, `speed` and `trend` are written."""
    a = smoothing_factor(derivative_cutoff_hz, step_s)
    squares = 0.0
    for i in range(len(new)):
        speed[i] += a * ((new[i] - raw[i]) / step_s - speed[i])
        squares += speed[i] * speed[i]
        raw[i] = new[i]
    gain, trend_gain = gains(min_cutoff_hz, beta, has_trend, math.sqrt(squares), step_s)
    for i in range(len(new)):
        predicted = value[i] + trend[i] * step_s
        error = new[i] - predicted
        value[i] = predicted + gain * error
        trend[i] += trend_gain / step_s * error


def length(vector: np.ndarray) -> float:
    """Of a float vector; np.linalg.norm takes five times as long for one so short."""
    return math.sqrt(vector @ vector)


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle (radians) of a (3, 3) rotation, as (3,) float64."""
    return cv2.Rodrigues(np.asarray(rotation, np.float64))[0].ravel()


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What a filter takes and gives of one face in one frame."""

    camera: np.ndarray  # (3, 4) float32, model mm -> image px
    pose: Pose  # of that camera
    expression: np.ndarray  # (Ke,) float32
    time_s: float


class FaceFilter:
    """Smooths one track: position, size, rotation, expression and eyes, each by its own filter.

    Parameters
    ----------
    first : the pose in the track's first frame
    anchor_mm : (3,) model mm, the point whose position is filtered, amid the landmarks: there the errors of
        position and rotation are least tied to each other, and filters that differ do not tear them apart
    """

    def __init__(
        self,
        config: SmoothingConfig,
        expression_names: tuple[str, ...],
        first: Pose,
        anchor_mm: np.ndarray = np.zeros(3),
    ):
        def euro(cutoff_hz: float, beta: float, trend: bool = True) -> EuroParams:
            return EuroParams(cutoff_hz, beta, config.derivative_cutoff_hz, trend)

        self._settings = config, expression_names
        self._anchor_mm = np.asarray(anchor_mm, np.float64)
        self.samples = 0  # seen so far
        self._unit_px = first.scale_px_per_mm * FACE_WIDTH_MM
        self._position = VectorFilter(euro(config.position_cutoff_hz, config.position_beta))
        self._log_size = VectorFilter(euro(config.size_cutoff_hz, config.size_beta))
        self._rotation = RotationFilter(euro(config.rotation_cutoff_hz, config.rotation_beta))
        # no trend: a mouth or lid that stops would go on, and shapes would leave [0, 1]
        self._expression = VectorFilter(euro(config.expression_cutoff_hz, config.expression_beta, trend=False))
        self._eyes = VectorFilter(euro(config.eyelid_cutoff_hz, config.eyelid_beta, trend=False))
        is_eye = np.array([name.startswith(EYE_SHAPES) for name in expression_names], bool)
        self._eye_indices, self._other_indices = np.flatnonzero(is_eye), np.flatnonzero(~is_eye)

    def anew(self, first: Pose) -> FaceFilter:
        """A filter with the same settings that has seen nothing."""
        return FaceFilter(*self._settings, first, self._anchor_mm)

    def __call__(self, sample: Sample) -> Sample:
        """Filter one frame.

        The camera is turned, scaled and shifted as its pose is; what shear a network's affine camera has beyond that
        stays as it was seen, and so does the origin's z.
        """
        self.samples += 1
        seen, pose, time_s = sample.camera.astype(np.float64), sample.pose, sample.time_s
        place = seen[:2, :3] @ self._anchor_mm + seen[:2, 3]
        place = self._position(place / self._unit_px, time_s) * self._unit_px
        log_size = self._log_size(np.array([math.log(pose.scale_px_per_mm)]), time_s)[0]
        rotation = self._rotation(pose.rotation, time_s)
        turn = rotation @ pose.rotation.T * (FLIPS * (math.exp(log_size) / pose.scale_px_per_mm))
        camera = np.empty((3, 4), np.float32)
        camera[:, :3] = turn @ seen[:, :3]
        camera[:2, 3] = place - camera[:2, :3] @ self._anchor_mm
        camera[2, 3] = seen[2, 3]

        expression = np.array(sample.expression, np.float32)
        if len(self._eye_indices) + len(self._other_indices) == len(expression):
            expression[self._other_indices] = self._expression(expression[self._other_indices], time_s)
            expression[self._eye_indices] = self._eyes(expression[self._eye_indices], time_s)
        else:
            expression[:] = self._expression(expression, time_s)
        return Sample(camera, pose_from_camera(camera), expression, time_s)


def both_ways(forward: FaceFilter, past: Sample, ahead: Sequence[Sample]) -> Sample:
    """Smooth a frame by those before it and those after it, so that lags cancel.

    Parameters
    ----------
    forward : the causal filter of the track
    past : what it made of this frame
    ahead : this frame and those after it, as they were seen, (n,)

    Returns
    -------
    Sample
        The mean of `past` and of what a filter makes of `ahead` from its end; near the ends of a track the one that
        has seen less weighs less.
    """
    backward = forward.anew(ahead[-1].pose)
    for sample in reversed(ahead):
        future = backward(replace(sample, time_s=-sample.time_s))
    # the forward filter has gone on since
    before = forward.samples - (len(ahead) - 1)
    weight = len(ahead) / (len(ahead) + min(len(ahead), before))
    camera = ((1 - weight) * past.camera + weight * future.camera).astype(np.float32)
    expression = ((1 - weight) * past.expression + weight * future.expression).astype(np.float32)
    return Sample(camera, pose_from_camera(camera), expression, past.time_s)
