"""A person who does not exist: the face model with a skin, eyes, hair, clothes and light, drawn in any pose.

Hair, glasses, neck and clothes are simple solids. What is drawn is exactly what the parameters say, so it serves where
truth is needed: the demo clip, training data, evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from facet.tracker.morphable import MorphableModel
from tools.raster import mix, rasterise, vertex_normals

NECK = ((0, -95, -8), (56, 110, 52))  # middle and radii of an ellipsoid, mm
CHEST = ((0, -260, -40), (210, 140, 95))
GLOSS_FROM = np.array([-0.25, -0.35, 0.9]) / np.linalg.norm([-0.25, -0.35, 0.9])
HIDDEN_MM = 3.0  # a surface that is nearer by more hides a vertex: less is the vertex' own
EYE_MM = (31.5, 30.0, 100.0)  # middle of a glass before the left eye


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What somebody looks like, and in which light; colours are BGR, 0 to 255."""

    skin: np.ndarray  # (8,) weights of the texture's modes
    tone: tuple = (1.0, 1.0, 1.0)  # factor on the skin
    hair: tuple = (((0, 52, -14), (84, 84, 92)),)  # ellipsoids: middle and radii, mm
    hair_bgr: tuple = (38, 52, 74)
    beard: float = 0.0  # how much of the hair's colour lies on chin and cheeks
    cloth_bgr: tuple = (96, 74, 58)
    iris_bgr: tuple = (72, 92, 96)
    sclera_bgr: tuple = (212, 214, 220)
    mouth_bgr: tuple = (34, 30, 62)
    glasses_bgr: tuple | None = None
    dark_glasses: bool = False
    ambient: float = 0.36
    # where from (x right, y down, z to the viewer) and how strong
    lamps: tuple = (((-0.6, -0.5, 0.75), 0.62), ((0.9, -0.1, 0.4), 0.22))
    light_bgr: tuple = (0.97, 1.0, 1.05)


