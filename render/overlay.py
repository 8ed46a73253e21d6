"""Axes, pose box, landmarks and contours as line segments with round ends, drawn alike by both renderers.

A segment is a row of nine float32: x0, y0, x1, y1 (image px), radius (px), B, G, R (0-255), alpha (0-1).
"""

from __future__ import annotations

import numpy as np

from facet.render.geometry import NOSE, Geometry
from facet.tracker.compiling import njit
from facet.tracker.types import FaceTrack

AXIS_MM = 75.0
AXIS_COLOURS = ((60, 60, 235), (70, 200, 70), (240, 130, 40))  # x red, y green, z blue; BGR
BOX_COLOUR = (40, 255, 0)
# half size of the square behind the head; the one before it and the depth are 4/3 of that (3DDFA's pose box)
BOX_HALF_MM = 70.0
SHADE = (0, 0, 0)
EDGE_COLOUR = (90, 220, 120)
POINT_COLOUR = (40, 255, 60)
CONTOUR_COLOUR = (250, 225, 120)
MAX_COORDINATE_PX = 1e6  # strokes beyond are damaged
CURVE_STEPS = 5  # line segments from one landmark to the next
IRIS_MM = 11.7  # across; hardly differs between people
# runs of the 68 points that are joined: jaw, brows, bridge, nostrils, eyes and lips (closed)
RUNS = (
    (0, 17, False),
    (17, 22, False),
    (22, 27, False),
    (27, 31, False),
    (31, 36, False),
    (36, 42, True),
    (42, 48, True),
    (48, 60, True),
    (60, 68, True),
)


def segments(starts, ends, radius_px: float, colour, alpha: float) -> np.ndarray:
    starts, ends = np.atleast_2d(starts)[:, :2], np.atleast_2d(ends)[:, :2]
    rest = np.tile(np.array([radius_px, *colour, alpha], np.float32), (len(starts), 1))
    return np.concatenate([starts, ends, rest], axis=1).astype(np.float32)


def stroke_px(track: FaceTrack) -> float:
    """Radius of a stroke that suits the face's size."""
    x0, y0, x1, y1 = track.box
    return float(np.clip(np.hypot(x1 - x0, y1 - y0) / 240, 0.6, 4.0))


def is_sane(track: FaceTrack) -> bool:
    """Whether all landmarks are numbers that can be drawn with."""
    return bool(np.abs(track.landmarks).max() < MAX_COORDINATE_PX)  # nor is NaN


def axes(track: FaceTrack, geometry: Geometry) -> np.ndarray:
    """Arrows of the head's axes from the bridge of the nose: x red, y green, z (where the face looks) blue.

    Returns
    -------
    (M, 9) float32, segments, farthest first
    """
    origin = track.landmarks[NOSE].mean(axis=0)
    directions = track.model_to_image[:, :3].T  # row i: axis i in image px per mm
    radius = 1.3 * stroke_px(track)
    if not np.isfinite(origin).all():
        return np.empty((0, 9), np.float32)
    strokes = []
    for axis in np.argsort(directions[:, 2]):
        tip = origin + AXIS_MM * directions[axis]
        shaft = (tip - origin)[:2]
        length = float(np.hypot(*shaft))
        lines = [(origin, tip)]
        if length > 1e-6:
            along = shaft / length
            across = np.array([-along[1], along[0]])
            head = min(7.0 * radius, 0.4 * length)
            lines += [(tip, tip[:2] - head * along + side * 0.55 * head * across) for side in (-1, 1)]
        starts = np.array([line[0][:2] for line in lines])
        ends = np.array([line[1][:2] for line in lines])
        strokes.append(segments(starts, ends, radius + 1.0, SHADE, 0.35))
        strokes.append(segments(starts, ends, radius, AXIS_COLOURS[axis], 1.0))
    return np.concatenate(strokes)


def pose_box(track: FaceTrack, geometry: Geometry) -> np.ndarray:
    """The box that opens in the direction of the face.

    Returns
    -------
    (M, 9) float32, segments
    """
    back, front = BOX_HALF_MM, BOX_HALF_MM * 4 / 3
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    corners = np.zeros((8, 3))
    corners[:4, :2], corners[4:, :2], corners[4:, 2] = back * square, front * square, front
    corners = (corners + geometry.nose_to_centre_mm) @ track.model_to_image[:, :3].T
    corners += track.landmarks[NOSE].mean(axis=0)
    pairs = np.array([(i, (i + 1) % 4) for i in range(4)] + [(i, i + 4) for i in range(4)])
    pairs = np.concatenate([pairs, [(4 + i, 4 + (i + 1) % 4) for i in range(4)]])
    starts, ends = corners[pairs[:, 0]], corners[pairs[:, 1]]
    order = np.argsort(starts[:, 2] + ends[:, 2])
    radius = 1.1 * stroke_px(track)
    shade = segments(starts[order], ends[order], radius + 1.0, SHADE, 0.30)
    return np.concatenate([shade, segments(starts[order], ends[order], radius, BOX_COLOUR, 1.0)])


