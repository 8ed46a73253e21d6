"""The core of all trainings: recipes, feeding, resuming, averages, starts from ONNX files."""

import csv
import dataclasses
import re
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from facet.tracker.errors import ConfigError
from facet.tracker.runtime import open_session
from facet.tracker.weights import ROOT, load_manifest
from tests.tools import training_data
from tests.tools.training_data import first_recipe, recipe
from tools import train as command
from tools.heatmaps.model import Aligner, Net
from tools.regressor.model import FaceNet
from tools.training import TrainingError, checkpoint, curves, loop, norms
from tools.training.feeding import Feeder
from tools.training.grow import grow
from tools.training.recipe import RECIPES, Schedule, from_dict, load_recipe, parts_of, recipe_names

SIZE = {**training_data.SMALL, "heads": {"a": 20}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_data.write(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fed_here(monkeypatch):
    """Batches are made without a process of their own."""
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)


# Recipes


@pytest.mark.parametrize("name", recipe_names())
def test_every_init_and_teacher_has_a_producer(name):
    known = load_recipe(name)
    shipped = {f"weights/{entry.path.name}" for entry in load_manifest(ROOT / "weights" / "manifest.toml").values()}
    averaged = set(known.average) - {"init"}
    for source in (known.init, known.scratch_init, known.teacher, known.scratch_teacher, *averaged):
        same_backbone = {known.network, "regressor"} if known.network == "autoencoder" else {known.network}
        assert not source or source in shipped or load_recipe(source).network in same_backbone, source
    assert not known.ships or known.ships in shipped
    assert from_dict(dataclasses.asdict(known)) == known


@pytest.mark.parametrize("name", recipe_names())
def test_from_scratch_no_shipped_file_is_used_and_no_recipe_needs_itself(name):
    needed, waiting = [], [name]
    while waiting:
        needed.append(waiting.pop())
        assert needed.count(needed[-1]) <= 4 and not needed[-1].endswith(".onnx")
        waiting += filter(None, command.sources(load_recipe(needed[-1]), scratch=True))


def test_every_shipped_network_names_the_recipe_that_ships_it():
    for entry in load_manifest(ROOT / "weights" / "manifest.toml").values():
        if entry.path.suffix == ".onnx":
            assert load_recipe(entry.table["recipe"]).ships == f"weights/{entry.path.name}"


WRONG = [
    ("train.sampels=3", r"\[train\]: unknown key sampels; did you mean samples\?"),
    ("losses.pionts=3", r"\[losses\]: unknown loss pionts; did you mean points\?"),
    ("data.groups.paintings=1", "unknown group paintings; known: keypoints"),
    ('net.heads=["poze"]', "unknown head poze; known: pose"),
    ('train.batch="many"', "batch must be of type int"),
    ("train.precision=float16", "precision must be float32 or bfloat16"),
    ("losses.score=true", r"losses\.score must be of type float"),
    ("losses=3", "losses must be a table"),
    ("tain.batch=3", "unknown key tain; did you mean train"),
    ("init=", r"average\.init: expected a run that starts from another"),
    ("teacher=", "a teacher and a loss of the name teacher belong together"),
]


@pytest.mark.parametrize("override, message", WRONG)
def test_a_mistake_in_a_recipe_names_the_key_and_the_nearest_one(override, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe("regressor_lids", (override,))


def test_a_recipe_that_is_missing_or_broken(tmp_path):
    with pytest.raises(ConfigError, match="did you mean regressor_lids"):
        load_recipe("regresor_lids")
    broken = tmp_path / "broken.toml"
    for text, message in (
        ("network = ", "not valid TOML"),
        ('network = "regresor"', "did you mean regressor"),
        ('network = "detector"\nlosses = {score = 1.0}', "expected a value for train"),
    ):
        broken.write_text(text)
        with pytest.raises(ConfigError, match=message) as error:
            load_recipe(broken)
        assert str(broken) in str(error.value)


def test_mistakes_on_the_command_line_are_one_line(monkeypatch, capsys, tmp_path):
    for arguments, status, message in (
        (["regresor"], 2, "did you mean regressor"),
        (["regressor_points", "--set", "train.samples=x", "--out", str(tmp_path / "a")], 2, "must be of type int"),
        (["regressor_points", "--data", str(tmp_path), "--out", str(tmp_path / "b")], 1, "tools.data.build faces"),
    ):
        monkeypatch.setattr("sys.argv", ["train", *arguments])
        assert command.main() == status
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_what_a_recipe_depends_on_is_made_first(fed_here, data, tmp_path, monkeypatch, capsys):
    small = "[net]\nwidths = [4, 8, 8, 16]\ndepths = [1, 0, 1]\nreduced = 4\nsize_px = 32\n"
    train = "[train]\nsamples = 8\nbatch = 8\nlr = 0.001\n[losses]\nscore = 1.0\n"
    for name, first in (("one", ""), ("two", 'init = "one"\n'), ("three", 'init = "two"\nteacher = "one"\n')):
        heads = 'heads = ["pose", "shape", "expression", "score"]\n'
        text = f'network = "regressor"\n{first}{small}{heads}{train}' + "teacher = 1.0\n" * (name == "three")
        (tmp_path / f"{name}.toml").write_text(text)
    monkeypatch.setattr("tools.training.recipe.RECIPES", tmp_path)
    place = command.Place(tmp_path / "runs", data)
    command.make("three", place)
    made = re.findall(r"^(\w+): 8 samples", capsys.readouterr().out, re.M)
    assert made == ["one", "two", "three"]
    command.make("two", place)
    assert "samples" not in capsys.readouterr().out  # it is there
    # a longer run goes on; what it depends on has a result, however short its own run was
    command.make("two", place, overrides=("train.samples=16",))
    assert re.findall(r"^(\w+): 16 samples", capsys.readouterr().out, re.M) == ["two"]
    (place.runs / "two" / "result.pt").unlink()
    (place.runs / "two" / "last.pt").unlink()
    (tmp_path / "one.toml").write_text((tmp_path / "one.toml").read_text().replace("samples = 8", "samples = 80"))
    command.make("two", place)
    assert "one: " not in capsys.readouterr().out


# The loop


def test_two_runs_with_one_seed_are_equal_and_a_resumed_one_continues(data, tmp_path, monkeypatch):
    runs = [tmp_path / name for name in ("whole", "parts", "other")]
    loop.train(recipe(32), runs[0], data)
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)
    # the schedule of the whole run, stopped half-way
    loop.train(recipe(32), runs[1], data, stop=16)
    assert checkpoint.load(runs[1] / "last.pt")["seen"] == 16 and not (runs[1] / "result.pt").exists()
    loop.train(recipe(32), runs[1], data)
    loop.train(recipe(32, seed=2), runs[2], data)
    whole, parts, other = (checkpoint.load(run / "result.pt")["net"] for run in runs)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(not torch.equal(whole[name], other[name]) for name in whole)


@pytest.mark.parametrize("make", [first_recipe, recipe])
def test_training_resumes_and_writes_what_it_did(fed_here, data, tmp_path, make):
    loop.train(make(24), tmp_path, data)
    first = checkpoint.load(tmp_path / "last.pt")
    assert first["seen"] == 24 and from_dict(first["recipe"]) == make(24)
    loop.train(make(40), tmp_path, data)
    second = checkpoint.load(tmp_path / "last.pt")
    assert second["seen"] == checkpoint.seen_samples(tmp_path) == 40
    with (tmp_path / "val.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seen"] for row in rows] == ["24", "40"] and float(rows[0]["nme"]) > 0
    assert any(not torch.equal(first["net"][name], second["net"][name]) for name in first["net"])
    with (tmp_path / "log.csv").open() as file:
        assert {"loss", "points", "steady"} < set(next(csv.DictReader(file)))


