"""The autoencoder: its network, losses, stages, few labels, and users' own points from images to drawn results."""

from __future__ import annotations

import csv
import dataclasses

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from facet.tracker.errors import ConfigError
from facet.tracker.mirror import MIRROR_68
from facet.tracker.weights import MANIFEST_NAME
from tests.tools import training_data
from tools import points as points_tool
from tools import train as command
from tools.autoencoder import data as samples
from tools.autoencoder import export, losses
from tools.autoencoder.model import Autoencoder, Critic, Net, gradient_penalty
from tools.data import own
from tools.data.crops import SIZE_PX
from tools.evaluation import few, people
from tools.manifest import update_manifest
from tools.training import TrainingError, checkpoint, loop
from tools.training.recipe import Schedule, load_recipe

SMALL = Net(widths=(4, 8, 8, 16), depths=(1, 0, 1), reduced=4, code=8, decoder=(16, 12, 8, 8, 4), size_px=32)
POINTS = dataclasses.replace(SMALL, points=68)


def recipe(net=SMALL, terms=("absolute",), every=0, **train):
    train = {"samples": 32, "batch": 4, "lr": 1e-3, "warmup": 8, "ema": 0.9} | train
    data = samples.Data(labels="annotated" if net.points else "")
    critic = samples.CriticSettings(every=every)
    weights = dict.fromkeys(terms, 0.1)
    return samples.Recipe(
        network="autoencoder", net=net, data=data, critic=critic, train=Schedule(**train), losses=weights
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_data.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def fed_here(monkeypatch):
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)


def crops(count=3, size=32):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))


# The network


def test_images_and_maps_have_their_sizes():
    out = Autoencoder(SMALL)(crops())
    assert out["image"].shape == (3, 3, 32, 32) and out["code"].shape == (3, 8)
    assert out["image"].min() >= 0 and out["image"].max() <= 1
    out = Autoencoder(POINTS)(crops())
    assert out["maps"].shape == (3, 68, 16, 16) and out["places"].shape == (3, 68, 2) and out["depth"].shape == (3, 68)


@pytest.mark.parametrize("wrong", [{"trained": ("head",)}, {"size_px": 40}, {"decoder": (1, 2)}, {"code": 0}])
def test_impossible_networks_are_refused(wrong):
    with pytest.raises(ValueError, match=r"unknown part|must have"):
        dataclasses.replace(SMALL, **wrong)


def test_points_and_labels_belong_together():
    with pytest.raises(ConfigError, match="belong together"):
        load_recipe("autoencoder", ("net.points=24",))


# Losses


@pytest.mark.parametrize("distance", [0.0, 0.1, 0.3, 0.5, 0.7, 1.3])
@pytest.mark.parametrize("target", [0.0, 0.4, 1.0])
def test_the_wing_loss_is_that_of_the_paper(distance, target):
    omega, theta, epsilon, alpha = 14, 0.5, 1, 2.1
    power = alpha - target
    slope = omega * (1 / (1 + (theta / epsilon) ** power)) * power * (theta / epsilon) ** (power - 1) / epsilon
    offset = theta * slope - omega * np.log(1 + (theta / epsilon) ** power)
    near, far = omega * np.log(1 + (distance / epsilon) ** power), slope * distance - offset
    expected = near if distance < theta else far
    found = losses.adaptive_wing(torch.tensor([target - distance]).double(), torch.tensor([target]).double())
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_the_penalty_of_a_linear_critic_is_that_of_its_slope():
    class Linear(torch.nn.Module):
        def forward(self, images):
            return 3 * images.flatten(1)[:, 0] + 4 * images.flatten(1)[:, 1]

    real, drawn = torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8)
    assert gradient_penalty(Linear(), real, drawn).item() == pytest.approx((5 - 1) ** 2, rel=1e-5)


def test_the_critic_learns_which_images_are_drawn():
    torch.manual_seed(0)
    critic = Critic((4, 8))
    optimiser = torch.optim.Adam(critic.parameters(), 5e-3, betas=(0.0, 0.9))
    real, drawn = torch.rand(16, 3, 16, 16), 0.5 + 0.02 * torch.rand(16, 3, 16, 16)
    costs = []
    for _ in range(40):
        cost = losses.critic_cost(critic, real, drawn, 10.0)
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        costs.append(cost.item())
    assert costs[-1] < costs[0] and critic(real).mean() > critic(drawn).mean()


