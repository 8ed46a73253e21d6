"""Covers heads so that nobody can be recognised: views that blur, pixelate or cover what tracks and detections show.

An outline is a convex polygon, (K, 2) float32, image px. `Privacy` holds frames back until it is known what the next
ones show: a face that is lost for some frames, or found late, is covered in the frames between, too.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import cv2
import numpy as np

from facet.render.geometry import Geometry
from facet.tracker.cuts import CutDetector
from facet.tracker.types import Box, Detector, FaceTrack, Frame

COVER_COLOUR = (48, 44, 40)  # BGR
BLOCKS = 7  # of pixelate, across a head
BLUR_SHARE = 0.16  # standard deviation of blur, in widths of a head
LEAST_BLOCK_PX = 4
PADDING = 0.2  # unless a setting says otherwise
NECK_MM = 15.0  # of the neck belong to the head
# a head around a detector's box, which goes from the hairline to the chin: half width, half height, and how far its
# middle lies above that of the box, in heights of the box
BOX_HEAD = (0.48, 0.6, 0.06)
SAME_PLACE = 0.7  # in heights of a box: one that moved by less from frame to frame is the same
GROWTH = 0.05  # of an outline, for each frame by which it is older or younger than what it covers
SPEED_FRAMES = 3  # over which the speed of a head is measured
FASTEST = 0.12  # widths of a head a frame: what seems to go faster is another face, or a box that changes its form
TAKEN_OVER = 0.3  # in widths of a head: nearer to one that is seen, a head that is not is the same
CALM = 0.12  # in widths of a head: within, where it was in the last seconds stays covered
CORNERS = 24  # of an ellipse


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """How heads are covered by the views blur, pixelate and cover."""

    lost_frames: Annotated[
        int, "frames for which a head stays covered after it is lost and before it is found; frames come 3 more later"
    ] = 10
    hold_frames: Annotated[
        int, "frames for which the place stays covered where a tracked head was lost, as behind a hand"
    ] = 90
    padding: Annotated[float, "how much larger than the head its cover is, in shares of its size"] = PADDING
    detect_every: Annotated[int, "frames from one search for further faces to the next"] = 1
    min_score: Annotated[float, "detections that no track confirms are covered from this score on, 0 to 1"] = 0.4

    def __post_init__(self):
        if not 0 <= self.lost_frames <= 300:
            raise ValueError(f"lost_frames must be in [0, 300], got {self.lost_frames}")
        if not self.lost_frames <= self.hold_frames <= 3000:
            raise ValueError(f"hold_frames must be in [lost_frames, 3000], got {self.hold_frames}")
        if not 0 <= self.padding <= 2:
            raise ValueError(f"padding must be in [0, 2], got {self.padding}")
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must be in [0, 1], got {self.min_score}")
        if not 1 <= self.detect_every <= max(1, self.lost_frames):
            raise ValueError(f"detect_every must be in [1, lost_frames], got {self.detect_every}")


def cover(image: np.ndarray, outlines: Iterable[np.ndarray]) -> None:
    """Paint over the outlines, in place."""
    for outline in outlines:
        cv2.fillConvexPoly(image, _whole(outline), COVER_COLOUR)


def pixelate(image: np.ndarray, outlines: Iterable[np.ndarray]) -> None:
    """Replace what lies in the outlines by large blocks of one colour each, in place."""
    for outline in outlines:
        block = max(LEAST_BLOCK_PX, round(_size(outline) / BLOCKS))
        # the blocks lie still while the head moves
        found = _part(image, outline, block)
        if found is None:
            continue
        part, mask = found
        height, width = part.shape[:2]
        small = cv2.resize(part, (-(-width // block), -(-height // block)), interpolation=cv2.INTER_AREA)
        large = np.repeat(np.repeat(small, block, axis=0), block, axis=1)[:height, :width]
        np.copyto(part, large, where=mask)


def blur(image: np.ndarray, outlines: Iterable[np.ndarray]) -> None:
    """Blur what lies in the outlines beyond recognition, in place."""
    for outline in outlines:
        found = _part(image, outline, 1)
        if found is None:
            continue
        part, mask = found
        sigma = max(BLUR_SHARE * _size(outline), 2.0)
        # a small image is blurred in less time, and nobody can see the difference
        shrink = max(1, int(sigma / 4))
        height, width = part.shape[:2]
        small = cv2.resize(part, (-(-width // shrink), -(-height // shrink)), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
        np.copyto(part, cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), where=mask)


def over_heads(paint: Callable[[np.ndarray, Iterable[np.ndarray]], None]):
    """The view that paints the heads of one image's faces; `Privacy` covers what only other frames show."""

    def draw(image: np.ndarray, tracks: Sequence[FaceTrack], renderer) -> None:
        outlines = (head_outline(track, renderer.geometry, PADDING) for track in tracks)
        paint(image, [outline for outline in outlines if outline is not None])

    return draw


