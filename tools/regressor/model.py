"""The network that regresses the parameters of a face from a crop.

Plain convolutions where the maps are large and thin, depthwise ones where they are small and deep: at these sizes that
is what a CPU does fastest, in training as in use. The last map is not averaged over: where a feature lies is what the
head has to find.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

PIXEL_SCALE = 1 / 255
SHAPES, EXPRESSIONS = 48, 53  # of weights/face_model.npz
MESH_POINTS = 120  # every fourth of MediaPipe's points


@dataclass(frozen=True, slots=True)
class Head:
    """An output of the network."""

    count: int  # of numbers
    activation: str = "linear"  # what the runtime makes of them: linear, clip (to 0..1), sigmoid, or pose


HEADS = {
    "pose": Head(9, "pose"),  # log scale, two rows of the rotation, shift; tracker/regressor.py reads it
    "shape": Head(SHAPES),
    "expression": Head(EXPRESSIONS, "clip"),
    "score": Head(1, "sigmoid"),
    # for a first stage without a face model
    "points": Head(136),
    "mesh": Head(2 * MESH_POINTS),
    "blink": Head(2),
    "gaze": Head(4),
}


@dataclass(frozen=True, slots=True)
class Net:
    """The [net] of a recipe."""

    widths: tuple[int, ...]  # channels at strides 2, 4, 8 and 16
    depths: tuple[int, ...]  # separable blocks at strides 4, 8 and 16
    reduced: int  # channels of the last map, which is flattened
    heads: tuple[str, ...]  # names of HEADS
    size_px: int = 112
    base_scale: float = 0.005  # scale in shares of the crop's side per mm where the head says 0

    def __post_init__(self):
        for name in self.heads:
            if name not in HEADS:
                raise ValueError(f"unknown head {name}; known: {', '.join(HEADS)}")


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Separable(nn.Module):
    """Depthwise and pointwise convolution around which the input is carried."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.wide = kernel > 3
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, kernel, 1, kernel // 2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        if not self.wide:
            return torch.relu(x + self.body(x))
        # in bfloat16 a processor's way back through large depthwise kernels takes three times that of float32
        with torch.autocast(x.device.type, enabled=False):
            spread = self.body[0](x.float())
        return torch.relu(x + self.body[1:](spread.to(x.dtype)))


class Backbone(nn.Module):
    """uint8 crops (B, S, S, 3) BGR -> features (B, F).

    Parameters
    ----------
    size_px : S, a multiple of 16
    widths : channels at strides 2, 4, 8 and 16
    depths : separable blocks at strides 4, 8 and 16
    reduced : channels of the last map, which is flattened
    """

    def __init__(self, size_px: int, widths: tuple, depths: tuple, reduced: int):
        super().__init__()
        layers = [conv(3, widths[0], stride=2)]
        for inputs, outputs, depth, kernel in zip(widths[:-1], widths[1:], depths, (3, 3, 5), strict=True):
            layers.append(conv(inputs, outputs, stride=2))
            layers += [Separable(outputs, kernel) for _ in range(depth)]
        layers.append(conv(widths[-1], reduced, kernel=1))
        self.body = nn.Sequential(*layers)
        self.size_px = size_px
        self.feature_count = reduced * (size_px // 16) ** 2

    def forward(self, crops):
        x = crops.permute(0, 3, 1, 2).float() * PIXEL_SCALE
        return self.body(x).flatten(1)


class FaceNet(nn.Module):
    """Backbone and named linear heads: uint8 crops (B, S, S, 3) BGR -> (B, n) by head."""

    def __init__(self, size_px: int, widths: tuple, depths: tuple, reduced: int, heads: dict[str, int]):
        super().__init__()
        self.backbone = Backbone(size_px, widths, depths, reduced)
        self.heads = nn.ModuleDict({name: nn.Linear(self.backbone.feature_count, n) for name, n in heads.items()})
        for head in self.heads.values():
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)
        if "pose" in heads:  # upright, in the middle of the crop
            with torch.no_grad():
                self.heads["pose"].bias[[1, 5]] = 1.0

    def example(self) -> torch.Tensor:
        """An input of the right shape."""
        size = self.backbone.size_px
        return torch.zeros(1, size, size, 3, dtype=torch.uint8, device=next(self.parameters()).device)

    def forward(self, crops) -> dict[str, torch.Tensor]:
        features = self.backbone(crops)
        return {name: head(features) for name, head in self.heads.items()}


def build(recipe) -> FaceNet:
    """A new network of a recipe's [net]."""
    net = recipe.net
    heads = {name: HEADS[name].count for name in net.heads}
    return FaceNet(net.size_px, net.widths, net.depths, net.reduced, heads)
