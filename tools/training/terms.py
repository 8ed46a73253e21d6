"""Losses are functions, registered by their names."""

from __future__ import annotations

from collections.abc import Callable

import torch


def registry(losses: dict[str, Callable]) -> Callable:
    """A decorator that enters a function in `losses` by its name."""

    def register(function: Callable) -> Callable:
        losses[function.__name__] = function
        return function

    return register


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean of (B,) values by weights (B,); 0 where all weights are."""
    return (values * weight).sum() / weight.sum().clamp(min=1)
