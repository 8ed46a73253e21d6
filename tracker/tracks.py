"""The life of tracks: TENTATIVE -> TRACKED -> LOST -> gone, who is who, and when a track is not to be believed."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np

from facet.tracker.aligner import Alignment, PointFilter
from facet.tracker.appearance import Appearance
from facet.tracker.blendshapes import Reading
from facet.tracker.compiling import njit
from facet.tracker.crop import extent
from facet.tracker.lighting import LightTrack
from facet.tracker.smoothing import FaceFilter
from facet.tracker.solve import Solving
from facet.tracker.types import Box, FaceParams, Pose, Roi, TrackState
from facet.tracker.upstream.fitting import LandmarkFitter

Rectangle = tuple[float, float, float, float]  # x_min, y_min, x_max, y_max, image px; NaN where there is none


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """When tracks begin and end."""

    max_faces: Annotated[int, "at most so many faces are tracked"] = 4
    redetect_s: Annotated[float, "seconds between detections while there is room for another face"] = 1.0
    return_s: Annotated[float, "seconds between detections while a lost face may return"] = 0.05
    verify_s: Annotated[float, "seconds between detections that confirm a track whose network gives no score"] = 0.5
    memory_s: Annotated[float, "seconds for which a lost face keeps its ID"] = 3.0
    confirm_frames: Annotated[int, "good frames until a tentative track is tracked"] = 3
    young_frames: Annotated[
        int, "good frames within which a new track may still prove to be one that was lost nearby"
    ] = 30
    start_score: Annotated[float, "a track starts at this score or above, 0 to 1"] = 0.985
    start_fit: Annotated[
        float, "the same for the probability that the fit is right, where a new face is seen in several crops, 0 to 1"
    ] = 0.82
    sure_box_score: Annotated[float, "a detection below this score does not confirm a track, 0 to 1"] = 0.5
    keep_score: Annotated[float, "a track ends below this score, 0 to 1"] = 0.25
    min_face_px: Annotated[float, "a track ends below this size of the face, px"] = 8.0
    min_inside: Annotated[float, "share of the landmarks that must lie in the image, 0 to 1"] = 0.35
    max_resize: Annotated[float, "largest ratio of face sizes in successive frames"] = 1.6
    max_shape_energy: Annotated[float, "largest mean square of the shape coefficients, in standard deviations"] = 6.0
    # calibrated by tools/thumbnail.py: 99 % of strangers stay below
    same_person: Annotated[float, "similarity of thumbnails above which a returning face is the same, -1 to 1"] = 0.7
    same_place_person: Annotated[float, "the same for a face that returns where it was lost"] = 0.3
    sudden_change: Annotated[float, "a crop that is less similar to its track is checked by the detector"] = 0.2

    def __post_init__(self):
        if self.max_faces < 1:
            raise ValueError(f"max_faces must be at least 1, got {self.max_faces}")
        for name in ("redetect_s", "return_s", "verify_s", "memory_s", "confirm_frames", "young_frames", "min_face_px"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("start_score", "start_fit", "sure_box_score", "keep_score", "min_inside"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.keep_score > self.start_score:
            raise ValueError(f"keep_score {self.keep_score} must not exceed start_score {self.start_score}")
        if self.max_resize <= 1:
            raise ValueError(f"max_resize must be above 1, got {self.max_resize}")


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What one frame's network run says of one face, before smoothing."""

    roi: Roi
    camera: np.ndarray  # (3, 4) float32, model mm -> image px
    pose: Pose
    shape: np.ndarray
    shape_energy: float  # mean square of the shape coefficients in standard deviations
    expression: np.ndarray
    landmarks: np.ndarray  # (68, 3) float32, image px
    score: float | None
    thumbnail: np.ndarray
    heads: Mapping[str, np.ndarray] = field(default_factory=dict)  # the network's other heads, by name
    spread: float | None = None  # of the landmarks in several views (tracker/agreement.py); None of a single view
    fit: float | None = None  # probability that the fit lies on a face, by several views; None of a single view
    box: Rectangle = field(init=False)  # of the landmarks
    centre: tuple[float, float] = field(init=False)  # mean of the landmarks, image px

    def __post_init__(self):
        edges_and_mean = extent(self.landmarks, 1.0, 0.0)
        object.__setattr__(self, "box", edges_and_mean[:4])
        object.__setattr__(self, "centre", edges_and_mean[4:])


