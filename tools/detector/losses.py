"""The losses of the detector: named functions of a batch of `Points`.

Points near a face compete by score and overlap; the best few are its positives and learn how good their box is
(task-aligned assignment: Feng et al., "TOOD", ICCV 2021; quality focal loss: Li et al., NeurIPS 2020; GIoU:
Rezatofighi et al., CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch.nn import functional as F

from tools.data import detection
from tools.detector.data import Assign, Recipe
from tools.detector.model import boxes_at, grid_points
from tools.training.terms import registry

LOSSES: dict[str, Callable[[Points], torch.Tensor]] = {}
loss = registry(LOSSES)


class Points:
    """What the network predicts at the points of a batch, and what each should learn.

    Attributes
    ----------
    logits, distances : (B, P), (B, P, 4), of the network
    faces, unsure : (n, 4) boxes of each image, px; the latter are neither faces nor background
    """

    def __init__(self, judge: Judge, output: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]):
        self.judge, self.logits, self.distances = judge, output["logits"], output["distances"]
        self.faces, self.unsure = (
            [boxes[~boxes[:, 0].isnan()] for boxes in batch[name]] for name in ("faces", "unsure")
        )

    @cached_property
    def boxes(self) -> torch.Tensor:
        """(B, P, 4)"""
        return boxes_at(self.judge.points, self.distances)

    @cached_property
    def assigned(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Target and match of each image; see `assign_points`."""
        judge, boxes, logits = self.judge, self.boxes.detach(), self.logits.detach()
        return [
            assign_points(logits[k], boxes[k], judge.points, judge.strides, self.faces[k], judge.recipe.assign)
            for k in range(len(logits))
        ]

    @cached_property
    def worth(self) -> torch.Tensor:
        """The sum of all targets, by which the losses are normed."""
        return sum(target.sum() for target, _ in self.assigned).clamp(min=1.0)


@loss
def score(batch: Points) -> torch.Tensor:
    """Quality focal loss of the scores."""
    total = batch.logits.new_zeros(())
    for logits, (target, _), unsure in zip(batch.logits, batch.assigned, batch.unsure, strict=True):
        weight = torch.ones_like(target)
        if len(unsure):
            weight[contains(unsure, batch.judge.points).any(dim=0) & (target == 0)] = 0.0
        focal = (target - logits.sigmoid()).abs() ** 2
        total = total + (weight * focal * F.binary_cross_entropy_with_logits(logits, target, reduction="none")).sum()
    return total / batch.worth


@loss
def box(batch: Points) -> torch.Tensor:
    """One less the generalised overlap of the boxes at positive points."""
    total = batch.distances.sum() * 0
    for boxes, (target, match), faces in zip(batch.boxes, batch.assigned, batch.faces, strict=True):
        positive = target > 0
        if positive.any():
            _, generalised = overlaps(boxes[positive], faces[match[positive]])
            total = total + (target[positive] * (1 - generalised)).sum()
    return total / batch.worth


class Judge:
    """Compares a network's output with the labels."""

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device, teacher: Path | None = None):
        self.recipe = recipe
        self.points, self.strides = grid_points(recipe.data.size_px, recipe.data.size_px, device)
        detection.load(folder)  # decodes the photographs when it is the first time, before others ask for them

    def compare(self, output: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> Points:
        """What the losses take."""
        return Points(self, output, batch)

    def validate(self, net: torch.nn.Module) -> dict[str, float]:
        """Nothing; `python -m tools.evaluate detector` judges exported files."""
        return {}


def assign_points(logits, predicted, points, strides, faces, assign: Assign):
    """Choose the points that learn each face.

    Returns
    -------
    target (P,): how good the box at a positive point is, 0 elsewhere; match (P,): index of its face
    """
    count = len(faces)
    if count == 0:
        return torch.zeros_like(logits), torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    overlap, _ = overlaps(predicted[None], faces[:, None])
    overlap = overlap.clamp(min=0)
    centre, size = (faces[:, :2] + faces[:, 2:]) / 2, faces[:, 2:] - faces[:, :2]
    offset = (points[None] - centre[:, None]).abs()
    # near the middle of the face; at least the cells around it, however small it is
    allowed = (offset < torch.maximum(0.35 * size[:, None], 0.75 * strides[None, :, None])).all(dim=2)
    # a stride serves faces of about its scale
    length = size.max(dim=1).values[:, None]
    allowed &= (length < 12 * strides[None]) & (length > 1.2 * (strides[None] - 8))
    metric = logits.sigmoid()[None] ** assign.score_power * overlap**assign.iou_power + 1e-9
    metric = torch.where(allowed, metric, torch.zeros_like(metric))
    best, index = metric.topk(min(assign.candidates, metric.shape[1]), dim=1)
    chosen = torch.zeros_like(metric)
    chosen.scatter_(1, index, best)
    value, match = chosen.max(dim=0)
    positive = value > 0
    owner = torch.zeros_like(metric, dtype=torch.bool)
    owner[match, torch.arange(len(match), device=match.device)] = positive
    chosen = torch.where(owner, chosen, torch.zeros_like(chosen))
    # the best point of a face is worth the overlap it reaches
    peak = chosen.max(dim=1, keepdim=True).values.clamp(min=1e-12)
    reach = torch.where(owner, overlap, torch.zeros_like(overlap)).max(dim=1, keepdim=True).values
    target = (chosen / peak * reach.clamp(min=0.05)).max(dim=0).values
    return target, match


def contains(boxes, points):
    """(n, P) bool: which points lie in which boxes."""
    return ((points[None] >= boxes[:, None, :2]) & (points[None] <= boxes[:, None, 2:])).all(dim=2)


def overlaps(a, b):
    """IoU and generalised IoU of boxes (..., 4), broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    union = area_a + area_b - both
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    iou = both / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)
