"""Training samples of the autoencoder: crops as the tracker cuts them, and points where a network learns some."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from facet.tracker.errors import ConfigError
from tools.autoencoder.model import Net
from tools.data.augment import NOISE_SIDE, Crops, Sampler
from tools.data.crops import SIZE_PX
from tools.heatmaps.data import images_of, read, tracked_crop, warp
from tools.training import TrainingError
from tools.training import recipe as shared

# how often a photograph of a group is drawn, by their number; those of no group once
GROUP_WEIGHT = {"keypoints": 1.0, "unmasked": 1.0, "masked": 0.4, "portraits": 1.0, "street": 0.7, "crowds": 0.1}
LABELS = ("", "annotated", "anatomical")
OCCLUDED_SHARE = 0.2
FIRST_SHARE = 0.25  # of the samples that are placed as by a box, not by points
SYMMETRIC = 0.06  # mean distance of mirrored points from their partners / the face's size, above which none are paired


@dataclass(frozen=True, slots=True)
class Data:
    """The [data] of a recipe."""

    labels: str = ""  # points that are learnt: annotated, as of faces.npz, or anatomical; "" none
    annotated: int | None = None  # how many annotated images are used; without it all
    landmark_scale: float = 1.35  # side of the crops / longer side of the points' rectangle
    seed: int = 1  # which ones are chosen

    def __post_init__(self):
        if self.labels not in LABELS:
            raise ValueError(f"unknown labels {self.labels}; known: {', '.join(LABELS[1:])}")


@dataclass(frozen=True, slots=True)
class CriticSettings:
    """The [critic] of a recipe."""

    every: int = 0  # batches; 0 switches it off
    lr: float = 2e-4
    penalty: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Recipe(shared.Recipe):
    """A recipe of the autoencoder or of a landmark network on it."""

    net: Net
    data: Data = Data()
    critic: CriticSettings = field(default_factory=CriticSettings)

    def __post_init__(self):
        super().__post_init__()
        if bool(self.net.points) != bool(self.data.labels):
            raise ValueError("net.points and data.labels belong together; set both or neither")


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Cut faces and what is known of them; cut px."""

    images: np.ndarray  # (n, SIZE_PX, SIZE_PX, 3) uint8, BGR
    placing: np.ndarray  # (n, k, 2), the points whose rectangle places the crops
    points: np.ndarray  # (n, points, 2), NaN where unknown; of an autoencoder (n, 0, 2)
    weight: np.ndarray  # (n, points)
    depth: np.ndarray  # (n, points) px, NaN where unknown
    held_out: np.ndarray  # (n,) bool
    identity: np.ndarray  # (n,) str, "" where nobody knows
    group: np.ndarray  # (n,) str
    box: np.ndarray  # (3,) the rectangle of the points by that of the 68 landmarks, see `box_of`; NaN where unknown

    @property
    def labelled(self) -> np.ndarray:
        """(n,) bool, whether any point is known."""
        return np.isfinite(self.points[..., 0]).any(axis=1) if self.points.shape[1] else np.ones(len(self.points), bool)


def load(folder: Path, recipe: Recipe) -> Faces:
    """The faces of a folder that `tools.data.build` or `tools.data.own` wrote.

    Raises
    ------
    TrainingError
        If a file is missing, or has another number of points than the recipe.
    """
    anatomical = recipe.data.labels == "anatomical"
    for name in ("faces", "anatomical") if anatomical else ("faces",):
        if not (folder / f"{name}.npz").exists():
            raise TrainingError(f"{folder}: expected {name}.npz, found none; run python -m tools.data.build {name}")
    table = read(folder / "faces.npz")
    count = len(table["held_out"])
    points, weight = np.zeros((count, 0, 2), np.float32), np.zeros((count, 0), np.float32)
    depth = weight
    if anatomical:
        known = read(folder / "anatomical.npz")
        points, weight, depth = known["points"], known["weight"], known["depth"]
    elif recipe.data.labels:
        points = table["annotated"]
        weight = np.isfinite(points[..., 0]).astype(np.float32)
        depth = np.full(weight.shape, np.nan, np.float32)
    if points.shape[1] != recipe.net.points:
        raise TrainingError(
            f"{folder}: expected {recipe.net.points} points a face, found {points.shape[1]}; "
            f"use --set net.points={points.shape[1]}"
        )
    images, placing = images_of(folder / "faces.u8", SIZE_PX), table.get("points", table["annotated"])
    group = table.get("group", np.full(count, ""))
    box = table.get("box", np.array([0.0, 0.0, 1.0]))
    return Faces(images, placing, points, weight, depth, table["held_out"], table["identity"], group, box)


