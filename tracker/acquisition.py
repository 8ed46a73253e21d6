"""Where a new face may be, beyond the detector's upright boxes: completed at the border, and in turned images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from facet.tracker.types import Box, Detector

# width / height that a box cut off by the image's border is completed to. The detector's boxes of whole faces have
# 0.53 to 0.64; more puts the crop so that half a face is fitted right (measured on held-out people)
WHOLE_ASPECTS = (0.84, 0.72)
BORDER_SHARE = 0.04  # of the box's longer side: nearer to the border than this, a box may be cut off
QUARTER_TURNS = (90, -90, 180)  # degrees that heads may be rolled by, counter-clockwise; likelier ones first
MAX_TURNED_PX = 3072  # longer side: larger images are searched at this size, so that memory does not grow with them
_TO_UPRIGHT = {90: cv2.ROTATE_90_CLOCKWISE, -90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180}


def whole_boxes(boxes: Sequence[Box], width: int, height: int) -> list[list[Box]]:
    """For each detection the boxes of the whole face that it may show: several where the border cuts it off.

    Parameters
    ----------
    boxes : in an image of `width` x `height` px, faces upright in it
    """
    return [list(dict.fromkeys(completed(box, width, height, aspect) for aspect in WHOLE_ASPECTS)) for box in boxes]


def completed(box: Box, width: int, height: int, aspect: float) -> Box:
    """The box of a whole face of this width / height, where the border cuts it off; `box` itself where it does not."""
    x0, y0, x1, y1 = box.x_min, box.y_min, box.x_max, box.y_max
    near = BORDER_SHARE * max(x1 - x0, y1 - y0)
    whole_width, whole_height = aspect * (y1 - y0), (x1 - x0) / aspect
    left, right, top, bottom = x0 < near, x1 > width - near, y0 < near, y1 > height - near
    if whole_width > x1 - x0 and left != right:
        x0, x1 = (x1 - whole_width, x1) if left else (x0, x0 + whole_width)
    elif whole_height > y1 - y0 and top != bottom:
        y0, y1 = (y1 - whole_height, y1) if top else (y0, y0 + whole_height)
    else:
        return box
    return replace(box, x_min=x0, y_min=y0, x_max=x1, y_max=y1)


def turned_boxes(detect: Detector, image: np.ndarray, roll_deg: int) -> list[list[Box]]:
    """The boxes of heads that are rolled by about a quarter turn, for each as `whole_boxes` gives them, image px.

    Parameters
    ----------
    detect : called with the image turned so that such heads are upright
    image : (H, W, 3) uint8, BGR
    roll_deg : one of QUARTER_TURNS
    """
    height, width = image.shape[:2]
    scale = min(1.0, MAX_TURNED_PX / max(height, width))
    if scale < 1.0:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    upright = cv2.rotate(image, _TO_UPRIGHT[roll_deg])
    candidates = whole_boxes(detect(upright), upright.shape[1], upright.shape[0])
    return [[turned_back(box, roll_deg, width, height, scale) for box in boxes] for boxes in candidates]


def turned_back(box: Box, roll_deg: int, width: int, height: int, scale: float = 1.0) -> Box:
    """A box of the turned image, shrunk to `scale`, in px of the image of `width` x `height` px it was made of."""
    x0, y0, x1, y1 = (value / scale for value in (box.x_min, box.y_min, box.x_max, box.y_max))
    if roll_deg == 90:
        x0, y0, x1, y1 = y0, height - x1, y1, height - x0
    elif roll_deg == -90:
        x0, y0, x1, y1 = width - y1, x0, width - y0, x1
    else:
        x0, y0, x1, y1 = width - x1, height - y1, width - x0, height - y0
    return Box(x0, y0, x1, y1, box.score, float(roll_deg))
