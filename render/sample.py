"""A face to measure with and to compile kernels with."""

from __future__ import annotations

import numpy as np

from facet.render.geometry import Geometry
from facet.tracker.types import FaceTrack, Pose, Roi, TrackState


def sample_face(geometry: Geometry, size_wh: tuple[int, int], face_px: float) -> FaceTrack:
    """The model's mean face, looking at the viewer, in the middle of a picture."""
    mean, model = geometry.mean, geometry.model
    scale = face_px / float(max(np.ptp(mean[:, 0]), np.ptp(mean[:, 1]), 1e-6))
    camera = np.zeros((3, 4), np.float32)
    camera[0, 0], camera[1, 1], camera[2, 2] = scale, -scale, scale
    camera[:2, 3] = size_wh[0] / 2, size_wh[1] / 2
    return FaceTrack(
        id=1,
        state=TrackState.TRACKED,
        score=None,
        detected=False,
        roi=Roi(0, 0, 1),
        model_to_image=camera,
        shape=np.zeros(model.shape_count if model is not None else 0, np.float32),
        expression=np.zeros(model.expression_count if model is not None else 0, np.float32),
        pose=Pose(np.eye(3, dtype=np.float32), scale, camera[:, 3], 0.0, 0.0, 0.0),
        landmarks=np.zeros((68, 3), np.float32),
        vertices=mean @ camera[:, :3].T + camera[:, 3],
    )
