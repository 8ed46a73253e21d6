"""The CPU's rasteriser: triangles with four samples a pixel and a depth buffer, in numba.

Corners are snapped to 1/256 px. Edge functions of small triangles are whole numbers that float32 holds exactly, of big
ones float64: two triangles that share an edge leave no gap and there is no order in which they must be drawn. The
samples lie where GL's usual pattern of four has them.

A sample is one int64: depth above, colour below (B, G, R, alpha from the lowest byte; colour times alpha). So the depth
test and the write are one maximum, which the compiler turns into vector instructions, eight samples at a time.
"""

from __future__ import annotations

import numpy as np

from facet.tracker.compiling import njit

SNAP = np.float32(256)  # steps a pixel
# two pixels' samples, in steps; (0.375, 0.125), (0.875, 0.375), (0.125, 0.625), (0.625, 0.875) of a pixel
SAMPLES_X = np.array([96, 224, 32, 160, 256 + 96, 256 + 224, 256 + 32, 256 + 160], np.float32)
SAMPLES_Y = np.array([32, 96, 160, 224] * 2, np.float32)
CENTRES_X = np.array([128] * 4 + [256 + 128] * 4, np.float32)
CENTRE_Y = np.float32(128)
DEPTH_STEPS = np.float32(1 << 22)  # between the farthest and the nearest vertex; float32 distinguishes them
SMALL_PX = 8  # edge functions of triangles within so many pixels stay below 2^24
HALF, ONE, ZERO = np.float32(0.5), np.float32(1), np.float32(0)


@njit(nogil=True, error_model="numpy")
def _fill_two_pixels(samples, ea, eb, ec, gxa, gya, gxb, gyb, gxc, gyc, z, zb, zc, base, to_b, to_c, pa, pb, pc, reach):
    """Eight samples of one triangle; edge function = e + gx x + gy y, inside where all three are >= 0.

    `base`, `to_b`, `to_c` hold four channels each. A loop without branches, for the vectoriser; it is compiled for
    float32 and for float64 edge functions.
    """
    b0, b1, b2, b3 = base
    bb0, bb1, bb2, bb3 = to_b
    bc0, bc1, bc2, bc3 = to_c
    for s in range(8):
        fa = ea + gxa * SAMPLES_X[s] + gya * SAMPLES_Y[s]
        fb = eb + gxb * SAMPLES_X[s] + gyb * SAMPLES_Y[s]
        fc = ec + gxc * SAMPLES_X[s] + gyc * SAMPLES_Y[s]
        depth = np.int32(z + zb * fb + zc * fc)
        # lines are shaded once a pixel, as GL does it
        da = (ea + gxa * CENTRES_X[s] + gya * CENTRE_Y) * pa
        db = (eb + gxb * CENTRES_X[s] + gyb * CENTRE_Y) * pb
        dc = (ec + gxc * CENTRES_X[s] + gyc * CENTRE_Y) * pc
        cover = min(max(reach - min(da, min(db, dc)), ZERO), ONE)
        c0 = np.int32((b0 + bb0 * fb + bc0 * fc) * cover + HALF)
        c1 = np.int32((b1 + bb1 * fb + bc1 * fc) * cover + HALF)
        c2 = np.int32((b2 + bb2 * fb + bc2 * fc) * cover + HALF)
        c3 = np.int32((b3 + bb3 * fb + bc3 * fc) * cover + HALF)
        key = (np.int64(depth) << 32) | np.int64(np.uint32(c0 | (c1 << 8) | (c2 << 16) | (c3 << 24)))
        old = samples[s]
        inside = (fa >= 0) & (fb >= 0) & (fc >= 0) & (key > old)
        samples[s] = key if inside else old


