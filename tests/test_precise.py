"""Precise mode through the command line."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.program import assert_one_line, records, run

CONFIG = ROOT / "configs" / "precise.toml"


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A frame of the sample clip, which shows a face."""
    video = cv2.VideoCapture(str(ROOT / "samples" / "demo.mp4"))
    _, image = video.read()
    video.release()
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    cv2.imwrite(str(path), image)
    return path


def test_the_log_holds_irises_spread_and_visibility(photo, tmp_path):
    faces = {}
    for name, options in (("plain", ()), ("precise", ("--config", CONFIG))):
        done = run("-f", photo, "--log", tmp_path / f"{name}.jsonl", *options)
        assert done.returncode == 0, done.stderr
        (faces[name],) = records(tmp_path / f"{name}.jsonl")[0]["faces"]
    plain, precise = faces["plain"], faces["precise"]
    assert set(precise) - set(plain) == {"landmark_spread_px", "landmark_visible"}
    assert plain["pose"] == precise["pose"] and plain["blendshapes"] == precise["blendshapes"]
    old, new = (np.array(face["landmarks"])[:, :2] for face in (plain, precise))
    eyes = np.linalg.norm(old[36] - old[45])
    assert 0 < np.linalg.norm(old - new, axis=1)[17:].mean() < 0.08 * eyes
    for iris, corners in zip(precise["irises"], ((36, 39), (42, 45)), strict=True):
        left, right = new[list(corners)]
        assert left[0] < iris[0] < right[0]
        assert abs(iris[1] - (left[1] + right[1]) / 2) < 0.15 * eyes
    assert len(precise["landmark_visible"]) == 68 and max(precise["landmark_spread_px"]) < 0.2 * eyes


def test_a_csv_of_precise_mode_has_the_usual_columns(photo, tmp_path):
    for name, options in (("plain", ()), ("precise", ("--config", CONFIG))):
        assert run("-f", photo, "--log", tmp_path / f"{name}.csv", *options).returncode == 0
    plain, precise = (
        (tmp_path / f"{name}.csv").read_text(encoding="utf-8").splitlines() for name in ("plain", "precise")
    )
    assert plain[0] == precise[0] and plain[1] != precise[1]


def test_a_face_at_the_border_and_a_tiny_one_give_numbers(photo, tmp_path):
    image = cv2.imread(str(photo))
    found = 0
    for name, picture in (
        ("cut", image[:, image.shape[1] // 2 :]),
        ("tiny", cv2.resize(image, None, fx=0.12, fy=0.12)),
    ):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        done = run("-f", tmp_path / f"{name}.png", "--log", tmp_path / f"{name}.jsonl", "--config", CONFIG)
        assert done.returncode == 0, done.stderr
        for face in records(tmp_path / f"{name}.jsonl")[0]["faces"]:
            assert np.isfinite(np.array(face["landmarks"])).all() and np.isfinite(np.array(face["irises"])).all()
            found += 1
    assert found


def test_a_missing_a_damaged_and_a_foreign_file_give_one_line(photo, tmp_path):
    damaged = tmp_path / "aligner.onnx"
    damaged.write_bytes((ROOT / "weights" / "aligner.onnx").read_bytes()[:-1000])
    (tmp_path / "manifest.toml").write_text((ROOT / "weights" / "manifest.toml").read_text(encoding="utf-8"))
    cases = [
        (tmp_path / "none.onnx", "expected a model file"),
        (damaged, "SHA-256"),
        ("weights/regressor.onnx", "found a regressor"),
    ]
    for path, words in cases:
        done = run("-f", photo, "--log", tmp_path / "x.jsonl", "--set", f"regressor.aligner={path}")
        assert_one_line(done, 1, words)
