"""The network, its samples, its training and its export, on data of a few pictures."""

import csv
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tests.tools import training_data
from tests.tools.training_data import COUNT
from tools.data import augment, fit
from tools.data.crops import SIZE_PX
from tools.regressor import export as export_onnx
from tools.regressor import losses as goals
from tools.regressor.model import FaceNet
from tools.regressor.teacher import landmarks_symmetric, told_landmarks
from tools.training import curves
from tools.training import loop as train_regressor
from tools.training.grow import grow
from tracker.mirror import MIRROR_68
from tracker.morphable import load_face_model
from tracker.regressor import translate_facet
from tracker.weights import ROOT

NET = {"size_px": 32, "widths": [4, 8, 8, 16], "depths": [1, 0, 1], "reduced": 4}
CROPS = {"landmark_scale": 1.35, "box_scale": 1.65, "runtime_box_scale": 1.4, "runtime_box_shift_y": 0.1}


def config_of(goal: str, samples: int) -> dict:
    terms = ("points", "lids", "mesh", "cloud", "shape", "expression", "blink", "gaze", "score", "steady")
    terms += ("exact_shape", "exact_expression", "exact_sides")
    train = {"goal": goal, "samples": samples, "batch": 8, "lr": 1e-3, "weight_decay": 0.0, "warmup": 8, "ema": 0.9}
    return {
        "net": NET,
        "crops": CROPS,
        "train": train | {"base_scale": 0.005},
        "losses": dict.fromkeys(terms, 1.0) | {"pdc": 0.1, "vdc": 0.1, "wpdc": 0.1},
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_data.write(tmp_path_factory.mktemp("data"))


def test_a_sample_is_the_face_through_its_map(data):
    table, rows, weights = goals.training_rows(data)
    assert set(rows) == set(range(COUNT - 4)) and len(weights) == len(rows)
    sampler = augment.Sampler(data, table, rows, weights, augment.Recipe(112, 1.35, 1.65), seed=1)
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
    table, rows, weights = goals.training_rows(data)
    recipe = augment.Recipe(32, 1.35, 1.65)
    batch = augment.Sampler(data, table, rows, weights, recipe, seed=2).batch(16)
    assert batch["crops"].shape == (16, 32, 32, 3) and batch["crops"].dtype == np.uint8
    np.testing.assert_array_equal(batch["face"][:4], batch["face"][-4:])
    np.testing.assert_array_equal(batch["flip"][:4], batch["flip"][-4:])
    middle = np.array([100.0, 100.0, 1.0])
    apart = (batch["affine"][:4] - batch["affine"][-4:]) @ middle
    assert 0 < np.abs(apart).max() < 6
    # of the same photograph at the same place, unflipped points stay what they are
    points = torch.from_numpy(table["points"][batch["face"]]).float()
    shown = goals.placed(points, torch.from_numpy(batch["affine"]))
    zero = goals.steadiness(shown / 32, {"affine": torch.from_numpy(batch["affine"])}, torch.ones(16), recipe)
    assert zero < 1e-3


def test_a_wrong_crop_is_no_face_and_backgrounds_have_no_points(data):
    table, rows, weights = goals.training_rows(data)
    recipe = augment.Recipe(32, 1.35, 1.65, negative_share=0.4, pair_share=0.1)
    kinds = [augment.Sampler(data, table, rows, weights, recipe, seed=s).batch(40)["kind"] for s in range(3)]
    assert 0.2 < (np.concatenate(kinds) == augment.NO_FACE).mean() < 0.6


def test_the_training_reads_parameters_as_the_runtime_does(data):
    config = config_of("params", 8)
    goal = goals.ParamsGoal(data, augment.Recipe(112, 1.35, 1.65), config, torch.device("cpu"))
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    count = goal.heads["params"]
    assert count == 9 + model.shape_count + model.expression_count + 1
    params = np.random.default_rng(0).normal(0, 0.3, (4, count)).astype(np.float32)
    params[:, [1, 5]] += 1
    cameras, shapes, expressions, _ = translate_facet(0.005, model.shape_count, model.expression_count, 112)(params)
    _, camera, coefficients = goal.decode(torch.from_numpy(params))
    np.testing.assert_allclose(112 * camera, cameras, atol=1e-3)
    rotation, camera, coefficients = goal.decode(torch.from_numpy(params))
    shown, _ = goal.project(rotation, camera, coefficients)
    for k in range(4):
        expected = model.landmarks(cameras[k], shapes[k], expressions[k])
        np.testing.assert_allclose(112 * shown[k], expected, atol=0.05)


def test_a_perfect_answer_costs_nothing(data):
    config = config_of("params", 8)
    recipe = augment.Recipe(112, 1.35, 1.65)
    goal = goals.ParamsGoal(data, recipe, config, torch.device("cpu"))
    affine = torch.tensor([[[0.7, 0.0, -10.0], [0.0, 0.7, -12.0]]]).repeat(4, 1, 1)
    sample = {
        "face": torch.arange(4) + 1,
        "flip": torch.zeros(4, dtype=torch.bool),
        "affine": affine,
        "kind": torch.ones(4, dtype=torch.int64),
    }
    params = torch.zeros(4, goal.heads["params"])
    params[:, 0] = np.log(0.62 * 0.7 / 112 / 0.005)
    params[:, [1, 5]] = 1
    params[:, 7] = (100 * 0.7 - 10) / 112 - 0.5
    params[:, 8] = (105 * 0.7 - 12) / 112 - 0.5
    params[:, -1] = 20
    terms = goal.losses({"params": params}, sample)
    blink = terms.pop("blink").item()
    # the labels close an eye that these parameters leave open
    assert blink == pytest.approx(0.5 * (1 + goals.SHUT_SHOWN_WEIGHT))
    assert {"pdc", "vdc", "wpdc"} < set(terms)
    for name, value in terms.items():
        assert value.item() == pytest.approx(0, abs=2e-3), name


def test_what_a_face_shows_weighs_more():
    exact = torch.tensor([[2.0, 0.0, 0.5], [-1.0, 1.0, 0.0]])
    more = goals.SHOWN_WEIGHT
    weight = goals.shown_weight(exact, shape_count=1)
    assert weight.tolist() == [[1, 1, 1 + more / 2], [1, 1 + more, 1]]
    # guessing the weighted mean of a column is off by its spread, so that it costs 1
    spread = goals.spread(exact, weight)
    mean = (weight * exact).sum(0) / weight.sum(0)
    cost = (weight * ((exact - mean) / spread).square()).mean(0)
    np.testing.assert_allclose(cost, 1, rtol=1e-5)
    assert spread[0].item() == pytest.approx(1.5)


def test_sides_are_told_apart():
    weights = torch.tensor([[0.2, 0.9, 0.7], [0.5, 0.1, 0.5]])
    assert goals.apart_of(weights, [[0], [2]]).tolist() == [[pytest.approx(-0.5)], [0]]
    assert goals.partner("mouthSmile_L") == "mouthSmile_R" and goals.partner("eyeLookUp_L") == "eyeLookUp_R"
    assert goals.partner("eyeLookIn_L") == "eyeLookOut_R" and goals.partner("eyeLookOut_L") == "eyeLookIn_R"
    # raised on one side or on the other: as much is shown
    assert goals.shown_weight(torch.tensor([[-0.5], [0.5]])).tolist() == [[1 + goals.SHOWN_WEIGHT / 2]] * 2


def test_modes_that_pose_could_do_as_well_count_little():
    model = fit.load_points(ROOT / "weights" / "face_model.npz")
    points = model.mean - model.mean[model.cloud].mean(0)
    size, turn, wide = points, torch.linalg.cross(torch.tensor([0.0, 1, 0]).expand_as(points), points), points.clone()
    wide[:, 1:] = 0
    rows = torch.stack([size, turn, torch.ones_like(points), wide, 2 * wide])
    shown = goals.shape_shown(dataclasses.replace(model, basis=rows, shape_count=5))
    assert shown[:3].max() < 1e-4
    assert shown[4] / shown[3] == pytest.approx(4, rel=1e-3) and shown.mean() == pytest.approx(1, rel=1e-5)


def test_a_feeder_does_not_outlive_its_training():
    code = (
        "import multiprocessing, os, sys, time\n"
        "from tests.tools.training_data import feed_for_ever\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue(1)\n"
        "    process = context.Process(target=feed_for_ever, args=(queue,), daemon=True)\n"
        "    process.start()\n"
        "    queue.get()\n"
        "    print(process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    training = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    feeder = int(training.stdout.readline())
    training.kill()
    training.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _runs(feeder):
        time.sleep(0.1)
    assert not _runs(feeder)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("goal", ["points", "params"])
def test_training_resumes_and_writes_what_it_did(data, tmp_path, goal):
    train_regressor.train(config_of(goal, 24), data, tmp_path, None, threads=1)
    first = torch.load(tmp_path / "last.pt")
    assert first["seen"] == 24 and first["config"]["net"] == NET
    train_regressor.train(config_of(goal, 40), data, tmp_path, None, threads=1)
    second = torch.load(tmp_path / "last.pt")
    assert second["seen"] == 40
    with (tmp_path / "val.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seen"] for row in rows] == ["24", "40"] and float(rows[0]["nme"]) > 0
    assert any(not torch.equal(first["net"][name], second["net"][name]) for name in first["net"])


def test_a_teacher_is_heard_of_those_it_was_asked_of(data, tmp_path):
    config = config_of("params", 16)
    train_regressor.train(config, data, tmp_path / "teacher", None, threads=1)
    checkpoint = tmp_path / "teacher" / "last.pt"
    config = config | {"teacher": {"checkpoint": str(checkpoint)}, "losses": config["losses"] | {"teacher": 3.0}}
    recipe, cpu = augment.Recipe(32, 1.35, 1.65), torch.device("cpu")
    goal = goals.ParamsGoal(data, recipe, config, cpu)
    table, rows, weights = goals.training_rows(data)
    assert len(goal.told) == len(table["group"])  # all are photographs
    asked = len(goal.told) // 2
    goal.told = goal.told[:asked]
    sample = augment.Sampler(data, table, rows, weights, recipe, seed=2).batch(32)
    sample = {name: torch.from_numpy(array) for name, array in sample.items()}
    params = torch.zeros(32, goal.heads["params"])
    params[:, [1, 5]], params[:, 7] = 1, 0.2
    own = goal.project(*goal.decode(params))[0].numpy()
    expected = []
    for k, (row, flip) in enumerate(zip(sample["face"], sample["flip"], strict=True)):
        if row >= asked or sample["kind"][k] == augment.NO_FACE:
            continue
        turn, shift = sample["affine"][k, :, :2].numpy(), sample["affine"][k, :, 2].numpy()
        told = goal.told[row, 0].numpy().copy()
        if flip:
            told[:, 0] = SIZE_PX - told[:, 0]
            told = told[MIRROR_68]
        told = np.column_stack([told[:, :2] @ turn.T + shift, told[:, 2] * np.sqrt(np.linalg.det(turn))]) / 32
        expected.append(np.linalg.norm(own[k] - told, axis=1)[goals.NOT_LIDS].mean())
    assert 0 < len(expected) < (sample["kind"] != augment.NO_FACE).sum()
    assert goal.losses({"params": params}, sample)["teacher"].item() == pytest.approx(3 * np.mean(expected), rel=1e-3)
    train_regressor.train(config, data, tmp_path / "pupil", None, threads=1)
    assert (tmp_path / "pupil" / "last.pt").exists()
    other = config | {"train": config["train"] | {"base_scale": 0.01}}
    with pytest.raises(ValueError, match="of base_scale"):
        goals.ParamsGoal(data, recipe, other, cpu)


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

    told = told_landmarks(of_the_square, tmp_path, points, augment.Recipe(112, 1.35, 1.65))
    for said, side, corner in zip(told, sides, corners, strict=True):
        np.testing.assert_allclose(said, [[*(np.array(corner) + side / 2), side]] * 68, atol=0.1)


def test_a_teacher_says_the_mirror_image_of_a_mirrored_crop():
    def lopsided(crops):
        return crops.float().reshape(len(crops), -1)[:, : 68 * 3].reshape(-1, 68, 3) / 255

    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8))
    said, mirrored = (landmarks_symmetric(lopsided, view) for view in (crops, crops.flip(2)))
    turned = said * torch.tensor([-1, 1, 1]) + torch.tensor([1, 0, 0])
    np.testing.assert_allclose(mirrored, turned[:, MIRROR_68], atol=1e-6)
    assert (lopsided(crops) - said).abs().max() > 0.1


