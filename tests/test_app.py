"""app.py from end to end, as a user starts it: what comes out, and how each mistake is reported."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from app import main
from facet.keys import save_snapshot
from facet.tracker.errors import SinkError
from facet.tracker.types import Frame
from tests.arkit import ARKIT
from tests.clips import ffmpeg
from tests.conftest import ROOT, material
from tests.program import APP, PARTIAL_LOG, assert_one_line, interrupted_run, records, run
from tests.render.sinks.test_animation import read, turned
from tests.tracker.outputs.clip import logged_rotation


@pytest.fixture(scope="session")
def empty_clip(tmp_path_factory):
    """Forty frames of 29.97 fps with nobody in them."""
    path = tmp_path_factory.mktemp("clips") / "empty.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30000 / 1001, (160, 120))
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (4, 5, 3)).astype(np.uint8), (160, 120))
    for _ in range(40):
        writer.write(picture)
    writer.release()
    return path


# What works


def test_version_and_help():
    assert run("--version").stdout.startswith("facet ")
    text = run("--help").stdout
    assert "--renderer" in text and "app.py -f video.mp4 -o out.mp4" in text
    assert max(map(len, text.splitlines())) <= 100


def test_print_config_reads_back(tmp_path):
    done = run("--print-config", "--set", "detector.min_score=0.75", "--faces", "2")
    assert done.returncode == 0
    assert "min_score = 0.75" in done.stdout
    assert "max_faces = 2" in done.stdout
    path = tmp_path / "c.toml"
    path.write_text(done.stdout, encoding="utf-8")
    assert run("--print-config", "--config", path).stdout == done.stdout


def test_nobody_there_ends_well_and_honestly(networks, empty_clip, tmp_path):
    out, log = tmp_path / "out.mp4", tmp_path / "log.jsonl"
    done = run("-f", empty_clip, "-o", out, "--log", log, *networks)
    assert done.returncode == 0, done.stderr
    assert "no face" in done.stdout
    assert [record["faces"] for record in records(log)] == [[]] * 40
    capture = cv2.VideoCapture(str(out))
    count = 0
    while capture.read()[0]:
        count += 1
    assert count == 40
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(29.97, abs=0.01)
    assert not list(tmp_path.glob("*partial*"))


def test_a_file_that_is_cut_off_is_reported(networks, empty_clip, tmp_path):
    whole, part, log = tmp_path / "whole.mkv", tmp_path / "part.mkv", tmp_path / "log.jsonl"
    ffmpeg("-i", empty_clip, "-c", "copy", whole)
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = run("-f", part, "--log", log, *networks)
    count = len(records(log))
    assert done.returncode == 0 and 0 < count < 36
    assert f"part.mkv: the file ends early; {count} frames of it are left" in done.stderr
    for args in (("-f", whole), ("-f", part, "--max-frames", "2")):
        done = run(*args, "--log", log, *networks)
        assert done.returncode == 0 and "ends early" not in done.stderr


def test_record_of_a_frame(networks, tmp_path):
    image = material("media", "images", "JianzhuGuo.jpg")
    log = tmp_path / "log.jsonl"
    done = run("-f", image, "--log", log, *networks)
    assert done.returncode == 0, done.stderr
    (record,) = records(log)
    assert (record["width"], record["height"], record["frame"]) == (413, 551, 0)
    assert record["source"].endswith("JianzhuGuo.jpg")
    (face,) = record["faces"]
    assert set(face) == {
        "id", "state", "score", "box", "detected", "pose", "translation_mm", "landmarks", "irises",
        "blendshapes",
    }  # fmt: skip
    points = np.array(face["landmarks"])
    assert points.shape == (68, 3)
    np.testing.assert_allclose(face["box"], [*points[:, :2].min(0), *points[:, :2].max(0)], atol=1e-3)
    assert 140 < points[30, 0] < 260
    assert 180 < points[30, 1] < 280
    assert abs(face["pose"]["yaw_deg"]) < 30
    assert set(face["blendshapes"]) == ARKIT - {"tongueOut"}
    assert face["irises"] is None  # the network gives none


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_say_what_the_lines_say(networks, tmp_path, suffix):
    image = material("media", "images", "trump_hillary.jpg")
    lines, table = tmp_path / "log.jsonl", tmp_path / f"log.{suffix}"
    for log in (lines, table):
        done = run("-f", image, "--log", log, *networks)
        assert done.returncode == 0, done.stderr
    if suffix == "csv":
        with open(table, newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    else:
        found = pytest.importorskip("pyarrow.parquet").read_table(table).to_pylist()
    faces = records(lines)[0]["faces"]
    assert [int(row["id"]) for row in found] == [face["id"] for face in faces] == [1, 2]
    for row, face in zip(found, faces, strict=True):
        assert float(row["landmarks.30.x"]) == face["landmarks"][30][0]
        assert float(row["blendshapes.jawOpen"]) == face["blendshapes"]["jawOpen"]


@contextlib.contextmanager
def listener(scheme):
    """The URL of a receiver, and the list that what it receives goes to: when, and what."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(1)

        def listen():
            while True:
                try:
                    found.append((time.monotonic(), receiver.recv(65535)))
                except TimeoutError:  # nothing for a second
                    if ended.is_set():
                        return

        ended = threading.Event()
        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{receiver.getsockname()[1]}", found
        finally:
            ended.set()
            thread.join()


