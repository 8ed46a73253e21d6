"""The regressor: its samples, its losses and its export, on data of a few images."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from facet.tracker import Box, FaceTracker, Frame
from facet.tracker.loop import RegressorConfig
from facet.tracker.mirror import MIRROR_68
from facet.tracker.morphable import load_face_model
from facet.tracker.regressor import translate_facet
from facet.tracker.tracks import TrackerConfig
from facet.tracker.weights import ROOT, find_entry
from tests.tools import training_data
from tests.tools.training_data import COUNT, first_recipe, recipe
from tests.tracker.nets import facet_heads
from tools import train
from tools.data import augment, fit
from tools.data.crops import SIZE_PX
from tools.manifest import update_manifest
from tools.regressor import compare, export, losses
from tools.regressor.data import load_table, training_rows
from tools.regressor.losses import Judge
from tools.regressor.model import HEADS, FaceNet, Head
from tools.regressor.teacher import symmetric_landmarks, teacher_landmarks
from tools.training import TrainingError, loop
from tools.training.recipe import load_recipe

CPU = torch.device("cpu")
NET = {**training_data.SMALL, "heads": {"params": 20}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_data.write(tmp_path_factory.mktemp("data"))


def rows_of(data):
    table = load_table(data)
    return table, *training_rows(table, {})


def heads_of(params):
    """A network's output of (B, n) numbers in the order of the default heads."""
    names = ("pose", "shape", "expression", "score")
    return dict(zip(names, params.split([HEADS[name].count for name in names], 1), strict=True))


def terms_of(judge, params, sample):
    """The unweighted losses that a recipe names."""
    compared = judge.compare(heads_of(params), sample)
    return {name: losses.LOSSES[name](compared) for name in judge.recipe.losses}


def test_a_sample_is_the_face_through_its_map(data):
    table, rows, weights = rows_of(data)
    assert set(rows) == set(range(COUNT - 4)) and len(weights) == len(rows)
    sampler = augment.Sampler(data, table, rows, weights, augment.Crops(112), seed=1)
    # a bright spot of the picture lies where the map puts it, flipped or not
    images = np.zeros((COUNT, SIZE_PX, SIZE_PX, 3), np.uint8)
    images[:, 98:102, 88:92] = 255
    sampler.images = [images]
    for flip in (False, True):
        affine, kind = sampler._placement(0, flip, False)
        picture = sampler._warp(0, flip, affine)[..., 0].astype(float)
        y, x = np.mgrid[:112, :112] + 0.5
        found = np.array([(x * picture).sum(), (y * picture).sum()]) / picture.sum()
        spot = np.array([SIZE_PX - 90 if flip else 90, 100])
        np.testing.assert_allclose(affine[:, :2] @ spot + affine[:, 2], found, atol=0.2)
        assert kind in (augment.FACE, augment.FACE_NO_SCORE)


def test_a_batch_holds_pairs_that_are_a_little_moved(data):
    table, rows, weights = rows_of(data)
    spec = augment.Crops(32)
    batch = augment.Sampler(data, table, rows, weights, spec, seed=2).batch(16, 0)
    assert batch["images"].shape == (16, 32, 32, 3) and batch["images"].dtype == np.uint8
    np.testing.assert_array_equal(batch["face"][:4], batch["face"][-4:])
    np.testing.assert_array_equal(batch["flip"][:4], batch["flip"][-4:])
    middle = np.array([100.0, 100.0, 1.0])
    apart = (batch["affine"][:4] - batch["affine"][-4:]) @ middle
    assert 0 < np.abs(apart).max() < 6
    # of the same photograph at the same place, unflipped points stay what they are
    points = torch.from_numpy(table["points"][batch["face"]]).float()
    shown = losses.placed(points, torch.from_numpy(batch["affine"]))
    zero = losses.steadiness(shown / 32, torch.from_numpy(batch["affine"]), torch.ones(16), spec)
    assert zero < 1e-3


def test_a_wrong_crop_is_no_face_and_backgrounds_have_no_points(data):
    table, rows, weights = rows_of(data)
    spec = augment.Crops(32, negative_share=0.4, pair_share=0.1)
    kinds = [augment.Sampler(data, table, rows, weights, spec, seed=s).batch(40, 0)["kind"] for s in range(3)]
    assert 0.2 < (np.concatenate(kinds) == augment.NO_FACE).mean() < 0.6


