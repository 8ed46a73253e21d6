"""Turn the files of FaceBoxes and 3DDFA_V2 into what this project runs on.

    python -m tools.import_3ddfa [SRC] [--bfm bfm_noneck_v3.pkl] [-o weights/upstream]

SRC (default $FACET_MATERIAL/upstream) is searched for checkpoints of FaceBoxes, MobileNet x1 and x0.5, and ResNet22
(*.pth, known by their content), for `param_mean_std_62d_120x120.pkl`, for the 68-point basis of 3DDFA's C++ port
(`u_base.txt`, `w_shp_base.txt`, `w_exp_base.txt`) and the side files of the dense model. Written are ONNX files, face
models as npz, and a manifest. `configs/3ddfa_v2.toml` runs them.

The code of both projects is under MIT; the face model behind the weights is for academic use only, so none of this is
part of the product.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from facet.tracker.errors import FaceTrackError
from facet.tracker.files import new_file
from facet.tracker.runtime import open_session
from tools.arrays import ImportFailure, load_arrays
from tools.manifest import describe, update_manifest
from tools.upstream import FaceBoxes, FromBytes, MobileNet, ResNet22

ROOT = Path(__file__).resolve().parent.parent
CROP_PX = 120
SHAPES, EXPRESSIONS = 40, 10
UM_PER_MM = 1000.0
TOLERANCE = 1e-4  # torch against ONNX Runtime, in the networks' own output
OPSET = 17
FACE_MODEL_LICENCE = "code MIT; trained with the Basel Face Model and research data sets, academic use only"

def load_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, without the wrappings of its training.

    Raises
    ------
    ImportFailure
        If the file is no checkpoint of tensors.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises as many kinds as there are ways to be damaged
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ImportFailure(f"{path}: expected a checkpoint of tensors, found another: {reason}") from error
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict):
        checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, dict) or not all(isinstance(t, torch.Tensor) for t in checkpoint.values()):
        raise ImportFailure(f"{path}: expected a checkpoint of tensors, found {type(checkpoint).__name__}")
    tensors = {}
    for name, tensor in checkpoint.items():
        name = name.removeprefix("module.")
        if name.startswith("fc_lm."):
            continue  # a second head that only the training looked at
        tensors[name.replace("fc_param.", "fc.")] = tensor
    return tensors


def build_network(tensors: dict[str, torch.Tensor], path: Path) -> nn.Module:
    """The network that a checkpoint belongs to, filled with its tensors."""
    if "conv4_2.conv.weight" in tensors:
        network = FaceBoxes()
    elif "dw6.conv_sep.weight" in tensors and "conv1.weight" in tensors:
        network = MobileNet(len(tensors["conv1.weight"]) / 32)
    elif "conv_param.weight" in tensors:
        network = ResNet22()
    else:
        raise ImportFailure(f"{path}: expected FaceBoxes, MobileNet or ResNet22, found none of their layers")
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise ImportFailure(f"{path}: its tensors do not fit {type(network).__name__}: {reason}") from error
    return network.eval()


def export_detector(network: FaceBoxes, path: Path) -> None:
    """Write FaceBoxes with `image` (N, H, W, 3) uint8 BGR -> `offsets` (N, P, 4), `scores` (N, P); sizes are free."""
    _export(
        FromBytes(network, (104.0, 117.0, 123.0), 1.0).eval(),
        torch.zeros(1, 256, 320, 3, dtype=torch.uint8),
        path,
        inputs={"image": {0: "N", 1: "H", 2: "W"}},
        outputs={"offsets": {0: "N", 1: "P"}, "scores": {0: "N", 1: "P"}},
    )


def export_regressor(network: nn.Module, path: Path) -> None:
    """Write a regressor with `crops` (B, 120, 120, 3) uint8 BGR -> `params` (B, 62) in standard deviations."""
    _export(
        FromBytes(network, (127.5, 127.5, 127.5), 128.0).eval(),
        torch.zeros(1, CROP_PX, CROP_PX, 3, dtype=torch.uint8),
        path,
        inputs={"crops": {0: "B"}},
        outputs={"params": {0: "B"}},
    )


def _export(module: nn.Module, example: torch.Tensor, path: Path, inputs: dict, outputs: dict) -> None:
    """Write a network as ONNX, batch norms fused, and compare both on the same pixels."""
    with new_file(path, ".onnx") as partial:
        with torch.no_grad(), warnings.catch_warnings():
            # the new exporter needs a further package and writes larger graphs; the old one is asked for by name
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.onnx.export(
                module,
                (example,),
                str(partial),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=inputs | outputs,
                opset_version=OPSET,
                dynamo=False,
            )
        onnx.checker.check_model(str(partial), full_check=True)
        session = open_session(partial)
        for pixels in _probe_pictures(example.shape):
            with torch.no_grad():
                expected = module(torch.from_numpy(pixels))
            expected = expected if isinstance(expected, tuple) else (expected,)
            for name, ours, theirs in zip(outputs, session.run(**{next(iter(inputs)): pixels}), expected, strict=True):
                difference = float(np.abs(ours - theirs.numpy()).max())
                if not difference < TOLERANCE:
                    raise ImportFailure(
                        f"{path}: torch and ONNX Runtime differ by {difference:.1e} in {name}, more than"
                        f" {TOLERANCE:.0e}; try another version of onnxruntime"
                    )


def _probe_pictures(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Pictures with flat, smooth and rough parts; (1 or 2, H, W, 3) uint8."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    smooth = 127 + 80 * np.sin(columns / 17)[..., None] * np.cos(rows / 11)[..., None] + [-30.0, 0.0, 30.0]
    rough = smooth + random.normal(0, 25, smooth.shape)
    yield np.zeros((1, *shape[1:]), np.uint8)
    yield np.clip([smooth, rough], 0, 255).astype(np.uint8)


def whitening(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the 62 parameters, (62,) float64 each."""
    table = load_arrays(path)
    try:
        mean, std = (np.asarray(table[key], np.float64) for key in ("mean", "std"))
        if mean.shape != (62,) or std.shape != (62,):
            raise ValueError(f"shapes {mean.shape} and {std.shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise ImportFailure(f"{path}: expected `mean` and `std` of 62 numbers each, found {error}") from error
    return mean, std


def whitened_model(
    mean_um: np.ndarray, shape_basis: np.ndarray, expression_basis: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> dict[str, np.ndarray]:
    """A face model whose coefficients are in standard deviations.

    Parameters
    ----------
    mean_um : (3N,) or (3N, 1) float, micrometres, x, y, z of one vertex after the other
    shape_basis, expression_basis : (3N, 40) and (3N, 10) float; more columns are left out
    mean, std : (62,) float, of the regressed parameters

    Returns
    -------
    `mean` (N, 3), `shape_basis` (40, N, 3), `expression_basis` (10, N, 3), float32, mm
    """
    basis = np.concatenate([shape_basis[:, :SHAPES], expression_basis[:, :EXPRESSIONS]], axis=1).astype(np.float64)
    centre = np.asarray(mean_um, np.float64).ravel() + basis @ mean[12:]
    basis = (basis * std[12:]).T.reshape(SHAPES + EXPRESSIONS, -1, 3) / UM_PER_MM
    return {
        "mean": (centre.reshape(-1, 3) / UM_PER_MM).astype(np.float32),
        "shape_basis": basis[:SHAPES].astype(np.float32),
        "expression_basis": basis[SHAPES:].astype(np.float32),
    }


def import_sparse_model(folder: Path, mean: np.ndarray, std: np.ndarray) -> dict[str, np.ndarray]:
    """The 68 landmarks of the Basel model, from 3DDFA's text files."""
    arrays = []
    for name, columns in (("u_base", 1), ("w_shp_base", SHAPES), ("w_exp_base", EXPRESSIONS)):
        path = folder / f"{name}.txt"
        try:
            array = np.loadtxt(path, ndmin=2)
        except (OSError, ValueError) as error:
            raise ImportFailure(f"{path}: expected a table of numbers, found: {error}") from error
        if array.shape != (204, columns):
            raise ImportFailure(f"{path}: expected 204 rows of {columns}, found {array.shape}")
        arrays.append(array)
    return whitened_model(*arrays, mean, std) | {
        "triangles": np.zeros((0, 3), np.int32),
        "landmark_vertices": np.arange(68, dtype=np.int32),
    }


def import_dense_model(pack_file: Path, sides: Path, mean: np.ndarray, std: np.ndarray) -> dict[str, np.ndarray]:
    """The dense Basel model, from a pack in the form of `bfm_noneck_v3.pkl` and the files in the folder `sides`."""
    pack = load_arrays(pack_file)
    if not isinstance(pack, dict):
        raise ImportFailure(f"{pack_file}: expected a table of arrays, found {type(pack).__name__}")
    for key in ("u", "w_shp", "w_exp", "keypoints"):
        if not isinstance(pack.get(key), np.ndarray):
            raise ImportFailure(f"{pack_file}: expected an array {key}, found {', '.join(map(str, pack))}")
    length = pack["u"].size
    shapes = (("w_shp", SHAPES), ("w_exp", EXPRESSIONS))
    for key, columns in shapes:
        if pack[key].ndim != 2 or len(pack[key]) != length or pack[key].shape[1] < columns or length % 3:
            raise ImportFailure(f"{pack_file}: expected {key} of shape ({length}, {columns}), found {pack[key].shape}")
    count = length // 3
    # the triangles inside the pack of this name are another mesh's
    replaced = pack_file.name == "bfm_noneck_v3.pkl" and (sides / "tri.pkl").exists()
    triangles = load_arrays(sides / "tri.pkl") if replaced else pack.get("tri")
    triangles = np.asarray(triangles)
    if triangles.ndim != 2 or triangles.shape[0] != 3 or not 0 <= triangles.min() <= triangles.max() < count:
        raise ImportFailure(f"{pack_file}: expected triangles (3, F) between {count} vertices; give tri.pkl beside it")
    landmarks = pack["keypoints"].astype(np.int64).ravel()[::3] // 3
    if len(landmarks) != 68 or not 0 <= landmarks.min() <= landmarks.max() < count:
        raise ImportFailure(f"{pack_file}: expected keypoints of 68 vertices, found {pack['keypoints'].shape}")
    model = whitened_model(pack["u"], pack["w_shp"], pack["w_exp"], mean, std) | {
        # theirs are wound clockwise as the viewer sees them
        "triangles": triangles.T[:, [0, 2, 1]].astype(np.int32),
        "landmark_vertices": landmarks.astype(np.int32),
    }
    if (sides / "ncc_code.npy").exists():
        code = np.load(sides / "ncc_code.npy", allow_pickle=False)
        if code.shape == (3, count):
            model["pncc"] = code.T.astype(np.float32)
    if (sides / "BFM_UV.mat").exists() and (sides / "indices.npy").exists():
        import scipy.io  # only here: the rest of the import needs no scipy

        uv = scipy.io.loadmat(sides / "BFM_UV.mat")["UV"]
        indices = np.load(sides / "indices.npy", allow_pickle=False)
        if len(indices) == count:
            model["uv"] = uv[indices].astype(np.float32)
    return model


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    material = Path(os.environ.get("FACET_MATERIAL", ROOT.parent / "shared"))
    parser.add_argument("source", nargs="?", type=Path, default=material / "upstream", help="folder with their files")
    parser.add_argument("--bfm", type=Path, help="the dense face model, bfm_noneck_v3.pkl, where you have it")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "weights" / "upstream")
    options = parser.parse_args(arguments)
    try:
        for line in import_all(options.source, options.output, options.bfm):
            print(line)
    except (ImportFailure, FaceTrackError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def import_all(source: Path, output: Path, bfm: Path | None = None) -> Iterator[str]:
    """Import everything that is found; yields a line on each file written."""
    checkpoints = sorted(source.rglob("*.pth"))
    if not checkpoints:
        raise ImportFailure(f"{source}: expected the files of 3DDFA_V2, found no *.pth; name their folder")
    mean_std = _find(source, "param_mean_std_62d_120x120.pkl")
    mean, std = whitening(mean_std)
    output.mkdir(parents=True, exist_ok=True)

    models = {"model68.npz": import_sparse_model(_find(source, "u_base.txt").parent, mean, std)}
    if bfm is not None:
        models["bfm.npz"] = import_dense_model(bfm, mean_std.parent, mean, std)
    for name, model in models.items():
        path = output / name
        with new_file(path) as partial:
            np.savez(partial, **model)
        described = describe(
            path,
            kind="face_model",
            licence="Basel Face Model: academic use only",
            provenance="3DDFA, coefficients in standard deviations of 3DDFA_V2's training data",
        )
        update_manifest(output / "manifest.toml", {path.stem: described})
        yield f"{path}: {len(model['mean'])} vertices"

    for checkpoint in checkpoints:
        network = build_network(load_checkpoint(checkpoint), checkpoint)
        is_detector = isinstance(network, FaceBoxes)
        path = output / ("faceboxes.onnx" if is_detector else f"{checkpoint.stem}.onnx")
        if is_detector:
            export_detector(network, path)
            described = _describe_detector(path, checkpoint)
        else:
            export_regressor(network, path)
            described = _describe_regressor(path, checkpoint, mean, std)
        update_manifest(output / "manifest.toml", {path.stem: described})
        yield f"{path}: {type(network).__name__}, {sum(p.numel() for p in network.parameters()):,} parameters"


def _describe_detector(path: Path, checkpoint: Path) -> dict:
    return describe(
        path,
        kind="detector",
        licence="code MIT; trained on WIDER FACE, non-commercial research",
        provenance=f"FaceBoxes.PyTorch by way of 3DDFA_V2, {checkpoint.name}",
        format="faceboxes",
        normalisation="in graph",
        smallest_face_px=20.0,
        max_width_px=1080,
        max_height_px=720,
        nms_iou=0.3,
    )


def _describe_regressor(path: Path, checkpoint: Path, mean: np.ndarray, std: np.ndarray) -> dict:
    return describe(
        path,
        kind="regressor",
        licence=FACE_MODEL_LICENCE,
        provenance=f"3DDFA_V2, {checkpoint.name}",
        format="3ddfa_62",
        size_px=CROP_PX,
        colour="BGR",
        normalisation="in graph",
        face_model="model68.npz",
        shape_count=SHAPES,
        expression_count=EXPRESSIONS,
        pose_mean=mean[:12].tolist(),
        pose_std=std[:12].tolist(),
        crop_style="upstream",
        box_scale=1.58,
        box_shift_y=0.14,
        landmark_scale=2**0.5,
        landmark_shift_y=0.0,
        upright=False,
        origin_px=0.5,
    )


def _find(folder: Path, name: str) -> Path:
    path = next(iter(sorted(folder.rglob(name))), None)
    if path is None:
        raise ImportFailure(f"{folder}: expected {name} among the files of 3DDFA, found none; add it")
    return path


if __name__ == "__main__":
    sys.exit(main())
