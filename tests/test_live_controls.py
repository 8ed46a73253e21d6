"""Centre, gains and limits, freezing and pausing: the same in the log, in what is sent, and in what is drawn."""

from __future__ import annotations

import contextlib
import json
import socket
import struct

import cv2
import numpy as np
import pytest

from facet.assembly import open_session
from facet.options import parse_args
from facet.session import run
from facet.settings import AppConfig
from facet.tracker.arkit import NAMES
from facet.tracker.config import load_config
from tests.conftest import ROOT
from tests.program import APP, assert_one_line, records
from tests.program import run as run_app

FRAMES = 16
CLIP = ROOT / "samples" / "demo.mp4"


class Played:
    """What left a session: the log, and the values and angles of Live Link's datagrams, None where there is no face."""

    def __init__(self, log, datagrams):
        self.log = records(log)
        self.sent = [struct.unpack(">61f", data[-244:]) if len(data) > 244 else None for data in datagrams]


@pytest.fixture
def play(tmp_path, networks):
    """Play a part of the clip, with commands before the frames they are for."""

    def play_it(commands=None, *options, frames=FRAMES):
        log = tmp_path / "log.jsonl"
        commands = commands or {}
        with contextlib.ExitStack() as parts, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            receiver.setblocking(False)
            url = f"livelink://127.0.0.1:{receiver.getsockname()[1]}"
            given = [
                "-f",
                CLIP,
                "--max-frames",
                frames,
                "--no-window",
                "--log",
                log,
                "--send",
                url,
                *options,
                *networks,
            ]
            args = parse_args(list(map(str, given)))
            config = load_config(AppConfig, args.config, args.set)
            session = open_session(args, config, parts, lambda text: None, print)
            done = 0

            def post() -> None:
                nonlocal done
                for command in commands.get(done, ()):
                    assert session.controls.post(*command)
                done += 1

            post()
            run(session, post)
            parts.close()
            datagrams = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    datagrams.append(receiver.recv(65535))
        return Played(log, datagrams)

    return play_it


def jaw(played: Played) -> np.ndarray:
    return np.array([line["faces"][0]["blendshapes"]["jawOpen"] for line in played.log])


def yaw(played: Played) -> np.ndarray:
    return np.array([line["faces"][0]["pose"]["yaw_deg"] for line in played.log])


def test_a_calibration_file_acts_on_the_log_and_on_what_is_sent(play, tmp_path):
    plain = play()
    path = tmp_path / "mine.toml"
    path.write_text("[shapes.jawOpen]\ngain = 2.0\noffset = 0.1\nhigh = 0.9\n[shapes.mouthFunnel]\nlow = 0.3\n")
    mine = play({}, "--calibration", path)
    np.testing.assert_allclose(jaw(mine), np.clip(2 * jaw(plain) + 0.1, 0, 0.9), atol=2e-4)
    assert min(line["faces"][0]["blendshapes"]["mouthFunnel"] for line in mine.log) >= 0.3
    sent = np.array([values[NAMES.index("jawOpen")] for values in mine.sent])
    np.testing.assert_allclose(sent, jaw(mine), atol=6e-5)
    for a, b in zip(plain.log, mine.log, strict=True):  # where the face is in the image stays as measured
        assert (
            a["faces"][0]["landmarks"] == b["faces"][0]["landmarks"] and a["faces"][0]["pose"] == b["faces"][0]["pose"]
        )


def test_centre_acts_on_the_log_and_on_what_is_sent(play):
    plain, mine = play(), play({5: [("centre",)]})
    assert yaw(mine)[:5] == pytest.approx(yaw(plain)[:5])
    face = mine.log[5]["faces"][0]
    assert [face["pose"][f"{name}_deg"] for name in ("yaw", "pitch", "roll")] == pytest.approx([0, 0, 0], abs=1e-3)
    assert face["translation_mm"] == pytest.approx([0, 0, 0], abs=0.01)
    assert face["pose_in_image"]["yaw_deg"] == plain.log[5]["faces"][0]["pose"]["yaw_deg"]
    assert face["landmarks"] == plain.log[5]["faces"][0]["landmarks"]
    assert "pose_in_image" not in plain.log[5]["faces"][0]
    angles = np.degrees([values[52:55] for values in mine.sent])
    assert angles[5] == pytest.approx([0, 0, 0], abs=1e-3)
    assert np.abs(angles[:5]).max() > 1 and angles[-1] == pytest.approx(
        [mine.log[-1]["faces"][0]["pose"]["yaw_deg"], *angles[-1][1:]], abs=1.0
    )


