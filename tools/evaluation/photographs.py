"""Photographs with annotated landmarks: those kept for validation, and users' copies of what others publish."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.io import loadmat

from tools.data import labels, material
from tools.data.split import held_out

SUFFIXES = (".jpg", ".jpeg", ".png")
# 3DDFA counts pixel centres from 1, and so do AFLW2000-3D and 300W: ours lie half a pixel before
FROM_ONE = 0.5
MISSING = -1  # a coordinate of AFLW that nobody annotated


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture, and what is known of one face in it; image px."""

    name: str
    image: np.ndarray  # (H, W, 3) uint8, BGR
    truth: np.ndarray  # (68, 2 or 3) or (21, 2) float64, z larger is nearer; NaN where nobody annotated
    yaw_deg: float  # NaN where nobody knows
    box_px: float  # sqrt(width * height) that errors are divided by


def sqrt_wh(points: np.ndarray) -> float:
    """Of the rectangle of (n, 2 or more) points."""
    return float(np.sqrt(np.prod(np.nanmax(points[:, :2], axis=0) - np.nanmin(points[:, :2], axis=0))))


def need_material() -> None:
    """End with a line that says what to do where the photographs are absent."""
    if not (material.folder() / "faces" / "annotated_68.npz").exists():
        raise SystemExit(f"no photographs in {material.folder()}: set FACET_MATERIAL to where they are")


def held_out_photographs() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """File, image and annotated (68, 2) points of the people that nobody trained on."""
    need_material()
    people = {photo.file: photo.identity for photo in material.photos()}
    names, points = material.annotated_68()
    kept = [(name, p) for name, p in zip(names, points, strict=True) if held_out(people[name], name)]
    return [(name, cv2.imread(str(material.folder() / "faces" / name)), p.astype(np.float64)) for name, p in kept]


def validation() -> Iterator[Sample]:
    """The photographs of `held_out_photographs`; yaw by 3DDFA's depth, 0 where it saw nothing."""
    need_material()
    photo, _, points = material.landmarks_3ddfa()
    rows = {photograph.file: row for row, photograph in enumerate(material.photos())}
    yaw = dict(zip(photo.tolist(), labels.rough_yaw_deg(points).tolist(), strict=True))
    for name, image, truth in held_out_photographs():
        yield Sample(name, image, truth, yaw.get(rows[name], 0.0), sqrt_wh(truth))


def aflw2000(folder: Path) -> Iterator[Sample]:
    """AFLW2000-3D: the pictures with a .mat beside each, or with 3DDFA's AFLW2000-3D.pts68.npy and .pose.npy.

    3DDFA's labels follow the pictures in the order of their names.
    """
    files = pictures_of(folder)
    if (folder / "AFLW2000-3D.pts68.npy").exists():
        points = rows_of(folder / "AFLW2000-3D.pts68.npy", len(files))
        yaw = rows_of(folder / "AFLW2000-3D.pose.npy", len(files))
    else:
        mats = [loadmat(file.with_suffix(".mat")) for file in files]
        points = np.stack([mat["pt3d_68"] for mat in mats])
        yaw = np.degrees([mat["Pose_Para"][0, 1] for mat in mats])
    for file, p, angle in zip(files, points, yaw, strict=True):
        truth = p.T.astype(np.float64) - (FROM_ONE, FROM_ONE, 0)
        yield Sample(file.name, picture(file), truth, float(angle), sqrt_wh(truth))


def aflw(folder: Path) -> Iterator[Sample]:
    """AFLW's 21 points on 3DDFA's crops: a copy of its folders test.data/AFLW_GT_crop and test.configs.

    Errors are divided by the box of the 68 fitted points where AFLW_GT_pts68.npy is there, as 3DDFA does, else by that
    of the 21 points, which is smaller.
    """
    names = (folder / "test.data" / "AFLW_GT_crop.list").read_text(encoding="utf-8").split()
    table = folder / "test.configs"
    boxes = rows_of(table / "AFLW_GT_crop_roi_box.npy", len(names)).astype(np.float64)
    yaw = rows_of(table / "AFLW_GT_crop_yaws.npy", len(names))
    points = rows_of(table / "AFLW_GT_pts21.npy", len(names)).astype(np.float64)
    fitted = table / "AFLW_GT_pts68.npy"
    sized = rows_of(fitted, len(names)) if fitted.exists() else points
    for name, box, angle, p, around in zip(names, boxes, yaw, points, sized, strict=True):
        image = picture(folder / "test.data" / "AFLW_GT_crop" / name)
        scale = image.shape[1] / (box[2] - box[0])
        truth = np.where((p == MISSING).any(axis=0), np.nan, p).T
        around = np.where((around == MISSING).any(axis=0), np.nan, around).T
        yield Sample(name, image, (truth - box[:2]) * scale - FROM_ONE, float(angle), sqrt_wh(around) * scale)


def points_files(folder: Path) -> Iterator[Sample]:
    """300W, and all that comes like it: a .pts of 68 points beside each picture, in any folder below."""
    for file in pictures_of(folder, below=True):
        if file.with_suffix(".pts").exists():
            text = file.with_suffix(".pts").read_text(encoding="utf-8").partition("{")[2].partition("}")[0]
            truth = np.array(text.split(), np.float64).reshape(-1, 2) - FROM_ONE
            yield Sample(file.name, picture(file), truth, np.nan, sqrt_wh(truth))


SETS: dict[str, Callable[[Path], Iterator[Sample]]] = {"aflw2000": aflw2000, "aflw": aflw, "300w": points_files}


def pictures_of(folder: Path, below: bool = False) -> list[Path]:
    """All pictures of a folder, by name; `below`: of the folders in it, too."""
    files = sorted(p for p in (folder.rglob("*") if below else folder.glob("*")) if p.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"{folder}: expected pictures ({', '.join(SUFFIXES)}), found none")
    return files


def picture(file: Path) -> np.ndarray:
    """(H, W, 3) uint8, BGR."""
    image = cv2.imread(str(file))
    if image is None:
        raise SystemExit(f"{file}: expected a picture, found what cannot be read as one")
    return image


def rows_of(file: Path, count: int) -> np.ndarray:
    """An array of labels with a row for each picture."""
    rows = np.load(file)
    if len(rows) != count:
        raise SystemExit(f"{file}: expected a row for each of {count} pictures, found {len(rows)}")
    return rows
