"""The light on faces, and their skin: nine spherical harmonics a channel and the coefficients of the skin model.

What a camera sees of skin is albedo x shading. The albedo is the skin model's, linear in its coefficients; the shading
is linear in 27 numbers. Both are estimated in turn by robust least squares at some hundred points of the tracked mesh,
with the priors of the skin model. Colours are the image's own values / 255; nothing is linearised.

Convention
----------
Normals are in view axes: x to image right, y up, z to the viewer. Basis and constants are those of Deep3DFaceRecon: of
its 27 numbers only the first of each channel differs, by 0.8. How bright the light is and how dark the skin cannot be
separated in one photograph; the priors split them as they are split on average.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Annotated

import numpy as np

from facet.tracker.bounded import divide
from facet.tracker.compiling import njit
from facet.tracker.errors import WeightsError
from facet.tracker.morphable import MorphableModel, add_expression
from facet.tracker.weights import find_entry, load_arrays

BANDS = 9
# of Deep3DFaceRecon, per band; they only set the unit of the 27 numbers
LOBE = math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8)
OWN = 1 / math.sqrt(4 * math.pi), math.sqrt(3) / math.sqrt(4 * math.pi), 3 * math.sqrt(5) / math.sqrt(12 * math.pi)
C0, C1, C2 = (lobe * own for lobe, own in zip(LOBE, OWN, strict=True))
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # of R, G, B

POINTS = 280  # of the face at which its light is estimated
MIN_FACING = 0.25  # cosine between the surface and the camera below which a point does not count
MIN_POINTS = 60
DARK, BRIGHT = 10.0 / 255, 250.0 / 255  # beyond, a pixel says nothing
ROUNDS = 6  # of light and skin in turn, for a face that is new
EFFECTIVE_POINTS = 150.0  # neighbours err together: so many count as independent
OUTLIER = 2.0  # noise levels beyond which a point counts less


@dataclass(frozen=True, slots=True)
class LightConfig:
    """Whether light and skin of tracked faces are estimated."""

    enabled: Annotated[bool, "estimate the light on each face and its skin, for --log and --view lit"] = False
    smoothing_s: Annotated[float, "time constant of their smoothing, seconds; 0: none"] = 1.0

    def __post_init__(self):
        if not 0 <= self.smoothing_s <= 60:
            raise ValueError(f"smoothing_s must be in [0, 60], got {self.smoothing_s}")


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """Light from all sides, as white surfaces show it."""

    harmonics: np.ndarray  # (3, 9) float32, R, G, B: shading = basis @ harmonics[channel]

    def shading(self, normals: np.ndarray) -> np.ndarray:
        """(n, 3) float32, R, G, B, of surfaces with these unit normals (n, 3), view axes; not below 0."""
        return np.maximum(basis(normals) @ self.harmonics.T, 0)

    @property
    def direction(self) -> np.ndarray:
        """Where a single lamp would be that brightens the visible surfaces the same way, (3,) float, unit, view axes.

        To the viewer where none would. Surfaces that face away do not count: what light they get is hardly known.
        """
        x, y, z = _trend() @ (LUMINANCE @ self.harmonics).astype(np.float64)
        aside = math.hypot(x, y)
        if max(aside, abs(z)) < 1e-6:
            return np.array([0.0, 0.0, 1.0])
        slopes, angles = _lamps()
        angle = float(np.interp(math.atan2(aside, z), slopes, angles))
        x, y = (x / aside, y / aside) if aside > 1e-9 else (1.0, 0.0)
        return np.array([x * math.sin(angle), y * math.sin(angle), math.cos(angle)])

    @property
    def intensity(self) -> float:
        """Luminance of a white surface that faces the main direction; 1 is the image's white."""
        return float(LUMINANCE @ self.shading(self.direction[None])[0])

    @property
    def tint(self) -> np.ndarray:
        """Colour of the light, (3,) R, G, B with a mean of 1."""
        colour = np.maximum(self.harmonics[:, 0].astype(np.float64), 1e-6)
        return colour / colour.mean()


@dataclass(frozen=True, slots=True, eq=False)
class FaceAppearance:
    """What is known of how a face looks."""

    light: Light | None  # None where the face is too dark, too bright or too small for it to be known
    skin: np.ndarray | None  # (K,) float32, coefficients of the skin model, in standard deviations


