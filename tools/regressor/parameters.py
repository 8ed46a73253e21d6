"""Losses of the regressor.

PDC, VDC and WPDC compare parameters as 3DDFA does: an affine camera, row by row, then shape and expression, each
number whitened by a mean and a deviation. The points by which VDC and WPDC judge are the caller's choice; 3DDFA takes
the 68 landmarks and 132 random vertices, anew in every step.
Source: Zhu et al., Face Alignment in Full Pose Range: A 3D Total Solution, TPAMI 2019; 3DDFA's training code for what
the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

CAMERA = 12
DEPTH_SHIFT = 11  # of the camera's numbers: an affine camera's depth says nothing
# the size of a camera's entry in 3DDFA's units (120 px crops, micrometres), by which it weighs shape and expression
WPDC_SCALE_3DDFA = 0.00057339936


@dataclass(frozen=True, slots=True, eq=False)
class PointModel:
    """A linear face model at some points, and how its parameters are whitened."""

    mean: torch.Tensor  # (P, 3)
    basis: torch.Tensor  # (K, P, 3)
    param_mean: torch.Tensor  # (12 + K,)
    param_std: torch.Tensor  # (12 + K,)


def point_distance(points: torch.Tensor, truth: torch.Tensor, softness: float = 1e-3) -> torch.Tensor:
    """Euclidean distances (..., K) of (..., K, 2 or 3) points, rounded off below `softness`."""
    return ((points - truth).square().sum(-1) + softness**2).sqrt()


def pdc(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Parameter distance cost: the mean squared difference of whitened parameters (B, 12 + K)."""
    return (output - target).square().mean()


def vdc(output: torch.Tensor, target: torch.Tensor, model: PointModel) -> torch.Tensor:
    """Vertex distance cost: the mean squared difference of the points' coordinates that parameters put in the crop.

    The output's shift in depth is replaced by the target's.
    """
    found, wanted = _unwhiten(output, model), _unwhiten(target, model)
    found = torch.cat([found[:, :DEPTH_SHIFT], wanted[:, DEPTH_SHIFT:CAMERA], found[:, CAMERA:]], dim=1)
    return (_points(found, model) - _points(wanted, model)).square().mean()


def wpdc(
    output: torch.Tensor, target: torch.Tensor, model: PointModel, scale: float = WPDC_SCALE_3DDFA
) -> torch.Tensor:
    """Weighted parameter distance cost: each number counts by how far its error moves the points."""
    with torch.no_grad():
        weight = wpdc_weights(output, target, model, scale)
    return (weight * (output - target).square()).mean()


def wpdc_weights(output: torch.Tensor, target: torch.Tensor, model: PointModel, scale: float) -> torch.Tensor:
    """Weights (B, 12 + K), the largest of each sample 1, without gradient in their use."""
    wanted = _unwhiten(target, model)
    error = (_unwhiten(output, model) - wanted).abs()
    spots = _model_points(wanted[:, CAMERA:], model)
    length = spots.norm(dim=1)  # (B, 3): of all points' x, of their y, of their z
    ones = torch.full_like(length[:, :1], spots.shape[1] ** 0.5)
    camera = torch.cat([length, ones], dim=1).repeat(1, 3)
    columns = scale * model.basis.flatten(1).norm(dim=1)
    weight = error * torch.cat([camera, columns.expand(len(error), -1)], dim=1) + 1e-6
    weight = weight / weight.max(dim=1, keepdim=True).values
    weight[:, DEPTH_SHIFT] = 0.0
    return weight


def _unwhiten(params: torch.Tensor, model: PointModel) -> torch.Tensor:
    return params * model.param_std + model.param_mean


def _model_points(coefficients: torch.Tensor, model: PointModel) -> torch.Tensor:
    """(B, P, 3) = mean + sum of (B, K) coefficients x basis."""
    return model.mean + torch.einsum("bk,kpc->bpc", coefficients, model.basis)


def _points(params: torch.Tensor, model: PointModel) -> torch.Tensor:
    camera = params[:, :CAMERA].reshape(-1, 3, 4)
    return _model_points(params[:, CAMERA:], model) @ camera[:, :, :3].transpose(1, 2) + camera[:, None, :, 3]
