"""Whether eyes close: on held-out photographs against MediaPipe's lids, on rendered people, and on videos.

    python -m tools.evaluate blink [--config PATH ...] [--json PATH] [--plots DIR]
    python -m tools.evaluate blink [--config PATH ...] --video PATH ... [--meshes DIR] [--json PATH]

A photograph's eye is shut where MediaPipe's lid gap is below SHUT of its width, open above OPEN. Rendered people open
and shut both eyes, and wink with each. How far an eye is closed (labels.blink_of_gap) follows the gap only up to where
the narrowest eyes are open, so the correlation with the gap itself has a limit. A video shows the spread of
`eyeBlink` and of the drawn lid gap, without smoothing: its smallest values are the blinks. With NAME.npy in DIR for
each video NAME.mp4, MediaPipe's points of it, (frames, 478, 2 or 3) px, NaN where it sees no face, `eyeBlink` is held
against their lid gaps, of the right eye, the left one and both, tracked by default settings; a false wink is a frame in
which one `eyeBlink` is above the other by WINK while MediaPipe's gaps differ by less than a quarter of an open one, a
real wink one in which they differ by more than half. 3DDFA_V2's weights are
those of our face model fitted to its landmarks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.arkit import arkit_name
from facet.tracker.loop import FaceTracker
from facet.tracker.sources import open_source
from facet.tracker.types import FaceTrack
from tools.data import labels, material
from tools.data.split import held_out
from tools.evaluation import crops, people
from tools.evaluation.common import (
    RAW,
    correlation,
    largest,
    mesh_files,
    mesh_of_video,
    nearest,
    open_trackers,
    options,
    report,
    still,
)
from tools.evaluation.photographs import need_material

SHUT, OPEN = 0.075, 0.22
MIN_FACE_PX = 90.0  # longer side of the 68 points; labels of small eyes are guesses
MAX_YAW_DEG = 45.0  # beyond, an eye is half hidden
REPORTED_SHUT, REPORTED_OPEN = 0.7, 0.25  # weights from and up to which an eye counts as reported shut or open
EYES = ("eyeBlink_R", "eyeBlink_L")  # expressions of the face model
PEOPLE = 40
WINK = 0.4  # difference of the two weights
SAME_PART, APART_PART = 0.25, 0.5  # of an open lid gap


def lid_gaps(points: np.ndarray) -> np.ndarray:
    """(..., 2) gap of the lids / width of the eye, subject's right and left, of (..., 68, 2) points."""
    gaps = []
    for eye, pairs in zip((36, 42), labels.EYES_68, strict=True):
        gap = np.mean([np.linalg.norm(points[..., a, :] - points[..., b, :], axis=-1) for a, b in pairs], axis=0)
        gaps.append(gap / np.linalg.norm(points[..., eye, :] - points[..., eye + 3, :], axis=-1))
    return np.stack(gaps, axis=-1)


def meshed_photographs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Held-out photographs and MediaPipe's (478, 3) points of a face in each that is large and looks ahead."""
    need_material()
    photos = material.photos()
    for row, mesh in zip(*material.mesh_478(), strict=True):
        points = mesh[material.MESH_TO_68]
        large = np.ptp(points[:, :2], axis=0).max() > MIN_FACE_PX
        if large and held_out(photos[row].identity, photos[row].file) and photos[row].group != "masked":
            if abs(labels.rough_yaw_deg(points[None])[0]) < MAX_YAW_DEG:
                yield cv2.imread(str(material.folder() / "faces" / photos[row].file)), mesh


def blinks(face: FaceTrack | None) -> list[float]:
    """How shut the subject's right and left eye are said to be."""
    return [face.blendshapes[arkit_name(name)] for name in EYES] if face else [np.nan, np.nan]


