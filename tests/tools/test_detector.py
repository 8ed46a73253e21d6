import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT, material

torch = pytest.importorskip("torch", reason="torch is for the tools alone")

from facet.detect import FaceBoxes as Detector
from facet.tracker.runtime import open_session
from facet.tracker.weights import find_entry
from tests.tools import training_data
from tools.data import detection, labels_boxes
from tools.detector import export, losses
from tools.detector.data import Assign, Data, Feed, Recipe, padded
from tools.detector.model import FaceBoxes, Net, boxes_at, grid_points
from tools.evaluation import detector as evaluation
from tools.manifest import describe, update_manifest
from tools.training import TrainingError, checkpoint, loop
from tools.training.recipe import load_recipe

ASSIGN = Assign(candidates=4)
SMALL = {"widths": (8, 8, 8, 8, 8), "neck": 8, "depths": (1, 1, 1)}


def label_of(group, validation=False, faces=(), ignored=()):
    arrays = (np.array(boxes, np.float32).reshape(-1, 4) for boxes in (faces, ignored))
    return labels_boxes.PhotoBoxes("photo.jpg", group, validation, *arrays)


@pytest.fixture
def photos():
    """Grey photographs with a bright rectangle where the face is; those kept for validation are red."""
    images, labels = [], []
    for group in detection.GROUP_SHARES:
        for validation in (False, True):
            image = np.full((120, 100, 3), (0, 0, 255) if validation else (90, 90, 90), np.uint8)
            faces = [] if group == "backgrounds" else [(30, 40, 70, 90)]
            for x0, y0, x1, y1 in faces:
                image[y0:y1, x0:x1] = 230
            images.append(image)
            labels.append(label_of(group, validation, faces))
    pixels = np.concatenate([image.ravel() for image in images])
    start = np.arange(len(images)) * images[0].size
    return detection.Photos(labels, pixels, start, np.array([image.shape[:2] for image in images]))


# Labels


def test_two_labellers_agree_on_a_face_and_their_boxes_are_averaged():
    faceboxes = np.array([[10, 10, 50, 60, 0.5]], np.float32)
    mesh = np.array([[12, 14, 52, 64]], np.float32)
    none = np.zeros((0, 4), np.float32)
    faces, ignored = labels_boxes.agree(faceboxes, mesh, none, none)
    np.testing.assert_allclose(faces, [[11, 12, 51, 62]])
    assert ignored.shape == (0, 4)


def test_what_one_labeller_saw_unsurely_is_neither_face_nor_background():
    none = np.zeros((0, 4), np.float32)
    seen = np.array([[10, 10, 50, 90, 0.99], [100, 10, 120, 35, 0.97], [200, 10, 220, 35, 0.4]], np.float32)
    faces, ignored = labels_boxes.agree(seen, none, none, none)
    np.testing.assert_allclose(faces, seen[1:2, :4])  # a small one, surely seen
    np.testing.assert_allclose(ignored, seen[[0, 2], :4])


def test_what_a_person_annotated_is_a_face():
    none = np.zeros((0, 4), np.float32)
    box = np.array([[10, 10, 50, 90]], np.float32)
    faces, _ = labels_boxes.agree(np.zeros((0, 5), np.float32), none, none, box)
    np.testing.assert_allclose(faces, box)


def test_boxes_move_and_stretch_about_their_centres():
    box = labels_boxes.restyle(np.array([[10, 20, 30, 60]], np.float32), (0.1, -0.1, 0.5, 2.0))
    np.testing.assert_allclose(box, [[17, -4, 27, 76]])


def test_overlap_of_boxes():
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 9]], np.float32)
    np.testing.assert_allclose(labels_boxes.iou(a, np.array([[5, 0, 15, 10]], np.float32)), [[1 / 3], [0]], atol=1e-6)
    assert labels_boxes.iou(a, np.zeros((0, 4), np.float32)).shape == (2, 0)


def test_labels_of_the_material_keep_people_apart():
    material("faces", "manifest.csv")
    labels = labels_boxes.read()
    crowds = [label for label in labels if label.group == "crowds"]
    assert len(crowds) == 119 and 30 <= sum(label.validation for label in crowds) <= 50
    from tools.data.material import photos

    sides = {}
    for photo, label in zip(photos(), labels, strict=False):
        if photo.identity:
            sides.setdefault(photo.identity, set()).add(label.validation)
    assert all(len(side) == 1 for side in sides.values())
    assert all(np.isfinite(label.faces).all() and label.faces.shape[1:] == (4,) for label in labels)


# Pictures