def test_other_programs_get_every_frame_in_time(networks, tmp_path):
    """An avatar program gets each frame's face when the video is there, not as fast as it can be tracked."""
    log, clip = tmp_path / "log.jsonl", ROOT / "samples" / "demo.mp4"
    with listener("osc") as (vmc, heads), listener("osf") as (osf, faces):
        send = ["--send", vmc, "--send", osf]
        done = run("-f", clip, "--max-frames", "45", "--no-window", "--log", log, *send, *networks)
    assert done.returncode == 0, done.stderr
    frames = records(log)
    assert sum(bool(record["faces"]) for record in frames) == len(faces) > 40
    heads = [(at_s, packet) for at_s, packet in heads if b"/VMC/Ext/T" in packet]
    assert len(heads) == len(frames) == 45
    arrived_s, time_s = (np.array(times) for times in ([at_s for at_s, _ in heads], [r["time_s"] for r in frames]))
    assert ((arrived_s - arrived_s[0]) >= time_s - time_s[0] - 0.5).all()  # a busy machine is late, nothing is early


def test_sending_that_fails_is_reported_when_interrupted_too(networks, tmp_path):
    url = "osc://[fe80::1%lo]:9"  # an address that no packet can go to
    options = ["-f", ROOT / "samples" / "demo.mp4", "--no-window", "--quiet", "--send", url, *networks]
    whole = run(*options, "--max-frames", "3")
    if whole.returncode == 0 or "not known here" in whole.stderr:
        pytest.skip("this machine's network sends there, or knows no such address")
    assert_one_line(whole, 1, url, "6 of 6 packets", "check")
    log = tmp_path / "log.jsonl"
    status, reported = interrupted_run([*APP, *options, "--log", log], log, signal.SIGINT, after_s=2)
    assert status == 130
    assert "could not be sent" in reported and "interrupted" in reported


def test_receivers_that_are_none(empty_clip, networks):
    assert_one_line(
        run("-f", empty_clip, "--send", "localhost:39539", *networks), 2, "localhost:39539", "SCHEME://host:port"
    )
    unknown = run("-f", empty_clip, "--no-window", "--send", "osc://no-such-host.invalid:1", *networks)
    assert_one_line(unknown, 1, "no-such-host.invalid")