def on_photographs(trackers: dict[str, FaceTracker]) -> tuple[dict, dict, np.ndarray]:
    """Figures, weights (n, 2) by tracker, and MediaPipe's gaps (n, 2)."""
    reported: dict[str, list] = {name: [] for name in trackers}
    drawn: dict[str, list] = {name: [] for name in trackers}
    gaps = []
    for image, mesh in meshed_photographs():
        gaps.append(labels.lid_gaps(mesh[None])[0])
        for name, tracker in trackers.items():
            face = nearest(still(tracker, image), mesh[material.MESH_TO_68, :2])
            reported[name].append(blinks(face))
            drawn[name].append(lid_gaps(face.landmarks[:, :2]) if face else np.full(2, np.nan))
    gap, results = np.array(gaps), {}
    for name in trackers:
        blink, drawn_gap = np.array(reported[name]), np.array(drawn[name])
        seen = ~np.isnan(blink)
        shut, wide = (gap < SHUT) & seen, (gap > OPEN) & seen
        results[name] = {
            "faces": len(gap), "missed": int((~seen[:, 0]).sum()), **separation(blink[shut], blink[wide]),
            "correlation_with_gap": -correlation(blink[seen], gap[seen]),
            "correlation_with_closing": correlation(blink[seen], labels.blink_of_gap(gap[seen])),
            "drawn_gap_shut_over_open": np.median(drawn_gap[shut]) / np.median(drawn_gap[wide]),
        }  # fmt: skip
    return results, {name: np.array(values) for name, values in reported.items()}, gap


def separation(shut: np.ndarray, wide: np.ndarray) -> dict[str, float]:
    """How well weights of shut and of open eyes are distinguished."""
    return {
        "eyes_shut": len(shut),
        "eyes_open": len(wide),
        "auc": crops.auc(shut, wide),
        "shut_median": np.median(shut),
        "open_median": np.median(wide),
        "shut_reported": (shut >= REPORTED_SHUT).mean(),
        "open_reported": (wide <= REPORTED_OPEN).mean(),
    }


def on_rendered(trackers: dict[str, FaceTracker]) -> dict:
    """Eyes of people with both eyes open, both shut, and one."""
    model, cast = people.cast(PEOPLE)
    columns = [model.expression_names.index(name) for name in EYES]
    rng = np.random.default_rng(1)
    truth, reported = [], {name: [] for name in trackers}
    for person in cast:
        angles = rng.uniform(-20, 20), rng.uniform(-10, 10), 0.0
        for right, left in ((0, 0), (1, 1), (1, 0), (0, 1)):
            expression = np.zeros(model.expression_count, np.float32)
            expression[columns] = right, left
            shot = person.shot(*angles, expression)
            truth.append((right, left))
            for name, tracker in trackers.items():
                reported[name].append(blinks(nearest(still(tracker, shot.picture), shot.landmarks[:, :2])))
    return {name: rendered_figures(np.array(blink), np.array(truth) > 0) for name, blink in reported.items()}


def rendered_figures(blink: np.ndarray, shut: np.ndarray) -> dict[str, float]:
    """Of weights (n, 2) and of which eyes are shut (n, 2), bool.

    A wink is reported when the shut eye is reported shut and the other is not; an eye counts as shut above the middle
    between the weights of shut and of open eyes.
    """
    seen = ~np.isnan(blink[:, 0])
    blink, shut = blink[seen], shut[seen]
    middle = (np.median(blink[shut]) + np.median(blink[~shut])) / 2
    wink = shut[:, 0] != shut[:, 1]
    right = ((blink[wink] > middle) == shut[wink]).all(axis=1)
    apart = np.where(shut[wink, 0], 1, -1) * (blink[wink, 0] - blink[wink, 1])
    return {
        "pictures": len(seen), "missed": int((~seen).sum()), **separation(blink[shut], blink[~shut]),
        "winks_reported": right.mean(), "wink_difference": np.median(apart),
    }  # fmt: skip


