"""Heatmap networks: stacked hourglasses and scale aggregation topologies, with the blocks of the SDU aligners.

`AncestorNet` is the SDU aligner as published; `Aligner` is the small one that facet trains: 87 points at sub-pixel
places with depth, visibility and spread, and a mask of the visible face.
Source: Guo et al., Stacked Dense U-Nets with Dual Transformers for Robust Face Alignment, BMVC 2018, and its code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from tools.data.anatomical import COUNT

PIXEL_SCALE = 1 / 127.5
BLOCKS = ("bottleneck", "inception", "hpm", "cab")
TOPOLOGIES = ("hourglass", "sat")
SUMMARY = ("depth", "visible", "spread")  # what is read from the features under a point's map


@dataclass(frozen=True, slots=True)
class Net:
    """The [net] of a recipe."""

    width: int  # channels
    stacks: int
    depth: int  # how often each stack halves its maps
    block: str = "bottleneck"
    topology: str = "hourglass"
    size_px: int = 128

    def __post_init__(self):
        if self.block not in BLOCKS:
            raise ValueError(f"unknown block {self.block}; known: {', '.join(BLOCKS)}")
        if self.topology not in TOPOLOGIES:
            raise ValueError(f"unknown topology {self.topology}; known: {', '.join(TOPOLOGIES)}")
        step = 4 * 2**self.depth
        if self.stacks < 1 or self.depth < 1 or self.width % 8 or self.size_px % step:
            raise ValueError(
                f"stacks and depth must be at least 1, width a multiple of 8 and size_px one of {step}, "
                f"got {self.stacks}, {self.depth}, {self.width} and {self.size_px}"
            )


def build(recipe) -> Aligner:
    """A new network of a recipe's [net]."""
    return Aligner(recipe.net)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def before(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Batch norm, ReLU, convolution."""
    return nn.Sequential(
        nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False)
    )


def depthwise(channels: int) -> nn.Sequential:
    """Depthwise 3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def identity(inputs: int, outputs: int) -> nn.Module:
    """The input as it is, or by a 1x1 convolution where the number of channels changes."""
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)


class Bottleneck(nn.Module):
    """Residual block: 1x1 to half of the channels, 3x3, 1x1, each after its batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        half = outputs // 2
        self.body = nn.Sequential(before(inputs, half, 1), before(half, half), before(half, outputs, 1))
        self.carry = identity(inputs, outputs)

    def forward(self, x):
        return self.carry(x) + self.body(x)


class Inception(nn.Module):
    """Residual block of three branches with fields of 1, 3 and 5 cells. Channels stay; elsewhere see `block`."""

    def __init__(self, channels: int):
        super().__init__()
        quarter, more, half = channels // 4, channels * 3 // 8, channels // 2
        self.narrow = conv(channels, quarter, 1)
        self.middle = nn.Sequential(conv(channels, quarter, 1), conv(quarter, quarter))
        self.wide = nn.Sequential(conv(channels, quarter, 1), conv(quarter, more), conv(more, half))
        self.back = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return functional.relu(x + self.back(torch.cat([self.narrow(x), self.middle(x), self.wide(x)], 1)))


class Parallel(nn.Module):
    """HPM, hierarchical parallel multi-scale: three 3x3 convolutions in a row, all three outputs side by side."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        half, quarter = outputs // 2, outputs // 4
        self.first, self.second, self.third = before(inputs, half), before(half, quarter), before(quarter, quarter)
        self.carry = identity(inputs, outputs)

    def forward(self, x):
        first = self.first(x)
        second = self.second(first)
        return self.carry(x) + torch.cat([first, second, self.third(second)], 1)