def box_of(points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Where the rectangle of points (n, 2) lies by that of the 68 landmarks: (3,) shift of its middle in shares of the
    longer side of theirs, and its longer side / theirs."""
    (low, high), (their_low, their_high) = ((p.min(axis=0), p.max(axis=0)) for p in (points, landmarks[:, :2]))
    size = (their_high - their_low).max()
    return np.array([*((low + high - their_low - their_high) / 2 / size), (high - low).max() / size])


def training_rows(faces: Faces, recipe: Recipe) -> np.ndarray:
    """The rows that are trained on: of `data.annotated` labelled images, of as many people as there are.

    In a random order of people that the seed gives, one image of each, then a second one, and so on: so 10 images are
    among the 50.

    Raises
    ------
    ConfigError
        If the recipe asks for none, or for more than there are.
    """
    rows = np.flatnonzero(~faces.held_out & faces.labelled)
    wanted = recipe.data.annotated
    if wanted is None:
        return rows
    if not 1 <= wanted <= len(rows):
        raise ConfigError(f"data.annotated: expected 1 to {len(rows)} annotated images, found {wanted}")
    rng = np.random.default_rng(recipe.data.seed)
    rows = rng.permutation(rows)
    people = [name or f"#{row}" for name, row in zip(faces.identity[rows], rows, strict=True)]
    turn, counts = [], {}
    for name in people:
        turn.append(counts.get(name, 0))
        counts[name] = turn[-1] + 1
    return rows[np.argsort(turn, kind="stable")][:wanted]


def partners(points: np.ndarray) -> np.ndarray | None:
    """Which point of a mirrored face is which: (points,) int, or None where the points are not symmetric.

    `points` : (n, points, 2) of upright faces, NaN where unknown
    """
    with np.errstate(invalid="ignore"):
        sizes = np.nanmax(points, axis=1) - np.nanmin(points, axis=1)
    middle = np.nanmean(points, axis=1, keepdims=True)
    mean = np.nanmean((points - middle) / np.sqrt(sizes.prod(axis=1))[:, None, None], axis=0)
    if not np.isfinite(mean).all():
        return None
    distance = np.linalg.norm((mean * (-1, 1))[:, None] - mean[None], axis=2)
    own, other = linear_sum_assignment(distance**2)
    paired = distance[own, other].mean() < SYMMETRIC and (other[other] == own).all()
    return other if paired else None


class Feed:
    """Batches by number; see `FaceSampler`."""

    def __init__(self, recipe: Recipe, folder: Path):
        faces = load(folder, recipe)
        self._sampler = FaceSampler(folder, faces, training_rows(faces, recipe), recipe)
        self._count = recipe.train.batch

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        return self._sampler.batch(self._count, number)


class FaceSampler(Sampler):
    """Draws batches: a dict of arrays, lengths in shares of the crop's side.

    images (B, S, S, 3) uint8, BGR; of a landmark network also points (B, points, 2), weight (B, points), depth
    (B, points), NaN where unknown.
    """

    def __init__(self, folder: Path, faces: Faces, rows: np.ndarray, recipe: Recipe):
        self.faces, self.rows = faces, rows
        weight = np.array([GROUP_WEIGHT.get(group, 1.0) for group in faces.group[rows]])
        self.draws = weight / weight.sum()
        self.learns_points = recipe.net.points > 0
        scale, first = recipe.data.landmark_scale, FIRST_SHARE if self.learns_points else 0.0
        self.spec = Crops(recipe.net.size_px, scale, box_scale=scale, box_share=first)
        self.partners = partners(faces.points[rows].astype(np.float64)) if self.learns_points else None
        self.seed, self.rng = recipe.train.seed, np.random.default_rng(recipe.train.seed)
        self.noise = self.rng.standard_normal((NOISE_SIDE, NOISE_SIDE, 3)).astype(np.float32)
        self.backgrounds = images_of(folder / "backgrounds.u8", 256)

    def batch(self, count: int, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of `count` samples, made from the seed and its number alone."""
        self.rng = np.random.default_rng((self.seed, number))
        samples = [self._sample() for _ in range(count)]
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _sample(self) -> dict[str, np.ndarray]:
        rng, size, faces = self.rng, self.spec.size_px, self.faces
        row = int(rng.choice(self.rows, p=self.draws))
        flip = rng.random() < 0.5 and not (self.learns_points and self.partners is None)
        placing = faces.placing[row].astype(np.float64)
        placing = placing[np.isfinite(placing).all(axis=1)]
        if flip:
            placing = placing * (-1, 1) + (SIZE_PX, 0)
        self.points = placing[None], placing[None]
        affine = self._placement(0, False, False)[0].astype(np.float64)
        crop = warp(faces.images[row], affine, size, SIZE_PX if flip else 0)
        if not self.learns_points:
            return {"images": crop}
        points, weight, depth = faces.points[row].astype(np.float64), faces.weight[row], faces.depth[row]
        if flip:
            points = (points * (-1, 1) + (SIZE_PX, 0))[self.partners]
            weight, depth = weight[self.partners], depth[self.partners]
        placed = (points @ affine[:, :2].T + affine[:, 2]) / size
        inside = (placed > 0) & (placed < 1)
        if rng.random() < OCCLUDED_SHARE:
            fill, mask = self._occluder(crop)
            crop = crop.copy()
            cv2.copyTo(fill, mask, crop)
        zoom = np.sqrt(np.abs(np.linalg.det(affine[:, :2]))) / size
        return {
            "images": self._spoil(crop, self._look()),
            "points": np.nan_to_num(placed).astype(np.float32),
            "weight": (weight * inside.all(axis=1)).astype(np.float32),
            "depth": (depth * zoom).astype(np.float32),
        }


def held_out_crops(faces: Faces, recipe: Recipe, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops (n, S, S, 3) of at most so many labelled held-out faces, as tracking places them; their points, crop px."""
    rows = np.flatnonzero(faces.held_out & faces.labelled)
    rows = np.random.default_rng(7).permutation(rows)[:most]
    size, crops, points = recipe.net.size_px, [], []
    rng = np.random.default_rng(5)
    for row in rows:
        placing = faces.placing[row].astype(np.float64)
        placing = placing[np.isfinite(placing).all(axis=1)]
        off = placing + rng.normal(0, 0.015, 2) * np.ptp(placing, axis=0).max()
        crop, affine = tracked_crop(faces.images[row], off, size, recipe.data.landmark_scale)
        crops.append(crop)
        points.append(faces.points[row] @ affine[:, :2].T + affine[:, 2])
    if not crops:
        return np.zeros((0, size, size, 3), np.uint8), np.zeros((0, recipe.net.points, 2))
    return np.stack(crops), np.stack(points)
