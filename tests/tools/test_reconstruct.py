"""tools.reconstruct: fits to exact points, the light of photographs, messages for what cannot be done."""

import json

import numpy as np
import pytest

scipy_io = pytest.importorskip("scipy.io")
pytest.importorskip("torch")

import cv2

from facet.tracker.lighting import lamp
from facet.tracker.morphable import load_face_model
from facet.tracker.pose import camera_from_pose, rotation_from_angles
from facet.tracker.types import Pose
from facet.tracker.weights import ROOT
from tools import reconstruct
from tools.appearance.fit import Fit, Fitter, Points
from tools.face_model.anatomy import anatomical_points

MODEL = load_face_model(ROOT / "weights" / "face_model.npz")
FITTER = Fitter(MODEL)


def exact(shape, expression, yaw_deg, pitch_deg=5.0):
    """The 87 points of a face of the model, and its camera."""
    pose = Pose(rotation_from_angles(yaw_deg, pitch_deg, 3.0), 1.5, np.array([120.0, 130, 0]), yaw_deg, pitch_deg, 3.0)
    camera = camera_from_pose(pose).astype(np.float64)
    inner = anatomical_points(MODEL)(np.concatenate([shape, expression]))
    jaw = MODEL.vertices(shape.astype(np.float32), expression.astype(np.float32))[MODEL.landmark_vertices[:17]]
    contour = MODEL.landmarks(camera, shape, expression)[:17]
    inner, jaw = (points @ camera[:, :3].T + camera[:, 3] for points in (inner, jaw))
    points = np.concatenate([contour, inner[:51], jaw, inner[51:]]).astype(np.float64)
    points[:, 2] -= points[17:68, 2].mean()
    return Points(points, np.full(87, 0.3)), camera


def some_face(seed):
    rng = np.random.default_rng(seed)
    expression = np.zeros(MODEL.expression_count)
    for name in ("jawOpen", "mouthSmile_L", "browOuterUp_R"):
        expression[MODEL.expression_names.index(name)] = rng.uniform(0.2, 0.7)
    return 0.8 * rng.normal(size=MODEL.shape_count), expression


def start():
    return Fit(np.eye(3), 1.3, np.array([110.0, 120]), np.zeros(MODEL.shape_count), np.zeros(MODEL.expression_count))


@pytest.mark.parametrize(("seed", "yaw_deg"), [(1, 0), (2, 30), (3, -45)])
def test_a_face_is_found_from_its_exact_points(seed, yaw_deg):
    shape, expression = some_face(seed)
    known, camera = exact(shape, expression, yaw_deg)
    fit = FITTER([known], [start()], precision=1.0, steps=20)[0]
    shown = [
        MODEL.vertices(s.astype(np.float32), e.astype(np.float32)) @ c[:, :3].T + c[:, 3]
        for s, e, c in ((fit.shape, fit.expression, fit.camera), (shape, expression, camera))
    ]
    front = (MODEL.region == 0) & (MODEL.mean[:, 2] > 30)
    assert np.linalg.norm((shown[0] - shown[1])[front, :2], axis=1).mean() / 1.5 < 1.5  # mm


def test_together_several_views_find_the_shape_better_than_one():
    shape, _ = some_face(4)
    still = np.zeros(MODEL.expression_count)
    rng = np.random.default_rng(0)
    views = []
    for yaw_deg in (-40, -20, 0, 20, 40):
        known, _ = exact(shape, still, yaw_deg)
        views.append(Points(known.points + rng.normal(0, 1.5, known.points.shape), np.full(87, 1.5)))
    alone = [FITTER([view], [start()])[0].shape for view in views]
    together = FITTER(views, [start()] * len(views))
    assert all((fit.shape == together[0].shape).all() for fit in together)
    true = MODEL.bake(shape.astype(np.float32))
    found = (MODEL.bake(s.astype(np.float32)) for s in (together[0].shape, *alone))
    best, *others = (np.linalg.norm(vertices - true, axis=1).mean() for vertices in found)
    assert best < np.mean(others)


def test_blendshape_weights_stay_within_their_bounds_and_points_that_are_unknown_do_not_count():
    shape, expression = some_face(5)
    known, _ = exact(shape, expression, 0)
    points, sigma = known.points.copy(), known.sigma_px.copy()
    points[68:] = 1e4
    sigma[68:] = np.inf
    fit = FITTER([Points(points, sigma)], [start()])[0]
    assert (fit.expression >= 0).all() and (fit.expression <= 1).all() and np.isfinite(fit.camera).all()
    assert np.abs(fit.shift - (120, 130)).max() < 6


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    """A frame of the demo clip, whose face does not exist."""
    folder = tmp_path_factory.mktemp("photos")
    video = cv2.VideoCapture(str(ROOT / "samples" / "demo.mp4"))
    video.set(cv2.CAP_PROP_POS_FRAMES, 20)
    cv2.imwrite(str(folder / "person.png"), video.read()[1])
    return folder / "person.png"