@njit()
def _approach(mean, value, weight):
    """Add one value to a mean of `weight` ones, in place; (K,) float each."""
    for k in range(len(mean)):
        mean[k] += (value[k] - mean[k]) / weight


class Verdict(enum.Enum):
    GOOD = "good"
    DOUBTFUL = "doubtful"  # only the detector can decide
    WRONG = "wrong"


@dataclass(slots=True, eq=False)
class Slot:
    """One track between frames."""

    id: int
    appearance: Appearance
    seen: Observation  # the newest
    placed: bool = True  # False after a cut: the place where it was seen says nothing
    state: TrackState = TrackState.TENTATIVE
    detected: bool = True  # the newest came from a box
    good_frames: int = 0
    likeness: float = 1.0  # of the newest to those before
    filter: FaceFilter | None = None  # None: the next frame begins a new one
    aligned: Alignment | None = None  # of the newest frame, where there is an aligner
    solving: Solving | None = None  # of the face that goes through the aligned points
    solved: FaceParams | None = None  # the same of the newest frame, camera in image px
    predicted: np.ndarray | None = None  # (Ke,) of the regressor, going with the settled shape, where it is solved
    points: tuple[FaceFilter, PointFilter] | None = None  # the filter of its points, and that which it goes with
    shape_mean: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))  # empty before the first frame
    shape_weight: float = 0.0
    neutral: np.ndarray | None = None  # (N, 3) vertices of `neutral_shape`, baked once the shape has settled
    neutral_shape: np.ndarray | None = None
    usual_px_per_mm: float = 0.0  # scale, averaged over about a second
    step_px: tuple[float, float] = (0.0, 0.0)  # how far the face moved in the last frame
    perhaps: Slot | None = None  # a lost face that this one may turn out to be
    reading: Reading | None = None  # of its blendshapes, where they are read
    fitter: LandmarkFitter | None = None  # of the face model that is drawn, where it is another one
    light: LightTrack | None = None  # its light and skin, where they are estimated
    lost_s: float = 0.0
    verified_s: float = 0.0

    def settle_shape(self, shape: np.ndarray, frames: float = 90.0) -> np.ndarray:
        """Average the shape over the track; after `frames` frames old ones fade."""
        self.shape_weight = min(self.shape_weight + 1.0, frames)
        if self.shape_mean.shape != shape.shape:
            self.shape_mean, self.shape_weight = np.array(shape, np.float32), 1.0
        _approach(self.shape_mean, shape, self.shape_weight)
        return self.shape_mean


def step_between(before: Observation, after: Observation) -> tuple[float, float]:
    """How far the landmarks moved, px, as far as that is motion: slow steps are the network's tremble.

    Below 1 % of the face's width it is none of the step, above 3 % all of it.
    """
    x, y = after.centre[0] - before.centre[0], after.centre[1] - before.centre[1]
    width = after.box[2] - after.box[0]
    share = min(1.0, max(0.0, 50.0 * math.hypot(x, y) / max(width, 1.0) - 0.5))
    return share * x, share * y


def judge(slot: Slot, new: Observation, size_wh: tuple[int, int], config: TrackerConfig) -> Verdict:
    """Whether `new` may carry on the track: the network's score first, then geometry and looks."""
    if new.score is not None and new.score < config.keep_score:
        return Verdict.WRONG
    if not is_plausible(new, size_wh, config):
        return Verdict.WRONG
    growth = new.pose.scale_px_per_mm / slot.seen.pose.scale_px_per_mm
    if not 1 / config.max_resize <= growth <= config.max_resize:
        return Verdict.WRONG
    usual = new.pose.scale_px_per_mm / slot.usual_px_per_mm
    if not 1 / config.max_resize <= usual <= config.max_resize:
        return Verdict.DOUBTFUL
    if new.shape_energy > config.max_shape_energy or slot.appearance.likeness(new.thumbnail) < config.sudden_change:
        return Verdict.DOUBTFUL
    return Verdict.GOOD


