"""Calibrate the probability that a new face's fit is right: python -m tools.fit_score [--photos N] [--json PATH]

Right fits: photographs of training people, upright and rolled, where 3DDFA_V2 or MediaPipe agree. Wrong fits: upside
down, animals, images without a face. Logistic regression on the regressor's score, the spread of several views and the
detector's score gives the constants of `tracker/agreement.py`; the counts show what is accepted at each threshold.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import minimize

from facet.detect import DetectorConfig, open_detector
from facet.tracker.agreement import LEAST_DOUBT, SPREAD_UNIT
from facet.tracker.loop import FaceTracker
from tools.data import material
from tools.data.split import held_out
from tools.evaluation.acquisition import View, nme, rolled

RIGHT_NME, WRONG_NME = 0.12, 0.15
PROPOSAL_SCORE = 0.2  # boxes below are no candidates
# of the loss; right fits in weak boxes are few and wanted
SHARE = {"right": 0.65, "right, weak box": 0.35, "background": 0.4, "animal": 0.3, "rolled": 0.3}
WEAK_BOX = 0.5
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def features(score: np.ndarray, spread: np.ndarray, box_score: np.ndarray) -> np.ndarray:
    """(n, 4): 1, logit of the score, logarithm of the spread, the box's score."""
    odds = np.clip(score, LEAST_DOUBT, 1 - LEAST_DOUBT)
    return np.column_stack([np.ones(len(score)), np.log(odds / (1 - odds)), np.log(spread / SPREAD_UNIT), box_score])


def fitted(rows: np.ndarray, right: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Coefficients (4,) of a weighted logistic regression of `right` (n,) on `rows` (n, 4)."""

    def loss(values: np.ndarray) -> float:
        logit = rows @ values
        return float((weight * (np.logaddexp(0, logit) - right * logit)).sum() + 1e-5 * (values[1:] ** 2).sum())

    return minimize(loss, np.zeros(rows.shape[1])).x


def examples(tracker: FaceTracker, detect, count: int) -> tuple[list[str], np.ndarray]:
    """Kinds (n,) of fits, as SHARE has them, and score, spread and box score of each, (n, 3)."""
    kinds, values = [], []

    def add(view: View, kind: str | None) -> None:
        boxes = detect(view.image)
        for box, seen in zip(boxes, tracker.fit_boxes(view.image, boxes), strict=True):
            if seen is None or seen.spread is None:
                continue
            distance = min((nme(seen.landmarks[:, :2], face) for face in view.faces), default=np.inf)
            is_right = distance < RIGHT_NME
            if kind is None and not is_right:
                continue  # a face that nobody labelled, perhaps
            if kind == "rolled" and RIGHT_NME <= distance < WRONG_NME:
                continue
            right = "right" if box.score >= WEAK_BOX else "right, weak box"
            kinds.append(right if is_right else kind)
            values.append((seen.score, seen.spread, box.score))

    faces = material.folder() / "faces"
    rng = np.random.default_rng(0)
    labels: dict[int, list[np.ndarray]] = {}
    for row, mesh in zip(*material.mesh_478(), strict=True):
        labels.setdefault(int(row), []).append(mesh[material.MESH_TO_68, :2])
    rows, _, points = material.landmarks_3ddfa()
    for row, face in zip(rows, points, strict=True):
        labels.setdefault(int(row), []).append(face[:, :2])
    photos = material.photos()
    learnt = [k for k in labels if not held_out(photos[k].identity, photos[k].file)]
    groups = {group: [k for k in learnt if photos[k].group == group] for group in {photos[k].group for k in learnt}}
    chosen = [k for group in sorted(groups) for k in rng.permutation(groups[group])[: count // len(groups)]]
    for k in chosen:
        view = View(cv2.imread(str(faces / photos[k].file)), tuple(labels[k]))
        add(view, None)
        if len(view.faces) == 1:
            add(rolled(view, float(rng.uniform(-60, 60))), None)
            add(rolled(view, float(rng.uniform(110, 250))), "rolled")
    for group, kind in (("backgrounds", "background"), ("animals", "animal")):
        for path in sorted((faces / "photos" / group).iterdir()):
            image = cv2.imread(str(path))
            for turns in range(4):
                add(View(np.ascontiguousarray(np.rot90(image, turns)), ()), kind)
    return kinds, np.array(values)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.fit_score", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=1500, metavar="N", help="photographs of faces (default 1500)")
    parser.add_argument("--json", type=Path, help="write the constants and counts here")
    args = parser.parse_args(arguments)
    detect = open_detector(replace(DetectorConfig(), min_score=PROPOSAL_SCORE))
    kinds, values = examples(FaceTracker.open(detect), detect, args.photos)
    kinds = np.array(kinds)
    weight = np.array([SHARE[kind] / np.count_nonzero(kinds == kind) for kind in kinds])
    rows = features(*values.T)
    coefficients = fitted(rows, np.char.startswith(kinds, "right"), weight)
    probability = 1 / (1 + np.exp(-rows @ coefficients))
    result = {"constants": dict(zip(("bias", "score", "spread", "box"), coefficients.round(2).tolist(), strict=True))}
    for threshold in THRESHOLDS:
        accepted = probability >= threshold
        result[str(threshold)] = {kind: f"{accepted[kinds == kind].sum()} of {(kinds == kind).sum()}" for kind in SHARE}
    for name, value in result.items():
        print(name, value)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