def test_mixed_precision_on_a_processor(data, tmp_path):
    train_regressor.train(config_of("params", 16), data, tmp_path, None, threads=1, mixed=True)
    state = torch.load(tmp_path / "last.pt")
    assert all(value.dtype != torch.bfloat16 and value.isfinite().all() for value in state["net"].values())


def test_a_larger_network_begins_where_the_small_one_ended():
    torch.manual_seed(1)
    small = FaceNet(**NET, heads={"params": 20})
    large = FaceNet(**NET | {"widths": [6, 12, 12, 24]}, heads={"params": 20})
    crops = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    torch.nn.init.normal_(small.heads["params"].weight)
    small.train()(crops)
    before = large.eval()(crops)["params"]
    grow(large, small.state_dict())
    wanted, got = small.eval()(crops)["params"], large(crops)["params"]
    assert (got - wanted).abs().mean() < 0.2 * wanted.abs().mean() < (before - wanted).abs().mean()


def test_only_fitting_weights_are_taken_over():
    with_points = FaceNet(**NET, heads={"points": 136})
    net = FaceNet(**NET, heads={"params": 20})
    before = net.heads["params"].weight.detach().clone()
    grow(net, with_points.state_dict())
    taken, given = net.backbone.state_dict(), with_points.backbone.state_dict()
    assert all(torch.equal(taken[name], given[name]) for name in given)
    assert torch.equal(net.heads["params"].weight, before)


