"""Whether each blendshape answers to what the face does, and to nothing else, beside 3DDFA_V2 on the same pictures.

    python -m tools.evaluate blendshapes [--config PATH ...] [--people N] [--json PATH] [--plots DIR] [--cross-talk DIR]

Rendered people, turned by up to 20 degrees, raise each of the face model's 53 expressions alone from 0 to 1 and let it
go, but that both eyes look together and both sides move where ARKit has one blendshape; the trackers follow as `app.py`
does by default. Correlation and slope: of the reported weight on the true one, each person's rest taken off. Leak: the
largest rise of another weight; cross_talk: its mean over the blendshapes. `--cross-talk` writes a table a tracker: how
far each weight (column) rises with each blendshape (row). Eyes apart: how much the reported gaze of the two differs, in
weights, over all frames. Blendshapes that move along the view more than twice as far as across it do not show from the
front and are only listed.
On held-out photographs weights are held against distances between MediaPipe's points. 3DDFA_V2's weights are those of
our face model fitted to its landmarks.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facet.tracker.arkit import ONE_IN_ARKIT, arkit_name
from facet.tracker.blendshapes import TOGETHER
from facet.tracker.loop import FaceTracker
from facet.tracker.morphable import MorphableModel
from facet.tracker.types import FaceTrack, Frame
from tools.data import material
from tools.evaluation import people
from tools.evaluation.blink import meshed_photographs
from tools.evaluation.common import correlation, largest, nearest, open_trackers, options, report, slope, still

RAMP = np.concatenate([np.arange(0, 11) / 10, np.arange(4, -1, -1) / 5])  # a third of a second up, a sixth down
SETTLING = 12  # frames at rest before the first
# lips close over an open jaw; eyes look together; ARKit has one blendshape for both sides
PAIRS = TOGETHER | {f"{name}_L": f"{name}_R" for name in ONE_IN_ARKIT}
WITH = {"mouthClose": "jawOpen"} | PAIRS | {right: left for left, right in PAIRS.items()}
# a blendshape that is an exception falls below the correlation or leaves the range of slopes
GOOD_CORRELATION, GOOD_SLOPE = 0.8, (0.8, 1.2)


def shows(model: MorphableModel) -> np.ndarray:
    """Which expressions can be seen from the front, (Ke,) bool."""
    shape, none = np.zeros(model.shape_count, np.float32), np.zeros(model.expression_count, np.float32)
    rest = model.vertices(shape, none)
    seen = []
    for k in range(model.expression_count):
        weights = none.copy()
        weights[k] = 1
        moved = model.vertices(shape, weights) - rest
        seen.append(np.linalg.norm(moved[:, :2], axis=1).max() > 0.5 * np.abs(moved[:, 2]).max())
    return np.array(seen)


def script(model: MorphableModel) -> np.ndarray:
    """Weights (T, Ke): rest, then a ramp of each in turn."""
    names = list(model.expression_names)
    frames = np.zeros((SETTLING + len(names) * len(RAMP), len(names)), np.float32)
    for k, name in enumerate(names):
        rows = window(k)
        frames[rows, k] = RAMP
        if name in WITH:
            frames[rows, names.index(WITH[name])] = RAMP
    return frames


def window(k: int) -> slice:
    """The frames of the k-th ramp."""
    return slice(SETTLING + k * len(RAMP), SETTLING + (k + 1) * len(RAMP))


def play(trackers: dict[str, FaceTracker], model: MorphableModel, person: people.Person, angles, weights: np.ndarray):
    """What each tracker reports, (T, Ke) in the model's order; NaN where it lost the face."""
    reported = {name: np.full(weights.shape, np.nan) for name in trackers}
    for t, expression in enumerate(weights):
        shot = person.shot(*angles, expression)
        for name, tracker in trackers.items():
            face = largest(tracker.step(Frame(t, t / 30, shot.picture, first=t == 0)))
            if face:
                reported[name][t] = [face.blendshapes[arkit_name(n)] for n in model.expression_names]
    return reported


def figures(reported: np.ndarray, names: tuple[str, ...]) -> dict[str, dict]:
    """Of each blendshape, from what was reported of (people, T, Ke)."""
    results = {}
    for k, name in enumerate(names):
        part = reported[:, window(k)]
        rise = part - part[:, :1]
        known = ~np.isnan(rise[..., k])
        if known.sum() < 2:
            results[name] = {"correlation": 0.0, "slope": 0.0, "rest": np.nan, "leak": np.nan, "leak_to": ""}
            continue
        truth = np.broadcast_to(RAMP, known.shape)[known]
        top = np.nanmean(rise[:, RAMP.argmax()], axis=0)
        top[[k, *(names.index(WITH[name]) for _ in (0,) if name in WITH)]] = 0
        results[name] = {
            "correlation": correlation(truth, rise[..., k][known]),
            "slope": slope(truth, rise[..., k][known]),
            "rest": float(np.nanmean(part[:, 0, k])),
            "leak": float(top.max()),
            "leak_to": names[int(top.argmax())],
        }
    return results


def cross_talk(reported: np.ndarray) -> np.ndarray:
    """How far each weight rises where one blendshape is whole, (Ke raised, Ke reported), from (people, T, Ke)."""
    rises = []
    for k in range(reported.shape[2]):
        part = reported[:, window(k)]
        rises.append(np.nanmean(part[:, RAMP.argmax()] - part[:, 0], axis=0))
    return np.array(rises)


