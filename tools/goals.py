"""What a training run wants of its network: heads, losses against the table of labels, and validation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from tools.data.augment import FACE, NO_FACE, Recipe
from tools.data.crops import SIZE_PX
from tools.data.labels import MIRROR_68
from tools.losses import point_distance

# how often the photographs of a group are shown, by their number
GROUP_WEIGHT = {"keypoints": 1.0, "unmasked": 0.8, "masked": 0.5, "portraits": 1.2, "street": 0.8, "crowds": 0.2}
ANNOTATED_WEIGHT = 2.0
SHUT_WEIGHT = 2.0
MESH_EVERY = 4  # every n-th of MediaPipe's points is learnt


def training_rows(data: Path) -> tuple[dict, np.ndarray, np.ndarray]:
    """The table of faces, the rows that may be trained on, and how often each is drawn."""
    with np.load(data / "faces.npz") as file:
        table = {name: file[name] for name in file.files}
    rows = np.flatnonzero(~table["held_out"])
    weight = np.array([GROUP_WEIGHT[group] for group in table["group"]])
    weight = weight * np.where(np.isnan(table["annotated"][:, 0, 0]), 1.0, ANNOTATED_WEIGHT)
    weight = weight * np.where(np.nan_to_num(table["blink"]).max(axis=1) > 0.7, SHUT_WEIGHT, 1.0)
    weight = weight * (1 + 2 * (np.abs(table["yaw_deg"]) > 35))
    return table, rows, weight[rows]


def placed(points: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Cut px -> crop px; (B, K, 2) and (B, 2, 3)."""
    return points @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]


def mirrored_68(points: np.ndarray) -> np.ndarray:
    """(n, 68, 2) in px of the flipped cut."""
    return (points * np.float32([-1, 1]) + np.float32([SIZE_PX, 0]))[:, MIRROR_68]


class PointsGoal:
    """Points straight from the features: it needs no face model, and gives the backbone what it has to see."""

    def __init__(self, data: Path, recipe: Recipe, settings: dict, device: torch.device):
        table, _, _ = training_rows(data)
        self.recipe, self.data, self.table = recipe, data, table

        def both(plain, flipped):
            return torch.from_numpy(np.stack([plain, flipped], 1).astype(np.float32)).to(device)

        self.points = both(table["points"], mirrored_68(table["points"]))  # (n, 2, 68, 2)
        self.annotated = both(table["annotated"], mirrored_68(table["annotated"]))
        # without a list of the mesh's mirror pairs its points are learnt on unflipped samples only
        self.mesh = torch.from_numpy(table["mesh"][:, ::MESH_EVERY, :2]).to(device)
        self.blink = both(table["blink"], table["blink"][:, ::-1])
        gaze = table["gaze"]
        self.gaze = both(gaze.reshape(-1, 4), (gaze[:, ::-1] * (-1, 1)).reshape(-1, 4))
        # blinks and irises of small faces are guesses
        self.eye_weight = torch.from_numpy(np.clip(table["roi"][:, 2] / 250 - 0.3, 0, 1).astype(np.float32)).to(device)
        self.heads = {"points": 136, "mesh": 2 * self.mesh.shape[1], "blink": 2, "gaze": 4, "score": 1}

    def losses(self, out: dict, sample: dict, share: float) -> dict:
        """Terms of the loss; lengths in shares of the crop's side."""
        size = self.recipe.size_px
        face, flip, affine = sample["face"], sample["flip"].long(), sample["affine"]
        real = (sample["kind"] != NO_FACE).float()
        scored = (sample["kind"] == FACE) | (sample["kind"] == NO_FACE)
        points = out["points"].reshape(-1, 68, 2) + 0.5
        taught = placed(self.points[face, flip], affine) / size
        people = placed(self.annotated[face, flip], affine) / size
        known = ~people[:, 0, 0].isnan()
        people = torch.where(known[:, None, None], people, taught)
        count = real.sum()
        terms = {}
        distance = 0.5 * point_distance(points, taught) + 0.5 * point_distance(points, people)
        terms["points"] = 10 * (distance.mean(1) * real).sum() / count
        gap = lids(points) - lids(taught)
        terms["lids"] = 10 * (gap.abs().mean(1) * real).sum() / count
        mesh = placed(self.mesh[face], affine) / size
        meshed = real * (1 - flip) * ~mesh[:, 0, 0].isnan()
        distance = point_distance(out["mesh"].reshape(mesh.shape) + 0.5, mesh.nan_to_num())
        terms["mesh"] = 5 * (distance.mean(1) * meshed).sum() / meshed.sum().clamp(min=1)
        eye = real * self.eye_weight[face] * ~self.blink[face, 0, 0].isnan()
        error = (out["blink"] - self.blink[face, flip].nan_to_num()).abs().mean(1)
        terms["blink"] = 0.3 * (error * eye).sum() / eye.sum().clamp(min=1)
        error = (out["gaze"] - self.gaze[face, flip].nan_to_num()).abs().mean(1)
        terms["gaze"] = 0.5 * (error * eye).sum() / eye.sum().clamp(min=1)
        score = torch.nn.functional.binary_cross_entropy_with_logits(
            out["score"][:, 0], (sample["kind"] == FACE).float(), reduction="none"
        )
        terms["score"] = 0.1 * (score * scored).sum() / scored.sum()
        terms["steady"] = 5 * steadiness(points, sample, real, self.recipe)
        return terms

    @torch.no_grad()
    def validate(self, net: torch.nn.Module) -> dict:
        """NME on held-out people whom people annotated, in crops like those of tracking."""
        crops, truth = validation_crops(self.data, self.table, self.recipe)
        points = np.concatenate(
            [
                net(torch.from_numpy(crops[i : i + 128]).to(next(net.parameters()).device))["points"].cpu().numpy()
                for i in range(0, len(crops), 128)
            ]
        )
        return landmark_errors((points.reshape(-1, 68, 2) + 0.5) * self.recipe.size_px, truth)