def test_mixed_precision_on_a_processor(fed_here, data, tmp_path):
    loop.train(recipe(16, precision="bfloat16"), tmp_path, data)
    state = checkpoint.load(tmp_path / "last.pt")
    assert all(value.dtype != torch.bfloat16 and value.isfinite().all() for value in state["net"].values())


def test_two_processes_train_one_network(data, tmp_path):
    text = (RECIPES / "regressor_points.toml").read_text()
    path = tmp_path / "small.toml"
    path.write_text(re.sub(r"widths = .*\ndepths = .*\nreduced = .*", SMALL_NET, text))
    out = tmp_path / "out"
    arguments = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tools.train", str(path)]
    arguments += ["--set", "train.samples=64", "--set", "train.batch=8", "--data", data, "--out", out]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    state = checkpoint.load(out / "last.pt")
    # four steps of two batches of eight; the first process alone writes
    assert state["seen"] == 64 and state["optimiser"]["state"][0]["step"] == 4
    assert len((out / "val.csv").read_text().splitlines()) == 2


SMALL_NET = "widths = [4, 8, 8, 16]\ndepths = [1, 0, 1]\nreduced = 4\nsize_px = 32"


def test_the_learning_rate_rises_and_falls():
    schedule = Schedule(samples=1000, batch=1, lr=2.0, warmup=100)
    rates = [loop.learning_rate(seen, schedule) for seen in (0, 50, 100, 550, 1000)]
    assert rates[0] < rates[1] < rates[2] == 2.0 > rates[3] > rates[4]
    assert rates[3] == pytest.approx(2 * (0.01 + 0.99 / 2)) and rates[4] == pytest.approx(0.02)