def write_table(path: Path, names: tuple[str, ...], rises: np.ndarray) -> None:
    """Write `cross_talk` as CSV, a row for each blendshape that is raised; rises that round to 0 are left empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["raised", *names])
        for name, row in zip(names, rises, strict=True):
            table.writerow([name, *(f"{value:.2f}" if abs(value) >= 0.005 else "" for value in row)])


def eyes_apart(reported: np.ndarray, names: tuple[str, ...]) -> float:
    """Mean difference of what is reported both eyes, from (people, T, Ke)."""
    left, right = ([names.index(name) for name in side] for side in (TOGETHER.keys(), TOGETHER.values()))
    return float(np.nanmean(np.abs(reported[..., left] - reported[..., right])))


def exceptions(rows: dict[str, dict], seen: list[str]) -> list[str]:
    """The blendshapes that show from the front and do not answer well enough."""
    low, high = GOOD_SLOPE
    return [n for n in seen if rows[n]["correlation"] < GOOD_CORRELATION or not low <= rows[n]["slope"] <= high]


def summary(rows: dict[str, dict], seen: list[str]) -> dict:
    """Figures over all that show from the front."""
    failed = exceptions(rows, seen)
    return {
        "shown": len(seen),
        "good": len(seen) - len(failed),
        "median_correlation": float(np.median([rows[n]["correlation"] for n in seen])),
        "median_slope": float(np.median([rows[n]["slope"] for n in seen])),
        "cross_talk": float(np.nanmean([rows[n]["leak"] for n in seen])),
        "exceptions": " ".join(failed),
    }


def of_mesh(mesh: np.ndarray) -> dict[str, float]:
    """What MediaPipe's (478, 3) points report of a face: distances / that of the outer eye corners."""
    eyes = np.linalg.norm(mesh[33] - mesh[263])
    up = mesh[152, :2] - mesh[168, :2]  # from the bridge of the nose to the chin
    up = -up / np.linalg.norm(up)
    corners, lips = (mesh[61, :2] + mesh[291, :2]) / 2, (mesh[13, :2] + mesh[14, :2]) / 2
    width = np.linalg.norm(mesh[61] - mesh[291]) / eyes
    return {
        "jawOpen": np.linalg.norm(mesh[13] - mesh[14]) / eyes,
        "mouthSmile": width + float((corners - lips) @ up) / eyes,
        "mouthPucker": -width,
    }


def of_face(face: FaceTrack | None) -> dict[str, float]:
    """The same by blendshapes."""
    if face is None:
        return dict.fromkeys(("jawOpen", "mouthSmile", "mouthPucker"), np.nan)
    weights = face.blendshapes
    return {
        "jawOpen": weights["jawOpen"] - weights["mouthClose"],
        "mouthSmile": (weights["mouthSmileLeft"] + weights["mouthSmileRight"]) / 2,
        "mouthPucker": weights["mouthPucker"] + weights["mouthFunnel"],
    }


def on_photographs(trackers: dict[str, FaceTracker]) -> dict:
    """Correlations of weights with MediaPipe's distances."""
    seen: list[dict] = []
    reported: dict[str, list[dict]] = {name: [] for name in trackers}
    for image, mesh in meshed_photographs():
        seen.append(of_mesh(mesh))
        for name, tracker in trackers.items():
            reported[name].append(of_face(nearest(still(tracker, image), mesh[material.MESH_TO_68, :2])))
    results = {}
    for name, rows in reported.items():
        known = np.array([not np.isnan(row["jawOpen"]) for row in rows])
        results[name] = {"faces": int(known.sum())}
        for key in rows[0]:
            truth, weight = (np.array([row[key] for row in table])[known] for table in (seen, rows))
            results[name][key] = correlation(truth, weight)
    return results


def clips(count: int) -> Iterator[tuple[people.Person, tuple[float, float, float]]]:
    """People, and how each holds the head."""
    rng = np.random.default_rng(people.SEED + 2)
    for person in people.cast(count)[1]:
        yield person, (rng.uniform(-20, 20), rng.uniform(-8, 8), rng.uniform(-5, 5))


def main(arguments: list[str]) -> int:
    parser = options("blendshapes", __doc__)
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--cross-talk", type=Path, metavar="DIR", help="write a table NAME.csv for each tracker")
    args = parser.parse_args(arguments)
    trackers = open_trackers(args.config, args.set)
    model, _ = people.cast(0)
    names, weights = model.expression_names, script(model)
    seen = [name for name, front in zip(names, shows(model), strict=True) if front]
    played = [play(trackers, model, person, angles, weights) for person, angles in clips(args.people)]
    reported = {name: np.stack([clip[name] for clip in played]) for name in trackers}
    rows = {name: figures(of, names) for name, of in reported.items()}
    results = {"rendered": {}}
    for name, of in rows.items():
        shown = summary(of, seen) | {"eyes_apart": eyes_apart(reported[name], names)}
        results["rendered"][name] = {"shown": shown, **of}
    if args.cross_talk:
        args.cross_talk.mkdir(parents=True, exist_ok=True)
        for name, of in reported.items():
            write_table(args.cross_talk / f"{name}.csv", names, cross_talk(of))
    if (material.folder() / "faces" / "mesh_478.npz").exists():
        results["photographs"] = on_photographs(trackers)

    def draw(folder: Path) -> None:
        from tools.evaluation import plots

        plots.blendshapes({name: np.stack([of[:, window(k), k] for k in range(len(names))]) for name, of in reported.items()}, names, RAMP, folder)  # fmt: skip  # noqa: E501

    return report(results, args, draw)
