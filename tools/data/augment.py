"""Training samples from the cut faces: one warp, and what can befall a picture on its way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tools.data.crops import SIZE_PX

FACE, FACE_NO_SCORE, NO_FACE = 1, 2, 0
NOISE_SIDE = 512


@dataclass(frozen=True, slots=True)
class Crops:
    """How crops are drawn; lengths in shares of the longer side of the face's rectangle."""

    size_px: int
    landmark_scale: float = 1.35  # as the runtime's CropSpec
    box_scale: float = 1.65
    box_share: float = 0.35  # of the samples that look like a first crop
    negative_share: float = 0.10
    pair_share: float = 0.25  # of the samples that are seen twice, a little moved


def open_images(folder: Path) -> list[np.memmap]:
    """Cut faces, then those turned in 3D and rendered where there are some; each (n, SIZE_PX, SIZE_PX, 3) uint8."""
    made = [folder / name for name in ("turned.u8", "rendered.u8") if (folder / name).exists()]
    return [np.memmap(path, np.uint8, "r").reshape(-1, SIZE_PX, SIZE_PX, 3) for path in (folder / "faces.u8", *made)]


def tracking_crop(image: np.ndarray, points: np.ndarray, spec: Crops, rng) -> tuple[np.ndarray, np.ndarray]:
    """A crop (S, S, 3) of a cut as tracking would place it, with a little error, and where it lies.

    Parameters
    ----------
    image : (SIZE_PX, SIZE_PX, 3) uint8
    points : (68, 2) cut px

    Returns
    -------
    The crop, and (2, 3) cut px -> crop px.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    longer = (high - low).max()
    zoom = spec.size_px / (spec.landmark_scale * longer * np.exp(rng.normal(0, 0.02)))
    shift = spec.size_px / 2 - zoom * ((low + high) / 2 + rng.normal(0, 0.015, 2) * longer)
    affine = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    matrix = affine.copy()
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(image, matrix, (spec.size_px, spec.size_px)), affine


class Sampler:
    """Draws batches from a folder that `tools.data.build` wrote.

    A batch is a dict of arrays: images (B, S, S, 3) uint8; face (B,) int64 row of the table; flip (B,) bool;
    affine (B, 2, 3) float32, cut px (of the flipped cut where flip) -> crop px; kind (B,) FACE, FACE_NO_SCORE, NO_FACE.
    The last `pair_share` of the batch are second views of the first samples.
    """

    def __init__(self, folder: Path, table: dict, rows: np.ndarray, weights: np.ndarray, spec: Crops, seed: int):
        self.images = open_images(folder)
        self.backgrounds = np.memmap(folder / "backgrounds.u8", np.uint8, "r").reshape(-1, 256, 256, 3)
        self.starts = np.cumsum([0, *map(len, self.images)])
        self.points = table["points"], table["points_mirrored"]
        self.rows, self.weights = rows, weights / weights.sum()
        self.spec = spec
        self.seed, self.rng = seed, np.random.default_rng(seed)
        self.noise = self.rng.standard_normal((NOISE_SIDE, NOISE_SIDE, 3)).astype(np.float32)

    def batch(self, count: int, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of `count` samples, made from the seed and its number alone."""
        self.rng = np.random.default_rng((self.seed, number))
        spec, rng = self.spec, self.rng
        size = spec.size_px
        images = np.empty((count, size, size, 3), np.uint8)
        face = np.zeros(count, np.int64)
        flip = np.zeros(count, bool)
        affine = np.zeros((count, 2, 3), np.float32)
        kind = np.full(count, FACE, np.int64)
        pairs = int(count * spec.pair_share)
        chosen = rng.choice(self.rows, count - pairs, p=self.weights)
        for k in range(count - pairs):
            clean = None
            face[k], flip[k] = chosen[k], rng.random() < 0.5
            negative = k >= pairs and rng.random() < spec.negative_share / (1 - 2 * spec.pair_share)
            if negative and rng.random() < 0.5:
                kind[k], clean = NO_FACE, self._background()
            else:
                affine[k], kind[k] = self._placement(chosen[k], flip[k], negative)
                clean = self._warp(face[k], flip[k], affine[k])
            look = self._look()
            if kind[k] != NO_FACE and rng.random() < 0.3:
                clean = self._occlude(clean)
            images[k] = self._spoil(clean, look)
            if k < pairs:
                twin = count - pairs + k
                face[twin], flip[twin], kind[twin] = face[k], flip[k], kind[k]
                affine[twin] = self._nudge(affine[k])
                images[twin] = self._spoil(self._warp(face[k], flip[k], affine[twin]), look)
        return {"images": images, "face": face, "flip": flip, "affine": affine, "kind": kind}

    def _placement(self, row: int, flip: bool, wrong: bool) -> tuple[np.ndarray, int]:
        """A crop like the runtime's, or one that is off by too much to be reported as a face."""
        rng, spec = self.rng, self.spec
        kind = FACE
        points = self.points[int(flip)][row].astype(np.float64)
        first = rng.random() < spec.box_share
        if first:
            roll = np.radians(rng.normal(0, 18) if rng.random() < 0.7 else rng.uniform(-60, 60))
            scale = spec.box_scale * np.exp(rng.normal(0, 0.09))
            shift = rng.normal(0, 0.07, 2)
        else:
            roll = np.radians(rng.normal(0, 5) if rng.random() < 0.85 else rng.uniform(-30, 30))
            scale = spec.landmark_scale * np.exp(rng.normal(0, 0.05))
            shift = rng.normal(0, 0.035, 2)
        if wrong:
            kind = NO_FACE
            if rng.random() < 0.35:
                scale *= np.exp(rng.choice((-1, 1)) * rng.uniform(1.0, 1.6))
            else:
                angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 1.0)
                shift = far * np.array([np.cos(angle), np.sin(angle)])
        elif rng.random() < 0.06:  # neither right nor wrong: points are learnt, the score is not
            kind = FACE_NO_SCORE
            shift = shift + rng.uniform(-0.25, 0.25, 2)
        cos, sin = np.cos(roll), np.sin(roll)
        turn = np.array([[cos, -sin], [sin, cos]])
        turned = points @ turn.T
        low, high = turned.min(axis=0), turned.max(axis=0)
        longer = (high - low).max()
        zoom = spec.size_px / (scale * longer)
        centre = (low + high) / 2 + shift * longer
        return np.column_stack([turn * zoom, spec.size_px / 2 - zoom * centre]).astype(np.float32), kind

    def _nudge(self, affine: np.ndarray) -> np.ndarray:
        rng, half = self.rng, self.spec.size_px / 2
        angle, zoom = np.radians(rng.normal(0, 1.8)), np.exp(rng.normal(0, 0.015))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
        shift = rng.normal(0, 1.2, 2) + half - turn @ (half, half)
        moved = turn @ affine
        moved[:, 2] += shift
        return moved.astype(np.float32)

    def _warp(self, row: int, flip: bool, affine: np.ndarray) -> np.ndarray:
        matrix = affine.astype(np.float64)
        if flip:  # cut px -> flipped cut px first
            matrix = matrix @ np.array([[-1.0, 0, SIZE_PX], [0, 1, 0], [0, 0, 1]])
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        size = self.spec.size_px
        part = np.searchsorted(self.starts, row, side="right") - 1
        image = self.images[part][row - self.starts[part]]
        return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=0)

    def _background(self) -> np.ndarray:
        rng, size = self.rng, self.spec.size_px
        if rng.random() < 0.1:
            return np.full((size, size, 3), rng.integers(0, 256, 3), np.uint8)
        image = self.backgrounds[rng.integers(len(self.backgrounds))]
        # down to what a small false box holds: blobs that could be anything
        side = int(np.exp(rng.uniform(np.log(14), np.log(256))))
        x, y = rng.integers(0, 257 - side, 2)
        return cv2.resize(np.ascontiguousarray(image[y : y + side, x : x + side]), (size, size))

    def _occlude(self, crop: np.ndarray) -> np.ndarray:
        """The crop with something before the face."""
        fill, mask = self._occluder(crop)
        result = crop.copy()
        cv2.copyTo(fill, mask, result)
        return result

    def _occluder(self, crop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A bar, a blob or fingers, plain or textured: (S, S, 3) uint8, and where it lies, (S, S) uint8."""
        rng, size = self.rng, self.spec.size_px
        mask = np.zeros((size, size), np.uint8)
        x, y = (int(v) for v in rng.uniform(0, size, 2))
        form = rng.random()
        if form < 0.4:
            axes = tuple(int(v) for v in rng.uniform(0.08, 0.3, 2) * size)
            cv2.ellipse(mask, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        elif form < 0.7:
            angle = rng.uniform(0, np.pi)
            for finger in range(int(rng.integers(1, 5))):
                off = finger * size * 0.09
                a = (int(x - off * np.sin(angle)), int(y + off * np.cos(angle)))
                b = (int(a[0] + size * 0.6 * np.cos(angle)), int(a[1] + size * 0.6 * np.sin(angle)))
                cv2.line(mask, a, b, 255, int(size * 0.08))
        else:
            w, h = (int(v) for v in rng.uniform(0.1, 0.45, 2) * size)
            mask[y : y + h, x : x + w] = 255
        if rng.random() < 0.5:
            fill = np.empty_like(crop)
            fill[:] = rng.integers(0, 256, 3) if rng.random() < 0.5 else crop[size // 2, size // 2]
        else:
            fill = self._background()
        return fill, mask

    def _look(self) -> dict:
        """The light and the camera of one picture; both views of a pair share it."""
        rng = self.rng
        look = {"gain": np.ones(3), "bias": np.zeros(3)}
        if rng.random() < 0.8:
            look["gain"] = np.exp(rng.normal(0, 0.18)) * np.exp(rng.normal(0, 0.07, 3))
            look["bias"] = rng.normal(0, 14) + rng.normal(0, 3, 3)
        look["gamma"] = float(np.exp(rng.normal(0, 0.25))) if rng.random() < 0.4 else 1.0
        if rng.random() < 0.08:  # low light
            look["gain"] = look["gain"] * rng.uniform(0.15, 0.5)
        look["grey"] = rng.random() < 0.08
        look["noise"] = float(rng.uniform(0, 10)) if rng.random() < 0.55 else 0.0
        look["small"] = float(rng.uniform(0.25, 0.8)) if rng.random() < 0.2 else 1.0
        look["blur"] = float(rng.uniform(0.3, 1.6)) if rng.random() < 0.12 else 0.0
        look["motion"] = (int(rng.integers(3, 10)), float(rng.uniform(0, np.pi))) if rng.random() < 0.06 else None
        look["jpeg"] = int(rng.integers(20, 80)) if rng.random() < 0.15 else 0
        return look

    def _spoil(self, crop: np.ndarray, look: dict) -> np.ndarray:
        rng, size = self.rng, self.spec.size_px
        if look["small"] < 1:
            side = max(16, int(size * look["small"]))
            crop = cv2.resize(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA), (size, size))
        if look["blur"]:
            crop = cv2.GaussianBlur(crop, (0, 0), look["blur"])
        if look["motion"]:
            length, angle = look["motion"]
            kernel = np.zeros((length, length), np.float32)
            half = (length - 1) / 2
            dx, dy = half * np.cos(angle), half * np.sin(angle)
            a, b = (round(half - dx), round(half - dy)), (round(half + dx), round(half + dy))
            cv2.line(kernel, a, b, 1.0, 1)
            crop = cv2.filter2D(crop, -1, kernel / kernel.sum())
        ramp = np.arange(256) / 255.0
        table = (255 * ramp ** look["gamma"])[:, None] * look["gain"] + look["bias"]
        # black around the photograph stays black, as the runtime fills it
        table[0] = 0
        crop = cv2.LUT(crop, np.clip(table, 0, 255).astype(np.uint8).reshape(256, 1, 3))
        if look["grey"]:
            crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        if look["noise"]:
            x, y = rng.integers(0, NOISE_SIDE - size, 2)
            noise = self.noise[y : y + size, x : x + size] * look["noise"]
            crop = cv2.add(crop, noise, dtype=cv2.CV_8U)
        if look["jpeg"]:
            crop = cv2.imdecode(cv2.imencode(".jpg", crop, (cv2.IMWRITE_JPEG_QUALITY, look["jpeg"]))[1], 1)
        return crop
