import numpy as np
import pytest

from facet.tracker.morphable import load_face_model
from tests.conftest import ROOT, material
from tests.reference import dense_bases
from tools.face_model import landmarks, proportions
from tools.face_model.__main__ import ICT_UNIT_MM, NOT_ARKIT, build, load_ict, principal_modes, quantise
from tools.face_model.meshes import border_loops, compact, cut, edges_of, simplify
from tools.face_model.parts import fit_sphere

FILE = ROOT / "weights" / "face_model.npz"
ARKIT = {
    *("browDown_L", "browDown_R", "browInnerUp_L", "browInnerUp_R", "browOuterUp_L", "browOuterUp_R"),
    *("cheekPuff_L", "cheekPuff_R", "cheekSquint_L", "cheekSquint_R", "noseSneer_L", "noseSneer_R"),
    *(f"eye{what}_{side}" for side in "LR" for what in ("Blink", "Squint", "Wide")),
    *(f"eyeLook{way}_{side}" for side in "LR" for way in ("Down", "In", "Out", "Up")),
    *("jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthFunnel", "mouthLeft", "mouthPucker"),
    *("mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *(
        f"mouth{what}_{side}"
        for side in "LR"
        for what in ("Dimple", "Frown", "LowerDown", "Press", "Smile", "Stretch", "UpperUp")
    ),
}


@pytest.fixture(scope="module")
def packed():
    with np.load(FILE) as data:
        return dict(data)


@pytest.fixture(scope="module")
def plain():
    """What the tool makes of ICT's heads alone, without the proportions of photographed faces."""
    return build(material("face_model", "ict_facekit_light.npz"))


@pytest.fixture(scope="module")
def model():
    return load_face_model(FILE)


def face(model, **weights):
    expression = np.zeros(model.expression_count, np.float32)
    for name, weight in weights.items():
        expression[model.expression_names.index(name)] = weight
    return model.vertices(np.zeros(model.shape_count, np.float32), expression)


def region(model, name):
    return model.region == model.region_names.index(name)


def test_file_and_notice(packed):
    assert FILE.stat().st_size <= 6e6
    notice = (ROOT / "weights" / "LICENSE.ict_facekit").read_text(encoding="utf-8")
    assert "Permission is hereby granted, free of charge" in notice and "Copyright" in notice
    card = (ROOT / "weights" / "face_model.md").read_text(encoding="utf-8")
    for vertex in packed["ear_canal_vertices_ict"]:
        assert str(vertex) in card
    assert f"{len(packed['shape'])} shape modes" in card


def test_expressions_are_those_of_arkit(packed):
    names = packed["expression_names"].tolist()
    assert len(names) == len(set(names)) == 53 and set(names) == ARKIT
    assert (np.diff(packed["expression_start"]) > 0).all()  # none is empty


def test_the_notice_is_icts():
    theirs = material("face_model", "LICENSE.ict_facekit").read_bytes()
    assert (ROOT / "weights" / "LICENSE.ict_facekit").read_bytes() == theirs


def test_origin_lies_between_the_ear_canals(plain, packed):
    rows, _ = load_ict(material("face_model", "ict_facekit_light.npz"))
    canals = rows[packed["ear_canal_vertices_ict"], 0]
    moved = rows[:9409, 0] - canals.mean(axis=0)
    # the tip of the nose is the foremost point of both
    assert np.allclose(moved[moved[:, 2].argmax()], plain["mean"][plain["mean"][:, 2].argmax()], atol=1e-3)
    near = np.linalg.norm(plain["mean"][:, None] - (canals - canals.mean(axis=0)), axis=2).argmin(axis=0)
    assert np.abs(packed["mean"][near] - plain["mean"][near]).max() < 0.25  # what photographs say leaves them alone
    assert abs(canals.mean(axis=0)[0]) < 0.1 and 120 < np.ptp(canals[:, 0]) < 180


