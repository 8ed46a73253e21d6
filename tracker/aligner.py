"""The network that places the points of a face at sub-pixel places, from a crop at its own landmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facet.tracker.crop import CropSpec, crop_to_image, cut_batch, roi_from_landmarks
from facet.tracker.errors import WeightsError
from facet.tracker.runtime import RuntimeConfig, Session, open_session
from facet.tracker.smoothing import FACE_WIDTH_MM, EuroParams, Sample, SmoothingConfig, VectorFilter
from facet.tracker.types import Roi
from facet.tracker.weights import WeightsEntry

# The 68 points, 17 points of the jaw that are fixed on the head, the centres of the subject's right and left iris
COUNT, JAW, IRISES = 87, slice(68, 85), slice(85, 87)
VALUES = 5  # of a point: x, y, depth, visibility, spread
# points that move together, in the order in which they are filtered: the eyes with their irises first
PARTS = (np.r_[36:42, 85], np.r_[42:48, 86], np.r_[0:17, 68:85], np.r_[17:27], np.r_[27:36], np.r_[48:68])
EYES = 2  # of the parts
ORDER = np.concatenate(PARTS)
POINTS_BETA = 40.0  # Hz added per face width a second, of the points' root mean square


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """The points of one face; image px.

    z has the scale of x, is larger nearer the viewer, and is 0 at the mean of points 17-67.
    """

    points: np.ndarray  # (87, 3) float32
    visible: np.ndarray  # (87,) float32, probability that nothing hides the point
    spread_px: np.ndarray  # (87,) float32, expected distance from the true place
    face: np.ndarray  # (S / 4, S / 4) float32, probability that a cell of the crop shows the face
    roi: Roi  # the crop

    @property
    def landmarks(self) -> np.ndarray:
        """(68, 3), in the order of the project's landmarks."""
        return self.points[:68]

    @property
    def irises(self) -> np.ndarray:
        """(2, 3), the subject's right one first."""
        return self.points[IRISES]


class Aligner:
    """A loaded aligner.

    Attributes
    ----------
    crop_spec : how its crops are placed and cut
    answers_file : how a face that goes through its points answers to blendshapes, where that was measured
    """

    def __init__(self, session: Session, crop_spec: CropSpec, answers_file: Path | None = None):
        self._session = session
        self.crop_spec = crop_spec
        self.answers_file = answers_file

    @classmethod
    def open(cls, entry: WeightsEntry, config: RuntimeConfig = RuntimeConfig()) -> Aligner:
        """Load the aligner of a manifest entry.

        Raises
        ------
        WeightsError
            If the entry lacks a value, or the network has other inputs or outputs.
        ConfigError
            If the execution provider is not to be had.
        """
        scale = entry.get("landmark_scale", float)
        try:
            spec = CropSpec(entry.get("size_px", int), scale, 0.0, scale, upright=entry.get("upright", bool))
        except ValueError as error:
            raise WeightsError(f"{entry.path}: its manifest entry is wrong: {error}") from error
        session = open_session(entry.path, config)
        size = spec.size_px
        session.require(
            inputs={"crops": (None, size, size, 3)},
            outputs={"points": (None, COUNT, VALUES), "face": (None, size // 4, size // 4)},
        )
        answers = entry.get("answers", str, "")
        return cls(session, spec, entry.path.parent / answers if answers else None)

    def __call__(
        self, image: np.ndarray, landmarks: Sequence[np.ndarray], rolls_deg: Sequence[float]
    ) -> list[Alignment]:
        """Place the points of faces.

        Parameters
        ----------
        image : (H, W, 3) uint8, BGR
        landmarks : (68, 2 or 3) float of each face, image px; where the crops lie
        rolls_deg : roll of each head

        Returns
        -------
        one Alignment a face
        """
        if not len(landmarks):
            return []
        size = self.crop_spec.size_px
        rois = [
            roi_from_landmarks(points, self.crop_spec, roll) for points, roll in zip(landmarks, rolls_deg, strict=True)
        ]
        crops = cut_batch(image, rois, size, self.crop_spec.style)
        found, faces = self._session.run(crops=crops)
        return [_in_image(values, face, roi, size) for values, face, roi in zip(found, faces, rois, strict=True)]


def _in_image(values: np.ndarray, face: np.ndarray, roi: Roi, size: int) -> Alignment:
    """What the network predicts of one crop, lengths in shares of its side, in image px."""
    matrix = crop_to_image(roi, size)
    points = np.empty((COUNT, 3), np.float32)
    points[:, :2] = values[:, :2] * size @ matrix[:, :2].T + matrix[:, 2]
    points[:, 2] = values[:, 2] * roi.size
    return Alignment(points, values[:, 3], values[:, 4] * roi.size, face, roi)


class PointFilter:
    """Smooths the points of one track in the face's own axes, each part of the face by its own filter.

    The head's motion is left to the filter of the track: points are taken relative to the face as it was seen, and put
    back relative to the face as it was smoothed.
    """

    def __init__(self, config: SmoothingConfig):
        cutoffs = [config.eyelid_cutoff_hz] * EYES + [config.expression_cutoff_hz] * (len(PARTS) - EYES)
        params = [
            EuroParams(cutoff, POINTS_BETA / math.sqrt(len(part)), config.derivative_cutoff_hz)
            for cutoff, part in zip(cutoffs, PARTS, strict=True)
        ]
        ends = np.cumsum([3 * len(part) for part in PARTS])[:-1]
        self._filter = VectorFilter(*params, ends=ends.tolist())

    def __call__(self, points: np.ndarray, seen: Sample, anchor_mm: np.ndarray) -> np.ndarray:
        """Filter one frame.

        Parameters
        ----------
        points : (87, 3) image px
        seen : the face as it was seen in this frame
        anchor_mm : (3,) model mm, the point that stays in place

        Returns
        -------
        (87, 3) float64, face widths from the anchor in axes that roll with the head; see `placed`
        """
        turn, origin, unit_px = _axes(seen, anchor_mm)
        own = (points - origin) / unit_px
        own[:, :2] = own[:, :2] @ turn.T
        smooth = np.empty((COUNT, 3))
        smooth[ORDER] = self._filter(own[ORDER].ravel(), seen.time_s).reshape(-1, 3)
        return smooth


def placed(own: np.ndarray, face: Sample, anchor_mm: np.ndarray) -> np.ndarray:
    """Points (87, 3) in a face's own axes as image px, (87, 3) float32; see `PointFilter`."""
    turn, origin, unit_px = _axes(face, anchor_mm)
    points = own * unit_px
    points[:, :2] = points[:, :2] @ turn
    return (points + origin).astype(np.float32)


def _axes(face: Sample, anchor_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Image axes -> axes that roll with the head, (2, 2); the anchor, (3,) px; the width of a face, px."""
    angle = math.radians(face.pose.roll_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    origin = face.camera[:, :3] @ anchor_mm + face.camera[:, 3]
    return np.array([[cos, -sin], [sin, cos]]), origin, face.pose.scale_px_per_mm * FACE_WIDTH_MM
