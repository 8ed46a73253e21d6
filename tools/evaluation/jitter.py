"""How much the landmarks of a motionless face tremble in a noisy picture, beside 3DDFA_V2.

    python -m tools.evaluate jitter [--config PATH ...] [--photos N] [--json PATH]

A held-out photograph is enlarged to a face of about 400 px in a 1280x720 picture, noise of 4 grey values is added to
each frame, and the tracker follows without smoothing. Jitter: RMS motion of the landmarks from frame to frame /
sqrt(wh) of the face.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from app import AppConfig, build_tracker
from tools.evaluation.landmarks import DEFAULTS, held_out_photographs
from tracker.config import load_config
from tracker.stages import Stages
from tracker.types import Frame

SIZE_WH = (1280, 720)
FACE_PX = 400.0
NOISE = 4.0
FRAMES, SETTLING = 40, 10


def jitter(tracks: np.ndarray) -> float:
    """Of (T, 68, 2) px; a fraction."""
    size = np.sqrt(np.prod(np.ptp(tracks[0], axis=0)))
    return float(np.sqrt((np.diff(tracks, axis=0) ** 2).sum(axis=-1).mean()) / size)


def enlarge(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The picture with the face of (68, 2) px in its middle, FACE_PX high or wide."""
    zoom = FACE_PX / np.ptp(points, axis=0).max()
    shift = np.array(SIZE_WH) / 2 - zoom * (points.min(axis=0) + points.max(axis=0)) / 2
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(image, matrix, SIZE_WH, flags=cv2.INTER_CUBIC, borderValue=(96, 110, 104))


def tremble(tracker, picture: np.ndarray, rng: np.random.Generator) -> float | None:
    """Jitter of the largest face; None where it is not followed through."""
    tracks = []
    for t in range(FRAMES):
        noisy = np.clip(picture + rng.normal(0, NOISE, picture.shape), 0, 255).astype(np.uint8)
        faces = tracker.step(Frame(t, t / 30, noisy, first=t == 0))
        if t >= SETTLING and faces:
            tracks.append(max(faces, key=lambda f: f.pose.scale_px_per_mm).landmarks[:, :2].astype(np.float64))
    return jitter(np.stack(tracks)) if len(tracks) == FRAMES - SETTLING else None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate jitter", description=__doc__.splitlines()[0])
    parser.add_argument("--config", action="append", help="settings to judge; default: ours and 3DDFA_V2's")
    parser.add_argument("--set", action="append", default=[], help="override for all of them")
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    photographs = held_out_photographs()
    chosen = photographs[:: max(1, len(photographs) // args.photos)][: args.photos]
    results = {}
    for config in args.config or DEFAULTS:
        name = Path(config).stem if config else "default"
        tracker = build_tracker(
            load_config(AppConfig, config or None, [*args.set, "smoothing.enabled=false"]), Stages(), False
        )
        rng = np.random.default_rng(7)
        values = [tremble(tracker, enlarge(image, points), rng) for _, image, points in chosen]
        known = [100 * value for value in values if value is not None]
        results[name] = {"photographs": len(known), "jitter": float(np.mean(known)), "worst": float(np.max(known))}
        print(name, "  ".join(f"{key} {value:.3f}" for key, value in results[name].items()))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0