class ChannelAggregation(nn.Module):
    """CAB: a triangular grid whose bottom row halves the channels; each node joins two of the row below."""

    def __init__(self, channels: int, grid: int = 4):
        super().__init__()
        self.grid = grid
        self.halve = nn.ModuleList([conv(channels >> k, channels >> (k + 1)) for k in range(grid - 1)])
        self.aside = nn.ModuleDict(
            {
                f"{w}_{h}": depthwise(channels >> (h - w))
                for h in range(1, grid)
                for w in range(1, h + 1)
                if odd_aside(w, h)
            }
        )

    def forward(self, x):
        row = [x]
        for halve in self.halve:
            row.append(halve(row[-1]))
        row = row[::-1]  # row[w - 1]
        for h in range(self.grid - 1, 0, -1):
            row = [self._join(row[w], row[w - 1], w, h) for w in range(1, h + 1)]
        return row[0]

    def _join(self, x, y, w: int, h: int):
        x = self.aside[f"{w}_{h}"](x) if odd_aside(w, h) else x
        return (x + torch.cat([y, y], 1)) / 2


def odd_aside(w: int, h: int) -> bool:
    """Whether a node of the grid sees its wider input through a depthwise convolution."""
    return h % 2 == 1 and h != w


def block(kind: str, inputs: int, outputs: int) -> nn.Module:
    """A block of BLOCKS; those that cannot change the number of channels are replaced where it changes, as upstream."""
    if kind == "inception":
        return Inception(outputs) if inputs == outputs else Bottleneck(inputs, outputs)
    if kind == "cab":
        return ChannelAggregation(outputs) if inputs == outputs else Parallel(inputs, outputs)
    return {"bottleneck": Bottleneck, "hpm": Parallel}[kind](inputs, outputs)


class Hourglass(nn.Module):
    """Down `depth` times and up again, adding what each size had."""

    def __init__(self, depth: int, kind: str, channels: int):
        super().__init__()
        self.up = block(kind, channels, channels)
        self.low = nn.Sequential(
            nn.MaxPool2d(2),
            block(kind, channels, channels),
            Hourglass(depth - 1, kind, channels) if depth > 1 else block(kind, channels, channels),
            block(kind, channels, channels),
            nn.Upsample(scale_factor=2),
        )

    def forward(self, x):
        return self.up(x) + self.low(x)


class ScaleAggregation(nn.Module):
    """SAT: a triangular grid whose bottom row halves the size; each node joins two of the row below."""

    def __init__(self, depth: int, kind: str, channels: int):
        super().__init__()
        self.grid = grid = depth + 1
        self.halve = nn.ModuleList(
            [
                nn.Sequential(block(kind, channels, channels), nn.MaxPool2d(2), block(kind, channels, channels))
                for _ in range(depth)
            ]
        )
        self.aside, self.enlarge = nn.ModuleDict(), nn.ModuleDict()
        for h in range(1, grid):
            for w in range(1, h + 1):
                if odd_aside(w, h):
                    self.aside[f"{w}_{h}"] = depthwise(channels)
                self.enlarge[f"{w}_{h}"] = (
                    nn.Sequential(
                        nn.ConvTranspose2d(channels, channels, 2, 2, bias=False),
                        nn.BatchNorm2d(channels),
                        nn.ReLU(inplace=True),
                    )
                    if w > 1
                    else nn.Sequential(nn.Upsample(scale_factor=2), block(kind, channels, channels))
                )

    def forward(self, x):
        row = [x]
        for halve in self.halve:
            row.append(halve(row[-1]))
        row = row[::-1]
        for h in range(self.grid - 1, 0, -1):
            row = [self._join(row[w], row[w - 1], w, h) for w in range(1, h + 1)]
        return row[0]

    def _join(self, x, y, w: int, h: int):
        x = self.aside[f"{w}_{h}"](x) if odd_aside(w, h) else x
        return (x + self.enlarge[f"{w}_{h}"](y)) / 2


def topology(name: str, depth: int, kind: str, channels: int) -> nn.Module:
    """One of TOPOLOGIES."""
    return {"hourglass": Hourglass, "sat": ScaleAggregation}[name](depth, kind, channels)


