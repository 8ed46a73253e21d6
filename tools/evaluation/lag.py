"""How late the landmarks of a swaying face are, beside 3DDFA_V2 on the same frames.

    python -m tools.evaluate lag [--config PATH ...] [--photos N] [--json PATH] [--plots DIR]

The faces of `jitter`, moved to the sides as a sine of 120 px in 1.5 s at 30 frames a second, followed with the default
smoothing and without. Lag: the delay at which the motion of the landmarks' middle is most like the truth. Gain: how
wide it sways beside the truth. Error: RMS of the difference to the truth, its mean apart.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tools.evaluation.common import options, report
from tools.evaluation.jitter import chosen, enlarge, noisy, track_of, watch, with_and_without_smoothing
from tools.evaluation.steady import lag_frames

PERIOD, SWAY_PX = 45, 120.0  # frames, px
FRAMES, SETTLING = 110, 20
NOISE = 2.0


def figures(x: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Of the horizontal place (T,) of a face, px."""
    error = (x - x.mean()) - (truth - truth.mean())
    return {
        "lag_frames": lag_frames(x, truth),
        "gain": float(np.std(x) / np.std(truth)),
        "error_px": float(np.sqrt((error**2).mean())),
    }


def main(arguments: list[str]) -> int:
    parser = options("lag", __doc__)
    parser.add_argument("--photos", type=int, default=6)
    args = parser.parse_args(arguments)
    trackers = with_and_without_smoothing(args.config, args.set)
    rng = np.random.default_rng(7)
    truth = SWAY_PX * np.sin(2 * np.pi * np.arange(FRAMES) / PERIOD)
    rows: dict[str, list[dict]] = {name: [] for name in trackers}
    paths = {}
    for _, image, points in chosen(args.photos):
        frames = (noisy(enlarge(image, points, aside), rng, NOISE) for aside in truth)
        tracks = {name: track_of(faces)[SETTLING:] for name, faces in watch(trackers, frames).items()}
        paths = {name: track[:, :, 0].mean(axis=1) for name, track in tracks.items()}
        for name, x in paths.items():
            rows[name].append(figures(x, truth[SETTLING:]) if np.isfinite(x).all() else {})
    results = {}
    for name, reported in rows.items():
        known = [row for row in reported if row]
        results[name] = {"photographs": len(reported), "lost": len(reported) - len(known)}
        if known:
            results[name] |= {key: float(np.mean([row[key] for row in known])) for key in known[0]}
            results[name]["worst_lag_frames"] = max(row["lag_frames"] for row in known)

    def draw(folder: Path) -> None:
        from tools.evaluation import plots

        plots.sway(paths, truth[SETTLING:], folder)

    return report(results, args, draw)
