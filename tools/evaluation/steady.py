"""Whether a still head rests and a moving one is not late: python -m tools.evaluate steady [options].

Clips with known motion are made of photographs, tracked by app.py as a user starts it, and its log is judged:

- frozen: a face that does not move, in noise. Jitter: RMS motion of the landmarks from frame to frame / sqrt(wh)
- sway: a fast sine to the sides. Lag: the delay that best aligns the landmarks with the truth
- slow: a sine of 6 px. RMS error, and the longest run of frames in which nothing moves (a dead band is no smoothing)
- blink: blinks of 5 frames go through the filter alone. Depth: what is left of the closing
- demo: samples/demo.mp4 with its truth. Depth of its blinks with smoothing / without
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.pose import camera_from_pose
from facet.tracker.smoothing import FaceFilter, Sample, SmoothingConfig
from facet.tracker.types import Pose
from facet.tracker.weights import ROOT
from tools.evaluation.photographs import held_out_photographs

SIZE_WH, FPS = (1280, 720), 30
PHOTO_PX = 520  # height of the photograph in the picture
GROUND_BGR = (96, 110, 104)
FAST_PERIOD, FAST_PX = 45, 120.0  # frames, px
SLOW_PERIOD, SLOW_PX = 90, 6.0
SETTLING = {"frozen": 10, "sway": 20, "slow": 30}  # first frames that do not count
LIMITS = {"jitter": 0.05, "lag": 0.5, "rms": 0.3, "standstill": 5, "blink": 0.9, "demo": 0.9}


def place(photo: np.ndarray, x: float, y: float) -> np.ndarray:
    """The photograph, PHOTO_PX high, with its centre at (x, y) of a plain picture."""
    zoom = PHOTO_PX / photo.shape[0]
    photo = cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    shift = np.float32([[1, 0, x - photo.shape[1] / 2], [0, 1, y - photo.shape[0] / 2]])
    return cv2.warpAffine(photo, shift, SIZE_WH, flags=cv2.INTER_LINEAR, borderValue=GROUND_BGR)


def noisy(picture: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """With noise of `sigma` grey values."""
    return np.clip(picture + sigma * rng.standard_normal(picture.shape, np.float32), 0, 255).astype(np.uint8)


def motion(name: str, frames: int) -> np.ndarray:
    """Horizontal place of the photograph in each frame, px."""
    middle, t = SIZE_WH[0] / 2, np.arange(frames)
    if name == "sway":
        return middle + FAST_PX * np.sin(2 * np.pi * t / FAST_PERIOD)
    if name == "slow":
        return middle + SLOW_PX * np.sin(2 * np.pi * t / SLOW_PERIOD)
    return np.full(frames, middle)


def clip(name: str, photo: np.ndarray, rng: np.random.Generator):
    """The frames of a clip, one by one, with the truth."""
    frames, sigma = {"frozen": (90, 4.0), "sway": (180, 2.0), "slow": (270, 2.0)}[name]
    for x in motion(name, frames):
        yield noisy(place(photo, x, SIZE_WH[1] / 2), rng, sigma), x


def write_video(path: Path, frames) -> None:
    """As people have it: compressed, MPEG-4."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), FPS, SIZE_WH)
    for frame in frames:
        writer.write(frame)
    writer.release()


def track(path: Path, options: list[str]) -> list[dict]:
    """The records that app.py writes of a video."""
    log = path.with_suffix(".jsonl")
    command = [sys.executable, str(ROOT / "app.py"), "-f", str(path), "--log", str(log), "--no-window", "--quiet"]
    subprocess.run([*command, *options], check=True)
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def points_of(records: list[dict]) -> np.ndarray:
    """Landmarks of the largest face, (T, 68, 2) px; NaN where there is none."""
    points = np.full((len(records), 68, 2), np.nan)
    for row, record in zip(points, records, strict=True):
        if record["faces"]:
            face = max(record["faces"], key=lambda f: (f["box"][2] - f["box"][0]) * (f["box"][3] - f["box"][1]))
            row[:] = np.array(face["landmarks"])[:, :2]
    return points


def jitter_percent(points: np.ndarray) -> float:
    """RMS motion from frame to frame of (T, 68, 2) px, in % of sqrt(wh)."""
    size = np.sqrt(np.prod(np.ptp(points[0], axis=0)))
    return float(100 * np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=-1).mean()) / size)