def test_size_and_directions_of_a_head(model):
    jaw = model.mean[model.landmark_vertices]
    assert 55 < np.linalg.norm(jaw[36:42].mean(axis=0) - jaw[42:48].mean(axis=0)) < 70  # pupils, mm
    assert jaw[30, 2] > 100 and jaw[8, 1] < -60 and jaw[27, 1] > 20  # nose before, chin below, bridge above the ears


def test_the_proportions_are_those_of_photographed_faces(plain, packed):
    with np.load(proportions.FILE) as file:
        wanted, rest = file["landmarks"], file["rest"]
    beside_mm = {}
    for name, arrays in (("shipped", packed), ("ICT's", plain)):
        mean, modes, _ = dense_bases(arrays)
        now = np.concatenate([mean[None], modes])[:, arrays["landmark_vertices"][17:]].swapaxes(0, 1)
        square = ((now - wanted[17:]) ** 2).sum(axis=2)  # the jaw's landmarks count for less
        beside_mm[name] = np.sqrt(square[:, 0]).mean(), np.sqrt(square[:, 1:].sum(axis=1)).mean()
    assert (np.array(beside_mm["shipped"]) < 0.5 * np.array(beside_mm["ICT's"])).all(), beside_mm
    names = packed["expression_names"].tolist()
    assert 0.2 < rest[names.index("browDown_L")] < 0.5
    brows = packed["landmark_vertices"][17:27]
    assert (packed["mean"][brows, 1] < plain["mean"][brows, 1]).all()
    # the mesh goes with them smoothly: no edge grows or shrinks by a fifth where it is not tiny
    ends = edges_of(packed["triangles"].astype(int))[0]
    before, after = (np.linalg.norm(np.diff(m["mean"][ends], axis=1)[:, 0], axis=1) for m in (plain, packed))
    assert (np.abs(after / before - 1)[before > 1] < 0.2).mean() > 0.995


def test_variance_kept_by_the_shape_modes(plain):
    """Faces drawn from ICT's coefficients are made again from the modes to within a hundredth of their variance."""
    assert 0.99 <= plain["variance_kept"] < 0.995
    rows, ict = load_ict(material("face_model", "ict_facekit_light.npz"))
    mean, modes, _ = dense_bases(plain)
    origin = rows[plain["ear_canal_vertices_ict"], 0].mean(axis=0)
    # the mesh keeps ICT's vertices on the face: find them by their place
    place = {tuple(np.round(v, 2)): i for i, v in enumerate(rows[:, 0] - origin)}
    pairs = [(i, place[key]) for i, v in enumerate(mean[:5000]) if (key := tuple(np.round(v, 2))) in place]
    ours, theirs = np.array(pairs).T
    assert len(ours) > 3000
    samples = np.random.default_rng(0).normal(size=(20, len(ict["identity"])))
    identity = rows[theirs, 1 : 1 + len(ict["identity"])]
    wanted = np.einsum("nk,vkc->nvc", samples, identity).reshape(20, -1)
    basis = modes[:, ours].reshape(len(modes), -1)
    left = wanted - (wanted @ np.linalg.pinv(basis)) @ basis
    assert (left**2).sum() < 0.015 * (wanted**2).sum()
    # unit variance: the modes spread the vertices as much as ICT's shapes do
    assert abs((basis**2).sum() / (identity**2).sum() - 1) < 0.03


@pytest.mark.parametrize("level", ["triangles", "light_triangles"])
def test_meshes_are_sound(model, level):
    triangles = getattr(model, level).astype(int)
    a, b, c = (model.mean[triangles[:, i]].astype(float) for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    longest = np.max([np.linalg.norm(u - v, axis=1) for u, v in ((a, b), (b, c), (c, a))], axis=0)
    assert area.min() > 1e-3 and (2 * area / longest**2).min() > 0.01
    _, shared = edges_of(triangles)
    assert shared.max() == 2
    directed = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed)  # neighbours are wound alike
    # open are the mask's outer edge, the lids and the hidden halves of the eyeballs: no cracks, closed lips
    loops = border_loops(triangles)
    middles = np.array([model.mean[loop].mean(axis=0) for loop in loops])
    assert len(loops) == 5 and abs(middles[0, 0]) < 5
    assert (middles[1:, 1] > 20).all() and (np.abs(middles[1:, 0]) > 25).all()
    assert (
        np.unique(triangles).size > 0.99 * len(model.mean) if level == "triangles" else 2000 <= len(triangles) <= 4000
    )


