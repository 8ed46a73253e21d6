"""Training samples of the volume network: crops as the tool cuts them, and what fills some of their columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.mirror import MIRROR_68
from facet.tracker.morphable import load_face_model
from facet.tracker.volume import grid_from_model, guide
from facet.tracker.weights import find_entry
from tools.data.augment import NOISE_SIDE, Sampler
from tools.heatmaps.data import images_of, read, warp
from tools.training import TrainingError
from tools.training import recipe as shared
from tools.volume.busts import CUT_PX, MARGIN, MOST_HAIR
from tools.volume.model import Net
from tools.volume.solids import HeadShell, Solid, bust, fill_columns, join

SOURCES = ("rendered", "photographs")
UNKNOWN = 255  # of a voxel: nobody knows whether it is inside
HELD_OUT_RENDERED = 300  # the last of them only judge
OCCLUDED_SHARE = 0.2
GUIDE_ERROR = 0.015  # of the landmarks that guide, in shares of the crop's side
COLUMNS = 512
BARE_MM = 75.0  # higher on the forehead hair may lie before a fitted face
CROPPED_SHARE = 0.15  # of rendered images: end close to the head
CANDIDATES = 3  # columns of photographs that are tried for one


@dataclass(frozen=True, slots=True)
class Data:
    """The [data] of a recipe."""

    shares: dict[str, float] = field(default_factory=dict)  # of the samples, by SOURCES

    def __post_init__(self):
        shared.check_shares(self.shares, SOURCES)


@dataclass(frozen=True, kw_only=True)
class Recipe(shared.Recipe):
    """A recipe of a volume network."""

    net: Net
    data: Data


class Feed:
    """Batches by number; see `VolumeSampler`."""

    def __init__(self, recipe: Recipe, folder: Path):
        self._sampler = VolumeSampler(folder, recipe)
        self._count = recipe.train.batch

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        return self._sampler.batch(self._count, number)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Cut heads with what is known of them."""

    images: np.ndarray  # (n, CUT_PX, CUT_PX, 3) uint8, BGR
    table: dict[str, np.ndarray]  # camera, shape, expression, hair, glasses
    rows: np.ndarray  # those that may be trained on
    whole: bool  # whether all of the head is known; otherwise only what lies at and behind the visible face


