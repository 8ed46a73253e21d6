"""The skin of people who do not exist: the average texture, with lips, brows, lids and grain painted on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from facet.tracker.mirror import MIRROR_68
from facet.tracker.morphable import MorphableModel
from tools.face_model.anatomy import PLACES_MM, lid_edge, on_surface
from tools.face_model.meshes import border_loops
from tools.raster import interpolate, rasterise

SIDE_PX = 512
LIP_OUTER = np.arange(48, 60)
BROW_BAND_MM = 9.0  # below and above the line of a brow's points, in which its hair lies
LINE_MM = 1.1  # breadth of the dark line along the lids
GRAIN_PX = (1.0, 2.5, 8.0, 24.0)  # sizes of the grain of a skin

Mask = tuple[tuple[slice, slice], np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where on the texture parts of the face lie: rows and columns of each, and there (h, w) float32, 0 to 1."""

    lips: Mask
    seam: Mask  # between the lips
    brows: Mask
    lid_lines: Mask  # roots of the lashes, of both lids
    upper_lids: Mask  # where eyeshadow lies
    rims: Mask  # the moist edge of the lids
    beard: Mask


@dataclass(frozen=True, slots=True)
class Paint:
    """What lies on a skin. Colours are BGR, 0 to 255; shares are 0 to 1."""

    lips_bgr: tuple = (104, 100, 168)
    lips: float = 0.3
    seam: float = 0.5
    brows_bgr: tuple = (38, 52, 74)
    brows: float = 0.3
    lid_lines: float = 0.5
    shadow_bgr: tuple = (70, 60, 80)
    shadow: float = 0.0
    beard_bgr: tuple = (38, 52, 74)
    beard: float = 0.0
    grain: float = 0.025
    seed: int = 0


def skin_triangles(model: MorphableModel) -> np.ndarray:
    """Those of face, ears and neck, (F, 3)."""
    skin = np.isin(model.region, [model.region_names.index(name) for name in ("face", "ear", "neck")])
    return model.triangles[skin[model.triangles].all(axis=1)]


def to_px(uv: np.ndarray) -> np.ndarray:
    """UV (n, 2) as px of the texture, (n, 2) float32."""
    return np.stack([uv[:, 0] * SIDE_PX, (1 - uv[:, 1]) * SIDE_PX], axis=1).astype(np.float32)