def test_triangles_face_outwards(model):
    a, b, c = (model.mean[model.triangles[:, i]] for i in range(3))
    front = region(model, "face")[model.triangles].all(axis=1) & (model.mean[model.triangles][:, :, 2].min(axis=1) > 60)
    facing = np.cross(b - a, c - a)[front, 2]
    assert facing.clip(min=0).sum() > 0.95 * np.abs(facing).sum()  # nostrils and the lids' folds look elsewhere


def test_landmarks_go_over_the_mesh_to_where_they_should_be(monkeypatch):
    wide, high = 170, 9
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(wide), np.arange(high)))
    mean = np.stack([x, y, 0.1 * x], axis=1).astype(float)
    corner = np.flatnonzero((x < wide - 1) & (y < high - 1))
    triangles = np.concatenate(
        [corner[:, None] + (0, 1, wide), corner[:, None] + (1, wide + 1, wide)]
    )  # two of each square
    starts = 4 * wide + 2 * np.arange(68) + 10  # all on a line: edges run along it
    monkeypatch.setattr(landmarks, "SHIFT_MM", np.tile([1.3, -0.9], (68, 1)))
    vertices, left = landmarks.nearest_vertices(mean, triangles, starts)
    moved = landmarks.slide(mean, mean, triangles, vertices, left)
    assert np.array_equal(vertices[:17], starts[:17])  # the jaw's slide along the contour instead
    edge = np.isin(np.arange(68), list(landmarks.ON_EDGES))
    free = (np.arange(68) >= 17) & ~edge
    assert np.allclose(moved[vertices[free], :2], mean[starts[free], :2] + (1.3, -0.9))
    assert np.allclose(moved[vertices[edge], :2], mean[starts[edge], :2] + (1.3, 0))
    assert np.allclose(moved[:, 2], 0.1 * moved[:, 0])  # none leaves the surface
    assert np.array_equal(np.delete(moved, vertices[17:], axis=0), np.delete(mean, vertices[17:], axis=0))


def test_landmarks_are_in_both_levels(model):
    assert np.isin(model.landmark_vertices, model.light_triangles).all()


def test_mean_and_expressions_are_symmetric(model):
    skin = np.flatnonzero(region(model, "face") & (model.mean[:, 2] > 30))
    distance = ((model.mean[skin][:, None] * (-1, 1, 1) - model.mean[skin][None]) ** 2).sum(axis=2)
    twin, gap = distance.argmin(axis=1), np.sqrt(distance.min(axis=1))
    paired = gap < 0.05
    assert paired.mean() > 0.95
    for name in model.expression_names:
        if name.endswith("_L"):
            left = face(model, **{name: 1.0})[skin] - model.mean[skin]
            right = face(model, **{name[:-1] + "R": 1.0})[skin] - model.mean[skin]
            error = np.linalg.norm(left * (-1, 1, 1) - right[twin], axis=1)[paired]
            assert error.mean() < 0.05 * np.linalg.norm(left, axis=1).max() + 0.02, name


def test_left_and_right_are_the_subjects(model):
    for name, side in (("eyeBlink_L", 1), ("mouthSmile_R", -1), ("browOuterUp_L", 1), ("cheekPuff_R", -1)):
        motion = np.linalg.norm(face(model, **{name: 1.0}) - model.mean, axis=1)
        assert (motion * model.mean[:, 0]).sum() * side > 0.9 * (motion * np.abs(model.mean[:, 0])).sum(), name


