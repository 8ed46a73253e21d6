"""How much the landmarks of a motionless face tremble in a noisy picture, beside 3DDFA_V2 on the same frames.

    python -m tools.evaluate jitter [--config PATH ...] [--photos N] [--json PATH] [--plots DIR]

A held-out photograph is enlarged to a face of about 400 px in a 1280x720 picture, noise of 4 grey values is added to
each frame, and the trackers follow with their default smoothing and without. Jitter: RMS motion of the landmarks from
frame to frame / sqrt(wh) of the face. Tremble: RMS change of the blendshapes from frame to frame, and of the one that
trembles most. What smoothing costs when the face moves: `lag`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.loop import FaceTracker
from facet.tracker.types import FaceTrack, Frame
from tools.evaluation.common import RAW, largest, open_trackers, options, report
from tools.evaluation.photographs import held_out_photographs

SIZE_WH = (1280, 720)
FACE_PX = 400.0
NOISE = 4.0
FRAMES, SETTLING = 40, 10


def jitter(tracks: np.ndarray) -> float:
    """Of (T, 68, 2) px; a fraction."""
    size = np.sqrt(np.prod(np.ptp(tracks[0], axis=0)))
    return float(np.sqrt((np.diff(tracks, axis=0) ** 2).sum(axis=-1).mean()) / size)


def enlarge(image: np.ndarray, points: np.ndarray, aside_px: float = 0.0) -> np.ndarray:
    """The picture with the face of (68, 2) px in its middle or so far right of it, FACE_PX high or wide."""
    zoom = FACE_PX / np.ptp(points, axis=0).max()
    shift = np.array(SIZE_WH) / 2 - zoom * (points.min(axis=0) + points.max(axis=0)) / 2 + (aside_px, 0)
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return cv2.warpAffine(image, matrix, SIZE_WH, flags=cv2.INTER_CUBIC, borderValue=(96, 110, 104))


def noisy(picture: np.ndarray, rng: np.random.Generator, sigma: float = NOISE) -> np.ndarray:
    """With noise of `sigma` grey values."""
    return np.clip(picture + sigma * rng.standard_normal(picture.shape, np.float32), 0, 255).astype(np.uint8)


def with_and_without_smoothing(configs, overrides) -> dict[str, FaceTracker]:
    """The trackers that are judged, each by its name, and as NAME_raw without smoothing."""
    raw = open_trackers(configs, (*overrides, *RAW))
    return open_trackers(configs, overrides) | {f"{name}_raw": tracker for name, tracker in raw.items()}


def watch(
    trackers: dict[str, FaceTracker], frames: Iterable[np.ndarray], fps: float = 30.0
) -> dict[str, list[FaceTrack | None]]:
    """The largest face of each frame; all trackers see the same frames."""
    faces: dict[str, list[FaceTrack | None]] = {name: [] for name in trackers}
    for t, image in enumerate(frames):
        for name, tracker in trackers.items():
            faces[name].append(largest(tracker.step(Frame(t, t / fps, image, first=t == 0))))
    return faces


def track_of(faces: list[FaceTrack | None]) -> np.ndarray:
    """Their landmarks, (T, 68, 2) px, NaN where there is no face."""
    nothing = np.full((68, 2), np.nan)
    return np.array([nothing if face is None else face.landmarks[:, :2] for face in faces], np.float64)


def tremble(faces: list[FaceTrack]) -> np.ndarray:
    """RMS change of each blendshape from frame to frame, (Ke,)."""
    weights = np.array([list(face.blendshapes.values()) for face in faces])
    return np.sqrt((np.diff(weights, axis=0) ** 2).mean(axis=0))


def chosen(count: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """So many of the held-out photographs, spread over the people."""
    photographs = held_out_photographs()
    return photographs[:: max(1, len(photographs) // count)][:count]


def main(arguments: list[str]) -> int:
    parser = options("jitter", __doc__)
    parser.add_argument("--photos", type=int, default=12)
    args = parser.parse_args(arguments)
    trackers = with_and_without_smoothing(args.config, args.set)
    rng = np.random.default_rng(7)
    values: dict[str, list[float]] = {name: [] for name in trackers}
    trembles: dict[str, list[np.ndarray]] = {name: [] for name in trackers}
    for _, image, points in chosen(args.photos):
        picture = enlarge(image, points)
        for name, faces in watch(trackers, (noisy(picture, rng) for _ in range(FRAMES))).items():
            values[name].append(100 * jitter(track_of(faces)[SETTLING:]))
            if np.isfinite(values[name][-1]):
                trembles[name].append(tremble(faces[SETTLING:]))
    results = {}
    for name, jitters in values.items():
        known = [value for value in jitters if np.isfinite(value)]
        results[name] = {"photographs": len(jitters), "lost": len(jitters) - len(known)}
        if known:
            results[name] |= {"jitter": float(np.mean(known)), "worst": float(np.max(known))}
            results[name] |= {"tremble": float(np.mean(trembles[name])), "worst_tremble": float(np.max(trembles[name]))}

    def draw(folder: Path) -> None:
        from tools.evaluation import plots

        plots.by_photograph(values, "jitter of a motionless face, % of sqrt(wh)", folder / "jitter.png")

    return report(results, args, draw)
