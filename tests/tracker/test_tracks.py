"""When a track is believed: the network's score, geometry, looks, and the detector's word."""

from dataclasses import replace

import numpy as np
import pytest

from facet.tracker.appearance import Appearance
from facet.tracker.pose import pose_from_camera
from facet.tracker.tracks import (
    Observation,
    Slot,
    TrackerConfig,
    Tracks,
    Verdict,
    compare_with,
    fits,
    judge,
    overlap,
    step_between,
)
from facet.tracker.types import Box, Roi, TrackState

SIZE_WH = (640, 480)
CONFIG = TrackerConfig()
LOOKS = np.eye(192, dtype=np.float32)


def seen(x=320.0, y=240.0, size=100.0, score=0.99, looks=0) -> Observation:
    """A face whose landmarks fill a square."""
    side = np.linspace(-0.5, 0.5, 68)
    landmarks = np.column_stack([x + size * side, y + size * side[::-1], np.zeros(68)]).astype(np.float32)
    scale = size / 140
    camera = np.float32([[scale, 0, 0, x], [0, -scale, 0, y], [0, 0, scale, 0]])
    roi = Roi(x - size, y - size, 2 * size)
    return Observation(
        roi, camera, pose_from_camera(camera), np.zeros(1), 0.0, np.zeros(1), landmarks, score, LOOKS[looks]
    )


def tracked(first: Observation) -> tuple[Tracks, Slot]:
    tracks = Tracks(CONFIG)
    slot = tracks.start(first, 0.0)
    for _ in range(5):
        tracks.carry_on(slot, first)
    assert slot.state is TrackState.TRACKED
    return tracks, slot


def box(x, y, size) -> Box:
    return Box(x - size / 2, y - size / 2, x + size / 2, y + size / 2, 0.9)


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        (seen(), Verdict.GOOD),
        (seen(score=None), Verdict.GOOD),
        (seen(score=0.1), Verdict.WRONG),
        (seen(score=0.3), Verdict.GOOD),
        (seen(size=200), Verdict.WRONG),
        (seen(size=50), Verdict.WRONG),
        (seen(x=-60), Verdict.WRONG),
        (seen(size=4), Verdict.WRONG),
        (seen(looks=5), Verdict.DOUBTFUL),
        (replace(seen(), shape_energy=50.0), Verdict.DOUBTFUL),
        (replace(seen(), landmarks=np.full((68, 3), np.nan, np.float32)), Verdict.WRONG),
    ],
)
def test_verdicts(new, verdict):
    _, slot = tracked(seen())
    assert judge(slot, new, SIZE_WH, CONFIG) is verdict


def test_a_face_that_shrinks_within_a_second_is_asked_about_and_one_that_walks_away_is_not():
    tracks, slot = tracked(seen(size=200))
    sizes = 200 * 0.93 ** np.arange(1, 12)
    assert Verdict.DOUBTFUL in [judged(tracks, slot, seen(size=size)) for size in sizes]
    tracks, slot = tracked(seen(size=200))
    sizes = 200 * 0.99 ** np.arange(1, 120)
    assert {judged(tracks, slot, seen(size=size)) for size in sizes} == {Verdict.GOOD}


def judged(tracks, slot, new):
    verdict = judge(slot, new, SIZE_WH, CONFIG)
    tracks.carry_on(slot, new)
    return verdict


def test_the_detector_confirms_a_face_of_its_size_only():
    _, slot = tracked(seen(size=100))
    assert compare_with([box(325, 230, 120)], [slot], 7.0) == []
    assert slot.verified_s == 7.0
    assert compare_with([box(500, 100, 100)], [slot], 8.0) == [], "a face elsewhere says nothing"
    assert slot.verified_s == 7.0
    assert compare_with([box(330, 250, 260)], [slot], 9.0) == [slot], "the track is on a part of a face"
    assert compare_with([box(330, 250, 40)], [slot], 9.0) == [slot], "the track is far larger than the face"
    assert compare_with([box(330, 250, 40), box(322, 240, 110)], [slot], 10.0) == [], "a small face before a large one"
    assert slot.verified_s == 10.0


def test_the_next_crop_goes_on_with_a_motion_and_not_with_a_tremble():
    still = seen(size=100)

    def step(x, y=0.0, z=0.0):
        return step_between(still, replace(still, landmarks=still.landmarks + np.float32([x, y, z])))

    assert step(0.9) == (0, 0)
    assert step(-6, 8, 50) == pytest.approx((-6, 8), abs=1e-3)
    lengths = [np.hypot(*step(x)) for x in np.linspace(0, 6, 60)]
    assert (np.diff(lengths) >= -1e-4).all()
    assert np.diff(lengths).max() < 0.5, "no jump where it sets in"


def test_fits_is_intersection_over_union():
    rng = np.random.default_rng(2)
    for _ in range(200):
        a, b = (np.concatenate([low, low + rng.uniform(5, 80, 2)]) for low in rng.uniform(0, 60, (2, 2)))
        y, x = np.mgrid[0:300, 0:300] * 0.5 + 0.25
        inside = [(x > r[0]) & (x < r[2]) & (y > r[1]) & (y < r[3]) for r in (a, b)]
        share = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
        if abs(share - 0.3) > 0.03:
            assert fits(a, b) == (share > 0.3)
        smaller = min(inside[0].sum(), inside[1].sum())
        assert overlap(a, b) == pytest.approx((inside[0] & inside[1]).sum() / smaller, abs=0.08)


def test_a_lost_face_comes_back_to_its_id_by_its_looks():
    tracks, slot = tracked(seen(looks=3))
    assert not tracks.remembers
    tracks.lose(slot, 1.0)
    assert tracks.remembers
    assert tracks.start(seen(x=100, looks=9), 1.5).id != slot.id
    assert tracks.start(seen(x=500, looks=3), 2.0) is slot
    assert not tracks.remembers


def test_who_comes_out_from_behind_somebody_gets_the_id_back():
    """Half covered it looks like nobody known; once it is seen whole, it is known again, and stays so."""
    tracks, slot = tracked(seen(x=300, looks=3))
    slot.reading = at_rest = object()
    tracks.lose(slot, 1.0)
    young = tracks.start(seen(x=240, looks=8), 1.5)
    assert young.id != slot.id
    young.reading = object()
    for _ in range(5):
        tracks.carry_on(young, seen(x=235, looks=8))
    known = slot.id
    tracks.carry_on(young, seen(x=230, looks=3))
    assert [s.id for s in tracks.active] == [known]
    assert young.reading is at_rest  # what was learnt of its face is kept
    assert not tracks.remembers
    tracks.carry_on(young, seen(x=230, looks=8))
    assert young.id == known


@pytest.mark.parametrize("how", ["far away", "later", "a cut between"])
def test_a_stranger_keeps_an_id_of_its_own(how):
    tracks, slot = tracked(seen(x=300, looks=3))
    if how == "a cut between":
        tracks.lose_all(1.0)
    else:
        tracks.lose(slot, 1.0)
    young = tracks.start(seen(x=600 if how == "far away" else 290, looks=8), 1.5)
    own = young.id
    for _ in range(40 if how == "later" else 3):
        tracks.carry_on(young, seen(looks=8))
    tracks.carry_on(young, seen(looks=3))
    assert young.id == own != slot.id


def test_looks_are_those_of_the_whole_track():
    looks = Appearance()
    for index in range(5):
        looks.add(LOOKS[index])
    assert looks.likeness(LOOKS[2]) == 1
    assert looks.likeness(LOOKS[99]) == 0