def test_blinks_shut_the_lids(model):
    points = model.landmark_vertices
    for name, lids in (("eyeBlink_R", ((37, 41), (38, 40))), ("eyeBlink_L", ((43, 47), (44, 46)))):
        shut = face(model, **{name: 1.0})[points]
        for upper, lower in lids:
            assert model.mean[points[upper], 1] - model.mean[points[lower], 1] > 6.0
            assert abs(shut[upper, 1] - shut[lower, 1]) < 0.8
        eye = slice(36, 42) if name.endswith("R") else slice(42, 48)
        assert (shut[eye, 2] > face(model)[region(model, "iris"), 2].min()).any()


def test_mouth_opens_and_closes(model):
    points = model.landmark_vertices
    gap = {}
    for name, weights in {"rest": {}, "open": {"jawOpen": 1}, "shut": {"jawOpen": 1, "mouthClose": 1}}.items():
        lips = face(model, **weights)[points]
        gap[name] = (lips[[61, 62, 63], 1] - lips[[67, 66, 65], 1]).max()
    assert 0 <= gap["rest"] < 1.5 and gap["open"] > 20 and gap["shut"] < 3.0


@pytest.mark.parametrize(("way", "x", "y"), [("Out", 1, 0), ("In", -1, 0), ("Up", 0, 1), ("Down", 0, -1)])
def test_eyes_turn_with_the_gaze(model, way, x, y):
    for side, sign in (("L", 1), ("R", -1)):
        ball = (model.region >= model.region_names.index("eyeball")) & (np.sign(model.mean[:, 0]) == sign)
        pupil = ball & region(model, "pupil")
        turned = face(model, **{f"eyeLook{way}_{side}": 1.0})
        before, after = fit_sphere(model.mean[ball]), fit_sphere(turned[ball])
        assert np.allclose(before[0], after[0], atol=0.05) and abs(before[1] - after[1]) < 0.05  # it stays a ball
        motion = (turned - model.mean)[pupil].mean(axis=0)
        assert motion[:2] @ (x * sign, y) > 3.0 and abs(motion[:2] @ (y, x * sign)) < 0.1
        other = (model.region >= model.region_names.index("eyeball")) & ~ball
        assert (turned[other] == model.mean[other]).all()


def test_pncc_and_uv(model):
    skin = np.isin(model.region, [model.region_names.index(name) for name in ("face", "ear", "neck")])
    assert np.allclose(model.pncc[skin].min(axis=0), 0, atol=1e-3)
    assert np.allclose(model.pncc[skin].max(axis=0), 1, atol=1e-3)
    low, high = model.mean[skin].min(axis=0), model.mean[skin].max(axis=0)
    assert np.allclose(model.pncc[skin], (model.mean[skin] - low) / (high - low), atol=1e-3)
    assert model.uv.min() >= 0 and model.uv.max() <= 1
    corner = model.uv[model.triangles[skin[model.triangles].all(axis=1)]]
    turn = np.cross(
        np.pad(corner[:, 1] - corner[:, 0], ((0, 0), (0, 1))), np.pad(corner[:, 2] - corner[:, 0], ((0, 0), (0, 1)))
    )
    assert max((turn[:, 2] > 0).mean(), (turn[:, 2] < 0).mean()) > 0.97  # the layout does not fold over


def test_built_from_the_material(packed):
    """What the tool makes here is what is shipped, but for the modes' signs and rounding."""
    with np.load(proportions.FILE) as file:
        again = build(material("face_model", "ict_facekit_light.npz"), dict(file))
    assert set(again) == set(packed)
    for name in ("triangles", "landmark_vertices", "contour_edges", "expression_vertex", "region"):
        assert np.array_equal(again[name], packed[name]), name
    # which of two edges of nearly equal cost is removed first depends on the last bits of this processor's arithmetic
    assert again["light_triangles"].shape == packed["light_triangles"].shape
    kept, shipped = ({tuple(row) for row in np.sort(each["light_triangles"], axis=1)} for each in (again, packed))
    assert len(kept & shipped) > 0.9 * len(shipped)
    assert np.allclose(again["mean"], packed["mean"], atol=1e-4)
    first, second = (a["shape"][:10] * a["shape_scale"][:10, None, None] for a in (again, packed))
    assert np.allclose(np.abs((first * second).sum(axis=(1, 2))), (second**2).sum(axis=(1, 2)), rtol=1e-3)


