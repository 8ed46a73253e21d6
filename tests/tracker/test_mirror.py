"""What the mirror makes of landmarks, blendshapes and answers."""

import numpy as np
import pytest

from facet.tracker.mirror import MIRROR_68, Mirror, other_side
from facet.tracker.morphable import load_face_model, make_model
from facet.tracker.types import FaceParams
from facet.tracker.weights import ROOT
from tests.reference import mirror_68

SIZE_PX = 112


@pytest.fixture(scope="module")
def model():
    return load_face_model(ROOT / "weights" / "face_model.npz")


def face_of(model, seed):
    rng = np.random.default_rng(seed)
    yaw, roll = rng.uniform(-0.8, 0.8, 2)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]]) @ turn
    camera = np.column_stack([0.5 * turn * [[1], [-1], [1]], (*rng.uniform(40, 70, 2), 0)]).astype(np.float32)
    shape = rng.normal(size=model.shape_count).astype(np.float32)
    return FaceParams(camera, shape, rng.random(model.expression_count).astype(np.float32), 0.75)


def test_landmarks_and_names_change_sides_and_come_back():
    assert np.array_equal(MIRROR_68, mirror_68())
    assert np.array_equal(MIRROR_68[MIRROR_68], np.arange(68))
    for name, other in {"eyeBlink_L": "eyeBlink_R", "jawLeft": "jawRight", "jawOpen": "jawOpen"}.items():
        assert other_side(name) == other and other_side(other) == name


@pytest.mark.parametrize("seed", range(4))
def test_the_mirrored_answer_lies_where_the_mirror_image_does(model, seed):
    mirror, face = Mirror.of(model), face_of(model, seed)
    mirrored = mirror.face(face, SIZE_PX)
    points = model.landmarks(face.camera, face.shape, face.expression)
    expected = (points * (-1, 1, 1) + (SIZE_PX, 0, 0))[MIRROR_68]
    found = model.landmarks(mirrored.camera, mirrored.shape, mirrored.expression)
    # 0.5 px a mm; the lines of the contour are not quite alike on both sides
    assert np.abs(found - expected)[17:].max() < 0.1 and np.abs(found - expected).max() < 1.5
    back = mirror.face(mirrored, SIZE_PX)
    for name in ("camera", "shape", "expression"):
        np.testing.assert_allclose(getattr(back, name), getattr(face, name), atol=1e-4)
    assert mirrored.score == face.score


def test_shapes_that_no_mirror_maps_onto_one_another_have_none(model):
    rng = np.random.default_rng(0)
    packed = {"mean": model.mean, "triangles": model.triangles, "landmark_vertices": model.landmark_vertices}
    still = np.zeros((1, len(model.mean), 3), np.float32)
    uneven = rng.normal(size=(2, len(model.mean), 3)).astype(np.float32)
    assert (
        Mirror.of(make_model(**packed, shape_basis=uneven, expression_basis=still, expression_names=("jawOpen",)))
        is None
    )
    even = model.shape_basis[:2]
    assert Mirror.of(make_model(**packed, shape_basis=even, expression_basis=still, expression_names=("jawOpen",)))
    assert Mirror.of(make_model(**packed, shape_basis=even, expression_basis=still)) is None
    one_sided = ("mouthSmile_L",)
    assert Mirror.of(make_model(**packed, shape_basis=even, expression_basis=still, expression_names=one_sided)) is None
