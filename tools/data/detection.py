"""Pictures to train the detector with: photographs at many scales, side by side, with heads pasted in, spoilt.

Every picture is made from a number alone, so that a training that is resumed sees what it would have seen.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from tools.data import labels_boxes, material
from tools.data.crops import SIZE_PX
from tools.data.labels_boxes import PhotoBoxes

HEADS = 14000  # rendered ones; photographs teach more
MIN_FACE_PX = 8.0  # lower faces are neither taught nor punished
GROUP_SHARES = {
    "keypoints": 0.2, "masked": 0.17, "unmasked": 0.1, "portraits": 0.1, "street": 0.14, "crowds": 0.12,
    "rendered": 0.08, "backgrounds": 0.09,
}  # fmt: skip
# photographs of which we know all faces
FACELESS_GROUPS = ("keypoints", "masked", "unmasked", "portraits")
# beyond which enlargement a photograph would show faces that nobody has labelled
MAX_SCALE = {"street": 2.0, "crowds": 3.5, "rendered": 1.5}


@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """Decoded photographs and what is known of their faces."""

    labels: list[PhotoBoxes]
    pixels: np.ndarray  # (bytes,) uint8, all pictures one after the other, BGR
    start: np.ndarray  # (n,) int64 into `pixels`
    shape: np.ndarray  # (n, 2) int64, height and width

    def image(self, index: int) -> np.ndarray:
        """A photograph (H, W, 3) uint8, BGR; read-only."""
        height, width = self.shape[index]
        start = self.start[index]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)


def load(cache: Path) -> Photos:
    """All photographs, decoded once into the folder `cache`, and the rendered heads that are there."""
    rendered = cache / "rendered.u8"
    labels = labels_boxes.read() + rendered_labels(cache)
    table, pixels = cache / "detection.npz", cache / "detection.u8"
    if not table.exists():
        cache.mkdir(parents=True, exist_ok=True)
        shapes = []
        with pixels.open("wb") as file:
            heads = itertools.count()
            for label in labels:
                if label.group == "rendered":
                    shape = (SIZE_PX, SIZE_PX, 3)
                    image = np.fromfile(rendered, np.uint8, np.prod(shape), offset=next(heads) * np.prod(shape))
                    image = image.reshape(shape)
                else:
                    image = cv2.imread(str(material.folder() / "faces" / label.file))
                file.write(image.tobytes())
                shapes.append(image.shape[:2])
        np.savez(table, shape=np.array(shapes, np.int64), photo=np.array([label.file for label in labels]))
    with np.load(table) as file:
        shape = file["shape"]
        if file["photo"].tolist() != [label.file for label in labels]:
            raise ValueError(f"{table}: expected the photographs of {material.folder()}, found others; delete it")
    start = np.concatenate([[0], np.cumsum(shape.prod(1) * 3)[:-1]])
    # what lies beyond the photograph nobody sees
    labels = [
        replace(label, faces=np.clip(label.faces, 0, (w, h, w, h)), ignored=np.clip(label.ignored, 0, (w, h, w, h)))
        for label, (h, w) in zip(labels, shape.astype(np.float32), strict=True)
    ]
    return Photos(labels, np.memmap(pixels, np.uint8, "r"), start, shape)


def rendered_labels(cache: Path) -> list[PhotoBoxes]:
    """The boxes of the heads that `tools.data.build rendered` made, in the annotators' style; [] where it did not."""
    if not (cache / "rendered.npz").exists():
        return []
    with np.load(cache / "rendered.npz") as file:
        points = file["points"][:HEADS]
    hulls = np.concatenate([points.min(1), points.max(1)], 1)
    none = np.zeros((0, 4), np.float32)
    return [
        PhotoBoxes(f"rendered/{k}", "rendered", False, labels_boxes.restyle(hull[None], labels_boxes.FROM_68), none)
        for k, hull in enumerate(hulls)
    ]


