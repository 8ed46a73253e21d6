"""Differentiable drawing of lit skin in torch, without a compiler: visibility by the z-buffer, all else with gradients.

Which triangle a pixel shows is found without gradients; where in it the pixel lies, the normals there, their shading
and the albedo are functions of vertices, light and albedo. What appears or vanishes at outlines has no gradient.
"""

from __future__ import annotations

import math

import torch

from facet.tracker.lighting import C0, C1, C2
from tools.raster import rasterise


def basis(normals: torch.Tensor) -> torch.Tensor:
    """`facet.tracker.lighting.basis` of unit normals (..., 3), view axes; (..., 9)."""
    x, y, z = normals.unbind(-1)
    return torch.stack(
        [
            torch.full_like(x, C0), -C1 * y, C1 * z, -C1 * x, C2 * x * y, -C2 * y * z,
            C2 * 0.5 / math.sqrt(3) * (3 * z * z - 1), -C2 * x * z, C2 * 0.5 * (x * x - y * y),
        ],
        dim=-1,
    )  # fmt: skip


def vertex_normals(points: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    """Unit normals (N, 3), view axes, of points (N, 3) px, y down; triangles counter-clockwise for the viewer."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    area = torch.linalg.cross(c - a, b - a)
    summed = torch.zeros_like(points).index_add(0, triangles.T.reshape(-1), area.repeat(3, 1))
    return torch.nn.functional.normalize(summed, dim=1, eps=1e-9) * points.new_tensor([1, -1, 1])


def visible(points: torch.Tensor, triangles: torch.Tensor, size_wh: tuple[int, int]) -> torch.Tensor:
    """The triangle that each pixel shows, (H, W) int64, -1 where none; no gradient."""
    found, _ = rasterise(points.detach().double().cpu().numpy(), triangles.cpu().numpy(), *size_wh)
    return torch.from_numpy(found).long().to(points.device)


def draw(
    points: torch.Tensor,
    triangles: torch.Tensor,
    albedo: torch.Tensor,
    light: torch.Tensor,
    size_wh: tuple[int, int],
    shown: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a lit mesh.

    Parameters
    ----------
    points : (N, 3) float, image px, y down, z larger is nearer
    triangles : (F, 3) int64, counter-clockwise for the viewer, y up
    albedo : (N, 3) float, R, G, B in [0, 1], at the vertices
    light : (3, 9) float, R, G, B, as `facet.tracker.lighting.Light.harmonics`
    shown : (H, W) int64, of `visible`, where it is at hand

    Returns
    -------
    image (H, W, 3) float, R, G, B, 0 where nothing is; mask (H, W) bool
    """
    shown = visible(points, triangles, size_wh) if shown is None else shown
    mask = shown >= 0
    row, column = torch.nonzero(mask, as_tuple=True)
    corners = triangles[shown[row, column]]  # (P, 3)
    a, b, c = (points[corners[:, k], :2] for k in range(3))
    at = torch.stack([column, row], dim=1).to(points.dtype) + 0.5

    def twice_area(one, other, third):
        u, v = other - one, third - one
        return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]

    whole = twice_area(a, b, c)
    weight = torch.stack([twice_area(at, b, c), twice_area(a, at, c), twice_area(a, b, at)], dim=1) / whole[:, None]
    values = torch.cat([vertex_normals(points, triangles), albedo], dim=1)
    mixed = (values[corners] * weight[..., None]).sum(dim=1)
    normal = torch.nn.functional.normalize(mixed[:, :3], dim=1, eps=1e-9)
    colour = mixed[:, 3:] * (basis(normal) @ light.T).clamp(min=0)
    image = points.new_zeros((*shown.shape, 3)).index_put((row, column), colour)
    return image, mask
