"""One list of 68 points for every face that a labeller saw, in the annotators' convention.

People have annotated a third of the photographs, two networks nearly all. Each network puts its points where its own
convention has them, and each has errors of its own. A ridge regression from both networks' points to the people's,
learnt on the training identities, speaks for the people elsewhere: on identities that it has not seen it has 2.3 % of
sqrt(wh), where MediaPipe has 3.9 % and 3DDFA_V2 3.3 %. Beyond 50 degrees of yaw, where hardly anybody annotated,
3DDFA's points are taken with their mean difference removed. Lids come from MediaPipe: the people seldom close an eye.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tools.data import material
from tools.data.split import held_out

DISAGREE = 0.08  # of sqrt(wh): more than this apart, and one of the two networks is wrong
MATCH = 0.12
RIDGE = 0.03
PROFILE_YAW_DEG = 50.0
# outer corner, inner corner, then pairs of upper and lower lid points: subject's right eye, then left
MESH_EYES = ((33, 133, (160, 144), (158, 153), (159, 145)), (263, 362, (387, 373), (385, 380), (386, 374)))
IRISES = (468, 473)
EYES_68 = ((37, 41), (38, 40)), ((43, 47), (44, 46))
# MediaPipe's lid gap / eye width: below the first all eyes are shut, above the second nearly all are open
GAP_SHUT, GAP_OPEN = 0.085, 0.23
# people draw lids of shut eyes closer than of open ones, by some 0.3, and so does the regression; this much is counted
PEOPLE_CLOSE = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What is known of n faces; image px; NaN where nobody said it."""

    photo: np.ndarray  # (n,) int32, row of the manifest
    points: np.ndarray  # (n, 68, 2) float32, from the two networks, in the annotators' convention
    annotated: np.ndarray  # (n, 68, 2) float32, by people
    mesh: np.ndarray  # (n, 478, 3) float32, MediaPipe
    depth: np.ndarray  # (n, 68) float32, 3DDFA's z, its mean 0
    blink: np.ndarray  # (n, 2) float32, [0, 1], subject's right and left eye
    gaze: np.ndarray  # (n, 2, 2) float32, iris against the eye's middle / eye width, x and y, upright face
    yaw_deg: np.ndarray  # (n,) float32, roughly
    held_out: np.ndarray  # (n,) bool


