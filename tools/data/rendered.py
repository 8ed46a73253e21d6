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
from tools import light
from tools.actor import Actor, Look
from tools.data import labels
from tools.data.crops import SIZE_PX
from tools.skin import Paint

# Sides of the drawn images, which are then averaged: faces of 150 px and more are drawn finer than the cut shows
# them, small ones are shrunk to their size in the photograph and enlarged again.
FINE_PX, DRAWN_PX = 400, 260
LARGE_SHARE, SMALL_SHARE = 0.4, 0.25
LARGE_FACE_PX, SMALL_FACE_PX = (150.0, 500.0), (24.0, 90.0)
JPEG_SHARE, JPEG_QUALITY = 0.4, (35, 96)
FACE_SHARE = 1 / 2.2  # of the picture's side, as the cut photographs have it
SHAPE_STD = 0.8
MASK_PX = 50  # side of the map that reports where the face is visible
PIECE = 1000  # pictures of one seed
SQUEEZED_SHARE = 0.4  # of shut eyes: with effort
PALSY_SHARE = 0.06
IRISES_BGR = ((22, 38, 62), (16, 26, 42), (30, 62, 92), (120, 92, 62), (96, 96, 84), (60, 92, 78))
# eyelids come apart from one another, for winks, and eyes look somewhere together
PLACED = ("eyeBlink", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeLookDown", "mouthClose")
# kinds of mouths: how far each move goes at full force
MOUTHS = {
    "open": {"jawOpen": (0.1, 1.0)},
    "smile": {"mouthSmile": (0.3, 1.0), "cheekSquint": (0.0, 0.6), "jawOpen": (-0.5, 0.4)},
    "wide": {
        "mouthStretch": (0.2, 1.0),
        "mouthSmile": (0.0, 0.6),
        "mouthLowerDown": (0.0, 0.8),
        "jawOpen": (-0.3, 0.4),
    },
    "rounded": {"mouthPucker": (0.2, 1.0), "mouthFunnel": (0.0, 0.9), "jawOpen": (-0.3, 0.35)},
    "pressed": {"mouthPress": (0.3, 1.0), "mouthRollLower": (0.0, 0.6), "mouthRollUpper": (0.0, 0.6)},
    "tight": {"mouthRollLower": (0.3, 1.0), "mouthRollUpper": (0.3, 1.0), "mouthShrugLower": (0.0, 0.6)},
    "shut_over_open_jaw": {"jawOpen": (0.1, 0.5), "mouthClose": (0.1, 0.6)},
    "teeth": {"mouthUpperUp": (0.2, 1.0), "mouthLowerDown": (0.2, 1.0), "jawOpen": (-0.3, 0.3)},
}
MOUTH_SHARES = (0.22, 0.14, 0.08, 0.13, 0.07, 0.06, 0.03, 0.05)
PAIRED = ("mouthSmile", "cheekSquint", "mouthStretch", "mouthLowerDown", "mouthUpperUp", "mouthPress")


def random_look(rng: np.random.Generator, modes: int) -> Look:
    """Somebody's skin, hair, eyes, teeth, glasses, and a light."""
    grey = np.exp(rng.normal(-0.15, 0.3))
    tone = grey * np.exp(rng.normal(0, 0.05, 3))
    dark = np.array([rng.uniform(8, 60)] * 3) * (1 + rng.uniform(0, 0.9) * np.array([-0.3, 0.1, 0.5]))
    fair = rng.uniform(60, 220) * np.array([0.75, 0.92, 1.0])
    hair_bgr = dark if rng.random() < 0.8 else fair
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
    outdoors = rng.random() < 0.6
    if outdoors:
        lights = light.load()
        around, tilt = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.15)
        turn = cv2.Rodrigues(np.array([0, around, 0.0]))[0] @ cv2.Rodrigues(np.array([tilt, 0, 0]))[0]
        place = light.turned(lights[rng.integers(len(lights))], turn)
        # cameras and eyes take most of a light's colour away
        place = place.mean(axis=1, keepdims=True) + rng.uniform(0, 0.5) * (place - place.mean(axis=1, keepdims=True))
        lamps = lamps[:1] if rng.random() < 0.6 else []
    return Look(
        skin=0.7 * rng.normal(size=modes),
        tone=tuple(tone),
        paint=random_paint(rng, hair_bgr),
        gloss=float(rng.uniform(0, 30)),
        hair=() if rng.random() < 0.08 else tuple(hair),
        hair_bgr=tuple(hair_bgr),
        cloth_bgr=tuple(rng.uniform(10, 235, 3)),
        iris_bgr=tuple(rng.uniform(0.5, 1.4) * rng.choice(IRISES_BGR) * np.exp(rng.normal(0, 0.2, 3))),
        sclera_bgr=tuple(rng.uniform(150, 225) * np.exp(rng.normal(0, 0.03, 3))),
        lashes=float(rng.uniform(0.2, 1.0)),
        mouth_bgr=tuple(rng.uniform(0.5, 2.0) * np.array([34, 30, 62])),
        tooth_bgr=tuple(rng.uniform(130, 235) * np.array([rng.uniform(0.7, 0.98), rng.uniform(0.92, 1.0), 1.0])),
        tongue=tuple(rng.uniform(0, 1, 2) ** 2 * (rng.random() < 0.5)),
        glasses_bgr=tuple(rng.uniform(5, 90, 3)) if rng.random() < 0.2 else None,
        dark_glasses=rng.random() < 0.2,
        lens=float(rng.uniform(0.05, 0.5)) if rng.random() < 0.5 else 0.0,
        ambient=1.0 if outdoors else rng.uniform(0.15, 0.6),
        lamps=tuple(lamps),
        light_bgr=tuple(np.exp(rng.normal(0, 0.06, 3))),
        place=place if outdoors else None,
        shadows=rng.random() < 0.5,
        exposure=float(np.clip(rng.normal(118, 30) * np.sqrt(grey), 40, 190)),
    )