@lru_cache(maxsize=2)
def lid_edges(model: MorphableModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """Vertices of the edges of upper and lower lid, from the outer to the inner corner; subject's right eye first."""
    found, triangles = [], skin_triangles(model)
    for side in (-1, 1):
        ring = lid_edge(model.mean, triangles, side)[:-1]
        x = side * model.mean[ring, 0]
        start, end = int(np.argmax(x)), int(np.argmin(x))
        ring = np.roll(ring, -start)
        end = (end - start) % len(ring)
        paths = ring[: end + 1], np.r_[ring[end:], ring[:1]][::-1]
        found.append(tuple(sorted(paths, key=lambda path: -model.mean[path, 1].mean())))
    return found


@lru_cache(maxsize=2)
def places(model: MorphableModel) -> Places:
    """Find the parts on the layout of a model."""
    triangles, uv = skin_triangles(model), to_px(model.uv)
    px_a_mm = _px_a_mm(model, triangles)

    def on_texture(landmarks) -> np.ndarray:
        points = []
        for k in landmarks:
            place = PLACES_MM.get(k) or np.array(PLACES_MM[int(MIRROR_68[k])]) * (-1, 1, 1)
            corners, weight = on_surface(model.mean, triangles, np.array(place, float))
            points.append(weight @ uv[corners])
        return np.array(points)

    def blank() -> np.ndarray:
        return np.zeros((SIDE_PX, SIDE_PX), np.float32)

    def line(path, breadth_mm: float, closed: bool = False) -> np.ndarray:
        drawn = blank()
        points = np.round(path * 16).astype(np.int32)
        cv2.polylines(drawn, [points], closed, 1.0, max(1, round(breadth_mm * px_a_mm)), cv2.LINE_AA, 4)
        return drawn

    def filled(path) -> np.ndarray:
        return cv2.fillPoly(blank(), [np.round(path * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)

    def soft(mask, mm: float) -> np.ndarray:
        return cv2.GaussianBlur(mask, (0, 0), mm * px_a_mm)

    border = border_loops(triangles)
    lips = min(border[1:], key=lambda loop: model.mean[loop, 1].mean())
    holes = filled(uv[lips])
    outer = filled(smooth_loop(on_texture(LIP_OUTER)))
    brows, lids, shade, rims = blank(), blank(), blank(), blank()
    for points in (range(17, 22), range(22, 27)):
        brows = np.maximum(brows, line(on_texture(points), 1.6 * BROW_BAND_MM))
    for upper, lower in lid_edges(model):
        lids = np.maximum(lids, np.maximum(line(uv[upper], LINE_MM), 0.6 * line(uv[lower][1:-1], 0.7 * LINE_MM)))
        opening = filled(np.concatenate([uv[upper], uv[lower][::-1]]))
        rims = np.maximum(rims, opening)
        band = uv[upper] - np.float32([0, 4.0 * px_a_mm])
        shade = np.maximum(shade, filled(np.concatenate([uv[upper], band[::-1]])))
    x, y, z = model.mean.T
    bearded = _step(-18 - 0.25 * np.abs(x) - y, 5) * _step(z - 20, 5)
    around = np.maximum.reduce([_step(np.abs(x) - 30, 4), _step(-52 - y, 3), _step(y + 29, 3)])
    beard = _spread(bearded * around, uv, triangles)
    masks = (
        soft(np.clip(outer - holes, 0, 1), 0.5), soft(line(uv[lips], 1.4, True), 0.4), soft(brows, 2.0),
        soft(lids, 0.25), soft(shade, 1.5), soft(rims, 0.3), soft(beard, 1.5) * (1 - soft(outer, 1.0)),
    )  # fmt: skip
    return Places(*map(_boxed, masks))


def paint(model: MorphableModel, texture: dict[str, np.ndarray], modes: np.ndarray, tone, what: Paint) -> np.ndarray:
    """A skin.

    Parameters
    ----------
    texture : the arrays of skin.npz
    modes : (K,) weights of its modes
    tone : factors of blue, green and red

    Returns
    -------
    (SIDE_PX, SIDE_PX, 3) float32, BGR
    """
    rng, where = np.random.default_rng(what.seed), places(model)
    tint = np.tensordot(modes, texture["modes"] * texture["modes_scale"][:, None, None, None], 1)
    coarse = texture["mean"].astype(np.float32)
    coarse += cv2.resize(tint.astype(np.float32), coarse.shape[:2])
    # the hair of the brows is what is darker than the skin around it
    plain = cv2.blur(coarse, (2 * (len(coarse) // 34) + 1,) * 2)
    dark = cv2.resize(np.clip((plain - coarse).mean(axis=2) / 22, 0, 1), (SIDE_PX, SIDE_PX))
    skin = cv2.resize(np.maximum(coarse * np.float32(tone), 3), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    grain = sum(_noise(rng, size) for size in GRAIN_PX) / len(GRAIN_PX)
    skin *= (1 + what.grain * grain)[..., None]
    hairs = np.clip(0.75 + 0.35 * _noise(rng, 1.0), 0, 1)

    def lay(where: Mask, colour, share: float, hairy=None) -> None:
        if not share:
            return
        box, mask = where
        part = share * mask
        if hairy is not None:
            part = part * hairy[box]
        skin[box] += part[..., None] * (np.float32(colour) - skin[box])

    lay(where.lips, np.float32(what.lips_bgr) * np.float32(tone) ** 0.7, what.lips)
    lay(where.brows, what.brows_bgr, what.brows, dark * hairs)
    lay(where.upper_lids, what.shadow_bgr, what.shadow)
    lay(where.beard, what.beard_bgr, what.beard, hairs)
    lay(where.rims, np.float32(tone) * (120, 122, 178), 0.6)
    lay(where.lid_lines, (22, 24, 34), what.lid_lines)
    lay(where.seam, (30, 26, 52), what.seam)
    return skin


def smooth_loop(points: np.ndarray, rounds: int = 3) -> np.ndarray:
    """A closed line through the middles of the edges of (n, 2) points, ever more of them (Chaikin)."""
    for _ in range(rounds):
        after = np.roll(points, -1, axis=0)
        points = np.stack([0.85 * points + 0.15 * after, 0.15 * points + 0.85 * after], axis=1).reshape(-1, 2)
    return points.astype(np.float32)


def _noise(rng: np.random.Generator, size_px: float) -> np.ndarray:
    """Noise of unit variance with grains of so many px."""
    return np.roll(_field(size_px), tuple(rng.integers(0, SIDE_PX, 2)), axis=(0, 1))


@lru_cache(maxsize=8)
def _field(size_px: float) -> np.ndarray:
    side = max(2, int(SIDE_PX / size_px))
    noise = np.random.default_rng(int(size_px)).standard_normal((side, side), np.float32)
    return cv2.resize(noise, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)


def _boxed(mask: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    """The rows and columns in which a mask is more than nothing, and the mask there."""
    rows, columns = np.flatnonzero(mask.max(axis=1) > 0.01), np.flatnonzero(mask.max(axis=0) > 0.01)
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return box, mask[box]


def _step(value: np.ndarray, softness: float) -> np.ndarray:
    return 1 / (1 + np.exp(-value / softness))


def _spread(values: np.ndarray, uv: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Values (N,) of vertices on the texture, (SIDE_PX, SIDE_PX) float32."""
    points = np.column_stack([uv, np.zeros(len(uv))])
    owner, weight = rasterise(points, triangles, SIDE_PX, SIDE_PX)
    return interpolate(values[:, None].astype(np.float32), triangles, owner, weight)[..., 0].astype(np.float32)


def _px_a_mm(model: MorphableModel, triangles: np.ndarray) -> float:
    """How many px of the texture lie in a mm about the eyes and the mouth."""
    near = triangles[(model.mean[triangles, 2] > 75).all(axis=1)]
    uv = to_px(model.uv)
    px = np.linalg.norm(uv[near[:, 0]] - uv[near[:, 1]], axis=1)
    return float(np.median(px / np.linalg.norm(model.mean[near[:, 0]] - model.mean[near[:, 1]], axis=1)))
