import dataclasses
import hashlib
import itertools

import cv2
import numpy as np
import pytest

from facet.detect import DetectorConfig, FaceBoxes, open_detector
from facet.detect.faceboxes import _resized, _spans
from facet.tracker.errors import WeightsError
from facet.tracker.runtime import RuntimeConfig, open_session
from facet.tracker.weights import find_entry
from tests import reference
from tests.conftest import ROOT, material
from tests.tracker.nets import FLOAT, UINT8, node, value, write_network
from tests.upstream import upstream_weights

# Boxes of the original program on its sample photos, pixels of the image
UPSTREAM_BOXES = {
    "JianzhuGuo.jpg": [(119.597, 93.464, 290.694, 312.381, 0.99913)],
    "trump_hillary.jpg": [(228.86, 103.06, 466.07, 390.72, 0.99808), (1040.36, 122.00, 1257.83, 428.38, 0.99621)],
}


def write_boxes_network(folder, boxes, scores, **values):
    """A detector that finds the same boxes, in px of its input, in every picture that is not black."""
    path = folder / "net.onnx"
    write_network(
        path,
        [
            node("Cast", ["image"], ["float"], to=FLOAT),
            node("ReduceMax", ["float"], ["max"], axes=[0, 1, 2, 3], keepdims=0),
            node("Cast", ["max"], ["any"], to=9),
            node("Cast", ["any"], ["factor"], to=FLOAT),
            node("Unsqueeze", ["factor", "zero"], ["row"]),
            node("Mul", ["row", "known_scores"], ["scores"]),
            node("Identity", ["known_boxes"], ["boxes"]),
        ],
        [value("image", UINT8, (1, "H", "W", 3))],
        [value("boxes", FLOAT, ("P", 4)), value("scores", FLOAT, ("P",))],
        {
            "zero": np.array([0], np.int64),
            "known_boxes": np.asarray(boxes, np.float32).reshape(-1, 4),
            "known_scores": np.asarray(scores, np.float32),
        },
    )
    table = {
        "file": path.name,
        "kind": "detector",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "MIT",
        "provenance": "a test",
        "format": "boxes",
        "smallest_face_px": 10.0,
        "nms_iou": 0.4,
    } | values
    lines = "".join(f"{key} = {value!r}\n" for key, value in table.items() if value is not None)
    (folder / "manifest.toml").write_text("[net]\n" + lines)
    return find_entry(path)


GREY = np.full((90, 160, 3), 99, np.uint8)


def test_boxes_are_brought_to_the_image_best_first(tmp_path):
    entry = write_boxes_network(tmp_path, [[1, 2, 11, 12], [20, 5, 32, 20], [21, 6, 33, 21]], [0.6, 0.7, 0.9])
    boxes = FaceBoxes.open(entry, DetectorConfig(min_face_px=20))(GREY)
    assert [(b.x_min, b.y_min, b.x_max, b.y_max) for b in boxes] == [(42, 12, 66, 42), (2, 4, 22, 24)]
    assert [b.score for b in boxes] == pytest.approx([0.9, 0.6])


def test_no_face_is_an_empty_tuple(tmp_path):
    entry = write_boxes_network(tmp_path, [[1, 2, 11, 12]], [0.6])
    assert FaceBoxes.open(entry)(np.zeros_like(GREY)) == ()
    assert FaceBoxes.open(entry, DetectorConfig(min_score=0.7))(GREY) == ()
    assert FaceBoxes.open(entry)(np.zeros((0, 10, 3), np.uint8)) == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (7, 5)])
def test_any_shape_of_picture(tmp_path, shape):
    entry = write_boxes_network(tmp_path, [[0, 0, 4, 4]], [0.6])
    boxes = FaceBoxes.open(entry, DetectorConfig(min_face_px=2))(np.full((*shape, 3), 9, np.uint8))
    assert len(boxes) == 1 and boxes[0].x_max > boxes[0].x_min