def test_a_picture_comes_from_its_number_alone(photos):
    sampler, other = (detection.Sampler(photos, 128) for _ in range(2))
    for number in (0, 1, 17):
        sampler.sample(number + 1)  # what came before does not matter
        for a, b in zip(sampler.sample(number), other.sample(number), strict=True):
            np.testing.assert_array_equal(a, b)


def test_boxes_lie_in_the_picture_and_are_high_enough(photos):
    sampler = detection.Sampler(photos, 128)
    count = 0
    for number in range(60):
        image, faces, ignored = sampler.sample(number)
        assert image.shape == (128, 128, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
        for boxes in (faces, ignored):
            assert boxes.dtype == np.float32 and boxes.shape[1:] == (4,)
            assert (boxes >= -1e-3).all() and (boxes <= 128 + 1e-3).all() and (boxes[:, 2:] >= boxes[:, :2]).all()
        assert (faces[:, 3] - faces[:, 1] >= detection.MIN_FACE_PX).all()
        count += len(faces)
    assert count > 60


def test_boxes_follow_the_faces_and_validation_is_never_seen(photos, monkeypatch):
    monkeypatch.setattr(detection, "spoil", lambda rng, image: image)
    monkeypatch.setattr(detection, "_cover", lambda rng, canvas, faces: None)
    sampler = detection.Sampler(photos, 128)
    inside = []
    for number in range(60):
        image, faces, _ = sampler.sample(number)
        assert not (image == (0, 0, 255)).all(2).sum() > 200
        for box in faces:
            x, y = ((box[:2] + box[2:]) / 2).astype(int)
            inside.append(image[min(y, 127), min(x, 127)].min() > 180)
    # heads pasted later may lie over the middle of others
    assert np.mean(inside) > 0.95


def test_a_turned_box_is_that_of_the_ellipse():
    angle = np.radians(30)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 3], [np.sin(angle), np.cos(angle), 4]])
    turn = np.linspace(0, 2 * np.pi, 3601)
    ellipse = np.stack([20 + 10 * np.cos(turn), 30 + 16 * np.sin(turn)], 1) @ matrix[:, :2].T + matrix[:, 2]
    box = detection.transform_boxes(np.array([[10, 14, 30, 46]], np.float32), matrix)
    np.testing.assert_allclose(box[0], [*ellipse.min(0), *ellipse.max(0)], atol=1e-3)


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 2.5])
def test_a_warped_picture_lies_where_its_matrix_says(scale):
    image = np.zeros((80, 80, 3), np.uint8)
    image[20:60, 30:50] = 200
    out = np.zeros((200, 200, 3), np.uint8)
    detection.warp(image, np.array([[scale, 0, 7.3], [0, scale, 2.6]]), out, cv2.BORDER_CONSTANT, (0, 0, 0))
    weight = out[..., 0] / out[..., 0].sum()
    centre = (weight.sum(0) * (np.arange(200) + 0.5)).sum(), (weight.sum(1) * (np.arange(200) + 0.5)).sum()
    np.testing.assert_allclose(centre, [40 * scale + 7.3, 40 * scale + 2.6], atol=0.1)


def test_faces_cut_at_the_edge_are_clipped_or_ignored():
    faces = np.array([[-10, 0, 30, 40], [-30, 50, 10, 90], [200, 0, 240, 40]], np.float32)
    kept, ignored = detection.clip(faces, np.zeros((0, 4), np.float32), 100, 100)
    np.testing.assert_allclose(kept, [[0, 0, 30, 40]])
    np.testing.assert_allclose(ignored, [[0, 50, 10, 90]])


# Losses


def test_overlaps_against_plain_geometry():
    a, b = torch.tensor([[0.0, 0, 10, 10], [0, 0, 4, 4]]), torch.tensor([[5.0, 0, 15, 10], [8, 0, 12, 4]])
    overlap, generalised = losses.overlaps(a, b)
    np.testing.assert_allclose(overlap, [1 / 3, 0], atol=1e-6)
    np.testing.assert_allclose(generalised, [1 / 3, -1 / 3], atol=1e-6)


def perfect(points, strides, faces):
    """Answers that make no mistake: every point's box is that of the nearest face."""
    centre = (faces[:, :2] + faces[:, 2:]) / 2
    nearest = torch.cdist(points, centre).argmin(1)
    box = faces[nearest]
    return torch.cat([points - box[:, :2], box[:, 2:] - points], 1)


