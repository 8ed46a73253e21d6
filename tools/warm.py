"""Compile the numba kernels once, so that no user waits for it; they are cached beside their modules.

python -m tools.warm
"""

from __future__ import annotations

import numpy as np

from facet.detect.postprocess import best_boxes, decode
from facet.detect.priors import make_priors
from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from facet.render.isosurface import isosurface
from facet.render.sample import sample_face
from facet.render.views import VIEWS
from facet.tracker.kernels import load_kernels
from facet.tracker.lighting import LightEstimator, LightTrack, load_skin
from facet.tracker.morphable import load_face_model
from facet.tracker.weights import find_entry


def main() -> None:
    priors = make_priors(64, 64)
    offsets, scores = np.zeros((len(priors), 4), np.float32), np.full(len(priors), 0.9, np.float32)
    boxes, scores = decode(offsets, scores, priors, 0.5)
    best_boxes(boxes, scores, 0.3, 1.0, 10, 10)
    load_kernels(fitting=True, solving=True)
    model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
    geometry = geometry_of(model)
    renderer = CpuRenderer(geometry, VIEWS)
    for face_px in (20.0, 200.0):  # with the light triangles, and with all
        renderer.draw(np.zeros((240, 240, 3), np.uint8), (sample_face(geometry, (240, 240), face_px),))
    renderer.depth_map()
    image, face = np.full((240, 240, 3), 90, np.uint8), sample_face(geometry, (240, 240), 200.0)
    image[::2] = 140
    LightTrack(LightEstimator(model, load_skin()), 1.0)(image, face.model_to_image, face.shape, face.expression, 0.0)
    solid = np.zeros((8, 8, 8), np.float32)
    solid[3:5, 3:5, 3:5] = 1.0
    isosurface(solid, 0.5)


if __name__ == "__main__":
    main()
