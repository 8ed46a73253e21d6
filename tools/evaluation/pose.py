"""How far off the pose is on rendered people turned by up to 80 degrees, beside 3DDFA_V2 on the same pictures.

    python -m tools.evaluate pose [--config PATH ...] [--count N] [--json PATH] [--plots DIR]

Errors are reported twice: as they are, and with the median of the faces that look ahead taken off, because face models
differ in which way of holding the head they call straight. Ours is the one that was rendered.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from tools.evaluation import people
from tools.evaluation.common import nearest, open_trackers, options, report, still

YAW_EDGES_DEG = (0, 30, 60, 80)
ANGLES = ("yaw", "pitch", "roll")


def figures(found: np.ndarray, truth: np.ndarray) -> dict:
    """Mean absolute errors of angles (n, 3), deg, by the true yaw; NaN where the face was missed."""
    seen, yaw = ~np.isnan(found[:, 0]), np.abs(truth[:, 0])
    error = (found - truth + 180) % 360 - 180
    ahead = seen & (yaw <= YAW_EDGES_DEG[1])
    bias = np.median(error[ahead], axis=0) if ahead.any() else np.zeros(3)
    results = {}
    for low, high in [(0, YAW_EDGES_DEG[-1]), *itertools.pairwise(YAW_EDGES_DEG)]:
        rows = seen & (yaw <= high) & (yaw > low if low else True)
        row = {"faces": int(rows.sum()), "missed": int(((yaw <= high) & (yaw > low if low else True) & ~seen).sum())}
        if rows.any():
            row |= dict(zip(ANGLES, np.abs(error[rows]).mean(axis=0).tolist(), strict=True))
            row["mean"] = float(np.abs(error[rows]).mean())
            row["mean_without_bias"] = float(np.abs(error[rows] - bias).mean())
        results[f"{low}_{high}"] = row
    results["bias"] = dict(zip(ANGLES, bias.tolist(), strict=True))
    return results


def main(arguments: list[str]) -> int:
    parser = options("pose", __doc__)
    parser.add_argument("--count", type=int, default=240)
    args = parser.parse_args(arguments)
    trackers = open_trackers(args.config, args.set)
    truth, found = [], {name: [] for name in trackers}
    for shot in people.portraits(args.count, YAW_EDGES_DEG[-1]):
        truth.append(shot.angles_deg)
        for name, tracker in trackers.items():
            face = nearest(still(tracker, shot.picture), shot.landmarks[:, :2])
            found[name].append((face.pose.yaw_deg, face.pose.pitch_deg, face.pose.roll_deg) if face else (np.nan,) * 3)
    reported = {name: np.array(angles, float) for name, angles in found.items()}
    results = {name: figures(angles, np.array(truth)) for name, angles in reported.items()}

    def draw(folder: Path) -> None:
        from tools.evaluation import plots

        plots.pose(reported, np.array(truth), folder)

    return report(results, args, draw)