def test_every_face_gets_points_of_its_scale_near_its_middle():
    points, strides = grid_points(256, 256)
    faces = torch.tensor([[20.0, 20, 30, 32], [90, 90, 150, 170], [5, 150, 15, 162]])
    distances = perfect(points, strides, faces)
    boxes = boxes_at(points, distances)
    logits = torch.full((len(points),), -2.0)
    target, match = losses.assign_points(logits, boxes, points, strides, faces, ASSIGN)
    for index, face in enumerate(faces):
        chosen = (target > 0) & (match == index)
        assert 1 <= chosen.sum() <= ASSIGN.candidates
        assert target[chosen].max() == pytest.approx(1.0, abs=1e-3)
        away = (points[chosen] - (face[:2] + face[2:]) / 2).abs()
        assert (away <= torch.maximum(0.35 * (face[2:] - face[:2]), 0.75 * strides[chosen, None])).all()
    assert 32.0 not in strides[(target > 0) & (match == 0)]
    assert 8.0 in strides[(target > 0) & (match == 0)]


def test_no_faces_no_targets():
    points, strides = grid_points(64, 64)
    none = torch.zeros((0, 4))
    target, _ = losses.assign_points(torch.zeros(len(points)), none, points, strides, none, ASSIGN)
    assert not target.any()


def test_loss_falls_to_nothing_for_perfect_answers_and_spares_the_unsure():
    points, strides = grid_points(128, 128)
    faces = torch.tensor([[40.0, 40, 60, 66]])
    distances = perfect(points, strides, faces)[None]
    logits = torch.full((1, len(points)), -12.0)
    target, _ = losses.assign_points(logits[0], boxes_at(points, distances[0]), points, strides, faces, ASSIGN)
    logits[0, target > 0] = torch.logit(target[target > 0].clamp(1e-4, 1 - 1e-4))
    none = torch.zeros((0, 4))
    judge = SimpleNamespace(points=points, strides=strides, recipe=SimpleNamespace(assign=ASSIGN))

    def both(logits, unsure=none):
        batch = {"faces": torch.from_numpy(padded([faces])), "unsure": torch.from_numpy(padded([unsure]))}
        compared = losses.Points(judge, {"logits": logits, "distances": distances}, batch)
        return losses.score(compared), losses.box(compared)

    score, box = both(logits)
    assert score < 0.2 and box < 1e-3
    wrong = logits.clone()
    corner = (points < 30).all(1)
    wrong[0, corner] = 4.0
    assert both(wrong)[0] > score + 1
    assert both(wrong, torch.tensor([[0.0, 0, 31, 31]]))[0] == pytest.approx(float(score), rel=0.01)


def test_grid_and_answers_have_the_same_order():
    network = FaceBoxes(**SMALL).eval()
    with torch.no_grad():
        logits, distances = network(torch.zeros(1, 64, 96, 3, dtype=torch.uint8)).values()
    points, strides = grid_points(64, 96)
    assert logits.shape == (1, len(points)) and distances.shape == (1, len(points), 4)
    assert points[1].tolist() == [12.0, 4.0] and strides.tolist() == sorted(strides.tolist())


# Export


