"""Where a face lies in the image, computed from its coefficients without moving a single vertex."""

from __future__ import annotations

import numpy as np

from facet.tracker.morphable import MorphableModel

BLOCK_MM = 25.0  # the smaller, the closer the bounds lie and the more there is to add up


class BlockBounds:
    """Boxes of neighbouring vertices; each box moves by as much as expressions move any vertex in it.

    One box around all, moved by all expressions, would cover a quarter to a half more of the picture.
    """

    def __init__(self, model: MorphableModel):
        cells = np.floor(model.mean / BLOCK_MM).astype(np.int64)
        _, block = np.unique(cells, axis=0, return_inverse=True)
        block = block.reshape(-1)
        self._order = np.argsort(block, kind="stable")
        self._starts = np.flatnonzero(np.diff(block[self._order], prepend=-1))
        expression = np.repeat(np.arange(model.expression_count), np.diff(model.expression_start))
        place = expression, block[model.expression_vertex]
        # from 0: the least a box does is stay
        low = np.zeros((model.expression_count, len(self._starts), 3), np.float32)
        high = np.zeros_like(low)
        np.minimum.at(low, place, model.expression_delta)
        np.maximum.at(high, place, model.expression_delta)
        numbers = len(low), 3 * len(self._starts)
        self._low, self._high = low.reshape(numbers), high.reshape(numbers)

    def boxes(self, neutral: np.ndarray) -> np.ndarray:
        """The boxes of a baked face, (N, 3) float32 mm; (2, B, 3) float32, lowest and highest corners."""
        ordered = neutral[self._order]
        low = np.minimum.reduceat(ordered, self._starts, axis=0)
        return np.stack([low, np.maximum.reduceat(ordered, self._starts, axis=0)])

    def in_picture(self, boxes: np.ndarray, expression: np.ndarray, model_to_image: np.ndarray) -> np.ndarray:
        """A box that no vertex leaves.

        Parameters
        ----------
        boxes : (2, B, 3) float32, of `boxes`
        expression : (Ke,) float
        model_to_image : (3, 4) float

        Returns
        -------
        (2, 3) float64, image px, lowest and highest x, y, z; not finite where one of the arguments is not
        """
        forth, back = np.maximum(expression, 0), np.minimum(expression, 0)
        low = boxes[0] + (forth @ self._low + back @ self._high).reshape(-1, 3)
        high = boxes[1] + (forth @ self._high + back @ self._low).reshape(-1, 3)
        camera = model_to_image.astype(float)
        middle = (low + high) / 2 @ camera[:, :3].T + camera[:, 3]
        reach = (high - low) / 2 @ np.abs(camera[:, :3]).T
        return np.stack([(middle - reach).min(axis=0), (middle + reach).max(axis=0)])
