"""Compile the numba kernels once, so that no user waits for it; they are cached beside their modules.

python -m tools.warm
"""

from __future__ import annotations

import numpy as np

from detect.postprocess import best_boxes, decode
from detect.priors import make_priors


def main() -> None:
    priors = make_priors(64, 64)
    offsets, scores = np.zeros((len(priors), 4), np.float32), np.full(len(priors), 0.9, np.float32)
    boxes, scores = decode(offsets, scores, priors, 0.5)
    best_boxes(boxes, scores, 0.3, 1.0, 10, 10)


if __name__ == "__main__":
    main()
