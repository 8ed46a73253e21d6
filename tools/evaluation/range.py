"""Whether expressions reach their range, each side by itself: slopes and correlations of what a face does.

    python -m tools.evaluate range [--config PATH ...] [--people N] [--json PATH]
    python -m tools.evaluate range [--config PATH ...] --video PATH ... --meshes DIR [--json PATH]

Lip gap, mouth width, heights of the corners of the mouth, gaps of the lids and more (measures.py), in parts of the
outer eye distance: the slope of ours on the reference and their correlation. Without --video: over sharp photographs of
people that give no labels, against MediaPipe's points, and over rendered people of 150 to 500 px, against exact truth,
the differences of the two sides included. In videos: frame by frame against MediaPipe's points, which
`tools/mesh_videos.py` wrote to DIR; differences of the sides against the mean of those in the frame and in its mirror
image, only where these two agree by AGREE, with MediaPipe's own slope on that mean; the lip gap where MediaPipe sees
closed lips; false winks. Tracked by default settings.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facet.tracker.arkit import arkit_name
from facet.tracker.loop import FaceTracker
from facet.tracker.mirror import MIRROR_68
from facet.tracker.sources import open_source
from facet.tracker.types import FaceTrack
from tools.data import convention, labels, material, rendered
from tools.data.split import gives_offsets
from tools.evaluation import people
from tools.evaluation.common import (
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
from tools.evaluation.measures import GROUPS, SIDES, difference, follows, gaze, group_follows, measure
from tools.evaluation.photographs import need_material
from tools.face_model.anatomy import anatomical_points

AGREE = 0.7  # correlation of MediaPipe's side differences in a frame and in its mirror image
MAX_YAW_DEG = 25.0
CLOSED = 0.01  # lip gaps of MediaPipe below this are closed lips
OPEN = 0.08  # true lip gaps above this are open mouths
WINK, ALIKE = 0.4, 0.25  # difference of eyeBlink; of the lids' gaps, in parts of their open gap
OPEN_PERCENT = 90  # of a video's frames: the lids' gap that counts as open
PEOPLE, SHOTS = 30, 8
FACE_PX = (150.0, 500.0)
SEED = 4711
NO_POINTS, NO_IRISES = np.full((68, 2), np.nan), np.full((2, 2), np.nan)
Seen = tuple[np.ndarray, np.ndarray]  # (68, 2) points, (2, 2) irises; NaN where there are none


def seen(face: FaceTrack | None) -> Seen:
    """Points and irises of a face."""
    if face is None:
        return NO_POINTS, NO_IRISES
    return face.landmarks[:, :2].astype(np.float64), NO_IRISES if face.irises is None else face.irises[:, :2]


def followed(ours: dict, theirs: dict, groups=tuple(GROUPS)) -> dict:
    """Slope and correlation of groups of measures that move."""
    result = {}
    for group in groups:
        slope, r = group_follows(ours, theirs, group)
        result |= {group: {"slope": slope, "correlation": r}} if np.isfinite(slope) else {}
    return result


def sides_followed(ours: dict, theirs: dict) -> dict:
    """The same of the differences between the sides."""
    result = {}
    for name in SIDES:
        slope, r = follows(difference(ours, name), difference(theirs, name))
        result |= {f"{name}_apart": {"slope": slope, "correlation": r}} if np.isfinite(slope) else {}
    return result


def stacked(found: list[Seen]) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 68, 2) and irises (n, 2, 2)."""
    return tuple(np.stack(part) for part in zip(*found, strict=True))


def on_photographs(trackers: dict[str, FaceTracker]) -> dict:
    """Slopes over sharp portraits, most of them neutral, half of the rest smiling."""
    need_material()
    known = material.delineated()
    rows = [i for i, person in enumerate(known.identity) if not gives_offsets(person)]
    truth, results = known.mesh[rows][:, material.MESH_TO_68, :2], {}
    found: dict[str, list] = {name: [] for name in trackers}
    for row, points in zip(rows, truth, strict=True):
        image = cv2.imread(str(material.folder() / "faces" / known.file[row]))
        for name, tracker in trackers.items():
            found[name].append(seen(nearest(still(tracker, image), points)))
    theirs = measure(truth)
    closed = np.abs(theirs["lip_gap"]) < CLOSED
    for name in trackers:
        points, _ = stacked(found[name])
        ours = measure(points)
        missed = int(np.isnan(points[:, 0, 0]).sum())
        gap = 100 * float(np.nanmean(np.abs(ours["lip_gap"][closed])))
        results[name] = {"portraits": len(rows), "missed": missed, "closed_lips": gap} | followed(ours, theirs)
    return results


