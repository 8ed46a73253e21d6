"""The network that predicts pose, shape and expression of the faces in crops, whatever the format of its output."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from facet.tracker.compiling import njit
from facet.tracker.crop import CropSpec
from facet.tracker.errors import WeightsError
from facet.tracker.heads import LOGIT_LIMIT, POSE_COUNT, Head, heads_of
from facet.tracker.runtime import RuntimeConfig, Session, open_session
from facet.tracker.types import FaceParams
from facet.tracker.upstream.regressor import output_of_3ddfa
from facet.tracker.weights import WeightsEntry

# (B, numbers) float32 -> cameras (B, 3, 4), shapes (B, Ks), expressions (B, Ke), scores (B,) or None, others (B, n)
Translator = Callable[
    [np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, dict[str, np.ndarray]]
]


class Regressor:
    """A loaded regressor.

    Attributes
    ----------
    size : side of its crops, px
    crop_spec : how its crops are placed and cut
    face_model_file : the face model whose coefficients it predicts; shape coefficients are in standard deviations
    answers_file : how it answers to blendshapes, where that was measured
    provider : the ONNX Runtime execution provider in use
    """

    def __init__(
        self,
        session: Session,
        crop_spec: CropSpec,
        face_model_file: Path,
        translate: Translator,
        answers_file: Path | None = None,
    ):
        self._session = session
        self._translate = translate
        self.crop_spec = crop_spec
        self.size = crop_spec.size_px
        self.face_model_file = face_model_file
        self.answers_file = answers_file
        self.provider = session.provider
        # the one face of most frames has its place
        self._crop = np.empty((1, self.size, self.size, 3), np.uint8)
        self._params = np.empty((1, session.outputs["params"][1]), np.float32)
        self._run_one = session.bound({"crops": self._crop}, {"params": self._params})
        self._beside = ThreadPoolExecutor(1, "facet-regressor")  # has no thread before a face comes

    def close(self) -> None:
        """End the thread that helps with several faces."""
        self._beside.shutdown()

    @classmethod
    def open(cls, entry: WeightsEntry, config: RuntimeConfig = RuntimeConfig()) -> Regressor:
        """Load the regressor of a manifest entry.

        Raises
        ------
        WeightsError
            If the entry lacks a value, names an unknown format, or the network has other inputs or outputs.
        ConfigError
            If the execution provider is not to be had.
        """
        try:
            spec = CropSpec(
                size_px=entry.get("size_px", int),
                box_scale=entry.get("box_scale", float),
                box_shift_y=entry.get("box_shift_y", float),
                landmark_scale=entry.get("landmark_scale", float),
                landmark_shift_y=entry.get("landmark_shift_y", float, 0.0),
                upright=entry.get("upright", bool, False),
                style=entry.get("crop_style", str),
                origin_px=entry.get("origin_px", float, 0.0),
            )
        except ValueError as error:
            raise WeightsError(f"{entry.path}: its manifest entry is wrong: {error}") from error
        head_format = entry.get("format", str)
        if head_format == "3ddfa_62":
            length, translate = output_of_3ddfa(entry, spec.size_px)
        elif head_format == "facet":
            heads = heads_of(entry)
            for name in ("pose", "shape", "expression"):
                if name not in heads:
                    raise WeightsError(f"{entry.path}: expected a head {name}, found {', '.join(heads)}")
            if heads["pose"].stop - heads["pose"].start != POSE_COUNT:
                raise WeightsError(f"{entry.path}: expected a head pose of {POSE_COUNT} numbers, found {heads['pose']}")
            length = max(head.stop for head in heads.values())
            translate = translate_facet(entry.get("base_scale", float), heads, spec.size_px)
        else:
            raise WeightsError(f"{entry.path}: expected format 3ddfa_62 or facet in its manifest, found {head_format}")
        session = open_session(entry.path, config)
        session.require(
            inputs={"crops": (None, spec.size_px, spec.size_px, 3)},
            outputs={"params": (None, length)},
        )
        answers = entry.get("answers", str, "")
        answers_file = entry.path.parent / answers if answers else None
        return cls(session, spec, entry.path.parent / entry.get("face_model", str), translate, answers_file)

    def __call__(self, crops: np.ndarray) -> list[FaceParams]:
        """Regress all crops at once, those of several faces on two threads.

        Parameters
        ----------
        crops : (B, size, size, 3) uint8, BGR

        Returns
        -------
        one FaceParams a crop, cameras in crop px

        Raises
        ------
        ValueError
            If the crops have another shape or type.
        WeightsError
            If the network gives numbers that are not finite.
        """
        if crops.ndim != 4 or crops.shape[1:] != (self.size, self.size, 3) or crops.dtype != np.uint8:
            raise ValueError(f"crops: expected (B, {self.size}, {self.size}, 3) uint8, got {crops.shape} {crops.dtype}")
        if len(crops) == 0:
            return []
        if len(crops) == 1:
            self._crop[:] = crops
            self._run_one()
            params = self._params.copy()
        else:
            # a batch gains nothing over one crop after another, and an idle core halves it
            half = len(crops) // 2
            first = self._beside.submit(self._session.run, crops=crops[:half])
            second = self._session.run(crops=crops[half:])
            params = np.concatenate(first.result() + second)
        if not np.isfinite(params).all():
            raise WeightsError(f"{self._session.path}: expected finite numbers, found others; use another network")
        cameras, shapes, expressions, scores, others = self._translate(params)
        return [
            FaceParams(
                cameras[i],
                shapes[i],
                expressions[i],
                None if scores is None else float(scores[i]),
                {name: values[i] for name, values in others.items()},
            )
            for i in range(len(crops))
        ]

    @staticmethod
    def shape_energy(shape: np.ndarray) -> float:
        """Mean square of shape coefficients, which are in standard deviations; about 1 for a face."""
        return float(shape @ shape) / max(1, len(shape))


def translate_facet(base_scale: float, heads: Mapping[str, Head], size_px: int) -> Translator:
    """Read the output of this project's networks.

    The head `pose` is log scale, the first two rows of the rotation (6), and the shift in x and y. Scale in crop px per
    mm is size * base_scale * exp(log scale); the model's origin lies at size * (0.5 + shift) with y down; the rotation
    is in the model's axes (y up) and made orthonormal by Gram-Schmidt, the first row kept.

    Source of the 6-number rotation: Zhou et al., On the Continuity of Rotation Representations, CVPR 2019, eq. 15.
    """
    heads = dict(heads)
    pose, shape, expression = (heads.pop(name) for name in ("pose", "shape", "expression"))
    score = heads.pop("score", None)
    starts = pose.start, expression.start, -1 if score is None else score.start
    expressions = expression.stop - expression.start

    def translate(params: np.ndarray):
        cameras, weights, scores = _read_heads(params, *starts, expressions, size_px * base_scale, size_px)
        others = {name: head.read(params) for name, head in heads.items()}
        return cameras, params[:, shape.start : shape.stop], weights, None if score is None else scores, others

    return translate


@njit()
def _read_heads(params, pose_start, expression_start, score_start, expression_count, base_scale_px, size_px):
    """Cameras (B, 3, 4), expressions (B, Ke) and scores (B,), float32; without a start, scores are 0."""
    count = len(params)
    cameras, scores = np.empty((count, 3, 4), np.float32), np.zeros(count, np.float32)
    expressions = np.empty((count, expression_count), np.float32)
    for i in range(count):
        pose = params[i, pose_start : pose_start + POSE_COUNT].astype(np.float64)
        _fill_camera(cameras[i], pose, base_scale_px, size_px)
        for k in range(expression_count):
            expressions[i, k] = min(max(params[i, expression_start + k], 0.0), 1.0)
        if score_start >= 0:
            logit = min(max(params[i, score_start], -LOGIT_LIMIT), LOGIT_LIMIT)
            scores[i] = 1 / (1 + math.exp(-logit))
    return cameras, expressions, scores


@njit()
def _fill_camera(camera, pose, base_scale_px, size_px):
    a, b, c, d, e, f = pose[1], pose[2], pose[3], pose[4], pose[5], pose[6]
    scale = base_scale_px * math.exp(min(max(pose[0], -8.0), 8.0))
    length = max(math.sqrt(a * a + b * b + c * c), 1e-8)
    a, b, c = a / length, b / length, c / length
    along = a * d + b * e + c * f
    d, e, f = d - along * a, e - along * b, f - along * c
    length = max(math.sqrt(d * d + e * e + f * f), 1e-8)
    d, e, f = d / length, e / length, f / length
    camera[0, 0], camera[0, 1], camera[0, 2] = scale * a, scale * b, scale * c
    camera[1, 0], camera[1, 1], camera[1, 2] = -scale * d, -scale * e, -scale * f  # the crop's y goes down
    camera[2, 0], camera[2, 1], camera[2, 2] = scale * (b * f - c * e), scale * (c * d - a * f), scale * (a * e - b * d)
    camera[0, 3], camera[1, 3], camera[2, 3] = size_px * (0.5 + pose[7]), size_px * (0.5 + pose[8]), 0.0
