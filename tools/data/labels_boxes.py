"""Boxes of the faces of the photographs, agreed between labellers, in the annotators' style.

The annotators of the crowd photographs draw a face from the hairline to the chin. The other labellers' boxes are
brought to that style by fixed factors (medians over faces that both have), and averaged where several saw the same
face. What only one labeller saw, and not surely, is neither face nor background: it is ignored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from tools.data import material
from tools.data.split import held_out

CROWDS_HELD_OUT_SHARE = 1 / 3
MATCH_IOU = 0.4
SURE_SCORE = 0.9  # of FaceBoxes, where it needs no second labeller's mesh
LONE_MAX_PX = 40.0  # higher faces would have had a mesh, were they faces

# shift of the centre (in widths, heights) and factors of width and height that lead to the annotators' style
FROM_FACEBOXES = (0.0, 0.02, 0.893, 1.15)
FROM_MESH = (0.0, -0.055, 0.89, 1.27)
FROM_68 = (0.0, -0.148, 0.855, 1.47)


@dataclass(frozen=True, slots=True, eq=False)
class PhotoBoxes:
    """What is known of the faces of one photograph."""

    file: str  # relative to the faces' folder
    group: str
    validation: bool  # never trained on
    faces: np.ndarray  # (n, 4) float32, x_min, y_min, x_max, y_max, px
    ignored: np.ndarray  # (m, 4) float32: may hold a face, may not


def restyle(boxes: np.ndarray, style: tuple[float, float, float, float]) -> np.ndarray:
    """Shift and stretch boxes (n, 4) about their centres by one of the tuples above."""
    size = boxes[:, 2:4] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:4]) / 2 + size * np.array(style[:2], np.float32)
    half = size * np.array(style[2:], np.float32) / 2
    return np.concatenate([centre - half, centre + half], 1).astype(np.float32)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (n, 4) with boxes (m, 4): (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(x[:, 2:4] - x[:, :2], 0, None).prod(-1) for x in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared + 1e-9)


def agree(
    faceboxes: np.ndarray, mesh: np.ndarray, points: np.ndarray, annotated: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Agree the labellers' boxes of one photograph, all in the annotators' style already.

    Parameters
    ----------
    faceboxes : (n, 5), with FaceBoxes' score
    mesh : (m, 4), of MediaPipe's meshes
    points : (k, 4), of 3DDFA_V2's landmarks
    annotated : (l, 4), of landmarks that people set

    Returns
    -------
    faces (f, 4), ignored (i, 4) float32
    """
    candidates = np.concatenate([annotated, mesh, faceboxes[:, :4], points]).astype(np.float32)
    kind = np.repeat([3, 2, 0, 1], [len(annotated), len(mesh), len(faceboxes), len(points)])
    scores = np.concatenate([np.zeros(len(annotated) + len(mesh)), faceboxes[:, 4], np.zeros(len(points))])
    faces, ignored = [], []
    free = np.ones(len(candidates), bool)
    for first in range(len(candidates)):
        if not free[first]:
            continue
        same = free & (iou(candidates[first : first + 1], candidates)[0] >= MATCH_IOU)
        same[first] = True
        free &= ~same
        box = candidates[same].mean(0)
        kinds = set(kind[same].tolist())
        score = scores[same].max()
        lone = score >= SURE_SCORE and (1 in kinds or box[3] - box[1] < LONE_MAX_PX)
        if 3 in kinds or (2 in kinds and kinds & {0, 1}) or lone:
            faces.append(box)
        else:
            ignored.append(box)
    shape = (-1, 4)
    return np.array(faces, np.float32).reshape(shape), np.array(ignored, np.float32).reshape(shape)


def _crowd_held_out(file: str) -> bool:
    digest = hashlib.sha256(file.encode()).digest()
    return int.from_bytes(digest[20:24], "big") < CROWDS_HELD_OUT_SHARE * 2**32


def read() -> list[PhotoBoxes]:
    """The boxes of all photographs: those of the manifest in its order, then the backgrounds."""
    photos = material.photos()
    row_of = {photo.file: row for row, photo in enumerate(photos)}
    base = material.folder() / "faces"
    with np.load(base / "boxes_faceboxes.npz") as file:
        faceboxes = np.concatenate([restyle(file["box"][:, :4], FROM_FACEBOXES), file["box"][:, 4:]], 1)
        faceboxes_row = file["photo"]
    mesh_row, mesh = material.mesh_478()
    mesh = restyle(_hull(mesh), FROM_MESH)
    points_row, _, points = material.landmarks_3ddfa()
    points = restyle(_hull(points), FROM_68)
    names, annotated = material.annotated_68()
    annotated_row = np.array([row_of[name] for name in names])
    annotated = restyle(_hull(annotated), FROM_68)
    with np.load(base / "annotated_boxes_crowds.npz") as file:
        crowds, crowds_row = file["box"], np.array([row_of[str(name)] for name in file["photo"]])
    by_row = [_grouped(rows, values, len(photos)) for rows, values in (
        (faceboxes_row, faceboxes), (mesh_row, mesh), (points_row, points), (annotated_row, annotated),
        (crowds_row, crowds),
    )]  # fmt: skip
    result = []
    for row, photo in enumerate(photos):
        faces, ignored = agree(*(grouped[row] for grouped in by_row[:4]))
        validation = held_out(photo.identity, photo.file)
        if photo.group == "crowds":
            seen = np.concatenate([faces, ignored])
            faces = by_row[4][row]
            # what a labeller found and the annotators left out is not held against anybody
            ignored = seen[iou(seen, faces).max(1, initial=0) < 0.2] if len(seen) else seen
            validation = _crowd_held_out(photo.file)
        result.append(PhotoBoxes(photo.file, photo.group, validation, faces, ignored))
    for path in sorted((base / "photos" / "backgrounds").glob("*.jpg")):
        name = f"photos/backgrounds/{path.name}"
        none = np.zeros((0, 4), np.float32)
        result.append(PhotoBoxes(name, "backgrounds", held_out("", name), none, none))
    return result


def _hull(points: np.ndarray) -> np.ndarray:
    """The rectangles (n, 4) of points (n, k, 2 or more)."""
    return np.concatenate([points[:, :, :2].min(1), points[:, :, :2].max(1)], 1)


def _grouped(rows: np.ndarray, values: np.ndarray, count: int) -> list[np.ndarray]:
    """Values by row: a list of `count` arrays."""
    order = np.argsort(rows, kind="stable")
    return np.split(values[order], np.searchsorted(rows[order], np.arange(1, count)))