class Actor:
    """The face model with colours, and the solids around it, as one list of triangles."""

    def __init__(self, model: MorphableModel, texture: dict[str, np.ndarray], shape: np.ndarray, look: Look):
        self.model, self.shape, self.look = model, shape, look
        self.neutral = model.bake(shape)
        modes = texture["modes"] * texture["modes_scale"][:, None, None, None]
        tint = np.tensordot(look.skin, modes, 1)
        side = texture["mean"].shape[0]
        self.texture = texture["mean"].astype(np.float32) + cv2.resize(tint.astype(np.float32), (side, side))
        self.texture *= np.float32(look.tone)
        tone = np.median(self.texture.reshape(-1, 3), axis=0)
        parts = [(*ellipsoid(*NECK), tone * 0.85), (*ellipsoid(*CHEST), look.cloth_bgr)]
        parts += [(*ellipsoid(*solid), look.hair_bgr) for solid in look.hair]
        if look.glasses_bgr is not None:
            parts += [(*part, look.glasses_bgr) for part in glasses(look.dark_glasses)]
        count = len(self.neutral)
        triangles, colours = [model.triangles], [np.zeros((count, 3), np.float32)]
        for region, colour in (
            ("mouth", look.mouth_bgr), ("eyeball", look.sclera_bgr), ("iris", look.iris_bgr), ("pupil", (8, 8, 8)),
        ):  # fmt: skip
            colours[0][model.region == model.region_names.index(region)] = colour
        for points, indices, colour in parts:
            triangles.append(indices + sum(map(len, colours)))
            colours.append(np.tile(np.float32(colour), (len(points), 1)))
        self.solids = np.concatenate([points for points, _, _ in parts])
        self.triangles, self.colours = np.concatenate(triangles), np.concatenate(colours)
        none = np.zeros(len(self.solids), bool)
        eyes = [model.region_names.index(name) for name in ("eyeball", "iris", "pupil")]
        shown = [model.region_names.index(name) for name in ("face", "mouth", "eyeball", "iris", "pupil")]
        self.of_face = np.concatenate([np.isin(model.region, shown), none])[self.triangles].all(axis=1)
        skin = [model.region_names.index(name) for name in ("face", "ear", "neck")]
        self.textured = np.concatenate([np.isin(model.region, skin), none])[self.triangles].all(axis=1)
        self.glossy = np.concatenate([np.isin(model.region, eyes), none]).astype(np.float32)
        self.uv = np.concatenate([model.uv, np.zeros((len(self.solids), 2))]).astype(np.float32)
        x, y, z = model.mean.T
        bearded = (y < -18 - 0.25 * np.abs(x)) & ((np.abs(x) > 30) | (y < -52) | (y > -29)) & (z > 20)
        self.beard = np.concatenate([look.beard * bearded, none]).astype(np.float32)

    def draw(self, ground: np.ndarray, camera: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """The person over a picture, (H, W, 3) float32 BGR; `camera` (3, 4) maps mm to px of the picture."""
        return self.render(ground, camera, expression)[0]

    def render(
        self, ground: np.ndarray, camera: np.ndarray, expression: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`draw`, and what of the face is visible.

        Returns
        -------
        image : (H, W, 3) float32, BGR
        face : (H, W) bool, pixels that show the face with its eyes and mouth, not what lies before or beside it
        visible : (N,) bool, the model's vertices that nothing hides
        """
        vertices = np.concatenate([self.model.vertices(self.shape, expression, self.neutral), self.solids])
        points = vertices.astype(float) @ camera[:, :3].T + camera[:, 3]
        owner, weight = rasterise(points, self.triangles, ground.shape[1], ground.shape[0])
        seen = owner >= 0
        face = seen & self.of_face[owner]
        visible = self._visible(points, owner, weight, HIDDEN_MM * float(np.linalg.norm(camera[0, :3])))
        owner, weight = owner[seen], weight[seen]
        corners = self.triangles[owner]
        normals = vertex_normals(vertices, self.triangles) @ camera[:, :3].T
        values = [normals, self.colours, self.uv, self.glossy[:, None], self.beard[:, None]]
        mixed = mix(np.concatenate(values, axis=1, dtype=np.float32), corners, weight)
        normal, colour, uv = mixed[:, :3], mixed[:, 3:6], mixed[:, 6:8]
        gloss, beard = mixed[:, 8, None], mixed[:, 9, None]
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        side = self.texture.shape[0]
        x, y = uv[:, :1] * side - 0.5, (1 - uv[:, 1:]) * side - 0.5
        skin = remap(self.texture, x, y)
        skin += beard * (np.float32(self.look.hair_bgr) - skin)
        colour = np.where(self.textured[owner][:, None], skin, colour)
        picture = colour * self.shade(normal)[:, None] * np.float32(self.look.light_bgr)
        shine = np.clip(normal @ GLOSS_FROM, 0, 1)[:, None]
        picture += gloss * 190 * shine**120 + 14 * (1 - gloss) * shine**18
        result = ground.astype(np.float32)
        result[seen] = picture
        return result, face, visible

    def _visible(self, points: np.ndarray, owner: np.ndarray, weight: np.ndarray, tolerance: float) -> np.ndarray:
        """Vertices of the model before which no surface lies nearer than the tolerance; outside the image all are."""
        height, width = owner.shape
        count = len(self.neutral)
        column, row = np.floor(points[:count, :2].T).astype(int)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        row, column = row[inside], column[inside]
        corners = points[self.triangles[owner[row, column]], 2]
        depth = np.where(owner[row, column] >= 0, (corners * weight[row, column]).sum(axis=1), -np.inf)
        visible = np.ones(count, bool)
        visible[inside] = depth < points[:count, 2][inside] + tolerance
        return visible

    def shade(self, normal: np.ndarray) -> np.ndarray:
        """Light that arrives at surfaces with these unit normals (n, 3), y down."""
        light = np.full(len(normal), self.look.ambient, np.float32)
        for direction, strength in self.look.lamps:
            unit = np.array(direction) / np.linalg.norm(direction)
            light += strength * np.clip((normal @ unit + 0.25) / 1.25, 0, None)
        return light


def remap(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples (n, 3) of an image at columns of pixel indices (n, 1); OpenCV wants them folded to a picture."""
    wide = 4096
    rows = -(-len(x) // wide)
    folded = [np.pad(v.ravel(), (0, rows * wide - len(v))).reshape(rows, wide).astype(np.float32) for v in (x, y)]
    return cv2.remap(image, *folded, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(-1, 3)[: len(x)]


def ellipsoid(centre, radii, steps: int = 48):
    """A closed ellipsoid: points (n, 3), triangles counter-clockwise seen from outside."""
    polar, around = np.linspace(0, np.pi, steps // 2 + 1), np.linspace(0, 2 * np.pi, steps, endpoint=False)
    p, a = np.meshgrid(polar, around, indexing="ij")
    unit = np.stack([np.sin(p) * np.sin(a), np.cos(p), np.sin(p) * np.cos(a)], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(steps // 2), np.arange(steps), indexing="ij")
    k, m = row * steps + column, row * steps + (column + 1) % steps
    triangles = np.stack([k, k + steps, m, m, k + steps, m + steps], -1).reshape(-1, 3)
    return np.array(centre) + unit * radii, triangles


def glasses(dark: bool, steps: int = 32):
    """Two frames, a bridge and two temples, as flat bands: a list of points and triangles. `dark`: with lenses."""
    around = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    parts = []
    for side in (-1, 1):
        middle = np.array(EYE_MM) * (side, 1, 1)
        rim = np.stack([25 * np.cos(around), 20 * np.sin(around), -0.012 * (25 * np.cos(around)) ** 2], 1)
        inner = middle + rim * (0.0 if dark else 0.86, 0.0 if dark else 0.84, 1)
        parts.append(band(inner, middle + rim, closed=True))
        temple = np.array([[side * 56, 36, 92], [side * 82, 36, 10]])
        parts.append(band(temple, temple + np.array([0, 6, 0])))
    bridge = np.array([[-7.0, 33, 104], [0, 35, 106], [7, 33, 104]])
    return [*parts, band(bridge, bridge + np.array([0, 3.5, 0]))]


def band(one: np.ndarray, other: np.ndarray, closed: bool = False):
    """Triangles between two lines of as many points (n, 3)."""
    count = len(one)
    k = np.arange(count if closed else count - 1)
    m = (k + 1) % count
    return np.concatenate([one, other]), np.stack([k, k + count, m, m, k + count, m + count], 1).reshape(-1, 3)
