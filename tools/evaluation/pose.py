"""Errors of pose, landmarks and blendshapes on held-out photographs turned in 3D, whose truth is known.

python -m tools.evaluate pose [--weights PATH] [--data runs/data] [--count N] [--json PATH]
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from tools.data import profiles
from tools.data.crops import SIZE_PX
from tools.evaluation import crops
from tracker.pose import pose_from_camera

YAW_EDGES_DEG = (0, 30, 60, 90)
PIVOT_MM = np.array([0.0, 0.0, 40.0])


def angles(camera: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll, deg."""
    pose = pose_from_camera(camera.astype(np.float32))
    return np.array([pose.yaw_deg, pose.pitch_deg, pose.roll_deg])


def turned_faces(folder: Path, network, model, count: int):
    """Crops, cameras (n, 3, 4) in crop px, expressions and landmarks of held-out faces with other poses."""
    rng = np.random.default_rng(11)
    images, table = crops.cut_faces(folder)
    with np.load(folder / "fits.npz") as file:
        cameras, coefficients, error = file["camera"][:, 0], file["coefficients"][:, 0], file["error"][:, 0]
    walls = np.memmap(folder / "backgrounds.u8", np.uint8, "r").reshape(-1, 256, 256, 3)
    good = table["held_out"] & (error < 1.3 * np.median(error)) & (np.abs(table["yaw_deg"]) < 25)
    good &= table["roi"][:, 2] > 200
    pictures, truth, weights, points = [], [], [], []
    for row in rng.choice(np.flatnonzero(good), count):
        camera, shape = cameras[row].astype(np.float64), coefficients[row, : model.shape_count]
        expression = coefficients[row, model.shape_count :]
        changed = expression.copy()
        for k in rng.choice(len(changed), 3, replace=False):
            changed[k] = rng.uniform(0, 1)
        turn = profiles.rotation(rng.uniform(-80, 80), rng.uniform(-20, 20))
        new = profiles.turn_about(camera, turn, PIVOT_MM)
        landmarks = model.landmarks(new, shape, changed)
        new[:2, 3] += SIZE_PX / 2 - (landmarks[:, :2].min(0) + landmarks[:, :2].max(0)) / 2
        wall = np.ascontiguousarray(walls[rng.integers(len(walls))])
        drawn = profiles.render(model, images[row], wall, camera, shape, expression, new, changed)
        place = crops.place(model.landmarks(new, shape, changed)[:, :2], network.crop_spec)
        lift = np.eye(3) * place[0, 0]
        camera = lift @ new
        camera[:2, 3] += place[:, 2]
        pictures.append(crops.warp(drawn, place, network.size))
        truth.append(camera)
        weights.append(changed)
        points.append(model.landmarks(camera, shape, changed))
    return np.stack(pictures), np.stack(truth), np.stack(weights), np.stack(points)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate pose", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="weights/regressor.onnx")
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    network, model = crops.load(args.weights)
    pictures, truth, weights, points = turned_faces(args.data, network, model, args.count)
    faces = crops.regress(network, pictures)
    found = np.array([model.landmarks(f.camera, f.shape, f.expression) for f in faces])
    error = np.abs([angles(f.camera) - angles(t) for f, t in zip(faces, truth, strict=True)])
    yaw = np.abs([angles(t)[0] for t in truth])
    size = np.sqrt(np.prod(np.ptp(points[..., :2], axis=1), axis=1))
    nme = 100 * np.linalg.norm((found - points)[..., :2], axis=2).mean(axis=1) / size
    results = {}
    for low, high in itertools.pairwise(YAW_EDGES_DEG):
        part = (yaw >= low) & (yaw < high)
        mae = dict(zip(("yaw_deg", "pitch_deg", "roll_deg"), error[part].mean(axis=0).tolist(), strict=True))
        results[f"yaw_{low}_{high}"] = {"n": int(part.sum()), **mae, "nme": float(nme[part].mean())}
    told = np.array([f.expression for f in faces])
    front = yaw < 40
    shapes = {}
    for k, name in enumerate(model.expression_names):
        slope = np.polyfit(weights[front, k], told[front, k], 1)[0] if np.ptp(weights[front, k]) > 0.3 else np.nan
        shapes[name] = {
            "correlation": float(np.corrcoef(weights[front, k], told[front, k])[0, 1]),
            "slope": float(slope),
        }
    for name, row in results.items():
        print(name, "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    print("blendshapes from the front, correlation and slope")
    print("  ".join(f"{name} {row['correlation']:.2f} {row['slope']:.2f}" for name, row in shapes.items()))
    if args.json:
        args.json.write_text(json.dumps({"pose": results, "blendshapes": shapes}, indent=2) + "\n")
    return 0
