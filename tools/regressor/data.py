"""What the regressor learns from: its recipe, its batches, and the labels of all faces on the training's device."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from facet.tracker.mirror import Mirror, mirrored_camera
from facet.tracker.morphable import load_face_model
from facet.tracker.weights import ROOT
from tools.data.augment import Crops, Sampler, open_images, tracking_crop
from tools.data.crops import SIZE_PX, mirrored_68
from tools.regressor.model import MESH_POINTS, Net
from tools.training import TrainingError
from tools.training import recipe as shared

# how often the photographs of a group are drawn, by their number; a recipe's [data.groups] may change it
GROUP_WEIGHT = {"keypoints": 1.0, "unmasked": 0.8, "masked": 0.5, "portraits": 1.2, "street": 0.8, "crowds": 0.2}
MADE = ("turned", "rendered")  # by profiles.py and rendered.py, in this order after the photographs
GROUP_WEIGHT |= {"turned": 0.25, "rendered": 0.05}
ANNOTATED_WEIGHT = 2.0
SHUT_WEIGHT, WINK_WEIGHT = 1.5, 2.0  # more often the more an eye is shut, and the more one than the other
MADE_PX = 300.0  # the size of made faces, where the size says how reliable labels are
MESH_EVERY = 4  # every n-th of MediaPipe's points is learnt


@dataclass(frozen=True, slots=True)
class Data:
    """The [data] of a recipe; lengths in shares of the longer side of the face's rectangle."""

    landmark_scale: float = 1.35
    box_scale: float = 1.65
    box_share: float = 0.25  # of the samples that look like a first crop
    runtime_box_scale: float = 1.42  # the same against the mean side of the detector's box
    runtime_box_shift_y: float = 0.12
    groups: dict[str, float] = field(default_factory=dict)  # weights of groups where they are not GROUP_WEIGHT's

    def __post_init__(self):
        for group in self.groups:
            if group not in GROUP_WEIGHT:
                raise ValueError(f"unknown group {group}; known: {', '.join(GROUP_WEIGHT)}")


@dataclass(frozen=True, kw_only=True)
class Recipe(shared.Recipe):
    """A recipe of the regressor."""

    net: Net
    data: Data = Data()

    @property
    def crops(self) -> Crops:
        """How crops are drawn."""
        return Crops(self.net.size_px, self.data.landmark_scale, self.data.box_scale, self.data.box_share)


class Feed:
    """Batches by number; see `augment.Sampler`."""

    def __init__(self, recipe: Recipe, folder: Path):
        table = load_table(folder)
        rows, weights = training_rows(table, recipe.data.groups)
        self._sampler = Sampler(folder, table, rows, weights, recipe.crops, recipe.train.seed)
        self._count = recipe.train.batch

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        return self._sampler.batch(self._count, number)


def load_table(data: Path) -> dict:
    """The labels of the cut faces, then of those that were turned in 3D and rendered, where there are some; see Labels.

    `points_mirrored` are the points of the flipped cuts.
    """
    if not (data / "faces.npz").exists():
        raise TrainingError(f"{data}: expected faces.npz, found none; run python -m tools.data.build faces")
    with np.load(data / "faces.npz") as file:
        table = {name: file[name] for name in file.files}
    table["points_mirrored"] = mirrored_68(table["points"])
    for group, made in made_labels(data).items():
        count = len(made["yaw_deg"])
        made["points_mirrored"], made["points"] = made["points"][:, 1], made["points"][:, 0]
        made["group"] = np.array([group] * count)
        made["held_out"] = np.zeros(count, bool)
        made["roi"] = np.tile(np.float32([0, 0, MADE_PX, 0]), (count, 1))
        for name, known in table.items():
            if name not in made:
                blank = np.full((count, *known.shape[1:]), np.nan) if known.dtype.kind == "f" else np.zeros(count)
                made[name] = blank.astype(known.dtype)
            table[name] = np.concatenate([known, made[name]])
    return table


def made_labels(data: Path) -> dict[str, dict]:
    """The labels of made faces by group; two sides of each, the flipped one second."""
    result = {}
    for group in MADE:
        if (data / f"{group}.npz").exists():
            with np.load(data / f"{group}.npz") as file:
                result[group] = {name: file[name] for name in file.files}
    if "rendered" in result:
        made = result["rendered"]
        model = load_face_model(ROOT / "weights" / "face_model.npz")
        halves = np.split(made["coefficients"], [model.shape_count], axis=1)
        shape, expression = Mirror.of(model).coefficients(*halves)
        camera = mirrored_camera(made["camera"], SIZE_PX)
        mirrored = {
            "camera": camera,
            "coefficients": np.concatenate([shape, expression], axis=1),
            "points": [model.landmarks(*face)[:, :2] for face in zip(camera, shape, expression, strict=True)],
        }
        made |= {name: np.stack([made[name], other], axis=1) for name, other in mirrored.items()}
    return result


