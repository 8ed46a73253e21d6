"""The judge of scenarios, on made-up tracks, and the lag and jitter figures, on made-up motion."""

import numpy as np
import pytest

from tools.evaluation.scenarios import ABSENT, COVERED, FACE_PX, SEEN, judge
from tools.evaluation.steady import blink_depth, jitter_percent, lag_frames, standstill
from tracker.smoothing import SmoothingConfig

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
