"""Rendered faces: nobody's, in any pose, light and expression, with exact truth."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.mirror import other_side
from facet.tracker.morphable import MorphableModel, load_face_model
from facet.tracker.pose import camera_from_pose, rotation_from_angles
from facet.tracker.types import Pose
from facet.tracker.weights import find_entry, load_arrays
from tools.actor import Actor, Look
from tools.data import labels
from tools.data.crops import SIZE_PX

DRAWN_PX = 260  # drawn larger, then averaged
FACE_SHARE = 1 / 2.2  # of the picture's side, as the cut photographs have it
SHAPE_STD = 0.8
MASK_PX = 50  # side of the map that tells where the face is visible
PIECE = 1000  # pictures of one seed
SQUEEZED_SHARE = 0.4  # of shut eyes: with effort
# eyelids come apart from one another, for winks, and eyes look somewhere together
PLACED = ("eyeBlink", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeLookDown")


def random_look(rng: np.random.Generator, modes: int) -> Look:
    """Somebody's skin, hair, eyes, glasses, and a light."""
    grey = np.exp(rng.normal(-0.15, 0.3))
    dark = np.array([rng.uniform(8, 60)] * 3) * (1 + rng.uniform(0, 0.9) * np.array([-0.3, 0.1, 0.5]))
    hair = [((0, rng.uniform(38, 58), rng.uniform(-28, -4)), tuple(84 * np.exp(rng.normal(0, 0.06, 3)) + (0, 0, 8)))]
    if rng.random() < 0.35:  # long
        for side in (-1, 1):
            hair.append(((side * rng.uniform(68, 84), rng.uniform(-60, 0), -12), (24, rng.uniform(70, 130), 50)))
    if rng.random() < 0.2:  # a fringe
        hair.append(((rng.uniform(-20, 20), rng.uniform(82, 98), 78), (62, 30, 28)))
    lamps = []
    for _ in range(rng.integers(1, 4)):
        direction = (rng.normal(0, 0.8), rng.normal(-0.3, 0.5), rng.uniform(0.1, 1.0))
        lamps.append((direction, rng.uniform(0.1, 0.8)))
    total = sum(strength for _, strength in lamps)
    ambient = rng.uniform(0.15, 0.6)
    level = rng.uniform(0.75, 1.25) / (ambient + 0.7 * total)
    return Look(
        skin=0.7 * rng.normal(size=modes),
        tone=tuple(grey * np.exp(rng.normal(0, 0.07, 3))),
        hair=() if rng.random() < 0.08 else tuple(hair),
        hair_bgr=tuple(dark if rng.random() < 0.8 else rng.uniform(60, 220, 3)),
        beard=float(rng.uniform(0.2, 0.8)) if rng.random() < 0.2 else 0.0,
        cloth_bgr=tuple(rng.uniform(10, 235, 3)),
        iris_bgr=tuple(rng.uniform(20, 90) * np.exp(rng.normal(0, 0.3, 3))),
        sclera_bgr=tuple(rng.uniform(150, 225) * np.exp(rng.normal(0, 0.03, 3))),
        mouth_bgr=tuple(rng.uniform(0.4, 2.2) * np.array([34, 30, 62])),
        glasses_bgr=tuple(rng.uniform(5, 90, 3)) if rng.random() < 0.2 else None,
        dark_glasses=rng.random() < 0.3,
        ambient=ambient * level,
        lamps=tuple((direction, strength * level) for direction, strength in lamps),
        light_bgr=tuple(np.exp(rng.normal(0, 0.06, 3))),
    )


