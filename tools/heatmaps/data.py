"""Training samples of the heatmap aligner: crops as the tracker cuts them, and 87 points with all that is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from tools.data import anatomical
from tools.data.anatomical import MIRROR, PORTRAIT_PX, Points
from tools.data.augment import NOISE_SIDE, Crops, Sampler
from tools.data.crops import SIZE_PX
from tools.heatmaps.model import Net
from tools.training import TrainingError
from tools.training import recipe as shared

# how often a photograph of a group is drawn, by their number
GROUP_WEIGHT = {"keypoints": 1.0, "unmasked": 1.0, "masked": 0.4, "portraits": 1.5, "street": 0.7, "crowds": 0.1}
SHUT_WEIGHT, WINK_WEIGHT, OPEN_WEIGHT, TURNED_WEIGHT = 1.5, 2.0, 1.5, 1.0
ASIDE, ASIDE_WEIGHT = 0.15, 2.0  # irises so far from the middle of an eye, in parts of its width
OPEN_LIPS = 0.08  # of the outer eye distance: mouths at least so open are drawn more often
HELD_OUT_RENDERED = 500  # the last of them only judge
OCCLUDED_SHARE = 0.35
HIDDEN_WEIGHT = 0.3  # of the place of a point that an occluder hides
UNKNOWN = 2  # in the map of the visible face


SOURCES = ("photographs", "portraits", "turned", "rendered")


@dataclass(frozen=True, slots=True)
class Data:
    """The [data] of a recipe."""

    landmark_scale: float = 1.35  # side of the crops / longer side of the 68 points' rectangle
    shares: dict[str, float] = field(default_factory=dict)  # of the samples, by SOURCES

    def __post_init__(self):
        shared.check_shares(self.shares, SOURCES)


@dataclass(frozen=True, kw_only=True)
class Recipe(shared.Recipe):
    """A recipe of a heatmap aligner."""

    net: Net
    data: Data


class Feed:
    """Batches by number; see `HeatmapSampler`."""

    def __init__(self, recipe: Recipe, folder: Path):
        self._sampler = HeatmapSampler(folder, recipe)
        self._count = recipe.train.batch

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        return self._sampler.batch(self._count, number)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Cut faces of one size with their labels."""

    images: np.ndarray  # (n, S, S, 3) uint8, BGR
    known: Points
    face: np.ndarray | None  # (n, m, m) uint8, how much of each cell shows the face; None where nobody knows
    rows: np.ndarray  # those that may be trained on
    weight: np.ndarray  # how often each of these is drawn


def images_of(path: Path, size: int) -> np.ndarray:
    """(n, size, size, 3) uint8 of a file of cuts."""
    return np.memmap(path, np.uint8, "r").reshape(-1, size, size, 3)


def read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def sources(data: Path, names) -> dict[str, Source]:
    """What `tools.data.build` made, of SOURCES.

    Raises
    ------
    TrainingError
        If a file is missing.
    """
    for name in ("faces", "anatomical", *(name for name in names if name in ("turned", "rendered"))):
        if not (data / f"{name}.npz").exists():
            raise TrainingError(f"{data}: expected {name}.npz, found none; run python -m tools.data.build {name}")
    table, known = read(data / "faces.npz"), Points(**read(data / "anatomical.npz"))
    found = {"photographs": photographs(data, table, known)}
    portraits = Points(**read(data / "portraits.npz"))
    count = len(portraits.points)
    images = images_of(data / "portraits.u8", PORTRAIT_PX)
    found["portraits"] = Source(images, portraits, None, np.arange(count), np.ones(count))
    if "turned" in names:
        moved = anatomical.turned(read(data / "turned.npz"), read(data / "fits.npz"), known)
        count = len(moved.points)
        images = images_of(data / "turned.u8", SIZE_PX)
        found["turned"] = Source(images, moved, None, np.arange(count), np.ones(count))
    if "rendered" in names:
        table = read(data / "rendered.npz")
        rows = np.arange(len(table["yaw_deg"]) - HELD_OUT_RENDERED)
        images = images_of(data / "rendered.u8", SIZE_PX)
        exact = anatomical.rendered(table)
        found["rendered"] = Source(images, exact, table["face"], rows, np.ones(len(rows)))
    return {name: found[name] for name in names}


def photographs(data: Path, table: dict, known: Points) -> Source:
    """The cut photographs, those more often that show what is rare."""
    rows = np.flatnonzero(~table["held_out"])
    weight = np.array([GROUP_WEIGHT[group] for group in table["group"]]) * known.weight[:, 17:68].mean(axis=1)
    shut = np.nan_to_num(table["blink"])
    aside = np.abs(np.nan_to_num(table["gaze"][..., 0])).max(axis=1) > ASIDE
    eye = np.linalg.norm(known.points[:, 36] - known.points[:, 45], axis=1)
    gap = np.linalg.norm(known.points[:, 62] - known.points[:, 66], axis=1) / eye
    weight = weight * (1 + SHUT_WEIGHT * shut.max(axis=1) + WINK_WEIGHT * np.ptp(shut, axis=1))
    weight = weight * (1 + OPEN_WEIGHT * (gap > OPEN_LIPS)) * (1 + TURNED_WEIGHT * (np.abs(table["yaw_deg"]) > 30))
    weight = weight * (1 + ASIDE_WEIGHT * aside)
    return Source(images_of(data / "faces.u8", SIZE_PX), known, None, rows, weight[rows])


