"""The tracking loop: from a frame to the faces in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from facet.tracker.acquisition import QUARTER_TURNS, turned_boxes, whole_boxes
from facet.tracker.aligner import IRISES, Aligner, Alignment, PointFilter, placed
from facet.tracker.appearance import mean_thumbnail, thumbnail
from facet.tracker.arkit import ArkitBlendshapes
from facet.tracker.blendshapes import BlendshapeReader
from facet.tracker.crop import CropSpec, cut_batch, roi_from_box, roi_from_landmarks
from facet.tracker.cuts import CutDetector
from facet.tracker.errors import ConfigError, ImageError
from facet.tracker.expression import ExpressionSolver
from facet.tracker.looks import fit_score, mean_of, spread_of, unzoomed
from facet.tracker.mirror import FIXED, Mirror
from facet.tracker.morphable import MorphableModel, load_face_model, project
from facet.tracker.pose import model_to_image, pose_from_camera, translation_mm
from facet.tracker.regressor import Regressor
from facet.tracker.runtime import RuntimeConfig
from facet.tracker.smoothing import FaceFilter, Sample, SmoothingConfig, both_ways
from facet.tracker.stages import Stages
from facet.tracker.tracks import (
    Observation,
    Slot,
    TrackerConfig,
    Tracks,
    Verdict,
    compare_with,
    is_plausible,
    judge,
    rectangle_of,
    starts_track,
)
from facet.tracker.types import Box, Detector, FaceParams, FaceTrack, Frame, Roi, TrackState, check_image
from facet.tracker.upstream.fitting import LandmarkFitter
from facet.tracker.weights import find_entry

# how far the next crop follows a face: on some faces a network's answer depends on the crop, and one that followed all
# the way would swing from frame to frame. What a face moves or grows beyond CALM_SHARE of the crop is followed at once
ROLL_GAIN, PLACE_GAIN, SIZE_GAIN, CALM_SHARE = 0.5, 0.5, 0.3, 0.05
# a new face is looked at in crops so many times as large as the one that would follow it, each mirrored, too
CLOSE_ZOOMS = (0.95, 1.05)
# below this probability of being right, fits to a head that is rolled otherwise are compared
SURE_FIT = 0.99


@dataclass(frozen=True, slots=True)
class RegressorConfig:
    """Which network follows the faces, and which face model is drawn."""

    weights: Annotated[str, "file of the network that tracks faces"] = "weights/regressor.onnx"
    mesh: Annotated[str, "file of the face model that is drawn"] = "weights/face_model.npz"
    aligner: Annotated[str, "file of a network that places landmarks and irises more precisely, or empty"] = ""


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """What is known of the camera."""

    fov_deg: Annotated[float, "field of view across the longer side, degrees; only translation_mm depends on it"] = 60.0

    def __post_init__(self):
        if not 1 <= self.fov_deg <= 170:
            raise ValueError(f"fov_deg must be in [1, 170], got {self.fov_deg}")


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """One face in one frame, before it is put in the terms of the face model that is drawn."""

    slot: Slot
    state: TrackState
    detected: bool
    seen: Observation
    aligned: Alignment | None
    points: np.ndarray | None  # (87, 3) aligned points in the face's own axes, where they are smoothed
    filter: FaceFilter | None  # the same for as long as nothing interrupts the track
    raw: Sample  # as it was seen, with expressions that go with the settled shape
    smooth: Sample  # after causal smoothing; as it was seen where there is none


class FaceTracker:
    """Follows every face from frame to frame.

    Parameters
    ----------
    detect : called with an image only when a detection is due
    regressor : crops -> parameters in the language of `model`
    model : the face model behind the regressor
    mesh_model : the face model that is drawn; where it is another one it is fitted to the landmarks of each frame
    reader : reads the blendshapes from what the regressor tells; without one, and where `mesh_model` is another model,
        they are told as they come
    live : look for newcomers in a thread beside the loop, so that faces that are tracked never wait for it; a newcomer
        is then found a frame or two later, and which one depends on the machine. `close` ends the thread.
    """

    def __init__(
        self,
        detect: Detector,
        regressor: Regressor,
        model: MorphableModel,
        mesh_model: MorphableModel | None = None,
        reader: BlendshapeReader | None = None,
        config: TrackerConfig = TrackerConfig(),
        smoothing: SmoothingConfig = SmoothingConfig(),
        camera: CameraConfig = CameraConfig(),
        stages: Stages | None = None,
        live: bool = False,
        aligner: Aligner | None = None,
    ):
        if live and smoothing.lookahead:
            raise ConfigError(
                f"smoothing.lookahead={smoothing.lookahead}: expected 0 for a live source, which has no frames ahead"
            )
        self._detect = detect
        self._regressor = regressor
        self._aligner = aligner
        self._model = model
        self.mesh_model = mesh_model or model
        self._blendshapes = ArkitBlendshapes(self.mesh_model.expression_names)
        self._config = config
        self._smoothing = smoothing
        self._solve = ExpressionSolver(model)
        self._mirror = Mirror.of(model)
        self._reader = reader if self.mesh_model is model else None
        self._camera = camera
        self._stages = stages or Stages()
        self._waiting: deque[tuple[Frame, tuple[Sighting, ...]]] = deque()  # frames that wait for those after them
        self._beside = ThreadPoolExecutor(1, "facet-detector") if live else None
        self.with_vertices = False  # whether `step` fills FaceTrack.vertices
        self.detected = False  # whether the detector ran in the last step
        self._images = 0  # that `track` has taken
        self.left_out = False  # whether a detection has found more faces than `TrackerConfig.max_faces`
        self.reset()

    @classmethod
    def open(
        cls,
        detect: Detector,
        regressor: RegressorConfig = RegressorConfig(),
        runtime: RuntimeConfig = RuntimeConfig(),
        **settings,
    ) -> FaceTracker:
        """Load the network and the face models that the settings name; `settings` go to the constructor.

        Raises
        ------
        WeightsError
            If a file is missing or damaged.
        ConfigError
            If the execution provider is not to be had.
        """
        network = Regressor.open(find_entry(regressor.weights, "regressor"), runtime)
        own, mesh = (find_entry(path, "face_model").path for path in (network.face_model_file, regressor.mesh))
        model = load_face_model(own)
        mesh_model = model if mesh.samefile(own) else load_face_model(mesh)
        mean_thumbnail()  # a damaged file is reported before anything is tracked
        reader = None
        if network.answers_file is not None:
            reader = BlendshapeReader.open(find_entry(network.answers_file, "answers").path, model.expression_names)
        aligner = Aligner.open(find_entry(regressor.aligner, "aligner"), runtime) if regressor.aligner else None
        return cls(detect, network, model, mesh_model, reader, aligner=aligner, **settings)

    @property
    def provider(self) -> str:
        """The ONNX Runtime execution provider in use."""
        return self._regressor.provider

    @property
    def blendshape_names(self) -> tuple[str, ...]:
        """The names in `FaceTrack.blendshapes`, in order; () where the face model names no expressions."""
        return self._blendshapes.names

    def close(self) -> None:
        """End the threads."""
        self._regressor.close()
        if self._beside is not None:
            self._beside.shutdown(cancel_futures=True)

    def reset(self) -> None:
        """Forget everything, IDs included."""
        self._newcomers: Future | None = None  # a search beside the loop
        self._tracks = Tracks(self._config)
        self._is_cut = CutDetector()
        self._detected_s: float | None = None
        self._wants_detection = False
        self._searches = 0  # in turned images since the last first frame

    def redetect(self) -> None:
        """Run the detector in the next frame and start all tracks anew."""
        self._wants_detection = True

    def relearn_rest(self) -> None:
        """Learn anew what each face answers at rest, from the next frames, in which it should be at rest."""
        self._tracks.relearn_rest()

    def track(self, image: np.ndarray, time_s: float | None = None) -> tuple[FaceTrack, ...]:
        """Track the faces of an image.

        Parameters
        ----------
        image : (H, W, 3) uint8, BGR
        time_s : of a frame of a video, in seconds, increasing from call to call; None for a photograph, which has
            nothing to do with the image before

        Returns
        -------
        The faces; () where there is none.

        Raises
        ------
        ImageError
            Where the array has another shape or type.
        """
        check_image(image)
        still = time_s is None
        self._images += 1
        return self.step(Frame(self._images - 1, 0.0 if still else time_s, image, first=still, still=still))

    def step(self, frame: Frame) -> tuple[FaceTrack, ...]:
        """Advance every track by one frame, running the detector only when it is due; smoothing looks back only.

        Raises
        ------
        ImageError
            Where `frame` is no `Frame`; `track` takes arrays.
        """
        if not isinstance(frame, Frame):
            raise ImageError(f"step: expected a Frame of a source, found {type(frame).__name__}; arrays go to track()")
        self._advance(frame)
        with self._stages("update"):
            sightings = [self._sight(slot, frame) for slot in self._tracks.active]
            return tuple(self._publish(sighting, sighting.smooth, frame) for sighting in sightings)

    def push(self, frame: Frame) -> list[tuple[Frame, tuple[FaceTrack, ...]]]:
        """Advance as `step` does; returns the frames that are done, with their faces.

        With `smoothing.lookahead` = N that is the frame N before, once there is one, and `flush` returns those at the
        end; without, it is the frame itself. No frame is left out and their order is kept.
        """
        if not self._smoothing.lookahead:
            return [(frame, self.step(frame))]
        self._advance(frame)
        with self._stages("update"):
            self._waiting.append((frame, tuple(self._sight(slot, frame) for slot in self._tracks.active)))
            return [self._next_done()] if len(self._waiting) > self._smoothing.lookahead else []

    def flush(self) -> list[tuple[Frame, tuple[FaceTrack, ...]]]:
        """The frames that still wait for others to come, when none will."""
        with self._stages("update"):
            return [self._next_done() for _ in range(len(self._waiting))]

    def _next_done(self) -> tuple[Frame, tuple[FaceTrack, ...]]:
        frame, sightings = self._waiting[0]
        faces = []
        for sighting in sightings:
            ahead = [later.raw for _, others in self._waiting for later in others if later.filter is sighting.filter]
            smooth = both_ways(sighting.filter, sighting.smooth, ahead)
            faces.append(self._publish(sighting, smooth, frame))
        self._waiting.popleft()
        return frame, tuple(faces)

    def _advance(self, frame: Frame) -> None:
        """Bring all tracks to this frame."""
        self._track(frame)
        if self._aligner is not None:
            self._align(frame.image)

    def _track(self, frame: Frame) -> None:
        """Follow the faces of the frames before, and look for others."""
        self.detected = False
        if frame.first:
            self.reset()
        if self._is_cut(frame.image) or self._wants_detection:
            self._tracks.lose_all(frame.time_s)
            self._newcomers = None
        self._tracks.forget(frame.time_s)
        doubtful = self._follow(frame)
        if doubtful or self._detection_is_urgent():
            self._seed(frame, self._run_detector(frame), doubtful)
            if not self._tracks.active:
                self._seed_turned(frame)
        elif self._newcomers is not None:
            if self._newcomers.done():
                boxes, self._newcomers = self._newcomers.result(), None
                self._seed(frame, boxes, [])
        elif self._newcomers_are_due(frame.time_s):
            if self._beside is not None:
                self._detected_s = frame.time_s
                self._newcomers = self._beside.submit(self._detect_boxes, frame.image)
            else:
                self._seed(frame, self._run_detector(frame), [])

    def _follow(self, frame: Frame) -> list[Slot]:
        """Carry on the tracks from their last landmarks; returns those that only the detector can judge."""
        slots = self._tracks.active
        spec = self._regressor.crop_spec
        # where each face would be if it moved on as it did
        rois = [_next_roi(slot.seen, spec).moved(*slot.step_px) for slot in slots]
        size_wh = frame.image.shape[1::-1]
        doubtful = []
        for slot, seen in zip(slots, self._observe(frame.image, rois), strict=True):
            verdict = judge(slot, seen, size_wh, self._config)
            if verdict is Verdict.WRONG:
                self._tracks.lose(slot, frame.time_s)
                self._detected_s = None
                continue
            if verdict is Verdict.DOUBTFUL or (
                seen.score is None and frame.time_s - slot.verified_s >= self._config.verify_s
            ):
                doubtful.append(slot)
            if verdict is Verdict.DOUBTFUL:
                slot.seen = seen
            else:
                self._tracks.carry_on(slot, seen)
        self._tracks.lose_duplicates(frame.time_s)
        return [slot for slot in doubtful if slot in self._tracks.active]

    def _run_detector(self, frame: Frame) -> tuple[Box, ...]:
        self.detected, self._detected_s = True, frame.time_s
        self._wants_detection = False
        self._newcomers = None
        return self._detect_boxes(frame.image)

    def _detect_boxes(self, image: np.ndarray) -> tuple[Box, ...]:
        with self._stages("detect"):
            return self._detect(image)

    def _seed(self, frame: Frame, boxes: Sequence[Box], doubtful: Sequence[Slot]) -> None:
        """End the doubtful tracks that no box confirms; start tracks on boxes without one."""
        sure = [box for box in boxes if box.score >= self._config.sure_box_score]
        wrong = compare_with(sure, self._tracks.active, frame.time_s)
        for slot in wrong:
            self._tracks.lose(slot, frame.time_s)
        for slot in doubtful:
            if slot in wrong:
                continue
            another_face = slot.appearance.likeness(slot.seen.thumbnail) < self._config.sudden_change
            if slot.verified_s != frame.time_s or another_face:
                self._tracks.lose(slot, frame.time_s)
            elif slot.seen.thumbnail is not slot.appearance.last:
                self._tracks.carry_on(slot, slot.seen)
                slot.usual_px_per_mm = slot.seen.pose.scale_px_per_mm
        self._start_tracks(frame, whole_boxes(boxes, *frame.image.shape[1::-1]))

    def _seed_turned(self, frame: Frame) -> None:
        """Start tracks on heads that lie on their side or upside down, which the detector finds in a turned image.

        A first frame, as every still is, is searched in all quarter turns; later ones in one of them every other frame.
        """
        if not self._regressor.crop_spec.upright:
            return
        self._searches = 0 if frame.first else self._searches + 1
        if frame.first:
            rolls_deg = QUARTER_TURNS
        elif self._searches % 2:
            rolls_deg = (QUARTER_TURNS[self._searches // 2 % len(QUARTER_TURNS)],)
        else:
            rolls_deg = ()
        for roll_deg in rolls_deg:
            with self._stages("detect_turned"):
                candidates = turned_boxes(self._detect, frame.image, roll_deg)
            self._start_tracks(frame, candidates)

    def _start_tracks(self, frame: Frame, candidates: Sequence[Sequence[Box]]) -> None:
        """Start tracks on faces without one where a fit convinces; each has one or more possible boxes."""
        size_wh = frame.image.shape[1::-1]
        # one more than there is room for shows whether faces are left out; weak boxes often are no faces
        room = self._config.max_faces - len(self._tracks.active) + (not self.left_out)
        candidates = [c for c in candidates if not self._tracks.is_covered(rectangle_of(c[0]))][: 2 * room]
        for seen in self._fit_new(frame.image, candidates):
            if seen is None or not starts_track(seen, size_wh, self._config) or self._tracks.is_covered(seen.box):
                continue
            if self._tracks.has_room:
                self._tracks.start(seen, frame.time_s, confirmed=frame.still)
            else:
                self.left_out = True

    def _fit_new(self, image: np.ndarray, candidates: Sequence[Sequence[Box]]) -> list[Observation | None]:
        """The best fit to each face, of which there are one or more possible boxes; None where none is plausible."""
        fits = self._best_fits(image, candidates)
        doubtful = [k for k, seen in enumerate(fits) if self._may_be_rolled(seen)]
        turned = [[candidates[k][0].rolled(turn) for turn in QUARTER_TURNS] for k in doubtful]
        for k, seen in zip(doubtful, self._best_fits(image, turned), strict=True):
            fits[k] = max(fits[k], seen, key=_quality)
        return fits

    def _may_be_rolled(self, seen: Observation | None) -> bool:
        """Whether a face is there and the fit is not beyond doubt: it may be one of a head that is rolled otherwise."""
        if seen is None or seen.fit is None or not self._regressor.crop_spec.upright:
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
        """What the network tells of crops; `closely`: the means of several looks at each."""
        if not rois:
            return []
        spec, size = self._regressor.crop_spec, self._regressor.size
        closely = closely and self._mirror is not None
        zooms = CLOSE_ZOOMS if closely else (1.0,)  # thumbnails are of the first
        squares = [roi.zoomed(zoom) for zoom in zooms for roi in rois] if closely else rois
        with self._stages("crop"):
            crops = cut_batch(image, squares, size, spec.style)
        with self._stages("regress"):
            views = self._regress_closely(crops, zooms) if closely else [[face] for face in self._regressor(crops)]
        with self._stages("model"):
            seen = []
            for roi, crop, of_face in zip(rois, crops[: len(rois)], views, strict=True):
                face, spread = (mean_of(of_face), self._spread(of_face)) if closely else (of_face[0], None)
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

    def _regress_closely(self, crops: np.ndarray, zooms: Sequence[float]) -> list[list[FaceParams]]:
        """Predictions for each face from crops of all zooms, (zooms * faces, ...), and from their mirror images.

        All are in px of the crop without a zoom.
        """
        size, count = self._regressor.size, len(crops) // len(zooms)
        faces = self._regressor(np.concatenate([crops, crops[:, :, ::-1]]))
        faces[len(crops) :] = [self._mirror.face(face, size) for face in faces[len(crops) :]]
        zoom_of_each = np.tile(np.repeat(zooms, count), 2)
        faces = [unzoomed(face, zoom, size) for face, zoom in zip(faces, zoom_of_each, strict=True)]
        return [faces[k::count] for k in range(count)]

    def _spread(self, views: Sequence[FaceParams]) -> float:
        """How far the landmarks of several views of one face disagree, in shares of the face's size."""
        return spread_of(np.array([self._model.landmarks(v.camera, v.shape, v.expression) for v in views]))

    def _detection_is_urgent(self) -> bool:
        """When asked for, when nothing is tracked, and when a face was just lost."""
        return self._wants_detection or not self._tracks.active or self._detected_s is None

    def _newcomers_are_due(self, time_s: float) -> bool:
        """Now and then while there is room for another face, often while one is missing."""
        every_s = self._config.return_s if self._tracks.remembers else self._config.redetect_s
        return self._tracks.has_room and not 0 <= time_s - self._detected_s < every_s

    def _sight(self, slot: Slot, frame: Frame) -> Sighting:
        """What is seen of a track in this frame, smoothed by what was seen before."""
        seen = slot.seen
        expression = seen.expression
        if self._smoothing.enabled:
            if slot.filter is None:
                middle_mm = self._model.landmarks(np.eye(3, 4, dtype=np.float32), seen.shape, seen.expression).mean(
                    axis=0
                )
                slot.filter = FaceFilter(self._smoothing, self._model.expression_names, seen.pose, middle_mm)
            expression = self._solve(expression, seen.shape, slot.settle_shape(seen.shape))
        raw = Sample(seen.camera, seen.pose, expression, frame.time_s)
        smooth = slot.filter(raw) if self._smoothing.enabled else raw
        points = self._smooth_points(slot, raw) if slot.aligned is not None and self._smoothing.enabled else None
        return Sighting(slot, slot.state, slot.detected, seen, slot.aligned, points, slot.filter, raw, smooth)

    def _align(self, image: np.ndarray) -> None:
        """Place the points of all faces that are tracked by the aligner, from crops at their landmarks."""
        slots = self._tracks.active
        with self._stages("align"):
            seen = [slot.seen for slot in slots]
            aligned = self._aligner(image, [s.landmarks for s in seen], [s.pose.roll_deg for s in seen])
        for slot, found in zip(slots, aligned, strict=True):
            # its depth counts from the mean of the inner points, ours from the model's origin
            found.points[:, 2] += slot.seen.landmarks[FIXED:, 2].mean()
            slot.aligned = found

    def _smooth_points(self, slot: Slot, raw: Sample) -> np.ndarray:
        """The aligned points of a track in the face's own axes, smoothed anew whenever the track is."""
        if slot.points is None or slot.points[0] is not slot.filter:
            slot.points = slot.filter, PointFilter(self._smoothing)
        return slot.points[1](slot.aligned.points, raw, slot.filter.anchor_mm)

    def _publish(self, sighting: Sighting, smooth: Sample, frame: Frame) -> FaceTrack:
        """Say what was seen of a track in the terms of the face model that is drawn."""
        slot, seen = sighting.slot, sighting.seen
        camera, expression, pose, landmarks, shape = (
            smooth.camera,
            smooth.expression,
            smooth.pose,
            seen.landmarks,
            seen.shape,
        )
        if self._smoothing.enabled:
            shape = slot.shape_mean.copy()
            landmarks = self._model.landmarks(camera, shape, expression)
        if self.mesh_model is not self._model:
            if slot.fitter is None:
                slot.fitter = LandmarkFitter(self.mesh_model, jaw_slides=self._model.sparse.lines > 0)
            fitted = slot.fitter(landmarks)
            camera, shape, expression = fitted.camera, fitted.shape, fitted.expression
        vertices = None
        if self.with_vertices:
            if slot.neutral is None or np.abs(shape - slot.neutral_shape).max() > 0.02:
                slot.neutral, slot.neutral_shape = self.mesh_model.bake(shape), shape
            vertices = self.mesh_model.vertices(shape, expression, slot.neutral)
            vertices = project(vertices, np.asarray(camera, np.float32))
        weights = expression
        if self._reader is not None:
            slot.reading = slot.reading or self._reader.start()
            weights = slot.reading(expression)
        precise: dict = {}
        if sighting.aligned is not None:
            aligned, points = sighting.aligned, sighting.aligned.points
            if sighting.points is not None:
                points = placed(sighting.points, smooth, sighting.filter.anchor_mm)
            landmarks, precise = points[:68], {"irises": points[IRISES]}
            precise |= {"landmark_spread_px": aligned.spread_px[:68], "landmark_visible": aligned.visible[:68]}
        return FaceTrack(
            id=slot.id,
            state=sighting.state,
            score=seen.score if seen.fit is None else seen.fit,
            detected=sighting.detected,
            roi=seen.roi,
            model_to_image=camera,
            shape=shape,
            expression=expression,
            pose=pose,
            landmarks=landmarks,
            translation_mm=translation_mm(camera, frame.image.shape[1::-1], self._camera.fov_deg),
            blendshapes=self._blendshapes(weights),
            vertices=vertices,
            heads=seen.heads,
            **precise,
        )