def basis(normals: np.ndarray) -> np.ndarray:
    """The nine harmonics of unit normals (n, 3), view axes; (n, 9) float32."""
    out = np.empty((len(normals), BANDS), np.float32)
    _basis(np.ascontiguousarray(normals, np.float32), out)
    return out


@cache
def _trend() -> np.ndarray:
    """(3, 9): harmonics -> slope of the brightness over directions of the half sphere towards the viewer."""
    normals = sphere(600)
    normals = normals[normals[:, 2] > 0]
    line = np.column_stack([np.ones(len(normals)), normals])
    return np.linalg.lstsq(line, basis(normals).astype(np.float64), rcond=None)[0][1:]


@cache
def _lamps() -> tuple[np.ndarray, np.ndarray]:
    """Of lamps ever further from the viewer: the angle of the slope of their light, and their own, radians, ascending.

    The slope lies further to the side than the lamp.
    """
    angles = np.radians(np.arange(0, 151, 5))
    slopes = [_trend() @ lamp((math.sin(a), 0.0, math.cos(a))).harmonics[0] for a in angles]
    found = np.array([math.atan2(abs(x), z) for x, _, z in slopes])
    return np.maximum.accumulate(found), angles


def fitted_light(normals: np.ndarray, shading: np.ndarray) -> Light:
    """The light whose shading is nearest to (n, 3) R, G, B of unit normals (n, 3), view axes."""
    return Light(np.linalg.lstsq(basis(normals), shading, rcond=None)[0].T.astype(np.float32))


def turned_light(light: Light, rotation: np.ndarray) -> Light:
    """The light in other axes: `rotation`, (3, 3), takes directions there."""
    normals = sphere(200)
    return fitted_light(normals @ rotation.T, basis(normals) @ light.harmonics.T)


def lamp(direction: np.ndarray | Sequence[float], strength: float = 1.0, ambient: float = 0.25) -> Light:
    """A white lamp far away, (3,) view axes, and white light from all sides; a surface facing it has their sum."""
    normals, toward = sphere(500), np.asarray(direction, np.float64) / np.linalg.norm(direction)
    shading = ambient + strength * np.clip(normals @ toward, 0, None)
    return fitted_light(normals, np.repeat(shading[:, None], 3, axis=1))


def sphere(count: int) -> np.ndarray:
    """Directions spread evenly over the sphere, (count, 3) float64: a spiral of golden angles."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.arange(count) * math.pi * (3 - math.sqrt(5))
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


@njit(nogil=True)
def _basis(normals, out):
    for i in range(len(normals)):
        x, y, z = normals[i, 0], normals[i, 1], normals[i, 2]
        out[i, 0] = C0
        out[i, 1] = -C1 * y
        out[i, 2] = C1 * z
        out[i, 3] = -C1 * x
        out[i, 4] = C2 * x * y
        out[i, 5] = -C2 * y * z
        out[i, 6] = C2 * 0.5 / math.sqrt(3.0) * (3 * z * z - 1)
        out[i, 7] = -C2 * x * z
        out[i, 8] = C2 * 0.5 * (x * x - y * y)


@dataclass(frozen=True, eq=False)
class SkinModel:
    """Albedo of skin on the face model's UV layout, linear in coefficients of unit variance; R, G, B in [0, 1]."""

    mean: np.ndarray  # (S, S, 3) float32
    modes: np.ndarray  # (K, s, s, 3) float32
    light_mean: np.ndarray  # (27,) float32, of photographs' lights: R, G, B, nine numbers each
    light_precision: np.ndarray  # (27, 27) float32, inverse of their covariance
    noise: float  # of a colour that light and modes do not explain

    @property
    def count(self) -> int:
        return len(self.modes)

    @cached_property
    def coarse_mean(self) -> np.ndarray:
        """The mean at the modes' resolution, (s, s, 3) float32."""
        side, block = self.modes.shape[1], len(self.mean) // self.modes.shape[1]
        return self.mean[: side * block, : side * block].reshape(side, block, side, block, 3).mean(axis=(1, 3))

    def at(self, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n, 3) and modes (n, 3, K), float32, at places of the UV layout (n, 2), origin bottom left."""
        mean = sampled(self.coarse_mean, uv)
        side = self.modes.shape[1]
        modes = sampled(np.moveaxis(self.modes, 0, -1).reshape(side, side, -1), uv).reshape(len(uv), 3, -1)
        return mean, np.ascontiguousarray(modes)

    def albedo(self, skin: np.ndarray) -> np.ndarray:
        """The albedo of coefficients (K,) at the mean's resolution, (S, S, 3) float32, R, G, B in [0, 1]."""
        import cv2

        change = np.tensordot(np.asarray(skin, np.float32), self.modes, 1)
        size = self.mean.shape[:2]
        share = cv2.resize(1 + change / np.maximum(self.coarse_mean, 0.02), size, interpolation=cv2.INTER_CUBIC)
        return np.clip(self.mean * np.clip(share, 0.05, 4), 0.005, 1)


