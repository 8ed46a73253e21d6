"""Compute the average face thumbnail (weights/appearance.npz) and report how well thumbnails distinguish people.

python -m tools.thumbnail [-o weights/appearance.npz]

Half of the people of the keypoints photographs make the average; the figures come from the other half.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from facet.tracker import appearance
from facet.tracker.files import new_file
from tools.manifest import describe, update_manifest

FACES = Path(os.environ.get("FACET_MATERIAL", "../shared")) / "faces"
LANDMARK_SCALE = 1.42
CROP_PX = 112
PROVENANCE = "average of {people} people's photographs, 8 x 8 px; tools/thumbnail.py"


def load_thumbnails(photos_each: int = 8) -> dict[str, list[np.ndarray]]:
    """Raw thumbnails of every identity, from crops placed by the 3DDFA landmarks."""
    rows = list(csv.DictReader(open(FACES / "manifest.csv", encoding="utf-8")))
    labels = np.load(FACES / "landmarks68_3ddfa.npz")
    first_face = {int(photo): index for index, photo in reversed(list(enumerate(labels["photo"])))}
    people = defaultdict(list)
    for photo, index in sorted(first_face.items()):
        name = rows[photo]["identity"]
        if name and len(people[name]) < photos_each:
            image = cv2.imread(str(FACES / rows[photo]["file"]))
            points = labels["points"][index, :, :2] / 40.0
            low, high = points.min(axis=0), points.max(axis=0)
            zoom = CROP_PX / (LANDMARK_SCALE * (high - low).max())
            x, y = CROP_PX / 2 - zoom * (low + high) / 2
            crop = cv2.warpAffine(
                image, np.float32([[zoom, 0, x], [0, zoom, y]]), (CROP_PX, CROP_PX), flags=cv2.INTER_AREA
            )
            people[name].append(appearance.raw_thumbnail(crop, LANDMARK_SCALE))
    return people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=appearance.MEAN_FILE)
    args = parser.parse_args()
    people = load_thumbnails()
    names = sorted(people)
    half = len(names) // 2
    mean = np.mean([thumb for name in names[:half] for thumb in people[name]], axis=0).astype(np.float32)
    with new_file(args.output, ".npz") as partial:
        np.savez_compressed(partial, mean=mean)
    entry = describe(args.output, kind="appearance", licence="MIT", provenance=PROVENANCE.format(people=half))
    update_manifest(args.output.parent / "manifest.toml", {"appearance": entry})

    rng = random.Random(1)
    same, other = [], []
    for name in names[half:]:
        views = [(thumb - mean) / np.linalg.norm(thumb - mean) for thumb in people[name]]
        if len(views) < 3:
            continue
        same.append(max(float(views[-1] @ view) for view in views[:-1]))
        for stranger in rng.sample([n for n in names[half:] if n != name], 25):
            theirs = [(thumb - mean) / np.linalg.norm(thumb - mean) for thumb in people[stranger]]
            other.append(max(float(views[-1] @ view) for view in theirs))
    same, other = np.array(same), np.array(other)
    print(f"{len(names)} people; AUC {np.mean(same[:, None] > other):.3f}")
    print("strangers' likeness, 90/95/99 %:", np.round(np.percentile(other, [90, 95, 99]), 2))
    print("own likeness, 1/5/10 %:", np.round(np.percentile(same, [1, 5, 10]), 2))


if __name__ == "__main__":
    main()
