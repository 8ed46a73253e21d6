import numpy as np
import pytest

from facet.tracker.errors import WeightsError
from facet.tracker.morphable import CONTOUR_SOFTNESS_MM, load_face_model, make_model
from facet.tracker.pose import FLIP_Y, rotation_from_angles
from tests.conftest import ROOT
from tests.reference import dense_bases, landmarks_68, mirror_68

FILE = ROOT / "weights" / "face_model.npz"


@pytest.fixture(scope="module")
def model():
    return load_face_model(FILE)


@pytest.fixture(scope="module")
def packed():
    with np.load(FILE) as data:
        return dict(data)


def camera_of(yaw=0.0, pitch=0.0, roll=0.0, scale=2.0):
    camera = np.zeros((3, 4), np.float32)
    camera[:, :3] = rotation_from_angles(yaw, pitch, roll) * FLIP_Y[:, None] * scale
    camera[:2, 3] = 320.0, 240.0
    return camera


def some_face(model, seed=0):
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=model.shape_count).astype(np.float32)
    return shape, np.clip(rng.normal(0, 0.5, model.expression_count), 0, 1).astype(np.float32)


def project(points, camera):
    return points @ camera[:, :3].T.astype(np.float64) + camera[:, 3]


def test_vertices_against_the_plain_sum(model, packed):
    mean, shape_basis, expression_basis = dense_bases(packed)
    for seed in range(3):
        shape, expression = some_face(model, seed)
        expected = mean + np.tensordot(shape, shape_basis, 1) + np.tensordot(expression, expression_basis, 1)
        assert np.abs(model.vertices(shape, expression) - expected).max() < 2e-3  # mm
        assert np.abs(model.vertices(shape, expression, model.bake(shape)) - expected).max() < 2e-3


def test_vertices_leave_the_baked_face_alone(model):
    shape, expression = some_face(model)
    neutral = model.bake(shape)
    before = neutral.copy()
    model.vertices(shape, expression, neutral)
    assert (neutral == before).all()
    assert (model.vertices(shape, np.zeros_like(expression), neutral) == neutral).all()


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, -10, 8), (-60, 15, -30), (85, 0, 0)])
def test_landmarks_against_the_plain_version(model, packed, angles):
    shape, expression = some_face(model, 5)
    camera = camera_of(*angles)
    vertices = project(model.vertices(shape, expression).astype(np.float64), camera)
    expected = landmarks_68(packed, vertices, camera, CONTOUR_SOFTNESS_MM)
    landmarks = model.landmarks(camera, shape, expression)
    assert landmarks.shape == (68, 3) and landmarks.dtype == np.float32
    assert np.abs(landmarks - expected).max() < 0.02  # px


def test_the_camera_is_used_as_it_is(model):
    shape, expression = some_face(model)
    landmarks = model.landmarks(camera_of(20), shape, expression)
    moved = camera_of(20) * 3
    moved[:2, 3] += 7.0
    assert np.allclose(model.landmarks(moved, shape, expression), landmarks * 3 + [7, 7, 0], atol=0.01)


def test_order_of_the_landmarks(model):
    neutral = np.zeros(model.shape_count), np.zeros(model.expression_count)
    points = model.landmarks(camera_of(), *neutral)
    x, y = points[:, 0] - 320.0, points[:, 1]
    assert (np.diff(x[:17]) > 0).all() and (np.diff(x[17:27]) > 0).all()  # jaw and brows from image left to right
    assert (np.diff(y[:9]) > 0).all() and (np.diff(y[27:31]) > 0).all()  # down to the chin, down the nose
    assert (y[[37, 38, 43, 44]] < y[[41, 40, 47, 46]] - 5).all()  # upper lids over lower ones
    assert (y[[61, 62, 63]] < y[[67, 66, 65]]).all() and (y[[51, 62]] < y[[57, 66]]).all()
    mirrored = points[mirror_68()] * (-1, 1, 1) + (640, 0, 0)
    assert np.abs(mirrored - points)[:, :2].max() < 1.0  # px, at 2 px a mm


def test_frontal_contour_is_the_jaw_line(model):
    landmarks = model.landmarks(camera_of(), np.zeros(model.shape_count), np.zeros(model.expression_count))
    jaw = project(model.mean[model.landmark_vertices[:17]], camera_of())
    assert np.linalg.norm((landmarks[:17] - jaw)[:, :2], axis=1).max() < 6.2 * 2  # mm x px/mm
    assert np.linalg.norm((landmarks[:17] - jaw)[:, :2], axis=1).mean() < 2.5 * 2


@pytest.mark.parametrize("pitch", [-25, 0, 25])
def test_contour_slides_without_jumps(model, pitch):
    neutral = np.zeros(model.shape_count), np.zeros(model.expression_count)
    sweep = np.array([model.landmarks(camera_of(yaw, pitch), *neutral) for yaw in np.arange(-85, 85.25, 0.25)])
    # nothing on a head moves faster than its radius, about 110 mm x 0.25 degrees; sliding may double it
    assert np.linalg.norm(np.diff(sweep[:, :17, :2], axis=0), axis=2).max() < 2.0 * 1.0