def test_a_virtual_camera_without_its_library(empty_clip, networks, tmp_path, monkeypatch):
    (tmp_path / "pyvirtualcam.py").write_text("raise ImportError('not here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("-f", empty_clip, "--no-window", "--virtual-camera", *networks)
    assert_one_line(done, 2, "--virtual-camera", "pip install")


@pytest.mark.parametrize("option", [["--send", "osc://127.0.0.1:9"], ["--virtual-camera"]])
def test_images_are_not_sent(option, networks, tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((90, 90, 3), 128, np.uint8))
    assert_one_line(run("-f", tmp_path, "-o", tmp_path / "drawn", *option, *networks), 2, option[0], "images")
    assert not (tmp_path / "drawn").exists()


def test_a_virtual_camera_shows_what_a_file_would(networks, tmp_path, monkeypatch):
    """A library that stands in for pyvirtualcam keeps what it is given."""
    (tmp_path / "pyvirtualcam.py").write_text(
        "import pathlib\nimport numpy as np\n"
        "class PixelFormat:\n    BGR = 'bgr'\n"
        "class Camera:\n    device = 'a stand-in'\n"
        "    def __init__(self, width, height, fps, fmt):\n        self.pictures = []\n"
        "    def send(self, picture):\n        self.pictures.append(picture.copy())\n"
        "    def close(self):\n        np.savez(pathlib.Path(__file__).with_name('given.npz'), self.pictures)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    clip = ROOT / "samples" / "demo.mp4"
    drawn = ["--max-frames", "5", "--no-window", "--view", "mesh", "--renderer", "cpu"]
    done = run("-f", clip, "--virtual-camera", *drawn, *networks)
    assert done.returncode == 0, done.stderr
    assert "virtual camera: a stand-in" in done.stdout
    given = np.load(tmp_path / "given.npz")["arr_0"]
    assert run("-f", clip, "-o", tmp_path / "drawn", *drawn, *networks).returncode == 0
    files = sorted((tmp_path / "drawn").iterdir())
    assert len(files) == len(given) == 5
    for file, picture in zip(files, given, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(file)), picture)


def test_a_still_and_its_depth(networks, tmp_path):
    image = material("media", "images", "trump_hillary.jpg")
    out = tmp_path / "out.png"
    done = run("-f", image, "-o", out, "--view", "depth", *networks)
    assert done.returncode == 0, done.stderr
    assert "2 faces" in done.stdout
    drawn, depth = cv2.imread(str(out)), cv2.imread(str(tmp_path / "out_depth.png"), cv2.IMREAD_UNCHANGED)
    assert drawn.shape == cv2.imread(str(image)).shape
    assert depth.dtype == np.uint16
    assert depth.shape == drawn.shape[:2]
    assert 0.01 < (depth > 0).mean() < 0.5


def test_faces_of_a_still_as_meshes(networks, tmp_path):
    done = run("-f", material("media", "images", "trump_hillary.jpg"), "--export", tmp_path / "heads", *networks)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "heads").iterdir())
    assert names == sorted(f"trump_hillary_{k}.{kind}" for k in (1, 2) for kind in ("glb", "mtl", "obj", "ply", "png"))


def test_the_face_of_a_frame_as_a_mesh(networks, tmp_path):
    out = tmp_path / "heads"
    done = run("-f", ROOT / "samples" / "demo.mp4", "--export", out, "--at", 5, *networks)
    assert done.returncode == 0, done.stderr
    assert "6 frames" in done.stdout  # nothing else was asked for
    assert (out / "demo_000005_1.glb").stat().st_size > 1e6
    assert cv2.imread(str(out / "demo_000005_1.png")).std() > 10


def test_the_faces_of_a_video_as_animated_heads(networks, tmp_path):
    out, log = tmp_path / "heads", tmp_path / "log.jsonl"
    options = ["--max-frames", 20, "--export", out, "--log", log]
    done = run("-f", ROOT / "samples" / "demo.mp4", *options, *networks)
    assert done.returncode == 0, done.stderr
    (path,) = out.iterdir()
    seen = [(record["time_s"], face) for record in records(log) for face in record["faces"]]
    times, keys, _ = read(path)
    assert path.name == "demo_1.glb" and len(seen) > 15
    np.testing.assert_allclose(times, [time_s for time_s, _ in seen], atol=1e-6)
    focal_px = 320 / np.tan(np.radians(30))  # 640 x 480, 60 degrees
    for place, (_, face) in zip(1000 * keys["translation"].astype(float), seen, strict=True):
        middle, pose = np.mean(face["landmarks"][17:], axis=0), face["pose"]
        x, y, z = place + (middle - pose["translation_px"]) / pose["scale_px_per_mm"] * (1, -1, 1)
        sees = 320 - focal_px * x / z, 240 + focal_px * y / z
        np.testing.assert_allclose(sees, middle[:2], atol=0.5)  # a camera of glTF has the face where the video has it
    np.testing.assert_allclose(turned(keys["rotation"]), [logged_rotation(face) for _, face in seen], atol=1e-4)
    assert keys["weights"].min() >= 0 and keys["weights"].max() <= 1 and np.ptp(keys["weights"], axis=0).max() > 0.01


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ([], 1, ["found no face"]),
        (["--at", 900], 1, ["no frame 900, the last is 39"]),
        (["--at", 0], 1, ["found no face in frame 0"]),
    ],
)
def test_exports_that_cannot_be(networks, empty_clip, tmp_path, options, status, words):
    assert_one_line(run("-f", empty_clip, "--export", tmp_path / "heads", *options, *networks), status, *words)