def test_the_average_follows_weights_and_statistics():
    net, average = FaceNet(**SIZE), FaceNet(**SIZE)
    average.load_state_dict(net.state_dict())
    with torch.no_grad():
        net.heads["a"].bias += 1.0
    net.train()(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    loop.follow(average, net, 0.75)
    assert average.heads["a"].bias[0].item() == pytest.approx(0.25)
    tracked = [name for name in net.state_dict() if name.endswith("num_batches_tracked")]
    assert tracked and all(average.state_dict()[name] == 1 for name in tracked)


def test_a_result_is_averaged_with_others_and_its_statistics_are_taken_anew(fed_here, data, tmp_path):
    loop.train(recipe(16), tmp_path / "one", data)
    loop.train(recipe(16, seed=2), tmp_path / "two", data)
    one, two = (checkpoint.load(tmp_path / name / "result.pt")["net"] for name in ("one", "two"))
    mixed = loop.train(recipe(16), tmp_path / "mixed", data, average={tmp_path / "two" / "result.pt": 3.0})
    state = checkpoint.load(mixed)["net"]
    weight = "heads.score.weight"
    torch.testing.assert_close(state[weight], 0.25 * one[weight] + 0.75 * two[weight])
    _, net = checkpoint.open_network(mixed)
    inputs = []
    norm = net.backbone.body[0][1]
    norm.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    with torch.no_grad():
        for images in loop.some_images(recipe(16), data, "cpu"):
            net(images)
    expected = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, expected, atol=1e-4, rtol=1e-4)


# Starts


@pytest.mark.parametrize("file", ["regressor.onnx", "regressor_large.onnx"])
def test_a_start_from_a_shipped_file_gives_equal_outputs(data, file):
    _, net = checkpoint.open_network(ROOT / "weights" / file)
    images = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), np.uint8)
    (expected,) = open_session(ROOT / "weights" / file).run(crops=images)

    def error():
        with torch.no_grad():
            return np.abs(torch.cat(list(net(torch.from_numpy(images)).values()), 1).numpy() - expected).max()

    assert error() < 1e-3
    some = [
        torch.from_numpy(part) for part in np.random.default_rng(1).integers(0, 256, (3, 16, 112, 112, 3), np.uint8)
    ]
    norms.keep_function(net, some)
    assert error() < 1e-3
    # in training mode, which norms by the batch's own statistics, it starts close to there
    with torch.no_grad():
        before, after = (torch.cat(list(mode(some[0]).values()), 1) for mode in (net.eval(), net.train()))
    assert (after - before).abs().mean() < 0.1 * before.abs().mean()
    statistics = [norm.running_var for norm in net.modules() if isinstance(norm, torch.nn.BatchNorm2d)]
    assert all((values - 1).abs().max() > 0.01 for values in statistics)


