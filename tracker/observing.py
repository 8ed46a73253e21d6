"""The network's observations of faces in an image, and the best fit to a new face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from facet.tracker.acquisition import QUARTER_TURNS
from facet.tracker.agreement import fit_score, mean_of, spread_of, unzoomed
from facet.tracker.appearance import thumbnail
from facet.tracker.crop import CropSpec, cut_batch, roi_from_box, roi_from_landmarks
from facet.tracker.mirror import Mirror
from facet.tracker.morphable import MorphableModel
from facet.tracker.pose import model_to_image, pose_from_camera
from facet.tracker.regressor import Regressor
from facet.tracker.stages import Stages
from facet.tracker.tracks import Observation, TrackerConfig, is_plausible
from facet.tracker.types import Box, FaceParams, Roi

# how far the next crop follows a face: on some faces the prediction depends on the crop, and one that followed all the
# way would swing from frame to frame. What a face moves or grows beyond CALM_SHARE of the crop is followed at once
ROLL_GAIN, PLACE_GAIN, SIZE_GAIN, CALM_SHARE = 0.5, 0.5, 0.3, 0.05
# a new face is observed in crops so many times as large as the one that would follow it, each mirrored, too
CLOSE_ZOOMS = (0.95, 1.05)
# below this probability of being right, fits to a head that is rolled otherwise are compared
SURE_FIT = 0.99


class Observer:
    """Runs the regressor on crops of an image.

    Parameters
    ----------
    regressor : crops -> parameters of `model`
    model : its face model
    config : what a plausible face is
    stages : takes the times of "crop", "regress" and "model"
    """

    def __init__(self, regressor: Regressor, model: MorphableModel, config: TrackerConfig, stages: Stages):
        self._regressor, self._model, self._config, self._stages = regressor, model, config, stages
        self._mirror = Mirror.of(model)

    @property
    def finds_rolled_heads(self) -> bool:
        """Whether crops stand upright with the head, so that heads at any roll can be fitted."""
        return self._regressor.crop_spec.upright

    def follow(
        self, image: np.ndarray, seen: Sequence[Observation], steps_px: Sequence[tuple[float, float]]
    ) -> list[Observation]:
        """Observe faces again, where each would be if it moved on by `steps_px`."""
        spec = self._regressor.crop_spec
        return self._observe(image, [next_roi(s, spec).moved(*step) for s, step in zip(seen, steps_px, strict=True)])

    def fit_new(self, image: np.ndarray, candidates: Sequence[Sequence[Box]]) -> list[Observation | None]:
        """The best fit to each face, of which there are one or more possible boxes; None where none is plausible."""
        fits = self._best_fits(image, candidates)
        doubtful = [k for k, seen in enumerate(fits) if self._may_be_rolled(seen)]
        turned = [[candidates[k][0].rolled(turn) for turn in QUARTER_TURNS] for k in doubtful]
        for k, seen in zip(doubtful, self._best_fits(image, turned), strict=True):
            fits[k] = max(fits[k], seen, key=_quality)
        return fits

    def _may_be_rolled(self, seen: Observation | None) -> bool:
        """Whether a face is there and the fit is not beyond doubt: it may be one of a head that is rolled otherwise."""
        if seen is None or seen.fit is None or seen.score is None or not self.finds_rolled_heads:
            return False
        return seen.fit < SURE_FIT and seen.score >= self._config.keep_score

    def _best_fits(self, image: np.ndarray, candidates: Sequence[Sequence[Box]]) -> list[Observation | None]:
        fits = iter(self.fit_boxes(image, [box for boxes in candidates for box in boxes]))
        return [max((next(fits) for _ in boxes), key=_quality) for boxes in candidates]

    def fit_boxes(self, image: np.ndarray, boxes: Sequence[Box]) -> list[Observation | None]:
        """The fit in each box, from several crops; None where it is not plausible."""
        spec, size_wh = self._regressor.crop_spec, image.shape[1::-1]
        # the first crop is loose: its landmarks place the crop that counts
        first = self._observe(image, [roi_from_box(box, spec) for box in boxes])
        kept = [k for k, seen in enumerate(first) if is_plausible(seen, size_wh, self._config)]
        rois = [roi_from_landmarks(first[k].landmarks, spec, first[k].pose.roll_deg, first[k].roi) for k in kept]
        fits: list[Observation | None] = [None] * len(first)
        for k, seen in zip(kept, self._observe(image, rois, closely=True), strict=True):
            if seen.score is not None and seen.spread is not None:
                seen = replace(seen, fit=fit_score(seen.score, seen.spread, boxes[k].score))
            fits[k] = seen
        return fits

    def _observe(self, image: np.ndarray, rois: Sequence[Roi], closely: bool = False) -> list[Observation]:
        """An observation for each square; `closely`: the mean over several crops and their mirror images."""
        if not rois:
            return []
        spec, size = self._regressor.crop_spec, self._regressor.size
        mirror = self._mirror if closely else None
        zooms = (1.0,) if mirror is None else CLOSE_ZOOMS  # thumbnails are of the first
        squares = rois if mirror is None else [roi.zoomed(zoom) for zoom in zooms for roi in rois]
        with self._stages("crop"):
            crops = cut_batch(image, squares, size, spec.style)
        with self._stages("regress"):
            if mirror is None:
                views = [[face] for face in self._regressor(crops)]
            else:
                views = self._regress_closely(mirror, crops, zooms)
        with self._stages("model"):
            seen = []
            for roi, crop, of_face in zip(rois, crops[: len(rois)], views, strict=True):
                face, spread = (of_face[0], None) if mirror is None else (mean_of(of_face), self._spread(of_face))
                camera = model_to_image(face.camera, roi, size)
                landmarks = self._model.landmarks(camera, face.shape, face.expression)
                thumb = thumbnail(crop, spec.landmark_scale * zooms[0])
                seen.append(
                    Observation(
                        roi=roi,
                        camera=camera,
                        pose=pose_from_camera(camera),
                        shape=face.shape,
                        shape_energy=self._regressor.shape_energy(face.shape),
                        expression=face.expression,
                        landmarks=landmarks,
                        score=face.score,
                        thumbnail=thumb,
                        heads=face.heads,
                        spread=spread,
                    )
                )
            return seen

    def _regress_closely(
        self, mirror: Mirror, crops: np.ndarray, zooms: Sequence[float]
    ) -> list[list[FaceParams]]:
        """Predictions for each face from crops of all zooms, (zooms * faces, ...), and from their mirror images.

        All are in px of the crop without a zoom.
        """
        size, count = self._regressor.size, len(crops) // len(zooms)
        faces = self._regressor(np.concatenate([crops, crops[:, :, ::-1]]))
        faces[len(crops) :] = [mirror.face(face, size) for face in faces[len(crops) :]]
        zoom_of_each = np.tile(np.repeat(zooms, count), 2)
        faces = [unzoomed(face, zoom, size) for face, zoom in zip(faces, zoom_of_each, strict=True)]
        return [faces[k::count] for k in range(count)]

    def _spread(self, views: Sequence[FaceParams]) -> float:
        """How far the landmarks of several views of one face disagree, in shares of the face's size."""
        return spread_of(np.array([self._model.landmarks(v.camera, v.shape, v.expression) for v in views]))



