"""Losses of the regressor."""

from __future__ import annotations

import torch


def point_distance(points: torch.Tensor, truth: torch.Tensor, softness: float = 1e-3) -> torch.Tensor:
    """Euclidean distances (..., K) of (..., K, 2 or 3) points, rounded off below `softness`."""
    return ((points - truth).square().sum(-1) + softness**2).sqrt()
