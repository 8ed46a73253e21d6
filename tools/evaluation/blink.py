"""Whether eyes close: on held-out photographs against MediaPipe's lids, and on videos.

    python -m tools.evaluate blink [--weights PATH] [--data runs/data] [--video PATH ...] [--json PATH]

A photograph's eye is shut where MediaPipe's lid gap is below SHUT of its width, open above OPEN. A video tells the
spread of `eyeBlink` and of the drawn lid gap: its smallest values are the blinks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from app import AppConfig, build_tracker
from tools.data import labels
from tools.evaluation import crops
from tracker.config import load_config
from tracker.source import open_source
from tracker.stages import Stages

SHUT, OPEN = 0.075, 0.22
MIN_FACE_PX = 200.0  # labels of small eyes are guesses
EYES = ("eyeBlink_R", "eyeBlink_L")


def lid_gaps(points: np.ndarray) -> np.ndarray:
    """(..., 2) gap of the lids / width of the eye, subject's right and left, of (..., 68, 2) points."""
    gaps = []
    for eye, pairs in zip((36, 42), labels.EYES_68, strict=True):
        gap = np.mean([np.linalg.norm(points[..., a, :] - points[..., b, :], axis=-1) for a, b in pairs], axis=0)
        gaps.append(gap / np.linalg.norm(points[..., eye, :] - points[..., eye + 3, :], axis=-1))
    return np.stack(gaps, axis=-1)


def on_photographs(weights: str, folder: Path) -> dict:
    """Blinks and drawn gaps of shut and of open eyes on held-out photographs."""
    network, model = crops.load(weights)
    images, table = crops.cut_faces(folder)
    seen = table["held_out"] & ~np.isnan(table["mesh"][:, 0, 0]) & (table["roi"][:, 2] > MIN_FACE_PX)
    rows = np.flatnonzero(seen)
    pictures = np.stack(
        [crops.warp(images[r], crops.place(table["points"][r], network.crop_spec), network.size) for r in rows]
    )
    faces = crops.regress(network, pictures)
    columns = [model.expression_names.index(name) for name in EYES]
    blink = np.array([face.expression[columns] for face in faces])
    drawn = lid_gaps(np.array([model.landmarks(f.camera, f.shape, f.expression)[:, :2] for f in faces]))
    gap = labels.lid_gaps(table["mesh"][rows])
    shut, wide = gap < SHUT, gap > OPEN
    return {
        "eyes_shut": int(shut.sum()),
        "eyes_open": int(wide.sum()),
        "auc": crops.auc(blink[shut], blink[wide]),
        "blink_shut_median": np.median(blink[shut]),
        "blink_open_median": np.median(blink[wide]),
        "shut_told": (blink[shut] >= 0.7).mean(),
        "open_told": (blink[wide] <= 0.25).mean(),
        "drawn_gap_shut_over_open": np.median(drawn[shut]) / np.median(drawn[wide]),
        "correlation_with_gap": -np.corrcoef(blink.ravel(), gap.ravel())[0, 1],
    }


def on_video(path: Path, overrides: list[str]) -> dict:
    """Spread of blink and drawn gap over a video's frames, without smoothing."""
    tracker = build_tracker(load_config(AppConfig, None, [*overrides, "smoothing.enabled=false"]), Stages(), False)
    blink, gap, pitch, frames = [], [], [], 0
    with open_source(str(path)) as source:
        for frame in source:
            frames += 1
            faces = tracker.step(frame)
            if faces:
                face = max(faces, key=lambda f: f.pose.scale_px_per_mm)
                blink.append([face.blendshapes[name] for name in EYES])
                gap.append(lid_gaps(face.landmarks[:, :2]))
                pitch.append(face.pose.pitch_deg)
    blink, gap = np.array(blink).mean(axis=1), np.array(gap).mean(axis=1)
    low, high = np.percentile(gap, [1, 75])
    return {
        "frames": frames,
        "tracked": len(blink),
        "blink_p5": np.percentile(blink, 5),
        "blink_p50": np.percentile(blink, 50),
        "blink_max": blink.max(),
        "gap_shut_over_open": low / high,
        "pitch_std_deg": np.std(np.diff(pitch)),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate blink", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="weights/regressor.onnx")
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--video", type=Path, action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    results = {}
    if (args.data / "faces.npz").exists():
        results["photographs"] = on_photographs(args.weights, args.data)
    for path in args.video:
        results[path.stem] = on_video(path, [f"regressor.weights={args.weights}", *args.set])
    for name, row in results.items():
        print(name, "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2, default=float) + "\n")
    return 0
