"""The part of the evaluation that judges ranges of expressions."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from facet.tracker.mirror import MIRROR_68
from tests.conftest import material as need_material
from tools.data import material
from tools.evaluation import measures, people
from tools.evaluation import range as evaluation
from tools.face_model.anatomy import anatomical_points

FRAMES = 60
# a plain face, px: the 68 points on lines and ellipses
X = np.r_[
    np.linspace(-70, 70, 17), np.linspace(-60, -15, 5), np.linspace(15, 60, 5), np.zeros(4), np.linspace(-12, 12, 5),
    -45, -38, -28, -18, -28, -38, 18, 28, 38, 45, 38, 28,
    -25, -16, -7, 0, 7, 16, 25, 16, 7, 0, -7, -16, -22, -7, 0, 7, 22, 7, 0, -7,
]  # fmt: skip
Y = np.r_[
    70 * np.sin(np.linspace(0, np.pi, 17)) + 10, np.full(10, -50.0), np.linspace(-25, 5, 4), np.full(5, 15.0),
    -28, -33, -33, -28, -24, -24, -28, -33, -33, -28, -24, -24,
    40, 33, 30, 31, 30, 33, 40, 46, 49, 49, 49, 46, 40, 39, 39, 39, 40, 39, 39, 39,
]  # fmt: skip
FACE = np.stack([X, Y], axis=1)


@pytest.fixture
def frames():
    """A face that opens its lips, raises one brow and blinks, with a little noise: (n, 68, 2)."""
    points = np.tile(FACE, (FRAMES, 1, 1)) + np.random.default_rng(0).normal(0, 0.02, (FRAMES, 68, 2))
    t = np.linspace(0, 6, FRAMES)
    points[:, 65:68, 1] += (10 * np.sin(t) ** 2)[:, None]
    points[:, 17:22, 1] -= (8 * np.sin(1.7 * t) ** 2)[:, None]
    for lids in ([37, 38], [43, 44]):
        points[:, lids, 1] += (8 * (np.sin(2.3 * t) > 0.9))[:, None]
    return points


def mesh_of(points):
    """MediaPipe's form, (n, 478, 3), of which only the 68 points, and irises between the corners, are known."""
    mesh = np.zeros((len(points), 478, 3))
    mesh[:, material.MESH_TO_68, :2] = points
    for iris, corners in zip((468, 473), ([36, 39], [42, 45]), strict=True):
        mesh[:, iris, :2] = points[:, corners].mean(axis=1)
    return mesh


def judged(found, truth, mirrored=None, blinks=None):
    blinks = np.zeros((len(found), 2)) if blinks is None else blinks
    return evaluation.on_video([(p, evaluation.NO_IRISES) for p in found], blinks, mesh_of(truth), mirrored, 640)


def flipped(points):
    return mesh_of((points * (-1, 1) + (640, 0))[:, MIRROR_68])


def test_measures_are_those_of_the_acceptance(frames):
    path = need_material("acceptance", "expression.py")
    spec = importlib.util.spec_from_file_location("expression", path)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    turned = frames @ np.array([[0.9, 0.3], [-0.3, 0.9]]) + 50
    wanted, got = theirs.table(turned), measures.measure(turned)
    for name, values in got.items():
        np.testing.assert_allclose(values, wanted[name.replace("_right", "_R").replace("_left", "_L")], atol=1e-12)
    for ours, other in (("brows", "brow"), ("corners", "corner"), ("lids", "lid")):
        np.testing.assert_allclose(measures.difference(got, ours), wanted[f"{other}_difference"], atol=1e-12)
    noisy = got["lip_gap"] * 0.6 + np.random.default_rng(1).normal(0, 0.01, FRAMES)
    np.testing.assert_allclose(measures.follows(noisy, got["lip_gap"]), theirs.follows(noisy, got["lip_gap"]))


def test_the_same_points_follow_fully(frames):
    result = judged(frames, frames, flipped(frames))
    for name in ("lip_gap", "lids", "brows_apart"):
        assert result[name]["slope"] == pytest.approx(1) and result[name]["correlation"] == pytest.approx(1)
    assert result["brows_apart"]["mediapipe_slope"] == pytest.approx(1)
    assert result["compared"] == FRAMES and result["lost"] == result["false_winks"] == 0
    assert "mouth_width" not in result and "lids_apart" not in result  # they do not move


def test_half_of_a_motion_is_a_slope_of_a_half(frames):
    half = FACE + (frames - FACE) / 2
    result = judged(half, frames, flipped(frames))
    assert result["lip_gap"]["slope"] == pytest.approx(0.5, abs=0.01)
    assert result["brows_apart"]["slope"] == pytest.approx(0.5, abs=0.01)


def test_sides_count_only_where_the_mirror_image_agrees(frames):
    still = frames.copy()
    still[:, 17:22] = FACE[17:22] + np.random.default_rng(2).normal(0, 2, (FRAMES, 5, 2))
    assert "brows_apart" not in judged(frames, frames, flipped(still))
    assert "brows_apart" not in judged(frames, frames)


def test_closed_lips_and_lost_faces_are_counted(frames):
    found = frames.copy()
    found[:, 65:68, 1] += 2.7  # 3 % of the 90 px between the outer corners
    found[:5] = np.nan
    result = judged(found, frames)
    closed = measures.measure(frames)["lip_gap"][5:] < 0.01
    assert (result["lost"], result["closed_frames"]) == (5, closed.sum()) and 5 < closed.sum() < FRAMES - 5
    assert result["closed_lips"] == pytest.approx(3.0, abs=0.5)


def test_one_lid_down_is_a_false_wink_only_while_the_lids_are_alike(frames):
    blinks = np.zeros((FRAMES, 2))
    blinks[10:14, 0] = 0.9
    assert judged(frames, frames, blinks=blinks)["false_winks"] == 4
    winking = frames.copy()
    winking[10:14, [37, 38], 1] = -24
    assert judged(winking, winking, blinks=blinks)["false_winks"] == 0


def test_medians_over_videos():
    a = {"frames": 10, "lip_gap": {"slope": 0.5}, "closed_lips": 1.0}
    b = {"frames": 30, "lip_gap": {"slope": 0.7}}
    c = {"frames": 2, "lip_gap": {"slope": 0.9}, "closed_lips": 3.0}
    assert evaluation.median_of([a, b, c]) == {
        "videos": 3, "frames": 42, "lip_gap": {"slope": 0.7, "videos": 3}, "closed_lips": 2.0,
    }  # fmt: skip


def test_videos_without_meshes_are_a_wrong_option(capsys):
    with pytest.raises(SystemExit) as error:
        evaluation.main(["--video", "clip.mp4"])
    assert error.value.code == 2 and "belong together" in capsys.readouterr().err


def test_rendered_truth_lies_where_the_anatomy_is():
    model, cast = people.cast(1, 3)
    person = next(cast)
    expression = np.zeros(model.expression_count, np.float32)
    shot = person.shot(0, 0, 0, expression, face_px=240.0)
    points, irises = evaluation.exact(shot, anatomical_points(model)(np.concatenate([person.shape, expression])))
    assert np.ptp(points, axis=0).max() == pytest.approx(240, rel=0.05) and shot.picture.shape == (576, 576, 3)
    assert np.linalg.norm(points[[61, 62, 63]] - points[[67, 66, 65]], axis=1).max() < 0.02 * 240  # lips touch
    for iris, (a, b) in zip(irises, ((36, 39), (42, 45)), strict=True):
        assert points[a, 0] < iris[0] < points[b, 0]