# --- the operations


def grid(n):
    """A flat square of 2 n^2 triangles, z to the viewer."""
    y, x = np.mgrid[: n + 1, : n + 1]
    points = np.column_stack([x.ravel(), y.ravel(), np.zeros((n + 1) ** 2)]).astype(float)
    corner = (np.arange(n)[:, None] * (n + 1) + np.arange(n)).ravel()
    a, b, c, d = corner, corner + 1, corner + n + 2, corner + n + 1
    return points, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def area(points, triangles):
    a, b, c = (points[triangles[:, i]] for i in range(3))
    return np.cross(b - a, c - a)[:, 2] / 2


def test_border_loops_of_a_square():
    points, triangles = grid(5)
    (loop,) = border_loops(triangles)
    assert len(loop) == 20
    around = points[loop, :2]
    x, y = around.T
    assert (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2 == 25  # counter-clockwise, as its triangles


def test_cut_follows_the_plane():
    points, triangles = grid(6)
    height = points[:, 0] + 0.3 * points[:, 1] - 2.65
    rows, kept, old = cut(points, triangles, height)
    assert (
        abs(area(rows, kept).sum() - (36 - np.mean([2.65, 2.65 - 1.8]) * 6)) < 0.4
    )  # snapping moves the line a little
    assert (area(rows, kept) > 0).all() and edges_of(kept)[1].max() == 2
    assert (rows[:, 0] + 0.3 * rows[:, 1] - 2.65 > -0.3).all()
    assert (rows[old >= 0] == points[old[old >= 0]]).all() and (old < 0).any()


def test_simplify_keeps_the_plane_and_what_is_protected():
    points, triangles = grid(8)
    free = np.ones(len(points), bool)
    free[40] = False
    light = simplify(points, triangles, free, 60)
    assert len(light) < len(triangles) - 80 and 40 in light
    assert (area(points, light) > 0).all() and abs(area(points, light).sum() - 64) < 1e-9
    assert simplify(points, triangles, free, 0).tolist() == triangles.tolist()
    rows, small, old = compact(points, light)
    assert (rows == points[old]).all() and abs(area(rows, small).sum() - 64) < 1e-9


def test_principal_modes_of_a_known_spread():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(30, 3)))[0].reshape(10, 3, 3)  # three orthonormal fields of 10 vertices
    identity = np.moveaxis(directions, 2, 1) * np.array([5.0, 3.0, 0.1])[:, None]
    mixed = np.einsum("nkc,km->nmc", identity, np.linalg.qr(rng.normal(size=(3, 3)))[0])
    modes, kept = principal_modes(mixed, np.ones(10), 0.99)
    assert modes.shape == (10, 2, 3) and abs(kept - 34 / 34.01) < 1e-9
    assert np.allclose(np.sqrt((modes**2).sum(axis=(0, 2))), [5, 3])
    heavy, _ = principal_modes(mixed, np.r_[np.zeros(9), 1.0], 0.9999999)
    assert heavy.shape[1] <= 3


def test_quantise_keeps_sixteen_bits():
    values = np.random.default_rng(0).normal(size=(4, 50, 3)) * np.array([1e-3, 1, 50, 0])[:, None, None]
    integers, scale = quantise(values)
    assert integers.dtype == np.int16 and scale.dtype == np.float32
    error = np.abs(integers * scale[:, None, None] - values).max(axis=(1, 2))
    assert (error <= np.abs(values).max(axis=(1, 2)) / 60000 + 1e-12).all()


def test_what_is_left_out_of_icts_shapes():
    ict = np.load(material("face_model", "ict_facekit_light.npz"))
    names = ict["expression_names"].tolist()
    assert {name for name in names if name not in ARKIT} == {f"{what}_{side}" for what in NOT_ARKIT for side in "LR"}
    assert ICT_UNIT_MM == 10.0
