"""The aligner as an ONNX file, compared with PyTorch on real crops; and back again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch

from tools.data.crops import SIZE_PX
from tools.heatmaps.data import Recipe, images_of, tracked_crop
from tools.heatmaps.data import read as read_npz
from tools.heatmaps.model import Aligner
from tools.manifest import describe
from tools.training import TrainingError
from tools.training.onnx_file import write_onnx

PARITY = 1e-3
CROPS = 16  # on which both runtimes are compared


class Exported(torch.nn.Module):
    """uint8 crops (B, S, S, 3) BGR -> what the runtime reads; lengths in shares of the crop's side.

    Returns
    -------
    points : (B, 87, 5), x, y, depth (larger is nearer), probability of being visible, expected distance from the truth
    face : (B, S / 4, S / 4), probability that the cell shows the face
    """

    def __init__(self, net: Aligner):
        super().__init__()
        self.net = net

    def forward(self, crops):
        out = self.net(crops)
        more = torch.stack([out["depth"], torch.sigmoid(out["visible"]), torch.exp(out["spread"])], dim=2)
        return torch.cat([out["places"], more], dim=2), torch.sigmoid(out["face"])


def write(net: Aligner, recipe: Recipe, path: Path, folder: Path) -> dict:
    """Write the ONNX file; returns its table for the manifest.

    Raises
    ------
    TrainingError
        If ONNX Runtime differs from PyTorch by more than PARITY.
    """
    write_graph(net, recipe.net.size_px, path, some_crops(recipe, folder))
    return describe(
        path, kind="aligner", size_px=recipe.net.size_px, landmark_scale=recipe.data.landmark_scale, upright=True
    )


def write_graph(net: Aligner, size: int, path: Path, crops: np.ndarray) -> tuple[float, ...]:
    """Write the ONNX file and return the largest differences from PyTorch on the crops; raises as `write`."""
    exported = Exported(net).eval()
    with torch.no_grad():
        expected = tuple(part.numpy() for part in exported(torch.from_numpy(crops)))
    return write_onnx(
        exported,
        path,
        example=torch.zeros(2, size, size, 3, dtype=torch.uint8),
        inputs={"crops": {0: "batch"}},
        outputs={"points": {0: "batch"}, "face": {0: "batch"}},
        cases=[(crops, expected)],
        tolerances=(PARITY, 10 * PARITY),
        folded=False,
    )


def some_crops(recipe: Recipe, folder: Path) -> np.ndarray:
    """Crops of held-out photographs, (CROPS, S, S, 3) uint8."""
    table, known = read_npz(folder / "faces.npz"), read_npz(folder / "anatomical.npz")
    rows = np.flatnonzero(table["held_out"])[:CROPS]
    images, scale = images_of(folder / "faces.u8", SIZE_PX), recipe.data.landmark_scale
    points = known["points"][:, :68].astype(np.float64)
    return np.stack([tracked_crop(images[row], points[row], recipe.net.size_px, scale)[0] for row in rows])


@torch.no_grad()
def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """The weights of an exported file by their names in `Exported`."""
    return {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in onnx.load(path).graph.initializer}


def read(net: Aligner, path: Path) -> None:
    """Put the weights of an exported file into a network of its size.

    Raises
    ------
    TrainingError
        If the file is of another network.
    """
    found = weights_of(path)
    state = {name: found.get(f"net.{name}") for name in net.state_dict() if "num_batches" not in name}
    own = net.state_dict()
    wrong = [name for name, value in state.items() if value is None or value.shape != own[name].shape]
    if wrong:
        raise TrainingError(f"{path}: expected the weights of this recipe's network, found none for {wrong[0]}")
    net.load_state_dict(state, strict=False)
