import datetime
import io
import pickle
import pickletools

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch absent: pip install -r tools/requirements.txt")

from facet.tracker.crop import cut
from facet.tracker.morphable import load_face_model
from facet.tracker.regressor import Regressor
from facet.tracker.runtime import open_session
from facet.tracker.types import Roi
from facet.tracker.weights import find_entry, load_manifest
from tests.conftest import material
from tools import import_3ddfa
from tools.arrays import ImportFailure, load_arrays
from tools.import_3ddfa import build_network, import_all, import_dense_model, load_checkpoint
from tools.upstream import FaceBoxes, FromBytes, MobileNet, ResNet22


def upstream_network(name):
    path = material("upstream", "3ddfa_v2", name)
    return build_network(load_checkpoint(path), path)


def as_upstream_saves_it(network, **extra):
    """A checkpoint wrapped as 3DDFA_V2's training does."""
    state = {f"module.{name.replace('fc.', 'fc_param.')}": tensor for name, tensor in network.state_dict().items()}
    return {"epoch": 3, "state_dict": state | {f"module.{name}": tensor for name, tensor in extra.items()}}


@pytest.fixture
def source(tmp_path):
    """A folder of made-up files in upstream's forms."""
    random = np.random.default_rng(0)
    folder = tmp_path / "source"
    folder.mkdir()
    whitening = {"mean": random.normal(0, 1, 62).astype("f4"), "std": random.uniform(0.5, 1, 62).astype("f4")}
    (folder / "param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps(whitening))
    for name, columns in (("u_base", 1), ("w_shp_base", 40), ("w_exp_base", 10)):
        np.savetxt(folder / f"{name}.txt", random.normal(0, 50000 if columns == 1 else 1, (204, columns)))
    torch.manual_seed(0)
    torch.save(as_upstream_saves_it(MobileNet(0.25)), folder / "mb025.pth")
    return folder


# --- the networks


@pytest.mark.parametrize(
    ("network", "count"),
    [(FaceBoxes(), 1_007_330), (MobileNet(), 3_270_526), (MobileNet(0.5), 850_398), (ResNet22(), 18_449_246)],
)
def test_networks_have_upstreams_size(network, count):
    assert sum(p.numel() for p in network.parameters()) == count


def test_mobilenet_test_vectors():
    network = upstream_network("mb05_120x120.pth")
    with torch.no_grad():
        zeros, ones = network(torch.zeros(1, 3, 120, 120))[0], network(torch.ones(1, 3, 120, 120))[0]
    expected = [-0.474981, -1.475066, 0.531890, -0.637287, -0.188522, -0.455726, 1.840672, -2.018449, -0.795912]
    assert zeros[:12].tolist() == pytest.approx([*expected, -0.993230, -0.445099, 0.000013], abs=1e-5)
    assert float(zeros.sum()) == pytest.approx(-3.679052, abs=1e-4)
    assert ones[:4].tolist() == pytest.approx([-0.269003, -0.771837, 0.446881, -0.326281], abs=1e-5)
    assert float(ones.sum()) == pytest.approx(-1.727524, abs=1e-4)


def test_faceboxes_test_vector():
    with torch.no_grad():
        loc, scores = upstream_network("FaceBoxesProd.pth")(torch.zeros(1, 3, 256, 320))
    assert loc[0, 0].tolist() == pytest.approx([0.620752, 0.326252, -0.805539, 0.109717], abs=1e-5)
    assert loc[0, -1].tolist() == pytest.approx([-0.066728, -0.056607, -0.747589, -0.177004], abs=1e-5)
    assert float(loc.sum()) == pytest.approx(1097.031, abs=1e-2)
    assert float(scores.sum()) == pytest.approx(4.23839, abs=1e-4)
    assert float(scores.max()) == pytest.approx(0.020402, abs=5e-6)


def test_upstream_files_on_real_crops(tmp_path):
    """torch against ONNX Runtime on faces, and on whole photographs of several sizes."""
    for _ in import_all(material("upstream"), tmp_path):
        pass
    photos = [cv2.imread(str(material("media", "images", name))) for name in ("JianzhuGuo.jpg", "trump_hillary.jpg")]
    rois = (0, Roi(70, 70, 270)), (1, Roi(200, 60, 320)), (1, Roi(0, 0, 90))
    crops = np.stack([cut(photos[i], roi, 120) for i, roi in rois])
    whole = FromBytes(upstream_network("mb05_120x120.pth"), (127.5, 127.5, 127.5), 128.0).eval()
    with torch.no_grad():
        expected = whole(torch.from_numpy(crops)).numpy()
    (found,) = open_session(tmp_path / "mb05_120x120.onnx").run(crops=crops)
    assert found == pytest.approx(expected, abs=1e-4)

    detector = FromBytes(upstream_network("FaceBoxesProd.pth"), (104.0, 117.0, 123.0), 1.0).eval()
    session = open_session(tmp_path / "faceboxes.onnx")
    for picture in (photos[0], photos[1][:333, :777], photos[0][:1, :1], photos[0][:40, :3]):
        with torch.no_grad():
            loc, scores = detector(torch.from_numpy(picture[None].copy()))
        found_loc, found_scores = session.run(image=picture[None])
        assert found_loc == pytest.approx(loc.numpy(), abs=1e-4)
        assert found_scores == pytest.approx(scores.numpy(), abs=1e-4)
    # the faces are worth a look to the tracker
    entry = find_entry(tmp_path / "mb05_120x120.onnx", "regressor")
    assert Regressor.open(entry)(crops)[0].shape.shape == (40,)
    assert entry.sibling("model68.npz").kind == "face_model"


def test_batch_norms_are_fused(tmp_path, source):
    onnx = pytest.importorskip("onnx")
    for _ in import_all(source, tmp_path / "out"):
        pass
    graph = onnx.load(tmp_path / "out" / "mb025.onnx").graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


@pytest.mark.parametrize("network", [MobileNet(), ResNet22()], ids=["mb1", "resnet22"])
def test_other_architectures_with_random_tensors(tmp_path, source, network):
    torch.manual_seed(1)
    for module in network.modules():  # running statistics that are not the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    lm = {"fc_lm.weight": torch.zeros(136, 7), "fc_lm.bias": torch.zeros(136)}
    torch.save(as_upstream_saves_it(network, **lm), source / "mb025.pth")
    for _ in import_all(source, tmp_path / "out"):
        pass
    crops = np.random.default_rng(0).integers(0, 256, (3, 120, 120, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = FromBytes(network.eval(), (127.5,) * 3, 128.0).eval()(torch.from_numpy(crops)).numpy()
    (found,) = open_session(tmp_path / "out" / "mb025.onnx").run(crops=crops)
    assert found == pytest.approx(expected, abs=1e-4)


# --- what a folder of files becomes


def test_manifest_tells_what_the_runtime_needs(tmp_path, source):
    lines = list(import_all(source, tmp_path / "out"))
    assert len(lines) == 2
    entries = load_manifest(tmp_path / "out" / "manifest.toml")
    assert set(entries) == {"mb025", "model68"}
    for entry in entries.values():
        assert find_entry(entry.path) is not None
        assert "academic" in entry.licence
    regressor = Regressor.open(entries["mb025"])
    assert (regressor.size, regressor.crop_spec.style) == (120, "upstream")
    # a second import replaces, and leaves nothing half written behind
    list(import_all(source, tmp_path / "out"))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"manifest.toml", "mb025.onnx", "model68.npz"}


def test_sparse_model_is_upstreams_formula(tmp_path, source):
    list(import_all(source, tmp_path / "out"))
    model = load_face_model(tmp_path / "out" / "model68.npz")
    whitening = pickle.loads((source / "param_mean_std_62d_120x120.pkl").read_bytes())
    u, w_shape, w_expression = (
        np.loadtxt(source / f"{name}.txt", ndmin=2) for name in ("u_base", "w_shp_base", "w_exp_base")
    )
    random = np.random.default_rng(1)
    standard = random.normal(0, 1, 50).astype(np.float32)
    true = standard * whitening["std"][12:] + whitening["mean"][12:]
    expected = u + w_shape @ true[:40, None] + w_expression @ true[40:, None]
    camera = np.eye(3, 4, dtype=np.float32)
    found = model.landmarks(camera, standard[:40], standard[40:])
    assert found == pytest.approx(expected.reshape(68, 3) / 1000, abs=1e-3)


def make_pack(count=400, **replaced):
    random = np.random.default_rng(3)
    vertices = random.permutation(count)[:68]
    pack = {
        "u": random.normal(0, 50000, (3 * count, 1)),
        "w_shp": random.normal(0, 1, (3 * count, 45)),
        "w_exp": random.normal(0, 1, (3 * count, 12)),
        "keypoints": np.stack([3 * vertices, 3 * vertices + 1, 3 * vertices + 2], axis=1).ravel(),
        "tri": random.integers(0, count, (3, 700)),
    } | replaced
    return {key: value for key, value in pack.items() if value is not None}


def test_dense_model_of_a_pack(tmp_path, source):
    pack = make_pack()
    path = tmp_path / "my_pack.pkl"
    path.write_bytes(pickle.dumps(pack))
    lines = list(import_all(source, tmp_path / "out", path))
    assert any("400 vertices" in line for line in lines)
    model = load_face_model(find_entry(tmp_path / "out" / "bfm.npz", "face_model").path)
    whitening = pickle.loads((source / "param_mean_std_62d_120x120.pkl").read_bytes())
    standard = np.random.default_rng(1).normal(0, 1, 50).astype(np.float32)
    true = standard * whitening["std"][12:] + whitening["mean"][12:]
    expected = pack["u"].ravel() + pack["w_shp"][:, :40] @ true[:40] + pack["w_exp"][:, :10] @ true[40:]
    expected = expected.reshape(-1, 3) / 1000
    assert model.vertices(standard[:40], standard[40:]) == pytest.approx(expected, abs=1e-3)
    camera = np.eye(3, 4, dtype=np.float32)
    landmarks = model.landmarks(camera, standard[:40], standard[40:])
    assert landmarks == pytest.approx(expected[pack["keypoints"][::3] // 3], abs=1e-3)
    assert (pack["tri"] == np.asarray(model.triangles)[:, [0, 2, 1]].T).all()


def test_the_original_packs_triangles_and_side_files_come_from_beside(tmp_path):
    """As many vertices as upstream's, so that its own triangles, texture coordinates and codes belong to them."""
    sides = material("upstream", "3ddfa_v2")
    path = tmp_path / "bfm_noneck_v3.pkl"
    path.write_bytes(pickle.dumps(make_pack(38365, tri=None)))
    mean, std = import_3ddfa.whitening(sides / "param_mean_std_62d_120x120.pkl")
    model = import_dense_model(path, sides, mean, std)
    assert model["mean"].shape == (38365, 3)
    assert model["triangles"].shape == (76073, 3)
    assert model["uv"].shape == (38365, 2) and 0 <= model["uv"].min() <= model["uv"].max() <= 1
    assert model["pncc"].shape == (38365, 3)
    # counter-clockwise as the viewer sees it: the code of a vertex is where it lies, so it gives the winding
    a, b, c = (model["pncc"][model["triangles"][:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).mean() > 0.9


@pytest.mark.parametrize(
    "replaced",
    [
        {"u": None},
        {"w_shp": np.zeros((1200, 30))},
        {"w_exp": np.zeros((900, 10))},
        {"tri": None},
        {"tri": np.full((3, 5), 400)},
        {"tri": np.full((3, 5), -1)},
        {"keypoints": np.arange(30)},
        {"keypoints": np.full(204, 1200)},
    ],
)
def test_a_pack_that_is_not_one(tmp_path, source, replaced, capsys):
    path = tmp_path / "pack.pkl"
    path.write_bytes(pickle.dumps(make_pack(**replaced)))
    status = import_3ddfa.main([str(source), "--bfm", str(path), "-o", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert status == 1 and error.count("\n") == 1 and "pack.pkl" in error


# --- hostile and damaged files


class Bomb:
    def __reduce__(self):
        return eval, ("1/0",)


@pytest.mark.parametrize(
    "content", [Bomb(), datetime.date(2020, 1, 1), {"u": Bomb()}, np.array([Bomb()], dtype=object)]
)
def test_pickles_that_hold_more_than_arrays(tmp_path, content):
    path = tmp_path / "pack.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ImportFailure, match=r"only (numpy arrays|numbers) are let in"):
        load_arrays(path)


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps({"u": np.zeros(9)})[:-20]])
def test_damaged_pickles(tmp_path, content):
    path = tmp_path / "pack.pkl"
    path.write_bytes(content)
    with pytest.raises(ImportFailure, match=r"pack\.pkl"):
        load_arrays(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_protocol(tmp_path, protocol, order):
    arrays = {"a": np.asarray(np.arange(12.0).reshape(3, 4), order=order), "b": [np.int32([1, 2]), "text", 3]}
    path = tmp_path / "pack.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    found = load_arrays(path)
    assert (found["a"] == arrays["a"]).all() and (found["b"][0] == [1, 2]).all()


def test_arrays_of_numpy_1(tmp_path):
    assert load_arrays(material("upstream", "3ddfa_v2", "tri.pkl")).shape == (3, 76073)


def checkpoint_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no checkpoint",
        checkpoint_bytes({"state_dict": {"module.conv1.weight": torch.zeros(2)}}),
        checkpoint_bytes([1, 2, 3]),
        checkpoint_bytes({"state_dict": {"a": 3}}),
        checkpoint_bytes(Bomb()),
        checkpoint_bytes({"conv4_2.conv.weight": torch.zeros(2)}),
    ],
)
def test_checkpoints_that_are_none(tmp_path, source, content, capsys):
    (source / "mb025.pth").write_bytes(content)
    status = import_3ddfa.main([str(source), "-o", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert status == 1 and error.count("\n") == 1 and "mb025.pth" in error


@pytest.mark.parametrize(
    "missing", ["mb025.pth", "param_mean_std_62d_120x120.pkl", "u_base.txt", "w_shp_base.txt", "w_exp_base.txt"]
)
def test_missing_files_are_named(tmp_path, source, missing, capsys):
    (source / missing).unlink()
    assert import_3ddfa.main([str(source), "-o", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and (missing in error or "*.pth" in error)


def test_whitening_of_another_network(tmp_path, source, capsys):
    (source / "param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps({"mean": np.zeros(62), "std": np.zeros(72)}))
    assert import_3ddfa.main([str(source), "-o", str(tmp_path / "out")]) == 1
    assert "62 numbers" in capsys.readouterr().err


def test_the_command(tmp_path, source, capsys):
    assert import_3ddfa.main([str(source), "-o", str(tmp_path / "out")]) == 0
    assert "mb025.onnx" in capsys.readouterr().out


def test_the_bomb_is_live():
    """What the hostile pickles would do to a reader that trusts them."""
    assert any(op.name == "REDUCE" for op, _, _ in pickletools.genops(pickle.dumps(Bomb())))
    with pytest.raises(ZeroDivisionError):
        pickle.loads(pickle.dumps(Bomb()))