def on_rendered(trackers: dict[str, FaceTracker], count: int) -> dict:
    """Slopes over rendered people with any expression, against the model's anatomical points."""
    model, cast = people.cast(count, SEED)
    inner, rng = anatomical_points(model), np.random.default_rng(SEED)
    truth, found = [], {name: [] for name in trackers}
    for person in cast:
        if person.look.glasses_bgr is not None and person.look.dark_glasses:
            continue
        for _ in range(SHOTS):
            expression = rendered.random_expression(rng, list(model.expression_names))
            angles = rng.uniform(-20, 20), rng.uniform(-12, 12), rng.uniform(-10, 10)
            shot = person.shot(*angles, expression, face_px=float(np.exp(rng.uniform(*np.log(FACE_PX)))))
            points, irises = exact(shot, inner(np.concatenate([person.shape, expression])))
            truth.append((points, irises))
            for name, tracker in trackers.items():
                found[name].append(seen(nearest(still(tracker, shot.picture), points)))
    points, irises = stacked(truth)
    theirs, looks, results = measure(points), gaze(points, irises), {}
    opened = theirs["lip_gap"] > OPEN
    closed = np.abs(theirs["lip_gap"]) < CLOSED
    for name in trackers:
        points, irises = stacked(found[name])
        ours, gazes = measure(points), gaze(points, irises)
        error = np.abs(ours["lip_gap"] - theirs["lip_gap"])
        results[name] = {
            "images": len(points),
            "missed": int(np.isnan(points[:, 0, 0]).sum()),
            "open_mouths": int(opened.sum()),
            "open_lips_error": 100 * float(np.nanmean(error[opened])) if opened.any() else np.nan,
            "closed_lips": 100 * float(np.nanmean(np.abs(ours["lip_gap"][closed]))) if closed.any() else np.nan,
        }
        results[name] |= followed(ours, theirs) | sides_followed(ours, theirs) | gazes_followed(gazes, looks)
    return results


def exact(shot: people.Shot, inner_mm: np.ndarray) -> Seen:
    """The points of a shot: 0-16 on the contour, 17-67 and the irises, (53, 3) mm, at their anatomical places."""
    placed = (inner_mm @ shot.camera[:, :3].T + shot.camera[:, 3])[:, :2]
    return np.concatenate([shot.landmarks[:17, :2], placed[:51]]), placed[51:]


def gazes_followed(ours: dict, theirs: dict) -> dict:
    """Slope and correlation of the irises' motion, where a tracker has irises."""
    found = {name: follows(ours[name], theirs[name]) for name in theirs}
    return {name: {"slope": slope, "correlation": r} for name, (slope, r) in found.items() if np.isfinite(slope)}


def tracked(path: Path, tracker: FaceTracker) -> tuple[list[Seen], np.ndarray]:
    """The largest face of each frame, and how shut its right and left eye are, (n, 2)."""
    found, blinks = [], []
    names = [arkit_name(f"eyeBlink_{side}") for side in "RL"]
    with open_source(str(path)) as source:
        for frame in source:
            face = largest(tracker.step(frame))
            found.append(seen(face))
            blinks.append([face.blendshapes[name] for name in names] if face else [np.nan, np.nan])
    return found, np.array(blinks)


