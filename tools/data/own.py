"""Prepare annotated images of your own, with any points, for `python -m tools.train few_regressor` or `few`.

usage: python -m tools.data.own IMAGES points.csv --out runs/mine

The CSV has a row a face: file (relative to IMAGES), x0, y0, x1, y1, ... in image px, from the outer corner of the first
pixel; an empty cell where a point is not known. With a column person, no person is in both halves of the data; a tenth
of the people (of the images, without that column) is held out for validation. Written are faces.u8, faces.npz and
backgrounds.u8 in the folder of --out.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facet.detect import open_detector
from facet.tracker import FaceTracker
from facet.tracker.crop import cut
from facet.tracker.errors import ConfigError, FaceTrackError, SourceError
from facet.tracker.sources import open_source
from facet.tracker.types import Roi
from tools.autoencoder.data import box_of
from tools.data.crops import SCALE, SIZE_PX, to_crop

HELD_OUT_SHARE = 0.1
FOUND_SHARE = 0.5  # of the faces that the tracker must find, or it is not known where points lie by its boxes
FEWEST_POINTS, FEWEST_KNOWN = 3, 3


@dataclass(frozen=True, slots=True, eq=False)
class Annotated:
    """A row of the table."""

    file: str
    person: str
    points: np.ndarray  # (k, 2) image px, NaN where unknown


def read_table(path: Path) -> list[Annotated]:
    """The rows of a CSV of points.

    Raises
    ------
    SourceError
        If it cannot be read.
    ConfigError
        If it has other columns, or a row that is not of the expected form; the message names it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: cannot be read as a table ({error}); save it as CSV, UTF-8") from error
    if not rows:
        raise ConfigError(f"{path}: expected a header and a row a face, found none")
    count = sum(f"x{k}" in rows[0] for k in range(len(rows[0])))
    columns = [f"{axis}{k}" for k in range(count) for axis in "xy"]
    missing = [name for name in ("file", *columns) if name not in rows[0]]
    if missing or count < FEWEST_POINTS:
        found = f"none of the name {missing[0]}" if missing else f"{count} points"
        raise ConfigError(f"{path}: expected columns file, x0, y0, x1, y1, ..., for 3 points or more, found {found}")
    result = []
    for number, row in enumerate(rows, 2):
        try:
            values = [float(row[name]) if (row[name] or "").strip() else np.nan for name in columns]
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: expected numbers, found another value: {error}") from error
        points = np.array(values, np.float64).reshape(count, 2)
        known = np.isfinite(points).all(axis=1)
        points[~known] = np.nan
        if known.sum() < FEWEST_KNOWN or not row["file"]:
            raise ConfigError(f"{path}, line {number}: expected a file and {FEWEST_KNOWN} known points or more")
        if np.ptp(points[known], axis=0).max() < 4:
            raise ConfigError(f"{path}, line {number}: expected points in px, found all within 4 px of one another")
        result.append(Annotated(row["file"], (row.get("person") or "").strip(), points))
    return result


def rect_roi(points: np.ndarray) -> Roi:
    """The square that is cut out about (k, 2) points."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    size = SCALE * float((high - low).max())
    x, y = (low + high) / 2 - size / 2
    return Roi(float(x), float(y), size)


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, as the program reads it: upright."""
    with open_source(str(path)) as source:
        return next(iter(source)).image


def hold_out(names: list[str], seed: int = 1) -> np.ndarray:
    """(n,) bool: a tenth of the people, one at least where there are five or more; "" is a person of its own."""
    people = [name or f"#{k}" for k, name in enumerate(names)]
    order = np.random.default_rng(seed).permutation(sorted(set(people)))
    chosen = order[: max(round(HELD_OUT_SHARE * len(order)), int(len(order) >= 5))]
    return np.isin(people, chosen)


def build(images: Path, rows: list[Annotated], out: Path) -> str:
    """Write the data of annotated images; returns a line about it."""
    cuts, backgrounds, points, boxes = [], [], [], []
    tracker = FaceTracker.open(open_detector())
    for row in rows:
        image = read_image(images / row.file)
        roi = rect_roi(row.points)
        cuts.append(cut(image, roi, SIZE_PX))
        points.append(to_crop(row.points, roi, SIZE_PX))
        # what covers a face at times: colours and coarse shapes of the same images
        coarse = cv2.resize(cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA), (256, 256))
        backgrounds.append(coarse)
        middle = np.nanmean(row.points, axis=0)
        near = [
            f for f in tracker.track(image) if (np.abs(f.landmarks[:, :2].mean(axis=0) - middle) < roi.size / 4).all()
        ]
        if near:
            boxes.append(box_of(row.points[np.isfinite(row.points[:, 0])], near[0].landmarks))
    held_out = hold_out([row.person for row in rows])
    box = np.median(boxes, axis=0) if len(boxes) >= max(1, FOUND_SHARE * len(rows)) else np.full(3, np.nan)
    out.mkdir(parents=True, exist_ok=True)
    np.stack(cuts).tofile(out / "faces.u8")
    np.stack(backgrounds).tofile(out / "backgrounds.u8")
    identity = np.array([row.person for row in rows])
    np.savez(out / "faces.npz", annotated=np.array(points, np.float32), held_out=held_out, identity=identity, box=box)
    found = f"the tracker finds {len(boxes)} of them"
    if np.isnan(box).any():
        found += ", too few to place crops: tools.points will need --boxes"
    return f"{len(rows)} faces of {points[0].shape[0]} points, {held_out.sum()} of them held out, in {out}; {found}"


def main(arguments: list[str] | None = None) -> int:
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tools.data.own", description=__doc__, formatter_class=text)
    parser.add_argument("images", type=Path, metavar="IMAGES", help="the folder of the images")
    parser.add_argument("points", type=Path, metavar="POINTS", help="the table of points, .csv")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the data goes")
    args = parser.parse_args(arguments)
    try:
        if (args.out / "faces.u8").exists():
            raise ConfigError(f"--out {args.out}: holds data already; name another folder")
        print(build(args.images, read_table(args.points), args.out))
    except FaceTrackError as error:
        print(f"tools.data.own: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