@pytest.mark.parametrize("yaw", [-30, -15, 15, 30])
def test_contour_lies_on_the_silhouette(model, yaw):
    """On the far side the cheek hides the jaw: little skin of a contour point's height lies farther out."""
    neutral = np.zeros(model.shape_count), np.zeros(model.expression_count)
    camera = camera_of(yaw)
    landmarks = model.landmarks(camera, *neutral)
    skin = project(model.mean[model.region == model.region_names.index("face")], camera)
    side = -1 if yaw > 0 else 1
    for i in range(2, 7) if yaw > 0 else range(10, 15):
        level = skin[(np.abs(skin[:, 1] - landmarks[i, 1]) < 6.0) & (skin[:, 2] < landmarks[i, 2] + 60.0)]
        assert (side * (level[:, 0] - landmarks[i, 0])).max() < 4.1 * 2, i  # mm x px/mm


def test_coefficients_of_another_model_are_refused(model):
    shape, expression = some_face(model)
    with pytest.raises(ValueError, match="expected 48"):
        model.bake(shape[:-1])
    with pytest.raises(ValueError, match="expected 53"):
        model.vertices(shape, np.ones(54))
    with pytest.raises(ValueError, match=r"expected \(48, 53\)"):
        model.landmarks(camera_of(), expression, shape)


def test_degenerate_cameras_give_finite_landmarks(model):
    shape, expression = some_face(model)
    for camera in (np.zeros((3, 4), np.float32), camera_of(90), camera_of(-90)):
        assert np.isfinite(model.landmarks(camera, shape, expression)).all()


def bfm_like(seed=0, count=500):
    rng = np.random.default_rng(seed)
    return {
        "mean": rng.normal(0, 60000, (count, 3)),
        "shape_basis": rng.normal(0, 900, (40, count, 3)),
        "expression_basis": rng.normal(0, 700, (10, count, 3)),
        "triangles": rng.integers(0, count, (900, 3)),
        "landmark_vertices": rng.choice(count, 68, replace=False),
    }


def test_other_models_micrometres_without_a_contour():
    pack = bfm_like()
    model = make_model(**pack, unit_mm=0.001)
    shape, expression = some_face(model)
    expected = pack["mean"] + np.tensordot(shape, pack["shape_basis"], 1)
    expected = (expected + np.tensordot(expression, pack["expression_basis"], 1)) / 1000
    assert np.abs(model.vertices(shape, expression) - expected).max() < 1e-3
    camera = camera_of(30, 5, 5)
    landmarks = project(expected[pack["landmark_vertices"]], camera)
    assert np.abs(model.landmarks(camera, shape, expression) - landmarks).max() < 0.02
    assert model.expression_names == () and len(model.uv) == 0


def test_a_sparse_model_of_68_vertices(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "sparse.npz"
    mean = rng.normal(0, 60, (68, 3)).astype(np.float32)
    bases = {"shape_basis": rng.normal(size=(4, 68, 3)), "expression_basis": rng.normal(size=(3, 68, 3))}
    np.savez(path, mean=mean, **bases, triangles=np.zeros((0, 3), np.int32), landmark_vertices=np.arange(68))
    model = load_face_model(path)
    assert len(model.triangles) == 0 and model.shape_count == 4 and model.expression_count == 3
    camera = camera_of(10)
    assert np.allclose(model.landmarks(camera, np.zeros(4), np.zeros(3)), project(mean, camera), atol=0.01)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("shape_basis", np.zeros((40, 499, 3)), "shape_basis"),
        ("expression_basis", np.zeros((10, 500)), "expression_basis"),
        ("landmark_vertices", np.arange(67), "landmark_vertices"),
        ("landmark_vertices", np.full(68, 500), "indices below 500"),
        ("triangles", np.full((1, 3), -1), "triangles"),
    ],
)
def test_arrays_that_do_not_belong_together(field, value, word):
    with pytest.raises(ValueError, match=word):
        make_model(**(bfm_like() | {field: value}))


def test_missing_and_damaged_files(tmp_path, packed):
    with pytest.raises(WeightsError, match="expected a face model"):
        load_face_model(tmp_path / "none.npz")
    broken = tmp_path / "broken.npz"
    for content in (b"", b"no archive", FILE.read_bytes()[:100_000]):
        broken.write_bytes(content)
        with pytest.raises(WeightsError):
            load_face_model(broken)
    lacking = {name: array for name, array in packed.items() if name != "expression_delta"}
    np.savez(broken, **lacking)
    with pytest.raises(WeightsError, match="expression_delta"):
        load_face_model(broken)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("expression_vertex", lambda a: a + 60000),
        ("expression_start", lambda a: a[::-1].copy()),
        ("expression_start", lambda a: a - 1),
        ("expression_delta", lambda a: a[:-1]),
        ("triangles", lambda a: a + 60000),
        ("landmark_vertices", lambda a: a - 9000),
        ("contour_edges", lambda a: a + 60000),
        ("shape", lambda a: a[:, :-1]),
        ("mean", lambda a: a[:100]),
        ("light_triangles", lambda a: a.astype(int) + 60000),
        ("mean", lambda a: np.full_like(a, 1e30)),
        ("mean", lambda a: np.full_like(a, np.nan)),
        ("shape_scale", lambda a: np.full_like(a, np.nan)),
        ("expression_scale", lambda a: np.full_like(a, np.inf)),
        ("contour_share", lambda a: np.full_like(a, np.nan)),
    ],
)
def test_hostile_arrays_never_reach_the_kernels(tmp_path, packed, name, change):
    np.savez(tmp_path / "hostile.npz", **(packed | {name: change(packed[name])}))
    with pytest.raises(WeightsError, match="expected a face model"):
        load_face_model(tmp_path / "hostile.npz")