def random_paint(rng: np.random.Generator, hair_bgr: np.ndarray) -> Paint:
    """Lips, brows, lids, beard and grain of a skin; made up or not."""
    made_up = rng.random() < 0.3
    lipstick = made_up and rng.random() < 0.7
    hue = np.array([rng.uniform(40, 100), rng.uniform(25, 90), rng.uniform(110, 200)])
    return Paint(
        lips_bgr=tuple(hue if lipstick else np.array([104, 98, 165]) * np.exp(rng.normal(0, 0.12, 3))),
        lips=float(rng.uniform(0.5, 0.95) if lipstick else rng.uniform(0, 0.6)),
        seam=float(rng.uniform(0.2, 0.8)),
        brows_bgr=tuple(hair_bgr * rng.uniform(0.6, 1.1)),
        brows=float(rng.uniform(0, 0.95)),
        lid_lines=float(rng.uniform(0.6, 1.0) if made_up else rng.uniform(0.1, 0.7)),
        shadow_bgr=tuple(rng.uniform(20, 140, 3)),
        shadow=float(rng.uniform(0.1, 0.7)) if made_up else 0.0,
        beard_bgr=tuple(hair_bgr),
        beard=float(rng.uniform(0.15, 0.9)) if not made_up and rng.random() < 0.25 else 0.0,
        grain=float(rng.uniform(0.01, 0.06)),
        seed=int(rng.integers(2**31)),
    )


def random_expression(rng: np.random.Generator, names: list[str]) -> np.ndarray:
    """Weights of the expressions (Ke,); what lids and mouths do is over-sampled, each side by itself."""
    weights = dict.fromkeys(names, 0.0)
    weights |= random_eyes(rng) | random_mouth(rng)
    # most people do little at once; mixtures teach to report one from the other
    most = rng.choice((4, 7, 15), p=(0.5, 0.4, 0.1))
    moves = sorted({name.removesuffix("_L").removesuffix("_R") for name in names if not name.startswith(PLACED)})
    count = int(rng.integers(0, most))
    for move in rng.choice(moves, count, replace=False):
        strength = rng.uniform(0, 1) * min(1.0, np.sqrt(4 / max(count, 1)))
        if move in names:
            weights |= {other_side(move): 0.0, move: strength}
            continue
        alike = rng.random() < 0.5
        weaker = 1.0 if alike else rng.choice((0.0, rng.uniform(0, 1)), p=(0.7, 0.3))
        stronger_side = rng.choice(("L", "R"))
        stronger = f"{move}_{stronger_side}"
        weights |= {stronger: strength, other_side(stronger): weaker * strength}
    for side in "LR":
        if weights[f"eyeBlink_{side}"] > 0.5 and rng.random() < SQUEEZED_SHARE:
            weights |= squeezed(rng, side)
    if rng.random() < PALSY_SHARE:
        palsied(rng, weights)
    possible(weights)
    return np.clip(np.array([weights[name] for name in names], np.float32), 0, 1)