def sampled(layout: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples (n, C) float32 of a layout (S, S, C), whose first row is v = 1, at places (n, 2)."""
    side = len(layout)
    x = np.clip(uv[:, 0].astype(np.float32) * side - 0.5, 0, side - 1.001)
    y = np.clip((1 - uv[:, 1].astype(np.float32)) * side - 0.5, 0, side - 1.001)
    column, row = x.astype(int), y.astype(int)
    fx, fy = (x - column)[:, None], (y - row)[:, None]
    top = layout[row, column] * (1 - fx) + layout[row, column + 1] * fx
    bottom = layout[row + 1, column] * (1 - fx) + layout[row + 1, column + 1] * fx
    return (top * (1 - fy) + bottom * fy).astype(np.float32)


def load_skin(path: str = "weights/skin.npz") -> SkinModel:
    """Load the skin model.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or holds other arrays.
    """
    entry = find_entry(path, "skin")
    arrays = load_arrays(entry.path)
    shapes = {"mean": 3, "modes": 4, "modes_scale": 1, "light_mean": 1, "light_precision": 2, "noise": 0}
    for name, dimensions in shapes.items():
        if name not in arrays or arrays[name].ndim != dimensions:
            found = f"shape {arrays[name].shape}" if name in arrays else "none"
            raise WeightsError(f"{entry.path}: expected an array {name} of {dimensions} dimensions, found {found}")
    return SkinModel(
        mean=arrays["mean"][..., ::-1].astype(np.float32) / 255,
        modes=arrays["modes"][..., ::-1].astype(np.float32) * arrays["modes_scale"][:, None, None, None],
        light_mean=arrays["light_mean"].astype(np.float32),
        light_precision=arrays["light_precision"].astype(np.float32),
        noise=float(arrays["noise"]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Points of the face at which colours are compared, and what of the face model moves them."""

    mean: np.ndarray  # (M, 3) float32 mm: the points and their neighbours
    shape: np.ndarray  # (Ks, M * 3) float32
    expression_start: np.ndarray  # as of MorphableModel, of these vertices
    expression_vertex: np.ndarray
    expression_delta: np.ndarray
    own: np.ndarray  # (P,) int32, the points among those vertices
    ring: np.ndarray  # (P, R) int32, of each its neighbours, counter-clockwise; short rings repeat their first
    uv: np.ndarray  # (P, 2) float32
    vertices: np.ndarray  # (P,) int32, of the face model

    @classmethod
    def of(cls, model: MorphableModel, count: int = POINTS) -> Patches:
        """Points spread over the skin of the face."""
        names = list(model.region_names)
        if "face" not in names or not len(model.uv):
            raise WeightsError("light: expected a face model with regions and a UV layout, found one without")
        rings = _rings(model.triangles)
        skin = np.flatnonzero(model.region == names.index("face"))
        # in front of the ears, not the folds inside lids, lips and nostrils, whose normals look anywhere
        normals = _mean_normals(model.mean, model.triangles)
        whole = [v for v in skin if v in rings and model.mean[v, 2] > 25 and normals[v, 2] > 0.0]
        chosen = np.array(whole)[_spread(model.mean[whole], min(count, len(whole)))]
        longest = max(len(rings[v]) for v in chosen)
        padded = [[v, *rings[v], *([rings[v][0]] * (longest - len(rings[v])))] for v in chosen]
        used, place = np.unique(np.array(padded), return_inverse=True)
        slot = np.full(len(model.mean), -1)
        slot[used] = np.arange(len(used))
        kept = slot[model.expression_vertex] >= 0
        start = model.expression_start
        lengths = [kept[a:b].sum() for a, b in itertools.pairwise(start)]
        place = place.reshape(len(chosen), -1).astype(np.int32)
        return cls(
            mean=model.mean[used],
            shape=model.shape_basis[:, used].reshape(model.shape_count, -1),
            expression_start=np.r_[0, np.cumsum(lengths)].astype(np.int32),
            expression_vertex=slot[model.expression_vertex[kept]].astype(np.int32),
            expression_delta=model.expression_delta[kept],
            own=np.ascontiguousarray(place[:, 0]),
            ring=np.ascontiguousarray(place[:, 1:]),
            uv=model.uv[chosen].astype(np.float32),
            vertices=chosen.astype(np.int32),
        )


def _rings(triangles: np.ndarray) -> dict[int, list[int]]:
    """Of each vertex within the mesh its neighbours in order."""
    after: dict[int, dict[int, int]] = {}
    for a, b, c in triangles.tolist():
        for v, first, second in ((a, b, c), (b, c, a), (c, a, b)):
            after.setdefault(v, {})[first] = second
    rings = {}
    for v, steps in after.items():
        ring = [next(iter(steps))]
        while (following := steps.get(ring[-1])) is not None and following != ring[0] and len(ring) < len(steps):
            ring.append(following)
        if following == ring[0] and len(ring) == len(steps):
            rings[v] = ring
    return rings


def _mean_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    area = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, triangles[:, k], area)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _spread(points: np.ndarray, count: int) -> np.ndarray:
    """Farthest-point sampling; indices (count,)."""
    chosen = [int(np.argmax(points[:, 2]))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


class LightEstimator:
    """Estimates light and skin of the faces of a face model; has no state."""

    def __init__(self, model: MorphableModel, skin: SkinModel, points: int = POINTS):
        self.skin = skin
        self.patches = Patches.of(model, points)
        self.mean, self.modes = skin.at(self.patches.uv)
        self._eye = np.eye(skin.count, dtype=np.float32)

    def vertices(self, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """The points and their neighbours, (M, 3) float32 mm, in the order of `Patches.mean`."""
        patches = self.patches
        return add_expression(
            patches.mean + (np.asarray(shape, np.float32) @ patches.shape).reshape(-1, 3),
            np.asarray(expression, np.float32),
            patches.expression_start,
            patches.expression_vertex,
            patches.expression_delta,
        )

    def observe(
        self, image: np.ndarray, camera: np.ndarray, shape: np.ndarray, expression: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the image, (H, W, 3) uint8 BGR, shows at the points of a face.

        Returns
        -------
        colours (P, 3) float32, R, G, B; harmonics (P, 9) float32; weights (P,) float32: 0 where the image shows nothing
        """
        patches, vertices = self.patches, self.vertices(shape, expression)
        count = len(patches.ring)
        colours, weights = np.empty((count, 3), np.float32), np.empty(count, np.float32)
        harmonics = np.empty((count, BANDS), np.float32)
        camera = np.asarray(camera, np.float32)
        _observe(image, camera, vertices, patches.own, patches.ring, colours, harmonics, weights)
        return colours, harmonics, weights

    def solve(
        self,
        colours: np.ndarray,
        harmonics: np.ndarray,
        weights: np.ndarray,
        start: tuple[np.ndarray, np.ndarray] | None = None,
        rounds: int = ROUNDS,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Light (27,) and skin (K,) of observed colours, both float32, from a start; None where too little is seen."""
        seen = weights > 0
        if seen.sum() < MIN_POINTS or float(colours[seen].std()) < 1e-3:
            return None
        light, skin = start or (self.skin.light_mean.copy(), np.zeros(self.skin.count, np.float32))
        light, skin = light.copy(), skin.copy()
        self._alternate(colours, harmonics, weights, light, skin, rounds)
        return (light, skin) if np.isfinite(light).all() and np.isfinite(skin).all() else None

    def light_under(
        self, colours: np.ndarray, harmonics: np.ndarray, weights: np.ndarray, skin: np.ndarray
    ) -> np.ndarray:
        """The light (27,) float32 on skin whose coefficients (K,) are known."""
        light, own = self.skin.light_mean.copy(), skin.astype(np.float32)
        self._alternate(colours, harmonics, weights, light, own, ROUNDS, fixed_skin=True)
        return light

    def _alternate(self, colours, harmonics, weights, light, skin, rounds, fixed_skin=False) -> None:
        _alternate(
            colours, harmonics, weights, self.mean, self.modes, self.skin.light_mean, self.skin.light_precision,
            self._eye, np.float32(self.skin.noise), light, skin, rounds, fixed_skin,
        )  # fmt: skip


@dataclass(slots=True)
class LightTrack:
    """Light and skin of one track, smoothed slowly."""

    estimator: LightEstimator
    smoothing_s: float
    _light: np.ndarray | None = None
    _skin: np.ndarray | None = None
    _time_s: float = 0.0

    def __call__(
        self, image: np.ndarray, camera: np.ndarray, shape: np.ndarray, expression: np.ndarray, time_s: float
    ) -> FaceAppearance:
        """Advance by a frame."""
        observed = self.estimator.observe(image, camera, shape, expression)
        known = None if self._light is None or self._skin is None else (self._light, self._skin)
        found = self.estimator.solve(*observed, start=known, rounds=ROUNDS if known is None else 1)
        if found is None:
            self._light = self._skin = None
            return FaceAppearance(None, None)
        if known is None:
            self._light, self._skin = found
        else:
            passed_s = max(time_s - self._time_s, 0.0)
            gain = 1.0 if self.smoothing_s == 0 else np.float32(1 - math.exp(-passed_s / self.smoothing_s))
            self._light = known[0] + gain * (found[0] - known[0])
            self._skin = known[1] + gain * (found[1] - known[1])
        self._time_s = time_s
        light, skin = self._light, self._skin
        return FaceAppearance(Light(light.reshape(3, BANDS).copy()), skin.copy())


@njit(nogil=True, fastmath=True)
def _observe(image, camera, vertices, own, ring, colours, harmonics, weights):
    height, width = image.shape[:2]
    count, neighbours = ring.shape
    placed = np.empty_like(vertices)
    for i in range(len(vertices)):
        for row in range(3):
            placed[i, row] = (
                camera[row, 0] * vertices[i, 0] + camera[row, 1] * vertices[i, 1] + camera[row, 2] * vertices[i, 2]
            )
        placed[i, 0] += camera[0, 3]
        placed[i, 1] += camera[1, 3]
    normals = np.empty((count, 3), np.float32)
    for i in range(count):
        nx = ny = nz = np.float32(0)
        for k in range(neighbours - 1):
            a, b = placed[ring[i, k]], placed[ring[i, k + 1]]
            # y down mirrors the axes, hence b x a; the area of the ring about the point does not depend on the point
            nx += b[1] * a[2] - b[2] * a[1]
            ny += b[2] * a[0] - b[0] * a[2]
            nz += b[0] * a[1] - b[1] * a[0]
        a, b = placed[ring[i, neighbours - 1]], placed[ring[i, 0]]
        nx += b[1] * a[2] - b[2] * a[1]
        ny += b[2] * a[0] - b[0] * a[2]
        nz += b[0] * a[1] - b[1] * a[0]
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        weights[i] = 0
        if not length > 0:
            nx, ny, nz = np.float32(0), np.float32(0), np.float32(1)
        else:
            nx, ny, nz = nx / length, -ny / length, nz / length
        normals[i, 0], normals[i, 1], normals[i, 2] = nx, ny, nz
        mx, my = placed[own[i], 0] - np.float32(0.5), placed[own[i], 1] - np.float32(0.5)
        if not abs(mx) + abs(my) < 1e6:  # nor is nan
            for c in range(3):
                colours[i, c] = 0
            continue
        counts = nz > MIN_FACING and mx >= 0 and my >= 0 and mx < width - 1 and my < height - 1
        mx, my = min(max(mx, np.float32(0)), np.float32(width - 1)), min(max(my, np.float32(0)), np.float32(height - 1))
        column, row = max(min(int(mx), width - 2), 0), max(min(int(my), height - 2), 0)
        right, under = min(column + 1, width - 1), min(row + 1, height - 1)
        fx, fy = mx - column, my - row
        low, high = np.float32(1), np.float32(0)
        for c in range(3):
            top = image[row, column, c] * (1 - fx) + image[row, right, c] * fx
            bottom = image[under, column, c] * (1 - fx) + image[under, right, c] * fx
            value = np.float32((top * (1 - fy) + bottom * fy) / 255.0)
            colours[i, 2 - c] = value
            low, high = min(low, value), max(high, value)
        if counts and high > DARK and low < BRIGHT:
            weights[i] = min((nz - MIN_FACING) / 0.4, 1.0)
    _basis(normals, harmonics)


@njit(nogil=True, fastmath=True)
def _alternate(
    colours, harmonics, weights, mean, modes, light_mean, light_precision, eye, noise, light, skin, rounds, fixed_skin
):
    """Light and skin in turn, in place; see `LightEstimator.solve`."""
    count, modes_count = len(colours), len(skin)
    total = np.float32(0)
    for i in range(count):
        total += weights[i]
    trust = np.float32(EFFECTIVE_POINTS) / max(total, np.float32(EFFECTIVE_POINTS)) / (noise * noise)
    albedo = np.empty((count, 3), np.float32)
    weighted = np.empty(count, np.float32)
    hessian, right = np.empty((27, 27)), np.empty(27)
    own, own_right = np.empty((modes_count, modes_count)), np.empty(modes_count)
    row = np.empty(modes_count, np.float32)
    small = np.empty((modes_count, modes_count), np.float32)
    for turn in range(rounds):
        # a new face may look unlike the start all over: what is an outlier shows later
        loose = np.float32(2.0 ** max(rounds - 3 - turn, 0))
        for i in range(count):
            error = np.float32(0)
            for c in range(3):
                value = mean[i, c]
                for k in range(modes_count):
                    value += skin[k] * modes[i, c, k]
                albedo[i, c] = max(value, np.float32(0.01))
                shade = np.float32(0)
                for b in range(9):
                    shade += harmonics[i, b] * light[9 * c + b]
                error += (albedo[i, c] * shade - colours[i, c]) ** 2
            error /= 3 * (np.float32(OUTLIER) * loose * noise) ** 2
            weighted[i] = weights[i] * trust / (1 + error) ** 2
        for j in range(27):
            right[j] = 0
            for k in range(27):
                hessian[j, k] = light_precision[j, k]
                right[j] += light_precision[j, k] * light_mean[k]
        for i in range(count):
            if weighted[i] == 0:
                continue
            for c in range(3):
                factor = weighted[i] * albedo[i, c]
                for b in range(9):
                    lever = factor * harmonics[i, b]
                    right[9 * c + b] += lever * colours[i, c]
                    lever *= albedo[i, c]
                    for d in range(b + 1):
                        hessian[9 * c + b, 9 * c + d] += lever * harmonics[i, d]
        _solve_lower(hessian, right)
        for j in range(27):
            light[j] = right[j]
        if fixed_skin:
            continue
        for j in range(modes_count):
            own_right[j] = 0
            for k in range(j + 1):
                small[j, k] = 0
        for i in range(count):
            if weighted[i] == 0:
                continue
            for c in range(3):
                shade = np.float32(0)
                for b in range(9):
                    shade += harmonics[i, b] * light[9 * c + b]
                shade = max(shade, np.float32(0))
                rest = colours[i, c] - shade * mean[i, c]
                for k in range(modes_count):
                    row[k] = shade * modes[i, c, k]
                for j in range(modes_count):
                    lever = weighted[i] * row[j]
                    own_right[j] += lever * rest
                    for k in range(j + 1):
                        small[j, k] += lever * row[k]
        for j in range(modes_count):
            for k in range(j + 1):
                own[j, k] = small[j, k] + eye[j, k]
        _solve_lower(own, own_right)
        for k in range(modes_count):
            skin[k] = min(max(own_right[k], -4.0), 4.0)


@njit(nogil=True)
def _solve_lower(matrix, right):
    """Solve a positive definite system of which the lower triangle is given, in place, by Cholesky's method."""
    size = len(right)
    for j in range(size):
        for k in range(j):
            value = matrix[j, k]
            for m in range(k):
                value -= matrix[j, m] * matrix[k, m]
            matrix[j, k] = value / matrix[k, k]
        value = matrix[j, j]
        for m in range(j):
            value -= matrix[j, m] * matrix[j, m]
        matrix[j, j] = math.sqrt(max(value, 1e-12))
    divide(matrix, right)
