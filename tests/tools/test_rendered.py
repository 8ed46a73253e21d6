"""Rendered faces: what is drawn agrees with the truth beside it."""

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is for the tools alone")

from facet.tracker.morphable import load_face_model
from facet.tracker.pose import pose_from_camera
from facet.tracker.weights import ROOT
from tests.tools import training_data
from tools.actor import Actor, Look
from tools.data import augment, rendered
from tools.data.crops import SIZE_PX, mirrored_68
from tools.regressor.data import GROUP_WEIGHT, load_table, made_labels, training_rows
from tools.solids import glasses


@pytest.fixture(scope="module")
def model():
    return load_face_model(ROOT / "weights" / "face_model.npz")


@pytest.fixture
def data(tmp_path):
    return training_data.write(tmp_path)


@pytest.fixture(scope="module")
def people():
    grey = np.full((50, 50, 3), 128, np.uint8)
    return list(rendered.faces(24, 7, lambda rng: grey))


def test_a_number_makes_the_same_people(people):
    grey = np.full((50, 50, 3), 128, np.uint8)
    again = list(rendered.faces(2, 7, lambda rng: grey))
    for one, other in zip(people, again, strict=False):
        np.testing.assert_array_equal(one.picture, other.picture)
    assert not np.array_equal(people[0].picture, people[1].picture)


def test_faces_fill_their_share_and_stand_out_from_the_ground(people):
    for face in people:
        low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
        assert (high - low).max() == pytest.approx(SIZE_PX * rendered.FACE_SHARE, rel=0.01)
        np.testing.assert_allclose((low + high) / 2, SIZE_PX / 2, atol=0.5)
        hull = cv2.convexHull(face.landmarks[:, :2].astype(np.float32)).astype(np.int32)
        inside = cv2.fillPoly(np.zeros((SIZE_PX, SIZE_PX), np.uint8), [hull], 1) > 0
        assert (np.abs(face.picture[inside].astype(int) - 128).max(axis=1) > 4).mean() > 0.9


def test_the_camera_says_how_the_head_is_turned(people):
    for face in people:
        assert pose_from_camera(face.camera).yaw_deg == pytest.approx(face.yaw_deg, abs=0.5)
    assert max(abs(face.yaw_deg) for face in people) > 60


def test_a_dark_spot_of_the_texture_appears_where_the_model_says(model):
    """The pupils are drawn where the vertices of the pupils are."""
    texture = dict(np.load(ROOT / "weights" / "skin.npz"))
    actor = Actor(model, texture, np.zeros(model.shape_count, np.float32), Look(skin=np.zeros(len(texture["modes"]))))
    camera = np.float32([[3, 0, 0, 300], [0, -3, 0, 300], [0, 0, 3, 0]])
    expression = np.zeros(model.expression_count, np.float32)
    expression[model.expression_names.index("eyeWide_L")] = 1
    picture = actor.draw(np.full((600, 600, 3), 128, np.float32), camera, expression)
    pupil = model.region == model.region_names.index("pupil")
    vertices = model.vertices(actor.shape, expression)[pupil & (model.mean[:, 0] > 0)]
    x, y = (camera[:2, :3] @ vertices.mean(0) + camera[:2, 3]).astype(int)
    assert picture[y, x].max() < 40 < picture[y, x + 30].min()


def test_one_eye_may_close_and_most_eyes_look_together(model):
    rng = np.random.default_rng(0)
    names = list(model.expression_names)
    drawn = np.array([rendered.random_expression(rng, names) for _ in range(1200)])
    assert drawn.min() >= 0 and drawn.max() <= 1
    left, right = (drawn[:, names.index(f"eyeBlink_{side}")] for side in "LR")
    assert ((left > 0.9) & (right < 0.1)).sum() > 30 and ((left > 0.9) & (right > 0.9)).sum() > 180
    # some are shut with effort, by that side of the face alone
    squint = [drawn[:, names.index(f"cheekSquint_{side}")] for side in "LR"]
    assert ((left > 0.9) & (right < 0.1) & (squint[0] > 0.2) & (squint[1] == 0)).sum() > 9
    out, into = drawn[:, names.index("eyeLookOut_L")], drawn[:, names.index("eyeLookIn_R")]
    assert 0.8 < (out == into).mean() < 0.95
    assert (out * drawn[:, names.index("eyeLookIn_L")] == 0).all()


def test_every_move_is_drawn_alone_on_either_side_and_on_both(model):
    rng = np.random.default_rng(1)
    names = list(model.expression_names)
    drawn = np.array([rendered.random_expression(rng, names) for _ in range(3000)])
    for name in (n for n in names if n.endswith("_L") and not n.startswith(rendered.PLACED)):
        left, right = drawn[:, names.index(name)], drawn[:, names.index(name[:-1] + "R")]
        for shown in ((left > 0.3) & (right < 0.05), (left < 0.05) & (right > 0.3), (left > 0.3) & (left == right)):
            assert shown.sum() > 10, name
    for one, other in (("jawLeft", "jawRight"), ("mouthLeft", "mouthRight")):
        both = drawn[:, [names.index(one), names.index(other)]]
        assert (both.max(axis=0) > 0.5).all() and (both.min(axis=1) == 0).all()