def is_plausible(new: Observation, size_wh: tuple[int, int], config: TrackerConfig) -> bool:
    """Whether a face could look like this: finite, not tiny, mostly in the picture."""
    x0, y0, x1, y1 = new.box
    if not max(x1 - x0, y1 - y0) >= config.min_face_px:  # nor is NaN
        return False
    width, height = size_wh
    if min(x0, y0) >= 0 and x1 <= width and y1 <= height:
        return config.min_inside <= 1.0
    x, y = new.landmarks[:, 0], new.landmarks[:, 1]
    inside = ((x >= 0) & (x <= width) & (y >= 0) & (y <= height)).mean()
    return bool(inside >= config.min_inside)


def starts_track(new: Observation, size_wh: tuple[int, int], config: TrackerConfig) -> bool:
    """Whether the fit of a new face convinces."""
    if new.fit is not None:
        convinces = new.fit >= config.start_fit
    else:
        convinces = new.score is None or new.score >= config.start_score
    return convinces and is_plausible(new, size_wh, config)


def overlap(a: Rectangle, b: Rectangle) -> float:
    """Intersection over the smaller area of two rectangles."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a, b
    width, height = min(ax1, bx1) - max(ax0, bx0), min(ay1, by1) - max(ay0, by0)
    smaller = min((ax1 - ax0) * (ay1 - ay0), (bx1 - bx0) * (by1 - by0))
    return width * height / smaller if width > 0 and height > 0 and smaller > 0 else 0.0


def fits(box: Rectangle, face: Rectangle) -> bool:
    """Whether a detector's box and a rectangle of landmarks, on one face, are of one size: intersection over union.

    Boxes take in more of the forehead than landmarks do, and those of a profile more of the head.
    """
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = box, face
    shared = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    return shared >= 0.3 * ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared)


def rectangle_of(box: Box) -> Rectangle:
    return box.x_min, box.y_min, box.x_max, box.y_max


class Tracks:
    """All slots of a tracker, the living and the remembered."""

    def __init__(self, config: TrackerConfig):
        self._config = config
        self._slots: list[Slot] = []
        self._next_id = 1

    @property
    def active(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.state is not TrackState.LOST]

    @property
    def remembers(self) -> bool:
        """Whether a lost face may still come back."""
        return any(slot.state is TrackState.LOST for slot in self._slots)

    @property
    def has_room(self) -> bool:
        return len(self.active) < self._config.max_faces

    def lose(self, slot: Slot, time_s: float) -> None:
        """End a track; a confirmed one is remembered for a while, a tentative one never was."""
        if slot.state is TrackState.TENTATIVE:
            self._slots.remove(slot)
            return
        slot.state, slot.lost_s = TrackState.LOST, time_s
        slot.filter, slot.fitter, slot.perhaps, slot.light, slot.good_frames = None, None, None, None, 0

    def lose_all(self, time_s: float) -> None:
        for slot in self.active:
            self.lose(slot, time_s)
        for slot in self._slots:
            slot.placed = False

    def relearn_rest(self) -> None:
        """Begin anew with what the faces, the lost ones too, answer at rest."""
        for slot in self._slots:
            if slot.reading is not None:
                slot.reading.relearn()

    def forget(self, time_s: float) -> None:
        """Drop the lost ones that stayed away too long."""
        self._slots = [
            slot
            for slot in self._slots
            if slot.state is not TrackState.LOST or time_s - slot.lost_s <= self._config.memory_s
        ]

    def is_covered(self, rectangle: Rectangle) -> bool:
        """Whether a rectangle shows a face that is tracked already."""
        return any(overlap(rectangle, slot.seen.box) > 0.5 for slot in self.active)

    def start(self, new: Observation, time_s: float, confirmed: bool = False) -> Slot:
        """Begin a track, TENTATIVE unless `confirmed`, or take up a remembered one that this face belongs to."""
        slot = self._recognise(new)
        if slot is None:
            slot = Slot(self._next_id, Appearance(), new, perhaps=self._lost_near(new.box))
            self._next_id += 1
            self._slots.append(slot)
        else:
            confirmed = True
        if confirmed:
            slot.state = TrackState.TRACKED
        self.carry_on(slot, new, detected=True)
        slot.verified_s = time_s
        return slot

    def carry_on(self, slot: Slot, new: Observation, detected: bool = False) -> None:
        """Add one frame to a track."""
        slot.step_px = (0.0, 0.0) if detected else step_between(slot.seen, new)
        slot.seen, slot.placed, slot.detected = new, True, detected
        scale = new.pose.scale_px_per_mm
        slot.usual_px_per_mm = scale if detected else slot.usual_px_per_mm + (scale - slot.usual_px_per_mm) / 30
        slot.likeness = slot.appearance.likeness(new.thumbnail)
        slot.appearance.add(new.thumbnail)
        slot.good_frames += 1
        if slot.state is TrackState.TENTATIVE and slot.good_frames >= self._config.confirm_frames:
            slot.state = TrackState.TRACKED
        if slot.perhaps is not None:
            self._reconsider(slot)

    def _lost_near(self, box: Rectangle) -> Slot | None:
        """The lost slot that went from nearest to here, if it was near; who comes out from behind somebody began so."""

        def distance(slot: Slot) -> float:
            (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = box, slot.seen.box
            return math.hypot(ax0 + ax1 - bx0 - bx1, ay0 + ay1 - by0 - by1) / 2

        lost = [slot for slot in self._slots if slot.state is TrackState.LOST and slot.placed]
        nearest = min(lost, key=distance, default=None)
        size = max(box[2] - box[0], box[3] - box[1])
        return nearest if nearest is not None and distance(nearest) < 2.5 * size else None

    def _reconsider(self, slot: Slot) -> None:
        """Give a young track the ID of the lost one that it may be, once it looks like it."""
        lost = slot.perhaps
        old = slot.good_frames > self._config.young_frames
        if lost is None or lost not in self._slots or lost.state is not TrackState.LOST or old:
            slot.perhaps = None
        elif lost.appearance.likeness(slot.seen.thumbnail) >= self._config.same_person:
            slot.id, slot.appearance, slot.perhaps = lost.id, lost.appearance, None
            slot.reading = lost.reading or slot.reading
            slot.appearance.add(slot.seen.thumbnail)
            self._slots.remove(lost)

    def lose_duplicates(self, time_s: float) -> None:
        """Where two tracks sit on one face, the one that it resembles less is lost."""
        if len(self._slots) < 2:
            return
        seen = [(slot, slot.seen.box) for slot in self.active]
        for index, (slot, box) in enumerate(seen):
            for other, other_box in seen[index + 1 :]:
                if TrackState.LOST in (slot.state, other.state) or slot not in self._slots or other not in self._slots:
                    continue
                if overlap(box, other_box) > 0.7:
                    self.lose(min(slot, other, key=lambda s: (s.likeness, -s.id)), time_s)

    def _recognise(self, new: Observation) -> Slot | None:
        """The lost slot whose face this is, or None."""
        best, best_likeness = None, -1.0
        for slot in self._slots:
            if slot.state is not TrackState.LOST:
                continue
            near = slot.placed and overlap(new.box, slot.seen.box) > 0.4
            likeness = slot.appearance.likeness(new.thumbnail)
            if likeness >= (self._config.same_place_person if near else self._config.same_person):
                if likeness > best_likeness:
                    best, best_likeness = slot, likeness
        return best


def compare_with(boxes: Iterable[Box], slots: Iterable[Slot], time_s: float) -> list[Slot]:
    """Note on each slot whether one of the detector's boxes confirms it; returns those on a face of another size.

    A crop that has shrunk to a part of a face, or grown far beyond it, may keep itself so for ever.
    """
    rectangles = [rectangle_of(box) for box in boxes]
    wrong = []
    for slot in slots:
        near = [rectangle for rectangle in rectangles if overlap(rectangle, slot.seen.box) > 0.5]
        if any(fits(rectangle, slot.seen.box) for rectangle in near):
            slot.verified_s = time_s
        elif near:
            wrong.append(slot)
    return wrong
