"""Held-out heads, on which a training judges its network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from facet.tracker.volume import SIDE_MM, grid_from_model, guide
from tools.heatmaps.data import warp
from tools.volume.data import HELD_OUT_RENDERED, People, Recipe, Source, moved, placement, seen_face, sources
from tools.volume.model import columns
from tools.volume.solids import COVERED, fill_columns, join

COUNT, COLUMNS = 64, 2048
AT_ONCE = 16


class Validation:
    """Figures of a network; see `__call__`."""

    def __init__(self, recipe: Recipe, folder: Path):
        self._recipe, self._folder = recipe, folder
        self._parts: dict | None = None

    @torch.no_grad()
    def __call__(self, net: torch.nn.Module) -> dict[str, float]:
        """The figures.

        Returns
        -------
        iou : intersection over union of voxels, of rendered busts
        front, face : mean distance of the front along z, mm, of rendered busts and of the faces of photographs
        """
        if self._parts is None:
            self._parts = self._prepare()
        figures, size, slices = {}, self._recipe.net.size_px, self._recipe.net.slices
        device = next(net.parameters()).device
        for name, (images, cells, inside, front) in self._parts.items():
            found = []
            for i in range(0, len(images), AT_ONCE):
                part = slice(i, i + AT_ONCE)
                logits = net(torch.from_numpy(images[part]).to(device))["logits"][:, -1].float()
                found.append(columns(logits, torch.from_numpy(cells[part]).to(device), size).cpu().numpy())
            predicted = np.concatenate(found) > 0
            if name == "rendered":
                figures["iou"] = float((predicted & inside).sum() / (predicted | inside).sum())
            last = slices - np.argmax(predicted[..., ::-1], axis=2)
            both = predicted.any(axis=2) & np.isfinite(front)
            error = np.abs(last - front)[both].mean() * SIDE_MM / slices if both.any() else np.nan
            figures["front" if name == "rendered" else "face"] = float(error)
        return figures

    def _prepare(self) -> dict[str, tuple]:
        rng, people, parts = np.random.default_rng(0), People(), {}
        for name, source in sources(self._folder, tuple(self._recipe.data.shares)).items():
            count = len(source.images)
            rows = np.setdiff1d(np.arange(count), source.rows)[-HELD_OUT_RENDERED:][:COUNT]
            if len(rows):
                found = [self._head(people, source, int(row), rng) for row in rows]
                parts[name] = tuple(np.stack(column) for column in zip(*found, strict=True))
        return parts

    def _head(self, people: People, source: Source, row: int, rng) -> tuple:
        """Crop, cells, what is inside, and where the front is, of one head."""
        net = self._recipe.net
        size, shape = net.size_px, (net.slices, net.size_px, net.size_px)
        affine = placement(size)
        camera = moved(source.table["camera"][row], affine)
        crop = warp(source.images[row], affine, size)
        if net.guided:
            crop = guide(crop, people.landmarks(source, row, camera))
        grid = grid_from_model(camera, size, net.slices)
        points, triangles = join(people.solids(source, row))
        points = points @ grid[:, :3].T + grid[:, 3]
        cells = rng.choice(size * size, min(COLUMNS, size * size), replace=False).astype(np.int32)
        filled = fill_columns(points, triangles, shape, cells)
        front = filled.front
        if not source.whole:
            _, known = seen_face(points, triangles, people.bare, shape, cells)
            front = np.where(known, front, np.nan)
        return crop, cells, filled.cover > COVERED / 2, front