def random_eyes(rng: np.random.Generator) -> dict[str, float]:
    """Where the eyes look, together or each by itself, and their lids: open, shut, half shut, squinting."""
    weights: dict[str, float] = {}
    if rng.random() < 0.65:
        together = rng.random() < 0.75  # each eye is to be read by itself
        both = rng.uniform(-1, 1, (2, 2)) * (rng.random((2, 2)) < 0.8)
        for side, (x, y) in zip("LR", both[[0, 0]] if together else both, strict=True):
            out = max(x if side == "L" else -x, 0.0), max(-x if side == "L" else x, 0.0)
            weights |= {f"eyeLookOut_{side}": out[0], f"eyeLookIn_{side}": out[1]}
            weights |= {f"eyeLookDown_{side}": max(y, 0.0), f"eyeLookUp_{side}": max(-y, 0.0)}
    lids = rng.random()
    one = rng.choice(["L", "R"])
    if lids < 0.22:
        weights |= {"eyeBlink_L": 1.0, "eyeBlink_R": 1.0}
    elif lids < 0.36:
        weights[f"eyeBlink_{one}"] = 1.0 if rng.random() < 0.7 else rng.uniform(0, 1)
    elif lids < 0.54:
        both = rng.uniform(0, 1)
        weights |= {f"eyeBlink_{side}": float(np.clip(both + rng.normal(0, 0.05), 0, 1)) for side in "LR"}
    elif lids < 0.68:  # squints, which are no blinks
        force = rng.uniform(0.2, 1)
        for side in "LR" if rng.random() < 0.5 else one:
            weights |= {f"eyeSquint_{side}": force, f"cheekSquint_{side}": force * rng.uniform(0, 1)}
            weights[f"eyeBlink_{side}"] = 0.4 * force * rng.uniform(0, 1)
    return weights


def random_mouth(rng: np.random.Generator) -> dict[str, float]:
    """Open, smiling, wide, rounded, pressed and tightly shut mouths; some do one of them with one side."""
    kind = rng.choice(("rest", *MOUTHS), p=(0.22, *MOUTH_SHARES))
    if kind == "rest":
        return {}
    force, single = rng.uniform(0.1, 1), rng.random()
    side = rng.choice(["L", "R"])
    weights: dict[str, float] = {}
    for move, (low, high) in MOUTHS[kind].items():
        value = force * rng.uniform(low, high)
        if move in PAIRED:
            # with one side, with one side less, or alike
            other = 0.0 if single < 0.25 else rng.uniform(0, 1) if single < 0.4 else np.exp(rng.normal(0, 0.08))
            weights |= {f"{move}_{side}": value, other_side(f"{move}_{side}"): value * other}
        else:
            weights[move] = value
    return weights


def squeezed(rng: np.random.Generator, side: str) -> dict[str, float]:
    """What the side of a face does whose eye is shut with effort, as in a wink."""
    force = rng.uniform(0.3, 1)
    moves = {"cheekSquint": 1.0, "eyeSquint": 0.5, "browDown": 0.8, "noseSneer": 0.6, "mouthSmile": 0.6}
    return {f"{move}_{side}": most * force * rng.uniform(0, 1) for move, most in moves.items()}


def palsied(rng: np.random.Generator, weights: dict[str, float]) -> None:
    """Make one side of the face weak or still, in place; the mouth is drawn to the other one."""
    side = rng.choice(["L", "R"])
    left = rng.uniform(0, 0.4) if rng.random() < 0.7 else 0.0
    for name in weights:
        if name.endswith(f"_{side}") and not name.startswith("eyeLook"):
            weights[name] *= left
    weights[f"mouth{'Right' if side == 'L' else 'Left'}"] = rng.uniform(0, 0.5)
    weights[f"mouth{'Left' if side == 'L' else 'Right'}"] = 0.0


