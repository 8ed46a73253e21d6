"""The detector's network: FaceBoxes' ideas - rapid digestion, CReLU, several scales, dense anchors for small faces -
in a form that measured faster and better: strides 8, 16 and 32, one anchor point a cell, boxes as distances to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Net:
    """The [net] of a recipe."""

    widths: tuple[int, ...]  # channels of the stem, the digestion, and strides 8, 16 and 32
    depths: tuple[int, ...]  # blocks at strides 8, 16 and 32
    neck: int = 64  # channels where the strides meet


def build(recipe) -> FaceBoxes:
    """A new network of a recipe's [net]."""
    return FaceBoxes(recipe.net.widths, recipe.net.neck, recipe.net.depths)


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation, ReLU; the first two are fused at export."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, relu: bool = True):
        layers = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class CReLU(nn.Module):
    """Convolution and normalisation, then the positive and the negative part side by side: twice the channels."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv = ConvNorm(inputs, outputs // 2, 3, stride, relu=False)

    def forward(self, x):
        x = self.conv(x)
        return F.relu(torch.cat([x, -x], dim=1))


class Block(nn.Module):
    """Depthwise and pointwise convolution with a shortcut; stride 2 has none."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3):
        super().__init__()
        self.shortcut = stride == 1 and inputs == outputs
        self.depthwise = ConvNorm(inputs, inputs, kernel, stride, groups=inputs, relu=False)
        self.pointwise = ConvNorm(inputs, outputs, 1)

    def forward(self, x):
        y = self.pointwise(self.depthwise(x))
        return x + y if self.shortcut else y


class FaceBoxes(nn.Module):
    """Images (B, H, W, 3) uint8 BGR, sides multiples of 32, to scores and distances on a grid of points."""

    def __init__(self, widths, neck: int, depths):
        super().__init__()
        stem, digest, small, middle, large = widths
        self.stem = nn.Sequential(ConvNorm(3, stem, 3, 2), CReLU(stem, digest, 2), ConvNorm(digest, small, 3, 2))
        self.small = nn.Sequential(*[Block(small, small) for _ in range(depths[0])])
        self.middle = nn.Sequential(Block(small, middle, 2), *[Block(middle, middle) for _ in range(depths[1])])
        self.large = nn.Sequential(Block(middle, large, 2), *[Block(large, large, kernel=5) for _ in range(depths[2])])
        self.lateral = nn.ModuleList([ConvNorm(width, neck, 1) for width in (small, middle, large)])
        self.smooth = nn.ModuleList([Block(neck, neck) for _ in STRIDES])
        self.head = nn.ModuleList([nn.Sequential(Block(neck, neck), Block(neck, neck)) for _ in STRIDES])
        self.score = nn.ModuleList([nn.Conv2d(neck, 1, 3, padding=1) for _ in STRIDES])
        self.distance = nn.ModuleList([nn.Conv2d(neck, 4, 1) for _ in STRIDES])
        for layer in self.score:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, -4.6)  # one point in a hundred is a face
        for layer in self.distance:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, 0.0)

    def forward(self, images) -> dict[str, torch.Tensor]:
        logits, distances = self.grid(images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last))
        return {"logits": logits, "distances": distances}

    def grid(self, image):
        """Images (B, 3, H, W) float, 0..255 -> logits (B, P), distances left, top, right, bottom (B, P, 4) px."""
        x = self.small(self.stem((image - 127.5) * (1 / 64)))
        middle = self.middle(x)
        large = self.large(middle)
        maps = [lateral(level) for lateral, level in zip(self.lateral, (x, middle, large), strict=True)]
        maps[1] = maps[1] + F.interpolate(maps[2], scale_factor=2.0, mode="nearest")
        maps[0] = maps[0] + F.interpolate(maps[1], scale_factor=2.0, mode="nearest")
        logits, distances = [], []
        for index, stride in enumerate(STRIDES):
            y = self.head[index](self.smooth[index](maps[index]))
            logits.append(self.score[index](y).flatten(2)[:, 0])
            distance = torch.exp(self.distance[index](y).clamp(-4, 5)) * (1.5 * stride)
            distances.append(distance.flatten(2).transpose(1, 2))
        return torch.cat(logits, 1), torch.cat(distances, 1)


def grid_points(height: int, width: int, device=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres of the cells, (P, 2) px, and their strides, (P,), in the order of the network's output."""
    points, strides = [], []
    for stride in STRIDES:
        y = (torch.arange(height // stride, device=device) + 0.5) * stride
        x = (torch.arange(width // stride, device=device) + 0.5) * stride
        yy, xx = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack([xx.flatten(), yy.flatten()], 1))
        strides.append(torch.full((points[-1].shape[0],), float(stride), device=device))
    return torch.cat(points), torch.cat(strides)


def boxes_at(points: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """Points (P, 2) and distances (..., P, 4) as boxes x_min, y_min, x_max, y_max."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)