def test_the_structural_similarity_is_that_of_its_formula():
    rng = torch.Generator().manual_seed(0)
    a, b = torch.rand(1, 3, 9, 9, generator=rng), torch.rand(1, 3, 9, 9, generator=rng)
    assert losses.ssim(a, a).item() == pytest.approx(1, abs=1e-5)
    x, y = a.mean(1)[0].numpy().astype(float), b.mean(1)[0].numpy().astype(float)
    values = []
    for i in range(3):
        for j in range(3):
            p, q = x[i : i + 7, j : j + 7], y[i : i + 7, j : j + 7]
            shared = ((p - p.mean()) * (q - q.mean())).mean()
            top = (2 * p.mean() * q.mean() + 0.01**2) * (2 * shared + 0.03**2)
            values.append(top / ((p.mean() ** 2 + q.mean() ** 2 + 0.01**2) * (p.var() + q.var() + 0.03**2)))
    assert losses.ssim(a, b).item() == pytest.approx(np.mean(values), abs=1e-4)


@pytest.mark.parametrize("place", [(0.5, 0.5), (0.31, 0.72)])
def test_the_place_of_a_perfect_map_is_the_point(place):
    net = Autoencoder(dataclasses.replace(SMALL, size_px=64, points=1))
    maps = losses.peaks(torch.tensor([[place]]), 32)
    net.heads.maps = torch.nn.Identity()
    net.heads.adapt[-1] = torch.nn.Identity()
    net.decoder.enlarge[-2].forward = lambda x: maps.expand(len(x), -1, -1, -1)
    net.heads.depth = torch.nn.Parameter(torch.zeros(1, 1))
    net.eval()
    found = net(crops(size=64))["places"][0, 0].detach()
    np.testing.assert_allclose(found, place, atol=0.1 / 32)


def test_points_without_weight_cost_nothing():
    batch = {"points": torch.rand(2, 68, 2), "weight": torch.zeros(2, 68), "depth": torch.full((2, 68), torch.nan)}
    out = Autoencoder(POINTS)(crops(2))
    compared = losses.Compared(out, batch, None, False)
    for name in ("wing", "places", "depth"):
        assert losses.LOSSES[name](compared) == 0, name


# Stages


def states(net, prefix):
    return {name: value.clone() for name, value in net.state_dict().items() if name.startswith(prefix)}


def changed(before, after):
    return any(not torch.equal(value, after[name]) for name, value in before.items())


def test_the_inversion_leaves_the_decoder_as_it_is(data, tmp_path):
    first = loop.train(recipe(terms=("square",)), tmp_path / "square", data)
    _, drawn = checkpoint.open_network(first)
    stage = dataclasses.replace(SMALL, trained=("backbone", "code"))
    last = loop.train(recipe(stage), tmp_path / "inversion", data, init=first)
    _, inverted = checkpoint.open_network(last)
    before = drawn.state_dict()
    assert not changed(states(inverted, "decoder"), before)  # batch norms' statistics, too
    assert changed(states(inverted, "backbone"), before) and changed(states(inverted, "code"), before)


def test_the_heads_learn_alone_first_and_then_the_encoder(data, tmp_path):
    stage = dataclasses.replace(POINTS, trained=("backbone", "code", "heads"), heads_first=16)
    known = recipe(stage, ("wing", "places"))
    start = Autoencoder(stage)
    torch.manual_seed(known.train.seed)
    loop.train(known, tmp_path / "half", data, stop=16)
    state = checkpoint.load(tmp_path / "half" / checkpoint.LAST)["net"]
    torch.manual_seed(known.train.seed)
    start = Autoencoder(stage).state_dict()
    for part, moves in (("decoder", False), ("code", False), ("backbone", False), ("heads", True)):
        before = {name: value for name, value in start.items() if name.startswith(part)}
        assert changed(before, state) == moves, part
    loop.train(known, tmp_path / "half", data)
    whole = checkpoint.load(tmp_path / "half" / checkpoint.LAST)["net"]
    encoder = {name: value for name, value in start.items() if name.startswith("backbone")}
    assert changed(encoder, whole)
    assert not changed({name: value for name, value in start.items() if name.startswith("decoder")}, whole)


def test_a_run_with_a_critic_resumes_to_what_it_would_have_been(data, tmp_path):
    known = recipe(terms=("absolute", "structure", "critic"), every=2)
    whole = checkpoint.load(loop.train(known, tmp_path / "whole", data))["net"]
    loop.train(known, tmp_path / "parts", data, stop=16)
    parts = checkpoint.load(loop.train(known, tmp_path / "parts", data))["net"]
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, msg=name)
    assert list((tmp_path / "whole").glob("sheet_*.png"))