def training_rows(table: dict, groups: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the table of faces that may be trained on, and how often each is drawn.

    `groups` : weights of groups where they are not GROUP_WEIGHT's
    """
    rows = np.flatnonzero(~table["held_out"])
    shares = GROUP_WEIGHT | groups
    weight = np.array([shares[group] for group in table["group"]])
    weight = weight * np.where(np.isnan(table["annotated"][:, 0, 0]), 1.0, ANNOTATED_WEIGHT)
    photographed = ~np.isin(table["group"], MADE)
    shut = np.nan_to_num(table["blink"])
    weight = weight * (1 + photographed * (SHUT_WEIGHT * shut.max(axis=1) + WINK_WEIGHT * np.ptp(shut, axis=1)))
    weight = weight * (1 + 2 * (photographed & (np.abs(table["yaw_deg"]) > 35)))
    return rows, weight[rows]


class Labels:
    """The labels of all faces as tensors, (n, 2, ...): of each cut and of its mirror image; cut px.

    Attributes
    ----------
    points, annotated : (n, 2, 68, 2), the latter nan where there are none
    mesh : (n, M, 2), of the unflipped cuts only, as no list says which of its points mirror which
    blink : (n, 2, 2); gaze : (n, 2, 4); eye_weight : (n,) how far blinks and irises can be trusted
    camera, coefficients, fit_weight : (n, 2, 3, 4), (n, 2, Ks + Ke), (n, 2): of the fits; the last 0 to 1
    exact : (n,) 1 where the coefficients are known, not fitted
    """

    def __init__(self, folder: Path, device: torch.device):
        self._folder, self._device = folder, device
        table = self.table = load_table(folder)

        def both(plain, flipped):
            return torch.from_numpy(np.stack([plain, flipped], 1).astype(np.float32)).to(device)

        self.points = both(table["points"], table["points_mirrored"])
        self.annotated = both(table["annotated"], mirrored_68(table["annotated"]))
        self.mesh = torch.from_numpy(table["mesh"][:, ::MESH_EVERY, :2]).to(device)
        assert self.mesh.shape[1] == MESH_POINTS
        self.blink = both(table["blink"], table["blink"][:, ::-1])
        gaze = table["gaze"]
        self.gaze = both(gaze.reshape(-1, 4), (gaze[:, ::-1] * (-1, 1)).reshape(-1, 4))
        # blinks and irises of small faces are guesses
        self.eye_weight = torch.from_numpy(np.clip(table["roi"][:, 2] / 250 - 0.3, 0, 1).astype(np.float32)).to(device)
        self.exact = torch.from_numpy((table["group"] == "rendered").astype(np.float32)).to(device)

    @cached_property
    def _fits(self) -> list[torch.Tensor]:
        path = self._folder / "fits.npz"
        if not path.exists():
            raise TrainingError(f"{path}: expected the fits, found none; run python -m tools.data.build fits")
        with np.load(path) as file:
            camera, coefficients = file["camera"], file["coefficients"]
            # a bad fit is no truth
            good = np.clip(2 - file["error"] / np.median(file["error"]), 0, 1)
        for made in made_labels(self._folder).values():
            camera = np.concatenate([camera, made["camera"]])
            coefficients = np.concatenate([coefficients, made["coefficients"]])
            good = np.concatenate([good, np.ones((len(made["camera"]), 2))])
        return [torch.from_numpy(part.astype(np.float32)).to(self._device) for part in (camera, coefficients, good)]

    @property
    def camera(self) -> torch.Tensor:
        return self._fits[0]

    @property
    def coefficients(self) -> torch.Tensor:
        return self._fits[1]

    @property
    def fit_weight(self) -> torch.Tensor:
        return self._fits[2]


def held_out_rows(table: dict) -> np.ndarray:
    """Rows of annotated faces that are not trained on."""
    return np.flatnonzero(table["held_out"] & ~np.isnan(table["annotated"][:, 0, 0]))


def validation_crops(data: Path, table: dict, spec: Crops) -> tuple[np.ndarray, np.ndarray]:
    """Crops (n, S, S, 3) of held-out annotated faces, placed as tracking would with a little error; their points."""
    rows = held_out_rows(table)
    images = open_images(data)[0]
    rng = np.random.default_rng(5)
    size = spec.size_px
    crops, truth = np.empty((len(rows), size, size, 3), np.uint8), np.empty((len(rows), 68, 2), np.float32)
    for k, row in enumerate(rows):
        crops[k], affine = tracking_crop(images[row], table["points"][row], spec, rng)
        truth[k] = table["annotated"][row] @ affine[:, :2].T + affine[:, 2]
    return crops, truth
