"""Render samples/demo.mp4: a person who does not exist, with the truth of every frame beside it.

python -m tools.demo_clip [-o samples]

The face model with its average texture, turned, lit and moved by a script; hair, neck and clothes are simple solids.
The background is a photograph of the material, blurred until nothing in it can be told.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from tools.data import material
from tools.raster import interpolate, rasterise, vertex_normals
from tracker.morphable import MorphableModel, load_face_model
from tracker.pose import camera_from_pose, rotation_from_angles
from tracker.types import Pose
from tracker.weights import ROOT

SIZE_WH, FPS, FRAMES = (640, 480), 30, 180
FINER = 2  # drawn so much larger and averaged
SEED = 11
HAIR_BGR, CLOTH_BGR = np.float32([38, 52, 74]), np.float32([96, 74, 58])
IRIS_BGR, SCLERA_BGR, MOUTH_BGR = np.float32([72, 92, 96]), np.float32([212, 214, 220]), np.float32([34, 30, 62])


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


def ellipsoid(centre, radii, steps: int = 48):
    """A closed ellipsoid: points (n, 3), triangles counter-clockwise seen from outside."""
    polar, around = np.linspace(0, np.pi, steps // 2 + 1), np.linspace(0, 2 * np.pi, steps, endpoint=False)
    p, a = np.meshgrid(polar, around, indexing="ij")
    unit = np.stack([np.sin(p) * np.sin(a), np.cos(p), np.sin(p) * np.cos(a)], -1).reshape(-1, 3)
    triangles = []
    for i in range(steps // 2):
        for j in range(steps):
            k, m = i * steps + j, i * steps + (j + 1) % steps
            triangles += [[k, k + steps, m], [m, k + steps, m + steps]]
    return np.array(centre) + unit * radii, np.array(triangles)


class Actor:
    """The face model with colours, and the solids around it, as one list of triangles."""

    def __init__(self, model: MorphableModel, texture: dict[str, np.ndarray], rng: np.random.Generator):
        self.model = model
        self.shape = (0.7 * rng.normal(size=model.shape_count)).astype(np.float32)
        modes = texture["modes"] * texture["modes_scale"][:, None, None, None]
        tint = np.tensordot(rng.normal(size=len(modes)) * 0.5, modes, 1)
        side = texture["mean"].shape[0]
        self.texture = texture["mean"].astype(np.float32) + cv2.resize(tint.astype(np.float32), (side, side))
        self.neutral = model.bake(self.shape)
        hair, hair_triangles = ellipsoid((0, 52, -14), (84, 84, 92))
        neck, neck_triangles = ellipsoid((0, -95, -8), (56, 110, 52))
        chest, chest_triangles = ellipsoid((0, -260, -40), (210, 140, 95))
        count = len(self.neutral)
        self.solids = np.concatenate([hair, neck, chest])
        self.triangles = np.concatenate([
            model.triangles, hair_triangles + count, neck_triangles + count + len(hair),
            chest_triangles + count + len(hair) + len(neck),
        ])  # fmt: skip
        names = model.region_names
        part = np.array([names.index(n) for n in ("mouth", "eyeball", "iris", "pupil")])
        colours = np.zeros((count, 3), np.float32)
        for region, colour in zip(part, (MOUTH_BGR, SCLERA_BGR, IRIS_BGR, np.float32([8, 8, 8])), strict=True):
            colours[model.region == region] = colour
        skin_tone = np.median(self.texture.reshape(-1, 3), axis=0)
        solid_colours = np.repeat([HAIR_BGR, skin_tone * 0.85, CLOTH_BGR], [len(hair), len(neck), len(chest)], axis=0)
        self.colours = np.concatenate([colours, solid_colours]).astype(np.float32)
        is_skin = np.isin(model.region, [names.index(n) for n in ("face", "ear", "neck")])
        self.textured = np.concatenate([is_skin, np.zeros(len(self.solids), bool)])[self.triangles].all(axis=1)
        self.glossy = np.concatenate([np.isin(model.region, part[1:]), np.zeros(len(self.solids), bool)])
        self.uv = np.concatenate([model.uv, np.zeros((len(self.solids), 2))])

    def draw(self, ground: np.ndarray, camera: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """The person over a picture, (H, W, 3) float32 BGR, both in the finer px that `camera` maps to."""
        height, width = ground.shape[:2]
        vertices = np.concatenate([self.model.vertices(self.shape, expression, self.neutral), self.solids]).astype(
            float
        )
        points = vertices @ camera[:, :3].T + camera[:, 3]
        triangle, weight = rasterise(points, self.triangles, width, height)
        seen = triangle >= 0
        normals = vertex_normals(vertices, self.triangles) @ camera[:, :3].T
        normal = interpolate(normals, self.triangles, triangle, weight)
        normal /= np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-9)
        uv = interpolate(self.uv, self.triangles, triangle, weight).astype(np.float32)
        side = self.texture.shape[0]
        skin = cv2.remap(self.texture, uv[..., 0] * side - 0.5, (1 - uv[..., 1]) * side - 0.5, cv2.INTER_LINEAR)
        plain = interpolate(self.colours, self.triangles, triangle, weight)
        colour = np.where((seen & self.textured[np.maximum(triangle, 0)])[..., None], skin, plain)
        light = shade(normal)
        picture = colour * light[..., None] * np.float32([0.97, 1.0, 1.05])
        gloss = interpolate(self.glossy[:, None].astype(float), self.triangles, triangle, weight)[..., 0]
        half = np.array([-0.25, -0.35, 0.9]) / np.linalg.norm([-0.25, -0.35, 0.9])
        shine = np.clip(normal @ half, 0, 1)
        picture += (gloss * 190 * shine**120 + 14 * (1 - gloss) * shine**18)[..., None]
        return np.where(seen[..., None], picture, ground).astype(np.float32)


def shade(normal: np.ndarray) -> np.ndarray:
    """Light from a window at upper left, a weak one at right, and the room; normals (H, W, 3), y down."""

    def lamp(x: float, y: float, z: float) -> np.ndarray:
        direction = np.array([x, y, z]) / np.linalg.norm([x, y, z])
        return np.clip((normal @ direction + 0.25) / 1.25, 0, None)

    return 0.36 + 0.62 * lamp(-0.6, -0.5, 0.75) + 0.22 * lamp(0.9, -0.1, 0.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "samples")
    parser.add_argument("--frames", type=int, default=FRAMES)
    args = parser.parse_args()
    args.output.mkdir(exist_ok=True)
    rng = np.random.default_rng(SEED)
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    actor = Actor(model, dict(np.load(ROOT / "weights" / "texture.npz")), rng)
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
                "blendshapes": {name: round(float(w), 4) for name, w in weights.items()},
            }  # fmt: skip
            truth.write(json.dumps(record, separators=(",", ":")) + "\n")
    writer.close()


if __name__ == "__main__":
    main()