@pytest.mark.parametrize(
    ("min_face_px", "size_wh", "expected"),
    [
        (10.0, (640, 480), 1.0),
        (40.0, (640, 480), 0.25),
        (2.0, (400, 300), 2.0),  # never more than twice
        (10.0, (2000, 500), 0.5),
        (10.0, (500, 2000), 0.4),
        (10.0, (4000, 4000), 0.2),
        (100.0, (4000, 4000), 0.1),
    ],
)
def test_input_scale(tmp_path, min_face_px, size_wh, expected):
    entry = write_boxes_network(tmp_path, [[0, 0, 1, 1]], [0.6], max_width_px=1000, max_height_px=800)
    detector = FaceBoxes.open(entry, DetectorConfig(min_face_px=min_face_px))
    assert detector.input_scale(*size_wh) == pytest.approx(expected)


@pytest.mark.parametrize("values", [{"min_score": -0.1}, {"min_score": 1.5}, {"min_face_px": 0.0}])
def test_bad_config(values):
    with pytest.raises(ValueError):
        dataclasses.replace(DetectorConfig(), **values)


@pytest.mark.parametrize(
    "values", [{"format": "morse"}, {"format": "faceboxes"}, {"nms_iou": None}, {"smallest_face_px": "ten"}]
)
def test_a_manifest_that_does_not_fit(tmp_path, values):
    with pytest.raises(WeightsError):
        FaceBoxes.open(write_boxes_network(tmp_path, [[0, 0, 1, 1]], [0.6], **values))


def test_a_regressor_is_no_detector(tmp_path):
    entry = write_boxes_network(tmp_path, [[0, 0, 1, 1]], [0.6], kind="regressor")
    with pytest.raises(WeightsError, match="expected a detector"):
        open_detector(DetectorConfig(weights=str(entry.path)))


@pytest.mark.parametrize(
    ("width", "height", "scale"), [(160, 90, 0.5), (80, 50, 0.8), (20, 50, 1.0), (30, 64, 1.0), (640, 30, 0.25)]
)
def test_small_pictures_are_hardly_shrunk(tmp_path, width, height, scale):
    entry = write_boxes_network(tmp_path, [[0, 0, 1, 1]], [0.6], min_input_px=64)
    detector = FaceBoxes.open(entry, DetectorConfig(min_face_px=40 if width == 640 else 20))
    assert detector.input_scale(width, height) == pytest.approx(scale)


def test_faces_much_lower_than_asked_for_are_not_reported(tmp_path):
    # in an input of half the size: 10 and 16 px in the picture
    entry = write_boxes_network(tmp_path, [[0, 0, 4, 5], [40, 0, 46, 8]], [0.9, 0.6])
    (found,) = FaceBoxes.open(entry, DetectorConfig(min_face_px=20))(GREY)
    assert found.score == pytest.approx(0.6) and found.y_max == 16


def test_large_faces_are_sought_in_an_overview(tmp_path):
    known = [[2, 2, 12, 14], [20, 10, 60, 50]]  # found in every input, in px of it
    values = {"overview_px": 80, "overview_face_px": 30.0}
    entry = write_boxes_network(tmp_path, known, [0.7, 0.9], **values)
    image = np.full((180, 320, 3), 99, np.uint8)
    found = FaceBoxes.open(entry, DetectorConfig(min_face_px=10))(image)
    boxes = {(b.x_min, b.y_min, b.x_max, b.y_max) for b in found}
    assert boxes == {(2, 2, 12, 14), (20, 10, 60, 50), (80, 40, 240, 200)}
    assert len(FaceBoxes.open(entry, DetectorConfig(min_face_px=30))(image)) == 2  # the input is small itself