def test_the_learning_rate_rises_and_falls():
    rates = [train_regressor.learning_rate(seen, 1000, 2.0, 100) for seen in (0, 50, 100, 550, 1000)]
    assert rates[0] < rates[1] < rates[2] == 2.0 > rates[3] > rates[4]
    assert rates[3] == pytest.approx(2 * (0.01 + 0.99 / 2)) and rates[4] == pytest.approx(0.02)


def test_the_average_follows_weights_and_statistics():
    net, average = FaceNet(**NET, heads={"a": 1}), FaceNet(**NET, heads={"a": 1})
    average.load_state_dict(net.state_dict())
    with torch.no_grad():
        net.heads["a"].bias += 1.0
    net.train()(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    train_regressor.update_average(average, net, 0.75)
    assert average.heads["a"].bias.item() == pytest.approx(0.25)
    tracked = [name for name in net.state_dict() if name.endswith("num_batches_tracked")]
    assert tracked and all(average.state_dict()[name] == 1 for name in tracked)


def test_the_export_says_what_pytorch_says(tmp_path):
    torch.manual_seed(0)
    net = FaceNet(**NET, heads={"params": 20}).eval()
    crops = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    with torch.no_grad():
        expected = net(torch.from_numpy(crops))["params"].numpy()
    exported = export_onnx.Exported(net, NET["size_px"]).eval()
    assert export_onnx.export(exported, 32, tmp_path / "net.onnx", crops, expected) < export_onnx.PARITY
    with pytest.raises(RuntimeError, match="agree"):
        export_onnx.export(exported, 32, tmp_path / "net.onnx", crops, expected + 1)


def test_the_table_of_points_knows_the_mirror(data):
    table = goals.load_table(data)
    mirrored = table["points_mirrored"][0]
    np.testing.assert_allclose(mirrored[36, 0], SIZE_PX - table["points"][0, 45, 0])
    np.testing.assert_allclose(mirrored[MIRROR_68][:, 1], table["points"][0][:, 1])
    assert fit.load_points(ROOT / "weights" / "face_model.npz").shape_count > 20


def test_two_processes_train_one_network(data, tmp_path):
    config = config_of("params", 64)
    recipe = tmp_path / "recipe.toml"
    values = {name: "\n".join(f"{k} = {json.dumps(v)}" for k, v in part.items()) for name, part in config.items()}
    recipe.write_text("\n".join(f"[{name}]\n{text}" for name, text in values.items()), encoding="utf-8")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tools.training.loop", "--config", recipe, "--data", data, "--out", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    state = torch.load(out / "last.pt")
    # four steps of two batches of eight; the first process alone writes
    assert state["seen"] == 64 and state["optimiser"]["state"][0]["step"] == 4
    assert len((out / "val.csv").read_text().splitlines()) == 2


def test_curves_show_every_column(tmp_path):
    (tmp_path / "log.csv").write_text("seen,loss,points\n10,1.0,0.5\n20,0.5,0.4\n", encoding="utf-8")
    curves.draw(tmp_path)
    two = cv2.imread(str(tmp_path / "curves.png"))
    (tmp_path / "val.csv").write_text("seen,nme\n20,3.0\n", encoding="utf-8")
    curves.draw(tmp_path)
    three = cv2.imread(str(tmp_path / "curves.png"))
    assert three.shape[1] > two.shape[1] > 300 and (two.min(axis=2) < 100).any()
