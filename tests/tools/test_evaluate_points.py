"""The parts of the evaluation that judge points: delineated portraits, labels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import material as need_material
from tools.data import convention
from tools.evaluation import delineated, labels


def portraits():
    need_material("faces", "delineated_189.npz")
    known, rows = convention.judged()
    return known.points[rows].astype(np.float64)


def exact(drawn):
    """Points and irises that lie on a delineation."""
    points = np.zeros((68, 2))
    points[list(convention.EXACT)] = drawn[list(convention.EXACT.values())]
    return points, np.stack([drawn[list(ring)].mean(axis=0) for ring in convention.IRIS_RINGS])


def test_points_on_the_delineation_have_no_error_and_missed_faces_are_counted():
    drawn = portraits()
    found = [exact(face) for face in drawn]
    found[3] = delineated.MISSED
    figures, error = delineated.figures(found, drawn)
    assert (figures["portraits"], figures["missed"]) == (49, 1)
    assert figures["shared"] == pytest.approx(0, abs=1e-9) and figures["irises"] == pytest.approx(0, abs=1e-9)
    assert figures["closed"] < 1.0  # what the delineation itself has
    assert np.isnan(error).sum() == 1


def test_a_shift_of_a_hundredth_of_the_eye_distance_is_one_percent():
    drawn = portraits()
    scale = np.linalg.norm(drawn[:, 18] - drawn[:, 27], axis=1)
    found = [
        (p + np.array([0.01 * s, 0]), i + np.array([0, 0.02 * s]))
        for (p, i), s in zip(map(exact, drawn), scale, strict=True)
    ]
    figures, _ = delineated.figures(found, drawn)
    assert figures["shared"] == pytest.approx(1.0) and figures["irises"] == pytest.approx(2.0)
    assert figures["shared_low"] == pytest.approx(1.0) and set(figures["each"]) == {str(k) for k in convention.EXACT}


def test_a_tracker_without_irises_has_no_figure_for_them():
    drawn = portraits()
    figures, _ = delineated.figures([(exact(face)[0], delineated.MISSED[1]) for face in drawn], drawn)
    assert "irises" not in figures and "shared" in figures


@pytest.fixture
def faces():
    rng = np.random.default_rng(0)
    mean = rng.uniform(-40, 40, (68, 2))
    mean[36:42] += (-50, -30)
    mean[42:48] += (50, -30)
    points = mean + np.einsum("nk,kij->nij", rng.normal(size=(50, 4)), rng.normal(0, 1.5, (4, 68, 2)))
    return points, np.array([f"person {k // 5}" for k in range(50)])


def test_mapped_points_lose_a_constant_difference_of_conventions(faces):
    truth, people = faces
    points = truth.copy()
    points[:, 48] += 3
    assert labels.errors(points, truth)["mouth"] > 0.1
    assert labels.errors(labels.mapped(points, truth, people), truth)["inner"] < 0.05


def test_motions_that_are_damped_have_that_slope(faces):
    truth, _ = faces
    points = truth.copy()
    middle = (truth[:, [61, 62, 63]] + truth[:, [67, 66, 65]]) / 2
    for row, (upper, lower) in enumerate(((61, 67), (62, 66), (63, 65))):
        points[:, upper] = middle[:, row] + 0.5 * (truth[:, upper] - middle[:, row])
        points[:, lower] = middle[:, row] + 0.5 * (truth[:, lower] - middle[:, row])
    found = labels.follow(points, truth)
    assert found["lip_gap"]["slope"] == pytest.approx(0.5) and found["lip_gap"]["correlation"] == pytest.approx(1)
    assert found["brow_difference"]["slope"] == pytest.approx(1)


def test_labels_without_data_name_the_step_that_makes_it(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        labels.main(["--cut", str(tmp_path)])
    assert stop.value.code == 2 and "data.build faces" in capsys.readouterr().err