def test_a_folder_of_images(networks, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("JianzhuGuo.jpg", "emma.jpg"):
        (folder / name).write_bytes(material("media", "images", name).read_bytes())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 this is no picture")
    done = run("-f", folder, "-o", tmp_path / "drawn", "--log", tmp_path / "log.jsonl", *networks)
    assert done.returncode == 1
    assert "broken.jpg" in done.stderr
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["JianzhuGuo.jpg", "emma.jpg"]
    assert [record["faces"][0]["id"] for record in records(tmp_path / "log.jsonl")] == [1, 1], (
        "each still is taken alone"
    )


def test_a_real_clip_is_tracked_in_every_frame(networks, tmp_path):
    clip = material("media", "videos", "s32.mp4")
    out, log, trace = tmp_path / "out.mp4", tmp_path / "log.jsonl", tmp_path / "trace.json"
    done = run("-f", clip, "-o", out, "--log", log, "--profile", trace, "--max-frames", 45, *networks)
    assert done.returncode == 0, done.stderr
    lines = records(log)
    assert [line["frame"] for line in lines] == list(range(45))
    assert all(len(line["faces"]) == 1 and line["faces"][0]["id"] == 1 for line in lines)
    stages = json.loads(trace.read_text())["otherData"]["stages"]
    assert {
        "read",
        "detect",
        "crop",
        "regress",
        "model",
        "update",
        "step",
        "step_detect",
        "draw",
        "write",
        "frame",
    } <= set(stages)
    assert stages["frame"]["n"] == 45
    assert stages["step"]["n"] + stages["step_detect"]["n"] == 45
    assert "p95" in done.stdout


def test_raw_frames_on_stdin(networks, tmp_path):
    log = tmp_path / "log.jsonl"
    frames = np.full((3, 48, 64, 3), 90, np.uint8).tobytes()
    done = run("-f", "-", "--set", "source.size=64x48", "--set", "source.fps=25", "--log", log, *networks, stdin=frames)
    assert done.returncode == 0, done.stderr
    assert [record["time_s"] for record in records(log)] == pytest.approx([0, 0.04, 0.08])


def test_interrupted_output_is_playable(networks, empty_clip, tmp_path):
    long = tmp_path / "long.mp4"
    writer = cv2.VideoWriter(str(long), cv2.VideoWriter_fourcc(*"mp4v"), 30, (640, 480))
    for index in range(3000):
        writer.write(np.full((480, 640, 3), index % 250, np.uint8))
    writer.release()
    out, log = tmp_path / "out.mp4", tmp_path / "log.jsonl"
    command = [*APP, "-f", long, "-o", out, "--log", log, *networks]
    status, errors = interrupted_run(command, log, signal.SIGINT, after_s=1.0)
    assert status == 130, errors
    assert "Traceback" not in errors
    count, capture = 0, cv2.VideoCapture(str(out))
    while capture.read()[0]:
        count += 1
    assert 0 < count <= 3000
    assert len(records(log)) >= count - 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_while_the_libraries_load(tmp_path):
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*APP, "--version"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("signals", [("SIGINT",) * 4, ("SIGTERM",), ("SIGHUP",)])
def test_impatience_does_not_spoil_the_output(signals, networks, tmp_path):
    endless = "import sys\nwhile True: sys.stdout.buffer.write(bytes(640 * 480 * 3))"
    out = tmp_path / "out.mp4"
    with subprocess.Popen([sys.executable, "-c", endless], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as sender:
        process = subprocess.Popen(
            [*APP, "-f", "-", "--set", "source.size=640x480", "--set", "source.fps=30", "-o", str(out),
             "--log", str(tmp_path / "log.jsonl"), *map(str, networks)],
            stdin=sender.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which nohup has tests ignore
        )  # fmt: skip
        deadline = time.monotonic() + 60
        try:
            while not any(log.stat().st_size for log in tmp_path.glob(PARTIAL_LOG)) and time.monotonic() < deadline:
                time.sleep(0.05)
            for name in signals:
                process.send_signal(getattr(signal, name))
                time.sleep(0.03)
            _, errors = process.communicate(timeout=60)
        finally:  # a process that goes on must not keep the sender, and the test, for ever
            process.kill()
            sender.kill()
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert cv2.VideoCapture(str(out)).read()[0]


# What goes wrong


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["expected an input", "-f SOURCE", "--webcam"]),
        (["-f", "x.mp4", "--webcam"], ["expected one input", "leave one of them out"]),
        (["x.mp4"], ["app.py -f x.mp4"]),
        (["x.mp4", "-o", "y.mp4"], ["app.py -f x.mp4"]),
        (["-f", "x.mp4", "y.mp4", "z.mp4"], ["y.mp4", "-f"]),
        (["--webcam", "-1"], ["--webcam", "--list-cameras"]),
        (["-f", "x.mp4", "--max-frames", "0"], ["--max-frames"]),
        (["-f", "x.mp4", "--start", "-1"], ["--start"]),
        (["-f", "x.mp4", "--at", "5"], ["--at", "--export"]),
        (["-f", "x.mp4", "--export", "d", "--at", "5", "--max-frames", "5"], ["below --max-frames"]),
        (["-f", "x.mp4", "--faces", "0"], ["--faces"]),
        (["-f", "x.mp4", "--faces", "two"], ["--faces", "whole number", "two"]),
        (["-f", "x.mp4", "--start", "0:10"], ["--start", "seconds", "0:10"]),
        (["--webcam", "front"], ["--webcam", "whole number", "front"]),
        (["-f"], ["-f", "expected one argument"]),
        (["-f", "x.mp4", "-o", ""], ["empty"]),
        (["-f", "x.mp4", "--renderer", "vulkan"], ["vulkan"]),
        (["-f", "x.mp4", "--nonsense"], ["--nonsense", "--help"]),
        (["-f", "x.mp4", "--fases", "2"], ["--fases", "did you mean --faces?"]),
    ],
)
def test_wrong_options(options, words, capsys):
    assert main(options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in words:
        assert word in line


def test_outside_its_environment(tmp_path):
    """A Python without facet's libraries."""
    alone = [sys.executable, "-I", "-S", str(ROOT / "app.py"), "--help"]
    done = subprocess.run(alone, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert_one_line(done, 1, "make setup", sys.executable)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--view", "mesh,fog"], ["fog", "known"]),
        (["-o", "out.gif"], ["out.gif", ".mp4"]),
        (["-o", "out.png"], ["out.png", "folder", "--max-frames 1"]),
        (["--log", "log.txt"], [".jsonl", ".csv", ".parquet"]),
        (["--profile", "trace.txt"], [".json"]),
        (["--set", "tracker.max_face=3"], ["max_faces"]),
        (["--set", "tracker.max_faces=0"], ["at least 1"]),
        (["--set", "nonsense"], ["a.b=value"]),
        (["--config", "no-such.toml"], ["no-such.toml"]),
        (["--set", 'runtime.providers=["NoSuchProvider"]', "--log", "x.jsonl"], ["NoSuchProvider"]),
    ],
)
def test_wrong_settings(options, words, networks, empty_clip):
    if "--config" in options:
        networks = []
    assert_one_line(run("-f", empty_clip, *networks, *options), 2, *words)


