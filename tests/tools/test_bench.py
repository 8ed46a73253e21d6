"""The benchmarks measure what they say; how long anything takes is not tested."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.types import Box, Frame
from tests.clips import make_clip
from tests.conftest import ROOT, material
from tests.upstream import upstream_weights
from tools import warm
from tools.bench import parts, program
from tools.bench.__main__ import soak_table, table
from tools.bench.common import default_config, machine, median_of, times_ms, write_json
from tools.bench.live import PlayedCamera


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("bench") / "clip.mp4", 20)


def frames_of(count):
    return [Frame(i, i / 30, np.full((6, 8, 3), i, np.uint8)) for i in range(count)]


def test_functions_take_turns_and_warming_is_not_counted():
    called = []
    taken = times_ms({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, runs=13, warm=2)
    assert "".join(called) == "aabb" + 10 * "a" + 10 * "b" + "aaabbb"
    assert {name: len(values) for name, values in taken.items()} == {"a": 13, "b": 13}
    assert (taken["a"] >= 0).all()


def test_medians_are_taken_figure_by_figure():
    runs = [{"fps": 10.0, "mb": 1.0}, {"fps": 30.0, "mb": None}, {"fps": 20.0, "mb": 3.0}]
    assert median_of(runs) == {"fps": 20.0, "mb": None}


def test_results_carry_machine_and_versions(tmp_path):
    write_json(tmp_path / "x.json", {"start_up": {"ours": 0.5}})
    reported = json.loads((tmp_path / "x.json").read_text())
    assert reported["start_up"] == {"ours": 0.5}
    assert reported["machine"]["cores"] == machine()["cores"]
    assert reported["machine"]["packages"]["numpy"] == np.__version__


def test_frames_go_there_and_back_without_a_cut():
    images = parts.there_and_back(frames_of(4))
    assert [next(images).image[0, 0, 0] for _ in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]


def test_the_played_camera_keeps_its_pace():
    camera = PlayedCamera(frames_of(3))
    camera._due_s -= 1.0  # a camera whose frames nobody took in time does not wait
    assert [camera.read()[1][0, 0, 0] for _ in range(4)] == [0, 1, 2, 1]
    assert camera.isOpened()


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_faces_are_repeated_beside_each_other(count):
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:120, 130:170] = 255
    picture = parts.repeated(Frame(0, 0.0, image), Box(130, 80, 170, 120, 1.0), count).image
    assert picture.shape == (720, 1280, 3)
    white = (picture > 172).all(axis=2)  # grey is 90
    assert white.sum() == pytest.approx(count * parts.FACE_IN_TILE_PX**2, rel=0.04)
    for i in range(count):
        assert white[180 + i // 4 * 360, 160 + i % 4 * 320], i


def test_the_table_tells_ratios_and_leaves_out_what_was_not_measured():
    text = table({"tracked_face": {"ours_p50_ms": 1.0, "ours_p99_ms": 2.0, "upstream_p50_ms": 4.0}})
    assert text.count("\n") == 2
    assert "| 1.00 ms | 0.25 |" in text
    assert "| 1.00 ms |  |" in table({"tracked_face": {"ours_p50_ms": 1.0, "ours_p99_ms": 2.0}})


def test_the_soak_is_compared_with_frames_without_detection():
    row = {"n": 10, "p50_ms": 2.0, "p99_ms": 4.0, "max_ms": 9.0}
    profile = {"stages": {"step": row, "step_detect": row | {"p99_ms": 7.0}, "frame": {"n": 20}}, "dropped_frames": 1}
    text = soak_table(
        {"seconds": 600, "cpu_share": 0.2, "resident_mb": 250.0, "growth_mb": 1.25, "threads_left": [],
         "handles_left": 0, "profile": profile}
    )  # fmt: skip
    assert "+1.2 MB" in text
    assert "2.0 x the p50" in text
    assert "3.5 x the p50" in text
    assert "threads none" in text


def test_frames_with_a_detection_are_left_out(networks):
    config = load_config(AppConfig, default_config(), ["tracker.max_faces=1"])
    steps = parts.steps_on(frames_of(3), config)
    assert len(steps.detected) == 10
    assert all(steps.detected), "where no face is the detector runs in every frame"
    assert len(steps.without_detection(np.ones(4))) == 0
    steps.detected[-2] = False
    assert steps.without_detection(np.array([1.0, 2.0, 3.0])).tolist() == [2.0]


def test_upstream_is_followed_as_its_authors_do():
    upstream_weights("mb05_120x120.onnx")
    frames = parts.read_frames(material("media", "videos", "s32.mp4"), 6)
    step = parts.upstream_step(frames)
    x, y = 0.0, 0.0
    for _ in range(12):
        landmarks = step()
        last, (x, y) = (x, y), landmarks[:, :2].mean(axis=0)
    assert landmarks.shape == (68, 3)
    assert 0 < x < 1280
    assert 0 < y < 720
    assert abs(x - last[0]) + abs(y - last[1]) < 40


def test_upstreams_own_way_finds_the_points_that_our_loop_finds():
    upstream_weights("mb05_120x120.onnx")
    pytest.importorskip("onnx")
    frames = parts.read_frames(material("media", "videos", "s32.mp4"), 6)
    here, own = parts.upstream_step(frames), parts.upstream_program(frames)
    for step in range(6):
        points, others = here()[:, :2], own()[:2].T + 0.5
        if step:  # the first starts from a box in one, from landmarks in the other
            assert np.abs(points - others).mean() < 1.5


def test_a_run_of_the_program_is_measured(networks, clip):
    run = program.run_app(clip, ROOT, ["--max-frames", "5"])
    assert run["frames"] == 5
    assert run["profile"]["stages"]["frame"]["n"] == 5
    assert run["profile"]["detector_share"] == 1.0, "no face, so the detector runs in every frame"
    assert run["profile"]["start_up_s"] is None
    assert run["profile"]["dropped_frames"] == 0
    assert run["resident_mb"] is None or 50 < run["resident_mb"] < 2000


def test_a_run_that_fails_says_why(networks, tmp_path):
    with pytest.raises(SystemExit, match="nowhere"):
        program.run_app(tmp_path / "nowhere.mp4", ROOT, [])


def test_a_live_session_leaves_nothing_behind(networks, clip):
    done = program.live(clip, 1.5, draw=True)
    assert done["threads_left"] == []
    assert done["handles_left"] in (0, None)
    assert done["profile"]["stages"]["frame"]["n"] == 45
    assert done["profile"]["delay"]["n"] == 45
    assert 0 <= done["profile"]["delay"]["p50_ms"] < 10_000
    assert done["growth_mb"] is None


def test_the_program_tells_the_table(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tools.bench", "--only", "dense", "--runs", "1", "--json", str(tmp_path / "x.json")],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    if "expected networks" in done.stderr:
        pytest.skip("no networks")
    assert done.returncode == 0, done.stderr
    assert "| dense vertices of one face |" in done.stdout
    assert json.loads((tmp_path / "x.json").read_text())["dense"]["vertices"] > 5000


def test_every_kernel_is_warmed():
    warm.main()
    kernels = our_kernels()
    assert len(kernels) > 10
    # those that others call are compiled with them
    inner = {name for k in kernels for name in k.py_func.__code__.co_names}
    assert [k.py_func.__qualname__ for k in kernels if not k.signatures and k.py_func.__name__ not in inner] == []


def test_tracking_needs_no_other_kernel_than_the_warmed_ones(networks):
    warm.main()
    before = {k: len(k.signatures) for k in our_kernels()}
    steps = parts.steps_on(parts.read_frames(ROOT / "samples" / "demo.mp4"), load_config(AppConfig, default_config()))
    steps.tracker.with_vertices = True
    steps()
    assert steps.faces
    grown = [k.py_func.__qualname__ for k in our_kernels() if len(k.signatures) > before.get(k, 0)]
    assert grown == []


def our_kernels() -> list[Dispatcher]:
    found = [found for found in gc.get_objects() if issubclass(type(found), Dispatcher)]  # proxies of the dead raise
    return [k for k in found if k.py_func.__module__.split(".")[0] == "facet"]
