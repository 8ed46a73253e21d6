"""A plain z-buffer for making data: which triangle each pixel shows, and where in it."""

from __future__ import annotations

import numpy as np

from facet.tracker.compiling import njit


@njit()
def rasterise(points, triangles, width, height):
    """Draw triangles, the nearest (largest z) on top.

    Parameters
    ----------
    points : (N, 3) float, px, origin at the corner of the first pixel
    triangles : (F, 3) int

    Returns
    -------
    triangle : (height, width) int32, -1 where there is none
    weight : (height, width, 3) float32, barycentric, of its corners
    """
    triangle = np.full((height, width), -1, np.int32)
    weight = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), -1e30, np.float32)
    for index in range(len(triangles)):
        a, b, c = points[triangles[index, 0]], points[triangles[index, 1]], points[triangles[index, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if abs(area) < 1e-9:
            continue
        x0 = max(0, int(np.ceil(min(a[0], b[0], c[0]) - 0.5)))
        x1 = min(width - 1, int(np.floor(max(a[0], b[0], c[0]) - 0.5)))
        y0 = max(0, int(np.ceil(min(a[1], b[1], c[1]) - 0.5)))
        y1 = min(height - 1, int(np.floor(max(a[1], b[1], c[1]) - 0.5)))
        for row in range(y0, y1 + 1):
            y = row + 0.5
            for column in range(x0, x1 + 1):
                x = column + 0.5
                wb = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area
                wc = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area
                wa = 1.0 - wb - wc
                if wa < -1e-6 or wb < -1e-6 or wc < -1e-6:
                    continue
                z = wa * a[2] + wb * b[2] + wc * c[2]
                if z > depth[row, column]:
                    depth[row, column] = z
                    triangle[row, column] = index
                    weight[row, column, 0] = wa
                    weight[row, column, 1] = wb
                    weight[row, column, 2] = wc
    return triangle, weight


def interpolate(values: np.ndarray, triangles: np.ndarray, triangle: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values of vertices, (N, C), at every pixel of a z-buffer, (H, W, C); 0 where nothing was drawn."""
    corners = values[triangles[np.maximum(triangle, 0)]]
    return (corners * weight[..., None]).sum(axis=2) * (triangle >= 0)[..., None]


@njit()
def mix(values, corners, weight):
    """Values of vertices, (N, C) float32, at points of triangles: corners and weight (P, 3) -> (P, C) float32."""
    out = np.empty((len(corners), values.shape[1]), np.float32)
    for p in range(len(corners)):
        a, b, c = values[corners[p, 0]], values[corners[p, 1]], values[corners[p, 2]]
        for k in range(values.shape[1]):
            out[p, k] = weight[p, 0] * a[k] + weight[p, 1] * b[k] + weight[p, 2] * c[k]
    return out


@njit()
def vertex_normals(points, triangles):
    """Unit normals, (N, 3), area-weighted over each vertex' triangles."""
    normals = np.zeros_like(points)
    for index in range(len(triangles)):
        i, j, k = triangles[index, 0], triangles[index, 1], triangles[index, 2]
        u, v = points[j] - points[i], points[k] - points[i]
        x, y, z = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
        for corner in (i, j, k):
            normals[corner, 0] += x
            normals[corner, 1] += y
            normals[corner, 2] += z
    for i in range(len(points)):
        normals[i] /= max(np.sqrt((normals[i] ** 2).sum()), 1e-12)
    return normals
