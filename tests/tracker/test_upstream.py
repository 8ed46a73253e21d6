"""The runtime with upstream's network gives upstream's landmarks, half a crop pixel further (DESIGN 5)."""

import cv2
import numpy as np
import pytest

from facet.detect import DetectorConfig, open_detector
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.crop import cut_batch, roi_from_box, roi_from_landmarks
from facet.tracker.loop import FaceTracker
from facet.tracker.morphable import load_face_model
from facet.tracker.pose import model_to_image
from facet.tracker.regressor import Regressor
from facet.tracker.runtime import open_session
from facet.tracker.types import Frame
from facet.tracker.weights import find_entry
from tests.conftest import ROOT, material
from tests.reference import Upstream3DDFA
from tests.upstream import upstream_weights
from tools.arrays import load_arrays

PHOTOS = {"JianzhuGuo.jpg": 1, "trump_hillary.jpg": 2, "emma.jpg": 3}  # with their numbers of faces


@pytest.fixture(scope="module")
def upstream():
    """Upstream's chain around a bare session; what comes before and after the network is plain arithmetic."""
    session = open_session(upstream_weights("mb05_120x120.onnx"))
    whitening = load_arrays(material("upstream", "3ddfa_v2", "param_mean_std_62d_120x120.pkl"))
    return Upstream3DDFA(
        material("upstream"),
        lambda crop: session.run(crops=crop[None])[0][0],
        whitening["mean"].astype(np.float64),
        whitening["std"].astype(np.float64),
    )


@pytest.fixture(scope="module")
def detector():
    path = upstream_weights("faceboxes.onnx")
    return open_detector(DetectorConfig(weights=str(path), min_face_px=20))


def expected_landmarks(upstream, image, box):
    """(68, 2) in our convention, and the side of the crop."""
    points, side = upstream.two_passes(image, (box.x_min, box.y_min, box.x_max, box.y_max))
    return points[:2].T + 0.5 * side / 120, side


@pytest.mark.parametrize("name", PHOTOS)
def test_two_passes_of_the_parts(name, upstream, detector):
    image = cv2.imread(str(material("media", "images", name)))
    regressor = Regressor.open(find_entry(upstream_weights("mb05_120x120.onnx"), "regressor"))
    model = load_face_model(regressor.face_model_file)
    spec, size = regressor.crop_spec, regressor.size
    boxes = detector(image)
    assert len(boxes) == PHOTOS[name]
    rois = [roi_from_box(box, spec) for box in boxes]
    for _ in range(2):
        faces = regressor(cut_batch(image, rois, size, spec.style))
        cameras = [model_to_image(face.camera, roi, size) for face, roi in zip(faces, rois, strict=True)]
        landmarks = [
            model.landmarks(camera, face.shape, face.expression) for camera, face in zip(cameras, faces, strict=True)
        ]
        seen_in = rois
        rois = [roi_from_landmarks(points, spec, seen_in=roi) for points, roi in zip(landmarks, rois, strict=True)]
    for points, roi, box in zip(landmarks, seen_in, boxes, strict=True):
        expected, side = expected_landmarks(upstream, image, box)
        assert roi.size == pytest.approx(side, abs=0.01)
        assert points[:, :2] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("name", PHOTOS)
def test_the_tracker_with_its_preset(name, upstream, detector):
    config = load_config(AppConfig, ROOT / "configs" / "3ddfa_v2.toml")
    image = cv2.imread(str(material("media", "images", name)))
    tracker = FaceTracker.open(detector, config.regressor, config.runtime, smoothing=config.smoothing)
    faces = tracker.step(Frame(0, 0.0, image, name, first=True))
    assert len(faces) == PHOTOS[name]
    for box in detector(image):
        expected, _ = expected_landmarks(upstream, image, box)
        errors = [np.abs(face.landmarks[:, :2] - expected).max() for face in faces]
        assert min(errors) < 0.05


def test_imported_model_is_centred_between_the_ears_in_millimetres():
    model = load_face_model(upstream_weights("model68.npz"))
    assert model.mean.shape == (68, 3)
    outer_eyes = model.mean[[36, 45]]
    assert np.linalg.norm(outer_eyes[0] - outer_eyes[1]) == pytest.approx(86, abs=6)
    assert model.mean[30, 2] > 100  # the nose, towards the viewer
    assert model.mean[0, 0] < 0 < model.mean[16, 0]  # the subject's right jaw lies left
    assert model.mean[8, 1] < model.mean[27, 1]
