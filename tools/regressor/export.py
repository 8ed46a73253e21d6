"""Write a trained regressor as ONNX, compare it with PyTorch on real crops, and enter it in the manifest.

usage: python -m tools.regressor.export runs/small/last.pt -o weights/regressor.onnx [--data runs/data]
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch

from tools.data.augment import Recipe
from tools.data.fit import load_points
from tools.manifest import describe, update_manifest
from tools.regressor import losses as goals
from tools.regressor.model import PIXEL_SCALE, FaceNet
from tracker.files import new_file
from tracker.runtime import onnxruntime
from tracker.weights import ROOT

PARITY = 1e-3


class Exported(torch.nn.Module):
    """The head that the runtime reads, alone; the first convolution takes bytes as they lie in memory.

    A row of pixels is one row of numbers to it, of which it takes three at a time: moving the channels apart first
    would take 2 % of the network's time.
    """

    def __init__(self, net: FaceNet, size: int):
        super().__init__()
        self.body, self.head, self.size = copy.deepcopy(net.backbone.body), net.heads["params"], size
        first = self.body[0][0]
        (down, across), (pad_y, pad_x) = first.stride, first.padding
        count, channels, high, wide = first.weight.shape
        kernel, stride, padding = (high, channels * wide), (down, channels * across), (pad_y, channels * pad_x)
        self.body[0][0] = torch.nn.Conv2d(1, count, kernel, stride, padding, bias=False)
        with torch.no_grad():
            self.body[0][0].weight[:] = PIXEL_SCALE * first.weight.permute(0, 2, 3, 1).reshape(count, 1, *kernel)

    def forward(self, crops):
        rows = crops.float().reshape(-1, 1, self.size, 3 * self.size)
        return self.head(self.body(rows).flatten(1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "weights" / "regressor.onnx")
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    args = parser.parse_args()
    state = torch.load(args.checkpoint, map_location="cpu")
    config = state["config"]
    face = load_points(ROOT / "weights" / "face_model.npz")
    net = FaceNet(**config["net"], heads={"params": 9 + len(face.basis) + 1})
    net.load_state_dict(state["average"])
    net.eval()
    crops = real_crops(args.data, config)
    exported = Exported(net, config["net"]["size_px"]).eval()
    with torch.no_grad():
        expected = net(torch.from_numpy(crops))["params"].numpy()
    error = export(exported, config["net"]["size_px"], args.output, crops, expected)
    placing, shapes = config["crops"], face.shape_count
    update_manifest(
        args.output.parent / "manifest.toml",
        {
            args.output.stem: describe(
                args.output,
                kind="regressor",
                licence="MIT",
                provenance=f"tools/training/loop.py, {state['seen']} samples; see {args.output.stem}.md",
                dialect="facet",
                size_px=config["net"]["size_px"],
                base_scale=config["train"]["base_scale"],
                shape_count=shapes,
                expression_count=len(face.names),
                face_model="face_model.npz",
                box_scale=placing["runtime_box_scale"],
                box_shift_y=placing["runtime_box_shift_y"],
                landmark_scale=placing["landmark_scale"],
                upright=True,
                crop_style="area",
            )
        },
    )
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB, largest difference to PyTorch {error:.1e}")


def real_crops(data: Path, config: dict) -> np.ndarray:
    """Some held-out crops, (n, S, S, 3) uint8."""
    table, _, _ = goals.training_rows(data)
    crops, _ = goals.validation_crops(data, table, Recipe(config["net"]["size_px"], **goals.recipe_of(config)))
    return crops[:32]


def export(net: torch.nn.Module, size: int, output: Path, crops: np.ndarray, expected: np.ndarray) -> float:
    """Write the ONNX file and return its largest difference to what PyTorch expects of the crops.

    Raises
    ------
    RuntimeError
        If the difference is larger than PARITY; a file that existed stays then.
    """
    with new_file(output, ".onnx") as partial:
        torch.onnx.export(
            net,
            (torch.zeros(2, size, size, 3, dtype=torch.uint8),),
            str(partial),
            input_names=["crops"],
            output_names=["params"],
            dynamic_axes={"crops": {0: "batch"}, "params": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"crops": crops})
        error = float(np.abs(found - expected).max())
        if error > PARITY:
            raise RuntimeError(f"{output}: expected ONNX Runtime to agree with PyTorch within {PARITY}, found {error}")
    return error


if __name__ == "__main__":
    main()
