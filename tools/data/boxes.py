"""Face boxes for the detector's training: what annotation, mesh labels and FaceBoxes agree on.

Boxes follow the annotation of the crowd photographs: from the hairline to the chin, about half as wide as a FaceBoxes
box is high. FaceBoxes' boxes are 1.12 times as wide and 0.85 times as high; the rectangle of MediaPipe's 478 points is
1 / 0.87 times as wide and 1 / 1.31 times as high, its centre 6 % of its height lower (medians on the photographs).
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.data.split import held_out

FACEBOXES_WH = (1.12, 0.85)
MESH_WH, MESH_SHIFT_Y = (0.87, 1.31), -0.062
FACES = Path(os.environ.get("FACET_MATERIAL", "../shared")) / "faces"
CROWD_VALIDATION = 3  # every third crowd photograph is kept out of training


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPhoto:
    """A photograph with its faces."""

    file: str  # below FACES
    group: str  # crowds, street, ...; backgrounds for those without a face
    boxes: np.ndarray  # (n, 4) float32, px
    unsure: np.ndarray  # (m, 4) float32: what may or may not be a face, neither wanted nor punished
    validation: bool


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of (n, 4) and (m, 4) boxes; (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    both = np.clip(high - low, 0, None).prod(-1)
    size = [np.clip(x[:, 2:4] - x[:, :2], 0, None).prod(-1) for x in (a, b)]
    return both / np.maximum(size[0][:, None] + size[1][None] - both, 1e-9)


def from_faceboxes(box: np.ndarray) -> np.ndarray:
    """FaceBoxes' boxes, (n, 4+), in the annotation's style, (n, 4)."""
    centre, half = (box[:, :2] + box[:, 2:4]) / 2, (box[:, 2:4] - box[:, :2]) / 2 / FACEBOXES_WH
    return np.concatenate([centre - half, centre + half], axis=1)


def from_mesh(points: np.ndarray) -> np.ndarray:
    """Boxes of 478-point meshes, (n, 478, 2+) px, in the annotation's style, (n, 4)."""
    low, high = points[..., :2].min(axis=1), points[..., :2].max(axis=1)
    size = high - low
    centre = (low + high) / 2 + size * (0.0, MESH_SHIFT_Y)
    half = size / 2 * MESH_WH
    return np.concatenate([centre - half, centre + half], axis=1)


def load_labels(faces: Path = FACES) -> list[LabelledPhoto]:
    """All photographs of the material with agreed boxes."""
    rows = list(csv.DictReader(open(faces / "manifest.csv", encoding="utf-8")))
    annotated = defaultdict(list)
    with np.load(faces / "annotated_boxes_crowds.npz") as data:
        for photo, box in zip(data["photo"], data["box"], strict=True):
            annotated[str(photo)].append(box)
    detected, meshes = defaultdict(list), defaultdict(list)
    with np.load(faces / "boxes_faceboxes.npz") as data:
        for photo, box in zip(data["photo"], data["box"], strict=True):
            detected[int(photo)].append(box)
    with np.load(faces / "mesh_478.npz") as data:
        boxes = np.concatenate([from_mesh(part / 40.0) for part in np.array_split(data["points"], 20)])
        for photo, box in zip(data["photo"], boxes, strict=True):
            meshes[int(photo)].append(box)
    photos = []
    crowds = sorted({row["file"] for row in rows if "/crowds/" in row["file"]})
    for index, row in enumerate(rows):
        file = row["file"]
        group = file.split("/")[1]
        if group == "crowds":
            boxes = np.array(annotated[file], np.float32).reshape(-1, 4)
            size = boxes[:, 2:] - boxes[:, :2]
            tiny = (size < 4).any(axis=1)
            empty = (size <= 0).any(axis=1)
            validation = crowds.index(file) % CROWD_VALIDATION == 0
            photos.append(LabelledPhoto(file, group, boxes[~tiny], boxes[tiny & ~empty], validation))
            continue
        boxes, unsure = agree(
            np.array(detected[index], np.float32).reshape(-1, 5), np.array(meshes[index], np.float32).reshape(-1, 4)
        )
        photos.append(LabelledPhoto(file, group, boxes, unsure, held_out(row["identity"], file)))
    none = np.zeros((0, 4), np.float32)
    for path in sorted((faces / "photos" / "backgrounds").iterdir()):
        file = f"photos/backgrounds/{path.name}"
        photos.append(LabelledPhoto(file, "backgrounds", none, none, held_out("", file)))
    return photos


def agree(detected: np.ndarray, meshes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What both labellers saw is a face where the mesh puts it; what FaceBoxes is sure of is one too; the rest is unsure.

    Parameters
    ----------
    detected : (n, 5) FaceBoxes' boxes and scores; meshes : (m, 4) boxes of meshes

    Returns
    -------
    faces (a, 4), unsure (b, 4), float32
    """
    boxes = from_faceboxes(detected)
    overlap = iou_matrix(boxes, meshes)
    mesh_seen = overlap.max(axis=0, initial=0.0) > 0.4
    box_meshed = overlap.max(axis=1, initial=0.0) > 0.4
    sure = ~box_meshed & (detected[:, 4] > 0.9)
    rest = ~box_meshed & ~sure
    faces = np.concatenate([meshes[mesh_seen], boxes[sure]])
    unsure = np.concatenate([meshes[~mesh_seen], boxes[rest]])
    return faces.astype(np.float32), unsure.astype(np.float32)