def sources(folder: Path, names) -> dict[str, Source]:
    """What `tools.data.build busts` made, of SOURCES.

    Raises
    ------
    TrainingError
        If a file is missing.
    """
    found = {}
    for name in names:
        file, step = ("busts", "busts") if name == "rendered" else ("bust_photographs", "fits` and `busts")
        if not (folder / f"{file}.npz").exists():
            raise TrainingError(f"{folder}: expected {file}.npz, found none; run `python -m tools.data.build {step}`")
        table, images = read(folder / f"{file}.npz"), images_of(folder / f"{file}.u8", CUT_PX)
        count = len(table["camera"])
        if name == "rendered":
            rows = np.arange(count - min(HELD_OUT_RENDERED, count // 4))
        else:
            rows = np.flatnonzero(~table["held_out"])
            table |= {"hair": np.full((count, MOST_HAIR, 2, 3), np.nan), "glasses": np.zeros(count, int)}
        found[name] = Source(images, table, rows, whole=name == "rendered")
    return found


class People:
    """The solids of the busts of a `Source`."""

    def __init__(self):
        self.model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
        self.shell = HeadShell(self.model)
        heights = self.shell.points(self.model.mean)[self.shell.triangles, 1]
        self.bare = self.shell.of_face & (heights < BARE_MM).all(axis=1)  # triangles that photographs show

    def solids(self, source: Source, row: int) -> list[Solid]:
        """Of one head; of a photograph the head alone."""
        shape, expression = source.table["shape"][row], source.table["expression"][row]
        if not source.whole:
            return [Solid(self.shell.points(self.model.vertices(shape, expression)), self.shell.triangles, "head")]
        hair, worn = source.table["hair"][row], int(source.table["glasses"][row])
        return bust(self.model, self.shell, shape, expression, hair, worn)

    def landmarks(self, source: Source, row: int, camera: np.ndarray) -> np.ndarray:
        """(68, 2) px."""
        table = source.table
        camera = np.ascontiguousarray(camera, np.float32)
        return self.model.landmarks(camera, table["shape"][row], table["expression"][row])[:, :2]


class VolumeSampler(Sampler):
    """Draws batches: a dict of arrays.

    images (B, S, S, 3 or more) uint8, BGR; cells (B, COLUMNS) int32, row * S + column; cover (B, COLUMNS, slices)
    uint8, 0 to COVERED or UNKNOWN; points (B, 68, 2) float32, shares of the crop's side, where the network needs them.
    """

    def __init__(self, data: Path, recipe: Recipe):
        shares = recipe.data.shares
        self.sources = list(sources(data, tuple(shares)).values())
        self.shares = np.array(list(shares.values())) / sum(shares.values())
        self.net, self.people = recipe.net, People()
        self.seed, self.rng = recipe.train.seed, np.random.default_rng(recipe.train.seed)
        self.noise = self.rng.standard_normal((NOISE_SIDE, NOISE_SIDE, 3)).astype(np.float32)
        self.backgrounds = images_of(data / "backgrounds.u8", 256)
        self.spec = recipe.net  # of which the common steps read size_px

    def batch(self, count: int, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of `count` samples, made from the seed and its number alone."""
        self.rng = np.random.default_rng((self.seed, number))
        samples = [self._sample() for _ in range(count)]
        return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _sample(self) -> dict[str, np.ndarray]:
        rng, size = self.rng, self.net.size_px
        source = self.sources[rng.choice(len(self.sources), p=self.shares)]
        row = int(rng.choice(source.rows))
        affine = placement(size, rng)
        camera = moved(source.table["camera"][row], affine)
        crop = warp(source.images[row], affine, size)
        cells, cover = self._columns(source, row, camera)
        sample = {}
        if self.net.guided or self.net.landmarks:
            sample["points"] = (self.people.landmarks(source, row, camera) / size).astype(np.float32)
        if source.whole and rng.random() < CROPPED_SHARE:
            crop = cropped(crop, rng)
        if rng.random() < OCCLUDED_SHARE:
            fill, mask = self._occluder(crop)
            crop = crop.copy()
            cv2.copyTo(fill, mask, crop)
        crop = self._spoil(crop, self._look())
        if rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
            cells = cells // size * size + size - 1 - cells % size
            sample = {
                name: (points * (-1, 1) + (1, 0))[MIRROR_68].astype(np.float32) for name, points in sample.items()
            }
        if self.net.guided:
            points = sample["points"]
            off = points + rng.normal(0, GUIDE_ERROR, 2) + rng.normal(0, GUIDE_ERROR / 3, points.shape)
            crop = guide(crop, off * size)
        return sample | {"images": crop, "cells": cells, "cover": cover}

    def _columns(self, source: Source, row: int, camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Some columns, (COLUMNS,), and what fills them, (COLUMNS, slices); half are there for what they hold."""
        rng, size, half = self.rng, self.net.size_px, COLUMNS // 2
        shape = self.net.slices, size, size
        grid = grid_from_model(camera, size, self.net.slices)
        points, triangles = join(self.people.solids(source, row))
        points = points @ grid[:, :3].T + grid[:, 3]
        if source.whole:
            cells = rng.choice(size * size, min(3 * half, size * size), replace=False).astype(np.int32)
            cover = fill_columns(points, triangles, shape, cells).cover
            filled = half + np.flatnonzero(cover[half:].any(axis=1))
            more = rng.choice(filled, half, replace=len(filled) < half) if len(filled) else np.arange(half)
            kept = np.concatenate([np.arange(half), more])
            return cells[kept], cover[kept]
        low, high = np.clip(np.percentile(points[:, :2], (2, 98), axis=0), 0, size - 1).astype(int)
        x, y = (rng.integers(low[k], high[k] + 1, CANDIDATES * COLUMNS) for k in range(2))
        cells = np.unique(y * size + x).astype(np.int32)
        cover, known = seen_face(points, triangles, self.people.bare, shape, cells)
        known = np.flatnonzero(known)
        if not len(known):  # a face outside the crop
            return np.zeros(COLUMNS, np.int32), np.full((COLUMNS, shape[0]), UNKNOWN, np.uint8)
        kept = rng.choice(known, COLUMNS, replace=len(known) < COLUMNS)
        return cells[kept], cover[kept]


def seen_face(points, triangles, of_face, shape, cells) -> tuple[np.ndarray, np.ndarray]:
    """What a fitted head says: nothing lies before the face, it is inside behind it, and the rest is unknown.

    Returns
    -------
    cover (n, slices) uint8, and which columns show the face, (n,) bool
    """
    filled = fill_columns(points, triangles, shape, cells)
    known = (filled.owner >= 0) & of_face[filled.owner]
    hidden = np.arange(shape[0]) + 1 <= np.where(known, filled.behind, shape[0])[:, None]
    return np.where(hidden, np.uint8(UNKNOWN), filled.cover), known


def cropped(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crop of an image that ended somewhere in it: black beyond."""
    size = len(crop)
    x0, y0, x1, y1 = (rng.uniform(0, 0.25, 4) * (rng.random(4) < 0.5) * size).astype(int)
    result = np.zeros_like(crop)
    result[y0 : size - y1, x0 : size - x1] = crop[y0 : size - y1, x0 : size - x1]
    return result


def placement(size: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The map (2, 3) of cut px to crop px; with `rng` off by as much as a tracker may be."""
    zoom, angle, shift = size * MARGIN / CUT_PX, 0.0, np.zeros(2)
    if rng is not None:
        zoom *= np.exp(rng.normal(0, 0.06))
        angle = np.radians(rng.normal(0, 5))
        shift = rng.normal(0, 0.03, 2) * size
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, size / 2 + shift - turn @ (CUT_PX / 2, CUT_PX / 2)])


def moved(camera: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """A camera (3, 4) after a map (2, 3) of the image; depth keeps the scale of x."""
    result = np.array(camera, np.float64)
    result[:2] = affine[:, :2] @ result[:2]
    result[:2, 3] += affine[:, 2]
    result[2] *= np.sqrt(np.linalg.det(affine[:, :2]))
    return result