@pytest.mark.parametrize(
    ("count", "options", "words"),
    [
        (1, ["-o", "out.mp4"], ["out.mp4", "a folder for images"]),
        (2, ["-o", "out.png"], ["out.png", "a folder for 2 images"]),
        (1, ["--export", "heads", "--at", "0"], ["--at 0", "only for a video"]),
    ],
)
def test_wrong_outputs_for_images(count, options, words, networks, tmp_path, monkeypatch):
    for k in range(count):
        cv2.imwrite(str(tmp_path / f"grey{k}.png"), np.full((90, 90, 3), 128, np.uint8))
    monkeypatch.setattr("tests.program.ROOT", tmp_path)  # the working folder
    assert_one_line(run("-f", tmp_path, *options, *networks), 2, *words)
    assert len(list(tmp_path.iterdir())) == count


def test_raw_frames_without_a_size():
    assert_one_line(run("-f", "-", "--log", "x.jsonl"), 2, "source.size")


def test_a_log_needs_no_display_that_answers(networks, empty_clip, tmp_path):
    log = tmp_path / "log.jsonl"
    done = run("-f", empty_clip, "--max-frames", 3, "--log", log, *networks, display=":77")
    assert done.returncode == 0, done.stderr
    assert len(records(log)) == 3


def test_missing_file(networks):
    assert_one_line(run("-f", "no-such.mp4", "--log", "x.jsonl", *networks), 1, "no-such.mp4")