def test_a_shrunk_picture_keeps_its_mean(tmp_path):
    """The average of what is thrown away must not alias: a fine chequerboard turns grey."""
    image = np.zeros((240, 320, 3), np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255
    for scale in (0.5, 0.37, 0.25, 0.2):
        small = _resized(image, scale, "boxes")
        assert small.shape == (int(240 * scale), int(320 * scale), 3)
        assert small.min() > 100 and small.max() < 155


# --- upstream's FaceBoxes


@pytest.fixture(scope="module")
def upstream():
    return FaceBoxes.open(find_entry(upstream_weights("faceboxes.onnx")), DetectorConfig(min_face_px=20))


@pytest.mark.parametrize("name", UPSTREAM_BOXES)
def test_upstream_boxes(upstream, name):
    boxes = upstream(cv2.imread(str(material("media", "images", name))))
    assert len(boxes) == len(UPSTREAM_BOXES[name])
    for box, expected in zip(boxes, UPSTREAM_BOXES[name], strict=True):
        assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx(expected[:4], abs=0.1)
        assert box.score == pytest.approx(expected[4], abs=1e-4)


def test_upstream_test_vector():
    """Zeros after subtracting the mean are the mean in bytes, which are whole numbers."""
    session = open_session(upstream_weights("faceboxes.onnx"), RuntimeConfig())
    image = np.empty((1, 256, 320, 3), np.uint8)
    image[:] = 104, 117, 123
    offsets, scores = session.run(image=image)
    assert offsets.shape == (1, 1706, 4)
    assert offsets[0, 0] == pytest.approx([0.620752, 0.326252, -0.805539, 0.109717], abs=1e-4)
    assert offsets[0, -1] == pytest.approx([-0.066728, -0.056607, -0.747589, -0.177004], abs=1e-4)
    assert offsets.sum() == pytest.approx(1097.031, abs=0.01)
    assert scores.sum() == pytest.approx(4.23839, abs=1e-3)
    assert scores.max() == pytest.approx(0.020402, abs=1e-5)


def test_upstream_decoding_and_suppression_are_the_plain_ones(upstream):
    image = cv2.imread(str(material("media", "images", "JianzhuGuo.jpg")))
    height, width = image.shape[:2]
    offsets, scores = open_session(upstream_weights("faceboxes.onnx")).run(image=image[None])
    boxes = reference.decode(offsets[0], reference.priors(height, width)) * [width, height, width, height]
    good = scores[0] > 0.05
    kept = reference.nms(boxes[good], scores[0][good], 0.3, 1.0)
    low = FaceBoxes.open(
        find_entry(upstream_weights("faceboxes.onnx")), DetectorConfig(min_face_px=20, min_score=0.05)
    )
    found = low(image)
    assert len(found) == len(kept)
    for box, index in zip(found, kept, strict=True):
        assert (box.x_min, box.y_min, box.x_max, box.y_max) == pytest.approx(boxes[good][index], abs=0.01)


@pytest.mark.parametrize("shape", [(1, 1), (2, 5000), (5000, 2), (31, 33)])
def test_upstream_on_pictures_of_any_shape(upstream, shape):
    assert upstream(np.full((*shape, 3), 128, np.uint8)) == ()


@pytest.mark.parametrize("length, side, overlap", [(100, 200, 20), (201, 200, 20), (1000, 200, 60), (1003, 170, 80)])
def test_spans_cover_a_length_and_overlap(length, side, overlap):
    spans = _spans(length, side, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert all(end - start == min(side, length) for start, end in spans)
    assert all(before[1] - after[0] >= overlap for before, after in itertools.pairwise(spans))


def test_tiles_find_the_faces_that_one_input_finds(monkeypatch):
    """The faces of a frame, sixteen times beside each other."""
    _, photo = cv2.VideoCapture(str(ROOT / "samples" / "demo.mp4")).read()
    image = np.tile(cv2.resize(photo, (640, 360)), (4, 4, 1))
    detector = open_detector()
    whole = detector(image)
    assert len(whole) >= 16
    monkeypatch.setattr("facet.detect.faceboxes.MAX_UNTILED_PX", 10_000)
    monkeypatch.setattr("facet.detect.faceboxes.TILE_PX", 200)
    tiled = detector(image)
    assert len(tiled) == len(whole)
    for box in whole:
        assert min(np.abs(np.array([box.x_min - b.x_min, box.y_max - b.y_max])).max() for b in tiled) < 12
