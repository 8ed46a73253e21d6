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
from typing import Annotated

import numpy as np

from facet.tracker.compiling import njit
from facet.tracker.pose import pose_from_camera
from facet.tracker.types import Pose


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


@dataclass(frozen=True, slots=True)
class SmoothingConfig:
    """Strength of the smoothing of a track; each cutoff is what a head at rest gets.

    Calibrated by `python -m tools.evaluate steady`.
    """

    enabled: Annotated[bool, "whether tracks are smoothed"] = True
    position_cutoff_hz: Annotated[float, "cutoff of the position at rest, Hz; lower is steadier"] = 1.8
    position_beta: Annotated[float, "cutoff added per speed, Hz per face width a second; higher lags less"] = 40.0
    size_cutoff_hz: Annotated[float, "cutoff of the size at rest, Hz"] = 0.6
    size_beta: Annotated[float, "cutoff added per speed, Hz per unit of log size a second"] = 5.0
    rotation_cutoff_hz: Annotated[float, "cutoff of the rotation at rest, Hz"] = 1.0
    rotation_beta: Annotated[float, "cutoff added per speed, Hz per radian a second"] = 10.0
    expression_cutoff_hz: Annotated[float, "cutoff of the expressions at rest, Hz"] = 1.0
    expression_beta: Annotated[float, "cutoff added per speed, Hz per full weight a second"] = 10.0
    eyelid_cutoff_hz: Annotated[float, "cutoff of the expressions of the eyes at rest, Hz"] = 2.0  # blinks pass
    eyelid_beta: Annotated[float, "cutoff added per speed, Hz per full weight a second"] = 12.0
    derivative_cutoff_hz: Annotated[float, "cutoff of the speeds themselves, Hz"] = 0.8
    lookahead: Annotated[
        int, "frames of a file that smoothing uses from ahead, 0 for none; outputs come so much later"
    ] = 0

    def __post_init__(self):
        for name in self.__slots__:
            value = getattr(self, name)
            if name != "enabled" and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be at least 0, got {value}")
            if name.endswith("_hz") and value == 0:
                raise ValueError(f"{name}: a cutoff of 0 Hz never moves; give a positive one")
        if self.lookahead and not self.enabled:
            raise ValueError(f"lookahead={self.lookahead} is smoothing, which is not enabled")


class VectorFilter:
    """1 euro filters of a vector signal, one for each part of it. The first sample passes unchanged.

    Parameters
    ----------
    params : of each part
    ends : where each part but the last ends in the signal
    """

    def __init__(self, *params: EuroParams, ends: Sequence[int] = ()):
        self._params = np.array([_numbers(p) for p in params])
        self._ends = np.array([*ends, 0])
        self._state: np.ndarray | None = None  # (4, n) float64: value, last sample, speed, trend
        self._time_s = 0.0

    def __call__(self, value: np.ndarray, time_s: float) -> np.ndarray:
        """Filter `value`, (n,) float, seen at `time_s`; a repeated or earlier time returns the last result."""
        if self._state is None:
            self._state = np.zeros((4, len(value)))
            self._state[:2] = value
            self._ends[-1] = len(value)
        elif time_s > self._time_s:
            _follow(np.asarray(value, np.float64), self._state, self._ends, time_s - self._time_s, self._params)
        else:
            return self._state[0].copy()
        self._time_s = time_s
        return self._state[0].copy()


class RotationFilter:
    """1 euro filter on rotations: it moves along the shortest turn from the last result to the new sample."""

    def __init__(self, params: EuroParams):
        self._params = np.array(_numbers(params))
        self._state: np.ndarray | None = None  # (2, 3, 3): value, last sample
        self._rates = np.zeros((2, 3))  # speed, trend; rotation vectors a second
        self._time_s = 0.0

    def __call__(self, rotation: np.ndarray, time_s: float) -> np.ndarray:
        """Filter `rotation`, (3, 3) orthonormal, seen at `time_s`; returns (3, 3) float64."""
        rotation = np.asarray(rotation, np.float64)
        if self._state is None:
            self._state = np.array([rotation, rotation])
        elif time_s > self._time_s:
            _turn_after(rotation, self._state, self._rates, time_s - self._time_s, self._params)
        else:
            return self._state[0].copy()
        self._time_s = time_s
        return self._state[0].copy()


