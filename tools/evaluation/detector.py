"""How good the detector is, and how fast, beside upstream's in the same run.

    python -m tools.evaluate detector [--weights PATH ...] [--json PATH] [--min-score S] [--min-face-px N]

Only photographs that nobody trained on count (tools/data/labels_boxes.py); the words of every figure say at which
settings it was taken. AP at IoU 0.5, faces lower than the given height neither wanted nor punished.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from facet.detect import DetectorConfig, FaceBoxes
from facet.tracker.runtime import RuntimeConfig
from facet.tracker.types import Box
from facet.tracker.weights import ROOT, find_entry
from tools.data import labels_boxes, material, rendered
from tools.data.labels_boxes import PhotoBoxes, iou
from tools.data.rendered import Rendered

UPSTREAM = "weights/upstream/faceboxes.onnx"
# lowest height in px of the photograph, its enlargement
CROWD_TASKS = ((32, 1), (20, 2), (10, 2))
CROWD_MIN_FACE_PX = 10.0
SWEEP_MIN_SCORE = 0.02
HEIGHT_EDGES_PX = (0, 10, 20, 32, 64, 1e9)
YAW_EDGES_DEG = (0, 30, 60, 91)
FOUND_IOU = 0.4  # labels other than the crowds' are agreed, not annotated
FALSE_IOU = 0.1
FRAMES = {"480p": (480, 854), "720p": (720, 1280), "1080p": (1080, 1920)}
TIMED_RUNS = 40
RENDERED_HEADS, RENDERED_SEED = 300, 71  # another seed than that of the training


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A photograph to judge on."""

    image: np.ndarray  # (H, W, 3) uint8, BGR
    faces: np.ndarray  # (n, 4) float32 px
    ignored: np.ndarray  # (m, 4) float32 px


def detections(detector: Callable[[np.ndarray], tuple[Box, ...]], image: np.ndarray, scale: int = 1) -> np.ndarray:
    """Boxes and scores (n, 5) in px of `image`, found in its enlargement by a whole number."""
    if scale != 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    found = detector(image)
    rows = [(b.x_min / scale, b.y_min / scale, b.x_max / scale, b.y_max / scale, b.score) for b in found]
    return np.array(rows, np.float64).reshape(-1, 5)


def ranked_hits(
    found: list[np.ndarray], truth: list[np.ndarray], min_height: float, min_iou: float = 0.5
) -> tuple[np.ndarray, np.ndarray, int]:
    """Match detections with faces, best first, photograph by photograph.

    Parameters
    ----------
    found : per photograph (n, 5): box and score
    truth : per photograph (m, 4)
    min_height : px; lower faces, and detections that match them or nothing and are lower, do not count

    Returns
    -------
    scores (k,) of the detections that count, best first; whether each is a hit (k,); how many faces are wanted
    """
    scores, hits, wanted = [], [], 0
    for boxes, faces in zip(found, truth, strict=True):
        counts = faces[:, 3] - faces[:, 1] >= min_height
        wanted += int(counts.sum())
        free = np.ones(len(faces), bool)
        overlaps = iou(boxes[:, :4], faces)
        for i in np.argsort(-boxes[:, 4], kind="stable"):
            overlap = np.where(free, overlaps[i], -1)
            best = int(overlap.argmax()) if len(faces) else -1
            if best >= 0 and overlap[best] >= min_iou:
                free[best] = False
                if counts[best]:
                    scores.append(boxes[i, 4])
                    hits.append(True)
            elif boxes[i, 3] - boxes[i, 1] >= min_height:
                scores.append(boxes[i, 4])
                hits.append(False)
    order = np.argsort(-np.array(scores), kind="stable")
    return np.array(scores)[order], np.array(hits, bool)[order], wanted