def test_the_training_reads_parameters_as_the_runtime_does(data):
    judge = Judge(dataclasses.replace(recipe(8), net=load_recipe("regressor").net), data, CPU)
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    count = sum(HEADS[name].count for name in judge.recipe.net.heads)
    assert count == 9 + model.shape_count + model.expression_count + 1
    params = np.random.default_rng(0).normal(0, 0.3, (4, count)).astype(np.float32)
    params[:, [1, 5]] += 1
    heads = facet_heads(model.shape_count, model.expression_count)
    cameras, shapes, expressions, *_ = translate_facet(0.005, heads, 112)(params)
    rotation, camera, coefficients = judge.decode(heads_of(torch.from_numpy(params)))
    np.testing.assert_allclose(112 * camera, cameras, atol=1e-3)
    shown, _ = judge.project(rotation, camera, coefficients)
    for k in range(4):
        expected = model.landmarks(cameras[k], shapes[k], expressions[k])
        np.testing.assert_allclose(112 * shown[k], expected, atol=0.05)


def test_a_perfect_prediction_costs_nothing(data):
    judge = Judge(dataclasses.replace(recipe(8), net=load_recipe("regressor").net), data, CPU)
    affine = torch.tensor([[[0.7, 0.0, -10.0], [0.0, 0.7, -12.0]]]).repeat(4, 1, 1)
    sample = {
        "face": torch.arange(4) + 1,
        "flip": torch.zeros(4, dtype=torch.bool),
        "affine": affine,
        "kind": torch.ones(4, dtype=torch.int64),
    }
    params = torch.zeros(4, 111)
    params[:, 0] = np.log(0.62 * 0.7 / 112 / 0.005)
    params[:, [1, 5]] = 1
    params[:, 7] = (100 * 0.7 - 10) / 112 - 0.5
    params[:, 8] = (105 * 0.7 - 12) / 112 - 0.5
    params[:, -1] = 20
    terms = terms_of(judge, params, sample)
    blink = terms.pop("blink").item()
    # the labels close an eye that these parameters leave open
    assert blink == pytest.approx(0.5 * (1 + losses.SHUT_SHOWN_WEIGHT))
    assert {"pdc", "vdc", "wpdc"} < set(terms)
    for name, value in terms.items():
        assert value.item() == pytest.approx(0, abs=2e-3), name


def test_what_a_face_shows_weighs_more():
    exact = torch.tensor([[2.0, 0.0, 0.5], [-1.0, 1.0, 0.0]])
    more = losses.SHOWN_WEIGHT
    weight = losses.shown_weight(exact, shape_count=1)
    assert weight.tolist() == [[1, 1, 1 + more / 2], [1, 1 + more, 1]]
    # guessing the weighted mean of a column is off by its spread, so that it costs 1
    spread = losses.spread(exact, weight)
    mean = (weight * exact).sum(0) / weight.sum(0)
    cost = (weight * ((exact - mean) / spread).square()).mean(0)
    np.testing.assert_allclose(cost, 1, rtol=1e-5)
    assert spread[0].item() == pytest.approx(1.5)


def test_sides_are_distinguished():
    weights = torch.tensor([[0.2, 0.9, 0.7], [0.5, 0.1, 0.5]])
    assert losses.sides_apart(weights, [[0], [2]]).tolist() == [[pytest.approx(-0.5)], [0]]
    assert losses.partner("mouthSmile_L") == "mouthSmile_R" and losses.partner("eyeLookUp_L") == "eyeLookUp_R"
    assert losses.partner("eyeLookIn_L") == "eyeLookOut_R" and losses.partner("eyeLookOut_L") == "eyeLookIn_R"
    # raised on one side or on the other: as much is shown
    assert losses.shown_weight(torch.tensor([[-0.5], [0.5]])).tolist() == [[1 + losses.SHOWN_WEIGHT / 2]] * 2


def test_modes_that_pose_could_do_as_well_count_little():
    model = fit.load_points(ROOT / "weights" / "face_model.npz")
    points = model.mean - model.mean[model.cloud].mean(0)
    size, turn, wide = points, torch.linalg.cross(torch.tensor([0.0, 1, 0]).expand_as(points), points), points.clone()
    wide[:, 1:] = 0
    rows = torch.stack([size, turn, torch.ones_like(points), wide, 2 * wide])
    shown = losses.shape_shown(dataclasses.replace(model, basis=rows, shape_count=5))
    assert shown[:3].max() < 1e-4
    assert shown[4] / shown[3] == pytest.approx(4, rel=1e-3) and shown.mean() == pytest.approx(1, rel=1e-5)


