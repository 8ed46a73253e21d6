"""The weights of a network in a larger or a smaller one of the same layers, which so begins where it ended, or near."""

from __future__ import annotations

import torch

MIX = 0.1  # what new channels weigh at first in those that were there before, against a fresh start


@torch.no_grad()
def grow(net: torch.nn.Module, other: dict[str, torch.Tensor]) -> None:
    """Put the tensors of a state dict into those of `net` that bear their names.

    Old channels keep their weights and hardly hear the new ones; new channels keep the start that `net` gave them, so
    that no two are alike. Of what has more channels than `net` the first are taken: all layers keep the same ones, so
    that it is a part of the other network, and what is missing is to be learnt. Tensors of other names or another
    number of dimensions stay as they are.
    """
    learnt = {name for name, _ in net.named_parameters()}
    for name, own in net.state_dict().items():
        old = other.get(name)
        if old is None or old.ndim != own.ndim or (name not in learnt and own.ndim > 1):  # tables of a size, not learnt
            continue
        old = old[tuple(slice(side) for side in own.shape)]
        if own.ndim > 1:
            own[: old.shape[0], old.shape[1] :] *= MIX
        own[tuple(slice(side) for side in old.shape)] = old