def lag_frames(signal: np.ndarray, truth: np.ndarray, finest: float = 0.05, span: int = 8) -> float:
    """Delay, in frames, at which the truth correlates best with the signal; both (T,)."""
    t = np.arange(span, len(truth) - span)
    lags = np.arange(-2, span, finest)
    likeness = [np.corrcoef(signal[t], np.interp(t - lag, np.arange(len(truth)), truth))[0, 1] for lag in lags]
    return float(lags[int(np.argmax(likeness))])


def standstill(signal: np.ndarray) -> int:
    """Most frames in a row at one and the same place, to 1/1000 px."""
    return max(len(list(group)) for _, group in itertools.groupby(np.round(signal, 3)))


def judge(name: str, points: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The figures of one clip; NaN where the face was lost."""
    points, truth = points[SETTLING[name] :], truth[SETTLING[name] :]
    x = points[:, :, 0].mean(axis=1)
    if name == "frozen":
        return {"jitter": jitter_percent(points)}
    if name == "sway":
        return {"lag": float("nan") if np.isnan(x).any() else lag_frames(x, truth)}
    error = x - truth
    return {"rms": float(np.std(error)), "standstill": standstill(x)}


def blink_depth(config: SmoothingConfig) -> float:
    """Share of a blink of 5 frames (two down, one shut, two up) that is left after the filter."""
    closing = np.zeros(60, np.float32)
    for start in (12, 30, 48):
        closing[start : start + 5] = 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3
    pose = Pose(np.eye(3, dtype=np.float32), 2.0, np.float32([640, 360, 0]), 0.0, 0.0, 0.0)
    camera = camera_from_pose(pose)
    smooth = FaceFilter(config, ("eyeBlink_L", "eyeBlink_R"), pose)
    samples = [Sample(camera, pose, np.full(2, c, np.float32), t / FPS) for t, c in enumerate(closing)]
    out = [smooth(sample).expression[0] for sample in samples]
    return float(min(max(out[start : start + 7]) for start in (12, 30, 48)))


def demo_depth(options: list[str], folder: Path) -> float:
    """How deep the blinks of samples/demo.mp4 are, beside the same run without smoothing."""
    truth = [json.loads(line) for line in (ROOT / "samples" / "demo_truth.jsonl").read_text().splitlines()]
    shut = np.array([record["blendshapes"]["eyeBlinkLeft"] for record in truth])
    blinks = [t for t in range(1, len(shut) - 1) if shut[t] > 0.8 and shut[t] >= shut[t - 1] and shut[t] > shut[t + 1]]
    depth = []
    for extra in ([], ["--set", "smoothing.lookahead=0", "--set", "smoothing.enabled=false"]):
        link = folder / "demo.mp4"
        link.write_bytes((ROOT / "samples" / "demo.mp4").read_bytes())
        lines = track(link, [*options, *extra])
        weights = np.array([r["faces"][0]["blendshapes"]["eyeBlinkLeft"] if r["faces"] else np.nan for r in lines])
        depth.append(np.mean([np.nanmax(weights[t - 2 : t + 4]) - np.nanmedian(weights) for t in blinks]))
    return float(depth[0] / depth[1]) if depth[1] > 0.05 else float("nan")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate steady", description=__doc__.splitlines()[0])
    parser.add_argument("--config", action="append", default=[], help="passed on to app.py")
    parser.add_argument("--set", action="append", default=[], help="passed on to app.py")
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args(arguments)
    options = [word for path in args.config for word in ("--config", path)]
    options += [word for setting in args.set for word in ("--set", setting)]
    photographs = held_out_photographs()
    chosen = photographs[:: max(1, len(photographs) // args.photos)][: args.photos]
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (_, photo, _) in enumerate(chosen):
            for name in ("frozen", "sway", "slow"):
                rng, path = np.random.default_rng(7), Path(folder) / f"{name}{number}.mp4"
                frames, truth = zip(*clip(name, photo, rng), strict=True)
                write_video(path, frames)
                for key, value in judge(name, points_of(track(path, options)), np.array(truth)).items():
                    results.setdefault(key, []).append(value)
                path.unlink()
        if not args.config:
            results["demo"] = [demo_depth(options, Path(folder))]
    results["blink"] = [blink_depth(SmoothingConfig())]
    met = True
    for key, values in results.items():
        worst = min(values) if key in ("blink", "demo") else max(values)
        good = bool(worst >= LIMITS[key] if key in ("blink", "demo") else worst <= LIMITS[key])
        met &= good
        each = " ".join(f"{value:.3f}" for value in values)
        print(f"{key:10} {each}  limit {LIMITS[key]}  {'met' if good else 'NOT MET'}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if met else 1
