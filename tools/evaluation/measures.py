"""What a face does, measured on the 68 points: lengths and heights in parts of the outer eye distance.

In the face's own axes: the line between the outer eye corners is level, so that roll and size drop out. Meant for faces
that are turned by less than about 20 degrees.
"""

from __future__ import annotations

import numpy as np

# measures of which an evaluation reports one figure: the mean over the sides where there are two
GROUPS = {
    "lip_gap": ("lip_gap",),
    "mouth_width": ("mouth_width",),
    "corners": ("corner_right", "corner_left"),
    "lids": ("lid_right", "lid_left"),
    "brows": ("brow_right", "brow_left"),
    "nose_width": ("nose_width",),
    "lower_lip": ("lower_lip",),
    "chin": ("chin",),
}
# right less left
SIDES = {name: GROUPS[name] for name in ("brows", "corners", "lids")}
MIN_STD = 0.004  # what moves less than this gives no slope
MIN_FACES = 10


def measure(points: np.ndarray) -> dict[str, np.ndarray]:
    """Measures (n,) of (n, 68, 2 or more) points, px, y down; NaN where the points are."""
    points = np.asarray(points, np.float64)[..., :2]
    across = points[:, 45] - points[:, 36]
    distance = np.linalg.norm(across, axis=1)[:, None]
    x = across / distance
    y = np.stack([-x[:, 1], x[:, 0]], axis=1)
    own = np.einsum("nkc,nac->nka", points - points[:, 36:37], np.stack([x, y], axis=1)) / distance[..., None]
    right, down = own[..., 0], own[..., 1]

    def below(lower, upper) -> np.ndarray:
        return down[:, list(lower)].mean(axis=1) - down[:, list(upper)].mean(axis=1)

    return {
        "lip_gap": below((65, 66, 67), (61, 62, 63)),
        "mouth_width": right[:, 54] - right[:, 48],
        "corner_right": below([33], [48]),
        "corner_left": below([33], [54]),
        "lid_right": below((40, 41), (37, 38)),
        "lid_left": below((46, 47), (43, 44)),
        "brow_right": below(range(36, 42), range(17, 22)),
        "brow_left": below(range(42, 48), range(22, 27)),
        "nose_width": right[:, 35] - right[:, 31],
        "lower_lip": below([57], [66]),
        "chin": below([8], [57]),
    }


def gaze(points: np.ndarray, irises: np.ndarray) -> dict[str, np.ndarray]:
    """Where irises (n, 2, 2) lie against the middles of the eye corners, right and down, (n,) means of both eyes."""
    points = np.asarray(points, np.float64)[..., :2]
    across = points[:, 45] - points[:, 36]
    distance = np.linalg.norm(across, axis=1, keepdims=True)
    x = across / distance
    middles = np.stack([points[:, [36, 39]].mean(axis=1), points[:, [42, 45]].mean(axis=1)], axis=1)
    off = (np.asarray(irises, np.float64)[..., :2] - middles).mean(axis=1) / distance
    return {"gaze_right": (off * x).sum(axis=1), "gaze_down": off[:, 1] * x[:, 0] - off[:, 0] * x[:, 1]}


def follows(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Slope of ours on theirs, and correlation, over (n,) faces; NaN where too few are known or theirs hardly moves."""
    known = np.isfinite(ours) & np.isfinite(theirs)
    if known.sum() < MIN_FACES or theirs[known].std() < MIN_STD:
        return np.nan, np.nan
    a, b = ours[known] - ours[known].mean(), theirs[known] - theirs[known].mean()
    return float(a @ b / (b @ b)), float(a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-18))


def difference(measures: dict[str, np.ndarray], name: str) -> np.ndarray:
    """One of SIDES: how much higher, or wider open, the right side is than the left one."""
    right, left = SIDES[name]
    return measures[right] - measures[left]


def group_follows(ours: dict, theirs: dict, group: str) -> tuple[float, float]:
    """`follows` of one of GROUPS, the mean over its sides."""
    slopes, correlations = zip(*(follows(ours[name], theirs[name]) for name in GROUPS[group]), strict=True)
    return float(np.mean(slopes)), float(np.mean(correlations))
