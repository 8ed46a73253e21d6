"""Slow, plain versions of what the project does fast, written from the papers and the facts, not from the fast code."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np

# --- FaceBoxes


def priors(height: int, width: int) -> np.ndarray:
    """(P, 4) normalised centre x, centre y, width, height, one after the other."""
    rows = []
    for step, sizes in ((32, (32, 64, 128)), (64, (256,)), (128, (512,))):
        for i in range(math.ceil(height / step)):
            for j in range(math.ceil(width / step)):
                for side in sizes:
                    dense = {32: (0, 0.25, 0.5, 0.75), 64: (0, 0.5)}.get(side, (0.5,))
                    for y in dense:
                        for x in dense:
                            rows.append(((j + x) * step / width, (i + y) * step / height, side / width, side / height))
    return np.array(rows)


def decode(offsets: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """(P, 4) normalised corners of all priors, moved by their offsets."""
    centre = priors[:, :2] + offsets[:, :2] * 0.1 * priors[:, 2:]
    size = priors[:, 2:] * np.exp(offsets[:, 2:] * 0.2)
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def nms(boxes: np.ndarray, scores: np.ndarray, max_iou: float, edge_px: float) -> list[int]:
    """Indices of the boxes that stand, best first."""
    left, kept = sorted(range(len(boxes)), key=lambda i: -scores[i]), []
    while left:
        best, *left = left
        kept.append(best)
        left = [i for i in left if iou(boxes[best], boxes[i], edge_px) < max_iou]
    return kept


def iou(a: np.ndarray, b: np.ndarray, edge_px: float = 0.0) -> float:
    """Intersection over union of two boxes."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + edge_px)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + edge_px)
    areas = [(box[2] - box[0] + edge_px) * (box[3] - box[1] + edge_px) for box in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0


# --- crops


def area_crop(image: np.ndarray, roi, size: int, samples: int = 24) -> np.ndarray:
    """(size, size, 3) float: each crop pixel is the mean of samples x samples nearest pixels of the image."""
    steps = (np.arange(size * samples) + 0.5) / samples - size / 2
    u, v = np.meshgrid(steps, steps)
    angle, scale = math.radians(roi.roll_deg), roi.size / size
    x = roi.centre[0] + scale * (math.cos(angle) * u + math.sin(angle) * v)
    y = roi.centre[1] + scale * (math.cos(angle) * v - math.sin(angle) * u)
    columns, rows = np.floor(x).astype(int), np.floor(y).astype(int)
    height, width = image.shape[:2]
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    picked = image[rows.clip(0, height - 1), columns.clip(0, width - 1)] * inside[..., None]
    return picked.reshape(size, samples, size, samples, 3).mean(axis=(1, 3))


# --- 3DDFA_V2, its own arithmetic in its own convention: points are indices of pixels


class Upstream3DDFA:
    """The sparse chain of 3DDFA_V2 on one face: box -> crop -> network -> 68 points, and again from the points.

    Parameters
    ----------
    material : the folder of the upstream files
    regress : (120, 120, 3) uint8 BGR crop -> the network's 62 numbers, before de-whitening
    mean, std : (62,) float, the whitening
    """

    def __init__(self, material: Path, regress, mean: np.ndarray, std: np.ndarray):
        self.regress, self.mean, self.std = regress, mean, std
        self.u, self.w_shape, self.w_expression = (
            np.loadtxt(material / "3ddfa_v1" / f"{name}_base.txt", ndmin=2) for name in ("u", "w_shp", "w_exp")
        )

    def two_passes(self, image: np.ndarray, box) -> tuple[np.ndarray, float]:
        """(3, 68) points of the second pass, and the side of its crop; `box` is left, top, right, bottom."""
        points, _ = self.one_pass(image, self.roi_of_box(*box))
        return self.one_pass(image, self.roi_of_points(points))

    def one_pass(self, image: np.ndarray, roi) -> tuple[np.ndarray, float]:
        param = self.regress(self.crop(image, roi)) * self.std + self.mean
        camera, shape, expression = param[:12].reshape(3, 4), param[12:52, None], param[52:, None]
        face = (self.u + self.w_shape @ shape + self.w_expression @ expression).reshape(3, -1, order="F")
        points = camera[:, :3] @ face + camera[:, 3:]
        points[0] -= 1
        points[1] = 120 - points[1]
        points[2] -= 1
        x0, y0, x1, y1 = roi
        points[0] = points[0] * (x1 - x0) / 120 + x0
        points[1] = points[1] * (y1 - y0) / 120 + y0
        points[2] *= (x1 - x0 + y1 - y0) / 240
        return points, x1 - x0

    @staticmethod
    def roi_of_box(left: float, top: float, right: float, bottom: float):
        old = (right - left + bottom - top) / 2
        x, y = right - (right - left) / 2, bottom - (bottom - top) / 2 + old * 0.14
        size = int(old * 1.58)
        return x - size / 2, y - size / 2, x + size / 2, y + size / 2

    @staticmethod
    def roi_of_points(points: np.ndarray):
        (x0, y0), (x1, y1) = points[:2].min(axis=1), points[:2].max(axis=1)
        x, y, half = (x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0) * math.sqrt(2) / 2
        return x - half, y - half, x + half, y + half

    @staticmethod
    def crop(image: np.ndarray, roi) -> np.ndarray:
        x0, y0, x1, y1 = (round(edge) for edge in roi)
        window = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
        for row in range(max(y0, 0), min(y1, image.shape[0])):
            left, right = max(x0, 0), min(x1, image.shape[1])
            window[row - y0, left - x0 : right - x0] = image[row, left:right]
        return cv2.resize(window, (120, 120), interpolation=cv2.INTER_LINEAR)


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit sums of the area vectors around each vertex, (N, 3), image axes (x right, y down, z to the viewer)."""
    upright = vertices.astype(float) * (1, -1, 1)  # right-handed, counter-clockwise means towards the viewer
    sums = np.zeros((len(vertices), 3))
    for a, b, c in triangles:
        for corner in (a, b, c):
            sums[corner] += np.cross(upright[b] - upright[a], upright[c] - upright[a])
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.divide(sums, length, out=np.zeros_like(sums), where=length > 0) * (1, -1, 1)


def triangle_samples(corners: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """How many of the four samples of each pixel lie in a triangle, (H, W) int; corners (3, 2) image px."""
    pattern = ((0.375, 0.125), (0.875, 0.375), (0.125, 0.625), (0.625, 0.875))
    count = np.zeros(size_wh[::-1], int)
    for row in range(size_wh[1]):
        for column in range(size_wh[0]):
            for dx, dy in pattern:
                sides = []
                for i in range(3):
                    (x0, y0), (x1, y1) = corners[i], corners[(i + 1) % 3]
                    sides.append((x1 - x0) * (row + dy - y0) - (y1 - y0) * (column + dx - x0))
                count[row, column] += all(s >= 0 for s in sides) or all(s <= 0 for s in sides)
    return count


def segment_cover(start, end, radius_px: float, size_wh: tuple[int, int]) -> np.ndarray:
    """How far each pixel is covered by a stroke with round ends, (H, W), [0, 1]."""
    cover = np.zeros(size_wh[::-1])
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = end - start
    for row in range(size_wh[1]):
        for column in range(size_wh[0]):
            point = np.array([column + 0.5, row + 0.5])
            length2 = along @ along
            t = np.clip((point - start) @ along / length2, 0, 1) if length2 else 0.0
            cover[row, column] = np.clip(radius_px + 0.5 - np.linalg.norm(point - start - t * along), 0, 1)
    return cover


# --- the face model


def dense_bases(packed: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (N, 3), shape (Ks, N, 3) and expression (Ke, N, 3), float64 mm, of an opened face_model.npz."""
    mean = packed["mean"].astype(np.float64)
    shape = np.array([row * float(scale) for row, scale in zip(packed["shape"], packed["shape_scale"], strict=True)])
    start = packed["expression_start"]
    expression = np.zeros((len(start) - 1, *mean.shape))
    for k, scale in enumerate(packed["expression_scale"]):
        for entry in range(start[k], start[k + 1]):
            expression[k, packed["expression_vertex"][entry]] = packed["expression_delta"][entry] * float(scale)
    return mean, shape, expression


def landmarks_68(packed: dict[str, np.ndarray], vertices_px: np.ndarray, camera: np.ndarray, softness_mm: float):
    """The 68 landmarks from all vertices: each contour line's point is the softmax-weighted mean of its candidates.

    Parameters
    ----------
    vertices_px : (N, 3) float, image px
    camera : (3, 4) float, model mm -> image px
    """
    points = vertices_px[packed["landmark_vertices"]].copy()
    scale = math.sqrt((camera[:2, :3] ** 2).sum() / 2)
    jaw = packed["mean"][packed["landmark_vertices"][:17]]
    for line, (edges, shares) in enumerate(zip(packed["contour_edges"], packed["contour_share"], strict=True)):
        candidates = [vertices_px[a] * (1 - t) + vertices_px[b] * t for (a, b), t in zip(edges, shares, strict=True)]
        ends = [packed["mean"][a] * (1 - t) + packed["mean"][b] * t for (a, b), t in zip(edges, shares, strict=True)]
        upright = np.ptp(ends, axis=0)[1] < 3.0
        outward = np.array([np.sign(jaw[line, 0]), 0.0]) if upright else jaw[line, :2] - (0.0, jaw[:, 1].max())
        direction = camera[:2, :2] @ outward
        out = np.array([c[:2] @ direction for c in candidates]) / np.linalg.norm(direction) / (scale * softness_mm)
        weight = np.exp(out - out.max())
        points[line] = (weight[:, None] * candidates).sum(axis=0) / weight.sum()
    return points


def mirror_68() -> np.ndarray:
    """For each of the 68 landmarks the one that it becomes in a mirror image."""
    groups = [range(16, -1, -1), range(26, 16, -1), range(27, 31), range(35, 30, -1), [45, 44, 43, 42, 47, 46]]
    groups += [[39, 38, 37, 36, 41, 40], range(54, 47, -1), range(59, 54, -1), range(64, 59, -1), [67, 66, 65]]
    return np.concatenate([np.array(list(group)) for group in groups])


def light_and_skin(colours, harmonics, weights, mean, modes, skin_model, rounds):
    """`LightEstimator.solve` in plain numpy: light (27,) and skin (K,)."""
    from facet.tracker.lighting import EFFECTIVE_POINTS, OUTLIER

    light, skin = skin_model.light_mean.astype(float), np.zeros(skin_model.count)
    precision, noise = skin_model.light_precision.astype(float), skin_model.noise
    trust = EFFECTIVE_POINTS / max(weights.sum(), EFFECTIVE_POINTS) / noise**2
    for turn in range(rounds):
        albedo = np.maximum(mean + modes @ skin, 0.01)
        error = ((albedo * (harmonics @ light.reshape(3, 9).T) - colours) ** 2).mean(axis=1)
        weighted = weights * trust / (1 + error / (OUTLIER * noise * 2 ** max(rounds - 3 - turn, 0)) ** 2) ** 2
        hessian, right = precision.copy(), precision @ skin_model.light_mean
        for c in range(3):
            rows, place = albedo[:, c, None] * harmonics, slice(9 * c, 9 * c + 9)
            hessian[place, place] += rows.T @ (weighted[:, None] * rows)
            right[place] += rows.T @ (weighted * colours[:, c])
        light = np.linalg.solve(hessian, right)
        shading = np.maximum(harmonics @ light.reshape(3, 9).T, 0)
        rows = (shading[..., None] * modes).reshape(-1, skin_model.count)
        each = np.repeat(weighted, 3)[:, None]
        rest = (colours - shading * mean).reshape(-1)
        skin = np.linalg.solve(rows.T @ (each * rows) + np.eye(len(skin)), rows.T @ (each[:, 0] * rest))
        skin = np.clip(skin, -4, 4)
    return light, skin
