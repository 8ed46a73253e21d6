import numpy as np
import pytest

from facet.tracker.crop import CropSpec
from facet.tracker.mirror import MIRROR_68, Mirror
from facet.tracker.morphable import load_face_model
from facet.tracker.pose import rotation_from_angles
from facet.tracker.types import FaceParams
from tests.conftest import ROOT
from tools.face_model import proportions
from tools.face_model.parts import fit_sphere


@pytest.fixture(scope="module")
def model():
    return load_face_model(ROOT / "weights" / "face_model.npz")


def ball(centre, radius=12.0):
    directions = np.random.default_rng(5).normal(size=(60, 3))
    return centre + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def surface():
    """Rows (N, 1 + 2, 3) of a flat face with two balls behind it, the landmarks' and the balls' vertices."""
    x, y = np.meshgrid(np.linspace(-60, 60, 25), np.linspace(-60, 60, 25))
    flat = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    mean = np.concatenate([flat, ball((-30, 30, -12)), ball((30, 30, -12))])
    modes = np.random.default_rng(0).normal(size=(len(mean), 2, 3))
    balls = [np.arange(625, 685), np.arange(685, 745)]
    return np.concatenate([mean[:, None], modes], axis=1), np.arange(0, 625, 9)[:68], balls


def test_landmarks_come_to_where_they_are_wanted_and_the_rest_follows_smoothly():
    rows, landmarks, balls = surface()
    place = rows[landmarks, 0]
    moves = np.zeros((68, 3, 3))
    moves[:, 0] = np.stack([0.02 * place[:, 0], np.sin(place[:, 0] / 40), 0 * place[:, 0] + 1], axis=1)
    moves[:, 2, 1] = 0.01 * place[:, 1]
    anchors = np.array([[0.0, 200.0, 0.0]])
    moved = proportions.adapt(rows, landmarks, rows[landmarks] + moves, balls, anchors)
    assert np.abs(moved[landmarks] - rows[landmarks] - moves)[17:, [0, 2]].max() < 0.2  # the jaw's count for less
    assert np.array_equal(moved[:, 1], rows[:, 1])  # nothing was wanted of this mode
    field = (moved - rows)[:625, 0].reshape(25, 25, 3)
    assert np.abs(np.diff(field, axis=0)).max() < 0.5 and np.abs(np.diff(field, axis=1)).max() < 0.5
    for vertices in balls:
        before, after = fit_sphere(rows[vertices, 0]), fit_sphere(moved[vertices, 0])
        residual = np.linalg.norm(moved[vertices, 0] - after[0], axis=1) - after[1]
        assert np.abs(residual).max() < 1e-6  # it is a ball still, a little larger
        assert np.linalg.norm(after[0] - before[0]) > 0.5 and 1 < after[1] / before[1] < 1.05


def test_modes_of_the_other_sign_are_known():
    rows, landmarks, balls = surface()
    wanted = rows[landmarks] + np.array([0, 0.3, -0.2])[:, None]
    moved = proportions.adapt(rows, landmarks, wanted, balls, rows[:0, 0])
    turned = rows * np.array([1, -1, 1])[:, None]
    again = proportions.adapt(turned, landmarks, wanted, balls, rows[:0, 0])
    assert np.allclose(again * np.array([1, -1, 1])[:, None], moved)


def test_an_anchor_holds():
    rows, landmarks, balls = surface()
    wanted = rows[landmarks] + np.array([1.0, 0, 0])[:, None]
    free, held = (
        proportions.adapt(rows, landmarks, wanted, balls, anchors)[0, 0, 0] - rows[0, 0, 0]
        for anchors in (rows[:0, 0], np.repeat(rows[:1, 0], 3, axis=0))
    )
    assert held < 0.5 * free


def test_corrections_are_learnt_from_what_is_seen():
    """Known ones come back, a twentieth of the labels being far off."""
    rng = np.random.default_rng(1)
    count, true = 4000, rng.normal(0, 0.5, (68, 3, 3))
    shape = rng.normal(size=(count, 2))
    turns = np.array([rotation_from_angles(*angles) for angles in rng.normal(0, (35, 20, 10), (count, 3))])
    camera = np.zeros((count, 3, 4))
    camera[:, :, :3] = rng.uniform(0.5, 2, (count, 1, 1)) * turns * np.array([1, -1, 1])[:, None]
    shown = rng.uniform(0, 200, (count, 68, 2))
    full = np.einsum("nk,pkc->npc", np.c_[np.ones(count), shape], true)
    wanted = shown + np.einsum("nij,npj->npi", camera[:, :2, :3], full) + rng.normal(0, 0.2, shown.shape)
    wanted[: count // 20] += 30
    found = proportions.learn(shown, wanted, camera, shape)
    assert np.abs(found - true)[..., :2].max() < 0.15  # the ridge holds back a little, more so in depth
    assert np.corrcoef(found[..., 2].ravel(), true[..., 2].ravel())[0, 1] > 0.95


def test_both_sides_are_corrected_alike(model):
    mirror = Mirror.of(model)
    found = np.random.default_rng(2).normal(size=(68, 1 + model.shape_count, 3))
    alike = proportions.symmetric(found, mirror)
    assert np.allclose(proportions.symmetric(alike, mirror), alike)
    assert np.allclose(alike[MIRROR_68, 0] * (-1, 1, 1), alike[:, 0])
    for k in (0, 1, 2, 3, 4):
        sign = mirror.shape_sign[k]
        assert np.allclose(alike[MIRROR_68, 1 + k] * (-1, 1, 1) * sign, alike[:, 1 + k])


def test_what_most_brows_do_is_rest(model):
    mirror, names = Mirror.of(model), model.expression_names
    seen = np.random.default_rng(3).uniform(0, 1, (300, len(names)))
    seen[:, names.index("browDown_L")] = np.linspace(0.2, 0.5, 300)
    seen[:, names.index("browDown_R")] = np.linspace(0.4, 0.7, 300)
    rest = proportions.at_rest(seen, names, mirror)
    assert np.allclose(rest[[names.index("browDown_L"), names.index("browDown_R")]], 0.4, atol=0.01)  # of (0.3, 0.5)
    assert all(weight == 0 for name, weight in zip(names, rest, strict=True) if not name.startswith("brow"))


def test_a_network_is_asked_in_the_pixels_of_the_cuts(model):
    """It predicts, for each crop, the camera that stands where its marked pixels are."""
    size = 60
    rest = np.zeros(model.shape_count, np.float32), np.zeros(model.expression_count, np.float32)

    class Network:
        crop_spec = CropSpec(size, box_scale=1.5, box_shift_y=0.0, landmark_scale=1.4)

        def __call__(self, crops):
            faces = []
            for crop in crops:
                y, x = np.unravel_index(crop[..., 0].argmax(), crop.shape[:2])
                camera = np.zeros((3, 4), np.float32)
                camera[:, 3] = x + 0.5, y + 0.5, 0
                faces.append(FaceParams(camera, *rest, 0.9))
            return faces

    Network.size = size
    image = np.zeros((200, 200, 3), np.uint8)
    image[118:123, 78:83] = 255
    image[120, 80] = 255
    points = np.random.default_rng(0).uniform(60, 140, (68, 2))
    (face,) = proportions.predictions(Network(), Mirror.of(model), image[None], points[None])
    assert np.abs(face.camera[:2, 3] - (80.5, 120.5)).max() < 3  # a crop's pixel is about two of the cut's