@pytest.fixture
def network():
    torch.manual_seed(3)
    network = FaceBoxes(**SMALL)
    with torch.no_grad():
        for layer in network.score:
            layer.weight.normal_(std=0.5)
            layer.bias.fill_(0.0)
        # statistics that are not those of a new network
        network.train()(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    return network.eval()


@pytest.fixture
def exported(network, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((64, 96), (33, 70), (1, 1), (200, 129))]
    path = tmp_path / "net.onnx"
    export.write_graph(network, path, images)
    table = describe(path, kind="detector", licence="MIT", provenance="a test", format="boxes",
                     smallest_face_px=10.0, nms_iou=0.45)  # fmt: skip
    update_manifest(tmp_path / "manifest.toml", {"net": table})
    return path


def test_the_exported_network_computes_what_the_trained_one_does_for_any_size(exported, network):
    image = np.random.default_rng(1).integers(0, 256, (1, 150, 47, 3), np.uint8)
    with torch.no_grad():
        expected = [out.numpy() for out in export.Exported(network)(torch.from_numpy(image))]
    box, score = export.differences(image, open_session(exported).run(image=image), expected)
    assert box < 0.02 and score < 1e-4


def test_an_exported_file_can_be_trained_again(exported, network):
    other = FaceBoxes(**SMALL)
    export.read(other, exported)
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        for found, expected in zip(other.eval()(images).values(), network(images).values(), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


def test_a_start_from_the_shipped_file_gives_equal_outputs():
    _, net = checkpoint.open_network(ROOT / "weights" / "detector.onnx")
    image = np.random.default_rng(1).integers(0, 256, (1, 150, 170, 3), np.uint8)
    with torch.no_grad():
        found = [out.numpy() for out in export.Exported(net)(torch.from_numpy(image))]
    for part, expected in zip(found, open_session(ROOT / "weights" / "detector.onnx").run(image=image), strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-3)


def test_the_runtime_takes_the_exported_network(exported):
    detector = Detector.open(find_entry(exported, "detector"))
    picture = np.random.default_rng(2).integers(0, 256, (90, 130, 3), np.uint8)
    scores = [box.score for box in detector(picture)]
    assert scores == sorted(scores, reverse=True)


def test_a_network_that_differs_is_not_written(network, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "SCORE_TOLERANCE", -1.0)
    with pytest.raises(TrainingError, match="to agree with PyTorch"):
        export.write_graph(network, tmp_path / "bad.onnx", [np.zeros((64, 64, 3), np.uint8)])
    assert not list(tmp_path.iterdir())


# Evaluation


def test_average_precision_is_that_of_the_judges():
    path = material("acceptance", "metrics.py")
    judges = {}
    exec(compile(path.read_text(), str(path), "exec"), judges)
    rng = np.random.default_rng(5)
    found, truth = [], []
    for _ in range(12):
        corner = rng.uniform(0, 300, (9, 2))
        size = rng.uniform(5, 60, (9, 2))
        faces = np.concatenate([corner, corner + size], 1)
        wrong = rng.uniform(0, 300, (4, 1)) + np.array([0, 0, 30, 40])
        boxes = np.concatenate([faces[:7] + rng.normal(0, 3, (7, 4)), wrong])
        truth.append(faces)
        found.append(np.concatenate([boxes, rng.uniform(0, 1, (11, 1))], 1))
    for height in (10, 32):
        _, hits, wanted = evaluation.ranked_hits(found, truth, height)
        expected = judges["average_precision"](dict(enumerate(found)), dict(enumerate(truth)), height)
        assert evaluation.average_precision(hits, wanted) == pytest.approx(expected, abs=1e-9)


def test_nothing_found_and_nothing_wanted():
    none = [np.zeros((0, 5))]
    _, hits, wanted = evaluation.ranked_hits(none, [np.zeros((0, 4))], 10)
    assert evaluation.average_precision(hits, wanted) == 0.0
    _, hits, wanted = evaluation.ranked_hits(none, [np.array([[0, 0, 20, 20.0]])], 10)
    assert wanted == 1 and evaluation.average_precision(hits, wanted) == 0.0


# The trainer


def small_recipe(samples: int) -> Recipe:
    shipped = load_recipe("detector")
    schedule = dataclasses.replace(shipped.train, samples=samples, batch=2, warmup=0)
    return dataclasses.replace(shipped, net=Net(**SMALL), data=Data(size_px=96), train=schedule)


@pytest.fixture
def fed_here(photos, monkeypatch):
    monkeypatch.setattr(detection, "load", lambda folder: photos)
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)


def test_a_batch_comes_from_its_number_alone(fed_here, tmp_path):
    one, other = (Feed(small_recipe(8), tmp_path)(3) for _ in range(2))
    assert one["images"].shape == (2, 96, 96, 3) and one["faces"].shape == one["unsure"].shape == (2, 96, 4)
    assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def test_training_writes_and_resumes(fed_here, tmp_path):
    loop.train(small_recipe(4), tmp_path, tmp_path)
    first = checkpoint.load(tmp_path / "last.pt")
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert first["seen"] == 4 and header == "seen,per_s,score,box,loss" and len(rows) == 1
    loop.train(small_recipe(6), tmp_path, tmp_path)
    second = checkpoint.load(tmp_path / "last.pt")
    assert second["seen"] == 6
    assert any((first["net"][k] != second["net"][k]).any() for k in first["net"])
    assert all(torch.isfinite(v).all() for v in second["mean"].values())


def test_ten_steps_are_those_of_the_trainer_before(fed_here, tmp_path, monkeypatch):
    """The sums of the losses in ten steps of the trainer that this one replaced."""

    @torch.no_grad()
    def fill(net, *_):
        rng = np.random.default_rng(0)
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.from_numpy(rng.normal(0, (2 / parameter[0].numel()) ** 0.5, parameter.shape)))

    found = []
    monkeypatch.setattr(loop, "start_from", fill)
    monkeypatch.setattr(loop.Log, "add", lambda self, seen, terms: found.append(terms["loss"].item()))
    loop.train(small_recipe(20), tmp_path, tmp_path, init=tmp_path / "filled")
    expected = [44.71086, 26.81386, 12.06064, 9.23828, 30.28791, 9.55635, 6.94052, 5.07497, 4.42647, 8.5189]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