def possible(weights: dict[str, float]) -> None:
    """Take back, in place, what no face does: lips that pass each other, lids that move on when they are shut."""
    weights["mouthClose"] = min(weights["mouthClose"], weights["jawOpen"])
    for side in "LR":
        opening = 1 - min(weights[f"eyeBlink_{side}"], 1.0)
        for name in ("eyeWide", "eyeLookUp", "eyeLookDown"):
            weights[f"{name}_{side}"] *= opening
        weights[f"eyeSquint_{side}"] = min(weights[f"eyeSquint_{side}"], 0.5 + 0.5 * opening)


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
    face_px: float  # longer side of the landmarks in the photograph from which the face could have been cut


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
    texture = load_arrays(find_entry("weights/skin.npz", "skin").path)
    names = list(model.expression_names)
    for _ in range(count):
        shape = (SHAPE_STD * rng.normal(size=model.shape_count)).astype(np.float32)
        expression = random_expression(rng, names)
        yaw, pitch, roll = random_angles(rng)
        pose = Pose(rotation_from_angles(yaw, pitch, roll), 1.0, np.zeros(3), yaw, pitch, roll)
        camera = framed(model, camera_from_pose(pose), shape, expression)
        face_px = random_size(rng)
        drawn_px = FINE_PX if face_px >= LARGE_FACE_PX[0] else DRAWN_PX
        ground = cv2.resize(grounds(rng), (drawn_px, drawn_px))
        if rng.random() < 0.5:
            ground = cv2.GaussianBlur(ground, (0, 0), rng.uniform(1, 8) * drawn_px / DRAWN_PX)
        actor = Actor(model, texture, shape, random_look(rng, len(texture["modes"])))
        picture, face, visible = actor.render(ground, camera * (drawn_px / SIZE_PX), expression)
        face = cv2.resize(face.astype(np.uint8) * 255, (MASK_PX, MASK_PX), interpolation=cv2.INTER_AREA)
        picture = photographed(rng, picture, face_px)
        landmarks = model.landmarks(camera, shape, expression)
        yield Rendered(picture, camera, shape, expression, landmarks, yaw, face, visible, face_px)


def random_size(rng: np.random.Generator) -> float:
    """How large a face is in its photograph, px."""
    kind = rng.random()
    between = SIZE_PX * FACE_SHARE, LARGE_FACE_PX[0]
    low, high = LARGE_FACE_PX if kind < LARGE_SHARE else SMALL_FACE_PX if kind > 1 - SMALL_SHARE else between
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def photographed(rng: np.random.Generator, drawn: np.ndarray, face_px: float) -> np.ndarray:
    """A drawn image (S, S, 3) as the cut from a photograph in which the face has so many px.

    Returns
    -------
    (SIZE_PX, SIZE_PX, 3) uint8
    """
    small = face_px < SIZE_PX * FACE_SHARE
    side = round(face_px / FACE_SHARE) if small else SIZE_PX
    blur = rng.uniform(0.3, 0.9) * len(drawn) / side * (0.6 if face_px > LARGE_FACE_PX[0] else 1.0)
    picture = cv2.resize(cv2.GaussianBlur(drawn, (0, 0), blur), (side, side), interpolation=cv2.INTER_AREA)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < JPEG_SHARE:
        quality = int(rng.integers(*JPEG_QUALITY))
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return cv2.resize(picture, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_LINEAR) if small else picture


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
            "face": face.face, "visible": np.packbits(face.visible), "face_px": face.face_px,
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
    """Where the right and the left eye look, (2, 2), as `labels.look` reports."""
    disc = np.isin(model.region, [model.region_names.index(name) for name in ("iris", "pupil")])
    vertices, points = model.vertices(face.shape, face.expression), face.landmarks[:, :2]
    sides = []
    for on_side, start, end in ((model.mean[:, 0] < 0, 36, 39), (model.mean[:, 0] > 0, 42, 45)):
        iris = face.camera[:2, :3] @ vertices[disc & on_side].mean(axis=0) + face.camera[:2, 3]
        sides.append(labels.look(points[start][None], points[end][None], iris[None])[0])
    return np.array(sides)