def landmarks(track: FaceTrack, geometry: Geometry) -> np.ndarray:
    """The 68 points, joined along jaw, brows, nose, eyes and lips.

    Returns
    -------
    (M, 9) float32, segments
    """
    points, radius = track.landmarks, stroke_px(track)
    lines = []
    for start, stop, closed in RUNS:
        run = points[start:stop]
        ends = np.roll(run, -1, axis=0)
        kept = len(run) if closed else len(run) - 1
        lines.append(segments(run[:kept], ends[:kept], 0.45 * radius, EDGE_COLOUR, 0.65))
    shade = segments(points, points, 1.5 * radius + 0.8, SHADE, 0.45)
    return np.concatenate([*lines, shade, segments(points, points, 1.5 * radius, POINT_COLOUR, 1.0)])


def contours(track: FaceTrack, geometry: Geometry) -> np.ndarray:
    """Jaw, brows, nose, eyes and lips as smooth lines through the landmarks, and the rims of the irises where known.

    Returns
    -------
    (M, 9) float32, segments
    """
    if not is_sane(track):
        return np.empty((0, 9), np.float32)
    radius = stroke_px(track)
    lines = [_curve(track.landmarks[start:stop, :2], closed) for start, stop, closed in RUNS]
    if track.irises is not None:
        size = IRIS_MM / 2 * track.pose.scale_px_per_mm
        angle = np.linspace(0, 2 * np.pi, 17)
        ring = size * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        lines += [centre[:2] + ring for centre in track.irises]
    starts, ends = np.concatenate([line[:-1] for line in lines]), np.concatenate([line[1:] for line in lines])
    shade = segments(starts, ends, 0.8 * radius + 0.8, SHADE, 0.35)
    return np.concatenate([shade, segments(starts, ends, 0.8 * radius, CONTOUR_COLOUR, 1.0)])


def _curve(points: np.ndarray, closed: bool) -> np.ndarray:
    """Points along a Catmull-Rom spline through (n, 2) points."""
    if closed:
        points = np.concatenate([points[-1:], points, points[:2]])
    else:
        points = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, a, b, after = points[:-3], points[1:-2], points[2:-1], points[3:]
    t = np.linspace(0, 1, CURVE_STEPS, endpoint=False)[:, None, None]
    rise, bend = (b - before) / 2, before - 2.5 * a + 2 * b - 0.5 * after
    curve = a + t * rise + t**2 * bend + t**3 * (1.5 * (a - b) + 0.5 * (after - before))
    return np.concatenate([curve.transpose(1, 0, 2).reshape(-1, 2), b[-1:]])


@njit(nogil=True)
def draw_segments(image: np.ndarray, segments: np.ndarray) -> None:
    """Draw segments over the picture, edges smoothed over one pixel.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR, written
    segments : (M, 9) float32, finite
    """
    height, width = image.shape[:2]
    for i in range(len(segments)):
        x0, y0, x1, y1, radius = segments[i, :5]
        reach = radius + np.float32(0.5)
        top, bottom = max(int(np.floor(min(y0, y1) - reach)), 0), min(int(np.ceil(max(y0, y1) + reach)), height)
        dx, dy = x1 - x0, y1 - y0
        length2 = dx * dx + dy * dy
        for row in range(top, bottom):
            y = np.float32(row + 0.5)
            # the part of the segment that this row can reach bounds the columns
            low, high = np.float32(0), np.float32(1)
            if abs(dy) > 1e-3:
                t0, t1 = (y - reach - y0) / dy, (y + reach - y0) / dy
                low, high = max(min(t0, t1), low), min(max(t0, t1), high)
            xa, xb = x0 + low * dx, x0 + high * dx
            left = max(int(np.floor(min(xa, xb) - reach)), 0)
            right = min(int(np.ceil(max(xa, xb) + reach)), width)
            for column in range(left, right):
                px, py = np.float32(column + 0.5) - x0, y - y0
                t = np.float32(0)
                if length2 > 0:
                    t = min(max((px * dx + py * dy) / length2, np.float32(0)), np.float32(1))
                ex, ey = px - t * dx, py - t * dy
                cover = reach - np.sqrt(ex * ex + ey * ey)
                if cover <= 0:
                    continue
                alpha = min(cover, np.float32(1)) * segments[i, 8]
                for c in range(3):
                    old = np.float32(image[row, column, c])
                    image[row, column, c] = np.uint8(old + (segments[i, 5 + c] - old) * alpha + np.float32(0.5))
