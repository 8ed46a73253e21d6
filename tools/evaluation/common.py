"""What the parts of the evaluation share: the trackers that they judge, and how figures are reported and kept."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from facet.assembly import build_tracker
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.loop import FaceTracker
from facet.tracker.stages import Stages
from facet.tracker.types import FaceTrack, Frame
from facet.tracker.weights import ROOT

OURS, UPSTREAM = "facet", "3ddfa_v2"
UPSTREAM_CONFIG = ROOT / "configs" / "3ddfa_v2.toml"
RAW = ("smoothing.enabled=false",)
FOLLOWED_FRAMES = 10


def options(part: str, doc: str) -> argparse.ArgumentParser:
    """The options that all parts have."""
    parser = argparse.ArgumentParser(prog=f"python -m tools.evaluate {part}", description=doc.splitlines()[0])
    parser.add_argument("--config", action="append", help="settings to judge; default: ours and 3DDFA_V2's")
    parser.add_argument("--set", action="append", default=[], help="override for all of them")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw them here")
    return parser


def open_trackers(configs: Sequence[str] | None, overrides: Sequence[str]) -> dict[str, FaceTracker]:
    """Trackers as `app.py` builds them, by name: of these settings, or ours and, where it is imported, 3DDFA_V2's."""
    files = {Path(config).stem: config for config in configs or ()}
    if not files:
        files = {OURS: None, UPSTREAM: str(UPSTREAM_CONFIG)}
        if not (ROOT / "weights" / "upstream" / "mb05_120x120.onnx").exists():
            print("3DDFA_V2 is not there to compare with: python -m tools.import_3ddfa", file=sys.stderr)
            del files[UPSTREAM]
    return {
        name: build_tracker(load_config(AppConfig, config, list(overrides)), Stages(), live=False)
        for name, config in files.items()
    }


def still(tracker: FaceTracker, image: np.ndarray, frames: int = 1) -> list[FaceTrack]:
    """The faces of a picture that is taken alone, or in the last of some frames that all show it, the surest first."""
    for index in range(frames):
        faces = tracker.step(Frame(index, index / 30, image, first=index == 0))
    return sorted(faces, key=lambda face: -(face.score or 0.0))


def followed(tracker: FaceTracker, image: np.ndarray) -> list[FaceTrack]:
    """The faces of a picture as a track has them that has settled on it, the surest first."""
    return still(tracker, image, FOLLOWED_FRAMES)


def nearest(faces: Sequence[FaceTrack], points: np.ndarray, reach: float = 0.5) -> FaceTrack | None:
    """The first face whose centre is not further from that of (n, 2) points than a share of their longer side."""
    centre, far = np.nanmean(points, axis=0), reach * np.nanmax(np.nanmax(points, axis=0) - np.nanmin(points, axis=0))
    near = (f for f in faces if np.linalg.norm(f.landmarks[:, :2].mean(axis=0) - centre) < far)
    return next(near, None)


def largest(faces: Sequence[FaceTrack]) -> FaceTrack | None:
    """The face that is nearest to the camera."""
    return max(faces, key=lambda face: face.pose.scale_px_per_mm, default=None)


def mesh_files(parser: argparse.ArgumentParser, videos: Sequence[Path], folder: Path) -> list[Path]:
    """The files of MediaPipe's points in the folder, one a video; the parser's error where one is missing."""
    files = [folder / f"{video.stem}.npy" for video in videos]
    for file in files:
        if not file.exists():
            parser.error(f"--meshes: expected {file}")
    return files


def mesh_of_video(path: Path, frames: int) -> np.ndarray:
    """MediaPipe's points of a video, (frames, 478, 2 or 3) px, NaN where it saw no face, as numpy wrote them.

    Raises
    ------
    ValueError
        If they are not those of as many frames.
    """
    points = np.load(path)
    if points.shape[:2] != (frames, 478):
        raise ValueError(f"{path}: expected ({frames}, 478, ...) points, found {points.shape}")
    return points


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; 0 where one of the two never changes."""
    return float(np.corrcoef(a, b)[0, 1]) if np.std(a) > 0 and np.std(b) > 0 else 0.0


def slope(truth: np.ndarray, reported: np.ndarray) -> float:
    """By how much `reported` changes with `truth`; 0 where that never changes."""
    return float(np.polyfit(truth, reported, 1)[0]) if np.std(truth) > 0 else 0.0


def report(results: dict, args: argparse.Namespace, draw: Callable[[Path], None] | None = None) -> int:
    """Print the figures, keep them as JSON and draw them where that was asked for; the exit status."""
    results = without_nan(results)
    show(results)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if args.plots and draw:
        args.plots.mkdir(parents=True, exist_ok=True)
        draw(args.plots)
    return 0


def show(results: dict, path: tuple[str, ...] = ()) -> None:
    """A line for each innermost table."""
    plain = {key: value for key, value in results.items() if not isinstance(value, dict)}
    if plain:
        words = [f"{key} {value:.3f}" if isinstance(value, float) else f"{key} {value}" for key, value in plain.items()]
        print(" ".join((*path, " ")) + "  ".join(words))
    for key, value in results.items():
        if isinstance(value, dict):
            show(value, (*path, key))


def without_nan(value):
    """Plain numbers, strings, lists and tables of such; what is unknown becomes null, as JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [without_nan(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