def test_a_critic_that_never_judges_is_off(data):
    judge = losses.Judge(recipe(terms=("absolute", "critic"), every=0), data, torch.device("cpu"))
    assert judge.critic is None and judge.state_dict() == {}
    batch = {"images": crops()}
    assert losses.critic(judge.compare(Autoencoder(SMALL)(crops()), batch)) == 0


def test_our_own_features_compare_images(data):
    known = recipe(dataclasses.replace(SMALL, size_px=64), ("features",))
    judge = losses.Judge(known, data, torch.device("cpu"))
    images = crops(size=64)
    real = images.permute(0, 3, 1, 2) / 255
    same = losses.features(losses.Compared({"image": real}, {"images": images}, judge, False))
    other = losses.features(losses.Compared({"image": 1 - real}, {"images": images}, judge, False))
    assert same == 0 and other > 0.1


@pytest.mark.parametrize("net", [SMALL, POINTS], ids=["autoencoder", "points"])
def test_it_exports_and_comes_back(net, data, tmp_path):
    terms = ("wing",) if net.points else ("absolute",)
    known, trained = checkpoint.open_network(loop.train(recipe(net, terms), tmp_path / "run", data))
    table = export.write(trained, known, tmp_path / "net.onnx", data)
    assert table["kind"] == ("points" if net.points else "autoencoder")
    other = Autoencoder(net).eval()
    export.read(other, tmp_path / "net.onnx")
    name = "places" if net.points else "image"
    with torch.no_grad():
        torch.testing.assert_close(other(crops())[name], trained(crops())[name], atol=1e-6, rtol=0)
    with pytest.raises(TrainingError, match="expected the weights"):
        export.read(Autoencoder(dataclasses.replace(net, code=9)), tmp_path / "net.onnx")


def test_a_landmark_network_begins_with_the_backbone_of_the_shipped_regressor(data):
    known = load_recipe("few_regressor")
    net = Autoencoder(known.net)
    loop.start_from(net, losses.FEATURES, known, data)
    _, regressor = checkpoint.open_network(losses.FEATURES)
    weight = regressor.state_dict()["backbone.body.0.0.weight"]
    torch.testing.assert_close(net.state_dict()["backbone.body.0.0.weight"], weight)


# Few labels


def faces(count=12, people_count=4, held_out=2):
    points = np.random.default_rng(0).random((count, 68, 2)).astype(np.float32)
    identity = np.array([f"p{k % people_count}" for k in range(count)])
    blank = np.zeros((count, 68), np.float32)
    away = np.isin(identity, [f"p{k}" for k in range(people_count - held_out, people_count)])
    nobody = np.full(count, "")
    return samples.Faces(np.zeros((count, 1)), points, points, blank, blank, away, identity, nobody, np.zeros(3))


def few_recipe(number, seed=1):
    data = samples.Data(labels="annotated", annotated=number, seed=seed)
    return dataclasses.replace(recipe(POINTS, ("wing",)), data=data)


def test_few_labels_are_drawn_by_people_and_seed():
    known = faces(120, 40, 10)
    ten, fifty = (samples.training_rows(known, few_recipe(n)) for n in (10, 50))
    assert len(set(known.identity[ten])) == 10 and len(set(known.identity[fifty])) == 30
    assert set(ten) <= set(fifty) and not known.held_out[fifty].any()
    np.testing.assert_array_equal(ten, samples.training_rows(known, few_recipe(10)))
    assert set(ten) != set(samples.training_rows(known, few_recipe(10, seed=2)))
    assert len(samples.training_rows(known, few_recipe(None))) == 90


@pytest.mark.parametrize("number", [0, -1, 91])
def test_a_number_of_labels_that_is_not_there_is_a_wrong_setting(number):
    with pytest.raises(ConfigError, match="expected 1 to 90 annotated images"):
        samples.training_rows(faces(120, 40, 10), few_recipe(number))


def test_it_is_reported_in_one_line_with_status_2(data, tmp_path, monkeypatch, capsys):
    options = ["few_scratch", "--set", "data.annotated=500", "--data", str(data), "--out", str(tmp_path / "few")]
    monkeypatch.setattr("sys.argv", ["train", *options])
    assert command.main() == 2
    assert "data.annotated: expected 1 to 4 annotated images, found 500" in capsys.readouterr().err


