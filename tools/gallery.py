"""Contact sheets: frames of every video with the mesh drawn on them, to be looked at.

python -m tools.gallery [VIDEOS... | the material's] [-o out/gallery] [--config configs/x.toml] [--view mesh,axes]

Each video goes through app.py, as a user would do it; the sheet shows frames spread over the written video.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CELL_PX = 360


def contact_sheet(video: Path, count: int = 12, columns: int = 4) -> np.ndarray:
    """Frames spread evenly over a video, as one picture."""
    frames = []
    capture = cv2.VideoCapture(str(video))
    while (read := capture.read())[0]:
        frames.append(read[1])
    if not frames:
        raise SystemExit(f"{video}: holds no frame")
    cells = []
    for index in np.linspace(0, len(frames) - 1, count).round().astype(int):
        frame = frames[index]
        zoom = CELL_PX / max(frame.shape[:2])
        small = cv2.resize(frame, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        cell = np.full((CELL_PX, CELL_PX, 3), 30, np.uint8)
        cell[: small.shape[0], : small.shape[1]] = small
        cv2.putText(cell, str(index), (6, CELL_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        cells.append(cell)
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, count, columns)]
    return np.vstack(rows)


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
            cv2.imwrite(str(args.output / f"{video.stem}.jpg"), contact_sheet(tracked))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
