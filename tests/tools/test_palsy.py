"""Figures of one-sided faces: rendered people with a weak side, and the metrics of ParFace-Net."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tools.evaluation import asymmetry, landmarks, palsy, people
from tools.evaluation.common import correlation


@pytest.fixture(scope="module")
def names():
    model, _ = people.cast(0)
    return list(model.expression_names)


def test_a_weak_side_makes_a_share_of_the_movement(names):
    healthy = palsy.expression(names, "smile", 0.5)
    weak = palsy.expression(names, "smile", 0.5, "R", 0.2)
    left, right = names.index("mouthSmile_L"), names.index("mouthSmile_R")
    assert healthy[left] == healthy[right] == weak[left] == pytest.approx(0.5)
    assert weak[right] == pytest.approx(0.1)
    assert weak[names.index("mouthFrown_R")] > 0 == weak[names.index("mouthFrown_L")]
    assert not palsy.expression(names, "", 0.0).any()


def test_the_true_excursions_are_those_of_the_moving_side(names):
    _, cast = people.cast(1, seed=3)
    person = next(cast)
    for angles in ((0.0, 0.0, 0.0), (25.0, 8.0, -6.0)):
        shots = [person.shot(*angles, palsy.expression(names, move, 1.0, "L", 0.0)) for move in ("", "brows")]
        right, left = asymmetry.truth(shots)[0]
        assert right > 4 and abs(left) < 0.5, angles
        healthy = [person.shot(*angles, palsy.expression(names, move, 1.0)) for move in ("", "brows")]
        right, left = asymmetry.truth(healthy)[0]
        assert right == pytest.approx(left, abs=0.8)


def test_clips_begin_at_rest_and_end_in_the_movement():
    (movement, shots), *others = asymmetry.clips(1, True, 5)
    assert movement == "brows" and [name for name, _ in others] == ["eyes", "smile"]
    assert len(shots) == asymmetry.RESTING + len(asymmetry.MOVING) + asymmetry.HELD
    np.testing.assert_array_equal(shots[0].expression, shots[asymmetry.RESTING - 1].expression)
    assert shots[-1].expression.max() >= 0.3 and shots[-1] is shots[-2]


def test_the_figures_of_differences():
    known = np.arange(10.0)
    found = asymmetry.figures(0.8 * known, known)
    assert found["slope"] == pytest.approx(0.8) and found["correlation"] == pytest.approx(1)
    assert correlation(known, -known) == pytest.approx(-1)


@pytest.mark.long
def test_one_sided_movements_are_reported(tmp_path):
    assert asymmetry.main(["--people", "12", "--json", str(tmp_path / "figures.json")]) == 0
    reported = json.loads((tmp_path / "figures.json").read_text())
    assert reported["precise"]["mean"]["correlation"] >= 0.85 and 0.75 <= reported["precise"]["mean"]["slope"] <= 1.2
    assert reported["default"]["mean"]["correlation"] >= 0.75 and reported["default"]["mean"]["slope"] >= 0.6
    for mode in ("precise", "default"):
        assert reported[mode]["mean"]["healthy_apart_percent"] <= 1.5


def test_errors_by_the_outer_eyes_and_the_pupils():
    truth = np.stack([shot.landmarks for shot in palsy.portraits(2)])
    found = landmarks.metrics(truth + np.array([3.0, 4.0, 0.0]), truth)
    outer = np.linalg.norm(truth[:, 45, :2] - truth[:, 36, :2], axis=1)
    middle = (truth[:, 36] + truth[:, 39] - truth[:, 42] - truth[:, 45])[:, :2] / 2
    pupils = np.hypot(middle[:, 0], middle[:, 1])
    assert found["nme_outer_eyes"] == pytest.approx(np.mean(500 / outer))
    assert found["nme_pupils"] == pytest.approx(np.mean(500 / pupils))
    assert (pupils < outer).all()


def test_the_area_under_the_curve_ends_at_10_percent():
    # the mean over thresholds 0.2, 0.4, ... 10 % of the share of faces that are as good
    assert landmarks.area_10(np.array([0.1])) == 1
    assert landmarks.area_10(np.array([10.1])) == 0
    assert landmarks.area_10(np.array([5.1, 20.0])) == pytest.approx(0.5 * 25 / 50)


def test_palsied_people_are_judged_beside_the_published_row(tmp_path, monkeypatch):
    monkeypatch.setitem(landmarks.SETS, "palsied", (landmarks.still, lambda: landmarks.palsied_people(2)))
    json_path = tmp_path / "figures.json"
    assert landmarks.main(["--sets", "palsied", "--json", str(json_path), "--config", "configs/precise.toml"]) == 0
    reported = json.loads(json_path.read_text())["palsied"]
    assert reported["published, on its own set"]["gte"] == 8.193
    assert set(landmarks.PUBLISHED) <= set(reported["precise"]) and reported["precise"]["pictures"] == 2
