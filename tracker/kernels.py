"""Loads the compiled kernels before the first frame needs them."""

from __future__ import annotations

import numpy as np

from facet.tracker.aligner import COUNT, Alignment, PointFilter
from facet.tracker.appearance import Appearance, thumbnail
from facet.tracker.blendshapes import BlendshapeReader
from facet.tracker.crop import CropSpec, cut, roi_from_landmarks
from facet.tracker.cuts import CutDetector
from facet.tracker.expression import ExpressionSolver
from facet.tracker.heads import POSE_COUNT, consecutive
from facet.tracker.morphable import make_model, project
from facet.tracker.pose import model_to_image, pose_from_camera, translation_mm
from facet.tracker.regressor import translate_facet
from facet.tracker.smoothing import FaceFilter, Sample, SmoothingConfig
from facet.tracker.solve import ROWS, PointSolver
from facet.tracker.tracks import Observation, Slot
from facet.tracker.types import Roi
from facet.tracker.upstream.fitting import LandmarkFitter

LINES, CANDIDATES = 17, 3  # of the small model's contour


def load_kernels(fitting: bool = False, solving: bool = False) -> None:
    """Run the tracker's kernels once on a face model of a few points.

    It compiles what no cache holds and takes a seventh of a second where all are cached: numba sets itself up at the
    first kernel. A program runs it in a thread while it opens its files.

    Parameters
    ----------
    fitting : those of the fitter, too, which only networks with a face model of their own need
    solving : those of precise mode, too
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
    size = 64
    heads = consecutive({"pose": (POSE_COUNT, "pose"), "shape": (1, "linear"), "expression": (1, "clip")})
    output = np.zeros((1, POSE_COUNT + 2), np.float32)
    output[0, [1, 5]] = 1  # no turn
    cameras = translate_facet(0.005, heads, size)(output)[0]
    one = np.ones(1, np.float32)
    landmarks = model.landmarks(cameras[0], one, one)
    roi = roi_from_landmarks(landmarks, CropSpec(size, 1.0, 0.0, 1.35))
    camera = model_to_image(cameras[0], roi, size)
    project(model.vertices(one, one), camera)
    if fitting:
        LandmarkFitter(model)(landmarks)
    pose = pose_from_camera(camera)
    if solving:
        solver = PointSolver(model, landmarks[-ROWS:], np.ones((2, ROWS, 3)))
        seen = Alignment(np.ones((COUNT, 3)), np.ones(COUNT), np.ones(COUNT), np.ones((1, 1)), roi)
        solver.start()(seen, camera, pose, one, one)
        PointFilter(SmoothingConfig())(seen.points, Sample(camera, pose, one, 0.0), np.zeros(3))
    BlendshapeReader(("",), one, np.eye(1), np.eye(1)).start()(one)
    thumb = thumbnail(cut(np.zeros((2 * size, 2 * size, 3), np.uint8), Roi(0.0, 0.0, 2.0 * size), size), 1.35)
    seen = Observation(roi, camera, pose, one, 1.0, one, landmarks, score=None, thumbnail=thumb)
    ExpressionSolver(model)(one, one, Slot(1, Appearance(), seen).settle_shape(one))
    smooth = FaceFilter(SmoothingConfig(), ("eyeBlink_L", "jawOpen"), pose)
    for time_s in (0.0, 1.0):
        smooth(Sample(camera, pose, np.ones(2, np.float32), time_s))
    translation_mm(camera, (size, size))
    Appearance().add(thumb)
    is_cut = CutDetector()
    for _ in range(2):
        is_cut(np.zeros((72, 128, 3), np.uint8))
