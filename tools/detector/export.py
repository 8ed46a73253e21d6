"""The detector as an ONNX file, checked against the network it came from; and back again."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from tools.data import labels_boxes, material
from tools.detector.data import Recipe
from tools.detector.model import STRIDES, FaceBoxes, boxes_at, grid_points
from tools.manifest import describe
from tools.training.norms import load_layers, read_layers
from tools.training.onnx_file import write_onnx

BOX_TOLERANCE_PX = 0.01  # per 100 px of the image's longer side
SCORE_TOLERANCE = 1e-4
# chosen on the photographs kept for validation (tools/evaluation/detector.py)
NMS_IOU = 0.5
SMALLEST_FACE_PX = 11.0
MIN_INPUT_PX = 224
OVERVIEW_PX, OVERVIEW_FACE_PX = 512, 48.0
DEFAULT_OVERLAP = 0.5  # the expected overlap from which on a box counts as a face: becomes a score of 0.5


class Exported(nn.Module):
    """The network with all that surrounds it: an image of any size in, boxes and scores of all points out."""

    def __init__(self, network: FaceBoxes):
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Parameters
        ----------
        image : (1, H, W, 3) uint8, BGR

        Returns
        -------
        boxes : (P, 4) float32, x_min, y_min, x_max, y_max, px
        scores : (P,) float32, the expected overlap of the box with a face, its logit shifted such that 0.5 is where
            a box should count as a face
        """
        x = image.permute(0, 3, 1, 2).float()
        step = STRIDES[-1]
        bottom, right = (-x.shape[2]) % step, (-x.shape[3]) % step
        # grey, which the network sees as nothing: as the zeros that its convolutions are padded with
        x = F.pad(x, (0, right, 0, bottom), value=127.5)
        logits, distances = self.network.grid(x)
        points, _ = grid_points(x.shape[2], x.shape[3])
        return boxes_at(points, distances[0]), (logits[0] - logit(DEFAULT_OVERLAP)).sigmoid()


def logit(share: float) -> float:
    """The inverse of the sigmoid."""
    return math.log(share / (1 - share))


def write(net: FaceBoxes, recipe: Recipe, path: Path, folder: Path) -> dict:
    """Write the ONNX file; returns its table for the manifest.

    Raises
    ------
    TrainingError
        If ONNX Runtime differs from PyTorch by more than the tolerances.
    """
    write_graph(net, path, validation_images(24))
    return describe(
        path,
        kind="detector",
        format="boxes",
        normalisation="in graph",
        smallest_face_px=SMALLEST_FACE_PX,
        min_input_px=MIN_INPUT_PX,
        nms_iou=NMS_IOU,
        overview_px=OVERVIEW_PX,
        overview_face_px=OVERVIEW_FACE_PX,
    )


def write_graph(net: FaceBoxes, path: Path, images: list[np.ndarray]) -> tuple[float, float]:
    """Write the ONNX file; returns the largest differences of boxes, px in 100 px of the image, and of scores.

    Parameters
    ----------
    images : (H, W, 3) uint8 each, BGR, on which both runtimes must agree
    """
    exported, cases = Exported(net.cpu().eval()), []
    for image in images:
        with torch.inference_mode():
            cases.append((image[None], tuple(out.numpy() for out in exported(torch.from_numpy(image[None])))))
    return write_onnx(
        exported,
        path,
        example=torch.zeros((1, 96, 128, 3), dtype=torch.uint8),
        inputs={"image": {1: "H", 2: "W"}},
        outputs={"boxes": {0: "P"}, "scores": {0: "P"}},
        cases=cases,
        tolerances=(BOX_TOLERANCE_PX, SCORE_TOLERANCE),
        compare=differences,
    )


def differences(image: np.ndarray, found, expected) -> tuple[float, float]:
    """The largest differences of boxes, px in 100 px of the image's longer side, and of scores."""
    seen = expected[1] > 0.05  # boxes of points that see no face are arbitrary, and may be huge
    box = np.abs(found[0] - expected[0])[seen].max(initial=0)
    return 100 * float(box) / max(image.shape[1:3]), float(np.abs(found[1] - expected[1]).max())


def read(net: FaceBoxes, path: Path) -> None:
    """Put the weights of an exported file into a network of its size."""
    example = torch.zeros(1, 64, 64, 3, dtype=torch.uint8, device=next(net.parameters()).device)
    load_layers(net, example, read_layers(path), path)


def validation_images(count: int) -> list[np.ndarray]:
    """Photographs that are not trained on, of many sizes."""
    kept = [label for label in labels_boxes.read() if label.validation]
    chosen = kept[:: max(1, len(kept) // count)][:count]
    return [cv2.imread(str(material.folder() / "faces" / label.file)) for label in chosen]
