"""Whether the score knows faces: held-out faces against half faces, wrong scales, hands and walls.

    python -m tools.evaluate score [--weights PATH] [--cut runs/data] [--json PATH] [--plots DIR]

Hands are drawn, of many colours, before walls and over faces. 3DDFA_V2 has no score.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from tools.evaluation import crops
from tools.evaluation.common import report

SKIN_BGR = np.array([132, 156, 206])


def wrong_crops(kind: str, place: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A map like `place` (2, 3) that misses the face: `half` of it, `small` or `large`."""
    zoom = {"half": 1.0, "small": 0.3, "large": 3.0}[kind]
    moved = place * zoom
    moved[:, 2] += (1 - zoom) * size / 2
    if kind == "half":
        angle = rng.uniform(0, 2 * np.pi)
        moved[:, 2] += 0.55 * size * np.array([np.cos(angle), np.sin(angle)])
    return moved


def lay_hand(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The crop (size, size, 3) with a flat hand over what a face would fill: a palm, four fingers, a thumb."""
    size = picture.shape[0]
    skin = SKIN_BGR * np.exp(rng.normal(-0.3, 0.35)) * np.exp(rng.normal(0, 0.05, 3))
    skin, shade = np.clip(skin, 8, 250), np.clip(0.8 * skin, 5, 250)
    fine = 4  # drawn so much larger
    hand, mask = np.zeros((size * fine, size * fine, 3), np.float32), np.zeros((size * fine,) * 2, np.float32)

    def part(x: float, y: float, across: float, along: float, turn_deg: float) -> None:
        centre = (round(x * size * fine), round(y * size * fine))
        for grow, colour in ((1.12, shade), (1.0, skin)):
            axes = (round(across * grow * size * fine), round(along * grow * size * fine))
            cv2.ellipse(hand, centre, axes, turn_deg, 0, 360, colour.tolist(), -1)
            cv2.ellipse(mask, centre, axes, turn_deg, 0, 360, 1.0, -1)

    for finger in range(4):
        part(0.29 + 0.14 * finger, 0.30 - 0.05 * (finger in (1, 2)), 0.062, 0.24, 6.0 * (finger - 1.5))
    part(0.17, 0.62, 0.07, 0.22, -35.0)
    part(0.5, 0.68, 0.28, 0.27, 0.0)
    turn = cv2.getRotationMatrix2D((size * fine / 2,) * 2, rng.uniform(-60, 60), rng.uniform(0.95, 1.25) / fine)
    turn[:, 2] += size / 2 - size * fine / 2
    hand, mask = (cv2.warpAffine(layer, turn, (size, size), flags=cv2.INTER_AREA) for layer in (hand, mask))
    light = np.linspace(*rng.uniform(0.7, 1.2, 2), size, dtype=np.float32)[None, :, None]
    mask = cv2.GaussianBlur(mask, (0, 0), 0.6)[..., None]
    return np.clip(picture + mask * (hand * light - picture), 0, 255).astype(np.uint8)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate score", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="weights/regressor.onnx")
    parser.add_argument("--cut", type=Path, default=Path("runs/data"), help="what `tools.data.build faces` wrote")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw them here")
    args = parser.parse_args(arguments)
    network, _ = crops.load(args.weights)
    images, table = crops.cut_faces(args.cut)
    rows = np.flatnonzero(table["held_out"])
    rng = np.random.default_rng(2)
    places = [crops.place(table["points"][row], network.crop_spec) for row in rows]

    def scores(pictures: list[np.ndarray]) -> np.ndarray:
        return np.array([face.score for face in crops.regress(network, np.stack(pictures))])

    def cut(maps) -> list[np.ndarray]:
        return [crops.warp(images[row], m, network.size) for row, m in zip(rows, maps, strict=True)]

    shown = cut(places)
    kinds = {"faces": scores(shown)}
    for kind in ("half", "small", "large"):
        kinds[kind] = scores(cut(wrong_crops(kind, p, network.size, rng) for p in places))
    walls = []
    for wall in np.memmap(args.cut / "backgrounds.u8", np.uint8, "r").reshape(-1, 256, 256, 3):
        side = int(rng.integers(60, 256))
        x, y = rng.integers(0, 257 - side, 2)
        zoom = network.size / side
        walls.append(crops.warp(wall, np.array([[zoom, 0, -x * zoom], [0, zoom, -y * zoom]]), network.size))
    kinds["wall"] = scores(walls)
    kinds["hand"] = scores([lay_hand(wall, rng) for wall in walls])
    kinds["hand_over_face"] = scores([lay_hand(face, rng) for face in shown])
    wrong = np.concatenate([values for kind, values in kinds.items() if kind != "faces"])
    results = {
        kind: {"n": len(v), "median": np.median(v), "above_half": (v > 0.5).mean(), "auc": crops.auc(kinds["faces"], v)}
        for kind, v in (kinds | {"all_wrong": wrong}).items()
    }
    del results["faces"]["auc"]

    def draw(folder: Path) -> None:
        from tools.evaluation import plots

        plots.scores(kinds, folder)

    return report(results, args, draw)
