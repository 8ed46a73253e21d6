"""A head that was predicted as a volume, as a closed mesh with colours."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from facet.render.cpu.raster import rasterise_values
from facet.render.geometry import vertex_normals
from facet.render.isosurface import isosurface
from facet.render.sinks.mesh_files import Head
from facet.render.unwrap import seen_share, within
from facet.tracker.morphable import MorphableModel, project
from facet.tracker.types import FaceTrack
from facet.tracker.volume import Volume

CELL_MM, REACH_MM = 8.0, 240.0  # of the grid by which colours come to what was not seen
HAIRLINE_MM = 75.0  # height on the forehead
STEEP = 2.5  # slices a column: there a column's front says little
MOST_MOVE, BESIDE_FACE, BEHIND_FACE = 20.0, 6.0, 40.0  # voxels
RIM = 5  # columns: the side of the square by which the head's outline is narrowed, as it is never quite exact
SPREAD_CELLS = (1, 2, 4, 8, 16, 32)  # how far they flow there
UNSEEN = 128  # grey, where no part was seen


def on_face(volume: Volume, face: FaceTrack, model: MorphableModel) -> Volume:
    """A volume that is smoothed, and whose columns are moved in depth until its front lies on the tracked face.

    The face's own mesh is more exact than voxels. What lies beside and behind it moves with it, less and less; above
    the hairline nothing is compared, as hair may lie before the face.
    """
    shown = [k for k, name in enumerate(model.region_names) if name in ("face", "eyeball", "iris", "pupil")]
    bare = np.isin(model.region, shown) & (model.mean[:, 1] < HAIRLINE_MM)
    triangles = model.triangles[bare[model.triangles].all(axis=1)]
    placed = project(model.vertices(face.shape, face.expression), np.ascontiguousarray(face.model_to_image, np.float32))
    placed[:, 2] -= face.model_to_image[2, 3]  # depth from the model's origin, as the volume has it
    back = np.linalg.inv(volume.to_image[:, :3])
    placed = ((placed - volume.to_image[:, 3]) @ back.T).astype(np.float32)
    smooth = blurred(blurred(volume.inside, 1), 1)
    slices, rows, columns = smooth.shape
    wanted, nearest = np.zeros((rows, columns), np.float32), np.full((rows, columns), -np.inf, np.float32)
    rasterise_values(placed, triangles, placed[:, 2].copy(), nearest, wanted)
    filled = smooth > 0.5
    front = (slices - np.argmax(filled[::-1], axis=0)).astype(np.float32)
    last = np.take_along_axis(smooth, (front - 1).astype(int)[None], 0)[0]
    after = np.take_along_axis(smooth, np.minimum(front, slices - 1).astype(int)[None], 0)[0]
    front += np.where(front < slices, (last - 0.5) / np.maximum(last - after, 1e-6), 0.5) - 0.5  # between both middles
    steep = np.hypot(*np.gradient(np.where(np.isfinite(nearest), wanted, 0))) > STEEP  # the face's borders, too
    known = (np.isfinite(nearest) & filled.any(axis=0) & ~steep).astype(np.float32)
    move = np.clip(wanted - front, -MOST_MOVE, MOST_MOVE) * known
    near = cv2.GaussianBlur(known, (0, 0), BESIDE_FACE)
    beside = cv2.GaussianBlur(move, (0, 0), BESIDE_FACE) / np.maximum(near, 1e-6) * np.minimum(1, 2 * near)
    move = np.where(known > 0, move, beside)
    z = np.arange(slices, dtype=np.float32)[:, None, None] + 0.5
    at = z - 0.5 - move * np.clip(1 - (front + move - z) / BEHIND_FACE, 0, 1)  # the back of the head stays
    low = np.clip(np.floor(at), 0, slices - 2).astype(int)
    share = np.clip(at - low, 0, 1)
    inside = (1 - share) * np.take_along_axis(smooth, low, 0)
    inside += share * np.take_along_axis(smooth, low + 1, 0)
    return replace(volume, inside=inside)


def bust(volume: Volume, image: np.ndarray) -> Head | None:
    """The mesh of a volume, in model space; None where nothing is inside.

    Parameters
    ----------
    image : (H, W, 3) uint8 BGR, that the volume was predicted from
    """
    head = bust_of(volume.inside, volume.to_model)
    if head is None:
        return None
    to_voxels = np.linalg.inv(volume.to_model[:, :3])
    to_image = volume.to_image[:, :3] @ to_voxels
    placed = (head.vertices - volume.to_model[:, 3]) @ to_image.T + volume.to_image[:, 3]
    placed = placed.astype(np.float32)
    scale_px_per_mm = float(np.cbrt(abs(np.linalg.det(to_image))))
    seen = seen_share(placed, head.triangles, scale_px_per_mm) * within(placed, image)
    outline = np.array((volume.inside > 0.5).any(axis=0), np.uint8)
    outline = cv2.erode(outline, np.ones((RIM, RIM), np.uint8))
    column, row, _ = ((head.vertices - volume.to_model[:, 3]) @ to_voxels.T).astype(int).T
    rows, columns = outline.shape
    seen = seen * outline[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
    return replace(head, colours=colours_of(image, head.vertices, placed, seen))


def bust_of(inside: np.ndarray, to_model: np.ndarray, level: float = 0.5) -> Head | None:
    """The mesh of voxels, all of one colour; None where nothing is inside.

    Parameters
    ----------
    inside : (slices, rows, columns) float
    to_model : (3, 4), voxels from the corner of the first -> mm, y up
    """
    points, triangles = isosurface(inside, level)
    if not len(triangles):
        return None
    triangles = np.ascontiguousarray(triangles[:, ::-1])  # y points down in voxels, up in model space
    vertices = (points @ to_model[:, :3].T + to_model[:, 3]).astype(np.float32)
    down = vertices * np.array([1, -1, 1], np.float32)
    normals = np.empty_like(down)
    vertex_normals(down, triangles, normals)
    normals *= np.array([1, -1, 1], np.float32)
    return Head(
        neutral=vertices,
        vertices=vertices,
        neutral_normals=normals,
        normals=normals,
        colours=np.full(vertices.shape, UNSEEN, np.uint8),
        triangles=triangles,
        textured=np.zeros(len(triangles), bool),
        uv=np.empty((0, 2), np.float32),
        texture=None,
    )


def colours_of(image: np.ndarray, vertices: np.ndarray, placed: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Colours of a head: of the image where it was seen, else of the other side of the head, else of what lies near.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR
    vertices, placed : (N, 3), model mm and image px
    seen : (N,) [0, 1], how well each was seen

    Returns
    -------
    (N, 3) uint8, BGR
    """
    found = sampled(image, placed[:, :2])
    side = int(2 * REACH_MM / CELL_MM)
    cell = np.clip((vertices + REACH_MM) / CELL_MM, 0, side - 1).astype(int)
    flat = (cell[:, 2] * side + cell[:, 1]) * side + cell[:, 0]
    weight = np.bincount(flat, seen, side**3).reshape(side, side, side, 1)
    values = [np.bincount(flat, seen * found[:, k], side**3) for k in range(3)]
    total = np.concatenate([np.stack(values, 1).reshape(side, side, side, 3), weight], axis=3, dtype=np.float32)
    mirrored = total[:, :, ::-1]
    share = np.clip(total[..., 3:], 0, 1)
    total = total + (1 - share) * mirrored
    total /= np.maximum(total[..., 3:], 1)
    for radius in SPREAD_CELLS:  # near colours first
        near = blurred(total, radius)
        near /= np.maximum(near[..., 3:], 1e-6)
        total = total + (1 - np.clip(total[..., 3:], 0, 1)) * near * (near[..., 3:] > 0.5)
    colour = interpolated(total, (vertices + REACH_MM) / CELL_MM)
    filled = np.where(colour[:, 3:] > 1e-3, colour[:, :3] / np.maximum(colour[:, 3:], 1e-3), np.float32(UNSEEN))
    mixed = seen[:, None] * found + (1 - seen[:, None]) * filled
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def interpolated(cells: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Trilinear samples (N, C) of cells (D, H, W, C) at (N, 3) x, y, z in cells, from the corner of the first."""
    shape = np.array(cells.shape[2::-1])
    at = np.clip(places - 0.5, 0, shape - 1)
    first = np.minimum(at.astype(int), shape - 2)
    share = (at - first)[..., None].astype(np.float32)
    found = np.zeros((len(places), cells.shape[3]), np.float32)
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (first + corner).T
        weight = np.prod([share[:, k] if corner[k] else 1 - share[:, k] for k in range(3)], axis=0)
        found += weight * cells[z, y, x]
    return found


def sampled(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Bilinear samples (N, 3) float32 of an image at (N, 2) px; beyond it, its border. OpenCV has not enough rows."""
    height, width = image.shape[:2]
    x, y = np.clip(places - 0.5, 0, (width - 1, height - 1)).T.astype(np.float32)
    left, top = x.astype(int), y.astype(int)
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    x, y = (x - left)[:, None], (y - top)[:, None]
    upper = (1 - x) * image[top, left] + x * image[top, right]
    return (1 - y) * upper + y * ((1 - x) * image[bottom, left] + x * image[bottom, right])


def blurred(values: np.ndarray, radius: int) -> np.ndarray:
    """The means of a cube about every cell of (D, H, W, ...)."""
    for axis in range(3):
        rows = np.ascontiguousarray(np.moveaxis(values, axis, 0))
        flat = rows.reshape(len(rows), -1)
        ends = np.concatenate([np.zeros((1, flat.shape[1])), np.cumsum(flat, axis=0, dtype=np.float64)])
        k = np.arange(len(rows))
        low, high = np.maximum(k - radius, 0), np.minimum(k + radius + 1, len(rows))
        flat = ((ends[high] - ends[low]) / (2 * radius + 1)).astype(np.float32)
        values = np.moveaxis(flat.reshape(rows.shape), 0, axis)
    return values
