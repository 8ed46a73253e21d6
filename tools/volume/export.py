"""The volume network as an ONNX file, compared with PyTorch on real crops; and back again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from facet.tracker.volume import guide
from tools.heatmaps.data import warp
from tools.heatmaps.export import read as read
from tools.manifest import describe
from tools.training.onnx_file import write_onnx
from tools.volume.data import People, Recipe, moved, placement, sources
from tools.volume.model import enlarged

PARITY = 1e-3
CROPS = 4  # on which both runtimes are compared


class Exported(torch.nn.Module):
    """uint8 crops (B, S, S, 3 or more) -> what the runtime reads.

    Returns
    -------
    inside : (B, slices, S, S) float32, how much of each voxel is inside
    points : (B, 68, 2) float32, shares of the crop's side, of networks that predict landmarks
    """

    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self.net = net

    def forward(self, crops):
        output = self.net(crops)
        inside = torch.sigmoid(enlarged(output["logits"][:, -1]))
        return (inside, output["points"]) if self.net.with_landmarks else (inside,)


def write(net: torch.nn.Module, recipe: Recipe, path: Path, folder: Path) -> dict:
    """Write the ONNX file; returns its table for the manifest.

    Raises
    ------
    TrainingError
        If ONNX Runtime differs from PyTorch by more than PARITY.
    """
    write_graph(net, path, some_crops(recipe, folder))
    values = recipe.net
    return describe(path, kind="volume", size_px=values.size_px, slices=values.slices, guided=values.guided)


def write_graph(net: torch.nn.Module, path: Path, crops: np.ndarray) -> tuple[float, ...]:
    """Write the ONNX file and return the largest differences from PyTorch on the crops; raises as `write`."""
    exported = Exported(net).eval()
    with torch.no_grad():
        expected = tuple(part.numpy() for part in exported(torch.from_numpy(crops)))
    return write_onnx(
        exported,
        path,
        example=torch.zeros(2, *crops.shape[1:], dtype=torch.uint8),
        inputs={"crops": {0: "batch"}},
        outputs={name: {0: "batch"} for name in ("inside", "points")[: len(expected)]},
        cases=[(crops, expected)],
        tolerances=(PARITY,) * len(expected),
        folded=False,
    )


def some_crops(recipe: Recipe, folder: Path) -> np.ndarray:
    """Crops of rendered people, (CROPS, S, S, channels) uint8."""
    source, people, size, crops = sources(folder, ("rendered",))["rendered"], People(), recipe.net.size_px, []
    for row in range(len(source.images))[-CROPS:]:
        affine = placement(size)
        crop = warp(source.images[row], affine, size)
        if recipe.net.guided:
            crop = guide(crop, people.landmarks(source, row, moved(source.table["camera"][row], affine)))
        crops.append(crop)
    return np.stack(crops)