def average_precision(hits: np.ndarray, wanted: int) -> float:
    """Area under the precision envelope over recall; 0 where nothing was found or wanted."""
    if not len(hits) or not wanted:
        return 0.0
    found = np.cumsum(hits)
    precision = np.maximum.accumulate((found / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(np.sum(np.diff(found / wanted, prepend=0.0) * precision))


def on_crowds(open_with: Callable[[DetectorConfig], FaceBoxes], config: DetectorConfig, photos: list[Photo]) -> dict:
    """AP of the three tasks, precision and recall at the default threshold, recall by height of the face."""
    sweep = open_with(replace(config, min_score=SWEEP_MIN_SCORE, min_face_px=CROWD_MIN_FACE_PX))
    truth = [photo.faces for photo in photos]
    found = {scale: [detections(sweep, photo.image, scale) for photo in photos] for scale in (1, 2)}
    result = {}
    for height, scale in CROWD_TASKS:
        scores, hits, wanted = ranked_hits(found[scale], truth, height)
        name = f"{height}px_{scale}x"
        sure = scores >= config.min_score
        result[f"ap_{name}"] = average_precision(hits, wanted)
        result[f"precision_{name}"] = float(hits[sure].mean()) if sure.any() else 1.0
        result[f"recall_{name}"] = float(hits[sure].sum() / max(1, wanted))
    sure = [boxes[boxes[:, 4] >= config.min_score] for boxes in found[2]]
    for low, high in itertools.pairwise(HEIGHT_EDGES_PX):
        wanted = [(t[:, 3] - t[:, 1] >= low) & (t[:, 3] - t[:, 1] < high) for t in truth]
        hit = [seen_mask(b, t, 0.5)[w] for b, t, w in zip(sure, truth, wanted, strict=True)]
        result[f"recall_2x_{low:g}_to_{high:g}px"] = _mean(np.concatenate(hit))
    return result


def seen_mask(found: np.ndarray, faces: np.ndarray, min_iou: float = FOUND_IOU) -> np.ndarray:
    """(n,) bool: which faces a detection overlaps enough."""
    return iou(faces, found[:, :4]).max(1, initial=0) >= min_iou


def recall(detector: FaceBoxes, photos: list[Photo]) -> float:
    """Share of the faces that are found."""
    return _mean(np.concatenate([seen_mask(detections(detector, p.image), p.faces) for p in photos]))


def false_faces(detector: FaceBoxes, photos: list[Photo]) -> int:
    """Detections that overlap neither a face nor what may be one."""
    count = 0
    for photo in photos:
        found = detections(detector, photo.image)
        known = np.concatenate([photo.faces, photo.ignored])
        count += int((iou(found[:, :4], known).max(1, initial=0) < FALSE_IOU).sum())
    return count


def recall_by_yaw(detector: FaceBoxes, photos: dict[str, Photo]) -> dict:
    """Share of single faces found, by how far they are turned, as 3DDFA_V2's landmarks say."""
    rows, _, points = material.landmarks_3ddfa()
    names = [photo.file for photo in material.photos()]
    turned, hit = [], []
    for row, landmarks in zip(rows, points, strict=True):
        photo = photos.get(names[row])
        if photo is not None and len(photo.faces) == 1:
            turned.append(turn_deg(landmarks))
            hit.append(seen_mask(detections(detector, photo.image), photo.faces)[0])
    return _by_yaw(np.array(turned), np.array(hit))


def recall_on_rendered_heads(detector, heads: list[Rendered]) -> dict:
    """Share of rendered heads found, by yaw; nobody was trained on them."""
    turned = np.array([abs(head.yaw_deg) for head in heads])
    hit = []
    for head in heads:
        points = head.landmarks[:, :2]
        box = labels_boxes.restyle(np.concatenate([points.min(0), points.max(0)])[None], labels_boxes.FROM_68)
        hit.append(seen_mask(detections(detector, head.picture), box)[0])
    return _by_yaw(turned, np.array(hit))


def _by_yaw(turned: np.ndarray, hit: np.ndarray) -> dict:
    return {
        f"{low}_to_{high}_deg": _mean(hit[(turned >= low) & (turned < high)])
        for low, high in itertools.pairwise(YAW_EDGES_DEG)
    }


def turn_deg(points: np.ndarray) -> float:
    """How far a head with these landmarks (68, 3) is turned from the viewer, to either side."""
    across = points[45] - points[36]
    return float(np.degrees(np.arctan2(abs(across[2]), np.hypot(across[0], across[1]))))


def times_ms(detectors: dict[str, FaceBoxes]) -> dict:
    """Median time of a call by detector and size of the frame; the detectors take turns, so that load hits all."""
    result = {name: {} for name in detectors}
    for label, (height, width) in FRAMES.items():
        frame = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC)
        taken = {name: [] for name in detectors}
        for _ in range(TIMED_RUNS + 3):
            for name, detector in detectors.items():
                start = time.perf_counter()
                detector(frame)
                taken[name].append((time.perf_counter() - start) * 1e3)
        for name, values in taken.items():
            result[name][label] = float(np.median(values[3:]))
    return result


def evaluate(weights: dict[str, Path], config: DetectorConfig, runtime: RuntimeConfig, timed: bool = True) -> dict:
    """All figures of several detectors.

    Parameters
    ----------
    weights : name to ONNX file
    config : the settings that count as default; upstream's gets pictures in their own size instead
    """
    labels = [label for label in labels_boxes.read() if label.validation]
    groups = {
        group: {label.file: _read(label) for label in labels if label.group == group}
        for group in ("crowds", "keypoints", "unmasked", "masked", "portraits", "street", "backgrounds")
    }
    rooms = [photo.image for photo in groups["backgrounds"].values()]
    heads = list(rendered.faces(RENDERED_HEADS, RENDERED_SEED, lambda rng: rooms[rng.integers(len(rooms))]))
    result, timed_as = {}, {}
    for name, path in weights.items():
        entry = find_entry(path, "detector")

        def open_with(settings: DetectorConfig, entry=entry) -> FaceBoxes:
            return FaceBoxes.open(entry, settings, runtime)

        default = config
        if entry.get("format", str) == "faceboxes":
            # as its authors run it: the picture in its own size; found, false and timed at the same settings
            default = replace(config, min_face_px=entry.get("smallest_face_px", float))
        detector = timed_as[name] = open_with(default)
        result[name] = {
            "file_bytes": path.stat().st_size,
            "settings": f"min_score {default.min_score}, min_face_px {default.min_face_px}, {runtime.threads} threads",
            f"crowds_min_face_{CROWD_MIN_FACE_PX:g}": on_crowds(open_with, config, list(groups["crowds"].values())),
            "recall": {
                group: recall(detector, list(groups[group].values()))
                for group in ("keypoints", "unmasked", "masked", "portraits", "street")
            },
            "recall_rendered_heads_by_yaw": recall_on_rendered_heads(detector, heads),
            "recall_keypoints_by_yaw": recall_by_yaw(detector, groups["keypoints"]),
            "false_faces": {
                f"{len(groups[group])} {group}": false_faces(detector, list(groups[group].values()))
                for group in ("backgrounds", "keypoints", "unmasked", "masked", "portraits")
            },
        }
    if timed:
        for name, values in times_ms(timed_as).items():
            result[name]["ms"] = values
    return result


def _read(label: PhotoBoxes) -> Photo:
    image = cv2.imread(str(material.folder() / "faces" / label.file))
    bounds = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
    if label.group == "crowds":
        return Photo(image, label.faces, label.ignored)
    return Photo(image, np.clip(label.faces, 0, bounds), np.clip(label.ignored, 0, bounds))


def _mean(values: np.ndarray) -> float | None:
    """The mean; None of nothing, which JSON can say."""
    return float(np.mean(values)) if len(values) else None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools.evaluate detector", description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, nargs="+", default=[ROOT / "weights/detector.onnx", ROOT / UPSTREAM])
    parser.add_argument("--min-score", type=float, default=DetectorConfig().min_score)
    parser.add_argument("--min-face-px", type=float, default=DetectorConfig().min_face_px)
    parser.add_argument("--threads", type=int, default=RuntimeConfig().threads)
    parser.add_argument("--no-time", action="store_true", help="skip the timing, where others use the machine")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args(arguments)
    config = DetectorConfig(min_score=args.min_score, min_face_px=args.min_face_px)
    names = {str(path): path.resolve() for path in args.weights}
    result = evaluate(names, config, RuntimeConfig(threads=args.threads), timed=not args.no_time)
    text = json.dumps(result, indent=2)
    if args.json is not None:
        args.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0
