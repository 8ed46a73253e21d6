"""Loads the compiled kernels before the first frame needs them."""

from __future__ import annotations

import numpy as np

from tracker.cuts import CutDetector
from tracker.fitting import LandmarkFitter
from tracker.morphable import make_model, project
from tracker.pose import pose_from_camera
from tracker.smoothing import FaceFilter, Sample, SmoothingConfig

LINES, CANDIDATES = 17, 3  # of the small model's contour


def load_kernels(fitting: bool = False) -> None:
    """Run the tracker's kernels once on a face model of a few points.

    It compiles what no cache holds and takes a seventh of a second where all are cached: numba sets itself up at the
    first kernel. A program runs it in a thread while it opens its files.

    Parameters
    ----------
    fitting : those of the fitter, too, which only networks with a face model of their own need
    """
    random = np.random.default_rng(0)
    count = 68 + LINES * CANDIDATES
    edges = np.arange(68, count).reshape(LINES, CANDIDATES, 1).repeat(2, axis=2)
    model = make_model(
        mean=100 * random.random((count, 3)),
        shape_basis=random.random((1, count, 3)),
        expression_basis=random.random((1, count, 3)),
        triangles=np.zeros((0, 3)),
        landmark_vertices=np.arange(68),
        contour_edges=edges,
        contour_share=np.zeros((LINES, CANDIDATES)),
    )
    camera = np.eye(3, 4, dtype=np.float32)
    one = np.ones(1, np.float32)
    project(model.vertices(one, one), camera)
    landmarks = model.landmarks(camera, one, one)
    if fitting:
        LandmarkFitter(model)(landmarks)
    pose = pose_from_camera(camera)
    smooth = FaceFilter(SmoothingConfig(), ("eyeBlink_L", "jawOpen"), pose)
    for time_s in (0.0, 1.0):
        smooth(Sample(camera, pose, np.ones(2, np.float32), time_s))
    CutDetector()(np.zeros((72, 128, 3), np.uint8))
