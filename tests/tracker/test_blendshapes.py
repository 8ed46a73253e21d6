"""Reading blendshapes from faint and mixed answers: range, sides, rest, and what is let alone."""

import numpy as np
import pytest

from tracker.blendshapes import FARTHEST, BlendshapeReader
from tracker.errors import WeightsError
from tracker.morphable import load_face_model
from tracker.weights import ROOT, find_entry

NAMES = ("browDown_L", "eyeBlink_L", "eyeLookUp_L", "eyeWide_L", "jawOpen", "mouthSmile_L", "mouthSmile_R")
BROW, BLINK, LOOK, WIDE, JAW, SMILE_L, SMILE_R = range(7)
NOISE = 0.03


@pytest.fixture
def reader():
    """Of a network that answers to most by half, to brows by a fifth, and to one side of a smile with some of both."""
    response = np.diag([0.2, 1.0, 0.5, 0.5, 1.0, 0.5, 0.5])
    response[SMILE_L, SMILE_R] = response[SMILE_R, SMILE_L] = 0.3
    return BlendshapeReader(NAMES, np.full(7, 0.05), response, np.eye(7) / NOISE**2)


def answer(reader, **shown):
    """What that network tells, without noise."""
    truth = np.array([shown.get(name, 0.0) for name in NAMES])
    response = np.linalg.solve(np.eye(7) / NOISE**2, reader.gain).T
    return (reader.rest + truth @ response).astype(np.float32)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "eyeBlink_L"])
def test_faint_and_mixed_answers_are_read_as_what_was_shown(reader, name):
    told = reader.start()(answer(reader, **{name: 0.8}))
    truth = 0.8 * (np.array(NAMES) == name)
    truth[BLINK] = reader.rest[BLINK]  # known: as it comes
    np.testing.assert_allclose(told, truth, atol=0.08)
    assert told.dtype == np.float32


def test_nothing_is_told_of_a_tremble_at_rest(reader):
    rng = np.random.default_rng(0)
    reading = reader.start()
    told = np.array([reading(answer(reader) + rng.normal(0, NOISE / 3, 7)) for _ in range(200)])
    told = np.delete(told, BLINK, axis=1)
    assert told.mean() < 0.01 and told.max() < 0.2


def test_weights_stay_in_their_range(reader):
    reading = reader.start()
    for much in (answer(reader, mouthSmile_L=3, browDown_L=5), np.full(7, -1.0), np.full(7, 9.0)):
        told = reading(much.astype(np.float32))
        assert told.min() >= 0 and told.max() <= 1


def test_blinks_are_told_as_they_come_and_a_falling_lid_does_not_rise(reader):
    reading = reader.start()
    for blink in (0.0, 0.4, 1.0):
        told = reading(answer(reader, eyeBlink_L=blink - reader.rest[BLINK], eyeWide_L=0.9))
        assert told[BLINK] == pytest.approx(blink, abs=1e-6)
        assert told[WIDE] == pytest.approx(min(0.9, 1 - blink), abs=0.05)


def test_a_face_whose_rest_differs_comes_to_rest(reader):
    reading, own = reader.start(), answer(reader) + np.float32(0.1)
    first = reading(own)
    for _ in range(300):
        told = reading(own)
    assert first[SMILE_L] > 0.05 and np.delete(told, (BLINK, LOOK)).max() < 0.01
    assert told[LOOK] == pytest.approx(first[LOOK], abs=0.02) and told[LOOK] > 0.1  # looking aside is no rest
    smiling = reading(own + answer(reader, mouthSmile_R=0.7) - answer(reader))
    assert smiling[SMILE_R] == pytest.approx(0.7, abs=0.06)


def test_rest_is_learnt_slowly_and_never_far(reader):
    reading, open_mouth = reader.start(), answer(reader, jawOpen=1.0)
    first = reading(open_mouth)[JAW]
    second = [reading(open_mouth)[JAW] for _ in range(30)][-1]
    long_after = [reading(open_mouth)[JAW] for _ in range(5000)][-1]
    assert first > 0.95 > second > 0.8 and long_after == pytest.approx(1 - FARTHEST, abs=0.05)
    # it is back sooner
    for _ in range(1000):
        reading(answer(reader))
    assert reading(open_mouth)[JAW] > 0.85


def test_readings_of_two_faces_know_nothing_of_one_another(reader):
    one, other = reader.start(), reader.start()
    for _ in range(100):
        one(answer(reader) + np.float32(0.2))
    np.testing.assert_allclose(other(answer(reader)), reader.start()(answer(reader)))


@pytest.mark.parametrize("weights", ["regressor.onnx", "regressor_large.onnx"])
def test_the_networks_that_are_shipped_have_theirs(weights):
    entry = find_entry(ROOT / "weights" / weights, "regressor")
    model = load_face_model(ROOT / "weights" / entry.get("face_model", str))
    reader = BlendshapeReader.open(entry.sibling(entry.get("answers", str)).path, model.expression_names)
    told = reader.start()(reader.rest.astype(np.float32))
    assert told.shape == (model.expression_count,) and np.delete(told, np.flatnonzero(reader.known)).max() < 0.05
    # all answers are to something: each grows with its own blendshape
    assert (np.diag(reader.matrix) > 0).all() and np.isfinite(reader.gain).all()


def test_a_file_of_something_else_is_refused(tmp_path, reader):
    with pytest.raises(WeightsError, match=r"tools/answers\.py"):
        BlendshapeReader.open(tmp_path / "none.npz", NAMES)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(WeightsError, match=r"tools/answers\.py"):
        BlendshapeReader.open(tmp_path / "text.npz", NAMES)
    parts = {"rest": np.zeros(2), "response": np.eye(2), "precision": np.eye(2)}
    np.savez(tmp_path / "other.npz", names=("a", "b"), **parts)
    with pytest.raises(WeightsError, match="blendshapes"):
        BlendshapeReader.open(tmp_path / "other.npz", NAMES)
    np.savez(tmp_path / "less.npz", names=("a", "b"), rest=np.zeros(2))
    with pytest.raises(WeightsError, match=r"tools/answers\.py"):
        BlendshapeReader.open(tmp_path / "less.npz", ("a", "b"))
