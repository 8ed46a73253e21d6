"""The weights of a small network in a larger one of the same layers, which so begins where the small one ended."""

from __future__ import annotations

import torch

MIX = 0.1  # what new channels weigh at first in those that were there before, against a fresh start


@torch.no_grad()
def grow(net: torch.nn.Module, small: dict[str, torch.Tensor]) -> None:
    """Put the tensors of a state dict into those of `net` that bear their names and are as large or larger.

    Old channels keep their weights and hardly hear the new ones; new channels keep the start that `net` gave them, so
    that no two are alike. Tensors of other names, more dimensions or smaller sides stay as they are.
    """
    for name, own in net.state_dict().items():
        old = small.get(name)
        if old is None or old.ndim != own.ndim or any(a > b for a, b in zip(old.shape, own.shape, strict=True)):
            continue
        if own.ndim > 1:
            own[: old.shape[0], old.shape[1] :] *= MIX
        own[tuple(slice(side) for side in old.shape)] = old
