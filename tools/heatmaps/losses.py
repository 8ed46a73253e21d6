"""The losses of the heatmap aligner: named functions of a batch of `Compared`. A term runs when a recipe names it.

Lengths are in cells of the maps, so that the terms are of one size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from tools.data.anatomical import MIRROR
from tools.heatmaps.data import UNKNOWN, Recipe
from tools.heatmaps.validation import Validation
from tools.training.terms import registry

SIGMA_CELLS = 1.0
EARLY_WEIGHT = 0.5  # of the maps of the stacks before the last
# upper and lower lids, upper and lower lips, and the ends of eyes and mouth
GAPS = (
    (37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65), (36, 39), (42, 45), (48, 54), (60, 64),
)  # fmt: skip
# pairs whose difference shows how far a brow or a corner of the mouth moved by itself
SIDES = ((19, 37), (24, 44), (48, 33), (54, 33), (21, 39), (22, 42))
# irises and the corners of their eyes: among 87 points they count too little to be followed to the corners
GAZES = ((85, 36), (85, 39), (86, 42), (86, 45))

LOSSES: dict[str, Callable[[Compared], torch.Tensor]] = {}
loss = registry(LOSSES)


class Compared:
    """What the network predicts of a batch and what is true of it.

    Attributes
    ----------
    output : of `model.Aligner`
    batch : of `data.HeatmapSampler`
    side : of the maps, cells
    """

    def __init__(self, output: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]):
        self.output, self.batch = output, batch
        self.points, self.weight = batch["points"], batch["weight"]
        self.side = output["logits"].shape[-1]

    @cached_property
    def error(self) -> torch.Tensor:
        """(B, 87) distances from the truth."""
        return (self.output["places"] - self.points).norm(dim=2) * self.side

    def apart(self, pairs) -> torch.Tensor:
        """The mean error of the vectors between pairs of points."""
        one, other = np.array(pairs).T
        places, points = self.output["places"], self.points
        wrong = (places[:, one] - places[:, other] - points[:, one] + points[:, other]).norm(dim=2) * self.side
        return mean_of(wrong, torch.minimum(self.weight[:, one], self.weight[:, other]))


class Judge:
    """Compares a network's output with the labels."""

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device, teacher: Path | None = None):
        self._validation = Validation(recipe, folder)

    def compare(self, output: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> Compared:
        """What the losses take."""
        return Compared(output, batch)

    def validate(self, net: torch.nn.Module) -> dict[str, float]:
        """Errors on held-out photographs, portraits and rendered faces, %."""
        return self._validation(net)


@loss
def maps(compared: Compared) -> torch.Tensor:
    """Cross-entropy of every stack's maps to Gaussians about the true places."""
    target, logits = gaussian_targets(compared.points, compared.side), compared.output["logits"]
    total = 0.0
    for k, each in enumerate(logits.unbind(1)):
        entropy = -(target * F.log_softmax(each.flatten(2), dim=2)).sum(2)
        total = total + (1.0 if k == logits.shape[1] - 1 else EARLY_WEIGHT) * mean_of(entropy, compared.weight)
    return total


@loss
def squares(compared: Compared) -> torch.Tensor:
    """The ancestor's loss: squared error of each stack's maps to Gaussians of 7 x 7 cells, summed over the stacks."""
    target = squared_targets(compared.points, compared.side, sigma=1.0)
    return sum((each - target).square().mean() for each in compared.output["logits"].unbind(1))


@loss
def places(compared: Compared) -> torch.Tensor:
    """Distance of the expected places."""
    return mean_of(compared.error, compared.weight)


@loss
def gaps(compared: Compared) -> torch.Tensor:
    """Gaps of lids and lips, widths of eyes and mouth."""
    return compared.apart(GAPS)


@loss
def sides(compared: Compared) -> torch.Tensor:
    """Heights of brows and corners of the mouth, each side by itself."""
    return compared.apart(SIDES)


@loss
def gaze(compared: Compared) -> torch.Tensor:
    """Places of the irises between the corners of their eyes."""
    return compared.apart(GAZES)


@loss
def depth(compared: Compared) -> torch.Tensor:
    """Depth of the points where it is known."""
    truth = compared.batch["depth"]
    error = (compared.output["depth"] - truth.nan_to_num()).abs() * compared.side
    return mean_of(error, ~truth.isnan() * compared.weight)


@loss
def visible(compared: Compared) -> torch.Tensor:
    """Visibility of the points where it is known."""
    truth = compared.batch["visible"]
    error = F.binary_cross_entropy_with_logits(compared.output["visible"], truth.nan_to_num(), reduction="none")
    return mean_of(error, (~truth.isnan()).float())


@loss
def spread(compared: Compared) -> torch.Tensor:
    """Likelihood of the distances under the predicted spread; the places do not learn from it."""
    log = compared.output["spread"] + np.log(compared.side)
    return mean_of(compared.error.detach() * torch.exp(-log) + log, compared.weight)


@loss
def face(compared: Compared) -> torch.Tensor:
    """The mask of the visible face where it is known."""
    truth = compared.batch["face"]
    error = F.binary_cross_entropy_with_logits(compared.output["face"], (truth == 1).float(), reduction="none")
    return mean_of(error, (truth != UNKNOWN).float())


@loss
def coherence(compared: Compared) -> torch.Tensor:
    """The second half of the batch being mirror images of the first: how far their places differ, mirrored back."""
    first, second = compared.output["places"].chunk(2)
    return incoherence(first, second) * compared.side


def incoherence(found: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Mean distance between places (B, 87, 2) in crops and those in their mirror images, (B, 87, 2)."""
    back = torch.stack([1 - mirrored[..., 0], mirrored[..., 1]], dim=-1)[:, MIRROR]
    return (found - back).norm(dim=-1).mean()


def gaussian_targets(points: torch.Tensor, side: int, sigma: float = SIGMA_CELLS) -> torch.Tensor:
    """(B, P, side * side) shares that sum to 1, of a Gaussian about (B, P, 2) places in shares of the side."""
    cells = (torch.arange(side, device=points.device) + 0.5) / side
    x, y = (torch.softmax(-((cells - points[..., k, None]) * side).square() / (2 * sigma**2), dim=-1) for k in range(2))
    return (y[..., :, None] * x[..., None, :]).flatten(2)


def squared_targets(points: torch.Tensor, side: int, sigma: float, peak: float = 20.0) -> torch.Tensor:
    """The ancestor's maps (B, P, side, side): a Gaussian of 7 x 7 cells that peaks at 20; at sigma 0 one cell of 1."""
    place = (points * side).long()
    cells = torch.arange(side, device=points.device)
    dx, dy = cells - place[..., 0, None], cells - place[..., 1, None]
    if sigma == 0:
        return ((dy == 0)[..., :, None] & (dx == 0)[..., None, :]).float()
    near = (dy.abs() <= 3)[..., :, None] & (dx.abs() <= 3)[..., None, :]
    square = dy.square()[..., :, None] + dx.square()[..., None, :]
    return peak * torch.exp(-square / (2 * sigma**2)) * near


def mean_of(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean of values by weights of their shape; 0 where nothing has a weight."""
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