def test_gaze_goes_with_the_eyes(model, people):
    near = [face for face in people if abs(face.yaw_deg) < 25]
    names = list(model.expression_names)
    reported = [rendered.gaze_of(model, face)[1, 0] for face in near]
    out, into = (np.array([f.expression[names.index(f"eyeLook{way}_L")] for f in near]) for way in ("Out", "In"))
    assert len(near) >= 8 and np.corrcoef(reported, out - into)[0, 1] > 0.8


def test_lenses_close_the_frames():
    eyes = np.array([[-31.0, 29, 84], [32.0, 30, 85]])
    (clear, lenses), (dark, _) = (glasses(eyes, 104.0, dark) for dark in (False, True))
    assert len(clear) == len(dark) == 5
    assert np.ptp(clear[0][0][:32, 0]) > 40 and np.ptp(dark[0][0][:32, 0]) < 1e-6
    for eye, lens in zip(eyes, lenses, strict=True):  # before the eye, and around it
        assert (lens[:, 2] > eye[2] + 5).all()
        assert (lens.min(axis=0) < eye)[:2].all() and (eye < lens.max(axis=0))[:2].all()


def mouth_of(model, moves, **more):
    """How many px of somebody's mouth, 4 a mm, show lit teeth, and how many show flesh."""
    texture = dict(np.load(ROOT / "weights" / "skin.npz"))
    look = Look(np.zeros(len(texture["modes"])), tooth_bgr=(250, 0, 0), mouth_bgr=(0, 100, 0), **more)
    expression = np.zeros(model.expression_count, np.float32)
    for name, weight in moves.items():
        expression[model.expression_names.index(name)] = weight
    actor = Actor(model, texture, np.zeros(model.shape_count, np.float32), look)
    camera = np.float32([[4, 0, 0, 120], [0, -4, 0, -80], [0, 0, 4, 0]])
    drawn = actor.draw(np.full((240, 240, 3), 128, np.float32), camera, expression)
    blue, green, red = np.moveaxis(drawn, -1, 0)
    return (blue > 2 * red + 50).sum(), (green > 2 * red + 20).sum()


def test_open_mouths_show_teeth_and_tongue_and_closed_ones_neither(model):
    assert mouth_of(model, {}) == (0, 0)
    teeth, flesh = mouth_of(model, {"jawOpen": 0.6})
    assert flesh > 3000
    smile = {"mouthUpperUp_L": 0.8, "mouthUpperUp_R": 0.8, "mouthLowerDown_L": 0.8, "mouthLowerDown_R": 0.8}
    shown, _ = mouth_of(model, smile)
    assert shown > 3000 and teeth < 100
    raised = mouth_of(model, {"jawOpen": 0.6}, tongue=(1.0, 1.0))
    assert raised[1] > 1.05 * flesh


def test_one_side_of_a_palsied_face_stays_weak(model):
    names = list(model.expression_names)
    for seed in range(20):
        weights = dict.fromkeys(names, 0.8)
        rendered.palsied(np.random.default_rng(seed), weights)
        moves = "mouthSmile", "browOuterUp", "eyeBlink"
        sides = {side: np.array([weights[f"{move}_{side}"] for move in moves]) for side in "LR"}
        weak, strong = sorted("LR", key=lambda side: sides[side].sum())
        assert (sides[weak] <= 0.4 * sides[strong]).all()
        assert weights["mouthRight" if weak == "L" else "mouthLeft"] <= 0.5
        assert weights["mouthLeft" if weak == "L" else "mouthRight"] == 0


def test_lips_never_pass_each_other_and_shut_lids_stay(model):
    rng, names = np.random.default_rng(5), list(model.expression_names)
    drawn = np.array([rendered.random_expression(rng, names) for _ in range(1500)])
    column = {name: drawn[:, k] for k, name in enumerate(names)}
    assert (column["mouthClose"] <= column["jawOpen"]).all() and (column["mouthClose"] > 0.1).sum() > 10
    for side in "LR":
        shut = column[f"eyeBlink_{side}"] > 0.99
        for name in ("eyeWide", "eyeLookUp", "eyeLookDown"):
            assert column[f"{name}_{side}"][shut].max() < 0.02
    # squints with one eye and with both; rounded and pressed mouths
    squint = np.stack([column["eyeSquint_L"], column["eyeSquint_R"]])
    assert ((squint.max(axis=0) > 0.5) & (squint.min(axis=0) == 0)).sum() > 50
    assert (squint.min(axis=0) > 0.4).sum() > 30
    assert (column["mouthPucker"] > 0.5).sum() > 50 and (column["mouthPress_L"] > 0.5).sum() > 30


