"""Networks that predict a head as a volume from one crop.

`VolumeNet` is the small one that facet trains; `AncestorNet` is VRN as published: a 200 x 192 x 192 volume from 192 px.
Source: Jackson et al., Large Pose 3D Face Reconstruction from a Single Image via Direct Volumetric CNN Regression,
ICCV 2017, and its converted module tree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from facet.tracker.volume import POINTS
from tools.heatmaps.model import PIXEL_SCALE, Stacks, block, cell_centres, conv

FAMILIES = ("hourglass", "vrn")
STRIDE = 4  # px of the crop a cell of the maps
EMPTY = -1.5  # the logit that maps start with


@dataclass(frozen=True, slots=True)
class Net:
    """The [net] of a recipe."""

    family: str = "hourglass"
    width: int = 96  # channels
    stacks: int = 1
    depth: int = 2  # how often each stack halves its maps
    size_px: int = 112
    slices: int = 128
    guided: bool = False  # the 68 landmarks as further channels of the input
    landmarks: bool = False  # the network predicts the 68 landmarks, too

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(f"unknown family {self.family}; known: {', '.join(FAMILIES)}")
        step = STRIDE * 2**self.depth
        if self.stacks < 1 or self.depth < 1 or self.width % 8 or self.size_px % step or self.slices < 1:
            raise ValueError(
                f"stacks, depth and slices must be at least 1, width a multiple of 8 and size_px one of {step}, got "
                f"{self.stacks}, {self.depth}, {self.slices}, {self.width} and {self.size_px}"
            )

    @property
    def channels(self) -> int:
        """Of the input: BGR, and a map a landmark where the network is guided."""
        return 3 + POINTS * self.guided


def build(recipe) -> nn.Module:
    """A new network of a recipe's [net]."""
    return (AncestorNet if recipe.net.family == "vrn" else VolumeNet)(recipe.net)


class VolumeNet(nn.Module):
    """uint8 crops (B, S, S, 3 or more) BGR -> what fills their columns.

    Returns
    -------
    dict:
    logits : (B, stacks, slices, S / 4, S / 4), of each stack
    points : (B, 68, 2) shares of the crop's side; only where the recipe asks for landmarks
    """

    def __init__(self, net: Net):
        super().__init__()
        quarter, half, width = net.width // 4, net.width // 2, net.width
        self.stem = nn.Sequential(
            conv(net.channels, quarter, stride=2),
            conv(quarter, half, stride=2),
            block("bottleneck", half, width),
            block("bottleneck", width, width),
        )
        self.stacks = Stacks(net.stacks, "hourglass", net.depth, "bottleneck", width, net.slices)
        for maps in self.stacks.maps:
            nn.init.constant_(maps.bias, EMPTY)
        if net.landmarks:
            self.landmarks = Landmarks(width, net.size_px // STRIDE)
        self.with_landmarks = net.landmarks

    def forward(self, crops) -> dict:
        found, features = self.stacks(self.stem(pixels(crops)))
        points = {"points": self.landmarks(features)} if self.with_landmarks else {}
        return {"logits": torch.stack(found, 1)} | points


class Landmarks(nn.Module):
    """Features (B, C, H, H) -> the expected places of the 68 landmarks, (B, 68, 2) shares of the side."""

    def __init__(self, channels: int, side: int):
        super().__init__()
        self.maps = nn.Conv2d(channels, POINTS, 1)
        self.register_buffer("cells", cell_centres(side))

    def forward(self, features):
        return torch.softmax(self.maps(features).float().flatten(2), dim=2) @ self.cells


class Residual(nn.Module):
    """The ancestor's block: three convolutions, each after its batch norm and ReLU, all with biases."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        half = outputs // 2
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, half, 1),
            nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, outputs, 1),
        )  # fmt: skip
        self.carry = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        return self.carry(x) + self.body(x)


def residuals(count: int, width: int) -> list[Residual]:
    """Blocks that keep their channels."""
    return [Residual(width, width) for _ in range(count)]


class AncestorLevel(nn.Module):
    """A level of the ancestor's hourglass. As published, the next level lies in the branch of full size."""

    def __init__(self, depth: int, width: int):
        super().__init__()
        inner = [AncestorLevel(depth - 1, width), Residual(width, width)] if depth > 1 else []
        self.full = nn.Sequential(*residuals(3, width), *inner)
        self.low = nn.Sequential(nn.MaxPool2d(2), *residuals(6 if depth > 1 else 9, width), nn.Upsample(scale_factor=2))

    def forward(self, x):
        return self.full(x) + self.low(x)


def pointwise(width: int) -> nn.Sequential:
    """1x1 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU())


class AncestorNet(nn.Module):
    """VRN: two hourglasses about residual blocks; input and output as of `VolumeNet`, with one map of logits."""

    def __init__(self, net: Net):
        super().__init__()
        width = net.width
        quarter, half = width // 4, width // 2
        self.stem = nn.Sequential(
            nn.Conv2d(net.channels, quarter, 7, stride=2, padding=3), nn.BatchNorm2d(quarter), nn.ReLU(),
            Residual(quarter, half), nn.MaxPool2d(2), Residual(half, half), Residual(half, width),
        )  # fmt: skip
        self.hourglasses = nn.ModuleList(
            nn.Sequential(AncestorLevel(net.depth, width), Residual(width, width), pointwise(width), pointwise(width))
            for _ in range(net.stacks)
        )
        self.head = nn.Sequential(pointwise(width), nn.Conv2d(width, net.slices, 1))
        if net.landmarks:
            self.landmarks = Landmarks(width, net.size_px // STRIDE)
        self.with_landmarks = net.landmarks

    def forward(self, crops) -> dict:
        x = self.stem(pixels(crops))
        for hourglass in self.hourglasses:
            x = x + hourglass(x)
        points = {"points": self.landmarks(x)} if self.with_landmarks else {}
        return {"logits": self.head(x)[:, None]} | points


def pixels(crops: torch.Tensor) -> torch.Tensor:
    """uint8 (B, S, S, C) -> (B, C, S, S) in [-1, 1]."""
    return crops.permute(0, 3, 1, 2).float() * PIXEL_SCALE - 1


def columns(logits: torch.Tensor, cells: torch.Tensor, size: int) -> torch.Tensor:
    """Logits of some columns, as of the whole volume that `enlarged` makes.

    Parameters
    ----------
    logits : (B, slices, H, H)
    cells : (B, n) int, row * size + column each

    Returns
    -------
    (B, n, slices)
    """
    row, column = torch.div(cells, size, rounding_mode="floor"), cells % size
    grid = (torch.stack([column, row], 2).to(logits.dtype) + 0.5) * (2 / size) - 1
    found = functional.grid_sample(logits, grid[:, :, None], padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)


def enlarged(logits: torch.Tensor) -> torch.Tensor:
    """Logits (B, slices, H, H) of all columns, (B, slices, 4 H, 4 H)."""
    return functional.interpolate(logits, scale_factor=STRIDE, mode="bilinear", align_corners=False)