def transform_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) of the ellipses in `boxes` after the affine `matrix` (2, 3): heads are round, their boxes' corners
    empty, so a turned face's box grows less than its rectangle's would."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    half = np.sqrt(half**2 @ (matrix[:, :2] ** 2).T)
    return np.concatenate([centre - half, centre + half], 1).astype(np.float32)


class Sampler:
    """Makes training pictures out of the photographs that are not kept for validation."""

    def __init__(self, photos: Photos, size: int, seed: int = 1):
        self._seed = seed
        self._photos = photos
        self._size = size
        self._by_group = {
            # a photograph of people of whom no labeller saw the face teaches nothing, and may teach wrong
            group: np.array(
                [
                    i
                    for i, p in enumerate(photos.labels)
                    if p.group == group and not p.validation and (len(p.faces) or group == "backgrounds")
                ]
            )
            for group in GROUP_SHARES
        }
        self._by_group = {group: rows for group, rows in self._by_group.items() if len(rows)}
        self._heads = np.array(
            [
                (i, k)
                for i, p in enumerate(photos.labels)
                if not p.validation
                for k, box in enumerate(p.faces)
                if box[3] - box[1] >= 24
            ]
        )

    def sample(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Picture `number`: image (S, S, 3) uint8 BGR, faces (n, 4), ignored (m, 4) float32 px."""
        rng = np.random.default_rng((self._seed, number))
        size = self._size
        canvas = np.empty((size, size, 3), np.uint8)
        kind = rng.choice(["mosaic", "street", "scatter", "empty"], p=[0.31, 0.42, 0.15, 0.12])
        if kind == "mosaic":
            faces, ignored = self._mosaic(rng, canvas)
        elif kind == "street":
            group = "crowds" if rng.random() < 0.7 else "street"
            faces, ignored = self._tile(rng, canvas, group, (10.0, 200.0))
        elif kind == "empty" and rng.random() < 0.5:
            faces, ignored = self._faceless(rng, canvas)
        else:
            group = "backgrounds" if kind == "empty" or rng.random() < 0.6 else "keypoints"
            faces, ignored = self._tile(rng, canvas, group, (60.0, 250.0))
            if kind == "scatter":
                faces, ignored = self._scatter(rng, canvas, faces, ignored)
        if rng.random() < 0.25:
            faces, ignored = _clutter(rng, canvas, faces, ignored)
        if rng.random() < 0.3:
            _cover(rng, canvas, faces)
        if rng.random() < 0.5:
            canvas = canvas[:, ::-1]
            for boxes in (faces, ignored):
                boxes[:, [0, 2]] = size - boxes[:, [2, 0]]
        low = faces[:, 3] - faces[:, 1] < MIN_FACE_PX
        return spoil(rng, np.ascontiguousarray(canvas)), faces[~low], np.concatenate([ignored, faces[low]])

    def _mosaic(self, rng: np.random.Generator, canvas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Photographs side by side, in rows and columns of uneven size."""
        size = self._size
        count = rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1])
        edges = []
        for _ in range(2):
            parts = rng.uniform(1, 1.8, count)
            edges.append(np.concatenate([[0], np.round(np.cumsum(parts) / parts.sum() * size)]).astype(int))
        every_face, every_ignored = [np.zeros((0, 4), np.float32)], [np.zeros((0, 4), np.float32)]
        names = list(self._by_group)
        shares = np.array([GROUP_SHARES[name] for name in names])
        shares /= shares.sum()
        for top, bottom in itertools.pairwise(edges[0]):
            for left, right in itertools.pairwise(edges[1]):
                height = bottom - top
                sizes = (max(10.0, 0.12 * height), 1.05 * height)
                group = str(rng.choice(names, p=shares))
                faces, ignored = self._tile(rng, canvas[top:bottom, left:right], group, sizes)
                every_face.append(faces + np.array([left, top, left, top], np.float32))
                every_ignored.append(ignored + np.array([left, top, left, top], np.float32))
        return np.concatenate(every_face), np.concatenate(every_ignored)

    def _tile(
        self, rng: np.random.Generator, tile: np.ndarray, group: str, sizes_px: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fill `tile` (h, w, 3) with a photograph of the group such that one of its faces is as high as asked."""
        index = rng.choice(self._by_group[group])
        label, image = self._photos.labels[index], self._photos.image(index)
        height, width = tile.shape[:2]
        wanted = np.exp(rng.uniform(*np.log(sizes_px)))
        visible = label.faces[label.faces[:, 3] - label.faces[:, 1] >= 5] if len(label.faces) else label.faces
        if len(visible):
            # large faces are few among a crowd's, and hold most that can be learnt
            heights = (visible[:, 3] - visible[:, 1]).astype(np.float64)
            box = visible[rng.choice(len(visible), p=heights / heights.sum())]
            scale = wanted / (box[3] - box[1])
            centre = (box[:2] + box[2:]) / 2
            reach = np.maximum(0.5 - wanted / 2 / np.array([width, height]), 0.1)
            target = np.array([width, height]) * (0.5 + rng.uniform(-reach, reach))
        else:
            scale = np.exp(rng.uniform(np.log(0.35), np.log(1.6)))
            centre = rng.uniform(0.2, 0.8, 2) * image.shape[1::-1]
            target = np.array([width, height]) / 2
        if rng.random() < 0.75:  # mostly photograph, not frame
            scale = max(scale, 0.85 * min(width / image.shape[1], height / image.shape[0]))
        scale = float(np.clip(scale, 0.04, MAX_SCALE.get(group, 3.0)))
        stretch = np.exp(rng.normal(0, 0.1) + (rng.uniform(0.0, 0.4) if group == "crowds" else 0.0))
        angle = rng.uniform(-45, 45) if rng.random() < 0.35 else rng.normal(0, 5)
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale * stretch, scale])
        matrix = np.column_stack([linear, target - linear @ centre])
        beyond = rng.random()
        if beyond < 0.6:  # another photograph goes on where this one ends
            self._wall(rng, tile)
        border = cv2.BORDER_TRANSPARENT if beyond < 0.6 else cv2.BORDER_REPLICATE
        border = border if beyond < 0.8 else cv2.BORDER_CONSTANT
        warp(image, matrix, tile, border, tuple(int(v) for v in rng.integers(0, 256, 3)))
        faces, ignored = transform_boxes(label.faces, matrix), transform_boxes(label.ignored, matrix)
        return clip(faces, ignored, width, height)

    def _wall(self, rng: np.random.Generator, tile: np.ndarray) -> None:
        """Fill `tile` (h, w, 3) with a part of a photograph without people."""
        image = self._photos.image(rng.choice(self._by_group["backgrounds"]))
        side = rng.uniform(0.3, 1.0) * min(image.shape[:2])
        corner = rng.uniform(0, 1, 2) * (np.array(image.shape[1::-1]) - side)
        scale = np.array([tile.shape[1], tile.shape[0]]) / side
        warp(image, np.column_stack([np.diag(scale), -corner * scale]), tile, cv2.BORDER_REPLICATE, (0, 0, 0))

    def _faceless(self, rng: np.random.Generator, canvas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fill the picture with parts of photographs of people that show no face: clothes, hands, walls, titles."""
        size = self._size
        none = np.zeros((0, 4), np.float32)
        count = int(rng.integers(1, 4))
        edges = np.round(np.linspace(0, size, count + 1)).astype(int)
        for top, bottom in itertools.pairwise(edges):
            for left, right in itertools.pairwise(edges):
                tile = canvas[top:bottom, left:right]
                for _ in range(20):
                    index = rng.choice(self._by_group[str(rng.choice(FACELESS_GROUPS))])
                    label, image = self._photos.labels[index], self._photos.image(index)
                    side = rng.uniform(0.15, 0.6) * min(image.shape[:2])
                    corner = rng.uniform(0, 1, 2) * (np.array(image.shape[1::-1]) - side)
                    part = np.array([[*corner, *(corner + side)]], np.float32)
                    known = labels_boxes.restyle(np.concatenate([label.faces, label.ignored]), (0, 0, 1.1, 1.1))
                    if not labels_boxes.iou(part, known).any():
                        break
                else:
                    tile[:] = rng.integers(0, 256, 3)
                    continue
                scale = np.array([tile.shape[1], tile.shape[0]]) / side
                warp(image, np.column_stack([np.diag(scale), -corner * scale]), tile, cv2.BORDER_REPLICATE, (0, 0, 0))
        return none, none

    def _scatter(
        self, rng: np.random.Generator, canvas: np.ndarray, faces: np.ndarray, ignored: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Paste heads, as a crowd has them; those behind are pasted first, and half hidden ones still count."""
        size = self._size
        base = np.exp(rng.uniform(np.log(9), np.log(80)))
        count = int(min(rng.integers(6, 40), (size / base) ** 2 * 0.4))
        rows = np.sort(rng.uniform(0, size, count))
        placed = list(faces)
        for y in rows:
            index, k = self._heads[rng.integers(len(self._heads))]
            box, image = self._photos.labels[index].faces[k], self._photos.image(index)
            wanted = base * np.exp(rng.normal(0, 0.2)) * (0.7 + 0.6 * y / size)
            centre = (box[:2] + box[2:]) / 2
            extent = (box[2:] - box[:2]) * np.array([rng.uniform(1.3, 1.9), rng.uniform(1.3, 1.7)])
            low = np.maximum(np.round(centre - extent / 2), 0).astype(int)
            high = np.minimum(np.round(centre + extent / 2), image.shape[1::-1]).astype(int)
            scale = wanted / (box[3] - box[1])
            patch_size = np.maximum(np.round((high - low) * scale), 2).astype(int)
            patch = cv2.resize(image[low[1] : high[1], low[0] : high[0]], tuple(patch_size.tolist()), interpolation=3)
            x0, y0 = int(rng.uniform(-0.2, 1) * size), int(y - patch_size[1] / 2)
            moved = (box - np.tile(low, 2)) * np.tile(patch_size / (high - low), 2) + np.array([x0, y0, x0, y0])
            _paste(canvas, patch, x0, y0, rng.random() < 0.6)
            area = np.array([x0, y0, x0 + patch_size[0], y0 + patch_size[1]], np.float32)
            kept = []
            for other in placed:
                cover = _share_covered(other, area)
                if cover < 0.55:
                    kept.append(other)
                elif cover < 0.85:
                    ignored = np.concatenate([ignored, other[None]])
            placed = [*kept, moved.astype(np.float32)]
        return clip(np.array(placed, np.float32).reshape(-1, 4), ignored, size, size)


def warp(image: np.ndarray, matrix: np.ndarray, out: np.ndarray, border: int, colour: tuple[int, int, int]) -> None:
    """Draw `image` into `out` through the affine `matrix` (2, 3), corner convention, without aliasing."""
    matrix = np.asarray(matrix, np.float64).copy()
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if scale < 0.7:
        factor = max(1.2 * scale, 2 / min(image.shape[:2]))
        small = np.maximum(np.round(np.array(image.shape[1::-1]) * factor), 1).astype(int)
        matrix[:, :2] = matrix[:, :2] / (small / np.array(image.shape[1::-1]))
        image = cv2.resize(image, tuple(small.tolist()), interpolation=cv2.INTER_AREA)
    matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    cv2.warpAffine(
        image, matrix, out.shape[1::-1], dst=out, flags=cv2.INTER_LINEAR, borderMode=border, borderValue=colour
    )


def clip(faces: np.ndarray, ignored: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes cut at the picture's edges; faces of which less than half is left are ignored."""
    bounds = np.array([width, height, width, height], np.float32)
    cut, ignored = np.clip(faces, 0, bounds), np.clip(ignored, 0, bounds)
    extent = np.clip(cut[:, 2:] - cut[:, :2], 0, None)
    share = extent.prod(1) / np.maximum((faces[:, 2:] - faces[:, :2]).prod(1), 1e-6)
    seen = share > 0.05
    ignored = np.concatenate([ignored, cut[seen & (share < 0.5)]])
    return cut[share >= 0.5], ignored[(ignored[:, 2:] - ignored[:, :2] > 0).all(1)]


def _share_covered(box: np.ndarray, by: np.ndarray) -> float:
    """Which part of a box another covers."""
    extent = np.minimum(box[2:], by[2:]) - np.maximum(box[:2], by[:2])
    return float(np.clip(extent, 0, None).prod() / max((box[2:] - box[:2]).prod(), 1e-6))


def _paste(canvas: np.ndarray, patch: np.ndarray, x: int, y: int, round_edge: bool) -> None:
    """Lay a patch into a picture at (x, y), as a soft ellipse or as the rectangle that it is."""
    height, width = patch.shape[:2]
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + width, canvas.shape[1]), min(y + height, canvas.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    patch = patch[y0 - y : y1 - y, x0 - x : x1 - x]
    if not round_edge:
        canvas[y0:y1, x0:x1] = patch
        return
    across = (np.arange(width) + 0.5) / width * 2 - 1
    down = (np.arange(height) + 0.5) / height * 2 - 1
    radius = np.sqrt(across[None, :] ** 2 + down[:, None] ** 2)
    alpha = np.clip((1.05 - radius) * 5, 0, 1)[y0 - y : y1 - y, x0 - x : x1 - x, None].astype(np.float32)
    under = canvas[y0:y1, x0:x1]
    under[:] = under * (1 - alpha) + patch * alpha + 0.5


def _clutter(
    rng: np.random.Generator, canvas: np.ndarray, faces: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw letters, discs and stripes, which are round or striped as faces are; hidden faces are ignored."""
    size = canvas.shape[0]
    for _ in range(int(rng.integers(1, 7))):
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        x, y = (int(v) for v in rng.integers(0, size, 2))
        height = float(np.exp(rng.uniform(np.log(8), np.log(90))))
        kind = rng.integers(3)
        if kind == 0:
            text = "".join(chr(c) for c in rng.integers(33, 127, int(rng.integers(1, 9))))
            font, scale, width = int(rng.integers(0, 8)), height / 22, max(1, int(height * rng.uniform(0.05, 0.2)))
            extent, below = cv2.getTextSize(text, font, scale, width)
            if rng.random() < 0.4:
                under = tuple(int(v) for v in rng.integers(0, 256, 3))
                cv2.rectangle(canvas, (x - 4, y - extent[1] - 4), (x + extent[0] + 4, y + below + 4), under, -1)
            cv2.putText(canvas, text, (x, y), font, scale, colour, width, cv2.LINE_AA)
            area = np.array([x, y - extent[1], x + extent[0], y + below], np.float32)
        elif kind == 1:
            axes = int(height * rng.uniform(0.35, 0.5)) + 1, int(height / 2) + 1
            cv2.ellipse(canvas, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
            light = tuple(min(255, v + 60) for v in colour)
            at = x - axes[0] // 3, y - axes[1] // 3
            cv2.ellipse(canvas, at, (axes[0] // 4 + 1, axes[1] // 4 + 1), 0, 0, 360, light, -1, cv2.LINE_AA)
            area = np.array([x - axes[0], y - axes[1], x + axes[0], y + axes[1]], np.float32)
        else:
            bars = int(rng.integers(2, 6))
            width = height * rng.uniform(0.6, 2.0)
            for bar in range(bars):
                shade = colour if bar % 2 else tuple(255 - v for v in colour)
                low, high = int(y + bar * height / bars), int(y + (bar + 1) * height / bars)
                cv2.rectangle(canvas, (x, low), (int(x + width), high - 1), shade, -1)
            area = np.array([x, y, x + width, y + height], np.float32)
        hidden = np.array([_share_covered(box, area) for box in faces])
        ignored = np.concatenate([ignored, faces[hidden >= 0.35]]) if len(faces) else ignored
        faces = faces[hidden < 0.35] if len(faces) else faces
    return faces, ignored


def _cover(rng: np.random.Generator, canvas: np.ndarray, faces: np.ndarray) -> None:
    """Hide a part of some faces: a mask over mouth and nose, a hand, a bar, sunglasses, a cap, hair at one side."""
    for box in faces[rng.random(len(faces)) < 0.5]:
        low, extent = box[:2], box[2:] - box[:2]
        shade = rng.integers(0, 70) if rng.random() < 0.5 else rng.integers(0, 256)
        colour = tuple(int(v) for v in np.clip(shade + rng.normal(0, 15 if shade < 70 else 60, 3), 0, 255))

        def fill(x, y, half_x, half_y, angle=0.0, square=False, low=low, extent=extent, colour=colour):
            """An ellipse or a rectangle; all in shares of the box."""
            middle, half = low + extent * (x, y), np.maximum(extent * (half_x, half_y), 1)
            if square:
                ends = (tuple(int(v) for v in middle + sign * half) for sign in (-1, 1))
                cv2.rectangle(canvas, *ends, colour, -1)
            else:
                middle, half = (tuple(int(v) for v in pair) for pair in (middle, half))
                cv2.ellipse(canvas, middle, half, angle, 0, 360, colour, -1, cv2.LINE_AA)

        square = rng.random() < 0.5
        kind = rng.choice(["mask", "patch", "bar", "sunglasses", "cap", "hair"], p=[0.18, 0.2, 0.1, 0.26, 0.16, 0.1])
        if kind == "mask":
            top = rng.uniform(0.5, 0.65)
            fill(0.5, (1 + top) / 2, 0.42, (1 - top) / 2, square=square)
        elif kind == "patch":
            fill(*rng.uniform(0.1, 0.9, 2), *rng.uniform(0.1, 0.24, 2), square=square)
        elif kind == "bar":
            fill(0.5, 0.32, 0.6, 0.1, square=square)
        elif kind == "sunglasses":
            y, apart, wide = rng.uniform(0.38, 0.45), rng.uniform(0.2, 0.26), rng.uniform(0.15, 0.2)
            for side in (-1, 1):
                fill(0.5 + side * apart, y, wide, rng.uniform(0.07, 0.12))
            fill(0.5, y - 0.03, apart, 0.015, square=True)
        elif kind == "cap":
            edge = rng.uniform(0.15, 0.36)
            fill(0.5, edge - 0.3, rng.uniform(0.55, 0.7), 0.3)
            fill(0.5 + rng.uniform(-0.15, 0.15), edge, rng.uniform(0.5, 0.75), rng.uniform(0.03, 0.1))
        else:
            side = rng.choice((-1, 1))
            fill(0.5 + side * rng.uniform(0.4, 0.65), rng.uniform(0.2, 0.6), 0.25, rng.uniform(0.4, 0.8), 12.0 * side)


def spoil(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What cameras, rooms and compression do to a picture (H, W, 3) uint8."""
    size = image.shape[1::-1]
    if rng.random() < 0.25:
        factor = rng.uniform(0.3, 0.85)
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR)
    if rng.random() < 0.12:
        if rng.random() < 0.5:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0))
        else:
            length = int(rng.integers(3, 9))
            kernel = np.zeros((length, length), np.float32)
            angle = rng.uniform(0, np.pi)
            reach = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
            middle = (length - 1) / 2
            cv2.line(kernel, *(tuple(round(v) for v in middle + s * reach) for s in (-1, 1)), 1.0)
            image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.7:
        gain = np.exp(rng.normal(0, 0.18) + rng.normal(0, 0.07, 3))
        if rng.random() < 0.12:
            gain *= rng.uniform(0.12, 0.5)
        gamma = np.exp(rng.normal(0, 0.2))
        levels = 255 * (np.arange(256)[:, None] / 255) ** gamma * gain + rng.normal(0, 8)
        image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.12:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.2:
        noise = np.empty(image.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(noise, 0, float(rng.uniform(2, 18)))
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.2:
        quality = int(rng.integers(20, 80))
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return image
