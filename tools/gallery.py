"""Contact sheets: frames of every video with the mesh drawn on them, to be looked at.

python -m tools.gallery [VIDEOS... | the material's] [-o out/gallery] [--config configs/x.toml] [--view mesh,axes]

Each video goes through app.py, as a user would do it; the sheet shows frames spread over the written video, each beside
the same of the source, because a mesh hides what it should be compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CELL_PX = 300


def contact_sheet(source: Path, tracked: Path, log: Path, count: int = 12, columns: int = 3) -> np.ndarray:
    """Frames spread evenly over a video, as they were and as drawn, cut to what surrounds the faces, as one picture."""
    faces = [json.loads(line)["faces"] for line in log.read_text(encoding="utf-8").splitlines()]
    wanted = set(np.linspace(0, max(0, len(faces) - 1), count).round().astype(int).tolist())
    cells, before, after = [], cv2.VideoCapture(str(source)), cv2.VideoCapture(str(tracked))
    for index in range(len(faces)):
        (there, plain), (drawn_too, drawn) = before.read(), after.read()
        if not (there and drawn_too):
            break
        if index in wanted:
            cells.append(np.hstack([cell_of(image, faces[index], index) for image in (plain, drawn)]))
    if not cells:
        raise SystemExit(f"{tracked}: holds no frame")
    blank = np.full_like(cells[0], 30)
    cells += [blank] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])


def cell_of(frame: np.ndarray, faces: list[dict], index: int) -> np.ndarray:
    """The part of a frame that holds its faces, with room around them, in a square cell."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = 0, 0, width, height
    if faces:
        boxes = np.array([face["box"] for face in faces])
        low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        centre, reach = (low + high) / 2, 1.0 * (high - low).max()
        x0, y0 = np.maximum(centre - reach, 0).astype(int)
        x1, y1 = np.minimum(centre + reach, (width, height)).astype(int)
    part = frame[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    zoom = CELL_PX / max(part.shape[:2])
    small = cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    cell = np.full((CELL_PX, CELL_PX, 3), 30, np.uint8)
    cell[: small.shape[0], : small.shape[1]] = small[:CELL_PX, :CELL_PX]
    cv2.putText(cell, str(index), (6, CELL_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return cell


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "out" / "gallery")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--view", default="mesh,axes")
    args = parser.parse_args()
    material = Path(os.environ.get("FACET_MATERIAL", ROOT.parent / "shared")) / "media" / "videos"
    videos = args.videos or sorted(material.glob("*.mp4"))
    if not videos:
        print(f"no videos: name some, or put material into {material} (FACET_MATERIAL)", file=sys.stderr)
        return 1
    args.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for video in videos:
        tracked = args.output / f"{video.stem}.mp4"
        command = [sys.executable, str(ROOT / "app.py"), "-f", str(video), "-o", str(tracked), "--view", args.view]
        command += ["--log", str(tracked.with_suffix(".jsonl"))]
        command += ["--config", str(args.config)] if args.config else []
        failed += subprocess.run(command, check=False).returncode != 0
        if tracked.exists():
            sheet = contact_sheet(video, tracked, tracked.with_suffix(".jsonl"))
            cv2.imwrite(str(args.output / f"{video.stem}.jpg"), sheet)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
