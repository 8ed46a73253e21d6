"""The anatomical convention of the 68 points, brought about from what each labeller draws.

usage: python -m tools.data.convention [--sheet PATH]   errors on the delineated people that gave no offset

MediaPipe's points are the base: they close with the lips and the eyes. Its constant differences from delineated
portraits, measured on one half of the people in the face's own axes, are added. Annotated points and 3DDFA_V2's come to
the same convention by linear maps, learnt on faces where both are known.

Convention
----------
36, 39, 42, 45 are the corners where the lids meet, 60-67 the inner edges of the lips, which coincide when the lips
touch; 0-16 lie on the visible contour. Offsets are in outer eye distances (of points 36 and 45 in 3D), x to the image
right and y down in the frontal face.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from facet.tracker.mirror import MIRROR_68
from tools.data import material
from tools.data.split import gives_offsets

# delineated points that are the same place as one of the 68
EXACT = {36: 18, 39: 22, 42: 23, 45: 27, 48: 87, 54: 93, 51: 90, 57: 106, 62: 96, 66: 101}
IRIS_RINGS = (range(2, 10), range(10, 18))  # delineated points about the subject's right and left iris
# curves that both schemes draw, with points at other places: only the distance from the curve is an offset
CURVES = (
    ((37, 38), (18, 19, 20, 21, 22)),
    ((40, 41), (22, 30, 29, 28, 18)),
    ((43, 44), (23, 24, 25, 26, 27)),
    ((46, 47), (27, 33, 32, 31, 23)),
    ((49, 50, 52, 53), (87, 88, 89, 90, 91, 92, 93)),
    ((55, 56, 58, 59), (93, 108, 107, 106, 105, 104, 87)),
)
INNER_LIPS = {61: 62, 63: 62, 65: 66, 67: 66}  # take the offset of the middle of the same lip
MESH_IRISES = (468, 473)
# MediaPipe's mean displacement in x and y, px, by the outer eye distance in the image that it was run on, px
BIAS_EYE_PX, BIAS_PX = (43.0, 90.0, 200.0), (-0.45, -0.33, 0.0)
LABELLED_PX = 640.0  # longer side of the photographs when MediaPipe labelled them


@cache
def canonical() -> np.ndarray:
    """MediaPipe's mean mesh of the delineated people, (468, 3), outer eye distance 1, frontal, symmetric in x only."""
    mesh = material.delineated().mesh[:, :468].astype(np.float64)
    mesh = mesh - mesh.mean(axis=1, keepdims=True)
    mean = mesh[0]
    for _ in range(4):
        rotation, scale = axes_of(mesh, mean)
        mean = (np.einsum("nij,nki->nkj", rotation, mesh) / scale[:, None, None]).mean(axis=0)
    corners = mean[263] - mean[33]
    mean = mean / np.linalg.norm(corners)
    # x along the eyes, and no pitch beside what these people have on average
    corners = corners / np.linalg.norm(corners)
    down = np.cross((0, 0, 1.0), corners)
    down /= np.linalg.norm(down)
    return mean @ np.stack([corners, down, np.cross(corners, down)], axis=1)