def _quality(seen: Observation | None) -> float:
    """For comparing fits to one face."""
    if seen is None:
        return -1.0
    return seen.fit if seen.fit is not None else 1.0 if seen.score is None else seen.score


def next_roi(seen: Observation, spec: CropSpec) -> Roi:
    """The crop after this one, part of the way to where the landmarks lie."""
    before = seen.roi
    turn_deg = (seen.pose.roll_deg - before.roll_deg + 180.0) % 360.0 - 180.0
    wanted = roi_from_landmarks(seen.landmarks, spec, before.roll_deg + ROLL_GAIN * turn_deg, before)
    calm_px = CALM_SHARE * before.size
    size = before.size + followed(wanted.size - before.size, SIZE_GAIN, calm_px)
    (x, y), (to_x, to_y) = before.centre, wanted.centre
    x += followed(to_x - x, PLACE_GAIN, calm_px)
    y += followed(to_y - y, PLACE_GAIN, calm_px)
    return Roi(x - size / 2, y - size / 2, size, wanted.roll_deg)


def followed(way_px: float, gain: float, calm_px: float) -> float:
    """`gain` of the first `calm_px` of a way, and all that lies beyond."""
    calm = min(max(way_px, -calm_px), calm_px)
    return way_px - (1.0 - gain) * calm
