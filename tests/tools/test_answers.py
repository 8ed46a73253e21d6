"""How a network answers to blendshapes is measured right, and is found again beside it."""

import shutil
import tomllib

import numpy as np

from facet.tracker.blendshapes import MOST_GAIN, BlendshapeReader
from facet.tracker.crop import cut, roi_from_landmarks
from facet.tracker.morphable import load_face_model
from facet.tracker.weights import ROOT, find_entry
from tests.tools import training_data
from tools import answers
from tools.evaluation import crops, people


def test_response_and_spread_are_those_of_the_answers():
    rng = np.random.default_rng(0)
    count = 5
    response = 0.5 * np.eye(count) + 0.1 * rng.random((count, count))
    truth = rng.random((60, answers.SHOTS, count)) * (rng.random((60, answers.SHOTS, count)) < 0.3)
    truth[:, : answers.AT_REST] = 0
    spread = np.diag([0.02, 0.04, 0.06, 0.02, 0.1])
    noise = rng.normal(size=truth.shape) @ spread
    # what each shows at rest is its own and says nothing of either
    reported = 0.2 * rng.random((60, 1, count)) + truth @ response + noise
    parts = answers.measure(reported, truth)
    np.testing.assert_allclose(parts["response"], response, atol=0.03)
    found = np.sqrt(np.diag(np.linalg.inv(parts["precision"])))
    np.testing.assert_allclose(found, np.hypot(np.diag(spread), answers.LEAST_VARIANCE**0.5), rtol=0.15)


def test_a_person_rests_first_and_is_cut_as_tracking_does():
    network, model = crops.load("weights/regressor.onnx")
    person = next(people.cast(1, 3)[1])
    taken = answers.shots(model, person, np.random.default_rng(0))
    truth = np.array([shot.expression for shot in taken])
    assert len(taken) == answers.SHOTS
    assert not truth[: answers.AT_REST].any() and truth[answers.AT_REST :].any(axis=1).mean() > 0.8
    spec = network.crop_spec
    cuts = [cut(s.picture, roi_from_landmarks(s.landmarks, spec, s.roll_deg), network.size, spec.style) for s in taken]
    faces = crops.regress(network, np.stack(cuts))
    network.close()
    points = np.array([model.landmarks(face.camera, face.shape, face.expression)[:, :2] for face in faces])
    # where tracking would place its next crop is where this one is
    middle = (points.min(axis=1) + points.max(axis=1)) / 2
    assert np.abs(np.median(middle, axis=0) - network.size / 2).max() < 2.5
    longer = np.ptp(points, axis=1).max(axis=1)
    assert abs(np.median(longer) * network.crop_spec.landmark_scale / network.size - 1) < 0.04


def test_the_tool_writes_what_the_tracker_reads(tmp_path, monkeypatch, capsys):
    for name in ("regressor.onnx", "face_model.npz", "manifest.toml"):
        shutil.copy(ROOT / "weights" / name, tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    training_data.write(data)
    network = tmp_path / "regressor.onnx"
    monkeypatch.setattr("sys.argv", ["answers", "--weights", str(network), "--people", "2", "--data", str(data)])
    answers.main()
    assert "regressor_answers.npz" in capsys.readouterr().out
    before = tomllib.loads((ROOT / "weights" / "manifest.toml").read_text())["regressor"]
    entry = find_entry(network, "regressor")
    assert dict(entry.table) == before | {"answers": "regressor_answers.npz"}
    names = load_face_model(tmp_path / "face_model.npz").expression_names
    file = entry.sibling("regressor_answers.npz")
    assert file.kind == "answers" and len(BlendshapeReader.open(file.path, names).rest) == len(names)


def test_precise_mode_has_answers_of_its_own(tmp_path, monkeypatch):
    for name in ("regressor.onnx", "face_model.npz", "face_model_points.npz", "aligner.onnx", "manifest.toml"):
        shutil.copy(ROOT / "weights" / name, tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    training_data.write(data)
    options = ["--weights", tmp_path / "regressor.onnx", "--aligner", tmp_path / "aligner.onnx"]
    monkeypatch.setattr("sys.argv", ["answers", *map(str, options), "--people", "1", "--data", str(data)])
    answers.main()
    entry = find_entry(tmp_path / "aligner.onnx", "aligner")
    assert entry.get("answers", str) == "aligner_answers.npz"
    names = load_face_model(tmp_path / "face_model.npz").expression_names
    reader = BlendshapeReader.open(entry.sibling("aligner_answers.npz").path, names)
    assert len(reader.rest) == 2 * len(names) and reader.readable.sum() > 10


def test_what_reading_shrinks_is_stretched_where_it_follows():
    rng = np.random.default_rng(1)
    count, size = 6, 12
    truth = rng.random((40, answers.SHOTS, count)) * (
        np.arange(count) == rng.integers(0, count, (40, answers.SHOTS, 1))
    )
    truth[:, : answers.AT_REST] = 0
    response = np.tile(0.5 * np.eye(count), 2)
    reported = truth @ response + 0.03 * rng.normal(size=(40, answers.SHOTS, size))
    parts = answers.measure(reported, truth)
    weaker = parts | {"response": 1.25 * parts["response"]}  # what is read is a fifth too small
    names = tuple("abcdef")
    gain = answers.gain_of(BlendshapeReader(names, np.zeros(size), **weaker), reported, truth)
    assert (np.abs(gain - 1.25) < 0.1).all()
    gain = answers.gain_of(BlendshapeReader(names, np.zeros(size), **parts), rng.random(reported.shape), truth)
    assert (gain == 1).all() and MOST_GAIN > 1.25
