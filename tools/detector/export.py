"""Write a trained detector as ONNX, check it against the network it came from, and enter it in the manifest.

usage: python -m tools.detector.export --checkpoint runs/detector/last.pt --out weights/detector.onnx
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F

from tools.data import labels_boxes, material
from tools.detector.model import STRIDES, FaceBoxes, boxes_at, grid_points
from tools.manifest import describe, update_manifest
from tracker.errors import WeightsError
from tracker.files import new_file
from tracker.runtime import open_session
from tracker.weights import MANIFEST_NAME

BOX_TOLERANCE_PX = 0.01  # per 100 px of the picture's longer side
SCORE_TOLERANCE = 1e-4
# chosen on the photographs kept for validation (tools/evaluation/detector.py)
NMS_IOU = 0.5
SMALLEST_FACE_PX = 11.0
MIN_INPUT_PX = 224
OVERVIEW_PX, OVERVIEW_FACE_PX = 512, 48.0
DEFAULT_OVERLAP = 0.5  # the expected overlap from which on a box counts as a face: becomes a score of 0.5
PROVENANCE = "trained from scratch by tools/detector/losses.py; data and limits in detector.md"


class Exported(nn.Module):
    """The network with all that surrounds it: a picture of any size in, boxes and scores of all points out."""

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
        logits, distances = self.network(x)
        points, _ = grid_points(x.shape[2], x.shape[3])
        return boxes_at(points, distances[0]), (logits[0] - logit(DEFAULT_OVERLAP)).sigmoid()


def logit(share: float) -> float:
    """The inverse of the sigmoid."""
    return math.log(share / (1 - share))


def load_network(checkpoint: Path) -> FaceBoxes:
    """The averaged network of a checkpoint, for use."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = FaceBoxes(**state["config"]["net"])
    network.load_state_dict(state["average"])
    return network.eval()


def export(network: FaceBoxes, path: Path, pictures: list[np.ndarray]) -> tuple[float, float]:
    """Write a network as ONNX, batch norms folded into the convolutions.

    Parameters
    ----------
    network : in evaluation mode; left as it is
    path : where to; written only when all is well
    pictures : (H, W, 3) uint8 each, BGR, on which both must agree

    Returns
    -------
    largest difference of boxes (px) and of scores between the two

    Raises
    ------
    WeightsError
        If they differ by more than the tolerances.
    """
    example = torch.zeros((1, 96, 128, 3), dtype=torch.uint8)
    with new_file(path, ".onnx") as partial:
        with torch.no_grad(), warnings.catch_warnings():
            # the new exporter needs a further package; the old one is told to be old, and the sizes that the tracer
            # takes for constants are none
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Exported(network).eval(),
                (example,),
                str(partial),
                input_names=["image"],
                output_names=["boxes", "scores"],
                dynamic_axes={"image": {1: "H", 2: "W"}, "boxes": {0: "P"}, "scores": {0: "P"}},
                opset_version=17,
                dynamo=False,
            )
        onnx.checker.check_model(str(partial), full_check=True)
        differences = parity(network, partial, pictures)
    return differences


def parity(network: FaceBoxes, path: Path, pictures: list[np.ndarray]) -> tuple[float, float]:
    """Largest difference of boxes (px) and of scores between a network and a file; raises where it is too large."""
    session, reference = open_session(path), Exported(network)
    worst_px = worst_score = 0.0
    for picture in pictures:
        boxes, scores = session.run(image=picture[None])
        with torch.inference_mode():
            wanted_boxes, wanted_scores = (t.numpy() for t in reference(torch.from_numpy(picture[None])))
        # boxes of points that see no face are arbitrary, and may be huge
        seen = wanted_scores > 0.05
        box_px = float(np.abs(boxes - wanted_boxes)[seen].max(initial=0))
        score = float(np.abs(scores - wanted_scores).max())
        if not (box_px <= BOX_TOLERANCE_PX * max(picture.shape[:2]) / 100 and score <= SCORE_TOLERANCE):
            raise WeightsError(
                f"{path}: expected the network's answers within {BOX_TOLERANCE_PX} px in 100 and {SCORE_TOLERANCE} of "
                f"score, found {box_px:.4f} px and {score:.2g}; try another version of onnxruntime"
            )
        worst_px, worst_score = max(worst_px, box_px), max(worst_score, score)
    return worst_px, worst_score


def validation_pictures(count: int) -> list[np.ndarray]:
    """Photographs that nobody trained on, of many sizes."""
    kept = [label for label in labels_boxes.read() if label.validation]
    chosen = kept[:: max(1, len(kept) // count)][:count]
    return [cv2.imread(str(material.folder() / "faces" / label.file)) for label in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the file to write; the manifest beside it too")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    box_px, score = export(load_network(args.checkpoint), args.out, validation_pictures(24))
    table = describe(
        args.out,
        kind="detector",
        licence="MIT",
        provenance=PROVENANCE,
        dialect="boxes",
        normalisation="in graph",
        smallest_face_px=SMALLEST_FACE_PX,
        min_input_px=MIN_INPUT_PX,
        nms_iou=NMS_IOU,
        overview_px=OVERVIEW_PX,
        overview_face_px=OVERVIEW_FACE_PX,
    )
    update_manifest(args.out.parent / MANIFEST_NAME, {args.out.stem: table})
    print(f"{args.out}: {args.out.stat().st_size} bytes, differs by {box_px:.1e} px and {score:.1e} of score")


if __name__ == "__main__":
    main()
