"""Photographs turned in 3D by their fitted mesh, with other eyelids: poses and blinks that photographs hardly have.

Each triangle takes the piece of the photograph that it covered; what the photograph did not show gets the skin's mean
colour. The parameters of the result are known exactly.
Source of the idea: Zhu et al., Face Alignment Across Large Poses, CVPR 2016, "face profiling".
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facet.tracker.mirror import other_side
from facet.tracker.morphable import MorphableModel, load_face_model
from facet.tracker.weights import ROOT
from tools.data import labels
from tools.data.crops import SIZE_PX
from tools.data.rendered import squeezed
from tools.raster import rasterise

FACING = 0.12  # cosine below which a triangle counts as unseen
SUPERSAMPLE = 2
EXPRESSIVE_SHARE = 0.4  # of the samples that show some of all expressions at random


def turn_about(camera: np.ndarray, turn: np.ndarray, pivot_mm: np.ndarray) -> np.ndarray:
    """A camera (3, 4) whose head is turned by `turn` (3, 3; y up, before the camera) about a point of the model."""
    result = camera.copy()
    result[:, :3] = camera[:, :3] @ turn
    result[:, 3] += (camera[:, :3] - result[:, :3]) @ pivot_mm
    return result


def rotation(yaw_deg: float, pitch_deg: float) -> np.ndarray:
    """Ry(-yaw) Rx(pitch), y up."""
    yaw, pitch = np.radians(-yaw_deg), np.radians(pitch_deg)
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return about_y @ about_x


def render(model: MorphableModel, image, background, camera, shape, expression, new_camera, new_expression):
    """The face of a cut photograph with another pose and expression, over a background; (SIZE_PX, SIZE_PX, 3) uint8."""
    neutral = model.bake(shape)
    was = model.vertices(shape, expression, neutral) @ camera[:, :3].T + camera[:, 3]
    now = model.vertices(shape, new_expression, neutral) @ new_camera[:, :3].T + new_camera[:, 3]
    triangles = model.triangles[facing(now, model.triangles) > 0]
    owner, weight = rasterise(now * SUPERSAMPLE, triangles, SIZE_PX * SUPERSAMPLE, SIZE_PX * SUPERSAMPLE)
    drawn = owner >= 0
    corners = triangles[owner[drawn]]
    spot = (was[corners, :2] * weight[drawn][..., None]).sum(axis=1).astype(np.float32)
    seen = facing(was, triangles)[owner[drawn]] > FACING
    inside = (spot >= 1).all(axis=1) & (spot < SIZE_PX - 1).all(axis=1)
    skin_at = was[model.landmark_vertices[27:36], :2].mean(axis=0)
    x, y = np.clip(skin_at.astype(int), 8, SIZE_PX - 9)
    skin = image[y - 8 : y + 8, x - 8 : x + 8].reshape(-1, 3).mean(axis=0)
    where = np.zeros((*owner.shape, 2), np.float32)
    where[drawn] = spot - 0.5
    colour = cv2.remap(image, where, None, cv2.INTER_LINEAR)[drawn]
    colour[~(seen & inside)] = skin * 0.9
    mouth = model.region[corners[:, 0]] == model.region_names.index("mouth")
    colour[mouth] = (30, 20, 50)
    canvas = cv2.resize(background, (SIZE_PX * SUPERSAMPLE,) * 2)
    canvas[drawn] = colour
    return cv2.resize(canvas, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)


def facing(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Cosine between the triangles' normals and the viewer; points (N, 3) px, y down."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    return -normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-9)  # y goes down: the winding is reversed


def make(out: Path, count: int, seed: int = 3, expressive: float = EXPRESSIVE_SHARE) -> None:
    """Write `turned.u8` and `turned.npz` (labels and fits in one) beside the faces that they are made of."""
    rng = np.random.default_rng(seed)
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    with np.load(out / "faces.npz") as file:
        table = {name: file[name] for name in file.files}
    with np.load(out / "fits.npz") as file:
        fits = {name: file[name] for name in file.files}
    images = np.memmap(out / "faces.u8", np.uint8, "r").reshape(-1, SIZE_PX, SIZE_PX, 3)
    backgrounds = np.memmap(out / "backgrounds.u8", np.uint8, "r").reshape(-1, 256, 256, 3)
    good = fits["error"].max(axis=1) < np.median(fits["error"]) * 1.3
    good &= (np.abs(table["yaw_deg"]) < 30) & (table["roi"][:, 2] > 200) & (table["group"] != "masked")
    good &= ~(np.nan_to_num(table["blink"], nan=1).max(axis=1) > 0.3) & ~table["held_out"]
    sources = rng.choice(np.flatnonzero(good), count)
    drawn = np.memmap(out / "turned.u8", np.uint8, "w+", shape=(count, SIZE_PX, SIZE_PX, 3))
    shapes = model.shape_count
    names = list(model.expression_names)
    swap = np.array([names.index(other_side(name)) for name in names])
    cameras = np.zeros((count, 2, 3, 4), np.float32)
    coefficients = np.zeros((count, 2, shapes + len(names)), np.float32)
    points, depth = np.zeros((count, 2, 68, 2), np.float32), np.zeros((count, 68), np.float32)
    blink, yaw_deg = np.zeros((count, 2), np.float32), np.zeros(count, np.float32)
    pivot = np.array([0.0, 0.0, 40.0])
    for i, source in enumerate(sources):
        wish = _any_expressions if rng.random() < expressive else _turn_and_blink
        yaw, pitch, change = wish(rng, names, fits["coefficients"][source, 0, shapes:])
        for side in range(2):
            camera, known = fits["camera"][source, side].astype(np.float64), fits["coefficients"][source, side]
            shape, expression = known[:shapes], known[shapes:].copy()
            sign = 1 - 2 * side
            # the photograph's own turn is kept in part; the wish is about the head's own axes
            new_camera = turn_about(camera, rotation(sign * yaw, pitch), pivot)
            new_expression = expression.copy()
            for k, value in change.items():
                new_expression[swap[k] if side else k] = value
            landmarks = model.landmarks(new_camera, shape, new_expression)
            # back into the middle, at the usual size
            low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
            zoom = SIZE_PX / 2.2 / (high - low).max()
            new_camera *= zoom
            new_camera[:2, 3] += SIZE_PX / 2 - zoom * (low + high) / 2
            landmarks = model.landmarks(new_camera, shape, new_expression)
            if side == 0:
                background = _background(rng, images[source], backgrounds)
                drawn[i] = render(
                    model, images[source], background, camera, shape, expression, new_camera, new_expression
                )
                depth[i] = landmarks[:, 2] - landmarks[:, 2].mean()
                blink[i] = [new_expression[names.index(f"eyeBlink_{s}")] for s in "RL"]
                yaw_deg[i] = labels.rough_yaw_deg(landmarks[None])[0]
            cameras[i, side], points[i, side] = new_camera, landmarks[:, :2]
            coefficients[i, side] = np.concatenate([shape, new_expression])
    drawn.flush()
    np.savez(
        out / "turned.npz",
        source=sources,
        camera=cameras,
        coefficients=coefficients,
        points=points,
        depth=depth,
        blink=blink,
        yaw_deg=yaw_deg,
    )


def _turn_and_blink(rng, names: list[str], expression: np.ndarray) -> tuple[float, float, dict[int, float]]:
    """A turn in degrees, and new values of some expressions."""
    yaw, pitch = 0.0, rng.normal(0, 8)
    if rng.random() < 0.75:
        yaw = float(rng.choice((-1, 1)) * rng.uniform(15, 80))
        if rng.random() < 0.3:
            pitch = rng.uniform(-30, 30)
    change = {}
    form = rng.random()
    right, left = names.index("eyeBlink_R"), names.index("eyeBlink_L")
    if form < 0.25:
        change = {right: 1.0, left: 1.0}
    elif form < 0.4:
        side = rng.choice(("L", "R"))
        change = {names.index(f"eyeBlink_{side}"): 1.0 if rng.random() < 0.7 else rng.uniform(0.2, 0.95)}
        if rng.random() < 0.6:
            change |= {names.index(name): value for name, value in squeezed(rng, side).items()}
    elif form < 0.6:
        both = rng.uniform(0.2, 0.95)
        change = {right: both, left: both}
    if rng.random() < 0.2:
        change[names.index("jawOpen")] = float(
            np.clip(expression[names.index("jawOpen")] + rng.uniform(0.1, 0.7), 0, 1)
        )
    if rng.random() < 0.1:
        change[names.index("mouthPucker")] = rng.uniform(0.3, 1.0)
    if rng.random() < 0.1:
        smile = rng.uniform(0.3, 1.0)
        change |= {names.index("mouthSmile_L"): smile, names.index("mouthSmile_R"): smile}
    return yaw, float(pitch), change


def _any_expressions(rng, names: list[str], expression: np.ndarray) -> tuple[float, float, dict[int, float]]:
    """A small turn, and one to four expressions, mostly on both sides alike, at any strength."""
    change: dict[int, float] = {}
    for k in rng.choice(len(names), int(rng.integers(1, 5)), replace=False):
        both = rng.random() < 0.7
        strength = float(rng.uniform(0, 1))
        change[int(k)] = strength
        other = names.index(other_side(names[k]))
        if names[k].startswith(("eyeLookIn", "eyeLookOut")):  # eyes look to one side together
            change[names.index(("eyeLookOut" if "In" in names[k] else "eyeLookIn") + other_side(names[k])[-2:])] = (
                strength
            )
        elif both and names[k][-2:] in ("_L", "_R"):
            change[other] = strength
        elif not names[k].endswith(("_L", "_R")) and other != k:
            change[other] = 0.0
    return float(rng.normal(0, 18)), float(rng.normal(0, 8)), change


def _background(rng, image: np.ndarray, backgrounds: np.ndarray) -> np.ndarray:
    if rng.random() < 0.5:
        return np.ascontiguousarray(backgrounds[rng.integers(len(backgrounds))])
    shift = float(rng.uniform(-25, 25))
    moved = cv2.warpAffine(image, np.float32([[1.05, 0, shift - 5], [0, 1.05, -5]]), (SIZE_PX, SIZE_PX))
    return cv2.GaussianBlur(moved, (0, 0), float(rng.uniform(1, 6)))
