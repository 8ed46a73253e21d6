"""How near the 68 landmarks lie to the truth, beside 3DDFA_V2 on the same pictures.

    python -m tools.evaluate landmarks [--config PATH ...] [--json PATH] [--plots DIR]
    python -m tools.evaluate landmarks --data aflw2000|aflw|300w PATH     a copy of your own (photographs.py: its form)
    python -m tools.evaluate landmarks --groups weights/regressor.onnx [--cut runs/data]

Detector, two crops and all: each picture goes through the tracker alone, as `app.py` does with images. Without --data:
photographs of people that nobody trained on (tools/data/split.py), these once more as the last frame of a short still
video ("followed"), rendered people, whose depth is known too, and rendered people one side of whose face is weak
("palsied"), beside the figures that ParFace-Net published on such people of its own. --sets names some of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from facet.tracker.types import FaceTrack
from tools.evaluation import crops, palsy, people, photographs
from tools.evaluation.common import followed, nearest, open_trackers, options, report, still
from tools.evaluation.photographs import Sample, sqrt_wh

YAW_EDGES_DEG = (0, 30, 60, 90)
RENDERED, PALSIED = 150, 150
# Source: the README of ParFace-Net: people with facial palsy of its own set, 3D; not comparable one to one
PUBLISHED = {
    "nme": 3.786, "std": 2.975, "failures_10": 0.815, "auc_10": 0.6281, "gte": 8.193, "gte_std": 4.374
}  # fmt: skip
EYES = (36, 39), (42, 45)  # outer and inner corner, inner and outer corner
# which of the 68 points, averaged, stand for AFLW's 21. Source: 3DDFA, benchmark_aflw.py, ind_68to21
OF_21 = (17, 19, 21, 22, 24, 26, 36, slice(36, 42), 39, 42, slice(42, 48), 45, 2, 31, 30, 35, 14, 48, slice(60, 68), 54, 8)  # fmt: skip  # noqa: E501


def metrics(points: np.ndarray, truth: np.ndarray, box: np.ndarray | None = None) -> dict[str, float]:
    """Landmark errors in %, over (n, k, 2 or 3) points and truths in px; NaN in the truth: not annotated.

    NME: mean distance in the picture / sqrt(wh) of the truth's rectangle, or `box` (n,). Offset: mean signed error /
    sqrt(wh), the larger of x, y. AUC and failure rate: of the NME, at 10 %. STD: root of the mean over faces of the
    variance of the distances within a face.
    Of 68 points also: NME / distance of the outer eye corners and of the pupils (the middles of each eye's corners);
    inner, points 17-67 / outer eye distance; errors of the lips' gap and the mouth's width / that.
    Of 68 points with depth also: GTE and its STD, distance in 3D / outer eye distance in 3D, the means of z removed.
    Source of AUC, failure rate, STD and GTE: ParFace-Net's evaluation.
    """
    distance = np.linalg.norm(points[..., :2] - truth[..., :2], axis=2)
    box = np.array([sqrt_wh(t) for t in truth]) if box is None else box
    share = 100 * distance / box[:, None]
    error = np.nanmean(share, axis=1)
    offset = (np.nanmean(points[..., :2] - truth[..., :2], axis=1) / box[:, None]).mean(axis=0)
    result = {
        "nme": error.mean(),
        "nme_median": np.median(error),
        "offset": 100 * np.abs(offset).max(),
        "std": spread(share),
        "failures_10": 100 * (error > 10).mean(),
        "auc_10": area_10(error),
    }
    if truth.shape[1] == 68:
        eyes = np.linalg.norm(truth[:, 36, :2] - truth[:, 45, :2], axis=1)
        right, left = (truth[:, list(corners), :2].mean(axis=1) for corners in EYES)
        pupils = np.linalg.norm(left - right, axis=1)
        mean = np.nanmean(distance, axis=1)
        result |= {
            "nme_outer_eyes": 100 * (mean / eyes).mean(),
            "nme_pupils": 100 * (mean / pupils).mean(),
            "inner": (100 * distance[:, 17:].mean(axis=1) / eyes).mean(),
            "lips": 100 * gap_error(points, truth, 62, 66),
            "mouth_width": 100 * gap_error(points, truth, 48, 54),
        }
        if truth.shape[2] == 3:
            apart = points - truth
            apart[..., 2] -= apart[..., 2].mean(axis=1, keepdims=True)
            eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
            share = 100 * np.linalg.norm(apart, axis=2) / eyes[:, None]
            result |= {"gte": share.mean(), "gte_std": spread(share)}
    return {key: float(value) for key, value in result.items()}


def spread(share: np.ndarray) -> float:
    """Root of the mean over faces of the variance of (n, k) errors within a face."""
    return float(np.sqrt(np.nanvar(share, axis=1).mean()))


def area_10(error: np.ndarray) -> float:
    """Mean, over thresholds up to 10 %, of the share of errors (n,) below."""
    return float(np.mean([(error <= t).mean() for t in np.linspace(0, 10, 51)[1:]]))


def gap_error(points: np.ndarray, truth: np.ndarray, a: int, b: int) -> float:
    """Mean error of the distance of two landmarks in the picture / outer eye distance."""

    def gap(p, a, b):
        return np.linalg.norm(p[:, a, :2] - p[:, b, :2], axis=1)

    return float((np.abs(gap(points, a, b) - gap(truth, a, b)) / gap(truth, 36, 45)).mean())


def like_aflw(points: np.ndarray) -> np.ndarray:
    """AFLW's 21 points (21, d) of (68, d)."""
    return np.stack([points[of] if isinstance(of, int) else points[of].mean(axis=0) for of in OF_21])


def judge(tracks: dict[str, Callable[[np.ndarray], list[FaceTrack]]], samples: Iterable[Sample]) -> tuple[dict, dict]:
    """Figures of each function image -> faces, and its error (n,) in % on every picture; NaN where it missed the face.

    A face is the annotated one when its centre lies within it. By yaw as 3DDFA's benchmark does: to 30, 60 and 90
    degrees, and the mean and deviation of the three.
    """
    found: dict[str, list] = {name: [] for name in tracks}
    known = []
    for sample in samples:
        known.append((sample.truth, abs(sample.yaw_deg), sample.box_px))
        for name, track in tracks.items():
            face = nearest(track(sample.image), sample.truth[:, :2])
            points = None if face is None else face.landmarks.astype(np.float64)[:, : sample.truth.shape[1]]
            found[name].append(points if points is None or len(sample.truth) == 68 else like_aflw(points))
    truth, yaw, box = (np.array(column) for column in zip(*known, strict=True))
    results, errors = {}, {}
    for name, faces in found.items():
        kept = np.array([face is not None for face in faces])
        result = {"pictures": len(kept), "missed": int((~kept).sum())}
        error = np.full(len(kept), np.nan)
        if kept.any():
            points = np.stack([face for face in faces if face is not None])
            distance = np.linalg.norm((points - truth[kept])[..., :2], axis=2)
            error[kept] = 100 * np.nanmean(distance, axis=1) / box[kept]
            result |= metrics(points, truth[kept], box[kept]) | by_yaw(error[kept], yaw[kept])
        results[name], errors[name] = result, error
    return results, errors


def by_yaw(error: np.ndarray, yaw: np.ndarray) -> dict[str, float]:
    """Means of errors (n,) by absolute yaw, deg, and over the bins where all hold a face."""
    result, means = {}, []
    for low, high in itertools.pairwise(YAW_EDGES_DEG):
        rows = (yaw > low if low else yaw >= 0) & ((yaw <= high) if high < YAW_EDGES_DEG[-1] else True)
        if rows.any():
            means.append(float(error[rows].mean()))
            result |= {f"nme_yaw_{low}_{high}": means[-1], f"count_yaw_{low}_{high}": int(rows.sum())}
    if len(means) == len(YAW_EDGES_DEG) - 1:
        result |= {"nme_yaw_mean": float(np.mean(means)), "nme_yaw_std": float(np.std(means))}
    return result


def rendered_people(count: int) -> Iterator[Sample]:
    """Pictures of people who do not exist."""
    for i, shot in enumerate(people.portraits(count)):
        yield Sample(str(i), shot.picture, shot.landmarks, shot.angles_deg[0], sqrt_wh(shot.landmarks))


def palsied_people(count: int) -> Iterator[Sample]:
    """Pictures of people who do not exist, one side of whose face is weak."""
    for i, shot in enumerate(palsy.portraits(count)):
        yield Sample(str(i), shot.picture, shot.landmarks, shot.angles_deg[0], sqrt_wh(shot.landmarks))


# how each set is tracked, and its samples
SETS: dict[str, tuple[Callable, Callable[[], Iterator[Sample]]]] = {
    "photographs": (still, photographs.validation),
    "followed": (followed, photographs.validation),
    "rendered": (still, partial(rendered_people, RENDERED)),
    "palsied": (still, partial(palsied_people, PALSIED)),
}


def main(arguments: list[str]) -> int:
    parser = options("landmarks", __doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), metavar="SET", help=", ".join(SETS))
    parser.add_argument("--data", nargs=2, metavar=("SET", "PATH"), help=f"{', '.join(photographs.SETS)}, and where")
    parser.add_argument("--groups", metavar="WEIGHTS", help="errors by group of photographs instead")
    parser.add_argument("--cut", type=Path, default=Path("runs/data"), help="what `tools.data.build faces` wrote")
    args = parser.parse_args(arguments)
    if args.groups:
        return report(by_group(args.groups, args.cut), args)
    if args.data and args.data[0] not in photographs.SETS:
        parser.error(f"--data: expected {', '.join(photographs.SETS)}, found {args.data[0]}")
    trackers = open_trackers(args.config, args.set)
    if args.data:
        sets = {args.data[0]: (still, photographs.SETS[args.data[0]](Path(args.data[1])))}
    else:
        sets = {name: (SETS[name][0], SETS[name][1]()) for name in args.sets}
    results, errors = {}, {}
    for name, (look, samples) in sets.items():
        tracks = {system: partial(look, tracker) for system, tracker in trackers.items()}
        results[name], errors[name] = judge(tracks, samples)
        if name == "palsied":
            results[name]["published, on its own set"] = PUBLISHED

    def draw(folder: Path) -> None:
        from tools.evaluation import plots

        plots.landmarks(results, errors, folder)

    return report(results, args, draw)


def by_group(weights: str, folder: Path) -> dict[str, dict[str, float]]:
    """NME on the held-out photographs of each group against the labellers' points, in crops as tracking takes them."""
    network, model = crops.load(weights)
    images, table = crops.cut_faces(folder)
    results = {}
    for group in np.unique(table["group"]):
        rows = np.flatnonzero(table["held_out"] & (table["group"] == group))
        places = [crops.place(table["points"][row], network.crop_spec) for row in rows]
        pictures = [crops.warp(images[row], place, network.size) for row, place in zip(rows, places, strict=True)]
        if not pictures:
            continue
        faces = crops.regress(network, np.stack(pictures))
        points = np.stack([model.landmarks(f.camera, f.shape, f.expression)[:, :2] for f in faces])
        truth = np.stack(
            [table["points"][row] @ place[:, :2].T + place[:, 2] for row, place in zip(rows, places, strict=True)]
        )
        results[str(group)] = {"photographs": len(rows), "nme": metrics(points, truth)["nme"]}
    return results
