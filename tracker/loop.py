"""The tracking loop: from a frame to the faces in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from facet.tracker.acquisition import QUARTER_TURNS, turned_boxes, whole_boxes
from facet.tracker.aligner import Aligner
from facet.tracker.appearance import mean_thumbnail
from facet.tracker.blendshapes import BlendshapeReader, BlendshapesConfig
from facet.tracker.cuts import CutDetector
from facet.tracker.errors import ConfigError, ImageError
from facet.tracker.lighting import LightConfig
from facet.tracker.mirror import FIXED
from facet.tracker.morphable import MorphableModel, load_face_model
from facet.tracker.observing import Observer
from facet.tracker.pose import FOV_DEG
from facet.tracker.publishing import Publisher, Sighting
from facet.tracker.regressor import Regressor
from facet.tracker.runtime import RuntimeConfig
from facet.tracker.smoothing import SmoothingConfig, both_ways
from facet.tracker.solve import PointSolver
from facet.tracker.stages import Stages
from facet.tracker.tracks import (
    Observation,
    Slot,
    TrackerConfig,
    Tracks,
    Verdict,
    compare_with,
    judge,
    rectangle_of,
    starts_track,
)
from facet.tracker.types import Box, Detector, FaceTrack, Frame, check_image
from facet.tracker.weights import find_entry


@dataclass(frozen=True, slots=True)
class RegressorConfig:
    """Which network follows the faces, and which face model is drawn."""

    weights: Annotated[str, "file of the network that tracks faces"] = "weights/regressor.onnx"
    mesh: Annotated[str, "file of the face model that is drawn"] = "weights/face_model.npz"
    aligner: Annotated[str, "file of a network that places landmarks and irises more precisely, or empty"] = ""


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """What is known of the camera."""

    fov_deg: Annotated[
        float, "field of view across the longer side, degrees; only translation_mm depends on it"
    ] = FOV_DEG

    def __post_init__(self):
        if not 1 <= self.fov_deg <= 170:
            raise ValueError(f"fov_deg must be in [1, 170], got {self.fov_deg}")


class FaceTracker:
    """Follows every face from frame to frame.

    Parameters
    ----------
    detect : called with an image only when a detection is due
    regressor : crops -> parameters of `model`
    model : the face model behind the regressor
    mesh_model : the face model that is drawn; where it is another one it is fitted to the landmarks of each frame
    reader : calibrates the blendshapes; without one, and where `mesh_model` is another model, they are the
        coefficients of the expressions
    aligner : places landmarks and irises more precisely
    solver : solves for pose, shape and expression that go through the aligner's points; of `model`
    live : detect new faces in a thread beside the loop, so that faces that are tracked never wait for it; a new face
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
        blendshapes: BlendshapesConfig = BlendshapesConfig(),
        stages: Stages | None = None,
        live: bool = False,
        aligner: Aligner | None = None,
        solver: PointSolver | None = None,
        lighting: LightConfig = LightConfig(),
    ):
        if live and smoothing.lookahead:
            raise ConfigError(
                f"smoothing.lookahead={smoothing.lookahead}: expected 0 for a live source, which has no frames ahead"
            )
        self._detect = detect
        self._regressor = regressor
        self._aligner = aligner
        self._config = config
        self._lookahead = smoothing.lookahead
        self._stages = stages or Stages()
        self._observer = Observer(regressor, model, config, self._stages)
        self._publisher = Publisher(
            model,
            mesh_model or model,
            reader,
            smoothing,
            camera.fov_deg,
            lighting,
            self._stages,
            blendshapes.link_eyes,
            solver,
        )
        self._waiting: deque[tuple[Frame, tuple[Sighting, ...]]] = deque()  # frames that wait for those after them
        self._beside = ThreadPoolExecutor(1, "facet-detector") if live else None
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
        answers_file, aligner, solver = network.answers_file, None, None
        if regressor.aligner:
            aligner = Aligner.open(find_entry(regressor.aligner, "aligner"), runtime)
            points = find_entry(own, "face_model").get("points", str, "")
            if points:  # of our own face model
                solver = PointSolver.open(find_entry(own.with_name(points), "model_points").path, model)
                answers_file = aligner.answers_file
        reader = None
        if answers_file is not None:
            reader = BlendshapeReader.open(find_entry(answers_file, "answers").path, model.expression_names)
        return cls(detect, network, model, mesh_model, reader, aligner=aligner, solver=solver, **settings)

    @property
    def detect(self) -> Detector:
        """What finds faces in an image that nobody follows yet."""
        return self._detect

    @property
    def provider(self) -> str:
        """The ONNX Runtime execution provider in use."""
        return self._regressor.provider

    @property
    def blendshape_names(self) -> tuple[str, ...]:
        """The names in `FaceTrack.blendshapes`, in order; () where the face model names no expressions."""
        return self._publisher.blendshapes.names

    @property
    def mesh_model(self) -> MorphableModel:
        """The face model that is drawn."""
        return self._publisher.mesh_model

    @property
    def with_vertices(self) -> bool:
        """Whether `FaceTrack.vertices` is filled; False unless it is set."""
        return self._publisher.with_vertices

    @with_vertices.setter
    def with_vertices(self, value: bool) -> None:
        self._publisher.with_vertices = value

    def estimate_light(self) -> None:
        """From now on fill FaceTrack.appearance.

        Raises
        ------
        WeightsError
            If the skin model is missing or damaged, or the face model that is drawn has no UV layout.
        """
        self._publisher.estimate_light()

    def close(self) -> None:
        """End the threads."""
        self._regressor.close()
        if self._beside is not None:
            self._beside.shutdown(cancel_futures=True)

    def reset(self) -> None:
        """Forget everything, IDs included."""
        self._search: Future | None = None  # a search beside the loop
        self._tracks = Tracks(self._config)
        self._is_cut = CutDetector()
        self._detected_s: float | None = None
        self._wants_detection = False
        self._searches = 0  # in turned images since the last first frame

    def redetect(self) -> None:
        """Run the detector in the next frame and start all tracks anew."""
        self._wants_detection = True

    def relearn_rest(self) -> None:
        """Measure the blendshapes of each face at rest anew, in the next frames, in which it should be at rest."""
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
        self._images += 1
        if time_s is None:
            return self.step(Frame(self._images - 1, 0.0, image, first=True, still=True))
        return self.step(Frame(self._images - 1, time_s, image))

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
            sightings = [self._publisher.sight(slot, frame) for slot in self._tracks.active]
            return tuple(self._publisher.publish(sighting, sighting.smooth, frame) for sighting in sightings)

    def fit_boxes(self, image: np.ndarray, boxes: Sequence[Box]) -> list[Observation | None]:
        """The fit in each box, from several crops; None where it is not plausible."""
        return self._observer.fit_boxes(image, boxes)

    def push(self, frame: Frame) -> list[tuple[Frame, tuple[FaceTrack, ...]]]:
        """Advance as `step` does; returns the frames that are done, with their faces.

        With `smoothing.lookahead` = N that is the frame N before, once there is one, and `flush` returns those at the
        end; without, it is the frame itself. No frame is left out and their order is kept.
        """
        if not self._lookahead:
            return [(frame, self.step(frame))]
        self._advance(frame)
        with self._stages("update"):
            self._waiting.append((frame, tuple(self._publisher.sight(slot, frame) for slot in self._tracks.active)))
            return [self._next_done()] if len(self._waiting) > self._lookahead else []

    def flush(self) -> list[tuple[Frame, tuple[FaceTrack, ...]]]:
        """The frames that still wait for others to come, when none will."""
        with self._stages("update"):
            return [self._next_done() for _ in range(len(self._waiting))]

    def _next_done(self) -> tuple[Frame, tuple[FaceTrack, ...]]:
        frame, sightings = self._waiting[0]
        faces = []
        for sighting in sightings:
            ahead = [later.raw for _, others in self._waiting for later in others if later.filter is sighting.filter]
            smooth = sighting.smooth
            if sighting.filter is not None:
                smooth = both_ways(sighting.filter, smooth, ahead)
            faces.append(self._publisher.publish(sighting, smooth, frame))
        self._waiting.popleft()
        return frame, tuple(faces)

    def _advance(self, frame: Frame) -> None:
        """Bring all tracks to this frame."""
        self._track(frame)
        if self._aligner is not None:
            self._align(self._aligner, frame.image)

    def _align(self, aligner: Aligner, image: np.ndarray) -> None:
        """Place the points of all faces that are tracked by the aligner, from crops at their landmarks."""
        slots = self._tracks.active
        with self._stages("align"):
            seen = [slot.seen for slot in slots]
            aligned = aligner(image, [s.landmarks for s in seen], [s.pose.roll_deg for s in seen])
        for slot, found in zip(slots, aligned, strict=True):
            # its depth counts from the mean of the inner points, ours from the model's origin
            found.points[:, 2] += slot.seen.landmarks[FIXED:, 2].mean()
            slot.aligned = found
        with self._stages("solve"):
            for slot in slots:
                self._publisher.solve(slot)

    def _track(self, frame: Frame) -> None:
        """Follow the faces of the frames before, and detect new ones."""
        self.detected = False
        if frame.first:
            self.reset()
        if self._is_cut(frame.image) or self._wants_detection:
            self._tracks.lose_all(frame.time_s)
            self._search = None
        self._tracks.forget(frame.time_s)
        doubtful = self._follow(frame)
        if doubtful or self._detection_is_urgent():
            self._seed(frame, self._run_detector(frame), doubtful)
            if not self._tracks.active:
                self._seed_turned(frame)
        elif self._search is not None:
            if self._search.done():
                boxes, self._search = self._search.result(), None
                self._seed(frame, boxes, [])
        elif self._detection_is_due(frame.time_s):
            if self._beside is not None:
                self._detected_s = frame.time_s
                self._search = self._beside.submit(self._detect_boxes, frame.image)
            else:
                self._seed(frame, self._run_detector(frame), [])

    def _follow(self, frame: Frame) -> list[Slot]:
        """Carry on the tracks from their last landmarks; returns those that only the detector can judge."""
        slots = self._tracks.active
        seen_now = self._observer.follow(frame.image, [s.seen for s in slots], [s.step_px for s in slots])
        size_wh = frame.image.shape[1::-1]
        doubtful = []
        for slot, seen in zip(slots, seen_now, strict=True):
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
        self._search = None
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
        if not self._observer.finds_rolled_heads:
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
        for seen in self._observer.fit_new(frame.image, candidates):
            if seen is None or not starts_track(seen, size_wh, self._config) or self._tracks.is_covered(seen.box):
                continue
            if self._tracks.has_room:
                self._tracks.start(seen, frame.time_s, confirmed=frame.still)
            else:
                self.left_out = True

    def _detection_is_urgent(self) -> bool:
        """When asked for, when nothing is tracked, and when a face was just lost."""
        return self._wants_detection or not self._tracks.active or self._detected_s is None

    def _detection_is_due(self, time_s: float) -> bool:
        """Now and then while there is room for another face, often while one is missing."""
        every_s = self._config.return_s if self._tracks.remembers else self._config.redetect_s
        waits = self._detected_s is not None and 0 <= time_s - self._detected_s < every_s
        return self._tracks.has_room and not waits
