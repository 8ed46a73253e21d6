"""Reading blendshapes from faint and mixed answers: range, sides, rest, and what is let alone."""

import numpy as np
import pytest

from facet.tracker.blendshapes import LARGEST_PART, BlendshapeReader
from facet.tracker.errors import WeightsError
from facet.tracker.morphable import load_face_model
from facet.tracker.weights import ROOT, find_entry

NAMES = (
    "browDown_L", "eyeBlink_L", "eyeLookUp_L", "eyeLookUp_R", "eyeWide_L", "jawOpen", "mouthSmile_L", "mouthSmile_R",
)  # fmt: skip
BROW, BLINK, LOOK_L, LOOK_R, WIDE, JAW, SMILE_L, SMILE_R = range(8)
NOISE = 0.03
RESPONSE = np.diag([0.2, 1.0, 0.5, 0.5, 0.5, 1.0, 0.5, 0.5])
RESPONSE[SMILE_L, SMILE_R] = RESPONSE[SMILE_R, SMILE_L] = 0.3
REST = np.full(8, 0.05)


@pytest.fixture
def reader():
    """Of a network that answers to most by half, to brows by a fifth, and to one side of a smile with some of both."""
    return BlendshapeReader(NAMES, REST, RESPONSE, np.eye(8) / NOISE**2)


def answer(**shown):
    """What that network reports, without noise."""
    truth = np.array([shown.get(name, 0.0) for name in NAMES])
    return (REST + truth @ RESPONSE).astype(np.float32)


@pytest.mark.parametrize("name", ["browDown_L", "eyeWide_L", "jawOpen", "mouthSmile_L", "mouthSmile_R"])
def test_faint_and_mixed_answers_are_read_as_what_was_shown(reader, name):
    reported = reader.start()(answer(**{name: 0.8}))
    truth = 0.8 * (np.array(NAMES) == name)
    truth[BLINK] = REST[BLINK]  # known: as it comes
    np.testing.assert_allclose(reported, truth, atol=0.05)
    assert reported.dtype == np.float32


def test_eyes_look_together_unless_much_speaks_against_it(reader):
    both = reader.start()(answer(eyeLookUp_L=0.7, eyeLookUp_R=0.6))
    assert abs(both[LOOK_L] - both[LOOK_R]) < 0.06 and both[[LOOK_L, LOOK_R]].mean() == pytest.approx(0.65, abs=0.03)
    one = reader.start()(answer(eyeLookUp_L=1.0))
    assert one[LOOK_L] > one[LOOK_R] + 0.2


def test_nothing_is_reported_of_a_tremble_at_rest(reader):
    rng = np.random.default_rng(0)
    reading = reader.start()
    reported = np.array([reading(answer() + rng.normal(0, NOISE / 3, 8)) for _ in range(200)])
    reported = np.delete(reported, BLINK, axis=1)
    assert reported.mean() < 0.01 and reported.max() < 0.2


def test_weights_stay_in_their_range(reader):
    reading = reader.start()
    for much in (answer(mouthSmile_L=3, browDown_L=5), np.full(8, -1.0), np.full(8, 9.0)):
        reported = reading(much.astype(np.float32))
        assert reported.min() >= 0 and reported.max() <= 1


def test_blinks_are_reported_as_they_come_and_a_falling_lid_does_not_rise(reader):
    reading = reader.start()
    for blink in (0.0, 0.4, 1.0):
        reported = reading(answer(eyeBlink_L=blink - REST[BLINK], eyeWide_L=0.9))
        assert reported[BLINK] == pytest.approx(blink, abs=1e-6)
        assert reported[WIDE] == pytest.approx(min(0.9, 1 - blink), abs=0.05)


def test_a_face_whose_rest_differs_comes_to_rest(reader):
    reading, own = reader.start(), answer() + np.float32(0.1)
    first = reading(own)
    for _ in range(600):
        reported = reading(own)
    assert first[SMILE_L] > 0.05 and reported[[WIDE, JAW, SMILE_L, SMILE_R]].max() < 0.02
    np.testing.assert_allclose(reported[[LOOK_L, LOOK_R]], first[[LOOK_L, LOOK_R]], atol=0.02)
    assert reported[LOOK_L] > 0.1  # looking aside is no rest
    smiling = reading(own + answer(mouthSmile_R=0.7) - answer())
    assert smiling[SMILE_R] == pytest.approx(0.7, abs=0.06)


