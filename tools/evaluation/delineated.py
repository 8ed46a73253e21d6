"""How near points lie to delineated portraits of people that give no labels, beside MediaPipe's.

    python -m tools.evaluate delineated [--config PATH ...] [--aligner weights/aligner.onnx] [--sheet PATH]

The 10 points that both schemes share, the centres of the irises, and the distance between closed lips, in % of the
outer eye distance, with the 95 % interval over people. `--aligner` judges an aligner in crops at the first tracker's
landmarks.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facet.tracker.aligner import Aligner
from facet.tracker.weights import find_entry
from tools.data import convention, material
from tools.evaluation.common import nearest, open_trackers, options, report, still
from tools.evaluation.photographs import need_material

MISSED = np.full((68, 2), np.nan), np.full((2, 2), np.nan)
SHEET = 12  # the portraits with the largest errors that a sheet shows


def figures(found: list[tuple[np.ndarray, np.ndarray]], drawn: np.ndarray) -> tuple[dict, np.ndarray]:
    """Figures of points and irises, [(68, 2), (2, 2)], NaN where there are none, and each face's error (n,) in %."""
    points, irises = (np.stack(part) for part in zip(*found, strict=True))
    kept = np.isfinite(points).all(axis=(1, 2))
    result: dict = {"portraits": len(kept), "missed": int((~kept).sum())}
    error = np.full(len(kept), np.nan)
    if kept.any():
        errors = convention.errors(points[kept], irises[kept], drawn[kept])
        for name, values in errors.items():
            if np.isfinite(values).all() and len(values):
                low, high = convention.bootstrap(values)
                result |= {name: 100 * values.mean(), f"{name}_low": 100 * low, f"{name}_high": 100 * high}
        each = 100 * errors["shared"].mean(axis=0)
        result["each"] = {str(k): float(value) for k, value in zip(convention.EXACT, each, strict=True)}
        error[kept] = 100 * errors["shared"].mean(axis=1)
    return result, error


def main(arguments: list[str]) -> int:
    parser = options("delineated", __doc__)
    parser.add_argument("--aligner", metavar="WEIGHTS", help="an aligner to judge")
    parser.add_argument("--sheet", type=Path, help=f"eyes and mouths of the {SHEET} worst portraits of the last row")
    args = parser.parse_args(arguments)
    need_material()
    known, rows = convention.judged()
    drawn, mesh = known.points[rows].astype(np.float64), known.mesh[rows].astype(np.float64)
    files = [str(material.folder() / "faces" / known.file[row]) for row in rows]
    trackers = open_trackers(args.config, args.set)
    aligner = Aligner.open(find_entry(args.aligner, "aligner")) if args.aligner else None
    found: dict[str, list] = {"mediapipe": [], "labels": list(zip(*convention.from_mesh(mesh), strict=True))}
    found["mediapipe"] = [(m[material.MESH_TO_68, :2], m[list(convention.MESH_IRISES), :2]) for m in mesh]
    found |= {name: [] for name in trackers} | ({"aligner": []} if aligner else {})
    for file, truth in zip(files, drawn, strict=True):
        image = cv2.imread(file)
        faces = {name: nearest(still(tracker, image), truth) for name, tracker in trackers.items()}
        for name, face in faces.items():
            irises = MISSED[1] if face is None or face.irises is None else face.irises[:, :2]
            found[name].append(MISSED if face is None else (face.landmarks[:, :2].astype(np.float64), irises))
        if aligner:
            face = next(iter(faces.values()))
            aligned = aligner(image, [face.landmarks], [face.pose.roll_deg]) if face else []
            found["aligner"] += [(a.landmarks[:, :2], a.irises[:, :2]) for a in aligned] or [MISSED]
    results = {}
    for name, faces in found.items():
        results[name], error = figures(faces, drawn)
    if args.sheet:
        worst = np.argsort(-np.nan_to_num(error))[:SHEET]
        points, irises = (np.stack([faces[i][k] for i in worst]) for k in range(2))
        cv2.imwrite(str(args.sheet), convention.sheet([files[i] for i in worst], points, np.nan_to_num(irises)))
    return report(results, args)