def test_frozen_faces_stand_still_and_a_pause_sends_nothing(play):
    found = play({4: [("freeze", True)], 9: [("freeze", False)], 12: [("pause",)]})
    assert len({json.dumps(line["faces"]) for line in found.log[3:9]}) == 1
    assert len({json.dumps(line["faces"]) for line in found.log[9:]}) == FRAMES - 9
    assert len(found.sent) == 12 and found.sent[3] == found.sent[8] != found.sent[9]


def test_a_centre_turns_the_avatar_and_leaves_the_face_in_its_place(play, tmp_path):
    """A view draws what is sent: the avatar of a centred head looks ahead."""
    images = []
    for commands in ({}, {0: [("centre",)]}):
        out = tmp_path / f"drawn{len(images)}"
        play(commands, "-o", out, "--view", "avatar", "--renderer", "cpu", "--start", "1.0", frames=2)
        images.append(cv2.imread(str(sorted(out.iterdir())[0])).astype(int))
    assert (np.abs(images[0] - images[1]).max(axis=2) > 30).mean() > 0.01


def test_a_centre_in_openfaces_columns_moves_pose_and_points_alike(play, tmp_path):
    """The points of the head, turned back by the pose and moved by the position, are those of the uncentred log."""
    from facet.tracker.outputs.openface import OpenFaceCsv

    plain, mine = play(), play({3: [("centre",)]})

    def in_head(record):
        (row,) = OpenFaceCsv.rows(None, record)
        points = np.array([[float(row[f"{axis}_{k}"]) for axis in "XYZ"] for k in range(68)])
        x, y, z = (float(row[f"pose_R{axis}"]) for axis in "xyz")
        turn = cv2.Rodrigues(np.array([x, 0.0, 0]))[0] @ cv2.Rodrigues(np.array([0.0, y, 0]))[0] @ cv2.Rodrigues(np.array([0.0, 0, z]))[0]  # fmt: skip  # noqa: E501
        return (points - [float(row[f"pose_T{axis}"]) for axis in "xyz"]) @ turn

    for a, b in zip(plain.log[5:], mine.log[5:], strict=True):
        np.testing.assert_allclose(in_head(a), in_head(b), atol=0.2)


@pytest.mark.parametrize(
    "options, status, words",
    [
        (("--calibration", "{tmp}/none.toml"), 2, ("none.toml", "no such file")),
        (("--calibration", "{tmp}/bad.toml"), 2, ("bad.toml", "did you mean jawOpen")),
        (("--calibration", "{tmp}"), 2, ("found a folder",)),
        (("--calibration", "{tmp}/mine.toml", "--log", "{tmp}/mine.toml.jsonl", "--control", "udp://:9"), 2, ("osc",)),
        (("--control", "http://0.0.0.0:9100"), 2, ("token",)),
        (("--control", "osc://192.0.2.7:9100"), 1, ("cannot listen",)),
        (("--view", "avatar", "--set", "avatar.file={tmp}/none.glb", "-o", "{tmp}/o.mp4"), 1, ("none.glb", "ARKit")),
        (("--view", "avatar", "--set", "avatar.file={tmp}/bad.toml", "-o", "{tmp}/o.mp4"), 1, ("bad.toml", "glTF")),
        (("--set", "avatar.place=behind", "-o", "{tmp}/o.mp4"), 2, ("over, beside",)),
    ],
)
def test_what_is_wrong_is_reported_in_one_line(options, status, words, tmp_path, networks):
    (tmp_path / "bad.toml").write_text("[shapes.jawOpn]\ngain = 2\n")
    (tmp_path / "mine.toml").write_text("")
    options = [option.format(tmp=tmp_path) for option in options]
    if not {"-o", "--log"} & set(options):
        options += ["--log", tmp_path / "log.jsonl"]
    done = run_app("-f", CLIP, "--max-frames", 1, *options, *networks)
    assert_one_line(done, status, *words)


def test_no_output_replaces_the_calibration_file(tmp_path, networks):
    path = tmp_path / "mine.jsonl"
    path.write_text("")
    done = run_app("-f", CLIP, "--calibration", path, "--log", path, *networks)
    assert_one_line(done, 2, "would replace the input")


def test_nothing_listens_unless_asked():
    """Neither module of other programs' commands is loaded."""
    import subprocess

    code = "import app, sys; print([n for n in sys.modules if n in ('facet.tracker.remote', 'http.server')])"
    done = subprocess.run([APP[0], "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
