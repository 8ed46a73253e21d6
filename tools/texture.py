"""Compute the average skin texture with its modes from photographs (weights/texture.npz).

python -m tools.texture --data runs/data [-o weights/texture.npz] [--sheet PICTURE]

Reads the fitted faces of `python -m tools.data.build fits`. Each person's most frontal photograph is unwrapped onto the
model's UV layout; the mean and the main modes of more than a thousand people show nobody.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.crop import crop_to_image
from facet.tracker.files import new_file
from facet.tracker.morphable import load_face_model
from facet.tracker.pose import angles_from_rotation, nearest_rotation
from facet.tracker.types import Roi
from facet.tracker.weights import ROOT
from tools.data import material
from tools.data.crops import SIZE_PX
from tools.manifest import describe, update_manifest
from tools.raster import interpolate, rasterise, vertex_normals

SIDE_PX = 256
MODES_SIDE_PX, MODES = 64, 8
MAX_YAW_DEG, MAX_ERROR = 28.0, 0.035
MIN_FACING = 0.25  # cosine between a surface and the camera below which a photograph says nothing of it


def choose(table: dict, fits: dict) -> list[int]:
    """One face a person: well fitted, not turned far, the most frontal first."""
    flip = np.diag([1.0, -1.0, 1.0])
    best: dict[str, tuple[float, int]] = {}
    for index in range(len(table["photo"])):
        camera = fits["camera"][index, 0]
        if table["group"][index] not in material.BARE_FACES or fits["error"][index].mean() > MAX_ERROR:
            continue
        yaw, pitch, _ = angles_from_rotation(nearest_rotation((flip @ camera[:, :3])[:2]))
        turned = np.hypot(yaw, pitch)
        size_px = np.linalg.norm(camera[0, :3]) * table["roi"][index, 2] / SIZE_PX
        if turned > MAX_YAW_DEG or size_px < 0.6:
            continue
        person = str(table["identity"][index]) or f"photo {table['photo'][index]}"
        cost = turned / 30 - min(size_px, 1.5)
        if person not in best or cost < best[person][0]:
            best[person] = (cost, index)
    return [index for _, index in best.values()]


def unwrap(image: np.ndarray, points: np.ndarray, normals: np.ndarray, texels) -> tuple[np.ndarray, np.ndarray]:
    """A photograph on the model's UV layout.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR
    points : (N, 3) float, image px; normals : (N, 3), image axes, z to the viewer
    texels : triangles (F, 3), and the z-buffer of the UV layout

    Returns
    -------
    colour (S, S, 3) float32, weight (S, S) float32: how squarely the camera saw it
    """
    triangles, triangle, weight = texels
    place = interpolate(points, triangles, triangle, weight).astype(np.float32)
    facing = interpolate(normals, triangles, triangle, weight)[..., 2]
    colour = cv2.remap(
        image, place[..., 0] - 0.5, place[..., 1] - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inside = (place[..., 0] > 1) & (place[..., 1] > 1)
    inside &= (place[..., 0] < image.shape[1] - 1) & (place[..., 1] < image.shape[0] - 1)
    return colour.astype(np.float32), (np.clip(facing - MIN_FACING, 0, None) * inside * (triangle >= 0)).astype(
        np.float32
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "runs" / "data")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "weights" / "texture.npz")
    parser.add_argument("--sheet", type=Path, help="draw the mean and its modes into a picture")
    args = parser.parse_args()
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    table, fits = (dict(np.load(args.data / name)) for name in ("faces.npz", "fits.npz"))
    chosen = choose(table, fits)
    skin = np.isin(model.region, [model.region_names.index(name) for name in ("face", "ear", "neck")])
    triangles = model.triangles[skin[model.triangles].all(axis=1)]
    uv = np.column_stack([model.uv[:, 0], 1 - model.uv[:, 1], np.zeros(len(model.uv))]) * SIDE_PX
    texels = (triangles, *rasterise(uv, triangles, SIDE_PX, SIDE_PX))
    cheeks = model.landmark_vertices[[29, 30, 31, 35, 48, 54]]
    centre_uv = uv[cheeks, :2].mean(axis=0).astype(int)

    photos = material.photos()
    total, total_weight = np.zeros((SIDE_PX, SIDE_PX, 3)), np.zeros((SIDE_PX, SIDE_PX))
    small = []
    for index in chosen:
        image = cv2.imread(str(material.folder() / "faces" / photos[table["photo"][index]].file))
        x, y, size, roll = map(float, table["roi"][index])
        to_image = crop_to_image(Roi(x, y, size, roll), SIZE_PX)
        shape, expression = np.split(fits["coefficients"][index, 0], [model.shape_count])
        vertices = model.vertices(shape, expression).astype(np.float64)
        camera = fits["camera"][index, 0]
        crop_points = vertices @ camera[:, :3].T + camera[:, 3]
        points = np.column_stack([crop_points[:, :2] @ to_image[:, :2].T + to_image[:, 2], crop_points[:, 2]])
        normals = vertex_normals(vertices, triangles) @ camera[:, :3].T / np.linalg.norm(camera[0, :3])
        colour, weight = unwrap(image, points, normals, texels)
        # exposure and white balance: the middle of the face has the same colour in all
        middle = colour[centre_uv[1] - 40 : centre_uv[1] + 40, centre_uv[0] - 40 : centre_uv[0] + 40].mean(axis=(0, 1))
        if middle.min() < 25 or middle.max() > 245:
            continue
        luminance = float(middle.mean())
        colour *= 140.0 / luminance
        total += colour * weight[..., None]
        total_weight += weight
        small.append((
            cv2.resize(colour * weight[..., None], (MODES_SIDE_PX, MODES_SIDE_PX), interpolation=cv2.INTER_AREA),
            cv2.resize(weight, (MODES_SIDE_PX, MODES_SIDE_PX), interpolation=cv2.INTER_AREA),
        ))  # fmt: skip
    seen = total_weight > 0.02 * total_weight.max()
    mean = np.where(seen[..., None], total / np.maximum(total_weight, 1e-6)[..., None], 0)
    mean = fill(mean.astype(np.float32), seen)
    modes, deviation = texture_modes(
        small, cv2.resize(mean, (MODES_SIDE_PX, MODES_SIDE_PX), interpolation=cv2.INTER_AREA)
    )
    scale = np.abs(modes).reshape(len(modes), -1).max(axis=1) / 127
    arrays = {
        "mean": np.clip(mean, 0, 255).round().astype(np.uint8),
        "modes": np.round(modes / scale[:, None, None, None]).astype(np.int8),
        "modes_scale": scale.astype(np.float32),
    }
    with new_file(args.output, ".npz") as partial:
        np.savez_compressed(partial, **arrays)
    provenance = f"average of {len(small)} people's photographs, unwrapped; tools/texture.py"
    entry = describe(args.output, kind="texture", licence="CC0", provenance=provenance)
    update_manifest(args.output.parent / "manifest.toml", {"texture": entry})
    print(
        f"{args.output}: {args.output.stat().st_size / 1e3:.0f} kB, {len(small)} people, modes explain {deviation:.0%}"
    )
    if args.sheet:
        views = [mean] + [
            mean + sign * 2 * cv2.resize(mode, (SIDE_PX, SIDE_PX)) for mode in modes[:5] for sign in (1, -1)
        ]
        cv2.imwrite(str(args.sheet), np.hstack([np.clip(view, 0, 255).astype(np.uint8) for view in views]))


def fill(mean: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Continue the texture over what no camera saw, ever more blurred; (S, S, 3) float32."""
    out, known = mean * seen[..., None], seen.astype(np.float32)
    filled = out.copy()
    left = ~seen
    for sigma in (2, 4, 8, 16, 32, 64):
        blurred = cv2.GaussianBlur(out, (0, 0), sigma)
        share = cv2.GaussianBlur(known, (0, 0), sigma)
        good = left & (share > 0.02)
        filled[good] = (blurred / np.maximum(share, 1e-6)[..., None])[good]
        left &= ~good
    return filled


def texture_modes(small: list, mean: np.ndarray) -> tuple[np.ndarray, float]:
    """Main modes of coarse textures, for coefficients of unit variance: (MODES, s, s, 3); the variance they explain."""
    rows = []
    for colour, weight in small:
        seen = weight > 0.05
        rows.append(np.where(seen[..., None], colour / np.maximum(weight, 1e-6)[..., None] - mean, 0).ravel())
    rows = np.array(rows, np.float32)
    variances, vectors = np.linalg.eigh(rows @ rows.T)
    order = np.argsort(-variances)[:MODES]
    modes = (vectors[:, order].T @ rows) / np.sqrt(len(rows))
    modes = np.array([cv2.GaussianBlur(mode.reshape(mean.shape), (0, 0), 1.0) for mode in modes])
    return modes, float(variances[order].sum() / variances.sum())


if __name__ == "__main__":
    main()
