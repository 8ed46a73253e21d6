import hashlib
import math
import threading

import numpy as np
import pytest

from facet.tracker.errors import WeightsError
from facet.tracker.pose import pose_from_camera, rotation_from_angles
from facet.tracker.regressor import Regressor, translate_facet
from facet.tracker.upstream.regressor import translate_3ddfa
from facet.tracker.weights import find_entry
from tests.tracker.nets import constant_regressor, facet_heads

COMMON = {
    "kind": "regressor",
    "licence": "MIT",
    "provenance": "a test",
    "size_px": 16,
    "box_scale": 1.5,
    "box_shift_y": 0.1,
    "landmark_scale": 1.4,
    "crop_style": "area",
    "face_model": "model.npz",
}
HEADS = {"pose": [0, 9, "pose"], "shape": [9, 11, "linear"], "expression": [11, 14, "clip"]}
HEADS |= {"score": [14, 15, "sigmoid"]}
FACET = COMMON | {"format": "facet", "base_scale": 0.005, "heads": HEADS}
UPSTREAM = COMMON | {
    "shape_count": 2,
    "expression_count": 3,
    "format": "3ddfa_62",
    "crop_style": "upstream",
    "pose_mean": [0.0] * 12,
    "pose_std": [1.0] * 12,
}


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return {True: "true", False: "false"}.get(value, repr(value)) if isinstance(value, bool) else repr(value)


