"""Whether the views that cover heads leave a face uncovered: python -m tools.evaluate privacy [-o docs/privacy.md]

The clips are those of `tools.evaluate scenarios`: faces cut out of held-out photographs, moved over a room by a script,
with cuts, crossings, exits and occlusions. A face is what the annotated landmarks span, and the forehead above them.
Counted are its pixels that the frame shows (nothing in front of them, inside the image, not dark) and that no cover
reaches.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from facet.assembly import build_tracker
from facet.detect import open_detector
from facet.render.geometry import geometry_of
from facet.render.privacy import Privacy, covered
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.stages import Stages
from facet.tracker.types import Frame
from tools.evaluation.scenarios import CASTS, FPS, SCENARIOS, SIZE_WH, Stage, lay, open_stages

FOREHEAD = 0.45  # of the height from brows to chin lies above the brows
VISIBLE = 12.0  # grey levels by which a pixel may differ from the face's own and still show it
DARK = 0.1  # of the light: with less nobody is seen
SMALL = 0.01  # of a face: a smaller part that shows is counted as covered
WHITE = 255


def face_mask(points: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, inside the face of 68 landmarks, (68, 2) px."""
    brows = points[17:27]
    up = (brows.mean(axis=0) - points[8]) * FOREHEAD
    outline = cv2.convexHull(np.concatenate([points, brows + up]).astype(np.float32))
    mask = np.zeros(size_wh[::-1], np.uint8)
    cv2.fillConvexPoly(mask, np.rint(outline - 0.5).astype(np.int32), 1)
    return mask.astype(bool)


def visible_faces(stage: Stage, picture: np.ndarray, people: dict, light: float) -> list[tuple[np.ndarray, int]]:
    """Of each person the pixels of the face that show, (H, W) bool, and how many the whole face has."""
    found = []
    for index, (middle, _) in people.items():
        person = stage.people[index]
        mask = face_mask(person.points + (middle - person.middle), SIZE_WH)
        alone = np.zeros_like(picture)
        lay(alone, person, middle)
        found.append((mask & (np.abs(picture - light * alone).max(axis=2) < VISIBLE), int(mask.sum())))
    return found


def play(
    tracker, detect, config: AppConfig, stage: Stage, name: str, view: str, video: Path | None
) -> dict[str, float]:
    """The counts of one scenario with one cast."""
    shown, frames = [], []
    rng = np.random.default_rng(3)
    for t, (picture, people) in enumerate(getattr(stage, name)()):
        light = 1.0
        if name in ("fade_to_black_and_back", "darkness"):
            light = float(picture[:40, :40].mean() / stage.room[:40, :40].mean())
        faces = []
        if name != "profile" and light > DARK:
            faces = visible_faces(stage, picture, people, light)
        shown.append(faces)
        noise = 2.0 * rng.standard_normal(picture.shape, np.float32)
        frames.append(Frame(t, t / FPS, np.clip(picture + noise, 0, 255).astype(np.uint8), first=t == 0))
    privacy = Privacy(geometry_of(tracker.mesh_model), detect, (view,), config.privacy)
    writer = None
    if video:
        video.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), FPS, SIZE_WH)
    uncovered, worst, area, done = 0, 0.0, 0.0, 0
    for frame, _ in privacy((frame, tracker.step(frame)) for frame in frames):
        paint = np.zeros((*SIZE_WH[::-1], 3), np.uint8)
        for outline in privacy.last_outlines:
            cv2.fillConvexPoly(paint, np.rint(outline - 0.5).astype(np.int32), (WHITE, WHITE, WHITE))
        bare = paint[..., 0] != WHITE
        share = max((float((mask & bare).sum() / max(whole, 1)) for mask, whole in shown[frame.index]), default=0.0)
        uncovered += share > SMALL
        worst, area, done = max(worst, share), area + 1 - float(bare.mean()), done + 1
        if writer:
            image = covered(frames[frame.index].image, privacy.last_outlines, (view,))
            for mask, _ in shown[frame.index]:
                edges = cv2.findContours((mask & bare).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
                cv2.drawContours(image, edges, -1, (0, 0, 255), 1)
            cv2.putText(image, str(frame.index), (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
            writer.write(image)
    if writer:
        writer.release()
    assert done == len(frames)
    return {"frames": done, "uncovered": uncovered, "worst": worst, "area": area / done}


def table(results: dict[str, dict[str, float]]) -> str:
    """As Markdown."""
    lines = [
        "| scenario | what happens | frames | frames with an uncovered face | largest uncovered part |",
        "|---|---|---|---|---|",
    ]
    for name, result in results.items():
        says = getattr(Stage, name).__doc__.strip()
        counts = f"{result['frames']} | {result['uncovered']} | {result['worst']:.1%}"
        lines.append(f"| {name.replace('_', ' ')} | {says} | {counts} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate privacy", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--casts", type=int, default=CASTS)
    parser.add_argument("--only", action="append", choices=SCENARIOS)
    parser.add_argument("--view", choices=("blur", "pixelate", "cover"), default="pixelate")
    parser.add_argument("-o", "--output", type=Path, help="write the table here")
    parser.add_argument("--video", type=Path, metavar="DIR", help="write what was covered, to look at")
    args = parser.parse_args(arguments)
    config = load_config(AppConfig, args.config, args.set)
    tracker = build_tracker(config, Stages(), False)
    detect = open_detector(config.detector, config.runtime)
    stages, results = open_stages(args.casts), {}
    for name in args.only or [name for name in SCENARIOS if name != "profile"]:
        counts = [
            play(tracker, detect, config, stage, name, args.view, args.video and args.video / f"{i}_{name}.mp4")
            for i, stage in enumerate(stages)
        ]
        results[name] = {
            "frames": sum(c["frames"] for c in counts),
            "uncovered": sum(c["uncovered"] for c in counts),
            "worst": max(c["worst"] for c in counts),
        }
        area = np.mean([c["area"] for c in counts])
        print(
            f"{name:28} frames {results[name]['frames']}  uncovered {results[name]['uncovered']}  "
            f"worst {results[name]['worst']:.4f}  area {area:.3f}",
            flush=True,
        )
    if args.output:
        args.output.write_text(table(results), encoding="utf-8")
    return 0 if not any(result["uncovered"] for result in results.values()) else 1