def random_expression(rng: np.random.Generator, names: list[str]) -> np.ndarray:
    """Weights of the expressions; closed, winking and looking eyes and open mouths are over-sampled."""
    weights = np.zeros(len(names), np.float32)

    def put(name: str, value: float) -> None:
        weights[names.index(name)] = np.clip(value, 0, 1)

    def look(side: str, x: float, y: float) -> None:
        out = x if side == "L" else -x
        put(f"eyeLookOut_{side}", out), put(f"eyeLookIn_{side}", -out)
        put(f"eyeLookDown_{side}", y), put(f"eyeLookUp_{side}", -y)

    if rng.random() < 0.65:
        together = rng.random() < 0.75  # each eye is to be read by itself
        left, right = rng.uniform(-1, 1, (2, 2)) * (rng.random((2, 2)) < 0.8)
        look("L", *left), look("R", *(left if together else right))
    lids = rng.random()
    if lids < 0.25:
        put("eyeBlink_L", 1), put("eyeBlink_R", 1)
    elif lids < 0.4:
        put(f"eyeBlink_{rng.choice(['L', 'R'])}", 1 if rng.random() < 0.7 else rng.uniform(0, 1))
    elif lids < 0.6:
        both = rng.uniform(0, 1)
        put("eyeBlink_L", both + rng.normal(0, 0.05)), put("eyeBlink_R", both + rng.normal(0, 0.05))
    if rng.random() < 0.35:
        put("jawOpen", rng.uniform(0, 1) ** 1.3)
    if rng.random() < 0.25:
        smile = rng.uniform(0, 1)
        put("mouthSmile_L", smile + rng.normal(0, 0.1)), put("mouthSmile_R", smile + rng.normal(0, 0.1))
    # most people do little at once; mixtures teach to tell one from the other
    most = rng.choice((4, 7, 15), p=(0.45, 0.4, 0.15))
    moves = sorted({name.removesuffix("_L").removesuffix("_R") for name in names if not name.startswith(PLACED)})
    for move in rng.choice(moves, int(rng.integers(0, most)), replace=False):
        strength = rng.uniform(0, 1)
        if move in names:
            put(other_side(move), 0), put(move, strength)
            continue
        alike = rng.random() < 0.5
        weaker = 1.0 if alike else rng.choice((0.0, rng.uniform(0, 1)), p=(0.7, 0.3))
        stronger_side = rng.choice(("L", "R"))
        put(f"{move}_{stronger_side}", strength), put(other_side(f"{move}_{stronger_side}"), weaker * strength)
    for side in "LR":
        if weights[names.index(f"eyeBlink_{side}")] > 0.5 and rng.random() < SQUEEZED_SHARE:
            for name, value in squeezed(rng, side).items():
                put(name, value)
    return weights


def squeezed(rng: np.random.Generator, side: str) -> dict[str, float]:
    """What the side of a face does whose eye is shut with effort, as in a wink."""
    force = rng.uniform(0.3, 1)
    moves = {"cheekSquint": 1.0, "eyeSquint": 0.5, "browDown": 0.8, "noseSneer": 0.6, "mouthSmile": 0.6}
    return {f"{move}_{side}": most * force * rng.uniform(0, 1) for move, most in moves.items()}


def random_angles(rng: np.random.Generator) -> tuple[float, float, float]:
    """Yaw, pitch, roll in degrees; most heads face the camera more or less."""
    yaw = rng.normal(0, 15) if rng.random() < 0.65 else rng.uniform(-90, 90)
    pitch = rng.normal(0, 10) if rng.random() < 0.75 else rng.uniform(-50, 50)
    return float(yaw), float(pitch), float(rng.normal(0, 8))


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """A picture of somebody, and all that is true of it."""

    picture: np.ndarray  # (SIZE_PX, SIZE_PX, 3) uint8, BGR
    camera: np.ndarray  # (3, 4) mm -> px
    shape: np.ndarray  # (Ks,)
    expression: np.ndarray  # (Ke,)
    landmarks: np.ndarray  # (68, 3) px
    yaw_deg: float
    face: np.ndarray  # (MASK_PX, MASK_PX) uint8, how much of each cell shows the face, 255 all
    visible: np.ndarray  # (N,) bool, vertices of the model that nothing hides


