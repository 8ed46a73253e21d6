"""The square that a network sees: where it lies, how it is cut, and the way back to the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from facet.tracker.compiling import njit
from facet.tracker.types import Box, Roi

STYLES = ("area", "upstream")
# side of the largest picture that is made of a ROI in whole pixels; beyond it memory runs out before faces do
MAX_WINDOW_PX = 8192
BAND_PX = 1 << 23  # pixels of a large window that are shrunk at once
# no picture is that large; a crop out there is black, and whole numbers stay whole numbers
FAR_PX = 1e9


@dataclass(frozen=True, slots=True)
class CropSpec:
    """How a regressor was used to see faces when it was trained."""

    size_px: int  # side of the network's input
    box_scale: float  # side of the first crop / mean of the box's width and height
    box_shift_y: float  # its centre lies lower than the box's by this share of that mean
    landmark_scale: float  # side of the later crops / longer side of the landmarks' rectangle
    landmark_shift_y: float = 0.0  # its centre lies lower by this share of that longer side
    upright: bool = False  # whether the later crops are turned with the head
    style: str = "area"  # "area": exact and averaged; "upstream": whole pixels, bilinear, as 3DDFA_V2 was trained
    # 3DDFA_V2 places its next crop by points that lie this much left of and above where they are, in px of the
    # crop that they were seen in; 0 for all others
    origin_px: float = 0.0

    def __post_init__(self):
        if self.style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}, got {self.style}")
        if self.size_px < 1:
            raise ValueError(f"size_px must be at least 1, got {self.size_px}")
        if not (self.box_scale > 0 and self.landmark_scale > 0):
            raise ValueError(f"scales must be positive, got {self.box_scale} and {self.landmark_scale}")


def roi_from_box(box: Box, spec: CropSpec) -> Roi:
    """Place the first crop of a face by the detector's box.

    Source: 3DDFA_V2, utils/functions.py, `parse_roi_box_from_bbox` (the form; the constants are the spec's).
    """
    mean_px = ((box.x_max - box.x_min) + (box.y_max - box.y_min)) / 2
    size = spec.box_scale * mean_px
    if spec.style == "upstream":
        size = int(size)
    down, roll = spec.box_shift_y * mean_px, math.radians(box.roll_deg)
    x = (box.x_min + box.x_max) / 2 + down * math.sin(roll)
    y = (box.y_min + box.y_max) / 2 + down * math.cos(roll)
    return Roi(float(x - size / 2), float(y - size / 2), float(size), box.roll_deg)


def roi_from_landmarks(points: np.ndarray, spec: CropSpec, roll_deg: float = 0.0, seen_in: Roi | None = None) -> Roi:
    """Place the next crop of a face by its landmarks.

    Parameters
    ----------
    points : (N, 2) or (N, 3) float, image px; z is not looked at
    roll_deg : the head's roll; it turns the crop where the spec says so
    seen_in : the crop that the points come from; only a spec with `origin_px` needs it

    Source: 3DDFA_V2, utils/functions.py, `parse_roi_box_from_landmark` (the form).
    """
    if not spec.upright:
        roll_deg = 0.0
    angle = math.radians(roll_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    x0, y0, x1, y1, _, _ = extent(np.ascontiguousarray(points), cos, sin)
    longer_px = max(x1 - x0, y1 - y0)
    size = spec.landmark_scale * longer_px
    x, y = (x0 + x1) / 2, (y0 + y1) / 2 + spec.landmark_shift_y * longer_px
    x, y = cos * x + sin * y, cos * y - sin * x
    if spec.origin_px and seen_in is not None:
        shift = spec.origin_px * seen_in.size / spec.size_px
        x, y = x - shift, y - shift
    return Roi(x - size / 2, y - size / 2, size, roll_deg)


@njit()
def extent(points, cos, sin):
    """x_min, y_min, x_max, y_max and the mean x and y of points, (N, 2 or more) float, in axes that are turned.

    All are NaN where a point is no finite number.
    """
    x_min = y_min = np.inf
    x_max = y_max = -np.inf
    x_sum = y_sum = 0.0
    for i in range(len(points)):
        x, y = points[i, 0] * cos - points[i, 1] * sin, points[i, 0] * sin + points[i, 1] * cos
        x_min, x_max = min(x_min, x), max(x_max, x)
        y_min, y_max = min(y_min, y), max(y_max, y)
        x_sum, y_sum = x_sum + x, y_sum + y
    if not np.isfinite(x_sum + y_sum):
        return np.nan, np.nan, np.nan, np.nan, np.nan, np.nan
    return x_min, y_min, x_max, y_max, x_sum / len(points), y_sum / len(points)


def crop_to_image(roi: Roi, size: int) -> np.ndarray:
    """The map of crop px to image px, both with the origin at the corner of the first pixel.

    Returns
    -------
    (2, 3) float64
    """
    return np.array(affine_of(roi.x, roi.y, roi.size, roi.roll_deg, size))


@njit()
def affine_of(x, y, side, roll_deg, size):
    angle, scale = math.radians(roll_deg), side / size
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    x, y, half = x + side / 2, y + side / 2, size / 2
    return (cos, sin, x - (cos + sin) * half), (-sin, cos, y - (cos - sin) * half)


def cut(
    image: np.ndarray, roi: Roi, size: int, style: str = "area", out: np.ndarray | None = None
) -> np.ndarray:
    """Cut the ROI out of the image and resize it to the network's input.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR
    roi : Roi, image px; what lies outside the image becomes 0
    size : int, px
    style : one of STYLES. "area" follows the ROI exactly, and averages where it shrinks; "upstream" rounds the ROI's
        edges to whole pixels and interpolates between the four nearest, however much it shrinks
    out : (size, size, 3) uint8, contiguous; where the result is put

    Returns
    -------
    (size, size, 3) uint8, BGR

    Raises
    ------
    ValueError
        If the ROI has no area.
    """
    if not (roi.size > 0 and math.isfinite(roi.x + roi.y + roi.size + roi.roll_deg)):
        raise ValueError(f"the ROI must have an area, got {roi}")
    out = np.empty((size, size, 3), np.uint8) if out is None else out
    if max(abs(roi.x), abs(roi.y), roi.size) > FAR_PX:
        out[:] = 0
    elif style == "upstream":
        _cut_whole_pixels(image, roi, out)
    else:
        _cut_area(image, roi, out)
    return out


def cut_batch(image: np.ndarray, rois: Sequence[Roi], size: int, style: str = "area") -> np.ndarray:
    """`cut` for several ROIs of one image; (B, size, size, 3) uint8."""
    crops = np.empty((len(rois), size, size, 3), np.uint8)
    for crop, roi in zip(crops, rois, strict=True):
        cut(image, roi, size, style, crop)
    return crops


def _cut_area(image: np.ndarray, roi: Roi, out: np.ndarray) -> None:
    """Halve, with exact means, until the scale is near 1 (0.7 to 1.4), then interpolate."""
    size = len(out)
    halvings = max(0, round(math.log2(roi.size / size)))
    matrix = np.empty((2, 3))
    x0, x1, y0, y1 = _plan(roi.x, roi.y, roi.size, roi.roll_deg, size, 2**halvings, image.shape, matrix)
    if x1 <= x0 or y1 <= y0:
        out[:] = 0
        return
    # OpenCV shrinks and turns four channels twice as fast as three
    if halvings:  # in bands of whole blocks, which give the same means and take less memory
        step = max(1, BAND_PX // ((x1 - x0) << halvings)) << halvings
        bands = [_halved(image, x0, x1, y, min(y + step, y1), halvings) for y in range(y0, y1, step)]
        window = bands[0] if len(bands) == 1 else np.concatenate(bands)
    else:
        window = cv2.cvtColor(image[y0:y1, x0:x1], cv2.COLOR_BGR2BGRA)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.cvtColor(cv2.warpAffine(window, matrix, (size, size), flags=flags), cv2.COLOR_BGRA2BGR, out)


@njit()
def _plan(x, y, side, roll_deg, size, block, shape, matrix):
    """The window of the image that a crop needs, x0, x1, y0, y1; sets `matrix`, (2, 3), crop px -> shrunk window px.

    The window is whole blocks, and one more on each side for the interpolation.
    """
    to_image = affine_of(x, y, side, roll_deg, size)
    spans = np.empty((2, 2), np.int64)
    for axis in range(2):
        a, b, c = to_image[axis]
        low, high = c + size * (min(a, 0.0) + min(b, 0.0)), c + size * (max(a, 0.0) + max(b, 0.0))
        start = max(0, math.floor(low) - block)
        blocks = -((start - math.ceil(high) - block) // block)
        spans[axis, 0], spans[axis, 1] = start, min(shape[1 - axis], start + blocks * block)
        # corner coordinates of the crop -> of the window; then both count from pixel centres, as OpenCV does
        matrix[axis, 0], matrix[axis, 1] = a / block, b / block
        matrix[axis, 2] = (c - start + (a + b) / 2) / block - 0.5
    return spans[0, 0], spans[0, 1], spans[1, 0], spans[1, 1]


def _even(image: np.ndarray) -> np.ndarray:
    """The image with a row and a column of 0 at the end where their number is odd."""
    below, beside = len(image) % 2, image.shape[1] % 2
    return cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=0) if below or beside else image


def _halved(image: np.ndarray, x0: int, x1: int, y0: int, y1: int, halvings: int) -> np.ndarray:
    """A window halved several times, (h, w, 4) uint8; see `_halved_bgra`."""
    window = _halved_bgra(image, x0, x1, y0, y1)
    for _ in range(halvings - 1):
        window = cv2.resize(_even(window), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return window


def _halved_bgra(image: np.ndarray, x0: int, x1: int, y0: int, y1: int) -> np.ndarray:
    """Means of 2x2 px of a window, rounded, an odd row or column at the end with 0, in half the time OpenCV takes.

    Returns
    -------
    (h, w, 4) uint8
        BGR and a channel without a meaning.
    """
    height, width = (y1 - y0 + 1) // 2, (x1 - x0 + 1) // 2
    if (y1 - y0) % 2 or (x1 - x0) % 2 or not image.flags.c_contiguous:  # rows are copied then: of the window only
        image, x0, y0 = _even(image[y0:y1, x0:x1]), 0, 0
    halved = np.empty((height, width, 4), np.uint8)
    _halve(image.reshape(len(image), -1), x0, y0, halved.view(np.uint16))
    return halved


@njit()
def _halve(rows, x0, y0, halved):
    """From `rows` of BGR bytes, from pixel (x0, y0) on, into `halved`, (h, w, 2) uint16: two bytes at once."""
    height, width, _ = halved.shape
    means = np.empty(6 * width, np.uint8)
    pairs = means.view(np.uint16)
    for y in range(height):
        upper, lower = rows[y0 + 2 * y, 3 * x0 :], rows[y0 + 2 * y + 1, 3 * x0 :]
        # also of pixels that are no pair: that way a processor adds 32 bytes at once
        for k in range(6 * width - 3):
            left, right = np.uint16(upper[k] + lower[k]), np.uint16(upper[k + 3] + lower[k + 3])
            means[k] = np.uint8(np.uint16(left + right + 2) >> 2)
        for x in range(width):
            halved[y, x, 0], halved[y, x, 1] = pairs[3 * x], pairs[3 * x + 1]


def _cut_whole_pixels(image: np.ndarray, roi: Roi, out: np.ndarray) -> None:
    """Source: 3DDFA_V2, utils/functions.py, `crop_img`, and TDDFA.py, which resizes."""
    (height, width), size = image.shape[:2], len(out)
    x0, y0, x1, y1 = (round(edge) for edge in (roi.x, roi.y, roi.x + roi.size, roi.y + roi.size))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    if max(x1 - x0, y1 - y0) > MAX_WINDOW_PX or roi.roll_deg:
        _cut_area(image, roi, out)
        return
    window = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if right > left and bottom > top:
        window[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    cv2.resize(window, (size, size), out, interpolation=cv2.INTER_LINEAR)