class Stacks(nn.Module):
    """Stacked topologies, each with maps of its own; what one found goes into the next.

    Returns the maps of each stack, [(B, maps, H, W)], and the last stack's features (B, channels, H, W).
    """

    def __init__(self, stacks: int, name: str, depth: int, kind: str, channels: int, maps: int):
        super().__init__()
        self.bodies = nn.ModuleList(
            [
                nn.Sequential(
                    topology(name, depth, kind, channels), block(kind, channels, channels), conv(channels, channels, 1)
                )
                for _ in range(stacks)
            ]
        )
        self.maps = nn.ModuleList([nn.Conv2d(channels, maps, 1) for _ in range(stacks)])
        self.carry_features = nn.ModuleList([nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1)])
        self.carry_maps = nn.ModuleList([nn.Conv2d(maps, channels, 1) for _ in range(stacks - 1)])

    def forward(self, x):
        found = []
        for k, (body, head) in enumerate(zip(self.bodies, self.maps, strict=True)):
            features = body(x)
            found.append(head(features))
            if k < len(self.carry_maps):
                x = x + self.carry_features[k](features) + self.carry_maps[k](found[-1])
        return found, features


class AncestorNet(nn.Module):
    """The SDU aligner: float crops (B, 3, 128, 128) in [-1, 1], RGB -> maps of each stack, [(B, 68, 64, 64)]."""

    def __init__(self, name: str, depth: int, kind: str, stacks: int = 2, width: int = 256, maps: int = 68):
        super().__init__()
        quarter, half = width // 4, width // 2
        self.stem = nn.Sequential(
            conv(3, quarter), block(kind, quarter, half), nn.MaxPool2d(2), block(kind, half, half),
            block(kind, half, width),
        )  # fmt: skip
        self.stacks = Stacks(stacks, name, depth, kind, width, maps)

    def forward(self, crops):
        return self.stacks(self.stem(crops))[0]


class Aligner(nn.Module):
    """uint8 crops (B, S, S, 3) BGR -> points and what is known of them.

    Returns
    -------
    dict, lengths in shares of the crop's side:
    logits : (B, stacks, 87, S / 4, S / 4), the maps of each stack
    places : (B, 87, 2)
    depth : (B, 87), larger is nearer
    visible : (B, 87), logit
    spread : (B, 87), log of the expected distance from the truth
    face : (B, S / 4, S / 4), logit of the visible face
    """

    def __init__(self, net: Net):
        super().__init__()
        kind, width = net.block, net.width
        quarter, half = width // 4, width // 2
        self.stem = nn.Sequential(
            conv(3, quarter, stride=2),
            conv(quarter, half, stride=2),
            block(kind, half, width),
            block(kind, width, width),
        )
        self.stacks = Stacks(net.stacks, net.topology, net.depth, kind, width, COUNT + 1)
        self.summary = nn.Parameter(torch.zeros(len(SUMMARY), COUNT, width))
        self.summary_bias = nn.Parameter(torch.zeros(len(SUMMARY), COUNT))
        with torch.no_grad():
            self.summary_bias[SUMMARY.index("spread")] = -4.0
        self.register_buffer("cells", cell_centres(net.size_px // 4))

    def forward(self, crops) -> dict:
        x = crops.permute(0, 3, 1, 2).float() * PIXEL_SCALE - 1
        found, features = self.stacks(self.stem(x))
        found = [maps.float() for maps in found]
        weight = torch.softmax(found[-1][:, :COUNT].flatten(2), dim=2)
        under = weight @ features.float().flatten(2).transpose(1, 2)  # (B, 87, width)
        summary = (under[:, None] * self.summary).sum(3) + self.summary_bias
        return {
            "logits": torch.stack([maps[:, :COUNT] for maps in found], 1),
            "places": weight @ self.cells,
            "face": found[-1][:, COUNT],
        } | {name: summary[:, k] for k, name in enumerate(SUMMARY)}


def cell_centres(side: int) -> torch.Tensor:
    """(side * side, 2) x and y in shares of the map's side."""
    centre = (torch.arange(side) + 0.5) / side
    return torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=2).reshape(-1, 2)