def faces(
    count: int, seed: int | tuple[int, int], grounds: Callable[[np.random.Generator], np.ndarray]
) -> Iterator[Rendered]:
    """Draw people, each once.

    Parameters
    ----------
    grounds : gives something to stand before, (H, W, 3) uint8 of any size
    """
    rng = np.random.default_rng(seed)
    model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
    texture = load_arrays(find_entry("weights/texture.npz", "texture").path)
    names = list(model.expression_names)
    for _ in range(count):
        shape = (SHAPE_STD * rng.normal(size=model.shape_count)).astype(np.float32)
        expression = random_expression(rng, names)
        yaw, pitch, roll = random_angles(rng)
        pose = Pose(rotation_from_angles(yaw, pitch, roll), 1.0, np.zeros(3), yaw, pitch, roll)
        camera = framed(model, camera_from_pose(pose), shape, expression)
        ground = cv2.resize(grounds(rng), (DRAWN_PX, DRAWN_PX))
        if rng.random() < 0.5:
            ground = cv2.GaussianBlur(ground, (0, 0), rng.uniform(1, 8))
        actor = Actor(model, texture, shape, random_look(rng, len(texture["modes"])))
        picture, face, visible = actor.render(ground, camera * (DRAWN_PX / SIZE_PX), expression)
        face = cv2.resize(face.astype(np.uint8) * 255, (MASK_PX, MASK_PX), interpolation=cv2.INTER_AREA)
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.0))
        picture = cv2.resize(picture, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        landmarks = model.landmarks(camera, shape, expression)
        yield Rendered(picture, camera, shape, expression, landmarks, yaw, face, visible)


def make(out: Path, count: int, seed: int = 5) -> None:
    """Write `rendered.u8` and `rendered.npz` (labels and fits in one) beside the cut faces, on all cores."""
    np.memmap(out / "rendered.u8", np.uint8, "w+", shape=(count, SIZE_PX, SIZE_PX, 3))
    starts = range(0, count, PIECE)
    pieces = [(out, count, start, min(PIECE, count - start), (seed, start)) for start in starts]
    with multiprocessing.get_context("spawn").Pool() as pool:
        rows = [row for piece in pool.starmap(_make_piece, pieces, chunksize=1) for row in piece]
    np.savez(out / "rendered.npz", **{name: _column(rows, name) for name in rows[0]})


def _column(rows: list[dict], name: str) -> np.ndarray:
    """A field of all rows: float32, but whole numbers as they are."""
    column = np.array([row[name] for row in rows])
    return column if column.dtype == np.uint8 else column.astype(np.float32)


def _make_piece(out: Path, total: int, start: int, count: int, seed: tuple[int, int]) -> list[dict]:
    """Draw some of the pictures of `make`; what it writes of each."""
    cv2.setNumThreads(1)
    model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
    backgrounds = np.memmap(out / "backgrounds.u8", np.uint8, "r").reshape(-1, 256, 256, 3)
    blinks = [model.expression_names.index(f"eyeBlink_{side}") for side in "RL"]
    drawn = np.memmap(out / "rendered.u8", np.uint8, "r+", shape=(total, SIZE_PX, SIZE_PX, 3))
    rows = []

    def ground(rng: np.random.Generator) -> np.ndarray:
        side = int(rng.integers(80, 257))
        x, y = rng.integers(0, 257 - side, 2)
        return np.ascontiguousarray(backgrounds[rng.integers(len(backgrounds)), y : y + side, x : x + side])

    for i, face in enumerate(faces(count, seed, ground), start):
        drawn[i] = face.picture
        rows.append({
            "camera": face.camera, "coefficients": np.concatenate([face.shape, face.expression]),
            "points": face.landmarks[:, :2], "depth": face.landmarks[:, 2] - face.landmarks[:, 2].mean(),
            "blink": face.expression[blinks], "gaze": gaze_of(model, face),
            "yaw_deg": labels.rough_yaw_deg(face.landmarks[None])[0],
            "face": face.face, "visible": np.packbits(face.visible),
        })  # fmt: skip
    return rows


def framed(model: MorphableModel, camera: np.ndarray, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """A camera whose landmarks lie in the middle of a picture of SIZE_PX, at the size that cut photographs have."""
    points = model.landmarks(camera, shape, expression)[:, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    zoom = SIZE_PX * FACE_SHARE / (high - low).max()
    camera = camera * zoom
    camera[:2, 3] += SIZE_PX / 2 - zoom * (low + high) / 2
    return camera


def gaze_of(model: MorphableModel, face: Rendered) -> np.ndarray:
    """Where the right and the left eye look, (2, 2), as `labels.look` tells."""
    disc = np.isin(model.region, [model.region_names.index(name) for name in ("iris", "pupil")])
    vertices, points = model.vertices(face.shape, face.expression), face.landmarks[:, :2]
    sides = []
    for on_side, start, end in ((model.mean[:, 0] < 0, 36, 39), (model.mean[:, 0] > 0, 42, 45)):
        iris = face.camera[:2, :3] @ vertices[disc & on_side].mean(axis=0) + face.camera[:2, 3]
        sides.append(labels.look(points[start][None], points[end][None], iris[None])[0])
    return np.array(sides)
