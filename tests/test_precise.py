"""Precise mode through the command line."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facet.assembly import build_tracker
from facet.settings import AppConfig
from facet.tracker.blendshapes import linked
from facet.tracker.config import load_config
from facet.tracker.solve import PointSolver
from facet.tracker.stages import Stages
from facet.tracker.types import Frame
from facet.tracker.weights import find_entry
from tests.conftest import ROOT
from tests.program import assert_one_line, records, run

CONFIG = ROOT / "configs" / "precise.toml"


def tracker_of(aligner, smoothing):
    overrides = (f"regressor.aligner={aligner}", f"smoothing.enabled={smoothing}")
    return build_tracker(load_config(AppConfig, None, overrides), Stages(), live=False)


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
    for angle in ("yaw_deg", "pitch_deg", "roll_deg"):
        assert 0 < abs(plain["pose"][angle] - precise["pose"][angle]) < 6, angle
    assert (
        plain["blendshapes"] != precise["blendshapes"] and plain["blendshapes"].keys() == precise["blendshapes"].keys()
    )
    old, new = (np.array(face["landmarks"])[:, :2] for face in (plain, precise))
    eyes = np.linalg.norm(old[36] - old[45])
    assert 0 < np.linalg.norm(old - new, axis=1)[17:].mean() < 0.08 * eyes
    for iris, corners in zip(precise["irises"], ((36, 39), (42, 45)), strict=True):
        left, right = new[list(corners)]
        assert left[0] < iris[0] < right[0]
        assert abs(iris[1] - (left[1] + right[1]) / 2) < 0.15 * eyes
    assert len(precise["landmark_visible"]) == 68 and max(precise["landmark_spread_px"]) < 0.2 * eyes


@pytest.mark.parametrize("smoothing", ("true", "false"))
def test_the_mesh_goes_through_the_points(photo, smoothing):
    """Eyes and lips of the mesh lie nearer to the points than those of the regressor's mesh do."""
    image = cv2.imread(str(photo))
    away = {}
    for name, aligner in (("plain", ""), ("precise", "weights/aligner.onnx")):
        tracker = tracker_of(aligner, smoothing)
        for k in range(3):
            (face,) = tracker.step(Frame(k, k / 30, image, first=k == 0))
        points = PointSolver.open(ROOT / "weights" / "face_model_points.npz", tracker.mesh_model)
        mesh = points.points(face.model_to_image, face.shape, face.expression)
        away[name] = mesh
        tracker.close()
    wanted = face.landmarks[17:68, :2]
    eyes = np.linalg.norm(wanted[36 - 17] - wanted[45 - 17])
    plain, precise = (np.linalg.norm(away[name][:51, :2] - wanted, axis=1)[19:] / eyes for name in ("plain", "precise"))
    assert precise.mean() < 0.01 and precise.mean() < 0.6 * plain.mean()
    assert np.linalg.norm(away["precise"][51:, :2] - face.irises[:, :2], axis=1).max() < 0.025 * eyes
    gap = np.linalg.norm(wanted[62 - 17] - wanted[66 - 17])
    assert abs(np.linalg.norm(away["precise"][62 - 17, :2] - away["precise"][66 - 17, :2]) - gap) < 0.008 * eyes


def test_the_shipped_aligner_has_its_answers():
    """A new aligner needs them measured anew: python -m tools.answers --aligner weights/aligner.onnx."""
    entry = find_entry(ROOT / "weights" / "aligner.onnx", "aligner")
    assert entry.sibling(entry.get("answers", str)).kind == "answers"
    model = find_entry(ROOT / "weights" / "face_model.npz", "face_model")
    assert model.sibling(model.get("points", str)).kind == "model_points"


def test_a_foreign_face_model_gets_points_only(photo):
    """A regressor whose face model has no place for the points keeps its pose and mesh."""
    tracker = tracker_of("weights/aligner.onnx", "true")
    tracker._publisher._solver = None
    (face,) = tracker.track(cv2.imread(str(photo)))
    plain = tracker_of("", "true")
    (other,) = plain.track(cv2.imread(str(photo)))
    np.testing.assert_array_equal(face.model_to_image, other.model_to_image)
    assert np.abs(face.landmarks - other.landmarks).max() > 1
    tracker.close(), plain.close()


@pytest.mark.parametrize(("share", "expected"), ((0.0, (0.8, 0.2)), (0.5, (0.65, 0.35)), (1.0, (0.5, 0.5))))
def test_eyes_are_linked_as_far_as_it_is_said(share, expected):
    found = linked({"jawOpen": 0.4, "eyeBlinkLeft": 0.8, "eyeBlinkRight": 0.2}, share)
    assert found["jawOpen"] == 0.4
    assert (found["eyeBlinkLeft"], found["eyeBlinkRight"]) == pytest.approx(expected)
    assert linked({}, share) == {}


def test_linked_eyes_shut_alike_in_the_log(photo, tmp_path):
    done = run("-f", photo, "--log", tmp_path / "x.jsonl", "--set", "blendshapes.link_eyes=1")
    assert done.returncode == 0, done.stderr
    (face,) = records(tmp_path / "x.jsonl")[0]["faces"]
    assert face["blendshapes"]["eyeBlinkLeft"] == face["blendshapes"]["eyeBlinkRight"]
    done = run("-f", photo, "--log", tmp_path / "x.jsonl", "--set", "blendshapes.link_eyes=1.5")
    assert_one_line(done, 2, "link_eyes must be in [0, 1]")


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
