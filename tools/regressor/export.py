"""The regressor as an ONNX file, compared with PyTorch on real crops and entered in the manifest; and back again."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch

from facet.tracker.heads import consecutive
from tools.manifest import describe
from tools.regressor.data import Recipe, load_table, validation_crops
from tools.regressor.model import HEADS, PIXEL_SCALE, FaceNet
from tools.training.norms import load_layers, read_layers
from tools.training.onnx_file import write_onnx

PARITY = 1e-3
CROPS = 32  # on which both runtimes are compared


class Exported(torch.nn.Module):
    """All heads as one output; the first convolution takes bytes as they lie in memory.

    A row of pixels is one row of numbers to it, of which it takes three at a time: moving the channels apart first
    would take 2 % of the network's time.
    """

    def __init__(self, net: FaceNet, size: int):
        super().__init__()
        self.body, self.size = copy.deepcopy(net.backbone.body), size
        heads = list(net.heads.values())
        self.head = torch.nn.Linear(net.backbone.feature_count, sum(len(head.bias) for head in heads))
        first = self.body[0][0]
        (down, across), (pad_y, pad_x) = first.stride, first.padding
        count, channels, high, wide = first.weight.shape
        kernel, stride, padding = (high, channels * wide), (down, channels * across), (pad_y, channels * pad_x)
        self.body[0][0] = torch.nn.Conv2d(1, count, kernel, stride, padding, bias=False)
        with torch.no_grad():
            self.body[0][0].weight[:] = PIXEL_SCALE * first.weight.permute(0, 2, 3, 1).reshape(count, 1, *kernel)
            self.head.weight.copy_(torch.cat([head.weight for head in heads]))
            self.head.bias.copy_(torch.cat([head.bias for head in heads]))

    def forward(self, crops):
        rows = crops.float().reshape(-1, 1, self.size, 3 * self.size)
        return self.head(self.body(rows).flatten(1))


def write(net: FaceNet, recipe: Recipe, path: Path, folder: Path) -> dict:
    """Write the ONNX file; returns its table for the manifest.

    Raises
    ------
    TrainingError
        If ONNX Runtime differs from PyTorch by more than PARITY.
    """
    crops = validation_crops(folder, load_table(folder), recipe.crops)[0][:CROPS]
    write_graph(net, recipe.net.size_px, path, crops)
    heads = consecutive({name: (HEADS[name].count, HEADS[name].activation) for name in recipe.net.heads})
    return describe(
        path,
        kind="regressor",
        format="facet",
        size_px=recipe.net.size_px,
        base_scale=recipe.net.base_scale,
        heads={name: [head.start, head.stop, head.activation] for name, head in heads.items()},
        face_model="face_model.npz",
        box_scale=recipe.data.runtime_box_scale,
        box_shift_y=recipe.data.runtime_box_shift_y,
        landmark_scale=recipe.data.landmark_scale,
        upright=True,
        crop_style="area",
    )


def write_graph(net: FaceNet, size: int, path: Path, crops: np.ndarray) -> float:
    """Write the ONNX file and return its largest difference from PyTorch on the crops; raises as `write`."""
    with torch.no_grad():
        expected = torch.cat(list(net.eval()(torch.from_numpy(crops)).values()), 1).numpy()
    (difference,) = write_onnx(
        Exported(net, size),
        path,
        example=torch.zeros(2, size, size, 3, dtype=torch.uint8),
        inputs={"crops": {0: "batch"}},
        outputs={"params": {0: "batch"}},
        cases=[(crops, (expected,))],
        tolerances=(PARITY,),
    )
    return difference


def read(net: FaceNet, path: Path) -> None:
    """Put the weights of an exported file into a network of its size."""
    (first, bias), *middle, (weight, offset) = read_layers(path)
    kernel = net.backbone.body[0][0].kernel_size
    first = first.reshape(len(first), *kernel, 3).transpose(0, 3, 1, 2) / PIXEL_SCALE
    ends = np.cumsum([len(head.bias) for head in net.heads.values()])
    heads = zip(np.split(weight, ends[:-1]), np.split(offset, ends[:-1]), strict=True)
    load_layers(net, net.example(), [(first, bias), *middle, *heads], path)
