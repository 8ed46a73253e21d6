"""Whether the score knows faces: held-out faces against half faces, wrong scales, and crops without a face.

python -m tools.evaluate score [--weights PATH] [--data runs/data] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from tools.evaluation import crops


def wrong_crops(kind: str, place: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A map like `place` (2, 3) that misses the face: `half` of it, `small` or `large`."""
    zoom = {"half": 1.0, "small": 0.3, "large": 3.0}[kind]
    moved = place * zoom
    moved[:, 2] += (1 - zoom) * size / 2
    if kind == "half":
        angle = rng.uniform(0, 2 * np.pi)
        moved[:, 2] += 0.55 * size * np.array([np.cos(angle), np.sin(angle)])
    return moved


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate score", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="weights/regressor.onnx")
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    network, _ = crops.load(args.weights)
    images, table = crops.cut_faces(args.data)
    rows = np.flatnonzero(table["held_out"])
    rng = np.random.default_rng(2)
    places = [crops.place(table["points"][row], network.crop_spec) for row in rows]

    def scores(maps) -> np.ndarray:
        pictures = [crops.warp(images[row], m, network.size) for row, m in zip(rows, maps, strict=True)]
        return np.array([face.score for face in crops.regress(network, np.stack(pictures))])

    faces = scores(places)
    results = {"faces": {"n": len(rows), "median": float(np.median(faces)), "above_half": float((faces > 0.5).mean())}}
    negatives = {k: scores([wrong_crops(k, p, network.size, rng) for p in places]) for k in ("half", "small", "large")}
    walls = np.memmap(args.data / "backgrounds.u8", np.uint8, "r").reshape(-1, 256, 256, 3)
    pictures = []
    for wall in walls:
        side = int(rng.integers(60, 256))
        x, y = rng.integers(0, 257 - side, 2)
        zoom = network.size / side
        pictures.append(crops.warp(wall, np.array([[zoom, 0, -x * zoom], [0, zoom, -y * zoom]]), network.size))
    negatives["wall"] = np.array([face.score for face in crops.regress(network, np.stack(pictures))])
    for name, values in negatives.items():
        results[name] = {
            "n": len(values),
            "median": float(np.median(values)),
            "above_half": float((values > 0.5).mean()),
            "auc": crops.auc(faces, values),
        }
    for name, row in results.items():
        print(name, "  ".join(f"{key} {value:.4f}" for key, value in row.items()))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0