@njit(nogil=True, error_model="numpy")
def rasterise(vertices, triangles, colours, x_min, y_min, height, width, z_min, z_max, wire_px, samples) -> None:
    """Rasterise one surface; what faces away is left out, what is nearer wins.

    Parameters
    ----------
    vertices : (N, 3) float32: x, y in image px, z larger is nearer
    triangles : (F, 3) int32, counter-clockwise for the viewer, y up
    colours : (N, 4) uint8, BGR times alpha, alpha
    x_min, y_min, height, width : int, the part of the picture that `samples` holds, px
    z_min, z_max : float32, bounds of all depths that share `samples`
    wire_px : float32, radius of lines along the edges, px; 0 fills the triangles
    samples : (height, >= 4 width + 4) int64, 0 where nothing is yet; written
    """
    z_scale = DEPTH_STEPS / max(z_max - z_min, np.float32(1e-6))
    pa, pb, pc, reach = ZERO, ZERO, ZERO, ONE
    for t in range(len(triangles)):
        # y points down, so counter-clockwise became clockwise: b and c change places
        a, c, b = triangles[t]
        ax = np.floor((vertices[a, 0] - np.float32(x_min)) * SNAP + HALF)
        ay = np.floor((vertices[a, 1] - np.float32(y_min)) * SNAP + HALF)
        bx = np.floor((vertices[b, 0] - np.float32(x_min)) * SNAP + HALF)
        by = np.floor((vertices[b, 1] - np.float32(y_min)) * SNAP + HALF)
        cx = np.floor((vertices[c, 0] - np.float32(x_min)) * SNAP + HALF)
        cy = np.floor((vertices[c, 1] - np.float32(y_min)) * SNAP + HALF)
        gxa, gya = by - cy, cx - bx
        gxb, gyb = cy - ay, ax - cx
        gxc, gyc = ay - by, bx - ax
        area = np.float64(gyc) * np.float64(gxb) - np.float64(gxc) * np.float64(gyb)
        if not area > 0:
            continue
        left = max(int(min(ax, bx, cx)) >> 8, 0)
        right = min((int(max(ax, bx, cx)) >> 8) + 1, width)
        top = max(int(min(ay, by, cy)) >> 8, 0)
        bottom = min((int(max(ay, by, cy)) >> 8) + 1, height)
        if left >= right or top >= bottom:
            continue
        inverse = np.float32(1 / area)
        za = vertices[a, 2]
        zb, zc = (vertices[b, 2] - za) * z_scale * inverse, (vertices[c, 2] - za) * z_scale * inverse
        za = (za - z_min) * z_scale + ONE
        a0, a1, a2 = np.float32(colours[a, 0]), np.float32(colours[a, 1]), np.float32(colours[a, 2])
        a3 = np.float32(colours[a, 3])
        base = a0, a1, a2, a3
        to_b = (
            (np.float32(colours[b, 0]) - a0) * inverse,
            (np.float32(colours[b, 1]) - a1) * inverse,
            (np.float32(colours[b, 2]) - a2) * inverse,
            (np.float32(colours[b, 3]) - a3) * inverse,
        )
        to_c = (
            (np.float32(colours[c, 0]) - a0) * inverse,
            (np.float32(colours[c, 1]) - a1) * inverse,
            (np.float32(colours[c, 2]) - a2) * inverse,
            (np.float32(colours[c, 3]) - a3) * inverse,
        )
        if wire_px > 0:
            # px of distance for one step of the edge function
            pa = ONE / (SNAP * np.sqrt(gxa * gxa + gya * gya))
            pb = ONE / (SNAP * np.sqrt(gxb * gxb + gyb * gyb))
            pc = ONE / (SNAP * np.sqrt(gxc * gxc + gyc * gyc))
            reach = wire_px + HALF
        small = max(ax, bx, cx) - min(ax, bx, cx) < SMALL_PX * SNAP
        small &= max(ay, by, cy) - min(ay, by, cy) < SMALL_PX * SNAP
        if small:
            for row in range(top, bottom):
                y = np.float32(row) * SNAP
                for column in range(left, right, 2):
                    x = np.float32(column) * SNAP
                    ea = gxa * (x - bx) + gya * (y - by)
                    eb = gxb * (x - cx) + gyb * (y - cy)
                    ec = gxc * (x - ax) + gyc * (y - ay)
                    _fill_two_pixels(
                        samples[row, 4 * column : 4 * column + 8],
                        ea, eb, ec, gxa, gya, gxb, gyb, gxc, gyc, za, zb, zc, base, to_b, to_c, pa, pb, pc, reach,
                    )  # fmt: skip
        else:
            dxa, dya, dxb, dyb = np.float64(gxa), np.float64(gya), np.float64(gxb), np.float64(gyb)
            dxc, dyc = np.float64(gxc), np.float64(gyc)
            for row in range(top, bottom):
                y = np.float64(row) * SNAP
                for column in range(left, right, 2):
                    x = np.float64(column) * SNAP
                    ea = dxa * (x - bx) + dya * (y - by)
                    eb = dxb * (x - cx) + dyb * (y - cy)
                    ec = dxc * (x - ax) + dyc * (y - ay)
                    _fill_two_pixels(
                        samples[row, 4 * column : 4 * column + 8],
                        ea, eb, ec, dxa, dya, dxb, dyb, dxc, dyc, za, zb, zc, base, to_b, to_c, pa, pb, pc, reach,
                    )  # fmt: skip


