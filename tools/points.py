"""Place points by a network of your own: drawn images, and a table of the points.

usage: python -m tools.points IMAGES -o DIR --network runs/weights/few_regressor.onnx [--boxes boxes.csv]

IMAGES is what app.py -f takes. Crops are placed by facet's own tracker; for faces that it does not find (drawings,
masks), --boxes names a table with the columns file, x0, y0, x1, y1: a rectangle about the points of each face. DIR gets
the drawn images and points.csv, in the form that tools.data.own reads.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import cv2
import numpy as np

from facet.detect import open_detector
from facet.tracker import FaceTracker
from facet.tracker.crop import crop_to_image, cut
from facet.tracker.errors import ConfigError, FaceTrackError, SourceError
from facet.tracker.files import check_targets, new_file
from facet.tracker.runtime import open_session
from facet.tracker.sources import open_source
from facet.tracker.types import Frame, Roi
from facet.tracker.weights import WeightsEntry, find_entry

ROUNDS = 3  # crops of a face, each placed by the points of the one before
DOT_BGR = (60, 255, 60)


class Points:
    """Places points; made by `Points.open`."""

    def __init__(self, entry: WeightsEntry):
        self._session = open_session(entry.path)
        self.size, self.scale = entry.get("size_px", int), entry.get("landmark_scale", float)
        self.count = entry.get("points", int)
        self.box = np.array(entry.get("box", list), np.float64)

    @classmethod
    def open(cls, path: Path) -> Points:
        """The network of an exported file.

        Raises
        ------
        WeightsError
            If it is missing, damaged or of another kind.
        """
        return cls(find_entry(path, "points"))

    def __call__(self, image: np.ndarray, middle: np.ndarray, longer: float) -> np.ndarray:
        """Points (n, 2), image px, of an upright face whose points' rectangle lies about there, px."""
        for _ in range(ROUNDS):
            size = self.scale * longer
            roi = Roi(float(middle[0] - size / 2), float(middle[1] - size / 2), float(size))
            crop = cut(image, roi, self.size)
            places = self._session.run(crops=crop[None])[0][0, :, :2].astype(np.float64) * self.size
            matrix = crop_to_image(roi, self.size)
            points = places @ matrix[:, :2].T + matrix[:, 2]
            low, high = points.min(axis=0), points.max(axis=0)
            middle, longer = (low + high) / 2, max(float((high - low).max()), longer / 2)
        return points

    def by_landmarks(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """The same, placed by the tracker's landmarks (68, 2 or more)."""
        low, high = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
        longer = float((high - low).max())
        return self(image, (low + high) / 2 + self.box[:2] * longer, self.box[2] * longer)


def read_boxes(path: Path) -> dict[str, list[np.ndarray]]:
    """Rectangles (4,) by the name of the file."""
    boxes: dict[str, list[np.ndarray]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                try:
                    box = np.array([float(row[name]) for name in ("x0", "y0", "x1", "y1")])
                    boxes.setdefault(Path(row["file"]).name, []).append(box)
                except (KeyError, TypeError, ValueError):
                    raise ConfigError(f"{path}, line {number}: expected file, x0, y0, x1, y1 as numbers") from None
                if not (np.isfinite(box).all() and box[0] < box[2] and box[1] < box[3]):
                    raise ConfigError(f"{path}, line {number}: expected x0 < x1 and y0 < y1, found {box.tolist()}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: cannot be read as a table ({error}); save it as CSV, UTF-8") from error
    return boxes


def faces_of(frame: Frame, network: Points, boxes: dict | None, tracker: FaceTracker | None) -> list[np.ndarray]:
    """The points (n, 2) of every face of a frame."""
    if boxes is not None:
        rectangles = boxes.get(Path(frame.source).name, [])
        return [network(frame.image, (b[:2] + b[2:]) / 2, float((b[2:] - b[:2]).max())) for b in rectangles]
    return [network.by_landmarks(frame.image, face.landmarks.astype(np.float64)) for face in tracker.step(frame)]


def draw(image: np.ndarray, faces: list[np.ndarray]) -> np.ndarray:
    """The image with the points of its faces."""
    result = image.copy()
    for points in faces:
        radius = max(1, round(0.008 * float(np.ptp(points, axis=0).max())))
        for x, y in points:
            cv2.circle(result, (round(float(x - 0.5)), round(float(y - 0.5))), radius, DOT_BGR, -1, cv2.LINE_AA)
    return result


def place(source_name: str, network: Points, out: Path, boxes: dict | None) -> tuple[int, int]:
    """Write the drawn images of a source and points.csv; returns the numbers of faces and images."""
    tracker = None if boxes is not None else FaceTracker.open(open_detector())
    rows, frames = [], 0
    with open_source(source_name) as source:
        names = [Path(file).name for file in source.files]
        targets = [out / f"{Path(name).stem}.png" for name in names]
        if len(set(targets)) < len(targets):
            raise ConfigError(
                f"{source_name}: expected images of different names, found two that differ in their ending"
            )
        check_targets({}, [out / "points.csv", *targets], inputs=list(source.files))
        out.mkdir(parents=True, exist_ok=True)
        for frame in source:
            name = Path(frame.source).name
            if frame.source not in source.files:  # a frame of a video
                name = f"{Path(frame.source).stem or 'frame'}_{frame.index:06d}.png"
            faces = faces_of(frame, network, boxes, tracker)
            with new_file(out / f"{Path(name).stem}.png", replace=False) as partial:
                cv2.imwrite(str(partial), draw(frame.image, faces))
            rows += [[name, *np.round(points, 2).ravel().tolist()] for points in faces]
            frames += 1
    with (
        new_file(out / "points.csv", replace=False) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["file", *(f"{axis}{k}" for k in range(network.count) for axis in "xy")])
        writer.writerows(rows)
    return len(rows), frames


def main(arguments: list[str] | None = None) -> int:
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tools.points", description=__doc__, formatter_class=text)
    parser.add_argument("source", metavar="IMAGES", help="image, folder, glob or video")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the drawn images, points.csv")
    parser.add_argument("--network", type=Path, required=True, metavar="ONNX", help="of python -m tools.train --export")
    parser.add_argument("--boxes", type=Path, metavar="CSV", help="a rectangle about the points of each face")
    args = parser.parse_args(arguments)
    try:
        network = Points.open(args.network)
        boxes = read_boxes(args.boxes) if args.boxes else None
        if boxes is None and not np.isfinite(network.box).all():
            raise ConfigError(
                f"{args.network}: the tracker found too few faces of its training images; name rectangles with --boxes"
            )
        faces, images = place(args.source, network, args.output, boxes)
    except FaceTrackError as error:
        print(f"tools.points: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    print(f"{faces} faces in {images} images, in {args.output}")
    if not faces:
        print("tools.points: expected faces, found none; name rectangles with --boxes", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