def test_no_video(networks, tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("this is no video")
    assert_one_line(run("-f", path, "-o", tmp_path / "o.mp4", *networks), 1, "text.mp4")
    assert not (tmp_path / "o.mp4").exists()


def test_output_into_a_missing_folder(networks, empty_clip, tmp_path):
    assert_one_line(run("-f", empty_clip, "-o", tmp_path / "none" / "o.mp4", *networks), 1, "none")


def test_output_onto_the_input(networks, empty_clip):
    before = empty_clip.read_bytes()
    assert_one_line(run("-f", empty_clip, "-o", empty_clip, *networks), 2, "would replace the input")
    assert empty_clip.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="links")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-f clip.mp4 -o soft.mp4", "-o soft.mp4: would replace the input clip.mp4"),
        ("-f clip.mp4 -o hard.mp4 --log new.jsonl", "-o hard.mp4: would replace the input clip.mp4"),
        ("-f clip.mp4 --log clip.jsonl", "--log clip.jsonl: would replace the input clip.mp4"),
        ("-f clip.mp4 --log new.jsonl --profile clip.json", "--profile clip.json: would replace the input clip.mp4"),
        ("-f clip.mp4 --config set.toml --log set.csv", "--log set.csv: would replace the input set.toml"),
        ("-f clip.mp4 --log manifest.csv", "would replace the input"),
        ("-f clip.mp4 -o both.mp4 --log both.jsonl", "is the file of --log, too"),
        ("-f d -o d", "the output would replace the input d/"),
        ("-f d/*.bmp -o d", "x.png exists and is not replaced; name another folder, or delete the files first"),
        ("-f d/x.bmp --export d", "x_1.obj exists and is not replaced"),
        ("-f new_depth.png -o new.png --view depth", "-o, depth map new_depth.png: would replace the input"),
        ("-f d -o both.png", "expected a folder for 3 images, found a file name"),
        ("-f clip.mp4 -o d", "clip_000007.png exists and is not replaced"),
        ("-f clip.mp4 --export d --at 3 --log new.jsonl", "clip_000003_2.glb exists and is not replaced"),
    ],
)
def test_no_output_replaces_an_input_or_a_file_that_was_not_named(networks, empty_clip, tmp_path, options, words):
    shutil.copy(empty_clip, tmp_path / "clip.mp4")
    (tmp_path / "soft.mp4").symlink_to("clip.mp4")
    for name in ("hard.mp4", "clip.jsonl", "clip.json"):
        os.link(tmp_path / "clip.mp4", tmp_path / name)
    (tmp_path / "set.toml").write_text("[tracker]\nmax_faces = 2\n")
    os.link(tmp_path / "set.toml", tmp_path / "set.csv")
    (tmp_path / "manifest.csv").symlink_to(ROOT / "weights" / "manifest.toml")
    (tmp_path / "both.mp4").write_bytes(b"mine")
    (tmp_path / "both.png").write_bytes(b"mine")
    os.link(tmp_path / "both.mp4", tmp_path / "both.jsonl")
    (tmp_path / "d").mkdir()
    for name in ("d/x.bmp", "d/x.png", "d/clip_000007.png", "new_depth.png"):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), len(name), np.uint8))
    for name in ("d/x_1.obj", "d/clip_000003_2.glb"):
        (tmp_path / name).write_bytes(b"mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = subprocess.run(
        [*APP, *map(str, networks), *options.split(), "--no-window", "--quiet"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert_one_line(done, 2, words)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_snapshots_replace_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "20260102-030405")
    frame = Frame(7, 0.0, np.zeros((4, 4, 3), np.uint8))
    for grey in (10, 20, 30):
        save_snapshot(np.full((4, 4, 3), grey, np.uint8), frame)
    names = ["facet-20260102-030405-7.png", "facet-20260102-030405-7-2.png", "facet-20260102-030405-7-3.png"]
    assert [cv2.imread(name)[0, 0, 0] for name in names] == [10, 20, 30]
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_explicit_names_are_replaced(networks, empty_clip, tmp_path):
    for name in ("out.mp4", "log.jsonl", "profile.json"):
        (tmp_path / name).write_bytes(b"of the last run")
    options = ["-o", tmp_path / "out.mp4", "--log", tmp_path / "log.jsonl", "--profile", tmp_path / "profile.json"]
    done = run("-f", empty_clip, *options, "--max-frames", 3, *networks)
    assert done.returncode == 0, done.stderr
    assert len(records(tmp_path / "log.jsonl")) == 3
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).read()[0]
    assert json.loads((tmp_path / "profile.json").read_text())["otherData"]
    assert len(os.listdir(tmp_path)) == 3