def test_a_teacher_is_learnt_from_where_it_predicted(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)
    result = loop.train(recipe(16), tmp_path / "teacher", data)
    known = dataclasses.replace(recipe(16), teacher="teacher", losses={"teacher": 3.0})
    judge = Judge(known, data, CPU, result)
    table, rows, weights = rows_of(data)
    assert len(judge.taught) == len(table["group"])  # all are photographs
    taught = len(judge.taught) // 2
    judge.taught = judge.taught[:taught]
    sample = augment.Sampler(data, table, rows, weights, known.crops, seed=2).batch(32, 0)
    sample = {name: torch.from_numpy(array) for name, array in sample.items()}
    params = torch.zeros(32, 111)
    params[:, [1, 5]], params[:, 7] = 1, 0.2
    own = judge.project(*judge.decode(heads_of(params)))[0].numpy()
    expected = []
    for k, (row, flip) in enumerate(zip(sample["face"], sample["flip"], strict=True)):
        if row >= taught or sample["kind"][k] == augment.NO_FACE:
            continue
        turn, shift = sample["affine"][k, :, :2].numpy(), sample["affine"][k, :, 2].numpy()
        points = judge.taught[row, 0].numpy().copy()
        if flip:
            points[:, 0] = SIZE_PX - points[:, 0]
            points = points[MIRROR_68]
        points = np.column_stack([points[:, :2] @ turn.T + shift, points[:, 2] * np.sqrt(np.linalg.det(turn))]) / 32
        expected.append(np.linalg.norm(own[k] - points, axis=1)[losses.NOT_LIDS].mean())
    assert 0 < len(expected) < (sample["kind"] != augment.NO_FACE).sum()
    assert terms_of(judge, params, sample)["teacher"].item() == pytest.approx(np.mean(expected), rel=1e-3)
    loop.train(known, tmp_path / "pupil", data, teacher=result)
    assert (tmp_path / "pupil" / "result.pt").exists()
    other = dataclasses.replace(known, net=dataclasses.replace(known.net, base_scale=0.01))
    with pytest.raises(TrainingError, match="of base_scale"):
        Judge(other, data, CPU, result)


def test_what_a_teacher_says_lies_where_the_photograph_shows_it(tmp_path):
    sides, corners = (12, 20), ((90, 84), (101, 97))
    images = np.memmap(tmp_path / "faces.u8", np.uint8, "w+", shape=(2, SIZE_PX, SIZE_PX, 3))
    for image, side, (x, y) in zip(images, sides, corners, strict=True):
        image[y : y + side, x : x + side] = 255
    images.flush()
    points = np.random.default_rng(0).uniform(85, 125, (2, 68, 2)).astype(np.float32)

    def of_the_square(crops):  # its middle and, as depth, its side; in shares of the crop's
        light = crops.float().mean(3) / 255
        size = light.shape[1]
        area, spot = light.sum((1, 2)), (torch.arange(size) + 0.5) / size
        x, y = (light.sum(1) @ spot) / area, (light.sum(2) @ spot) / area
        return torch.stack([x, y, area.sqrt() / size], 1)[:, None].expand(-1, 68, -1)

    reported = teacher_landmarks(of_the_square, tmp_path, points, augment.Crops(112))
    for said, side, corner in zip(reported, sides, corners, strict=True):
        np.testing.assert_allclose(said, [[*(np.array(corner) + side / 2), side]] * 68, atol=0.1)


def test_a_teacher_says_the_mirror_image_of_a_mirrored_crop():
    def lopsided(crops):
        return crops.float().reshape(len(crops), -1)[:, : 68 * 3].reshape(-1, 68, 3) / 255

    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8))
    said, mirrored = (symmetric_landmarks(lopsided, view) for view in (crops, crops.flip(2)))
    turned = said * torch.tensor([-1, 1, 1]) + torch.tensor([1, 0, 0])
    np.testing.assert_allclose(mirrored, turned[:, MIRROR_68], atol=1e-6)
    assert (lopsided(crops) - said).abs().max() > 0.1


def test_the_exported_network_computes_what_pytorch_does(tmp_path, monkeypatch):
    torch.manual_seed(0)
    net = FaceNet(**training_data.SMALL, heads={"pose": 9, "score": 1})
    crops = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    path = tmp_path / "net.onnx"
    assert export.write_graph(net, 32, path, crops) < export.PARITY
    # and back again
    other = FaceNet(**training_data.SMALL, heads={"pose": 9, "score": 1}).eval()
    export.read(other, path)
    with torch.no_grad():
        found, expected = other(torch.from_numpy(crops)), net(torch.from_numpy(crops))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=0)
    path.unlink()
    monkeypatch.setattr(export, "PARITY", -1.0)
    with pytest.raises(TrainingError, match="to agree with PyTorch within -1"):
        export.write_graph(net, 32, path, crops)
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def fill(net):
    """Weights that do not depend on how heads are divided."""
    rng = np.random.default_rng(0)
    for parameter in net.backbone.parameters():
        if parameter.ndim > 1:
            parameter.copy_(torch.from_numpy(rng.normal(0, (2 / parameter[0].numel()) ** 0.5, parameter.shape)))
    heads = list(net.heads.values())
    counts = [len(head.bias) for head in heads]
    weight = rng.normal(0, 0.01, (sum(counts), heads[0].in_features))
    for head, part in zip(heads, np.split(weight, np.cumsum(counts)[:-1]), strict=True):
        head.weight.copy_(torch.from_numpy(part))