@pytest.fixture(scope="module")
def results(portrait, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "heads"
    assert reconstruct.main([str(portrait), "-o", str(out), "--sheet", "--relight", "left"]) == 0
    return out


def test_all_files_of_a_face_are_written(results):
    ends = {"obj", "mtl", "png", "ply", "glb", "json", "mat"}
    assert {path.name for path in results.iterdir()} == {
        *(f"person_1.{end}" for end in ends), "person_1_sheet.jpg", "person_1_relit.jpg",
    }  # fmt: skip


def test_the_json_draws_the_same_points_again_and_the_mat_has_the_ancestors_keys(results):
    record = json.loads((results / "person_1.json").read_text())
    camera, shape = np.array(record["camera"], np.float32), np.array(record["shape"], np.float32)
    expression = np.array([record["expression"][name] for name in MODEL.expression_names], np.float32)
    points = MODEL.landmarks(camera, shape, expression)[17:, :2]
    eye = np.linalg.norm(points[19] - points[28])
    assert np.linalg.norm(points - np.array(record["landmarks"])[17:], axis=1).mean() < 0.08 * eye
    read = scipy_io.loadmat(results / "person_1.mat")
    shapes = {"id": 48, "exp": 53, "tex": len(record["skin"]), "angle": 3, "gamma": 27, "trans": 3}
    assert {name: read[name].shape for name in shapes} == {name: (1, count) for name, count in shapes.items()}
    assert read["lm68"].shape == (1, 68, 2)
    assert read["gamma"][0, 0] == pytest.approx(record["light"]["sh"][0] - 0.8, abs=1e-4)


def test_the_sheet_has_five_tiles(results):
    assert cv2.imread(str(results / "person_1_sheet.jpg")).shape == (320, 1600, 3)


def test_a_second_run_replaces_nothing(results, portrait):
    before = {path.name: path.stat().st_mtime_ns for path in results.iterdir()}
    assert reconstruct.main([str(portrait), "-o", str(results)]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in results.iterdir()}
    assert {name: after[name] for name in before} == before and len(after) > len(before)


@pytest.mark.parametrize("text", ["sideways", "1,2", "0,0,0", "a,b,c", "nan,0,1", "none.json"])
def test_a_light_of_no_form_is_a_wrong_option(text, portrait, tmp_path, capsys):
    assert reconstruct.main([str(portrait), "-o", str(tmp_path / "x"), "--relight", text]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line and "left" in line and not (tmp_path / "x").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sh": [1, 2]}', '{"light": null}', '{"sh": "x"}'])
def test_a_damaged_light_file_is_named(content, portrait, tmp_path, capsys):
    (tmp_path / "light.json").write_text(content)
    path = str(tmp_path / "light.json")
    assert reconstruct.main([str(portrait), "-o", str(tmp_path / "x"), "--relight", path]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert path in line and "27 numbers" in line


def test_an_image_without_a_face_leaves_no_folder(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((200, 200, 3), 127, np.uint8))
    assert reconstruct.main([str(tmp_path / "empty.png"), "-o", str(tmp_path / "x")]) == 1
    assert "found no face" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_photograph_lit_by_its_own_light_stays_as_it_is(portrait):
    from facet.settings import AppConfig

    studio = reconstruct.Studio(AppConfig())
    (photo,) = studio.photos([str(portrait)], AppConfig())
    found = studio.reconstruct([photo.image], [photo.faces[0]], colours=False)[0]
    seen = reconstruct.drawn(found, studio.geometry)
    same = reconstruct.relit(found, found.face.appearance.light, seen)
    assert np.abs(same.astype(int) - photo.image).max() <= 1
    other = reconstruct.relit(found, lamp((1, 0.2, 0.3), 0.8, 0.2), seen)
    nose = found.landmarks[30].astype(int)
    left, right = other[nose[1], nose[0] - 30].mean(), other[nose[1], nose[0] + 30].mean()
    assert right / max(left, 1) > photo.image[nose[1], nose[0] + 30].mean() / photo.image[nose[1], nose[0] - 30].mean()
