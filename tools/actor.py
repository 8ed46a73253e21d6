"""A person who does not exist: the face model with a skin, eyes, teeth, hair, clothes and light, drawn in any pose.

Hair, glasses, neck and clothes are simple solids. What is drawn is exactly what the parameters say, so it serves where
truth is needed: the demo clip, training data, evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from facet.tracker.morphable import MorphableModel
from tools import light
from tools import skin as skins
from tools.face_model import mouth
from tools.raster import mix, rasterise, vertex_normals
from tools.solids import ellipsoid, glasses

NECK = ((0, -95, -8), (56, 110, 52))  # middle and radii of an ellipsoid, mm
CHEST = ((0, -260, -40), (210, 140, 95))
GLOSS_FROM = np.array([-0.25, -0.35, 0.9]) / np.linalg.norm([-0.25, -0.35, 0.9])
HIDDEN_MM = 3.0  # a surface that is nearer by more hides a vertex: less is the vertex' own
EYES = ("eyeball", "iris", "pupil")
# lids and lips shade what lies behind them: over how many mm, and how much
EYE_SHADE_MM, EYE_SHADE, MOUTH_SHADE_MM, MOUTH_SHADE = 1.6, 0.8, 1.5, 0.92
MOUTH_DARKER_MM = 30.0  # the light in a mouth falls to 1 / e within this depth
SHADOW_PX, SHADOW_MM = 160, 4.5  # side of the map of what a lamp reaches; what is nearer to it by less casts no shadow
GLASSES_MM = 6.0  # from the brows to the lenses
LASH_MM, LASHES = 7.5, 22  # longest lashes; how many an upper lid has
PLAIN = skins.Paint()


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What somebody looks like, and in which light; colours are BGR, 0 to 255."""

    skin: np.ndarray  # (K,) coefficients of the skin model
    tone: tuple = (1.0, 1.0, 1.0)  # factor on the skin
    paint: skins.Paint = PLAIN
    gloss: float = 14.0  # of the skin
    hair: tuple = (((0, 52, -14), (84, 84, 92)),)  # ellipsoids: middle and radii, mm
    hair_bgr: tuple = (38, 52, 74)
    cloth_bgr: tuple = (96, 74, 58)
    iris_bgr: tuple = (72, 92, 96)
    sclera_bgr: tuple = (212, 214, 220)
    lashes: float = 0.5  # their length, 0 to 1
    mouth_bgr: tuple = (34, 30, 62)
    tooth_bgr: tuple = (178, 206, 214)
    tongue: tuple = (0.0, 0.0)  # how far it is raised and stretched out, 0 to 1
    glasses_bgr: tuple | None = None
    dark_glasses: bool = False
    lens: float = 0.0  # how much a clear lens reflects
    ambient: float = 0.36
    # where from (x right, y down, z to the viewer) and how strong
    lamps: tuple = (((-0.6, -0.5, 0.75), 0.62), ((0.9, -0.1, 0.4), 0.22))
    light_bgr: tuple = (0.97, 1.0, 1.05)
    place: np.ndarray | None = None  # (9, 3) the light of tools/light.py, instead of the ambient light
    shadows: bool = False  # of the first lamp
    exposure: float | None = None  # mean brightness of the face, 0 to 255; None: as the light has it


