"""The photographs and what others have labelled on them, as plain arrays in image px."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facet.tracker.weights import ROOT

BARE_FACES = ("keypoints", "unmasked", "portraits")  # groups neither masked nor on the street
# of photographs that look ahead this far, most show little of anything: what this share shows at most is a face at rest
REST_YAW_DEG, REST_PERCENT = 20.0, 100 / 3
UNITS_PER_PX = 40  # the labels' files count in 1/40 px
# the vertices of MediaPipe's 478-point mesh that stand for the 68 Multi-PIE points
MESH_TO_68 = np.array(
    [
        162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389, 71, 63, 105, 66, 107,
        336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387,
        263, 373, 380, 61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A row of the manifest."""

    file: str  # relative to the faces' folder
    group: str  # keypoints, unmasked, masked, portraits, street, crowds
    identity: str  # "" where nobody knows


def folder() -> Path:
    """The folder of the material."""
    return Path(os.environ.get("FACET_MATERIAL", ROOT.parent / "shared"))


def photos() -> list[Photo]:
    """All photographs of the manifest, in its order."""
    with (folder() / "faces" / "manifest.csv").open(newline="") as file:
        return [Photo(row["file"], row["file"].split("/")[1], row["identity"]) for row in csv.DictReader(file)]


def photo_sizes() -> list[tuple[int, int]]:
    """Width and height of all photographs of the manifest, px."""
    with (folder() / "faces" / "manifest.csv").open(newline="") as file:
        return [(int(row["width"]), int(row["height"])) for row in csv.DictReader(file)]


def annotated_68() -> tuple[list[str], np.ndarray]:
    """Files and points (n, 68, 2) float32 that people have annotated, whole px."""
    with np.load(folder() / "faces" / "annotated_68.npz") as file:
        return [str(name) for name in file["photo"]], file["points"].astype(np.float32)


def mesh_478() -> tuple[np.ndarray, np.ndarray]:
    """Rows of the manifest (n,) and MediaPipe's points (n, 478, 3) float32, z larger is nearer."""
    with np.load(folder() / "faces" / "mesh_478.npz") as file:
        points = file["points"].astype(np.float32) / UNITS_PER_PX
        points[..., 2] *= -1
        return file["photo"], points


@dataclass(frozen=True, slots=True, eq=False)
class Delineated:
    """Sharp portraits with points that people placed carefully; image px."""

    file: list[str]  # (n,) relative to the faces' folder
    identity: list[str]  # (n,)
    points: np.ndarray  # (n, 189, 2) float32, NaN where a photograph has none
    mesh: np.ndarray  # (n, 478, 3) float32, MediaPipe's, z larger is nearer


def delineated() -> Delineated:
    """The portraits of the Face Research Lab, London and Canada."""
    with np.load(folder() / "faces" / "delineated_189.npz") as file:
        names = [str(name) for name in file["photo"]]
        identity, points = [str(name) for name in file["identity"]], file["points"].astype(np.float32)
    with np.load(folder() / "faces" / "mesh_478_delineated.npz") as file:
        of_name = dict(zip(map(str, file["photo"]), file["points"].astype(np.float32), strict=True))
    mesh = np.stack([of_name[name] for name in names]) * np.float32([1, 1, -1])
    return Delineated([f"photos/delineated/{name}" for name in names], identity, points, mesh)


def landmarks_3ddfa() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the manifest (n,), FaceBoxes' boxes (n, 5) and 3DDFA_V2's points (n, 68, 3) float32."""
    with np.load(folder() / "faces" / "landmarks68_3ddfa.npz") as file:
        return file["photo"], file["box"], file["points"].astype(np.float32) / UNITS_PER_PX