def on_video(found: list[Seen], blinks: np.ndarray, mesh: np.ndarray, mirrored: np.ndarray | None, width: int) -> dict:
    """Figures of a video.

    Parameters
    ----------
    found : of each frame
    blinks : (n, 2), of the right and the left eye
    mesh, mirrored : (n, 478, 3) MediaPipe's points of the frames, and of their mirror images
    width : of the frames, px
    """
    points, irises = stacked(found)
    truth = mesh[:, material.MESH_TO_68]
    ahead = np.abs(labels.rough_yaw_deg(truth)) < MAX_YAW_DEG  # also leaves out frames without a face
    kept = ahead & np.isfinite(points[:, 0, 0])
    ours, theirs = measure(points[kept]), measure(truth[kept])
    result: dict = {"frames": len(found), "compared": int(kept.sum()), "lost": int((ahead & ~kept).sum())}
    if not kept.any():
        return result
    closed = theirs["lip_gap"] < CLOSED
    if closed.any():
        result |= {"closed_frames": int(closed.sum()), "closed_lips": 100 * np.abs(ours["lip_gap"][closed]).mean()}
    result |= followed(ours, theirs, ("lip_gap", "mouth_width", "corners", "lids", "brows"))
    discs = mesh[kept][:, convention.MESH_IRISES, :2]
    result |= gazes_followed(gaze(points[kept], irises[kept]), gaze(truth[kept], discs))
    both = theirs
    if mirrored is not None:
        other = measure(unmirrored(mirrored[kept], width))
        both = {name: (values + other[name]) / 2 for name, values in theirs.items()}
        for name in SIDES:
            one, two, mean = (difference(m, name) for m in (theirs, other, both))
            known = np.isfinite(mean)
            if known.any() and correlation(one[known], two[known]) >= AGREE:
                slope, r = follows(difference(ours, name), mean)
                if np.isfinite(slope):
                    own, _ = follows(one, mean)
                    result[f"{name}_apart"] = {"slope": slope, "correlation": r, "mediapipe_slope": own}
    result["false_winks"] = false_winks(blinks[kept], both)
    return result


def unmirrored(mesh: np.ndarray, width: int) -> np.ndarray:
    """The 68 points (n, 68, 2) in frames, of MediaPipe's points (n, 478, 3) in their mirror images."""
    points = mesh[:, material.MESH_TO_68, :2] * (-1, 1) + (width, 0)
    return points[:, MIRROR_68]


def false_winks(blinks: np.ndarray, theirs: dict) -> int:
    """Frames in which one eye is shut much more than the other while MediaPipe's lids are open alike."""
    lids = np.stack([theirs["lid_right"], theirs["lid_left"]], axis=1)
    wide = np.nanpercentile(lids.mean(axis=1), OPEN_PERCENT)
    alike = np.abs(lids[:, 0] - lids[:, 1]) < ALIKE * wide
    return int((alike & (np.abs(blinks[:, 0] - blinks[:, 1]) > WINK)).sum())


def median_of(videos: list[dict]) -> dict:
    """Medians over videos of what each reports, and sums of counts."""
    result: dict = {"videos": len(videos)}
    for name in dict.fromkeys(name for video in videos for name in video):
        values = [video[name] for video in videos if name in video]
        if isinstance(values[0], dict):
            result[name] = {key: float(np.median([v[key] for v in values])) for key in values[0]}
            result[name]["videos"] = len(values)
        elif isinstance(values[0], int):
            result[name] = sum(values)
        else:
            result[name] = float(np.mean(values))
    return result


def main(arguments: list[str]) -> int:
    parser = options("range", __doc__)
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"how many are rendered (default: {PEOPLE})")
    parser.add_argument("--video", type=Path, action="append", default=[], help="judge these instead")
    parser.add_argument("--meshes", type=Path, metavar="DIR", help="MediaPipe's points of the videos")
    args = parser.parse_args(arguments)
    if bool(args.video) != bool(args.meshes):
        parser.error("--video and --meshes belong together: give both or neither")
    meshes = mesh_files(parser, args.video, args.meshes) if args.video else []
    trackers = open_trackers(args.config, args.set)
    if not args.video:
        results = {"photographs": on_photographs(trackers)}
        if args.people:
            results["rendered"] = on_rendered(trackers, args.people)
        return report(results, args)
    results = {name: {} for name in trackers}
    for path, file in zip(args.video, meshes, strict=True):
        with open_source(str(path)) as source:
            width = next(iter(source)).image.shape[1]
        other = file.with_name(f"{file.stem}_mirrored.npy")
        for name, tracker in trackers.items():
            found, blinks = tracked(path, tracker)
            both = [mesh_of_video(mesh, len(found)) if mesh.exists() else None for mesh in (file, other)]
            results[name][path.stem] = on_video(found, blinks, *both, width)
    for videos in results.values():
        videos["all"] = median_of(list(videos.values()))
    return report(results, args)
