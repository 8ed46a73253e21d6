"""Rasterises textured triangles with four samples a pixel, for avatars; both renderers draw them with it."""

from __future__ import annotations

import numpy as np

from facet.tracker.compiling import njit

SAMPLES = 2  # each way in a pixel
CLEAR = 128  # a texture's alpha below is a hole


@njit(nogil=True, error_model="numpy")
def rasterise_textured(vertices, triangles, colours, uv, texture, textures, depth, target) -> None:
    """Rasterise a mesh, both sides of its triangles, into samples.

    Parameters
    ----------
    vertices : (N, 3) float32: x, y in samples, z larger is nearer
    triangles : (F, 3) int32
    colours : (N, 3) float32, BGR, [0, 1], light included; texture and colour are multiplied
    uv : (N, 2) float32, origin top left; it repeats
    texture : (F,) int32, index into `textures`, -1 for none
    textures : (T, S, S, 4) uint8, BGRA
    depth : (H, W) float32, starts as -inf, written
    target : (H, W, 4) uint8, BGR and 255 where a triangle is, written
    """
    height, width = depth.shape
    side = textures.shape[1]
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        ax, ay = np.float64(vertices[a, 0]), np.float64(vertices[a, 1])
        bx, by = np.float64(vertices[b, 0]), np.float64(vertices[b, 1])
        cx, cy = np.float64(vertices[c, 0]), np.float64(vertices[c, 1])
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not abs(area) > 1e-9:
            continue
        left, right = max(int(min(ax, bx, cx)), 0), min(int(max(ax, bx, cx)) + 1, width)
        top, bottom = max(int(min(ay, by, cy)), 0), min(int(max(ay, by, cy)) + 1, height)
        image = texture[t]
        for row in range(top, bottom):
            y = row + 0.5
            for column in range(left, right):
                x = column + 0.5
                wa = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                wb = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                wc = 1.0 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                z = np.float32(wa * vertices[a, 2] + wb * vertices[b, 2] + wc * vertices[c, 2])
                if z <= depth[row, column]:
                    continue
                u, v = 0, 0
                if image >= 0:
                    fu = wa * uv[a, 0] + wb * uv[b, 0] + wc * uv[c, 0]
                    fv = wa * uv[a, 1] + wb * uv[b, 1] + wc * uv[c, 1]
                    u, v = int((fu - np.floor(fu)) * side), int((fv - np.floor(fv)) * side)
                    u, v = min(max(u, 0), side - 1), min(max(v, 0), side - 1)
                    if textures[image, v, u, 3] < CLEAR:
                        continue
                depth[row, column] = z
                for k in range(3):
                    value = wa * colours[a, k] + wb * colours[b, k] + wc * colours[c, k]
                    if image >= 0:
                        value = value * textures[image, v, u, k]
                    else:
                        value = value * 255.0
                    target[row, column, k] = np.uint8(min(max(value, 0.0), 255.0))
                target[row, column, 3] = 255