def axes_of(mesh: np.ndarray, model: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and size of faces by their MediaPipe points.

    Parameters
    ----------
    mesh : (n, 468 or more, 3) float, px, z larger is nearer

    Returns
    -------
    rotation : (n, 3, 3), frontal face -> image
    scale : (n,) px of the outer eye distance
    """
    model = canonical() if model is None else model
    target = mesh[:, :468].astype(np.float64)
    target = target - target.mean(axis=1, keepdims=True)
    source = model - model.mean(axis=0)
    u, singular, vt = np.linalg.svd(np.einsum("nki,kj->nij", target, source))
    sign = np.ones((len(mesh), 3))
    sign[:, 2] = np.linalg.det(u @ vt)
    rotation = np.einsum("nij,nj,njk->nik", u, sign, vt)
    return rotation, (singular * sign).sum(axis=1) / (source**2).sum()


def nearest_on_curve(points: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """The nearest points, (k, 2), on a smooth curve through (m, 2) knots."""
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))]
    fine = CubicSpline(steps, curve)(np.linspace(0, steps[-1], 1000))
    distance = np.linalg.norm(points[:, None] - fine[None], axis=2)
    return fine[distance.argmin(axis=1)]


@cache
def offsets() -> tuple[np.ndarray, np.ndarray]:
    """What is added to MediaPipe's points: of the 68 (68, 2), of the subject's right and left iris (2, 2)."""
    known = material.delineated()
    rows = [
        i for i, person in enumerate(known.identity) if gives_offsets(person) and np.isfinite(known.points[i]).all()
    ]
    mesh, drawn = known.mesh[rows].astype(np.float64), known.points[rows].astype(np.float64)
    rotation, scale = axes_of(mesh)
    own = mesh[:, material.MESH_TO_68, :2]
    wanted = own.copy()
    for k, q in EXACT.items():
        wanted[:, k] = drawn[:, q]
    for points, curve in CURVES:
        points = list(points)
        for i in range(len(rows)):
            wanted[i, points] = nearest_on_curve(own[i, points], drawn[i, list(curve)])
    # the photographs are frontal: the image's axes are the face's but for the roll
    turn = rotation[:, :2, :2]
    result = (np.einsum("nij,nki->nkj", turn, wanted - own) / scale[:, None, None]).mean(axis=0)
    for k, middle in INNER_LIPS.items():
        result[k] = result[middle]
    result = (result + result[MIRROR_68] * (-1, 1)) / 2
    rings = np.stack([drawn[:, list(ring)].mean(axis=1) for ring in IRIS_RINGS], axis=1)
    irises = np.einsum("nij,nki->nkj", turn, rings - mesh[:, MESH_IRISES, :2]) / scale[:, None, None]
    irises = irises.mean(axis=0)
    irises = (irises + irises[::-1] * (-1, 1)) / 2
    return result, irises


def small_image_bias(eye_px: np.ndarray, image_px: np.ndarray) -> np.ndarray:
    """MediaPipe's mean displacement on photographs of the material, px of the photograph, the same in x and y.

    Parameters
    ----------
    eye_px : (n,) outer eye distance in the photograph
    image_px : (n,) longer side of the photograph
    """
    zoom = np.maximum(1.0, LABELLED_PX / image_px)
    return np.interp(eye_px * zoom, BIAS_EYE_PX, BIAS_PX) / zoom


def from_mesh(mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """MediaPipe's points in the anatomical convention.

    Parameters
    ----------
    mesh : (n, 478, 3) float, px, z larger is nearer

    Returns
    -------
    points : (n, 68, 2) float64, px; 0-16 as MediaPipe draws them, which is the visible contour of a frontal face only
    irises : (n, 2, 2) float64, px, the subject's right one first
    """
    rotation, scale = axes_of(mesh)
    turn = rotation[:, :2, :2] * scale[:, None, None]
    points, irises = offsets()
    return (
        mesh[:, material.MESH_TO_68, :2] + np.einsum("nij,kj->nki", turn, points),
        mesh[:, MESH_IRISES, :2] + np.einsum("nij,kj->nki", turn, irises),
    )


def bring(points: np.ndarray, wanted: np.ndarray, learn: np.ndarray, modes: int = 12, ridge: float = 1.0) -> np.ndarray:
    """Points of one convention brought to another by a linear map of the face's main modes.

    Parameters
    ----------
    points : (n, 68, 2) px
    wanted : (n, 68, 2) px in the other convention; only the rows to learn from are read
    learn : (n,) bool

    Returns
    -------
    (n, 68, 2) float64, px
    """
    eyes = points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1)
    x = eyes / np.linalg.norm(eyes, axis=1, keepdims=True)
    turn = np.stack([x, np.stack([-x[:, 1], x[:, 0]], axis=1)], axis=1)  # image -> upright
    size = np.sqrt(np.prod(np.ptp(points, axis=1), axis=1))[:, None, None]
    origin = points[:, 17:].mean(axis=1, keepdims=True)
    own = np.einsum("nij,nkj->nki", turn, points - origin) / size
    residual = (np.einsum("nij,nkj->nki", turn, wanted - origin) / size - own)[learn].reshape(learn.sum(), -1)
    flat = own.reshape(len(own), -1)
    mean = flat[learn].mean(axis=0)
    basis = np.linalg.svd(flat[learn] - mean, full_matrices=False)[2][:modes].T
    z = (flat - mean) @ basis
    z = np.c_[np.ones(len(z)), z / z[learn].std(axis=0)]
    gram = z[learn].T @ z[learn] + ridge * np.eye(z.shape[1])
    change = z @ np.linalg.solve(gram, z[learn].T @ residual)
    return np.einsum("nji,nkj->nki", turn, (own + change.reshape(own.shape)) * size) + origin


def errors(points: np.ndarray, irises: np.ndarray, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """How far points lie from a delineation, in outer eye distances.

    Parameters
    ----------
    points : (n, 68, 2) px
    irises : (n, 2, 2) px
    drawn : (n, 189, 2) px

    Returns
    -------
    shared : (n, 10) distances of the shared points, in the order of EXACT
    irises : (n, 2)
    closed : (m,) distance between 62 and 66 where the delineation has the lips closed
    """
    scale = np.linalg.norm(drawn[:, 18] - drawn[:, 27], axis=1)[:, None]
    shared = np.linalg.norm(points[:, list(EXACT)] - drawn[:, list(EXACT.values())], axis=2) / scale
    rings = np.stack([drawn[:, list(ring)].mean(axis=1) for ring in IRIS_RINGS], axis=1)
    closed = np.linalg.norm(drawn[:, 96] - drawn[:, 101], axis=1) < 0.01 * scale[:, 0]
    gap = np.linalg.norm(points[:, 62] - points[:, 66], axis=1) / scale[:, 0]
    return {"shared": shared, "irises": np.linalg.norm(irises - rings, axis=2) / scale, "closed": gap[closed]}


def bootstrap(values: np.ndarray, count: int = 1000) -> tuple[float, float]:
    """The 95 % interval of the mean over people, (n, ...)."""
    rng = np.random.default_rng(0)
    person = values.reshape(len(values), -1).mean(axis=1)
    means = [rng.choice(person, len(person)).mean() for _ in range(count)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def judged() -> tuple[material.Delineated, np.ndarray]:
    """The delineated portraits, and the rows with points of people that gave no offset."""
    known = material.delineated()
    whole = np.isfinite(known.points).all(axis=(1, 2))
    return known, np.flatnonzero([w and not gives_offsets(p) for w, p in zip(whole, known.identity, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sheet", type=Path, help="write an image of eyes and mouths with the points drawn")
    args = parser.parse_args()
    known, rows = judged()
    mesh, drawn = known.mesh[rows], known.points[rows]
    before = mesh[:, material.MESH_TO_68, :2], mesh[:, MESH_IRISES, :2]
    for name, (points, irises) in {"MediaPipe": before, "convention": from_mesh(mesh)}.items():
        for part, values in errors(points, irises, drawn).items():
            low, high = bootstrap(values)
            each = f"{100 * values.mean():.2f} % ({100 * low:.2f} to {100 * high:.2f})"
            print(f"{name:10s}  {part:6s}  {each}  n {len(values)}")
    if args.sheet:
        cv2.imwrite(str(args.sheet), sheet([str(material.folder() / "faces" / known.file[r]) for r in rows[:12]],
                                           *from_mesh(mesh[:12])))  # fmt: skip


def sheet(files: list[str], points: np.ndarray, irises: np.ndarray, wide: int = 640) -> np.ndarray:
    """Eyes and mouth of each photograph, enlarged, with points drawn; (H, W, 3) uint8 BGR."""
    rows = []
    for file, p, discs in zip(files, points, irises, strict=True):
        image, tiles = cv2.imread(file), []
        for part in (range(36, 42), range(42, 48), range(48, 68)):
            chosen = p[list(part)]
            low, high = chosen.min(axis=0), chosen.max(axis=0)
            size = (high - low)[0] * 1.25
            tiles.append(zoomed(image, (low + high) / 2, size, np.concatenate([p[17:], discs]), wide // 3))
        rows.append(np.hstack(tiles))
    half = -(-len(rows) // 2)
    rows += [np.zeros_like(rows[0])] * (2 * half - len(rows))
    return np.hstack([np.vstack(rows[:half]), np.vstack(rows[half:])])


def zoomed(image: np.ndarray, centre: np.ndarray, size: float, points: np.ndarray, wide: int) -> np.ndarray:
    """A window of `size` by 0.6 `size` px about a place, `wide` px wide, with dots."""
    zoom, high = wide / size, int(0.6 * wide)
    shift = np.array([wide, high]) / 2 - zoom * np.asarray(centre)
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    tile = cv2.warpAffine(image, matrix, (wide, high), flags=cv2.INTER_CUBIC)
    for x, y in points * zoom + shift - 0.5:
        if 0 <= x < wide and 0 <= y < high:
            cv2.circle(tile, (round(4 * x), round(4 * y)), 8, (0, 255, 0), -1, cv2.LINE_AA, 2)
    return tile


if __name__ == "__main__":
    main()
