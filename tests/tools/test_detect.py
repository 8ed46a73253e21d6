import json
import os

import cv2
import numpy as np
import pytest

from tests.conftest import material
from tests.upstream import upstream_weights
from tools.detect import main


@pytest.fixture
def settings():
    weights = upstream_weights("faceboxes.onnx")
    return ["--set", f"detector.weights={weights}", "--set", "detector.min_face_px=20"]


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_boxes_of_a_folder_of_photos(tmp_path, settings, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "b.png"), cv2.imread(str(material("media", "images", "trump_hillary.jpg"))))
    cv2.imwrite(str(folder / "a.png"), np.full((40, 60, 3), 90, np.uint8))
    log = tmp_path / "boxes.jsonl"
    assert main(["-f", str(folder), "--log", str(log), *settings]) == 0
    assert "2 frames, 2 boxes" in capsys.readouterr().out
    empty, two = records(log)
    assert (empty["source"].endswith("a.png"), empty["boxes"]) == (True, [])
    assert (two["frame"], two["width"], two["height"]) == (1, 1536, 689)
    assert two["boxes"][0] == pytest.approx([228.86, 103.06, 466.07, 390.72, 0.99808], abs=0.1)
    assert two["boxes"][0][4] > two["boxes"][1][4]


def test_min_score(tmp_path, settings):
    photo = str(material("media", "images", "JianzhuGuo.jpg"))
    for score, log in (("0.002", tmp_path / "many.jsonl"), ("0.9999", tmp_path / "none.jsonl")):
        assert main(["-f", photo, "--log", str(log), "--min-score", score, *settings]) == 0
    assert len(records(tmp_path / "many.jsonl")[0]["boxes"]) > 1
    assert records(tmp_path / "none.jsonl")[0]["boxes"] == []


def test_the_preset_is_understood(tmp_path):
    upstream_weights("faceboxes.onnx")
    photo = str(material("media", "images", "JianzhuGuo.jpg"))
    assert main(["-f", photo, "--log", str(tmp_path / "b.jsonl"), "--config", "configs/3ddfa_v2.toml"]) == 0


@pytest.mark.parametrize(
    ("options", "status", "word"),
    [
        (["-f", "no-such-file.mp4"], 1, "no-such-file.mp4"),
        (["-f", "x.png", "--min-score", "7"], 2, "min_score"),
        (["-f", "x.png", "--set", "detector.weights=weights/none.onnx"], 1, "none.onnx"),
        (["-f", "x.png", "--set", "detector.wights=1"], 2, "weights"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, settings, options, status, word):
    log = tmp_path / "boxes.jsonl"
    assert main(["--log", str(log), *settings, *options]) == status
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error
    assert not list(tmp_path.iterdir())


def test_an_unreadable_photo_is_skipped_and_reported(tmp_path, settings, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((40, 60, 3), 90, np.uint8))
    (folder / "b.png").write_bytes(b"nothing")
    assert main(["-f", str(folder), "--log", str(tmp_path / "b.jsonl"), *settings]) == 1
    assert "b.png" in capsys.readouterr().err
    assert len(records(tmp_path / "b.jsonl")) == 1


def test_a_log_that_cannot_be_written(tmp_path, settings, capsys):
    photo = str(tmp_path / "a.png")
    cv2.imwrite(photo, np.full((40, 60, 3), 90, np.uint8))
    log = str(tmp_path / "none" / "b.jsonl")
    assert main(["-f", photo, "--log", log, *settings]) == 1
    assert capsys.readouterr().err == (
        f"tools.detect: {log}: cannot be written (No such file or directory); make the folder first\n"
    )


@pytest.mark.parametrize("name", ["a.png", "b.jsonl", "set.toml"])
def test_a_log_that_would_replace_an_input(tmp_path, capsys, name):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 60, 3), 90, np.uint8))
    os.link(tmp_path / "a.png", tmp_path / "b.jsonl")
    (tmp_path / "set.toml").write_text("[tracker]\nmax_faces = 2\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    options = ["-f", str(tmp_path / "a.png"), "--log", str(tmp_path / name), "--config", str(tmp_path / "set.toml")]
    assert main(options) == 2
    error = capsys.readouterr().err
    assert "would replace the input" in error and error.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_named_like_a_temporary_one_stays(tmp_path):
    photo = tmp_path / "b.jsonl.partial"
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 60, 3), 90, np.uint8))
    photo.write_bytes((tmp_path / "a.png").read_bytes())
    assert main(["-f", str(tmp_path / "a.png"), "--log", str(tmp_path / "b.jsonl")]) == 0
    assert photo.read_bytes() == (tmp_path / "a.png").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.jsonl", "b.jsonl.partial"]
