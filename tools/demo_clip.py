"""Render samples/demo.mp4: a person who does not exist, with the truth of every frame beside it.

python -m tools.demo_clip [-o samples]

An actor (tools/actor.py), turned and moved by a script.
The background is a photograph of the material, blurred until nothing in it can be reported.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from facet.tracker.arkit import arkit_name
from facet.tracker.morphable import load_face_model
from facet.tracker.pose import camera_from_pose, rotation_from_angles
from facet.tracker.types import Pose
from facet.tracker.weights import ROOT, find_entry, load_arrays
from tools.actor import Actor, Look
from tools.data import material

SIZE_WH, FPS, FRAMES = (640, 480), 30, 180
FINER = 2  # drawn so much larger and averaged
SEED = 11


def script(time_s: float) -> tuple[dict, dict[str, float]]:
    """What the person does: pose, and blendshape weights."""
    t = time_s

    def bump(at_s: float, width_s: float) -> float:
        return float(np.exp(-(((t - at_s) / width_s) ** 2)))

    blink = max(bump(at, 0.07) for at in (0.9, 2.3, 3.6, 5.2))
    talk = 0.5 * bump(3.0, 0.55) * (1 + np.sin(2 * np.pi * 3.2 * t))
    pose = {
        "yaw_deg": 30 * np.sin(2 * np.pi * t / 4.0) * min(1.0, t / 0.7),
        "pitch_deg": 4 + 9 * np.sin(2 * np.pi * t / 3.1 + 0.4),
        "roll_deg": 6 * np.sin(2 * np.pi * t / 4.7 + 1.0),
        "scale": 1.42 * (1 + 0.10 * np.sin(2 * np.pi * t / 5.3)),
        "x": 320 + 42 * np.sin(2 * np.pi * t / 4.4),
        "y": 222 + 12 * np.sin(2 * np.pi * t / 2.6),
    }
    look = 0.6 * np.sin(2 * np.pi * t / 2.2)
    smile = bump(1.6, 0.5) + bump(4.7, 0.6)
    weights = {
        "eyeBlink_L": blink, "eyeBlink_R": max(blink, bump(4.1, 0.12)), "jawOpen": 0.5 * talk + 0.55 * bump(5.6, 0.2),
        "mouthSmile_L": 0.8 * smile, "mouthSmile_R": 0.8 * smile, "browInnerUp_L": 0.7 * bump(5.6, 0.35),
        "browInnerUp_R": 0.7 * bump(5.6, 0.35), "browOuterUp_L": 0.5 * bump(5.6, 0.35),
        "browOuterUp_R": 0.5 * bump(5.6, 0.35), "mouthFunnel": 0.25 * talk, "mouthPucker": 0.5 * bump(3.9, 0.25),
        "eyeLookOut_L": max(look, 0), "eyeLookIn_R": max(look, 0), "eyeLookIn_L": max(-look, 0),
        "eyeLookOut_R": max(-look, 0),
    }  # fmt: skip
    return pose, weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "samples")
    parser.add_argument("--frames", type=int, default=FRAMES)
    args = parser.parse_args()
    args.output.mkdir(exist_ok=True)
    rng = np.random.default_rng(SEED)
    model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
    shape = (0.7 * rng.normal(size=model.shape_count)).astype(np.float32)
    texture = load_arrays(find_entry("weights/skin.npz", "skin").path)
    actor = Actor(model, texture, shape, Look(skin=0.5 * rng.normal(size=len(texture["modes"]))))
    width, height = SIZE_WH[0] * FINER, SIZE_WH[1] * FINER
    photo = cv2.imread(str(sorted((material.folder() / "faces" / "photos" / "backgrounds").iterdir())[40]))
    ground = cv2.GaussianBlur(cv2.resize(photo, (width, height)), (0, 0), 45).astype(np.float32) * 0.8
    writer = imageio_ffmpeg.write_frames(
        str(args.output / "demo.mp4"), SIZE_WH, fps=FPS, codec="libx264", quality=None, macro_block_size=1,
        output_params=["-crf", "20", "-preset", "slow", "-movflags", "+faststart"],
    )  # fmt: skip
    writer.send(None)
    with open(args.output / "demo_truth.jsonl", "w", encoding="utf-8") as truth:
        for index in range(args.frames):
            move, weights = script(index / FPS)
            rotation = rotation_from_angles(move["yaw_deg"], move["pitch_deg"], move["roll_deg"])
            place = np.array([move["x"], move["y"], 0.0])
            pose = Pose(rotation, move["scale"], place, move["yaw_deg"], move["pitch_deg"], move["roll_deg"])
            camera = camera_from_pose(pose)
            expression = np.array([weights.get(name, 0.0) for name in model.expression_names], np.float32)
            fine = actor.draw(ground, camera * FINER, expression)
            picture = cv2.resize(cv2.GaussianBlur(fine, (0, 0), 1.1), SIZE_WH, interpolation=cv2.INTER_AREA)
            picture = np.clip(picture + rng.normal(0, 2.0, picture.shape), 0, 255).astype(np.uint8)
            writer.send(np.ascontiguousarray(picture[:, :, ::-1]))
            landmarks = model.landmarks(camera, actor.shape, expression)
            record = {
                "frame": index, "time_s": round(index / FPS, 6),
                "pose": {name: round(float(move[name]), 3) for name in ("yaw_deg", "pitch_deg", "roll_deg")},
                "landmarks": landmarks[:, :2].astype(float).round(2).tolist(),
                "blendshapes": {arkit_name(name): round(float(w), 4) for name, w in weights.items()},
            }  # fmt: skip
            truth.write(json.dumps(record, separators=(",", ":")) + "\n")
    writer.close()


if __name__ == "__main__":
    main()