PRIVACY_VIEWS: dict[str, Callable[[np.ndarray, Iterable[np.ndarray]], None]] = {
    "blur": blur,
    "pixelate": pixelate,
    "cover": cover,
}


def covered(image: np.ndarray, outlines: Sequence[np.ndarray], views: Sequence[str]) -> np.ndarray:
    """An image with those of `views` that cover heads drawn into it, a new array; `image` where there is none."""
    names = [name for name in views if name in PRIVACY_VIEWS]
    if not names or not outlines:
        return image
    image = np.array(image, order="C")
    for name in names:
        PRIVACY_VIEWS[name](image, outlines)
    return image


def _whole(outline: np.ndarray) -> np.ndarray:
    """The corners in whole px, within what OpenCV can draw."""
    return np.rint(np.clip(outline - 0.5, -(1 << 14), 1 << 14)).astype(np.int32)


def _size(outline: np.ndarray) -> float:
    """The smaller of width and height, px."""
    return float(np.ptp(outline, axis=0).min())


def _part(image: np.ndarray, outline: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The part of an image that an outline touches, from multiples of `step` px on, and where the outline is, bool."""
    height, width = image.shape[:2]
    (x0, y0), (x1, y1) = np.floor(outline.min(axis=0)) - 1, np.ceil(outline.max(axis=0)) + 1
    left, top = max(int(x0) // step * step, 0), max(int(y0) // step * step, 0)
    right, bottom = min(-(-int(x1) // step) * step, width), min(-(-int(y1) // step) * step, height)
    if left >= right or top >= bottom:
        return None
    mask = np.zeros((bottom - top, right - left, 1), np.uint8)
    cv2.fillConvexPoly(mask, _whole(outline) - np.array([left, top], np.int32), 1)
    return image[top:bottom, left:right], mask.astype(bool)


@functools.lru_cache(maxsize=4)
def head_points(geometry: Geometry) -> np.ndarray:
    """Points around a whole head in model space, (n, 3) float32 mm: the mean face, and as much behind the ears."""
    mean, model = geometry.mean, geometry.model
    if len(mean) < 4:
        return np.zeros((0, 3), np.float32)
    if model is not None:
        mean = mean[mean[:, 1] >= mean[model.landmark_vertices, 1].min() - NECK_MM]
    sides = mean[[mean[:, 0].argmin(), mean[:, 0].argmax()]]
    behind = mean * np.array([1, 1, -1], np.float32) + np.array([0, 0, 2 * sides[:, 2].mean()], np.float32)
    points = np.concatenate([mean, behind])
    # those farthest out in directions all around, by the golden angle
    k = np.arange(400)
    z, angle = 1 - (2 * k + 1) / len(k), k * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z * z)
    directions = np.stack([ring * np.cos(angle), ring * np.sin(angle), z])
    return points[np.unique((points @ directions).argmax(axis=0))].astype(np.float32)


def head_outline(track: FaceTrack, geometry: Geometry, padding: float = 0.0) -> np.ndarray | None:
    """The outline of the whole head of a face; None where its place is damaged."""
    camera = track.model_to_image.astype(np.float32)
    points = head_points(geometry) @ camera[:2, :3].T + camera[:2, 3]
    points = np.concatenate([points, track.landmarks[:, :2]]).astype(np.float32)
    if not np.isfinite(points).all():
        return None
    return padded(hull(points), padding)


def box_outline(box: Box, padding: float = 0.0) -> np.ndarray:
    """The outline of the head whose face a detector's box holds."""
    height = box.y_max - box.y_min
    half_width, half_height, up = (share * height for share in BOX_HEAD)
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    x = (box.x_min + box.x_max) / 2 + max(half_width, 0.8 * (box.x_max - box.x_min)) * np.cos(angle)
    y = (box.y_min + box.y_max) / 2 - up + half_height * np.sin(angle)
    return padded(np.stack([x, y], axis=1).astype(np.float32), padding)


def hull(points: np.ndarray) -> np.ndarray:
    """The convex hull of points, (n, 2) float32."""
    return cv2.convexHull(np.ascontiguousarray(points, np.float32))[:, 0]


def grown(outline: np.ndarray, share: float, size_px: float) -> np.ndarray:
    """An outline grown to all sides by a share of half a size."""
    reach = np.float32(share * size_px / 2)
    ways = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float32)
    return hull(np.concatenate([outline + reach * way for way in ways]))


