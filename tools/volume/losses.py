"""The losses of the volume network: named functions of a batch of `Compared`. A term runs when a recipe names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

from tools.training.terms import registry
from tools.volume.data import UNKNOWN, Recipe
from tools.volume.model import columns
from tools.volume.solids import COVERED
from tools.volume.validation import Validation

EARLY_WEIGHT = 0.5  # of the stacks before the last

LOSSES: dict[str, Callable[[Compared], torch.Tensor]] = {}
loss = registry(LOSSES)


class Compared:
    """What the network predicts of a batch and what is true of it.

    Attributes
    ----------
    output : of `model.VolumeNet`
    batch : of `data.VolumeSampler`
    """

    def __init__(self, output: dict[str, torch.Tensor], batch: dict[str, torch.Tensor], size: int):
        self.output, self.batch, self.size = output, batch, size


class Judge:
    """Compares a network's output with the labels."""

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device, teacher: Path | None = None):
        self._size, self._validation = recipe.net.size_px, Validation(recipe, folder)

    def compare(self, output: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> Compared:
        """What the losses take."""
        return Compared(output, batch, self._size)

    def validate(self, net: torch.nn.Module) -> dict[str, float]:
        """Errors on held-out rendered people and photographs."""
        return self._validation(net)


@loss
def cover(compared: Compared) -> torch.Tensor:
    """Cross-entropy of each voxel of the sampled columns, summed over the stacks; voxels that nobody knows left out."""
    truth, cells = compared.batch["cover"], compared.batch["cells"]
    known = (truth != UNKNOWN).float()
    target = (truth.float() / COVERED).clamp(max=1)
    total, stacks = 0.0, compared.output["logits"].unbind(1)
    for k, logits in enumerate(stacks):
        found = columns(logits, cells, compared.size)
        wrong = functional.binary_cross_entropy_with_logits(found, target, weight=known, reduction="sum")
        total = total + (1.0 if k == len(stacks) - 1 else EARLY_WEIGHT) * wrong / known.sum().clamp(min=1)
    return total


@loss
def points(compared: Compared) -> torch.Tensor:
    """Distance of the 68 landmarks, in shares of the crop's side."""
    return (compared.output["points"] - compared.batch["points"]).norm(dim=2).mean()