def test_a_run_that_starts_from_a_shipped_file_has_its_outputs(fed_here, data, tmp_path):
    shipped = load_recipe("regressor_lids", ("train.samples=4", "train.batch=4", "train.lr=0.0"))
    own = dataclasses.replace(shipped, teacher="", losses={"score": 1.0})
    result = loop.train(own, tmp_path, data, init=ROOT / "weights" / "regressor.onnx")
    images = np.random.default_rng(0).integers(0, 256, (4, 112, 112, 3), np.uint8)
    state = checkpoint.load(tmp_path / "last.pt")
    _, net = checkpoint.open_network(result)
    # weights have not moved; what the one step did to the statistics is undone
    with torch.no_grad():
        loop.start_from(net, ROOT / "weights" / "regressor.onnx", own, data)
    for name, value in net.named_parameters():
        torch.testing.assert_close(value, state["net"][name], atol=1e-6, rtol=1e-6)
    (expected,) = open_session(ROOT / "weights" / "regressor.onnx").run(crops=images)
    with torch.no_grad():
        found = torch.cat(list(net.eval()(torch.from_numpy(images)).values()), 1).numpy()
    assert np.abs(found - expected).max() < 1e-3


def test_a_file_of_another_network_is_refused(tmp_path):
    net = FaceNet(**SIZE)
    with pytest.raises(TrainingError, match="expected layers of shapes"):
        parts_of("regressor").export.read(net, ROOT / "weights" / "regressor.onnx")
    (tmp_path / "damaged.pt").write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match="expected a checkpoint"):
        checkpoint.open_network(tmp_path / "damaged.pt")


def test_a_larger_network_begins_where_the_small_one_ended():
    torch.manual_seed(1)
    small, large = FaceNet(**SIZE), FaceNet(**SIZE | {"widths": [6, 12, 12, 24]})
    crops = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    torch.nn.init.normal_(small.heads["a"].weight)
    small.train()(crops)
    before = large.eval()(crops)["a"]
    grow(large, small.state_dict())
    wanted, got = small.eval()(crops)["a"], large(crops)["a"]
    assert (got - wanted).abs().mean() < 0.2 * wanted.abs().mean() < (before - wanted).abs().mean()


def test_a_narrower_network_begins_as_a_part_of_the_wide_one():
    wide, narrow = (Aligner(Net(width, 1, 2, size_px=size)) for width, size in ((32, 64), (16, 32)))
    cells = narrow.cells.clone()
    grow(narrow, wide.state_dict())
    torch.testing.assert_close(narrow.stem[1][0].weight, wide.stem[1][0].weight[:8, :4])
    torch.testing.assert_close(narrow.stacks.maps[0].weight, wide.stacks.maps[0].weight[:, :16])
    torch.testing.assert_close(narrow.summary, wide.summary[..., :16])
    assert torch.equal(narrow.cells, cells)  # of its own size


def test_only_fitting_weights_are_taken_over():
    with_points, net = FaceNet(**SIZE | {"heads": {"points": 136}}), FaceNet(**SIZE)
    before = net.heads["a"].weight.detach().clone()
    grow(net, with_points.state_dict())
    taken, given = net.backbone.state_dict(), with_points.backbone.state_dict()
    assert all(torch.equal(taken[name], given[name]) for name in given)
    assert torch.equal(net.heads["a"].weight, before)


# Feeding


def test_batches_come_in_the_order_of_their_numbers_from_any_number_of_processes(data):
    known = recipe(64)
    feed = parts_of("regressor").data.Feed(known, data)
    for processes in (1, 3):
        with Feeder(known, data, first=1, step=2, processes=processes) as feeder:
            for number in (1, 3, 5, 7):
                found, expected = feeder.next(), feed(number)
                assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_feeding_process_that_fails_ends_the_training(data, tmp_path):
    with Feeder(recipe(8), tmp_path) as feeder, pytest.raises(TrainingError, match="has ended"):
        feeder.next()


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


def test_curves_show_every_column(tmp_path):
    (tmp_path / "log.csv").write_text("seen,loss,points\n10,1.0,0.5\n20,0.5,0.4\n", encoding="utf-8")
    curves.draw(tmp_path)
    two = cv2.imread(str(tmp_path / "curves.png"))
    (tmp_path / "val.csv").write_text("seen,nme\n20,3.0\n", encoding="utf-8")
    curves.draw(tmp_path)
    three = cv2.imread(str(tmp_path / "curves.png"))
    assert three.shape[1] > two.shape[1] > 300 and (two.min(axis=2) < 100).any()