def padded(outline: np.ndarray, padding: float) -> np.ndarray:
    """An outline grown about its middle by a share of its size."""
    middle = (outline.min(axis=0) + outline.max(axis=0)) / 2
    return middle + (outline - middle) * np.float32(1 + padding)


@dataclass(slots=True, eq=False)
class Held:
    """What was seen in a frame."""

    cut: bool  # nothing connects it with the frame before
    seen: dict = field(default_factory=dict)  # outlines by what they belong to: a track's ID, or a series of boxes


class Privacy:
    """Covers the heads of all frames that pass; without one of its views on, frames pass as they are.

    Parameters
    ----------
    geometry : of the face model that the tracker draws
    detect : finds faces that are not tracked: too many, or not yet
    views : names of views that are on; those of PRIVACY_VIEWS count. May be changed while frames pass

    Attributes
    ----------
    views : see above
    """

    def __init__(
        self, geometry: Geometry, detect: Detector, views: Sequence[str] = (), config: PrivacyConfig = PrivacyConfig()
    ):
        self._geometry, self._detect, self._config = geometry, detect, config
        self.views = tuple(views)
        # a face that has just been found is to show where it came from
        self._wait = config.lost_frames + SPEED_FRAMES if config.lost_frames else 0
        self._held: list[Held] = []  # of frames that have gone out, as far back as they count, and of those that wait
        self._waiting: deque[tuple[Frame, tuple[FaceTrack, ...]]] = deque()
        self._gone = 0  # how many of them have gone out
        self._is_cut = CutDetector()
        self._boxes: dict[tuple, Box] = {}  # the newest of each series
        self._series = 0
        self._last: Frame | None = None  # as it was
        self.last_outlines: list[np.ndarray] = []

    @property
    def active(self) -> bool:
        """Whether heads are covered now."""
        return any(name in PRIVACY_VIEWS for name in self.views)

    def __call__(self, pairs: Iterable[tuple[Frame, tuple[FaceTrack, ...]]]) -> Iterator[tuple[Frame, tuple]]:
        """The frames of a session with their faces, in order, heads covered; some come later than they went in."""
        for frame, faces in pairs:
            if self.active:
                if frame.first:
                    yield from self.flush()
                self._add(frame, faces)
                if frame.still:
                    yield from self.flush()
                elif len(self._held) - self._gone > self._wait:
                    yield self._next()
            else:
                yield from self.flush()
                yield frame, faces
            frame = faces = self._last = None  # a large image is freed before the next one is read
        yield from self.flush()

    def flush(self) -> Iterator[tuple[Frame, tuple]]:
        """The frames that wait for others, when none will come that count."""
        while self._gone < len(self._held):
            yield self._next()
        self._held, self._gone, self._boxes = [], 0, {}
        self._is_cut.reset()

    def again(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> Frame:
        """The frame that went out last, covered by the views that are on now."""
        last = self._last
        if last is None or last.index != frame.index:
            if not self.active:
                return frame
            self._add(frame, faces)
            self._waiting.pop()
            self._last, self.last_outlines = frame, list(self._held.pop().seen.values())
            last = frame
        return replace(last, image=covered(last.image, self.last_outlines, self.views))

    def _add(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None:
        seen = {}
        for face in faces:
            outline = head_outline(face, self._geometry, self._config.padding)
            if outline is not None:
                seen[face.id] = outline
        if frame.still or frame.index % self._config.detect_every == 0:
            self._add_boxes(frame, faces, seen)
        self._held.append(Held(self._is_cut(frame.image), seen))
        self._waiting.append((frame, faces))

    def _add_boxes(self, frame: Frame, faces: tuple[FaceTrack, ...], seen: dict) -> None:
        """The faces that are not tracked; each box goes on with the series of one that was near in the last search."""
        before, self._boxes = self._boxes, {}
        for box in self._detect(frame.image):
            x, y, height = (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2, box.y_max - box.y_min
            if box.score < self._config.min_score or any(_is_tracked(box, face) for face in faces):
                continue
            reach = SAME_PLACE * height * self._config.detect_every
            near = [
                key
                for key, old in before.items()
                if key not in self._boxes
                and np.hypot((old.x_min + old.x_max) / 2 - x, (old.y_min + old.y_max) / 2 - y) < reach
            ]
            if near:
                key = near[0]
            else:
                self._series += 1
                key = ("box", self._series)
            self._boxes[key] = box
            seen[key] = box_outline(box, self._config.padding)

    def _next(self) -> tuple[Frame, tuple[FaceTrack, ...]]:
        """The next frame that has waited long enough."""
        frame, faces = self._waiting.popleft()
        self._last, self.last_outlines = frame, self.outlines(self._gone)
        self._gone += 1
        if self._gone > self._config.hold_frames + SPEED_FRAMES:
            self._held.pop(0)
            self._gone -= 1
        return replace(frame, image=covered(frame.image, self.last_outlines, self.views)), faces

    def outlines(self, at: int) -> list[np.ndarray]:
        """What is to be covered in a frame that is held."""
        reach, held = self._config.lost_frames, self._held
        first = last = at
        while first > 0 and not held[first].cut:
            first -= 1
        while last < len(held) - 1 and not held[last + 1].cut:
            last += 1
        found = []
        seen = list(held[at].seen.values())
        for key in dict.fromkeys(key for one in held[first : last + 1] for key in one.seen):
            times = [t for t in range(first, last + 1) if key in held[t].seen]
            back = reach if isinstance(key, tuple) else self._config.hold_frames
            before = max((t for t in times if at - back <= t <= at), default=None)
            after = min((t for t in times if at <= t <= at + reach), default=None)
            if before == after is None:
                continue
            if before == after:
                found.append(self._seen_around(key, times, at))
            elif before is not None and after is not None:
                way = hull(np.concatenate([held[before].seen[key], held[after].seen[key]]))
                found.append(grown(way, GROWTH * min(at - before, after - at), _size(held[before].seen[key])))
            else:
                side = [t for t in times if t <= at] if after is None else [t for t in times if t >= at][::-1]
                there, now = self._carried_on(key, side, at)
                # a series of boxes may have become a track; a track that is lost may be hidden behind another head
                if not isinstance(key, tuple) or not any(_is_same(now, other) for other in seen):
                    found.append(hull(np.concatenate([there, now])))
        return found

    def _seen_around(self, key, times: list[int], at: int) -> np.ndarray:
        """The outline of a face that is seen `at`, and where it lies in the frames around, as far as it lies there.

        Smoothing may lag, and what passes in front of a face spoils its fit before it is lost.
        """
        outline = self._held[at].seen[key]
        found, calm_px = [outline], CALM * _size(outline)
        for t in times:
            other = self._held[t].seen[key]
            if abs(t - at) == 1 or float(np.hypot(*(_middle(other) - _middle(outline)))) < calm_px:
                found.append(other)
        return hull(np.concatenate(found))

    def _carried_on(self, key, times: list[int], at: int) -> tuple[np.ndarray, np.ndarray]:
        """Outlines of a face that is seen at `times` only, the last one next to `at`: there, and where it is `at`."""
        reach, last = self._config.lost_frames, times[-1]
        outline, count = self._held[last].seen[key], abs(at - last)
        if count > reach:  # it did not go on; what hides it may have spoilt the last fits
            outline = hull(np.concatenate([self._held[t].seen[key] for t in times[-max(reach, 1) :]]))
            return outline, outline
        there = padded(outline, GROWTH * count)
        if len(times) == 1:
            return there, there
        other = times[max(-len(times), -1 - SPEED_FRAMES)]
        move = (_middle(outline) - _middle(self._held[other].seen[key])) / abs(last - other)
        move *= min(1.0, FASTEST * _size(outline) / max(float(np.hypot(*move)), 1e-6))
        return there, there + move * count


def _is_same(carried: np.ndarray, seen: np.ndarray) -> bool:
    """Whether an outline that was carried on is that of a head that is seen."""
    return float(np.hypot(*(_middle(carried) - _middle(seen)))) < TAKEN_OVER * _size(seen)


def _middle(outline: np.ndarray) -> np.ndarray:
    return (outline.min(axis=0) + outline.max(axis=0)) / 2


def _is_tracked(box: Box, face: FaceTrack) -> bool:
    """Whether a box is on a face that is tracked, and no larger."""
    x0, y0, x1, y1 = face.box
    x, y = (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2
    size = max(x1 - x0, y1 - y0)
    near = abs(x - (x0 + x1) / 2) < 0.4 * size and abs(y - (y0 + y1) / 2) < 0.4 * size
    return near and box.y_max - box.y_min < 1.6 * size