def test_faces_have_the_sharpness_of_their_size():
    rng = np.random.default_rng(0)
    drawn = np.zeros((rendered.FINE_PX, rendered.FINE_PX, 3), np.float32)
    drawn[::8] = drawn[1::8] = drawn[2::8] = drawn[3::8] = 200
    contrast = [rendered.photographed(rng, drawn, px).std() for px in (300.0, 30.0)]
    assert contrast[0] > 3 * contrast[1]
    sizes = np.array([rendered.random_size(rng) for _ in range(300)])
    assert sizes.min() < 40 and sizes.max() > 400 and (sizes > 150).mean() == pytest.approx(0.4, abs=0.1)


def test_pieces_make_the_same_people_whoever_draws_them(data, monkeypatch):
    monkeypatch.setattr(rendered, "PIECE", 2)
    rendered.make(data, 3)
    first = (data / "rendered.u8").read_bytes()
    rendered.make(data, 3)
    assert first == (data / "rendered.u8").read_bytes()
    with np.load(data / "rendered.npz") as file:
        assert len(file["points"]) == len(np.unique(file["coefficients"], axis=0)) == 3


def test_rendered_rows_follow_the_photographs(data):
    rendered.make(data, 4)
    table = load_table(data)
    rows, weights = training_rows(table, {})
    made = np.flatnonzero(table["group"] == "rendered")
    assert len(made) == 4 and made[0] == len(table["points"]) - 4 and set(made) <= set(rows)
    more = training_rows(table, {"rendered": 3 * GROUP_WEIGHT["rendered"]})[1]
    np.testing.assert_allclose(more / weights, np.where(np.isin(rows, made), 3, 1))
    sampler = augment.Sampler(data, table, rows, weights, augment.Crops(112), seed=3)
    affine = np.float32([[0.5, 0, 6], [0, 0.5, 6]])
    images = np.memmap(data / "rendered.u8", np.uint8, "r").reshape(-1, SIZE_PX, SIZE_PX, 3)
    half = cv2.resize(images[2], (100, 100), interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(sampler._warp(made[2], False, affine)[6:106, 6:106] - half).mean() < 4


def test_the_mirror_image_of_a_rendered_face_is_labelled_as_it_is_drawn(data):
    rendered.make(data, 3)
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    made = made_labels(data)["rendered"]
    for face in range(3):
        for side in range(2):
            shape, expression = np.split(made["coefficients"][face, side], [model.shape_count])
            points = model.landmarks(made["camera"][face, side], shape, expression)[:, :2]
            np.testing.assert_allclose(points, made["points"][face, side], atol=1e-3)
        plain, mirrored = made["points"][face]
        off = np.abs(mirrored - mirrored_68(plain[None])[0])
        assert off[17:].max() < 0.2 and off.max() < 2.0  # two lines of the chin are not quite alike on both sides


def test_the_visible_face_is_what_the_drawing_shows(people, model):
    """Against the ground, which is one grey: where the face is said to be visible, something else was drawn."""
    tip = int(model.landmark_vertices[30])
    for face in people:
        shown = cv2.resize(face.face, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_NEAREST) == 255
        assert (np.abs(face.picture[shown].astype(int) - 128).max(axis=1) > 4).mean() > 0.97
        if abs(face.yaw_deg) < 30:
            assert face.visible[tip]
    for face in (face for face in people if abs(face.yaw_deg) > 60):
        points = model.vertices(face.shape, face.expression) @ face.camera[:, :3].T + face.camera[:, 3]
        far = min((36, 45), key=lambda k: points[model.landmark_vertices[k], 2])
        assert not face.visible[model.landmark_vertices[far]]


def test_glasses_and_the_head_itself_hide_vertices(model):
    still = np.zeros(model.expression_count, np.float32)
    texture = dict(np.load(ROOT / "weights" / "skin.npz"))
    shape, ground = np.zeros(model.shape_count, np.float32), np.zeros((200, 200, 3), np.uint8)
    camera = np.array([[0.6, 0, 0, 100], [0, -0.6, 0, 100], [0, 0, 0.6, 0.0]])
    iris = int(np.flatnonzero(model.region == model.region_names.index("iris"))[0])
    for dark in (False, True):
        look = Look(skin=np.zeros(len(texture["modes"])), glasses_bgr=(0, 0, 0) if dark else None, dark_glasses=dark)
        _, face, visible = Actor(model, texture, shape, look).render(ground, camera, still)
        assert visible[iris] != dark
        assert visible[model.landmark_vertices[30]]
        back = model.region == model.region_names.index("ear")
        assert face.sum() > 5000
        assert not visible[back & (model.mean[:, 2] < -15)].all()