def nme(points: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of (68, 2) points / sqrt(wh) of the truth."""
    return float(np.linalg.norm(points - truth, axis=1).mean() / np.sqrt(np.prod(np.ptp(truth, axis=0))))


def lid_gaps(mesh: np.ndarray) -> np.ndarray:
    """(n, 2) gaps of the lids / width of the eye, of MediaPipe's (n, 478, >=2) points."""
    xy = mesh[..., :2]
    gaps = []
    for outer, inner, *pairs in MESH_EYES:
        gap = np.mean([np.linalg.norm(xy[:, a] - xy[:, b], axis=1) for a, b in pairs], axis=0)
        gaps.append(gap / np.linalg.norm(xy[:, outer] - xy[:, inner], axis=1))
    return np.stack(gaps, axis=1)


def blink_of_gap(gap: np.ndarray) -> np.ndarray:
    """How shut an eye is, [0, 1], from MediaPipe's gap, which stays open a little on shut eyes."""
    return np.clip((GAP_OPEN - gap) / (GAP_OPEN - GAP_SHUT), 0.0, 1.0)


def close_lids(points: np.ndarray, blink: np.ndarray) -> np.ndarray:
    """Shrink the lid gaps of (n, 68, 2) points, drawn by people, about their middle to what is open of the eyes."""
    points, blink = points.copy(), np.nan_to_num(blink)
    keep = (1 - blink) / (1 - PEOPLE_CLOSE * blink)
    for eye, pairs in enumerate(EYES_68):
        for upper, lower in pairs:
            middle, half = (points[:, upper] + points[:, lower]) / 2, (points[:, upper] - points[:, lower]) / 2
            half *= keep[:, eye, None]
            points[:, upper], points[:, lower] = middle + half, middle - half
    return points


def rough_yaw_deg(points: np.ndarray) -> np.ndarray:
    """Yaw of (n, 68, 3) points: the depth across the eye corners and jaw, positive towards image left."""
    across = (points[:, [45, 16, 54]] - points[:, [36, 0, 48]]).mean(axis=1)
    return np.degrees(np.arctan2(across[:, 2], np.linalg.norm(across[:, :2], axis=1))).astype(np.float32)


def build() -> Labels:
    """Join the labellers; faces on which the two networks disagree are left out, unless people annotated them."""
    photos = material.photos()
    mesh_photo, mesh = material.mesh_478()
    other_photo, other_box, other = material.landmarks_3ddfa()
    names, people = material.annotated_68()
    rows = {photo.file: row for row, photo in enumerate(photos)}
    mesh_of, other_of = _by_photo(mesh_photo), _by_photo(other_photo)
    people_of = {rows[name]: points for name, points in zip(names, people, strict=True)}
    mesh_yaw = rough_yaw_deg(other)

    found = []  # (photo, mesh or -1, 3ddfa, annotated or None)
    for row in range(len(photos)):
        used = set()
        for j in other_of.get(row, ()):
            pairs = [(nme(mesh[i][material.MESH_TO_68, :2], other[j][:, :2]), i) for i in mesh_of.get(row, ())]
            error, i = min((p for p in pairs if p[1] not in used), default=(np.inf, -1))
            person = people_of.get(row)
            if person is not None and nme(other[j][:, :2], person) > MATCH:
                person = None
            if error < (MATCH if person is not None else DISAGREE):
                used.add(i)
                found.append((row, i, j, person))
            elif abs(mesh_yaw[j]) > PROFILE_YAW_DEG and other_box[j, 4] > 0.9:
                found.append((row, -1, j, person))
    photo = np.array([f[0] for f in found], np.int32)
    i, j = np.array([f[1] for f in found]), np.array([f[2] for f in found])
    nothing = np.full((68, 2), np.nan, np.float32)
    annotated = np.stack([nothing if f[3] is None else f[3] for f in found])
    mesh = np.where((i >= 0)[:, None, None], mesh[i], np.nan).astype(np.float32)
    other = other[j]
    out = np.array([held_out(photos[p].identity, photos[p].file) for p in photo])
    yaw_deg = mesh_yaw[j]

    blink = blink_of_gap(lid_gaps(mesh))
    points = _in_peoples_convention(mesh, other[..., :2], annotated, out, yaw_deg)
    return Labels(
        photo=photo,
        points=close_lids(points, blink).astype(np.float32),
        annotated=close_lids(annotated, blink).astype(np.float32),
        mesh=mesh,
        depth=(other[..., 2] - other[..., 2].mean(axis=1, keepdims=True)).astype(np.float32),
        blink=blink.astype(np.float32),
        gaze=_gaze(mesh).astype(np.float32),
        yaw_deg=yaw_deg,
        held_out=out,
    )


def _by_photo(photo: np.ndarray) -> dict[int, list[int]]:
    index: dict[int, list[int]] = {}
    for i, row in enumerate(photo):
        index.setdefault(int(row), []).append(i)
    return index


def _frame(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre (n, 1, 2), size (n, 1, 1), and rotation (n, 2, 2) that stands faces of (n, 68, 2) points upright."""
    eyes = points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1)
    angle = np.arctan2(eyes[:, 1], eyes[:, 0])
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    size = np.sqrt((np.ptp(points, axis=1) ** 2).sum(axis=1))
    return points.mean(axis=1, keepdims=True), size[:, None, None], turn


def _in_peoples_convention(mesh, other, annotated, out, yaw_deg) -> np.ndarray:
    """Ridge regression from both networks' points to the people's; see the module's docstring."""
    centre, size, turn = _frame(other)

    def normal(points):
        return np.einsum("nij,nkj->nki", turn, (points[..., :2] - centre).astype(np.float64)) / size

    seen = ~np.isnan(mesh[:, 0, 0]) & (np.abs(yaw_deg) < PROFILE_YAW_DEG)
    learn = seen & ~np.isnan(annotated[:, 0, 0]) & ~out
    others, truth = normal(other), normal(annotated)
    result = others + (truth[learn] - others[learn]).mean(axis=0)
    both = np.concatenate([normal(mesh).reshape(len(mesh), -1), others.reshape(len(mesh), -1)], axis=1)
    base = (normal(mesh)[:, material.MESH_TO_68] + others) / 2
    mean = both[learn].mean(axis=0)
    residual = (truth[learn] - base[learn]).reshape(learn.sum(), -1)
    offset = residual.mean(axis=0)
    centred = both[learn] - mean
    gram = centred.T @ centred + RIDGE * np.eye(len(mean))
    weights = np.linalg.solve(gram, centred.T @ (residual - offset))
    result[seen] = base[seen] + ((both[seen] - mean) @ weights + offset).reshape(-1, 68, 2)
    return np.einsum("nji,nkj->nki", turn, result * size) + centre


def _gaze(mesh: np.ndarray) -> np.ndarray:
    """`look` of MediaPipe's points (n, 478, 2 or more): (n, 2, 2), the subject's right eye first."""
    (right, left), xy = MESH_EYES, mesh[..., :2]
    sides = ((right[0], right[1], IRISES[0]), (left[1], left[0], IRISES[1]))
    return np.stack([look(xy[:, start], xy[:, end], xy[:, iris]) for start, end, iris in sides], axis=1)


def look(start: np.ndarray, end: np.ndarray, iris: np.ndarray) -> np.ndarray:
    """Irises against the middle of the eye corners, along and across the line from the one at image left, / eye width.

    All (n, 2) px.
    """
    along = end - start
    width = np.linalg.norm(along, axis=1, keepdims=True)
    along = along / width
    offset = (iris - (start + end) / 2) / width
    return np.stack([(offset * along).sum(1), offset[:, 1] * along[:, 0] - offset[:, 0] * along[:, 1]], 1)


def wanted_points(table: dict) -> np.ndarray:
    """Where the landmarks lie, (n, 68, 2) cut px: midway between people's points and the labellers', where both are."""
    points, people = table["points"], table["annotated"]
    return np.where(np.isnan(people), points, (people + points) / 2)
