"""Where the eyes look, as rays."""

from __future__ import annotations

import numpy as np

from facet.render.geometry import Geometry
from facet.render.overlay import SHADE, is_sane, segments, stroke_px
from facet.tracker.outputs.avatar import gaze_deg
from facet.tracker.types import FaceTrack

RAY_MM = 85.0
RAY_COLOUR = (40, 200, 255)  # BGR
EYES = {"Right": slice(36, 42), "Left": slice(42, 48)}  # landmarks of the subject's lids
BLINK = 0.6  # a lid that is further down hides where the eye looks


def gaze(track: FaceTrack, geometry: Geometry) -> np.ndarray:
    """A ray from each open eye to where it looks; from the iris where that is known.

    Returns
    -------
    (M, 9) float32, segments
    """
    strokes = []
    if not is_sane(track):
        return np.empty((0, 9), np.float32)
    radius = 1.2 * stroke_px(track)
    for index, (side, lids) in enumerate(EYES.items()):
        if track.blendshapes.get(f"eyeBlink{side}", 0.0) > BLINK:
            continue
        eye = track.landmarks[lids].mean(axis=0) if track.irises is None else track.irises[index]
        tip = eye + RAY_MM * track.model_to_image[:, :3] @ direction(*gaze_deg(track.blendshapes, side))
        strokes.append(segments(eye, tip, radius + 1.0, SHADE, 0.35))
        strokes.append(segments(eye, tip, radius, RAY_COLOUR, 1.0))
        strokes.append(segments(eye, eye, 2.0 * radius, RAY_COLOUR, 1.0))
    found = np.concatenate(strokes) if strokes else np.empty((0, 9), np.float32)
    return found if np.isfinite(found).all() else np.empty((0, 9), np.float32)


def direction(yaw_deg: float, pitch_deg: float) -> np.ndarray:
    """The unit vector, (3,) model space, of an eye with these angles, positive to image left and down."""
    yaw, pitch = np.radians(yaw_deg), np.radians(pitch_deg)
    return np.array([-np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