def test_rest_is_learnt_anew_within_a_second_when_asked_for(reader):
    own = answer() + np.float32(0.1)
    reading = reader.start()
    for _ in range(900):  # a frown that was taken for rest, in part
        reading(answer(browDown_L=1.0))
    first = reading(own)
    reading.relearn()
    again = [reading(own) for _ in range(30)][-1]
    assert first[SMILE_L] > 0.05 and again[[WIDE, JAW, SMILE_L, SMILE_R]].max() < 0.02


@pytest.mark.parametrize("name", ["browDown_L", "jawOpen", "mouthSmile_R"])
def test_what_is_held_is_hardly_taken_for_rest(reader, name):
    reading, held, k = reader.start(), answer(**{name: 1.0}), NAMES.index(name)
    reported = [reading(held)[k] for _ in range(5000)]
    assert reported[0] > 0.9 and reported[30] > 0.8 and reported[-1] > 1 - LARGEST_PART - 0.12
    for _ in range(900):
        reading(answer())
    assert reading(held)[k] > reported[-1] + 0.05


def test_what_is_hardly_answered_to_is_not_reported():
    response = np.diag([0.5, 0.5, 0.02])
    reader = BlendshapeReader(("jawOpen", "mouthLeft", "eyeSquint_L"), np.zeros(3), response, np.eye(3) / NOISE**2)
    assert reader.readable.tolist() == [True, True, False]
    np.testing.assert_allclose(reader.start()(np.float32([0.4, 0, 0.3])), [0.8, 0, 0], atol=0.03)


def test_readings_of_two_faces_know_nothing_of_one_another(reader):
    expected, at_rest = reader.start()(answer(jawOpen=0.5)), reader.rest.copy()
    one, other = reader.start(), reader.start()
    for _ in range(100):
        one(answer() + np.float32(0.2))
    np.testing.assert_array_equal(other(answer(jawOpen=0.5)), expected)
    np.testing.assert_array_equal(reader.rest, at_rest)


@pytest.mark.parametrize("weights", ["regressor.onnx", "regressor_large.onnx"])
def test_the_networks_that_are_shipped_have_theirs(weights):
    entry = find_entry(ROOT / "weights" / weights, "regressor")
    model = load_face_model(ROOT / "weights" / entry.get("face_model", str))
    names = model.expression_names
    reader = BlendshapeReader.open(entry.sibling(entry.get("answers", str)).path, names)
    reported = reader.start()(reader.rest.astype(np.float32))
    assert reported.shape == (len(names),) and reported[~reader.known].max() < 0.05
    assert all(reader.readable[names.index(n)] for n in ("jawOpen", "mouthSmile_L", "browOuterUp_R", "eyeLookIn_L"))


def write(path, **parts):
    np.savez(path, **({"names": NAMES, "rest": REST, "response": RESPONSE, "precision": np.eye(8)} | parts))
    return path


def test_what_was_written_is_read(tmp_path, reader):
    again = BlendshapeReader.open(write(tmp_path / "a.npz", precision=np.eye(8) / NOISE**2), NAMES)
    np.testing.assert_allclose(again.start()(answer(jawOpen=0.5)), reader.start()(answer(jawOpen=0.5)))


@pytest.mark.parametrize(
    "parts",
    [
        {"names": NAMES[::-1]},
        {"rest": REST[1:]},
        {"response": RESPONSE[1:]},
        {"precision": np.full((8, 8), np.nan)},
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, parts):
    with pytest.raises(WeightsError, match=r"tools/answers\.py"):
        BlendshapeReader.open(write(tmp_path / "a.npz", **parts), NAMES)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_file_that_is_damaged_or_missing_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(WeightsError, match=r"tools/answers\.py"):
        BlendshapeReader.open(tmp_path / "a.npz", NAMES)
    np.savez(tmp_path / "less.npz", names=NAMES, rest=REST)
    with pytest.raises(WeightsError, match=r"tools/answers\.py"):
        BlendshapeReader.open(tmp_path / "less.npz", NAMES)
