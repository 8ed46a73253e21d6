"""From the state of a track to the `FaceTrack` that users get: smoothing, blendshapes, the face model that is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facet.tracker.aligner import IRISES, Alignment, PointFilter, placed
from facet.tracker.arkit import ArkitBlendshapes
from facet.tracker.blendshapes import BlendshapeReader, linked
from facet.tracker.expression import ExpressionSolver
from facet.tracker.lighting import LightConfig, LightEstimator, LightTrack, load_skin
from facet.tracker.morphable import REBAKE_SHAPE, MorphableModel, project
from facet.tracker.pose import pose_from_camera, translation_mm
from facet.tracker.smoothing import FaceFilter, Sample, SmoothingConfig
from facet.tracker.solve import PointSolver
from facet.tracker.stages import Stages
from facet.tracker.tracks import Observation, Slot
from facet.tracker.types import FaceParams, FaceTrack, Frame, TrackState
from facet.tracker.upstream.fitting import LandmarkFitter


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """One face in one frame, before it is put in the terms of the face model that is drawn."""

    slot: Slot
    state: TrackState
    detected: bool
    seen: Observation
    aligned: Alignment | None
    solved: FaceParams | None  # the face that goes through the aligned points
    points: np.ndarray | None  # (87, 3) aligned points in the face's own axes, where they are smoothed
    filter: FaceFilter | None  # the same for as long as nothing interrupts the track
    raw: Sample  # as it was seen, with expressions that go with the settled shape; solved ones before predicted ones
    smooth: Sample  # after causal smoothing; as it was seen where there is none


class Publisher:
    """Smooths what is seen of tracks, and puts it in the terms of the face model that is drawn.

    Parameters
    ----------
    model : the face model behind the regressor
    mesh_model : the face model that is drawn; where it is another one it is fitted to the landmarks of each frame
    reader : reads the blendshapes from the regressor's expressions; without one, and where `mesh_model` is another
        model, they are the expressions themselves
    link_eyes : as in `BlendshapesConfig`
    solver : solves for the face that goes through an aligner's points
    """

    def __init__(
        self,
        model: MorphableModel,
        mesh_model: MorphableModel,
        reader: BlendshapeReader | None,
        smoothing: SmoothingConfig,
        fov_deg: float,
        lighting: LightConfig,
        stages: Stages,
        link_eyes: float = 0.0,
        solver: PointSolver | None = None,
    ):
        self.mesh_model = mesh_model
        self.blendshapes = ArkitBlendshapes(mesh_model.expression_names)
        self.with_vertices = False  # whether `FaceTrack.vertices` is filled
        self._model, self._smoothing, self._fov_deg = model, smoothing, fov_deg
        self._solve = ExpressionSolver(model)
        self._link_eyes, self._solver = link_eyes, solver
        self._reader = reader if mesh_model is model else None
        self._lighting, self._stages = lighting, stages
        self._light: LightEstimator | None = None
        if lighting.enabled:
            self.estimate_light()

    def estimate_light(self) -> None:
        """From now on fill `FaceTrack.appearance`."""
        if self._light is None:
            self._light = LightEstimator(self.mesh_model, load_skin())

    def solve(self, slot: Slot) -> None:
        """Solve for the face that goes through the aligned points of a track."""
        if self._solver is None or slot.aligned is None:
            return
        slot.solving = slot.solving or self._solver.start()
        seen, shape = slot.seen, slot.settle_shape(slot.seen.shape)
        slot.predicted = self._solve(seen.expression, seen.shape, shape)
        slot.solved = slot.solving(slot.aligned, seen.camera, seen.pose, shape, slot.predicted)

    def sight(self, slot: Slot, frame: Frame) -> Sighting:
        """What is seen of a track in this frame, smoothed by what was seen before."""
        seen, solved, smoother = slot.seen, slot.solved, None
        camera, pose, expression, sources = seen.camera, seen.pose, seen.expression, 1
        if solved is not None:
            camera, pose = solved.camera, pose_from_camera(solved.camera)
            expression, sources = np.concatenate([solved.expression, slot.predicted]), 2  # reading takes both
        if self._smoothing.enabled:
            if slot.filter is None:
                middle_mm = self._model.landmarks(np.eye(3, 4, dtype=np.float32), seen.shape, seen.expression).mean(
                    axis=0
                )
                names = self._model.expression_names * sources
                slot.filter = FaceFilter(self._smoothing, names, seen.pose, middle_mm)
            smoother = slot.filter
            if solved is None:
                expression = self._solve(expression, seen.shape, slot.settle_shape(seen.shape))
        raw = Sample(camera, pose, expression, frame.time_s)
        smooth, points = raw, None
        if smoother is not None:
            smooth = smoother(raw)
            if slot.aligned is not None:
                points = self._point_filter(slot, smoother)(slot.aligned.points, raw, smoother.anchor_mm)
        return Sighting(slot, slot.state, slot.detected, seen, slot.aligned, solved, points, smoother, raw, smooth)

    def _point_filter(self, slot: Slot, smoother: FaceFilter) -> PointFilter:
        """Smooths the aligned points of a track in the face's own axes, anew whenever the track is."""
        points = slot.points
        if points is None or points[0] is not smoother:
            points = slot.points = smoother, PointFilter(self._smoothing)
        return points[1]

    def publish(self, sighting: Sighting, smooth: Sample, frame: Frame) -> FaceTrack:
        """The face of a track, smoothed as given, in the terms of the face model that is drawn."""
        slot, seen = sighting.slot, sighting.seen
        camera, pose, landmarks, shape = smooth.camera, smooth.pose, seen.landmarks, seen.shape
        expression = smooth.expression[: self._model.expression_count]
        if sighting.solved is not None:
            shape = sighting.solved.shape
        elif self._smoothing.enabled:
            shape = slot.shape_mean.copy()
        if sighting.solved is not None or self._smoothing.enabled:
            landmarks = self._model.landmarks(camera, shape, expression)
        if self.mesh_model is not self._model:
            if slot.fitter is None:
                slot.fitter = LandmarkFitter(self.mesh_model, jaw_slides=self._model.sparse.lines > 0)
            fitted = slot.fitter(landmarks)
            camera, shape, expression = fitted.camera, fitted.shape, fitted.expression
        vertices = None
        if self.with_vertices:
            if slot.neutral_shape is None or np.abs(shape - slot.neutral_shape).max() > REBAKE_SHAPE:
                slot.neutral, slot.neutral_shape = self.mesh_model.bake(shape), shape
            vertices = self.mesh_model.vertices(shape, expression, slot.neutral)
            vertices = project(vertices, np.asarray(camera, np.float32))
        appearance = None
        if self._light is not None:
            with self._stages("light"):
                slot.light = slot.light or LightTrack(self._light, self._lighting.smoothing_s)
                appearance = slot.light(frame.image, camera, shape, expression, frame.time_s)
        weights = expression
        if self._reader is not None:
            slot.reading = reading = slot.reading or self._reader.start()
            weights = reading(smooth.expression)
        precise: dict = {}
        if sighting.aligned is not None:
            aligned, points = sighting.aligned, sighting.aligned.points
            if sighting.points is not None and sighting.filter is not None:
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
            translation_mm=translation_mm(camera, frame.image.shape[1::-1], self._fov_deg),
            blendshapes=linked(self.blendshapes(weights), self._link_eyes),
            vertices=vertices,
            appearance=appearance,
            heads=seen.heads,
            **precise,
        )
