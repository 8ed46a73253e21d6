"""Whether brows follow, each by itself: in videos, against MediaPipe's.

    python -m tools.evaluate brows --video PATH ... --meshes DIR [--config PATH ...] [--json PATH]

DIR holds NAME.npy for each video NAME.mp4: MediaPipe's points of it, (frames, 478, 2 or 3) px, NaN where it sees no
face. A brow's height is the distance of its middle from the line through the corners of the eyes, in parts of the outer
eye distance. Figures: how it goes with MediaPipe's over the frames (correlation) and by how much (slope), the same
of the left brow's height less the right one's, and how the blendshapes go with it. Tracked by default settings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facet.tracker.loop import FaceTracker
from facet.tracker.sources import open_source
from tools.evaluation.common import (
    correlation,
    largest,
    mesh_files,
    mesh_of_video,
    open_trackers,
    options,
    report,
    slope,
)

# outer corner, inner corner, inner corner, outer corner, from the subject's right; then the right brow and the left one
CORNERS_68, BROWS_68 = [36, 39, 42, 45], ([18, 19, 20, 21], [22, 23, 24, 25])
CORNERS_478, BROWS_478 = [33, 133, 362, 263], ([63, 105, 107, 55], [285, 336, 334, 293])
SIDES = ("Right", "Left")


def heights(corners: np.ndarray, brow: np.ndarray) -> np.ndarray:
    """(n,) height of (n, k, 2) points over the line through (n, 4, 2) corners / distance of the outer ones."""
    along = corners[:, 3] - corners[:, 0]
    width = np.linalg.norm(along, axis=1)
    up = np.stack([along[:, 1], -along[:, 0]], axis=1) / width[:, None]
    return ((brow.mean(axis=1) - corners.mean(axis=1)) * up).sum(axis=1) / width


def raised(blendshapes: dict[str, float], side: str) -> float:
    """How far the brow of a side is said to be raised, below 0 where it is lowered."""
    return blendshapes["browInnerUp"] + blendshapes[f"browOuterUp{side}"] - blendshapes[f"browDown{side}"]


def against_mesh(path: Path, mesh: Path, tracker: FaceTracker) -> dict[str, float]:
    """Figures of one video."""
    points, weights = [], []
    with open_source(str(path)) as source:
        for frame in source:
            face = largest(tracker.step(frame))
            points.append(face.landmarks[:, :2] if face else np.full((68, 2), np.nan))
            weights.append([raised(face.blendshapes, side) if face else np.nan for side in SIDES])
    truth = mesh_of_video(mesh, len(points))[..., :2]
    points, weights = np.array(points), np.array(weights)
    known = ~np.isnan(points[:, 0, 0]) & ~np.isnan(truth[:, 0, 0])
    points, truth, weights = points[known], truth[known], weights[known]
    reported = np.stack([heights(points[:, CORNERS_68], points[:, brow]) for brow in BROWS_68], axis=1)
    want = np.stack([heights(truth[:, CORNERS_478], truth[:, brow]) for brow in BROWS_478], axis=1)
    figures: dict[str, float] = {"frames": int(known.sum())}
    for k, side in enumerate(("right", "left")):
        figures[f"correlation_{side}"] = correlation(reported[:, k], want[:, k])
        figures[f"slope_{side}"] = slope(want[:, k], reported[:, k])
        figures[f"blendshapes_{side}"] = correlation(weights[:, k], want[:, k])
    apart, want_apart = (part[:, 1] - part[:, 0] for part in (reported, want))
    return figures | {"correlation_apart": correlation(apart, want_apart), "slope_apart": slope(want_apart, apart)}


def main(arguments: list[str]) -> int:
    parser = options("brows", __doc__)
    parser.add_argument("--video", type=Path, action="append", required=True)
    parser.add_argument("--meshes", type=Path, metavar="DIR", required=True, help="MediaPipe's points of the videos")
    args = parser.parse_args(arguments)
    meshes = mesh_files(parser, args.video, args.meshes)
    trackers = open_trackers(args.config, args.set)
    results = {
        path.stem: {name: against_mesh(path, mesh, t) for name, t in trackers.items()}
        for path, mesh in zip(args.video, meshes, strict=True)
    }
    return report(results, args)