@njit(nogil=True)
def composite(image, x_min, y_min, height, width, samples) -> None:
    """Average the samples of each pixel and lay them over the picture.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR, written
    x_min, y_min, height, width, samples : as `rasterise` had them
    """
    quarter = np.float32(0.25)
    for y in range(height):
        for x in range(width):
            s0, s1 = samples[y, 4 * x], samples[y, 4 * x + 1]
            s2, s3 = samples[y, 4 * x + 2], samples[y, 4 * x + 3]
            if (s0 | s1 | s2 | s3) == 0:
                continue
            # two channels at a time, 16 bits each: sums of four samples
            br = (s0 & 0x00FF00FF) + (s1 & 0x00FF00FF) + (s2 & 0x00FF00FF) + (s3 & 0x00FF00FF)
            ga = (s0 >> 8 & 0x00FF00FF) + (s1 >> 8 & 0x00FF00FF) + (s2 >> 8 & 0x00FF00FF) + (s3 >> 8 & 0x00FF00FF)
            rest = ONE - np.float32(ga >> 16) * np.float32(1 / 1020)
            b, g, r = np.float32(br & 0xFFFF), np.float32(ga & 0xFFFF), np.float32(br >> 16)
            row, column = y + y_min, x + x_min
            image[row, column, 0] = np.uint8(np.float32(image[row, column, 0]) * rest + b * quarter + HALF)
            image[row, column, 1] = np.uint8(np.float32(image[row, column, 1]) * rest + g * quarter + HALF)
            image[row, column, 2] = np.uint8(np.float32(image[row, column, 2]) * rest + r * quarter + HALF)


@njit(nogil=True, error_model="numpy")
def rasterise_values(vertices, triangles, values, depth, target) -> None:
    """Rasterise one value per vertex, sampled at the pixel centres of a whole picture.

    Parameters
    ----------
    vertices : (N, 3) float32: x, y in image px, z larger is nearer
    triangles : (F, 3) int32, counter-clockwise for the viewer, y up
    values : (N,) float32
    depth : (H, W) float32, starts as -inf, written
    target : (H, W) float32, written where a triangle is
    """
    height, width = target.shape
    for t in range(len(triangles)):
        a, c, b = triangles[t]
        ax, ay = np.float64(np.floor(vertices[a, 0] * SNAP + HALF)), np.float64(np.floor(vertices[a, 1] * SNAP + HALF))
        bx, by = np.float64(np.floor(vertices[b, 0] * SNAP + HALF)), np.float64(np.floor(vertices[b, 1] * SNAP + HALF))
        cx, cy = np.float64(np.floor(vertices[c, 0] * SNAP + HALF)), np.float64(np.floor(vertices[c, 1] * SNAP + HALF))
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not area > 0:
            continue
        left, right = max(int(min(ax, bx, cx)) >> 8, 0), min((int(max(ax, bx, cx)) >> 8) + 1, width)
        top, bottom = max(int(min(ay, by, cy)) >> 8, 0), min((int(max(ay, by, cy)) >> 8) + 1, height)
        for row in range(top, bottom):
            for column in range(left, right):
                x, y = (column + 0.5) * 256, (row + 0.5) * 256
                ea = (by - cy) * (x - bx) + (cx - bx) * (y - by)
                eb = (cy - ay) * (x - cx) + (ax - cx) * (y - cy)
                ec = (ay - by) * (x - ax) + (bx - ax) * (y - ay)
                if ea < 0 or eb < 0 or ec < 0:
                    continue
                z = (vertices[a, 2] * ea + vertices[b, 2] * eb + vertices[c, 2] * ec) / area
                if z > depth[row, column]:
                    depth[row, column] = z
                    target[row, column] = (values[a] * ea + values[b] * eb + values[c] * ec) / area
