"""Held-out faces as crops, on which a training judges its aligner."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from facet.tracker.crop import cut
from tools.data import anatomical, convention, material
from tools.data.anatomical import IRISES, JAW, PORTRAIT_PX
from tools.data.crops import SIZE_PX, to_crop, upright_roi
from tools.heatmaps.data import HELD_OUT_RENDERED, Recipe, images_of, read, tracked_crop
from tools.heatmaps.model import Aligner

PLACING = 0.02  # by how much points that place crops are off, in shares of the face's longer side
AT_ONCE = 64
RENDERED = 150  # of the held-out ones, which suffice to watch a training


class Crops:
    """Crops (n, S, S, 3) uint8 and the maps (n, 2, 3) from cut px to them."""

    def __init__(self, images, points: np.ndarray, recipe: Recipe, seed: int = 0):
        rng = np.random.default_rng(seed)
        size, pairs = recipe.net.size_px, []
        for image, face in zip(images, points[:, :68].astype(np.float64), strict=True):
            longer = np.ptp(face, axis=0).max()
            off = face + rng.normal(0, PLACING, 2) * longer
            pairs.append(tracked_crop(image, off, size, recipe.data.landmark_scale))
        self.images, self.maps = (np.stack(part) for part in zip(*pairs, strict=True))
        self.size = size

    def back(self, places: np.ndarray) -> np.ndarray:
        """Places (n, 87, 2) in shares of the crops' side as cut px."""
        inverse = np.linalg.inv(self.maps[:, :, :2])
        return np.einsum("nij,nkj->nki", inverse, places * self.size - self.maps[:, None, :, 2])


@torch.no_grad()
def predict(net: Aligner, images: np.ndarray) -> dict[str, np.ndarray]:
    """Heads of the network for crops, without the maps."""
    device, parts = next(net.parameters()).device, []
    for i in range(0, len(images), AT_ONCE):
        output = net(torch.from_numpy(images[i : i + AT_ONCE]).to(device))
        parts.append({name: value.cpu().numpy() for name, value in output.items() if name not in ("logits", "face")})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Validation:
    """Errors of an aligner, in %; see `__call__`. What is not there is left out."""

    def __init__(self, recipe: Recipe, folder: Path):
        self._recipe, self._folder = recipe, folder
        self._photographs = self._portraits = self._rendered = None

    def __call__(self, net: Aligner) -> dict[str, float]:
        """The figures.

        Returns
        -------
        inner, irises : distance from the labels of held-out photographs / outer eye distance
        shared, closed : of the delineated people that give no labels; see `convention.errors`
        rendered, jaw : distance of the 68 points and of the fixed jaw from the truth / sqrt(wh)
        """
        return self.photographs(net) | self.portraits(net) | self.rendered(net)

    def photographs(self, net: Aligner) -> dict[str, float]:
        """Held-out annotated photographs against their anatomical labels."""
        if self._photographs is None:
            table, known = read(self._folder / "faces.npz"), read(self._folder / "anatomical.npz")
            rows = np.flatnonzero(table["held_out"] & ~np.isnan(table["annotated"][:, 0, 0]))
            images = images_of(self._folder / "faces.u8", SIZE_PX)
            points, weight = known["points"][rows], known["weight"][rows]
            self._photographs = Crops([images[row] for row in rows], points, self._recipe), points, weight
        crops, points, weight = self._photographs
        found = crops.back(predict(net, crops.images)["places"])
        eyes = np.linalg.norm(points[:, 36] - points[:, 45], axis=1)[:, None]
        error = 100 * np.linalg.norm(found - points, axis=2) / eyes
        irises = error[:, IRISES][weight[:, IRISES] > 0]
        return {"inner": float(error[:, 17:68].mean()), "irises": float(irises.mean()) if len(irises) else np.nan}

    def portraits(self, net: Aligner) -> dict[str, float]:
        """The delineated people of the half that judges."""
        if not (material.folder() / "faces" / "delineated_189.npz").exists():
            return {}
        if self._portraits is None:
            known, rows = convention.judged()
            points, _ = convention.from_mesh(known.mesh[rows].astype(np.float64))
            images, drawn = [], known.points[rows].astype(np.float64)
            for i, row in enumerate(rows):
                roi = upright_roi(points[i])
                images.append(cut(cv2.imread(str(material.folder() / "faces" / known.file[row])), roi, PORTRAIT_PX))
                points[i], drawn[i] = to_crop(points[i], roi, PORTRAIT_PX), to_crop(drawn[i], roi, PORTRAIT_PX)
            self._portraits = Crops(images, points, self._recipe), drawn
        crops, drawn = self._portraits
        found = crops.back(predict(net, crops.images)["places"])
        errors = convention.errors(found[:, :68], found[:, IRISES], drawn)
        return {name: 100 * float(errors[name].mean()) for name in ("shared", "closed")}

    def rendered(self, net: Aligner) -> dict[str, float]:
        """The last of the rendered faces, which no training sees."""
        if not (self._folder / "rendered.npz").exists():
            return {}
        if self._rendered is None:
            table = read(self._folder / "rendered.npz")
            rows = np.arange(len(table["yaw_deg"]))[-HELD_OUT_RENDERED:][-RENDERED:]
            points = anatomical.rendered({name: values[rows] for name, values in table.items()}).points
            self._rendered = Crops(images_of(self._folder / "rendered.u8", SIZE_PX)[rows], points, self._recipe), points
        crops, points = self._rendered
        found = crops.back(predict(net, crops.images)["places"])
        size = np.sqrt(np.prod(np.ptp(points[:, :68], axis=1), axis=1))[:, None]
        error = 100 * np.linalg.norm(found - points, axis=2) / size
        return {"rendered": float(error[:, :68].mean()), "jaw": float(error[:, JAW].mean())}
