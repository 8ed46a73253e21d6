"""How near the 68 landmarks lie to those that people annotated, beside 3DDFA_V2 on the same photographs.

    python -m tools.evaluate landmarks [--config PATH ...] [--json PATH]
    python -m tools.evaluate landmarks --groups weights/regressor.onnx [--data runs/data]

Detector, two crops and all: each photograph goes through the tracker alone, as `app.py` does with images. Only people
that nobody trained on count (tools/data/split.py).
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import cv2
import numpy as np

from app import AppConfig, build_tracker
from tools.data import labels, material
from tools.data.split import held_out
from tools.evaluation import crops
from tracker.config import load_config
from tracker.stages import Stages
from tracker.types import Frame
from tracker.weights import ROOT

DEFAULTS = ("", str(ROOT / "configs" / "3ddfa_v2.toml"))
YAW_EDGES_DEG = (0, 15, 30, 90)
NEAR = 0.5  # a face belongs to the annotation when its centre is this share of the longer side from it


def metrics(points: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Landmark errors in %, over (n, 68, 2) points and truths in px.

    NME: mean distance / sqrt(wh) of the truth's rectangle. Inner: points 17-67 / outer eye distance. Offset: mean
    signed error / sqrt(wh), the larger of x, y. AUC and failure rate: of the NME, at 10 %. STD: mean over faces of the
    deviation of the distances within a face / sqrt(wh).
    Source of the last three: ParFace-Net's evaluation.
    """
    distance = np.linalg.norm(points - truth, axis=2)
    box = np.sqrt(np.prod(np.ptp(truth, axis=1), axis=1))
    error = 100 * distance.mean(axis=1) / box
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
    thresholds = np.linspace(0, 10, 51)[1:]
    offset = ((points - truth).mean(axis=1) / box[:, None]).mean(axis=0)
    return {
        "nme": error.mean(),
        "nme_median": np.median(error),
        "inner": (100 * distance[:, 17:].mean(axis=1) / eyes).mean(),
        "offset": 100 * np.abs(offset).max(),
        "std": (100 * distance.std(axis=1) / box).mean(),
        "failures_10": 100 * (error > 10).mean(),
        "auc_10": np.mean([(error <= t).mean() for t in thresholds]),
        "lips": 100 * gap_error(points, truth, 62, 66),
        "mouth_width": 100 * gap_error(points, truth, 48, 54),
    }


def gap_error(points: np.ndarray, truth: np.ndarray, a: int, b: int) -> float:
    """Mean error of the distance of two landmarks / outer eye distance."""

    def gap(p):
        return np.linalg.norm(p[:, a] - p[:, b], axis=1)

    return float((np.abs(gap(points) - gap(truth)) / gap_of_eyes(truth)).mean())


def gap_of_eyes(truth: np.ndarray) -> np.ndarray:
    """(n,) outer eye distances, px."""
    return np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)


def judge(track, photographs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[dict, list]:
    """Metrics of a function image -> faces' (68, 2) points, best first; and each photograph's points or None."""
    found = []
    for image, truth in photographs:
        centre, reach = truth.mean(axis=0), NEAR * np.ptp(truth, axis=0).max()
        near = [p for p in track(image) if np.linalg.norm(p.mean(axis=0) - centre) < reach]
        found.append(near[0] if near else None)
    kept = [i for i, p in enumerate(found) if p is not None]
    truth = np.stack([photographs[i][1] for i in kept])
    points = np.stack([found[i] for i in kept])
    result = {"photographs": len(photographs), "missed": len(photographs) - len(kept), **metrics(points, truth)}
    return result, found


def held_out_photographs() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """File, image and annotated (68, 2) points of the people that nobody trained on."""
    people = {photo.file: photo.identity for photo in material.photos()}
    names, points = material.annotated_68()
    kept = [(name, p) for name, p in zip(names, points, strict=True) if held_out(people[name], name)]
    return [(name, cv2.imread(str(material.folder() / "faces" / name)), p.astype(np.float64)) for name, p in kept]


def still_tracker(config: str, overrides: tuple[str, ...] = ()):
    """The whole tracker as a function of one image."""
    tracker = build_tracker(load_config(AppConfig, config or None, list(overrides)), Stages(), False)

    def track(image):
        faces = tracker.step(Frame(0, 0.0, image, first=True))
        faces = sorted(faces, key=lambda face: -(face.score or 0.0))
        return [face.landmarks[:, :2].astype(np.float64) for face in faces]

    return track


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate landmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--config", action="append", help="settings to judge; default: ours and 3DDFA_V2's")
    parser.add_argument("--set", action="append", default=[], help="override for all of them")
    parser.add_argument("--groups", metavar="WEIGHTS", help="errors by group of photographs instead")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="what `tools.data.build faces` wrote")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    if args.groups:
        for name, row in by_group(args.groups, args.data).items():
            print(f"{name}: {row['photographs']} photographs, NME {row['nme']:.2f} %")
        return 0
    photographs = held_out_photographs()
    pairs = [(image, truth) for _, image, truth in photographs]
    yaw = np.abs(teacher_yaw([name for name, *_ in photographs]))
    results = {}
    for config in args.config or DEFAULTS:
        name = Path(config).stem if config else "default"
        results[name], found = judge(still_tracker(config, tuple(args.set)), pairs)
        for low, high in itertools.pairwise(YAW_EDGES_DEG):
            rows = [i for i in np.flatnonzero((yaw >= low) & (yaw < high)) if found[i] is not None]
            if rows:
                part = metrics(np.stack([found[i] for i in rows]), np.stack([pairs[i][1] for i in rows]))
                results[name][f"nme_yaw_{low}_{high}"] = part["nme"]
        print(name, "  ".join(f"{key} {value:.3f}" for key, value in results[name].items()))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


def by_group(weights: str, folder: Path) -> dict[str, dict[str, float]]:
    """NME on the held-out photographs of each group against the labellers' points, in crops as tracking takes them."""
    network, model = crops.load(weights)
    images, table = crops.cut_faces(folder)
    results = {}
    for group in np.unique(table["group"]):
        rows = np.flatnonzero(table["held_out"] & (table["group"] == group))
        places = [crops.place(table["points"][row], network.crop_spec) for row in rows]
        pictures = [crops.warp(images[row], place, network.size) for row, place in zip(rows, places, strict=True)]
        if not pictures:
            continue
        faces = crops.regress(network, np.stack(pictures))
        points = np.stack([model.landmarks(f.camera, f.shape, f.expression)[:, :2] for f in faces])
        truth = np.stack(
            [table["points"][row] @ place[:, :2].T + place[:, 2] for row, place in zip(rows, places, strict=True)]
        )
        results[str(group)] = {"photographs": len(rows), "nme": metrics(points, truth)["nme"]}
    return results


def teacher_yaw(names: list[str]) -> np.ndarray:
    """Yaw in degrees of the named photographs by 3DDFA's depth, 0 where it saw nothing."""
    photo, _, points = material.landmarks_3ddfa()
    rows = {photograph.file: row for row, photograph in enumerate(material.photos())}
    of_row = dict(zip(photo.tolist(), labels.rough_yaw_deg(points), strict=True))
    return np.array([of_row.get(rows[name], 0.0) for name in names])
