"""Busts to learn from: rendered people with hair, neck and glasses, and photographs with fitted faces.

Both are cut wider than the network's crops, so that a sample is one warp; their volumes are made when they are drawn.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.crop import crop_to_image, cut
from facet.tracker.morphable import load_face_model
from facet.tracker.pose import camera_from_pose, pose_from_camera, rotation_from_angles
from facet.tracker.types import Pose, Roi
from facet.tracker.volume import MIDDLE_MM, SIDE_MM, bust_roi, camera_in_crop
from facet.tracker.weights import find_entry, load_arrays
from tools.actor import Actor
from tools.data import material
from tools.data.crops import SIZE_PX
from tools.data.rendered import SHAPE_STD, random_expression, random_look
from tools.solids import ellipsoid
from tools.volume.solids import HeadShell

CUT_PX = 160
MARGIN = 1.3  # side of a cut / side of the cube
DRAWN_PX = 240  # drawn larger, then averaged
MOST_HAIR = 6  # ellipsoids
PIECE = 250  # people of one seed
MIN_CUT_PX = 90  # side of the cuts of `tools.data.crops`, px of the photograph
MIN_SHOWN, TURNED_DEG = 0.6, 30


@dataclass(frozen=True, slots=True, eq=False)
class Bust:
    """Somebody rendered, and all that is true of it."""

    image: np.ndarray  # (CUT_PX, CUT_PX, 3) uint8, BGR
    camera: np.ndarray  # (3, 4) float64, model mm -> cut px
    shape: np.ndarray  # (Ks,)
    expression: np.ndarray  # (Ke,)
    hair: np.ndarray  # (MOST_HAIR, 2, 3) middles and radii of ellipsoids, mm; NaN where there is none
    glasses: int  # 0 none, 1 glasses, 2 dark ones
    yaw_deg: float


def random_hair(rng: np.random.Generator) -> np.ndarray:
    """Short, long, bound or no hair, (MOST_HAIR, 2, 3)."""
    hair = np.full((MOST_HAIR, 2, 3), np.nan)
    if rng.random() < 0.12:
        return hair
    thick = rng.uniform(25, 45) if rng.random() < 0.12 else rng.uniform(3, 20)
    front, back = rng.uniform(72, 95), -96 - thick  # how far forward it reaches, which says where the hairline lies
    middle = (0, 48 + rng.normal(0, 2), (front + back) / 2)
    solids = [(middle, (81 + 0.8 * thick, 87 + thick, (front - back) / 2))]
    solids.append(((0, rng.uniform(-12, 5), -35), (70 + thick / 2, rng.uniform(50, 65), 58 + thick)))
    if rng.random() < 0.4:  # long
        length = rng.uniform(60, 130)
        for side in (-1, 1):
            middle = (side * rng.uniform(66, 82), rng.uniform(-60, 0), rng.uniform(-30, -5))
            solids.append((middle, (rng.uniform(18, 32), length, rng.uniform(40, 60))))
        solids.append(((0, rng.uniform(-60, 0), rng.uniform(-75, -55)), (rng.uniform(55, 75), length, 40)))
    elif rng.random() < 0.2:  # bound
        solids.append(((0, rng.uniform(20, 140), rng.uniform(-130, -95)), rng.uniform(25, 45, 3)))
    if rng.random() < 0.25:  # a fringe
        solids.append(((rng.uniform(-20, 20), rng.uniform(82, 98), 78), (62, 30, 28)))
    hair[: len(solids)] = solids
    return hair


def strands(rng: np.random.Generator, count: int, bgr) -> np.ndarray:
    """Colours (count, 3) of the points of an ellipsoid of `tools.actor`, lighter and darker from strand to strand."""
    around = 48
    light = np.exp(rng.uniform(0, 0.35) * rng.normal(size=around))
    rows = count // around
    fade = np.linspace(1, rng.uniform(0.6, 1.3), rows)
    return (fade[:, None] * light).reshape(-1, 1) * np.float32(bgr)


def random_angles(rng: np.random.Generator) -> tuple[float, float, float]:
    """Yaw, pitch, roll in degrees."""
    yaw = rng.normal(0, 20) if rng.random() < 0.5 else rng.uniform(-90, 90)
    pitch = rng.normal(0, 10) if rng.random() < 0.75 else rng.uniform(-40, 40)
    return float(yaw), float(pitch), float(rng.normal(0, 4))


def people(
    count: int, seed: int | tuple[int, int], grounds: Callable[[np.random.Generator], np.ndarray], most_yaw: float = 90
) -> Iterator[Bust]:
    """Draw people, each once.

    Parameters
    ----------
    grounds : gives something to stand before, (H, W, 3) uint8 of any size
    most_yaw : degrees
    """
    rng = np.random.default_rng(seed)
    model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
    texture = load_arrays(find_entry("weights/skin.npz", "skin").path)
    names, shell = list(model.expression_names), HeadShell(model)
    zoom = CUT_PX / (MARGIN * SIDE_MM)
    for _ in range(count):
        shape = (SHAPE_STD * rng.normal(size=model.shape_count)).astype(np.float32)
        expression = random_expression(rng, names)
        yaw, pitch, roll = random_angles(rng)
        yaw = float(np.clip(yaw, -most_yaw, most_yaw))
        camera = camera_from_pose(Pose(rotation_from_angles(yaw, pitch, roll), zoom, np.zeros(3), yaw, pitch, roll))
        camera = camera.astype(np.float64)
        camera[:2, 3] += CUT_PX / 2 - camera[:2, :3] @ MIDDLE_MM - camera[:2, 3]
        ground = cv2.resize(grounds(rng), (DRAWN_PX, DRAWN_PX))
        if rng.random() < 0.5:
            ground = cv2.GaussianBlur(ground, (0, 0), rng.uniform(1, 8))
        look, hair = random_look(rng, len(texture["modes"])), random_hair(rng)
        more = [(shell.points(model.vertices(shape, expression)), shell.skull, None)]
        for middle, radii in hair[np.isfinite(hair).all(axis=(1, 2))]:
            points, triangles = ellipsoid(middle, radii)
            more.append((points, triangles, strands(rng, len(points), look.hair_bgr)))
        actor = Actor(model, texture, shape, dataclasses.replace(look, hair=()), more)
        image = actor.draw(ground, camera * (DRAWN_PX / CUT_PX), expression)
        image = cv2.resize(cv2.GaussianBlur(image, (0, 0), 0.6), (CUT_PX, CUT_PX), interpolation=cv2.INTER_AREA)
        image = np.clip(image, 0, 255).astype(np.uint8)
        worn = 0 if look.glasses_bgr is None else 1 + look.dark_glasses
        yield Bust(image, camera, shape, expression, hair, worn, yaw)


def backgrounds(folder: Path) -> Callable[[np.random.Generator], np.ndarray]:
    """Parts of the photographs without a face that `tools.data.build faces` wrote."""
    images = np.memmap(folder / "backgrounds.u8", np.uint8, "r").reshape(-1, 256, 256, 3)

    def ground(rng: np.random.Generator) -> np.ndarray:
        side = int(rng.integers(80, 257))
        x, y = rng.integers(0, 257 - side, 2)
        return np.ascontiguousarray(images[rng.integers(len(images)), y : y + side, x : x + side])

    return ground


def make(out: Path, count: int, seed: int = 11, processes: int | None = None) -> None:
    """Write `busts.u8` (n, CUT_PX, CUT_PX, 3) uint8 BGR and `busts.npz`, all that is true of them, on all cores."""
    np.memmap(out / "busts.u8", np.uint8, "w+", shape=(count, CUT_PX, CUT_PX, 3))
    pieces = [(out, count, start, min(PIECE, count - start), (seed, start)) for start in range(0, count, PIECE)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.starmap(_make_piece, pieces, chunksize=1)
    np.savez(out / "busts.npz", **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _make_piece(out: Path, total: int, start: int, count: int, seed: tuple[int, int]) -> dict[str, np.ndarray]:
    """Draw some of the people of `make`; what it writes of them."""
    cv2.setNumThreads(1)
    images = np.memmap(out / "busts.u8", np.uint8, "r+", shape=(total, CUT_PX, CUT_PX, 3))
    drawn = list(people(count, seed, backgrounds(out)))
    images[start : start + count] = [bust.image for bust in drawn]
    return table_of(drawn)


def table_of(drawn: list[Bust]) -> dict[str, np.ndarray]:
    """The columns of `busts.npz`."""
    names = [field.name for field in dataclasses.fields(Bust) if field.name != "image"]
    table = {name: np.array([getattr(bust, name) for bust in drawn]) for name in names}
    return {name: column.astype(np.float32) if column.dtype == np.float64 else column for name, column in table.items()}


def make_photographs(data: Path, out: Path, most: int, seed: int = 12) -> None:
    """Write `bust_photographs.u8` and `.npz`: photographs cut about the heads of `tools.data.build fits`.

    Those that end close to the face are left out, turned faces are taken first, then others at random.
    """
    with np.load(data / "fits.npz") as fits, np.load(data / "faces.npz") as faces:
        camera, coefficients, error = fits["camera"][:, 0], fits["coefficients"][:, 0], fits["error"][:, 0]
        roi, row_of, held_out = faces["roi"], faces["photo"], faces["held_out"]
        yaw = faces["yaw_deg"]
    rng = np.random.default_rng(seed)
    good = np.flatnonzero((error < np.quantile(error, 0.9)) & (roi[:, 2] > MIN_CUT_PX))
    rng.shuffle(good)
    good = good[np.argsort(np.abs(yaw[good]) < TURNED_DEG, kind="stable")]
    images, cameras, chosen, photos = [], [], [], material.photos()
    for i in good:
        image = cv2.imread(str(material.folder() / "faces" / photos[row_of[i]].file))
        to_image = camera_in_image(camera[i], roi[i])
        wide = bust_roi(to_image, pose_from_camera(to_image.astype(np.float32)).roll_deg).zoomed(MARGIN)
        if shown_share(wide, image.shape) < MIN_SHOWN:
            continue
        images.append(cut(image, wide, CUT_PX)), chosen.append(i)
        cameras.append(camera_in_crop(to_image, wide, CUT_PX))
        if len(chosen) == most:
            break
    np.stack(images).tofile(out / "bust_photographs.u8")
    shapes = load_face_model(find_entry("weights/face_model.npz", "face_model").path).shape_count
    np.savez(
        out / "bust_photographs.npz", camera=np.float32(cameras), shape=coefficients[chosen, :shapes],
        expression=coefficients[chosen, shapes:], held_out=held_out[chosen], yaw_deg=yaw[chosen], face=chosen,
    )  # fmt: skip


def shown_share(roi: Roi, shape) -> float:
    """How much of a square, taken as unturned, lies in an image of this shape."""
    wide = min(roi.x + roi.size, shape[1]) - max(roi.x, 0)
    high = min(roi.y + roi.size, shape[0]) - max(roi.y, 0)
    return max(wide, 0) * max(high, 0) / roi.size**2


def camera_in_image(camera: np.ndarray, roi: np.ndarray) -> np.ndarray:
    """A camera of model mm -> px of a cut of `tools.data.crops`, as one to px of the photograph.

    Parameters
    ----------
    camera : (3, 4)
    roi : (4,) x, y, size, roll in degrees, as `faces.npz` has it
    """
    matrix = crop_to_image(Roi(*map(float, roi)), SIZE_PX)
    result = np.array(camera, np.float64)
    result[:2] = matrix[:, :2] @ result[:2]
    result[:2, 3] += matrix[:, 2]
    result[2] *= roi[2] / SIZE_PX
    return result