def _quality(seen: Observation | None) -> float:
    """For comparing fits to one face."""
    if seen is None:
        return -1.0
    return seen.fit if seen.fit is not None else 1.0 if seen.score is None else seen.score


def _next_roi(seen: Observation, spec: CropSpec) -> Roi:
    """The crop after this one, part of the way to where the landmarks lie."""
    before = seen.roi
    turn_deg = (seen.pose.roll_deg - before.roll_deg + 180.0) % 360.0 - 180.0
    wanted = roi_from_landmarks(seen.landmarks, spec, before.roll_deg + ROLL_GAIN * turn_deg, before)
    calm_px = CALM_SHARE * before.size
    size = before.size + _followed(wanted.size - before.size, SIZE_GAIN, calm_px)
    (x, y), (to_x, to_y) = before.centre, wanted.centre
    x += _followed(to_x - x, PLACE_GAIN, calm_px)
    y += _followed(to_y - y, PLACE_GAIN, calm_px)
    return Roi(x - size / 2, y - size / 2, size, wanted.roll_deg)


def _followed(way_px: float, gain: float, calm_px: float) -> float:
    """`gain` of the first `calm_px` of a way, and all that lies beyond."""
    calm = min(max(way_px, -calm_px), calm_px)
    return way_px - (1.0 - gain) * calm
