"""The autoencoder or a landmark network on it as an ONNX file, compared with PyTorch; and back again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tools.autoencoder.data import Recipe, held_out_crops, load
from tools.autoencoder.model import MAP_LEVEL, Autoencoder
from tools.heatmaps.export import weights_of
from tools.manifest import describe
from tools.training import TrainingError
from tools.training.onnx_file import write_onnx

PARITY = 1e-3
CROPS = 16  # on which both runtimes are compared
# what a landmark network has of the decoder but does not run, so that its files lack it
UNUSED = (f"decoder.enlarge.{MAP_LEVEL}.", "decoder.last.")


class Exported(torch.nn.Module):
    """uint8 crops (B, S, S, 3) BGR -> an autoencoder's image (B, S, S, 3) BGR, 0 to 1, and code; or points (B, n, 3):
    x, y and depth in shares of the crop's side."""

    def __init__(self, net: Autoencoder):
        super().__init__()
        self.net = net

    def forward(self, crops):
        out = self.net(crops)
        if self.net.heads is None:
            return out["image"].permute(0, 2, 3, 1), out["code"]
        return torch.cat([out["places"], out["depth"][..., None]], dim=2)


def write(net: Autoencoder, recipe: Recipe, path: Path, folder: Path) -> dict:
    """Write the ONNX file; returns its table for the manifest.

    Raises
    ------
    TrainingError
        If ONNX Runtime differs from PyTorch by more than PARITY.
    """
    faces = load(folder, recipe)
    crops, _ = held_out_crops(faces, recipe, CROPS)
    write_graph(net, recipe.net.size_px, path, crops)
    kind = "points" if recipe.net.points else "autoencoder"
    more = {"points": recipe.net.points, "box": faces.box.tolist()} if recipe.net.points else {}
    return describe(path, kind=kind, size_px=recipe.net.size_px, landmark_scale=recipe.data.landmark_scale, **more)


def write_graph(net: Autoencoder, size: int, path: Path, crops: np.ndarray) -> tuple[float, ...]:
    """Write the ONNX file and return the largest differences from PyTorch on the crops; raises as `write`."""
    exported = Exported(net).eval()
    if not len(crops):
        crops = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    with torch.no_grad():
        expected = exported(torch.from_numpy(crops))
    expected = expected if isinstance(expected, tuple) else (expected,)
    names = ("image", "code") if net.heads is None else ("points",)
    return write_onnx(
        exported,
        path,
        example=torch.zeros(2, size, size, 3, dtype=torch.uint8),
        inputs={"crops": {0: "batch"}},
        outputs={name: {0: "batch"} for name in names},
        cases=[(crops, tuple(part.numpy() for part in expected))],
        tolerances=(PARITY, 20 * PARITY)[: len(names)],
        folded=False,
    )


def read(net: Autoencoder, path: Path) -> None:
    """Put the weights of an exported file into a network of its size.

    Raises
    ------
    TrainingError
        If the file is of another network.
    """
    found, own = weights_of(path), net.state_dict()
    absent = ("seen", *(UNUSED if net.heads is not None else ()))
    names = [name for name in own if "num_batches" not in name and not name.startswith(absent)]
    state = {name: found.get(f"net.{name}") for name in names}
    wrong = [name for name, value in state.items() if value is None or value.shape != own[name].shape]
    if wrong:
        raise TrainingError(f"{path}: expected the weights of this recipe's network, found none for {wrong[0]}")
    net.load_state_dict(state, strict=False)