def lids(points: torch.Tensor) -> torch.Tensor:
    """(B, 6) gaps: two of each eye, then lips."""
    upper, lower = [37, 38, 43, 44, 62, 51], [41, 40, 47, 46, 66, 57]
    return (points[:, upper] - points[:, lower]).norm(dim=2)


def steadiness(points: torch.Tensor, sample: dict, real: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """How much the points of a face differ between two views of it, moved back; shares of the crop's side."""
    pairs = int(len(points) * recipe.pair_share)
    if not pairs:
        return points.sum() * 0
    size = recipe.size_px

    def uncropped(p, affine):  # crop -> cut px
        return torch.linalg.solve(affine[:, :, :2], (p * size - affine[:, None, :, 2]).transpose(1, 2)).transpose(1, 2)

    affine = sample["affine"]
    ok = real[:pairs]
    safe = torch.where(ok[:, None, None] > 0, affine[:pairs], torch.eye(2, 3, device=points.device))
    safe_twin = torch.where(ok[:, None, None] > 0, affine[-pairs:], torch.eye(2, 3, device=points.device))
    zoom = safe[:, :, 0].norm(dim=1)
    apart = (uncropped(points[:pairs], safe) - uncropped(points[-pairs:], safe_twin)) * zoom[:, None, None] / size
    return ((apart.square().sum(2) + 1e-8).sqrt().mean(1) * ok).sum() / ok.sum().clamp(min=1)


def validation_crops(data: Path, table: dict, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Crops (n, S, S, 3) of held-out annotated faces, placed as tracking would with a little error; their points."""
    rows = np.flatnonzero(table["held_out"] & ~np.isnan(table["annotated"][:, 0, 0]))
    images = np.memmap(data / "faces.u8", np.uint8, "r").reshape(-1, SIZE_PX, SIZE_PX, 3)
    rng = np.random.default_rng(5)
    size = recipe.size_px
    crops, truth = np.empty((len(rows), size, size, 3), np.uint8), np.empty((len(rows), 68, 2), np.float32)
    for k, row in enumerate(rows):
        points = table["points"][row]
        low, high = points.min(axis=0), points.max(axis=0)
        longer = (high - low).max()
        zoom = size / (recipe.landmark_scale * longer * np.exp(rng.normal(0, 0.02)))
        shift = size / 2 - zoom * ((low + high) / 2 + rng.normal(0, 0.015, 2) * longer)
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        truth[k] = table["annotated"][row] * zoom + shift
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        crops[k] = cv2.warpAffine(images[row], matrix, (size, size))
    return crops, truth


def landmark_errors(points: np.ndarray, truth: np.ndarray) -> dict:
    """NME by box and of the inner points by outer eye distance, and the mean offset, all in %."""
    distance = np.linalg.norm(points - truth, axis=2)
    box = np.sqrt(np.prod(np.ptp(truth, axis=1), axis=1))
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
    offset = ((points - truth).mean(axis=1) / box[:, None]).mean(axis=0)
    return {
        "nme": round(100 * float((distance.mean(1) / box).mean()), 4),
        "inner": round(100 * float((distance[:, 17:].mean(1) / eyes).mean()), 4),
        "offset": round(100 * float(np.abs(offset).max()), 4),
    }


GOALS = {"points": PointsGoal}
