"""Where FaceBoxes expects faces: its priors, which depend on nothing but the size of the picture."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# per output: px between cells, then side of the prior in px and its centres within the cell, both ways.
# The small priors are set more densely, so that small faces get as many as large ones.
SOURCES = (
    (32, ((32, (0.0, 0.25, 0.5, 0.75)), (64, (0.0, 0.5)), (128, (0.5,)))),
    (64, ((256, (0.5,)),)),
    (128, ((512, (0.5,)),)),
)


@lru_cache(maxsize=8)
def make_priors(height: int, width: int) -> np.ndarray:
    """The priors of a picture.

    Parameters
    ----------
    height, width : int, px

    Returns
    -------
    (P, 4) float32, read-only: centre x, centre y, width, height in px of the picture; in the order of the network's
    outputs: by source, row, column, size, centre y, centre x

    Source: Zhang et al., FaceBoxes, IJCB 2017, section 3.3; FaceBoxes.PyTorch, layers/functions/prior_box.py.
    """
    parts = []
    for step, sizes in SOURCES:
        rows, columns = -(-height // step), -(-width // step)
        offsets = np.array([(x, y, side, side) for side, at in sizes for y in at for x in at], np.float32)
        grid = np.zeros((rows, columns, 1, 4), np.float32)
        grid[..., 0] = np.arange(columns)[None, :, None] * step
        grid[..., 1] = np.arange(rows)[:, None, None] * step
        parts.append((grid + offsets * np.array([step, step, 1, 1], np.float32)).reshape(-1, 4))
    priors = np.concatenate(parts)
    priors.flags.writeable = False
    return priors