def test_the_partners_of_symmetric_points_are_found():
    points = np.stack([shot.landmarks[:, :2] for shot in people.portraits(12, yaw_deg=10.0)])
    np.testing.assert_array_equal(samples.partners(points), MIRROR_68)
    assert samples.partners(points[:, 17:22]) is None  # one brow


def test_a_sample_shows_its_points(data, tmp_path):
    table = samples.read(data / "faces.npz")
    points = np.tile(np.float32([[60, 60], [140, 60], [100, 100], [100, 140]]), (training_data.COUNT, 1, 1))
    np.savez(tmp_path / "faces.npz", **(table | {"annotated": points, "points": points}))
    images = np.zeros((training_data.COUNT, SIZE_PX, SIZE_PX, 3), np.uint8)
    images[:, 136:144, 96:104] = 255
    images.tofile(tmp_path / "faces.u8")
    (tmp_path / "backgrounds.u8").write_bytes((data / "backgrounds.u8").read_bytes())
    known = recipe(dataclasses.replace(SMALL, points=4), ("wing",), batch=30)
    feed = samples.Feed(known, tmp_path)
    feed._sampler._spoil = lambda crop, look: crop
    feed._sampler._occluder = lambda crop: (crop, np.zeros(crop.shape[:2], np.uint8))
    checked = 0
    batch = feed(0)
    for image, points, weight in zip(batch["images"], batch["points"], batch["weight"], strict=True):
        shown = image[..., 0].astype(float)
        if weight[3] and shown[1:-1, 1:-1].sum() > 255:
            y, x = (np.indices(shown.shape) * shown).sum(axis=(1, 2)) / shown.sum() + 0.5
            assert np.hypot(*(points[3] * 32 - (x, y))) < 1.2
            checked += 1
    assert checked > 15


def test_the_figures_by_number_of_labels():
    errors = {("scratch", "50"): [8.0, 10.0], ("autoencoder", "50"): [6.0, 7.5]}
    found = few.figures(errors)
    assert found["autoencoder"]["50"] == {"inner": 6.75, "std": 0.75, "seeds": 2, "by_scratch": 0.75}
    assert found["scratch"]["50"]["inner"] == 9


# Users' own points


OWN = (17, 19, 21, 22, 24, 26, 27, 30, 31, 33, 35, 36, 39, 42, 45, 48, 51, 54, 57, 62, 66, 8, 4, 12)


