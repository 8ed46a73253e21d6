"""The heatmap aligner: its networks, losses, samples, training and export."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from facet.tracker.errors import ConfigError
from facet.tracker.runtime import open_session
from tests.tools import training_data
from tools.data.anatomical import COUNT, IRISES, JAW, MIRROR, PORTRAIT_PX
from tools.data.crops import SIZE_PX
from tools.heatmaps import data as samples
from tools.heatmaps import export, losses
from tools.heatmaps.model import BLOCKS, TOPOLOGIES, Aligner, AncestorNet, Net
from tools.training import TrainingError, checkpoint, loop
from tools.training.recipe import Schedule, load_recipe

SMALL = Net(width=16, stacks=2, depth=2, size_px=64)


def recipe(net=SMALL, **train):
    train = {"samples": 32, "batch": 4, "lr": 1e-3, "warmup": 8, "ema": 0.9} | train
    terms = dict.fromkeys(losses.LOSSES, 0.1)
    data = samples.Data(shares={"photographs": 0.7, "portraits": 0.3})
    return samples.Recipe(network="heatmaps", net=net, data=data, train=Schedule(**train), losses=terms)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder as `tools.data.build` writes it, with a bright spot at the first point of every face."""
    folder = training_data.write(tmp_path_factory.mktemp("data"))
    rng = np.random.default_rng(0)
    for name, count, size in (("anatomical", training_data.COUNT, SIZE_PX), ("portraits", 3, PORTRAIT_PX)):
        points = (size * (0.3 + 0.4 * rng.random((count, COUNT, 2)))).astype(np.float32)
        ones = np.ones((count, COUNT), np.float32)
        np.savez(folder / f"{name}.npz", points=points, weight=ones, depth=0 * ones, visible=ones)
        images = np.zeros((count, size, size, 3), np.uint8)
        for image, (x, y) in zip(images, points[:, 0].astype(int), strict=True):
            image[y - size // 100 : y + size // 100, x - size // 100 : x + size // 100] = 255
        images.tofile(folder / ("faces.u8" if name == "anatomical" else "portraits.u8"))
    return folder


# Networks


@pytest.mark.parametrize(
    ("topology", "depth", "block", "megabytes"),
    [
        # the published size of the float32 weights: upstream-facts.md, E
        ("hourglass", 4, "bottleneck", 26),
        ("hourglass", 3, "hpm", 38),
        ("hourglass", 4, "cab", 46),
        ("sat", 3, "cab", 40),
        ("hourglass", 3, "cab", 37),
    ],
)
def test_the_ancestors_configurations_have_its_number_of_parameters(topology, depth, block, megabytes):
    with torch.device("meta"):
        net = AncestorNet(topology, depth, block)
        maps = net(torch.zeros(1, 3, 128, 128))
    assert int(4e-6 * sum(p.numel() for p in net.parameters())) == megabytes
    assert [tuple(each.shape) for each in maps] == [(1, 68, 64, 64)] * 2


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_and_block_learns_and_exports(topology, block, tmp_path):
    torch.manual_seed(0)
    net = Aligner(Net(width=16, stacks=2, depth=2, block=block, topology=topology, size_px=32))
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    output = net(torch.from_numpy(crops))
    assert output["logits"].shape == (3, 2, COUNT, 8, 8)
    sum(value.square().mean() for value in output.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    export.write_graph(net.eval(), 32, tmp_path / "net.onnx", crops)
    points, face = open_session(tmp_path / "net.onnx").run(crops=crops[:1])
    assert points.shape == (1, COUNT, 5) and face.shape == (1, 8, 8)


@pytest.mark.parametrize(
    "wrong", [{"width": 15}, {"stacks": 0}, {"block": "cap"}, {"topology": "unet"}, {"size_px": 60}]
)
def test_impossible_networks_are_refused(wrong):
    with pytest.raises(ValueError, match=r"unknown|must be"):
        dataclasses.replace(SMALL, **wrong)


# Losses


@pytest.mark.parametrize("place", [(0.5, 0.5), (0.31, 0.72), (0.143, 0.88)])
def test_the_expected_place_of_a_gaussian_is_its_centre(place):
    net = Aligner(Net(width=16, stacks=1, depth=2, size_px=128))
    target = losses.gaussian_targets(torch.tensor([[place]]), 32)
    assert target.sum().item() == pytest.approx(1, abs=1e-5)
    found = (target[0] @ net.cells)[0]
    np.testing.assert_allclose(found, place, atol=0.02 / 32)


def test_the_ancestors_targets():
    place = torch.tensor([[[0.55, 0.27]]])
    point = losses.squared_targets(place, 64, sigma=0)[0, 0]
    assert point.sum() == 1 and point[int(0.27 * 64), int(0.55 * 64)] == 1
    blob = losses.squared_targets(place, 64, sigma=1.0)[0, 0]
    assert blob.max() == 20 and (blob > 0).sum() == 49
    assert blob[int(0.27 * 64), int(0.55 * 64) + 1].item() == pytest.approx(20 * np.exp(-0.5), rel=1e-5)


def truth(count=4, side=16):
    rng = torch.Generator().manual_seed(0)
    points = 0.25 + 0.5 * torch.rand(count, COUNT, 2, generator=rng)
    some = torch.rand(count, COUNT, generator=rng)
    return {
        "points": points,
        "weight": torch.ones(count, COUNT),
        "depth": torch.where(some > 0.5, some, torch.nan),
        "visible": torch.where(some > 0.3, (some > 0.6).float(), torch.nan),
        "face": torch.randint(0, 3, (count, side, side), generator=rng).to(torch.uint8),
    }


def perfect(batch, side=16):
    return {
        "logits": losses.gaussian_targets(batch["points"], side)
        .clamp(min=1e-30)
        .log()
        .reshape(len(batch["points"]), 1, COUNT, side, side),
        "places": batch["points"].clone(),
        "depth": batch["depth"].nan_to_num(),
        "visible": 200 * batch["visible"].nan_to_num() - 100,
        "spread": torch.full((len(batch["points"]), COUNT), -4.0),
        "face": 200.0 * (batch["face"] == 1) - 100,
    }


def test_perfect_predictions_cost_nothing_and_others_do():
    batch = truth()
    output = perfect(batch)
    compared = losses.Compared(output, batch)
    for name in ("places", "gaps", "sides", "gaze", "depth", "visible", "face"):
        assert losses.LOSSES[name](compared).item() == pytest.approx(0, abs=1e-5), name
    least = losses.LOSSES["maps"](compared)
    moved = output | {name: output[name] + 0.1 * torch.rand_like(output[name]) for name in ("places", "depth")}
    moved |= {"logits": output["logits"].roll(2, dims=-1), "visible": -output["visible"], "face": -output["face"]}
    compared = losses.Compared(moved, batch)
    for name in ("places", "gaps", "sides", "gaze", "depth", "visible", "face"):
        assert losses.LOSSES[name](compared) > 0.01, name
    assert losses.LOSSES["maps"](compared) > least + 0.5


def test_a_moved_pair_costs_the_places_but_not_the_gap():
    batch = truth()
    output = perfect(batch)
    output["places"] = output["places"] + 0.05
    compared = losses.Compared(output, batch)
    assert losses.LOSSES["gaps"](compared).item() == pytest.approx(0, abs=1e-5)
    assert losses.LOSSES["places"](compared).item() == pytest.approx(16 * 0.05 * 2**0.5, rel=1e-4)


def test_irises_that_stay_behind_cost_the_gaze_alone():
    batch = truth()
    output = perfect(batch)
    output["places"] = output["places"].clone()
    output["places"][:, IRISES] += 0.05
    compared = losses.Compared(output, batch)
    assert losses.LOSSES["gaze"](compared).item() == pytest.approx(16 * 0.05 * 2**0.5, rel=1e-4)
    for name in ("gaps", "sides"):
        assert losses.LOSSES[name](compared).item() == pytest.approx(0, abs=1e-5), name


def test_what_has_no_weight_or_is_unknown_costs_nothing():
    batch = truth()
    batch |= {"weight": torch.zeros(4, COUNT), "visible": torch.full((4, COUNT), torch.nan)}
    batch["face"] = torch.full_like(batch["face"], samples.UNKNOWN)
    output = {name: torch.rand_like(value) for name, value in perfect(truth()).items()}
    compared = losses.Compared(output, batch)
    for name in ("maps", "places", "gaps", "sides", "gaze", "depth", "visible", "spread", "face"):
        assert losses.LOSSES[name](compared) == 0, name


def test_spread_is_learnt_best_where_it_is_the_distance():
    batch = truth()
    output = perfect(batch)
    output["places"] = output["places"] + torch.tensor([0.03, 0.04])
    cost = {}
    for share in (0.025, 0.05, 0.1):
        output["spread"] = torch.full((4, COUNT), float(np.log(share)))
        cost[share] = losses.LOSSES["spread"](losses.Compared(output, batch)).item()
    assert cost[0.05] == min(cost.values())


def test_mirrored_places_are_coherent():
    found = torch.rand(3, COUNT, 2)
    mirrored = torch.stack([1 - found[..., 0], found[..., 1]], dim=-1)[:, MIRROR]
    assert losses.incoherence(found, mirrored).item() == pytest.approx(0, abs=1e-6)
    assert losses.incoherence(found, found) > 0.05


def test_the_mirror_exchanges_sides():
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(COUNT))
    np.testing.assert_array_equal(MIRROR[JAW], np.arange(84, 67, -1))
    np.testing.assert_array_equal(MIRROR[IRISES], [86, 85])


# Samples and training


def test_a_sample_shows_the_point_where_its_label_lies(data, monkeypatch):
    sampler = samples.HeatmapSampler(data, recipe(Net(width=16, stacks=1, depth=2, size_px=128)))
    monkeypatch.setattr(sampler, "_spoil", lambda crop, look: crop)
    monkeypatch.setattr(samples, "OCCLUDED_SHARE", 0.0)
    batch = sampler.batch(40, 0)
    assert batch["images"].dtype == np.uint8 and batch["face"].shape == (40, 32, 32)
    checked = 0
    for image, points, weight in zip(batch["images"], batch["points"], batch["weight"], strict=True):
        spots = np.flatnonzero(weight)
        shown = image[..., 0].astype(float)
        if shown.sum() < 255 or not ({0, 16} & set(spots.tolist())):
            continue
        y, x = (np.indices(shown.shape) * shown).sum(axis=(1, 2)) / shown.sum() + 0.5
        off = np.linalg.norm(points[[0, 16]] * 128 - (x, y), axis=1)  # flipped, the point is its partner
        assert off.min() < 1.5
        checked += 1
    assert checked > 20


def test_batches_are_made_from_seed_and_number_alone(data):
    first, again = (samples.Feed(recipe(), data) for _ in range(2))
    first(0)
    for name, values in first(3).items():
        np.testing.assert_array_equal(values, again(3)[name], err_msg=name)


def test_an_occluder_hides_points_and_face(data, monkeypatch):
    sampler = samples.HeatmapSampler(data, recipe())
    whole = np.full((64, 64), 255, np.uint8)
    monkeypatch.setattr(sampler, "_occluder", lambda crop: (np.zeros_like(crop), whole))
    monkeypatch.setattr(samples, "OCCLUDED_SHARE", 1.0)
    batch = sampler.batch(4, 0)
    assert (batch["visible"] == 0).all() and (batch["face"] == 0).all()
    assert batch["weight"].max() <= samples.HIDDEN_WEIGHT


def test_a_run_ends_with_a_network_that_exports_and_comes_back(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)
    monkeypatch.setattr("tools.heatmaps.losses.Validation", lambda recipe, folder: lambda net: {"inner": 1.0})
    result = loop.train(recipe(), tmp_path / "run", data)
    known, net = checkpoint.open_network(result)
    table = export.write(net, known, tmp_path / "aligner.onnx", data)
    assert table["kind"] == "aligner" and table["size_px"] == 64
    other = Aligner(known.net).eval()
    export.read(other, tmp_path / "aligner.onnx")
    crops = torch.from_numpy(samples.Feed(known, data)(0)["images"])
    with torch.no_grad():
        torch.testing.assert_close(other(crops)["places"], net(crops)["places"], atol=1e-6, rtol=0)
    with pytest.raises(TrainingError, match="expected the weights"):
        export.read(Aligner(dataclasses.replace(known.net, stacks=1, width=24)), tmp_path / "aligner.onnx")


def test_missing_data_names_the_step_that_makes_it(tmp_path):
    with pytest.raises(TrainingError, match=r"data\.build faces"):
        samples.Feed(recipe(), tmp_path)


@pytest.mark.parametrize("wrong", ["net.block=cap", "data.shares.paintings=1", "net.width=15"])
def test_mistakes_of_a_recipe_are_reported(wrong):
    with pytest.raises(ConfigError):
        load_recipe("aligner", (wrong,))