def test_a_run_without_a_record_leaves_the_old_log(networks, empty_clip, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise SinkError("out.mp4: cannot be written")

    monkeypatch.setattr("app.run", fail)
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"of the last run")
    assert main(["-f", str(empty_clip), "--log", str(log), "--no-window", "--quiet", *map(str, networks)]) == 1
    assert capsys.readouterr().err == "app.py: out.mp4: cannot be written\n"
    assert log.read_bytes() == b"of the last run" and os.listdir(tmp_path) == ["log.jsonl"]


def test_log_into_a_missing_folder(networks, empty_clip, tmp_path):
    assert_one_line(run("-f", empty_clip, "--log", tmp_path / "none" / "l.jsonl", *networks), 1, "none")


def test_no_camera(networks):
    done = run("--webcam", 99, "--log", "x.jsonl", *networks)
    assert_one_line(done, 1, "99")


def test_no_display_and_no_output(networks, empty_clip):
    assert_one_line(run("-f", empty_clip, *networks), 1, "-o")


def test_damaged_weights(networks, empty_clip, tmp_path):
    (tmp_path / "regressor.onnx").write_bytes(b"nothing")
    done = run(
        "-f",
        empty_clip,
        "--log",
        tmp_path / "x.jsonl",
        *networks,
        "--set",
        f"regressor.weights={tmp_path}/regressor.onnx",
    )
    assert_one_line(done, 1, "manifest")


def test_tiny_pictures(networks, tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((1, 1, 3), np.uint8))
    done = run("-f", tmp_path / "one.png", "-o", tmp_path / "out.png", *networks)
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "out.png")).shape == (1, 1, 3)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_full_disk_leaves_no_half_log_under_its_name(networks, empty_clip, tmp_path, suffix):
    resource = pytest.importorskip("resource")  # limits the size of files, which stands for a full disk
    log = tmp_path / f"log.{suffix}"
    done = subprocess.run(
        [*APP, "-f", str(empty_clip), "--no-window", "--log", str(log), *map(str, networks)],
        capture_output=True, text=True, cwd=ROOT, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )  # fmt: skip
    assert_one_line(done, 1, f"log.{suffix}", "File too large", f".partial.{suffix} holds")
    (left,) = tmp_path.iterdir()
    assert str(left) in done.stderr


def test_a_full_disk_leaves_no_half_trace(networks, empty_clip, tmp_path):
    resource = pytest.importorskip("resource")
    done = subprocess.run(
        [*APP, "-f", str(empty_clip), "--no-window", "--profile", str(tmp_path / "t.json"), *map(str, networks)],
        capture_output=True, text=True, cwd=ROOT, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )  # fmt: skip
    assert_one_line(done, 1, "t.json", "File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_nobody_reads_what_is_printed(networks, empty_clip, tmp_path):
    """A log is written all the same; where the print is all there is, it counts."""
    command = [*APP, "-f", str(empty_clip), "--log", str(tmp_path / "log.jsonl"), *map(str, networks)]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(records(tmp_path / "log.jsonl")) == 40
        printed = subprocess.run([*APP, "--print-config"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert_one_line(printed, 1, "No space left")
    closed = subprocess.run([*APP, "--print-config"], preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE, cwd=ROOT)
    assert b"Traceback" not in closed.stderr


def test_a_video_starts_without_packages_that_it_does_not_use(tmp_path):
    """numba loads SciPy and cffi wherever they are installed."""
    command = [sys.executable, "-X", "importtime", "app.py", "-f", "samples/demo.mp4", "--max-frames", "1"]
    done = subprocess.run([*command, "--log", str(tmp_path / "log.jsonl")], cwd=ROOT, capture_output=True, text=True)
    loaded = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == 0 and {"numba", "av"} <= loaded
    assert not {"cffi.api", "pycparser", "scipy._lib", "pyvips", "pillow_heif", "websockets"} & loaded