@pytest.fixture(scope="module")
def own_set(tmp_path_factory):
    """A folder of drawn people and a table of 24 points."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "images").mkdir()
    rows = []
    for k, shot in enumerate(people.portraits(12, yaw_deg=20.0, seed=77)):
        cv2.imwrite(str(folder / "images" / f"{k:02d}.png"), shot.picture)
        rows.append([f"{k:02d}.png", f"person {k // 2}", *shot.landmarks[list(OWN), :2].round(2).ravel()])
    columns = ["file", "person", *(f"{axis}{k}" for k in range(len(OWN)) for axis in "xy")]
    with (folder / "points.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder


def test_from_a_folder_and_a_table_to_drawn_results(own_set, tmp_path, monkeypatch, capsys):
    mine, shown = tmp_path / "mine", tmp_path / "drawn"
    assert own.main([str(own_set / "images"), str(own_set / "points.csv"), "--out", str(mine)]) == 0
    assert "12 faces of 24 points, 2 of them held out" in capsys.readouterr().out
    table = samples.read(mine / "faces.npz")
    assert len(set(table["identity"][table["held_out"]]) & set(table["identity"][~table["held_out"]])) == 0
    unlabelled = samples.Feed(recipe(), mine)(0)["images"]  # the autoencoder can learn from them, too
    assert unlabelled.shape == (4, 32, 32, 3) and unlabelled.std() > 10
    small = [f"--set=net.{name}={value}" for name, value in (
        ("widths", [4, 8, 8, 16]), ("depths", [1, 0, 1]), ("reduced", 4), ("code", 8), ("decoder", [16, 12, 8, 8, 4]),
        ("points", 24),
    )]  # fmt: skip
    options = ["few_scratch", "--data", str(mine), "--out", str(tmp_path / "run"), "--export", str(tmp_path / "onnx")]
    monkeypatch.setattr("sys.argv", ["train", *options, *small, "--set=train.samples=64"])
    assert command.main() == 0
    network = tmp_path / "onnx" / "few_scratch.onnx"
    capsys.readouterr()
    assert points_tool.main([str(own_set / "images"), "-o", str(shown), "--network", str(network)]) == 0
    assert "12 faces in 12 images" in capsys.readouterr().out
    assert len(list(shown.glob("*.png"))) == 12
    with (shown / "points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"{k:02d}.png" for k in range(12)] and len(rows[0]) == 1 + 48
    drawn = cv2.imread(str(shown / "00.png"))
    assert drawn.shape == cv2.imread(str(own_set / "images" / "00.png")).shape
    assert points_tool.main([str(own_set / "images"), "-o", str(shown), "--network", str(network)]) == 2
    assert "not replaced" in capsys.readouterr().err


class Drawn(torch.nn.Module):
    """Finds the place of the brightest px, four times."""

    def forward(self, images):
        bright = images.float().mean(3)
        bright = torch.relu(bright - 200).flatten(1) + 1e-6
        weight = bright / bright.sum(1, keepdim=True)
        centre = (torch.arange(32) + 0.5) / 32
        x, y = centre.repeat(32), centre.repeat_interleave(32)
        place = torch.stack([(weight * x).sum(1), (weight * y).sum(1), torch.zeros(len(images))], dim=1)
        corners = torch.tensor([[-0.3, -0.3, 0], [0.3, -0.3, 0], [0, 0.3, 0], [0, 0, 0]])
        return place[:, None] + corners


def test_boxes_place_what_the_tracker_does_not_find(tmp_path, capsys):
    exported = Drawn()
    torch.onnx.export(exported, (torch.zeros(1, 32, 32, 3, dtype=torch.uint8),), str(tmp_path / "net.onnx"),
                      input_names=["crops"], output_names=["points"], opset_version=17, dynamo=False,
                      dynamic_axes={"crops": {0: "batch"}, "points": {0: "batch"}})  # fmt: skip
    described = command.parts_of("autoencoder").export.describe(
        tmp_path / "net.onnx", kind="points", size_px=32, landmark_scale=1.35, points=4, box=[float("nan")] * 3,
        licence="MIT", provenance="made by a test",
    )  # fmt: skip
    update_manifest(tmp_path / MANIFEST_NAME, {"net": described})
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:90, 150:160] = 255
    cv2.imwrite(str(tmp_path / "drawing.png"), image)
    call = [str(tmp_path / "drawing.png"), "-o", str(tmp_path / "out"), "--network", str(tmp_path / "net.onnx")]
    assert points_tool.main(call) == 2
    assert "name rectangles with --boxes" in capsys.readouterr().err
    (tmp_path / "boxes.csv").write_text("file,x0,y0,x1,y1\ndrawing.png,110,50,190,130\n")
    assert points_tool.main([*call, "--boxes", str(tmp_path / "boxes.csv")]) == 0
    (row,) = own.read_table(tmp_path / "out" / "points.csv")
    np.testing.assert_allclose(row.points[3], (155, 85), atol=1.5)  # in the middle of the spot, image px


WRONG_TABLES = [
    ("", "expected a header"),
    ("file,x0,y0\na.png,1,2\n", "found 1 points"),
    ("name,x0,y0,x1,y1,x2,y2\na.png,1,2,3,4,5,6\n", "found none of the name file"),
    ("file,x0,y0,x1,y1,x2\na.png,1,2,3,4,5\n", "found none of the name y2"),
    ("file,x0,y0,x1,y1,x2,y2\na.png,1,2,three,4,5,6\n", "line 2: expected numbers"),
    ("file,x0,y0,x1,y1,x2,y2\na.png,1,2,3,4,,\n", "line 2: expected a file and 3 known points"),
    ("file,x0,y0,x1,y1,x2,y2\na.png,.1,.2,.3,.4,.5,.6\n", "expected points in px"),
    ("file,x0,y0,x1,y1,x2,y2\nnone.png,10,20,30,40,50,60\n", "none.png"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_TABLES, ids=[row[1] for row in WRONG_TABLES])
def test_a_wrong_table_is_one_clear_line(text, message, tmp_path, capsys):
    (tmp_path / "points.csv").write_text(text)
    assert own.main([str(tmp_path), str(tmp_path / "points.csv"), "--out", str(tmp_path / "mine")]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "mine").exists()


def test_another_number_of_points_is_named(data):
    known = dataclasses.replace(recipe(POINTS, ("wing",)), net=dataclasses.replace(POINTS, points=24))
    with pytest.raises(TrainingError, match=r"--set net\.points=68"):
        samples.load(data, known)
