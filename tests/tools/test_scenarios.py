"""The judge of scenarios, on made-up tracks, and the lag and jitter figures, on made-up motion."""

import itertools

import numpy as np
import pytest

from facet.tracker.smoothing import SmoothingConfig
from tools.evaluation.scenarios import ABSENT, COVERED, FACE_PX, SCENARIOS, SEEN, SIZE_WH, Stage, cut_out, judge
from tools.evaluation.steady import blink_depth, jitter_percent, lag_frames, standstill

HERE, THERE = np.array([100.0, 100.0]), np.array([500.0, 100.0])


def people(*states):
    """Truth of one person at HERE."""
    return [{0: (HERE, state)} if state is not None else {} for state in states]


@pytest.mark.parametrize(
    ("truth", "found", "counts"),
    [
        (people(SEEN, SEEN), [[(1, HERE)], [(1, HERE + 3)]], (0, 0, 0, 0)),
        (people(SEEN, SEEN, SEEN), [[(1, HERE)], [], [(1, HERE)]], (1, 0, 1, 0)),
        (people(SEEN, None, None, SEEN, SEEN), [[(1, HERE)], [], [], [], [(1, HERE)]], (1, 0, 1, 0)),
        (people(SEEN, SEEN), [[(1, HERE)], [(2, HERE)]], (0, 0, 0, 1)),
        (people(SEEN, COVERED, SEEN), [[(1, HERE)], [(1, HERE)], [(1, HERE)]], (0, 0, 0, 0)),
        (people(SEEN, COVERED, SEEN), [[(1, HERE)], [], [(1, HERE)]], (0, 0, 0, 0)),
        (people(ABSENT), [[(1, HERE)]], (0, 1, 0, 0)),
        (people(SEEN), [[(1, HERE + FACE_PX)]], (1, 1, 1, 0)),
        ([{0: (HERE, SEEN)}, {1: (THERE, SEEN)}], [[(1, HERE)], [(1, THERE)]], (0, 0, 0, 1)),
        ([{1: (HERE + 9, COVERED), 0: (HERE, SEEN)}], [[(1, HERE)]], (0, 0, 0, 0)),
    ],
)
def test_counts(truth, found, counts):
    found = [[(*face, FACE_PX) for face in faces] for faces in found]
    assert tuple(judge(truth, found).values()) == counts


def test_a_track_on_the_nose_alone_is_false():
    assert tuple(judge(people(SEEN), [[(1, HERE, FACE_PX / 3)]]).values()) == (1, 1, 1, 0)


@pytest.fixture(scope="module")
def stage():
    """Two grey rooms and three people, who are coloured patches."""
    rooms = [np.full((SIZE_WH[1], SIZE_WH[0], 3), grey, np.float32) for grey in (90, 120)]
    points = np.random.default_rng(0).uniform(60, 140, (68, 2))
    people = [cut_out(np.full((200, 200, 3), 60 * k + 70, np.uint8), points) for k in range(3)]
    return Stage(*rooms, people)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_shows_who_is_said_to_be_seen(stage, name):
    anybody = 0
    for picture, faces in itertools.islice(getattr(stage, name)(), 0, None, 12):
        assert picture.shape == (SIZE_WH[1], SIZE_WH[0], 3)
        for middle, state in faces.values():
            x, y = np.round(middle).astype(int)
            if state == SEEN and 0 <= x < SIZE_WH[0] and 0 <= y < SIZE_WH[1] and picture.mean() > 60:
                anybody += 1
                assert np.abs(picture[y, x] - stage.room[y, x]).max() > 5 or np.abs(picture[y, x] - 120).max() > 5
    assert anybody or name == "nobody"


@pytest.mark.parametrize("delay", [0.0, 0.5, 2.0])
def test_lag_is_the_delay(delay):
    t = np.arange(180)
    assert lag_frames(np.sin((t - delay) / 7), np.sin(t / 7)) == pytest.approx(delay, abs=0.06)


def test_jitter_and_standstill():
    still = np.random.default_rng(0).uniform(0, 100, (1, 68, 2)).repeat(20, axis=0)
    still[0, :2] = still[:, :2] = [[0, 0], [100, 100]]
    shaken = still + np.tile([0.0, 1.0], 10)[:, None, None] * [1.0, 0.0]
    assert jitter_percent(still) == 0
    assert jitter_percent(shaken) == pytest.approx(1.0, rel=0.01)
    assert standstill(np.array([1, 2, 2, 2, 3, 3])) == 3


def test_the_shipped_filter_keeps_blinks():
    assert blink_depth(SmoothingConfig()) >= 0.9
    assert blink_depth(SmoothingConfig(eyelid_cutoff_hz=0.5, eyelid_beta=0.0)) < 0.5