class Actor:
    """The face model with colours, and the solids around it, as one list of triangles.

    `more` : further solids, (points, triangles, colour or a colour a point) each; None as the colour is the skin's
    """

    def __init__(self, model: MorphableModel, texture: dict[str, np.ndarray], shape: np.ndarray, look: Look, more=()):
        self.model, self.shape, self.look = model, shape, look
        self.neutral = model.bake(shape)
        self.texture = skins.paint(model, texture, look.skin, look.tone, look.paint)
        tone = np.median(self.texture[::4, ::4].reshape(-1, 3), axis=0)
        parts = [(*ellipsoid(*NECK), tone * 0.85), (*ellipsoid(*CHEST), look.cloth_bgr)]
        parts += [(*ellipsoid(*solid), look.hair_bgr) for solid in look.hair]
        self.lenses = []
        if look.glasses_bgr is not None:
            frames, self.lenses = glasses(*before_eyes(model, self.neutral), look.dark_glasses)
            parts += [(*part, look.glasses_bgr) for part in frames]
        parts += [(points, indices, tone if colour is None else colour) for points, indices, colour in more]
        count = len(self.neutral)
        triangles, colours = [model.triangles], [np.zeros((count, 3), np.float32)]
        for region, colour in (
            ("mouth", look.mouth_bgr), ("eyeball", look.sclera_bgr), ("iris", look.iris_bgr), ("pupil", (8, 8, 8)),
        ):  # fmt: skip
            colours[0][self._of(region)] = colour
        for points, indices, colour in parts:
            triangles.append(indices + sum(map(len, colours)))
            colours.append(np.broadcast_to(np.float32(colour), points.shape))
        self.solids = np.concatenate([points for points, _, _ in parts])
        self.triangles, self.colours = np.concatenate(triangles), np.concatenate(colours)

        def triangles_of(*regions: str, some: bool = False) -> np.ndarray:
            of = np.concatenate([self._of(*regions), np.zeros(len(self.solids), bool)])[self.triangles]
            return of.any(axis=1) if some else of.all(axis=1)

        self.of_face = triangles_of("face", "mouth", *EYES)
        self.textured = triangles_of("face", "ear", "neck")
        self.of_eyes, self.of_mouth = triangles_of(*EYES), triangles_of("mouth", some=True)
        self.glossy = np.concatenate([self._of(*EYES), np.zeros(len(self.solids))]).astype(np.float32)
        self.uv = np.concatenate([model.uv, np.zeros((len(self.solids), 2))]).astype(np.float32)
        self.lids = skins.lid_edges(model)

    def draw(self, ground: np.ndarray, camera: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """The person over an image, (H, W, 3) float32 BGR; `camera` (3, 4) maps mm to its px."""
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
        look, px_per_mm = self.look, float(np.linalg.norm(camera[0, :3]))
        face_mm = self.model.vertices(self.shape, expression, self.neutral)
        vertices = np.concatenate([face_mm, self.solids])
        points = vertices.astype(float) @ camera[:, :3].T + camera[:, 3]
        owner, weight = rasterise(points, self.triangles, ground.shape[1], ground.shape[0])
        seen = owner >= 0
        face = seen & self.of_face[owner]
        visible = self._visible(points, owner, weight, HIDDEN_MM * px_per_mm)
        eyes, mouths = seen & self.of_eyes[owner], seen & self.of_mouth[owner]
        owner, weight = owner[seen], weight[seen]
        corners = self.triangles[owner]
        normals = vertex_normals(vertices, self.triangles) @ camera[:, :3].T
        values = [normals, self.colours, self.uv, self.glossy[:, None]]
        mixed = mix(np.concatenate(values, axis=1, dtype=np.float32), corners, weight)
        normal, colour, uv, gloss = mixed[:, :3], mixed[:, 3:6], mixed[:, 6:8], mixed[:, 8, None]
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        side = self.texture.shape[0]
        sample = remap(self.texture, uv[:, :1] * side - 0.5, (1 - uv[:, 1:]) * side - 0.5)
        colour = np.where(self.textured[owner][:, None], sample, colour)
        lit = np.ones(len(owner), np.float32)
        if look.shadows and look.lamps:
            lit = self._lit(points / px_per_mm, mix((points / px_per_mm).astype(np.float32), corners, weight))
        drawn = colour * self.shade(normal, lit) * np.float32(look.light_bgr)
        shine = np.clip(normal @ GLOSS_FROM, 0, 1)[:, None]
        drawn += gloss * 190 * shine**120 + look.gloss * (1 - gloss) * shine**18
        if look.exposure is not None:
            drawn *= look.exposure / max(float(drawn[face[seen]].mean()), 1.0) if face.any() else 1.0
        image = ground.astype(np.float32)
        image[seen] = drawn
        if mouths.any():
            self._draw_mouth(image, mouths, camera, expression, drawn, self.textured[owner])
        down = camera[:2, 1] / -max(np.linalg.norm(camera[:2, 1]), 1e-9)
        shade_behind(image, eyes, EYE_SHADE_MM * px_per_mm, EYE_SHADE, down)
        shade_behind(image, mouths, MOUTH_SHADE_MM * px_per_mm, MOUTH_SHADE, down)
        if look.lashes and not look.dark_glasses:
            self._draw_lashes(image, face_mm, points, normals, visible, camera, px_per_mm)
        if look.lens and not look.dark_glasses:
            for lens in self.lenses:
                reflect(image, (lens @ camera[:, :3].T + camera[:, 3])[:, :2], look.lens)
        return image, face, visible

    def shade(self, normal: np.ndarray, lit: np.ndarray | float = 1.0) -> np.ndarray:
        """Light (n, 3) that arrives at surfaces with these unit normals (n, 3), y down; `lit`: by the first lamp."""
        look = self.look
        total = np.full((len(normal), 3), look.ambient, np.float32)
        if look.place is not None:
            total *= np.maximum(light.basis(normal * np.float32([1, -1, 1])) @ look.place.astype(np.float32), 0.05)
        for index, (direction, strength) in enumerate(look.lamps):
            unit = np.array(direction) / np.linalg.norm(direction)
            arriving = strength * np.clip((normal @ unit + 0.25) / 1.25, 0, None)
            total += (arriving * (lit if index == 0 else 1.0))[:, None]
        return total

    def _of(self, *regions: str) -> np.ndarray:
        """(N,) bool, vertices of the model in regions."""
        return np.isin(self.model.region, [self.model.region_names.index(name) for name in regions])

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

    def _lit(self, points: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """How much of the first lamp reaches points (P, 3) of the surface, (P,) 0 to 1; all in mm, image axes."""
        forward = np.array(self.look.lamps[0][0], float)
        forward /= np.linalg.norm(forward)
        across = np.cross([0.0, 1.0, 0.0], forward)
        across /= max(np.linalg.norm(across), 1e-9)
        turn = np.stack([across, np.cross(forward, across), forward])
        count = len(self.neutral)
        own, wanted = points @ turn.T, seen @ turn.T
        low, high = own[:count, :2].min(axis=0), own[:count, :2].max(axis=0)
        scale = SHADOW_PX / (high - low).max()
        own[:, :2] = (own[:, :2] - low) * scale
        owner, weight = rasterise(own, self.triangles, SHADOW_PX, SHADOW_PX)
        depth = np.where(owner >= 0, (own[self.triangles[owner], 2] * weight).sum(axis=2), -1e4).astype(np.float32)
        x, y = ((wanted[:, :2] - low) * scale - 0.5).T[..., None]
        total = np.zeros(len(seen), np.float32)
        for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)):
            nearest = remap(depth[..., None].repeat(3, axis=2), x + dx, y + dy)[:, 0]
            total += np.clip(1 - (nearest - wanted[:, 2] - SHADOW_MM) / 2.0, 0, 1)
        return total / 4

    def _draw_mouth(self, image, where, camera, expression, drawn, skin_drawn) -> None:
        """Teeth, gums and tongue in the image's px of the mouth, `where` (H, W), in place."""
        rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        top, left = rows[0], columns[0]
        window = where[top : rows[-1] + 1, left : columns[-1] + 1]
        inside = mouth.load()
        at = inside(self.model, self.neutral, expression, self.look.tongue)
        points = at.astype(float) @ camera[:, :3].T + camera[:, 3] - (left, top, 0)
        owner, weight = rasterise(points, inside.triangles, window.shape[1], window.shape[0])
        lips = self.neutral[self._of("mouth")][:, 2].max()
        shown = window & (owner >= 0)
        if not shown.any():
            return
        owner, weight = owner[shown], weight[shown]
        normals = vertex_normals(at, inside.triangles) @ camera[:, :3].T
        flesh = np.float32(self.look.mouth_bgr) * (2.2, 2.4, 2.4)
        colours = np.float32([flesh, self.look.tooth_bgr, flesh * (1.0, 1.0, 1.1)])
        # how strongly the skin around is lit, which is what the mouth gets at most
        level = drawn[skin_drawn].mean() / max(float(self.texture.mean()), 1.0) if skin_drawn.any() else 1.0
        mixed = mix(
            np.concatenate([normals, at[:, 2:] - lips], axis=1, dtype=np.float32), inside.triangles[owner], weight
        )
        normal = mixed[:, :3] / np.maximum(np.linalg.norm(mixed[:, :3], axis=1, keepdims=True), 1e-9)
        facing = np.clip(normal[:, 2:], 0, 1)
        colour = colours[inside.part[inside.triangles[owner, 0]]] * level * (0.45 + 0.55 * facing)
        colour *= np.exp(np.clip(mixed[:, 3:], -100, 0) / MOUTH_DARKER_MM)
        colour += 60 * level * np.clip(normal @ GLOSS_FROM, 0, 1)[:, None] ** 40
        patch = image[top : rows[-1] + 1, left : columns[-1] + 1]
        patch[shown] = colour

    def _draw_lashes(self, image, face_mm, points, normals, visible, camera, px_per_mm) -> None:
        """Lashes as dark strokes from the edges of the lids, in place."""
        rng = np.random.default_rng(self.look.paint.seed)
        breadth = 0.28 * px_per_mm
        strokes = np.zeros(image.shape[:2], np.uint8)
        for upper, lower in self.lids:
            for edge, longest, count, up in ((upper, LASH_MM, LASHES, 1.0), (lower, 0.45 * LASH_MM, LASHES // 2, -1.0)):
                place = np.sort(rng.uniform(0.3, len(edge) - 1.6, count))
                one, share = place.astype(int), (place % 1)[:, None]
                root = face_mm[edge[one]] * (1 - share) + face_mm[edge[one + 1]] * share
                # out of the surface, away from the nose, and up as far as the lid is open
                outwards = np.sign(root[:, 0].mean())
                sweep = np.stack([outwards * (0.5 - 0.8 * place / len(edge)), np.zeros(count), np.zeros(count)], 1)
                opened = np.linalg.norm(face_mm[upper] - face_mm[lower[len(lower) // 2]], axis=1).min() / 8.0
                tilt = up * np.clip(1.4 * opened - 0.5, -0.6, 0.9) if up > 0 else -0.6
                way = sweep + np.array([0.0, tilt, 0.8])
                way /= np.linalg.norm(way, axis=1, keepdims=True)
                tips = root + way * (longest * self.look.lashes * rng.uniform(0.6, 1, (count, 1)))
                ends = [(p @ camera[:, :3].T + camera[:, 3])[:, :2] for p in (root, tips)]
                for a, b, vertex in zip(*ends, edge[one], strict=True):
                    if visible[vertex]:
                        start, end = (tuple(int(v) for v in np.round(p * 16)) for p in (a, b))
                        cv2.line(strokes, start, end, 255, max(1, round(breadth)), cv2.LINE_AA, 4)
        share = strokes[..., None].astype(np.float32) / 255 * min(1.0, 0.3 + breadth)
        image += share * (np.float32(0.35) * np.float32(self.look.paint.brows_bgr) - image)


def before_eyes(model: MorphableModel, neutral: np.ndarray) -> tuple[np.ndarray, float]:
    """Middles of the subject's right and left pupil, (2, 3) mm, and z of what lies before all around them, mm.

    `neutral` : (N, 3) mm, the face without expression
    """
    pupils = model.region == model.region_names.index("pupil")
    eyes = np.stack([neutral[pupils & (side * model.mean[:, 0] > 0)].mean(axis=0) for side in (-1, 1)])
    x, y, z = neutral.T
    about = (np.abs(np.abs(x) - 31) < 18) & (np.abs(y - eyes[:, 1].mean()) < 18)
    return eyes, float(z[about].max()) + GLASSES_MM


def shade_behind(image: np.ndarray, behind: np.ndarray, reach_px: float, share: float, down: np.ndarray) -> None:
    """Darken pixels, (H, W) bool, that lie behind those around them, most below the upper edge, in place."""
    if not behind.any():
        return
    rows, columns = np.flatnonzero(behind.any(axis=1)), np.flatnonzero(behind.any(axis=0))
    pad = int(3 * reach_px) + 2
    window = (
        slice(max(0, rows[0] - pad), rows[-1] + pad + 1),
        slice(max(0, columns[0] - pad), columns[-1] + pad + 1),
    )
    front = 1 - behind[window].astype(np.float32)
    shift = np.float32([[1, 0, 0.7 * reach_px * down[0]], [0, 1, 0.7 * reach_px * down[1]]])
    height, width = front.shape
    moved = cv2.warpAffine(front, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
    dark = cv2.GaussianBlur(moved, (0, 0), max(reach_px, 0.3), borderType=cv2.BORDER_REPLICATE)
    image[window] *= (1 - share * dark * behind[window])[..., None]


def reflect(image: np.ndarray, lens_px: np.ndarray, share: float) -> None:
    """Lay the reflection of a bright sky over a lens, (n, 2) px, in place."""
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(lens_px * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    low, high = lens_px.min(axis=0), lens_px.max(axis=0)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    across = ((x - low[0]) - 0.6 * (y - low[1])) / max(high[0] - low[0], 1.0)
    streak = 0.25 + np.exp(-(((across - 0.25) / 0.16) ** 2))
    image += (share * streak * mask / 255)[..., None] * (235 - image)


def remap(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear samples (n, 3) of an image at columns of pixel indices (n, 1); OpenCV wants them folded to an image."""
    wide = 4096
    rows = -(-len(x) // wide)
    folded = [np.pad(v.ravel(), (0, rows * wide - len(v))).reshape(rows, wide).astype(np.float32) for v in (x, y)]
    return cv2.remap(image, *folded, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(-1, 3)[: len(x)]
