"""From a network's answers to boxes: decoding, and non-maximum suppression."""

from __future__ import annotations

import numpy as np

from facet.tracker.compiling import njit

# how FaceBoxes scales the offsets that it learns: centre, log size
VARIANCES = (0.1, 0.2)


@njit()
def decode(
    offsets: np.ndarray, scores: np.ndarray, priors: np.ndarray, min_score: float
) -> tuple[np.ndarray, np.ndarray]:
    """Apply the offsets of those priors that score above a threshold.

    Parameters
    ----------
    offsets : (P, 4) float32, of centre x, centre y, log width, log height, in variances of the prior's size
    scores : (P,) float32
    priors : (P, 4) float32, centre x, centre y, width, height, px
    min_score : float

    Returns
    -------
    boxes : (K, 4) float32, x_min, y_min, x_max, y_max, px
    scores : (K,) float32
    """
    count = 0
    for i in range(len(scores)):
        count += scores[i] > min_score
    boxes = np.empty((count, 4), np.float32)
    kept = np.empty(count, np.float32)
    k = 0
    for i in range(len(scores)):
        if not scores[i] > min_score:
            continue
        x = priors[i, 0] + offsets[i, 0] * VARIANCES[0] * priors[i, 2]
        y = priors[i, 1] + offsets[i, 1] * VARIANCES[0] * priors[i, 3]
        half_width = priors[i, 2] * np.exp(offsets[i, 2] * VARIANCES[1]) / 2
        half_height = priors[i, 3] * np.exp(offsets[i, 3] * VARIANCES[1]) / 2
        boxes[k, 0], boxes[k, 1] = x - half_width, y - half_height
        boxes[k, 2], boxes[k, 3] = x + half_width, y + half_height
        kept[k] = scores[i]
        k += 1
    return boxes, kept


@njit()
def suppress(boxes: np.ndarray, order: np.ndarray, max_iou: float, edge_px: float, limit: int) -> np.ndarray:
    """Greedy non-maximum suppression.

    Parameters
    ----------
    boxes : (K, 4) float32, x_min, y_min, x_max, y_max, px
    order : (K,) int64, indices into `boxes`, best first
    max_iou : a box goes that overlaps a better one by this much or more
    edge_px : added to widths and heights; 1 where they were trained as whole pixels, edges included, 0 otherwise
    limit : how many are kept

    Returns
    -------
    indices into `boxes`, best first
    """
    kept = np.empty(min(limit, len(order)), np.int64)
    count = 0
    for i in order:
        if count == len(kept):
            break
        x0, y0, x1, y1 = boxes[i]
        area = (x1 - x0 + edge_px) * (y1 - y0 + edge_px)
        stands = True
        for k in range(count):
            other = boxes[kept[k]]
            width = min(x1, other[2]) - max(x0, other[0]) + edge_px
            height = min(y1, other[3]) - max(y0, other[1]) + edge_px
            if width <= 0 or height <= 0:
                continue
            shared = width * height
            other_area = (other[2] - other[0] + edge_px) * (other[3] - other[1] + edge_px)
            if shared >= max_iou * (area + other_area - shared):
                stands = False
                break
        if stands:
            kept[count] = i
            count += 1
    return kept[:count]


def best_boxes(
    boxes: np.ndarray, scores: np.ndarray, max_iou: float, edge_px: float, candidates: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sort by score, look at the best `candidates`, suppress, keep `limit`: (K, 4) and (K,) float32, best first."""
    order = np.argsort(-scores, kind="stable")[:candidates]
    kept = suppress(boxes, order, max_iou, edge_px, limit)
    return boxes[kept], scores[kept]