class HeatmapSampler(Sampler):
    """Draws batches: a dict of arrays, lengths in shares of the crop's side.

    images (B, S, S, 3) uint8, BGR; points (B, 87, 2); weight (B, 87); depth and visible (B, 87), NaN where unknown;
    face (B, S / 4, S / 4) uint8, 1 where the face is visible, UNKNOWN where nobody knows.
    """

    def __init__(self, data: Path, recipe: Recipe):
        shares = recipe.data.shares
        self.sources = list(sources(data, tuple(shares)).values())
        self.shares = np.array(list(shares.values())) / sum(shares.values())
        self.spec = Crops(recipe.net.size_px, recipe.data.landmark_scale, box_share=0.0)
        self.seed, self.rng = recipe.train.seed, np.random.default_rng(recipe.train.seed)
        self.noise = self.rng.standard_normal((NOISE_SIDE, NOISE_SIDE, 3)).astype(np.float32)
        self.backgrounds = images_of(data / "backgrounds.u8", 256)
        self.draws = [source.weight / source.weight.sum() for source in self.sources]

    def batch(self, count: int, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of `count` samples, made from the seed and its number alone."""
        self.rng = np.random.default_rng((self.seed, number))
        samples = [self._sample() for _ in range(count)]
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _sample(self) -> dict[str, np.ndarray]:
        rng, size = self.rng, self.spec.size_px
        part = rng.choice(len(self.sources), p=self.shares)
        source = self.sources[part]
        row = int(rng.choice(source.rows, p=self.draws[part]))
        flip = rng.random() < 0.5
        side = source.images.shape[1]
        points = source.known.points[row].astype(np.float64)
        values = {name: getattr(source.known, name)[row] for name in ("weight", "depth", "visible")}
        if flip:
            points = anatomical.mirrored(points[None], side)[0]
            values = {name: value[MIRROR] for name, value in values.items()}
        self.points = points[None, :68], points[None, :68]
        affine, _ = self._placement(0, False, False)
        affine = affine.astype(np.float64)
        crop = warp(source.images[row], affine, size, side if flip else 0)
        placed = (points @ affine[:, :2].T + affine[:, 2]) / size
        weight = values["weight"] * ((placed > 0) & (placed < 1)).all(axis=1)
        zoom = np.sqrt(np.abs(np.linalg.det(affine[:, :2]))) / size
        visible = values["visible"].copy()
        cells = size // 4
        face = np.full((cells, cells), UNKNOWN, np.uint8)
        if source.face is not None:
            shown = source.face[row]
            to_cells = affine * (cells / size)
            to_cells[:, :2] *= side / len(shown)
            shown = warp(shown, to_cells, cells, len(shown) if flip else 0)
            face = (shown > 127).astype(np.uint8)
        if rng.random() < OCCLUDED_SHARE:
            fill, mask = self._occluder(crop)
            crop = crop.copy()
            cv2.copyTo(fill, mask, crop)
            covered = cv2.resize(mask, (cells, cells), interpolation=cv2.INTER_AREA) > 127
            face[covered] = 0
            x, y = np.clip((placed * size).astype(int), 0, size - 1).T
            hidden = mask[y, x] > 0
            visible[hidden] = 0
            weight = weight * np.where(hidden, HIDDEN_WEIGHT, 1)
        return {
            "images": self._spoil(crop, self._look()),
            "points": placed.astype(np.float32),
            "weight": weight.astype(np.float32),
            "depth": (values["depth"] * zoom).astype(np.float32),
            "visible": visible.astype(np.float32),
            "face": face,
        }


def warp(image: np.ndarray, affine: np.ndarray, size: int, flipped: int = 0) -> np.ndarray:
    """Cut an image by a map (2, 3) of corner coordinates into (size, size); averaged where it shrinks much.

    `flipped` : the image's side where the map is that of its mirror image, else 0
    """
    matrix = affine.copy()
    if flipped:
        matrix = matrix @ np.array([[-1.0, 0, flipped], [0, 1, 0], [0, 0, 1]])
    zoom = np.sqrt(np.abs(np.linalg.det(matrix[:, :2])))
    if zoom < 0.6:
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        matrix[:, :2] *= 2
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)


def tracked_crop(image: np.ndarray, points: np.ndarray, size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The crop (size, size, 3) that tracking places by (n, 2) points of an upright face, and the map (2, 3) to it."""
    low, high = points.min(axis=0), points.max(axis=0)
    zoom = size / (scale * (high - low).max())
    affine = np.column_stack([np.eye(2) * zoom, size / 2 - zoom * (low + high) / 2])
    return warp(image, affine, size), affine