def on_video(path: Path, tracker: FaceTracker) -> dict:
    """Spread of blink and drawn gap over a video's frames, without smoothing."""
    blink, gap, pitch, frames = [], [], [], 0
    with open_source(str(path)) as source:
        for frame in source:
            frames += 1
            face = largest(tracker.step(frame))
            if face:
                blink.append(blinks(face))
                gap.append(lid_gaps(face.landmarks[:, :2]))
                pitch.append(face.pose.pitch_deg)
    blink, gap = np.array(blink).mean(axis=1), np.array(gap).mean(axis=1)
    low, high = np.percentile(gap, [1, 75])
    return {
        "frames": frames,
        "tracked": len(blink),
        "blink_p5": np.percentile(blink, 5),
        "blink_p50": np.percentile(blink, 50),
        "blink_max": blink.max(),
        "gap_shut_over_open": low / high,
        "pitch_std_deg": np.std(np.diff(pitch)),
    }


def against_mesh(path: Path, mesh: Path, tracker: FaceTracker) -> dict:
    """`eyeBlink` in a video against the lid gaps of MediaPipe's points."""
    with open_source(str(path)) as source:
        reported = np.array([blinks(largest(tracker.step(frame))) for frame in source])
    gap = labels.lid_gaps(mesh_of_video(mesh, len(reported)))
    known = ~np.isnan(reported + gap).any(axis=1)
    seen_winks = winks(reported[known], gap[known])
    reported, gap = (np.column_stack([part, part.mean(axis=1)])[known] for part in (reported, gap))
    return {
        "correlation_right": -correlation(reported[:, 0], gap[:, 0]),
        "correlation_left": -correlation(reported[:, 1], gap[:, 1]),
        "correlation_both": -correlation(reported[:, 2], gap[:, 2]),
        "mesh_shut_reported": (reported[:, :2][gap[:, :2] < SHUT] >= REPORTED_SHUT).mean(),
        "mesh_open_reported": (reported[:, :2][gap[:, :2] > OPEN] <= REPORTED_OPEN).mean(),
        **seen_winks,
    }


def winks(reported: np.ndarray, gap: np.ndarray) -> dict[str, int]:
    """Frames that are said to be winks, from weights (n, 2) and MediaPipe's lid gaps (n, 2)."""
    apart = np.abs(np.diff(gap, axis=1)[:, 0]) / np.percentile(gap, 75) if len(gap) else np.zeros(0)
    wink = np.abs(np.diff(reported, axis=1)[:, 0]) > WINK
    return {
        "false_winks": int((wink & (apart < SAME_PART)).sum()),
        "real_winks": int((apart > APART_PART).sum()),
        "real_winks_reported": int((wink & (apart > APART_PART)).sum()),
    }


def main(arguments: list[str]) -> int:
    parser = options("blink", __doc__)
    parser.add_argument("--video", type=Path, action="append", default=[], help="judge these instead")
    parser.add_argument("--meshes", type=Path, metavar="DIR", help="MediaPipe's points of the videos")
    args = parser.parse_args(arguments)
    if args.video:
        meshes = mesh_files(parser, args.video, args.meshes) if args.meshes else []
        trackers = open_trackers(args.config, (*args.set, *RAW))
        results = {p.stem: {name: on_video(p, t) for name, t in trackers.items()} for p in args.video}
        if meshes:
            trackers = open_trackers(args.config, args.set)
            for p, mesh in zip(args.video, meshes, strict=True):
                for name, t in trackers.items():
                    results[p.stem][name] |= against_mesh(p, mesh, t)
        return report(results, args)
    if args.meshes:
        parser.error("--meshes is for --video")
    trackers = open_trackers(args.config, args.set)
    photographs, reported, gap = on_photographs(trackers)
    results = {"photographs": photographs, "rendered": on_rendered(trackers)}

    def draw(folder: Path) -> None:
        from tools.evaluation import plots

        plots.lids(reported, gap, folder)

    return report(results, args, draw)