def _numbers(params: EuroParams) -> tuple[float, ...]:
    """As the kernels take them."""
    return params.min_cutoff_hz, params.beta, params.derivative_cutoff_hz, params.trend


@njit()
def smoothing_factor(cutoff_hz, step_s):
    """Weight of the new sample in a first-order low-pass filter."""
    r = 2.0 * math.pi * cutoff_hz * step_s
    return r / (r + 1.0)


@njit()
def gains(params, speed, step_s):
    """How far the value, and the trend over a step, follow what was not foreseen."""
    min_cutoff_hz, beta, has_trend = params[0], params[1], params[3] > 0
    gain = smoothing_factor(min_cutoff_hz + beta * speed, step_s)
    return gain, gain * gain / (2.0 - gain) if has_trend else 0.0


@njit()
def _follow(new, state, ends, step_s, params):
    """One step of the filters of all parts, in place."""
    start = 0
    for part in range(len(ends)):
        value, raw, speed, trend = state[:, start : ends[part]]
        a = smoothing_factor(params[part, 2], step_s)
        squares = 0.0
        for i in range(len(value)):
            speed[i] += a * ((new[start + i] - raw[i]) / step_s - speed[i])
            squares += speed[i] * speed[i]
            raw[i] = new[start + i]
        gain, trend_gain = gains(params[part], math.sqrt(squares), step_s)
        for i in range(len(value)):
            predicted = value[i] + trend[i] * step_s
            error = new[start + i] - predicted
            value[i] = predicted + gain * error
            trend[i] += trend_gain / step_s * error
        start = ends[part]


@njit()
def _turn_after(new, state, rates, step_s, params):
    """One step of a rotation's filter, in place."""
    turn, predicted = np.empty((3, 3)), np.empty((3, 3))
    a = smoothing_factor(params[2], step_s)
    squares = 0.0
    for i, angle in enumerate(_vector_between(state[1], new)):
        rates[0, i] += a * (angle / step_s - rates[0, i])
        squares += rates[0, i] * rates[0, i]
    gain, trend_gain = gains(params, math.sqrt(squares), step_s)
    set_rotation(turn, rates[1, 0] * step_s, rates[1, 1] * step_s, rates[1, 2] * step_s)
    multiply(turn, state[0], predicted)
    x, y, z = _vector_between(predicted, new)
    set_rotation(turn, gain * x, gain * y, gain * z)
    multiply(turn, predicted, state[0])
    for i, angle in enumerate((x, y, z)):
        rates[1, i] += trend_gain / step_s * angle
        for j in range(3):
            state[1, i, j] = new[i, j]


@njit()
def multiply(a, b, out):
    """Product of two (3, 3) matrices; the one of numpy calls BLAS."""
    for i in range(3):
        for j in range(3):
            out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]


@njit()
def set_rotation(out, x, y, z):
    """The rotation about an axis by the axis's length, radians, into (3, 3) (Rodrigues)."""
    angle = math.sqrt(x * x + y * y + z * z)
    length = max(angle, 1e-300)
    x, y, z = x / length, y / length, z / length
    cos, sin = math.cos(angle), math.sin(angle)
    rest = 1 - cos
    out[0, 0], out[0, 1], out[0, 2] = cos + rest * x * x, rest * x * y - sin * z, rest * x * z + sin * y
    out[1, 0], out[1, 1], out[1, 2] = rest * x * y + sin * z, cos + rest * y * y, rest * y * z - sin * x
    out[2, 0], out[2, 1], out[2, 2] = rest * x * z - sin * y, rest * y * z + sin * x, cos + rest * z * z