def open_regressor(folder, numbers, **values):
    """A network that answers with numbers[1] plus numbers[0] times the mean of the crop."""
    path = folder / "net.onnx"
    constant_regressor(path, 16, np.asarray(numbers, np.float32))
    table = values | {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    lines = "".join(f"{key} = {toml(value)}\n" for key, value in table.items() if value is not None)
    (folder / "manifest.toml").write_text("[net]\n" + lines)
    return Regressor.open(find_entry(path))


def facet_numbers(rotation, log_scale=0.0, shift=(0.0, 0.0), shape=(0, 0), expression=(0, 0, 0), logit=0.0):
    return np.array([log_scale, *rotation[0], *rotation[1], *shift, *shape, *expression, logit], np.float32)


# --- formats


@pytest.mark.parametrize("angles", [(0, 0, 0), (35, -12, 8), (-70, 20, -40)])
def test_facet_format_is_scale_rotation_and_shift(angles):
    rotation = rotation_from_angles(*angles)
    # the network's two vectors need be neither of unit length nor orthogonal
    sloppy = np.stack([3.0 * rotation[0], 0.5 * rotation[1] + 0.2 * rotation[0]])
    numbers = facet_numbers(sloppy, math.log(1.25), (0.125, -0.25), (1.5, -2), (-0.5, 0.25, 1.5), 2.0)
    read = translate_facet(0.005, facet_heads(2, 3), 112)
    cameras, shapes, expressions, scores, others = read(np.stack([numbers, numbers]))
    assert cameras.shape == (2, 3, 4) and cameras.dtype == np.float32
    pose = pose_from_camera(cameras[1])
    assert (pose.yaw_deg, pose.pitch_deg, pose.roll_deg) == pytest.approx(angles, abs=1e-3)
    assert pose.scale_px_per_mm == pytest.approx(112 * 0.005 * 1.25, rel=1e-5)
    assert pose.translation_px == pytest.approx((112 * 0.625, 112 * 0.25, 0))
    assert shapes[1].tolist() == [1.5, -2]
    assert expressions[1].tolist() == [0, 0.25, 1]
    assert scores[1] == pytest.approx(1 / (1 + math.exp(-2))) and others == {}


def test_facet_camera_mirrors_y_and_keeps_z_to_the_viewer():
    numbers = facet_numbers(np.eye(3))
    camera = translate_facet(0.01, facet_heads(2, 3), 100)(numbers[None])[0][0]
    assert camera[:, :3] == pytest.approx(np.diag([1.0, -1.0, 1.0]))


@pytest.mark.parametrize("numbers", [np.zeros(15), np.full(15, 1e4), np.full(15, -1e4)])
def test_facet_format_stays_finite(numbers):
    with np.errstate(all="raise"):
        cameras, _, _, scores, _ = translate_facet(0.005, facet_heads(2, 3), 112)(numbers[None].astype(np.float32))
    assert np.isfinite(cameras).all() and 0 <= scores[0] <= 1


def test_3ddfa_format_is_upstreams_arithmetic_plus_half_a_pixel():
    random = np.random.default_rng(0)
    mean, std = random.normal(0, 1e-4, 12), random.uniform(1e-4, 5e-4, 12)
    params = random.normal(0, 1, (3, 12 + 4 + 5)).astype(np.float32)
    cameras, shapes, expressions, scores, _ = translate_3ddfa(mean, std, 4, 120)(params)
    assert scores is None
    assert (shapes == params[:, 12:16]).all() and (expressions == params[:, 16:]).all()
    point_um = random.uniform(-80000, 80000, 3)
    for camera, numbers in zip(cameras, params, strict=True):
        theirs = (numbers[:12] * std + mean).reshape(3, 4)
        x, y, _ = theirs[:, :3] @ point_um + theirs[:, 3]
        x, y = x - 1, 120 - y
        ours = camera @ [*(point_um / 1000), 1]
        assert ours[:2] == pytest.approx((x + 0.5, y + 0.5), abs=1e-4)
        assert camera[2, 3] == 0  # z counts from the model's origin
        assert ours[2] == pytest.approx(theirs[2, :3] @ point_um, abs=1e-4)


# --- the network around it


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_in_a_batch_each_face_is_its_own(tmp_path, count):
    numbers = facet_numbers(np.eye(3), shape=(0, 0), logit=0)
    slope = np.zeros_like(numbers)
    slope[9] = 0.01  # the first shape coefficient reports the crop's brightness
    regressor = open_regressor(tmp_path, [slope, numbers], **FACET)
    crops = np.stack([np.full((16, 16, 3), 20 * k, np.uint8) for k in range(count)])
    faces = regressor(crops)
    assert [float(face.shape[0]) for face in faces] == pytest.approx([0.2 * k for k in range(count)])
    assert faces[0].score == pytest.approx(0.5)
    assert regressor(crops[:0]) == []


def test_the_thread_for_several_faces_starts_with_the_second_and_ends(tmp_path):
    def helpers():
        threads = {thread for thread in threading.enumerate() if thread.name.startswith("facet-regressor")}
        return threads - others

    others = set()
    others = helpers()  # of trackers that a test before did not close
    regressor = open_regressor(tmp_path, np.zeros((2, 15)), **FACET)
    crops = np.zeros((2, 16, 16, 3), np.uint8)
    regressor(crops[:1])
    assert not helpers()
    regressor(crops)
    assert len(helpers()) == 1
    regressor.close()
    assert not helpers()


def test_what_the_manifest_says_is_known(tmp_path):
    numbers = np.zeros((2, 15))
    regressor = open_regressor(tmp_path, numbers, **FACET, upright=True, landmark_shift_y=-0.05)
    assert regressor.size == regressor.crop_spec.size_px == 16
    assert regressor.face_model_file == tmp_path / "model.npz"
    assert regressor.provider == "CPUExecutionProvider"
    spec = regressor.crop_spec
    assert (spec.box_scale, spec.landmark_shift_y, spec.upright, spec.style) == (1.5, -0.05, True, "area")


def test_heads_lie_where_the_manifest_says(tmp_path):
    """Another order, no score, and heads that the runtime does not know."""
    numbers = np.zeros((2, 18), np.float32)
    numbers[1] = [-1, 0.5, 2, *facet_numbers(np.eye(3), shape=(0.25, -3))[:11], 0, 3, 0.75, -0.25]
    heads = {"mood": [0, 3, "clip"], "pose": [3, 12, "pose"], "shape": [12, 14, "linear"]}
    heads |= {"tongue": [14, 16, "sigmoid"], "expression": [16, 17, "clip"], "raw": [17, 18, "linear"]}
    regressor = open_regressor(tmp_path, numbers, **FACET | {"heads": heads})
    face = regressor(np.zeros((1, 16, 16, 3), np.uint8))[0]
    assert face.score is None and face.shape.tolist() == [0.25, -3] and face.expression.tolist() == [0.75]
    assert face.camera[:, :3] == pytest.approx(16 * 0.005 * np.diag([1.0, -1.0, 1.0]))
    assert face.heads["mood"].tolist() == [0, 0.5, 1] and face.heads["raw"].tolist() == [-0.25]
    assert face.heads["tongue"] == pytest.approx([0.5, 1 / (1 + math.exp(-3))])
    assert set(face.heads) == {"mood", "raw", "tongue"}


def test_upstream_network_tells_no_score(tmp_path):
    face = open_regressor(tmp_path, np.zeros((2, 17)), **UPSTREAM)(np.zeros((1, 16, 16, 3), np.uint8))[0]
    assert face.score is None
    assert (face.camera.shape, face.shape.shape, face.expression.shape) == ((3, 4), (2,), (3,))


@pytest.mark.parametrize(
    "crops",
    [np.zeros((16, 16, 3), np.uint8), np.zeros((1, 16, 16, 3), np.float32), np.zeros((1, 15, 16, 3), np.uint8)],
)
def test_other_crops_are_refused(tmp_path, crops):
    with pytest.raises(ValueError, match="crops"):
        open_regressor(tmp_path, np.zeros((2, 15)), **FACET)(crops)


@pytest.mark.parametrize(
    ("numbers", "values"),
    [
        (15, FACET | {"format": "latin"}),
        (15, FACET | {"base_scale": None}),
        (15, FACET | {"crop_style": "nearest"}),
        (15, FACET | {"heads": HEADS | {"mood": [15, 16, "linear"]}}),
        (15, FACET | {"heads": HEADS | {"score": [13, 15, "sigmoid"]}}),
        (15, FACET | {"heads": HEADS | {"score": [14, 15, "softmax"]}}),
        (15, FACET | {"heads": HEADS | {"score": [14.0, 15, "sigmoid"]}}),
        (15, FACET | {"heads": HEADS | {"pose": [0, 8, "pose"], "shape": [8, 11, "linear"]}}),
        (15, FACET | {"heads": {"pose": [0, 9, "pose"], "shape": [9, 15, "linear"]}}),
        (15, FACET | {"heads": None}),
        (15, FACET | {"size_px": 17}),
        (15, FACET | {"landmark_scale": 0.0}),
        (17, UPSTREAM | {"pose_mean": [0.0] * 11}),
        (17, UPSTREAM | {"face_model": None}),
    ],
)
def test_a_manifest_that_does_not_fit(tmp_path, numbers, values):
    with pytest.raises(WeightsError, match=r"net\.onnx|\[net\]"):
        open_regressor(tmp_path, np.zeros((2, numbers)), **values)


def test_shape_energy_is_the_mean_square():
    assert Regressor.shape_energy(np.array([1.0, -3.0])) == 5.0


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [1, 3])
def test_a_network_whose_numbers_are_not_finite(number, count, tmp_path):
    numbers = facet_numbers(np.eye(3))
    numbers[3] = number
    regressor = open_regressor(tmp_path, [np.zeros_like(numbers), numbers], **FACET)
    with pytest.raises(WeightsError, match=r"net\.onnx: expected finite numbers"):
        regressor(np.zeros((count, 16, 16, 3), np.uint8))
