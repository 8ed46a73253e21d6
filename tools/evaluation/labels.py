"""Labels and aligners on one set of crops of held-out people, by part of the face, against annotated points.

    python -m tools.evaluate labels [--cut runs/data] [--aligner weights/aligner.onnx]

Raw, and mapped to the annotators' convention by a linear map that is learnt on other people (in five folds):
conventions differ by more than the errors of a network. Inner points and parts in % of the outer eye distance, `nme` of
all 68 in % of sqrt(wh). Also slope and correlation of what a face does on MediaPipe's points, yaw within 25 degrees.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facet.tracker.aligner import Aligner
from facet.tracker.weights import find_entry
from tools.data import convention, material
from tools.evaluation.common import correlation, options, report, slope
from tools.evaluation.crops import cut_faces

PARTS = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
}
FOLDS, FRONTAL_DEG = 5, 25.0


def mapped(points: np.ndarray, truth: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Points (n, 68, 2) brought to the convention of `truth` by a map that is learnt on other people."""
    fold = np.unique(people, return_inverse=True)[1] % FOLDS
    result = np.empty_like(points)
    for k in range(FOLDS):
        result[fold == k] = convention.bring(points, truth, fold != k)[fold == k]
    return result


def errors(points: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean errors in % of (n, 68, 2) points, px."""
    distance = np.linalg.norm(points - truth, axis=2)
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
    box = np.sqrt(np.prod(np.ptp(truth, axis=1), axis=1))
    result = {"nme": (distance.mean(axis=1) / box).mean(), "inner": (distance[:, 17:].mean(axis=1) / eyes).mean()}
    result |= {name: (distance[:, part].mean(axis=1) / eyes).mean() for name, part in PARTS.items()}
    return {name: 100 * float(value) for name, value in result.items()}


def motions(points: np.ndarray) -> dict[str, np.ndarray]:
    """What upright faces do, (n,) each, in outer eye distances: lengths, heights, and differences of the two sides."""
    eyes = np.linalg.norm(points[:, 36] - points[:, 45], axis=1)

    def height(upper, lower):
        return (points[:, lower, 1].mean(axis=1) - points[:, upper, 1].mean(axis=1)) / eyes

    lids = height([37, 38], [41, 40]), height([43, 44], [47, 46])
    brows = height(range(17, 22), range(36, 42)), height(range(22, 27), range(42, 48))
    corners = height([33], [48]), height([33], [54])
    return {
        "lip_gap": height([61, 62, 63], [67, 66, 65]),
        "mouth_width": np.linalg.norm(points[:, 54] - points[:, 48], axis=1) / eyes,
        "corners": sum(corners) / 2,
        "lids": sum(lids) / 2,
        "brows": sum(brows) / 2,
        "corner_difference": corners[0] - corners[1],
        "lid_difference": lids[0] - lids[1],
        "brow_difference": brows[0] - brows[1],
    }


def follow(points: np.ndarray, others: np.ndarray) -> dict[str, dict[str, float]]:
    """Slope and correlation of `motions` on those of other points."""
    ours, theirs = motions(points), motions(others)
    return {
        name: {"slope": slope(theirs[name], ours[name]), "correlation": correlation(theirs[name], ours[name])}
        for name in ours
    }


def main(arguments: list[str]) -> int:
    parser = options("labels", __doc__)
    parser.add_argument("--cut", type=Path, default=Path("runs/data"), help="what `tools.data.build` wrote")
    parser.add_argument("--aligner", metavar="WEIGHTS", help="an aligner to judge")
    args = parser.parse_args(arguments)
    for name in ("faces", "anatomical"):
        if not (args.cut / f"{name}.npz").exists():
            parser.error(f"--cut: expected {args.cut / name}.npz, found none; run python -m tools.data.build {name}")
    images, table = cut_faces(args.cut)
    with np.load(args.cut / "anatomical.npz") as file:
        anatomical = file["points"]
    rows = np.flatnonzero(table["held_out"] & ~np.isnan(table["annotated"][:, 0, 0]))
    truth, people = table["annotated"][rows].astype(np.float64), table["identity"][rows]
    found = {"ridge": table["points"][rows].astype(np.float64), "anatomical": anatomical[rows, :68].astype(np.float64)}
    if args.aligner:
        aligner = Aligner.open(find_entry(args.aligner, "aligner"))
        placed = found["anatomical"].astype(np.float32)
        aligned = [aligner(images[row], [p], [0.0])[0] for row, p in zip(rows, placed, strict=True)]
        found["aligner"] = np.stack([a.landmarks[:, :2] for a in aligned]).astype(np.float64)
    mesh = table["mesh"][rows][:, material.MESH_TO_68, :2].astype(np.float64)
    frontal = np.isfinite(mesh).all(axis=(1, 2)) & (np.abs(table["yaw_deg"][rows]) < FRONTAL_DEG)
    results: dict = {"faces": len(rows)}
    for name, points in found.items():
        results[name] = {
            "raw": errors(points, truth),
            "mapped": errors(mapped(points, truth, people), truth),
            "on MediaPipe": follow(points[frontal], mesh[frontal]),
        }
    return report(results, args)