# the sums of the losses in ten steps of the trainer that this one replaced
TEN_STEPS = [
    (first_recipe, [2.62161, 2.6541, 2.94723, 1.57563, 2.8876, 1.58577, 2.61709, 2.87551, 2.81917, 2.78864]),
    (recipe, [2.71568, 2.51132, 2.5698, 2.64265, 2.44655, 2.44249, 2.52995, 2.47967, 2.49685, 2.44679]),
]


@pytest.mark.parametrize("make, expected", TEN_STEPS)
def test_ten_steps_are_those_of_the_trainer_before(data, tmp_path, monkeypatch, make, expected):
    found = []
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)
    monkeypatch.setattr(loop.Log, "add", lambda self, seen, losses: found.append(losses["loss"].item()))
    known = make(80, weight_decay=0.02, warmup=24, seed=3)
    known = dataclasses.replace(known, data=dataclasses.replace(known.data, box_share=0.35))
    monkeypatch.setattr(loop, "start_from", lambda net, *_: fill(net))
    loop.train(known, tmp_path, data, init=tmp_path / "filled")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_table_of_points_knows_the_mirror(data):
    table = load_table(data)
    mirrored = table["points_mirrored"][0]
    np.testing.assert_allclose(mirrored[36, 0], SIZE_PX - table["points"][0, 45, 0])
    np.testing.assert_allclose(mirrored[MIRROR_68][:, 1], table["points"][0][:, 1])
    assert fit.load_points(ROOT / "weights" / "face_model.npz").shape_count > 20


def test_a_new_head_is_trained_exported_and_found_in_the_tracks(data, tmp_path, monkeypatch):
    """Without a changed offset: a line of HEADS, a loss, and their names in the recipe."""
    monkeypatch.setitem(HEADS, "tilt", Head(3, "clip"))

    def tilt(faces):
        return (faces.output["tilt"] - torch.tensor([0.2, 0.9, 4.0])).square().mean()

    monkeypatch.setitem(losses.LOSSES, "tilt", tilt)
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)
    heads = ("tilt", "pose", "shape", "expression", "score")
    known = recipe(400, heads, {"tilt": 1.0, "points": 1.0}, lr=0.02, batch=16)
    known = dataclasses.replace(known, ships="weights/regressor.onnx")
    result = loop.train(known, tmp_path, data)
    path = train.export(result, "tilted", tmp_path / "weights", data)
    mesh = find_entry(ROOT / "weights" / "face_model.npz", "face_model")
    shutil.copy(mesh.path, path.parent)
    update_manifest(path.parent / "manifest.toml", {"face_model": dict(mesh.table)})
    weights = RegressorConfig(weights=str(path), mesh=str(path.parent / mesh.path.name))
    trusting = TrackerConfig(start_score=0.0, start_fit=0.0, keep_score=0.0)
    tracker = FaceTracker.open(lambda image: (Box(60, 40, 260, 240, 0.9),), weights, config=trusting)
    image = np.random.default_rng(0).integers(0, 256, (280, 320, 3), np.uint8)
    (face,) = tracker.step(Frame(index=0, time_s=0.0, image=image, still=True))
    tracker.close()
    np.testing.assert_allclose(face.heads["tilt"], [0.2, 0.9, 1.0], atol=0.1)


def test_the_table_of_losses_has_the_errors_of_the_validation(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)
    heads = ("pose", "shape", "expression")
    results = {name: loop.train(recipe(16, heads, {name: 1.0}), tmp_path / name, data) for name in ("pdc", "wpdc")}
    header, _, *rows = compare.table(results, data).splitlines()
    assert "NME" in header and [row.split(" | ")[:3] for row in rows] == [
        ["| pdc", "pdc", "16"],
        ["| wpdc", "wpdc", "16"],
    ]
    with (tmp_path / "wpdc" / "val.csv").open() as file:
        (validated,) = csv.DictReader(file)
    assert f"{float(validated['nme']):.2f} %" in rows[1]
