"""How well tools.asymmetry measures one-sided movements: on rendered people, whose truth is exact.

    python -m tools.evaluate asymmetry [--config PATH ...] [--people 60] [--json PATH]

Short clips of people with a weak side, and of half as many healthy ones, yaw to 30 degrees: at rest, then a movement.
Of each measure: the correlation and slope of the reported difference of the sides' excursions (left less right) with
the true one, and of healthy people the reported difference, median in % of the outer eye distance. Without --config:
the default and the precise mode.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from facet.assembly import build_tracker
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.loop import FaceTracker
from facet.tracker.stages import Stages
from facet.tracker.types import FaceTrack, Frame
from facet.tracker.weights import ROOT
from tools.asymmetry import MEASURES, head_points, lengths
from tools.asymmetry import report as report_of
from tools.evaluation import palsy, people
from tools.evaluation.common import correlation, largest, open_trackers, options, report, slope
from tools.face_logs import FaceLog

PEOPLE = 60
RESTING, MOVING, HELD = 8, (0.3, 0.7), 4  # frames at rest, shares of the movement on the way, frames at its end
SWAY_DEG = (3.0, 2.0, 2.0)  # of the head meanwhile
# the movement that shows each measure
SHOWN = {
    ("brow_inner", "height"): "brows", ("brow_outer", "height"): "brows", ("lids", "gap"): "eyes",
    ("nose_wing", "height"): "eyes", ("mouth_corner", "height"): "smile", ("mouth_corner", "width"): "smile",
}  # fmt: skip


def clips(count: int, weak: bool, seed: int) -> Iterator[tuple[str, list[people.Shot]]]:
    """The movement and the shots of short clips, one after the other: each person makes all movements of SHOWN."""
    model, cast = people.cast(count, seed)
    rng = np.random.default_rng(seed + 1)
    names = list(model.expression_names)
    for person in cast:
        side, share = (rng.choice(["L", "R"]), rng.uniform(palsy.WEAKEST, palsy.STRONGEST)) if weak else ("", 1.0)
        usual = palsy.angles(rng)
        for movement in sorted(set(SHOWN.values())):
            strength = rng.uniform(0.3, 1)
            moved = usual + rng.normal(0, SWAY_DEG)
            shots = [person.shot(*usual, palsy.expression(names, "", 0.0, side))] * RESTING
            for part in (*MOVING, 1.0):
                angles = usual + part * (moved - usual)
                shots.append(person.shot(*angles, palsy.expression(names, movement, part * strength, side, share)))
            yield movement, shots + shots[-1:] * (HELD - 1)


def excursions(faces: list[FaceTrack]) -> np.ndarray:
    """(measures, 2) excursions at the end of a tracked clip, right and left, in % of the outer eye distance."""
    poses = [face.pose for face in faces]
    log = FaceLog(
        id=1, frame=np.arange(len(faces)), time_s=np.arange(len(faces)) / 30,
        landmarks=np.array([face.landmarks for face in faces], np.float64),
        angles_deg=np.array([(pose.yaw_deg, pose.pitch_deg, pose.roll_deg) for pose in poses]),
        scale=np.array([pose.scale_px_per_mm for pose in poses]),
        origin=np.array([pose.translation_px for pose in poses]), precise=True, frames=len(faces), cut_short=False,
    )  # fmt: skip
    result = report_of(log, (0, (RESTING - 1) / 30))
    sided = [k for k, measure in enumerate(MEASURES) if (measure.region, measure.kind) in SHOWN]
    return 100 / result.eyes_mm * np.array([result.excursions(k)[-1] for k in sided])


def truth(shots: list[people.Shot]) -> np.ndarray:
    """The same of the exact points."""
    ends = [shots[0], shots[-1]]
    points = head_points(
        np.array([shot.landmarks for shot in ends]), np.array([shot.angles_deg for shot in ends]), np.ones(2)
    )
    eyes = np.linalg.norm(points[0, 36] - points[0, 45])
    values = [lengths(points, measure) for measure in MEASURES if (measure.region, measure.kind) in SHOWN]
    return 100 / eyes * np.array([value[1] - value[0] for value in values])


def follow(tracker: FaceTracker, shots: list[people.Shot]) -> list[FaceTrack]:
    """The face in every frame of a clip; fewer where it was missed."""
    frames = [Frame(k, k / 30, shot.picture, first=k == 0) for k, shot in enumerate(shots)]
    found = [largest(tracker.step(frame)) for frame in frames]
    return [face for face in found if face is not None]


def figures(found: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Of (n,) differences of the sides, reported and true."""
    return {"correlation": correlation(found, known), "slope": slope(known, found), "clips": len(known)}


def main(arguments: list[str]) -> int:
    parser = options("asymmetry", __doc__)
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"with a weak side (default: {PEOPLE})")
    args = parser.parse_args(arguments)
    configs = args.config or [None, str(ROOT / "configs" / "precise.toml")]
    trackers = {}
    for config in configs:
        trackers |= open_trackers([config], args.set) if config else default(args.set)
    names = list(SHOWN)
    found: dict = {name: {weak: [] for weak in (True, False)} for name in trackers}
    missed = dict.fromkeys(trackers, 0)
    for weak, count in ((True, args.people), (False, args.people // 2)):
        for movement, shots in clips(count, weak, palsy.SEED + 10 * weak):
            known = truth(shots)
            for name, tracker in trackers.items():
                faces = follow(tracker, shots)
                if len(faces) < len(shots):
                    missed[name] += 1
                    continue
                found[name][weak].append((movement, excursions(faces), known))
    results: dict = {}
    for name, of_people in found.items():
        rows, apart = {}, []
        for k, key in enumerate(names):
            pairs = [(f[k], t[k]) for movement, f, t in of_people[True] if movement == SHOWN[key]]
            reported, true = (np.array(part)[:, 1] - np.array(part)[:, 0] for part in zip(*pairs, strict=True))
            rows[" ".join(key)] = figures(reported, true)
            healthy = np.array([f[k] for movement, f, _ in of_people[False] if movement == SHOWN[key]])
            apart.append(np.abs(healthy[:, 1] - healthy[:, 0]))
            rows[" ".join(key)]["healthy_apart_percent"] = float(np.median(apart[-1]))
        means = {part: float(np.mean([row[part] for row in rows.values()])) for part in ("correlation", "slope")}
        means |= {"healthy_apart_percent": float(np.median(np.concatenate(apart))), "missed": missed[name]}
        results[name] = {"mean": means} | rows
    return report(results, args)


def default(overrides: list[str]) -> dict[str, FaceTracker]:
    """The tracker of the default mode."""
    return {"default": build_tracker(load_config(AppConfig, None, list(overrides)), Stages(), live=False)}