@njit()
def _vector_between(a, b):
    """The turn from rotation `a` to `b`, (3, 3) float64 each, as axis times angle, radians: x, y, z."""
    turn = np.empty((3, 3))
    multiply(b, a.T, turn)
    x, y, z = (turn[2, 1] - turn[1, 2]) / 2, (turn[0, 2] - turn[2, 0]) / 2, (turn[1, 0] - turn[0, 1]) / 2
    cos, sin = (turn[0, 0] + turn[1, 1] + turn[2, 2] - 1) / 2, math.sqrt(x * x + y * y + z * z)
    if sin < 1e-5 and cos < 0:  # a half turn: its axis is the longest column of the turn plus the identity
        longest = 0
        for i in range(1, 3):
            if turn[i, i] > turn[longest, longest]:
                longest = i
        turn[longest, longest] += 1
        x, y, z = turn[0, longest], turn[1, longest], turn[2, longest]
        factor = math.pi / math.sqrt(x * x + y * y + z * z)
    else:
        factor = math.atan2(sin, cos) / sin if sin > 1e-5 else 1.0
    return factor * x, factor * y, factor * z


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
        self.anchor_mm = np.asarray(anchor_mm, np.float64)
        self.samples = 0  # seen so far
        self._unit_px = first.scale_px_per_mm * FACE_WIDTH_MM
        is_eye = np.array([name.startswith(EYE_SHAPES) for name in expression_names], bool)
        self._order = np.argsort(~is_eye, kind="stable")  # the eyes' expressions first
        self._signals = VectorFilter(
            euro(config.position_cutoff_hz, config.position_beta),
            euro(config.size_cutoff_hz, config.size_beta),
            # no trend: a mouth or lid that stops would go on, and shapes would leave [0, 1]
            euro(config.eyelid_cutoff_hz, config.eyelid_beta, trend=False),
            euro(config.expression_cutoff_hz, config.expression_beta, trend=False),
            ends=(2, 3, 3 + int(np.count_nonzero(is_eye))),
        )
        self._rotation = RotationFilter(euro(config.rotation_cutoff_hz, config.rotation_beta))

    def anew(self, first: Pose) -> FaceFilter:
        """A filter with the same settings that has seen nothing."""
        return FaceFilter(*self._settings, first, self.anchor_mm)

    def __call__(self, sample: Sample) -> Sample:
        """Filter one frame.

        The camera is turned, scaled and shifted as its pose is; what shear a network's affine camera has beyond that
        stays as it was seen, and so does the origin's z.
        """
        self.samples += 1
        pose, time_s = sample.pose, sample.time_s
        if len(self._order) != len(sample.expression):  # of a model whose expressions have no names
            self._order = np.arange(len(sample.expression))
        seen = _signals_of(
            sample.camera, pose.scale_px_per_mm, sample.expression, self._order, self.anchor_mm, self._unit_px
        )
        rotation = self._rotation(pose.rotation, time_s)
        camera, expression = _put_together(
            self._signals(seen, time_s), rotation, sample.camera, pose.rotation, pose.scale_px_per_mm,
            self._order, self.anchor_mm, self._unit_px,
        )  # fmt: skip
        return Sample(camera, pose_from_camera(camera), expression, time_s)


@njit()
def _signals_of(camera, scale, expression, order, anchor, unit_px):
    """What is filtered of a sample but for its rotation: the anchor's place, log size, expressions in `order`."""
    out = np.empty(3 + len(order))
    for row in range(2):
        x = camera[row, 0] * anchor[0] + camera[row, 1] * anchor[1] + camera[row, 2] * anchor[2] + camera[row, 3]
        out[row] = x / unit_px
    out[2] = math.log(scale)
    for k in range(len(order)):
        out[3 + k] = expression[order[k]]
    return out


@njit()
def _put_together(signals, rotation, seen_camera, seen_rotation, seen_scale, order, anchor, unit_px):
    """Camera (3, 4) and expression (Ke,), float32, from filtered signals."""
    growth = math.exp(signals[2]) / seen_scale
    turn = np.empty((3, 3))
    multiply(rotation, seen_rotation.T, turn)
    camera, expression = np.empty((3, 4), np.float32), np.empty(len(order), np.float32)
    for row in range(3):
        for column in range(3):
            total = 0.0
            for i in range(3):
                # y is up in rotations, and down in the image
                flip = -1.0 if (row == 1) != (i == 1) else 1.0
                total += flip * turn[row, i] * seen_camera[i, column]
            camera[row, column] = growth * total
    for row in range(2):
        x = camera[row, 0] * anchor[0] + camera[row, 1] * anchor[1] + camera[row, 2] * anchor[2]
        camera[row, 3] = signals[row] * unit_px - x
    camera[2, 3] = seen_camera[2, 3]
    for k in range(len(order)):
        expression[order[k]] = signals[3 + k]
    return camera, expression


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
