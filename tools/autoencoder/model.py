"""A face autoencoder, and landmark heads on its decoder.

The encoder is the regressor's backbone and a linear layer to a code; the decoder draws the face from the code. A
landmark network puts convolutions between the decoder's layers, so that what the decoder knows of faces serves to
place points: then few annotated images suffice. Source: ParFace-Net, and 3FabRec (Browatzki and Wallraven, CVPR 2020).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import nn

from tools.regressor.model import PIXEL_SCALE, Backbone, conv

PARTS = ("backbone", "code", "decoder", "heads")
LEVELS = 5  # of the decoder: S / 16, S / 8, S / 4, S / 2, S
MAP_LEVEL = 3  # whose maps place the points
SHARPNESS = 4  # power of a map whose centre of mass is the point: what is low everywhere must not count


@dataclass(frozen=True, slots=True)
class Net:
    """The [net] of a recipe."""

    widths: tuple[int, ...]  # of the backbone, as of the regressor's
    depths: tuple[int, ...]
    reduced: int
    code: int  # numbers that stand for a face
    decoder: tuple[int, ...]  # channels at S / 16, S / 8, S / 4, S / 2 and S
    size_px: int = 64
    points: int = 0  # landmarks; 0 is the autoencoder itself
    trained: tuple[str, ...] = PARTS  # parts that learn; the others are frozen
    heads_first: int = 0  # samples in which only the heads learn

    def __post_init__(self):
        for name in self.trained:
            if name not in PARTS:
                raise ValueError(f"unknown part {name}; known: {', '.join(PARTS)}")
        if len(self.decoder) != LEVELS or self.size_px % 16 or min(*self.decoder, self.code) < 1 or self.points < 0:
            raise ValueError(
                f"decoder must have {LEVELS} positive widths, size_px be a multiple of 16, code positive and points 0 "
                f"or more, got {self.decoder}, {self.size_px}, {self.code} and {self.points}"
            )


class Enlarge(nn.Module):
    """Maps of twice the side: a transposed convolution, and one more convolution where the maps are small."""

    def __init__(self, inputs: int, outputs: int, more: bool):
        super().__init__()
        layers = [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
        layers += [nn.ReLU(inplace=True)] + ([conv(outputs, outputs)] if more else [])
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return self.body(x)


class Decoder(nn.Module):
    """Codes (B, n) -> images (B, 3, S, S) BGR, 0 to 1."""

    def __init__(self, code: int, widths: tuple[int, ...], size_px: int):
        super().__init__()
        self.side, self.width = size_px // 16, widths[0]
        self.first = nn.Linear(code, self.width * self.side**2)
        pairs = itertools.pairwise(widths)
        self.enlarge = nn.ModuleList([Enlarge(a, b, more=k < MAP_LEVEL) for k, (a, b) in enumerate(pairs)])
        self.last = nn.Conv2d(widths[-1], 3, 3, 1, 1)

    def start(self, code):
        """The smallest maps, (B, n, S / 16, S / 16)."""
        return torch.relu(self.first(code)).unflatten(1, (self.width, self.side, self.side))

    def forward(self, code):
        x = self.start(code)
        for enlarge in self.enlarge:
            x = enlarge(x)
        return torch.sigmoid(self.last(x))


class Heads(nn.Module):
    """Convolutions between the decoder's layers, a map a point, and its depth from the features under that map."""

    def __init__(self, widths: tuple[int, ...], points: int):
        super().__init__()
        between = widths[: MAP_LEVEL + 1]
        self.adapt = nn.ModuleList([conv(width, width) for width in between])
        self.maps = nn.Sequential(conv(between[-1], 2 * between[-1], 1), nn.Conv2d(2 * between[-1], points, 1))
        self.depth = nn.Parameter(torch.zeros(points, between[-1]))
        self.mean_depth = nn.Parameter(torch.zeros(points))

    def forward(self, decoder: Decoder, code):
        x = self.adapt[0](decoder.start(code))
        for enlarge, adapt in zip(decoder.enlarge, self.adapt[1:], strict=False):
            x = adapt(enlarge(x))
        maps = self.maps(x).float()
        weight = maps.flatten(2).clamp(min=0) ** SHARPNESS + 1e-9
        weight = weight / weight.sum(2, keepdim=True)
        side = maps.shape[-1]
        centre = (torch.arange(side, device=maps.device) + 0.5) / side
        cells = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), 2).reshape(-1, 2)
        under = weight @ x.float().flatten(2).transpose(1, 2)  # (B, points, channels)
        return {"maps": maps, "places": weight @ cells, "depth": (under * self.depth).sum(2) + self.mean_depth}


class Autoencoder(nn.Module):
    """uint8 crops (B, S, S, 3) BGR -> what was learnt of them.

    Returns
    -------
    dict; of the autoencoder itself:
    code : (B, n)
    image : (B, 3, S, S), BGR, 0 to 1
    of a landmark network, lengths in shares of the crop's side:
    maps : (B, points, S / 2, S / 2), near 1 at the point and 0 elsewhere
    places : (B, points, 2)
    depth : (B, points), larger is nearer
    """

    def __init__(self, net: Net):
        super().__init__()
        self.backbone = Backbone(net.size_px, net.widths, net.depths, net.reduced)
        self.code = nn.Linear(self.backbone.feature_count, net.code)
        self.decoder = Decoder(net.code, net.decoder, net.size_px)
        self.heads = Heads(net.decoder, net.points) if net.points else None
        self.trained, self.heads_first = net.trained, net.heads_first
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))  # samples of `heads_first` so far
        for name, part in self.named_children():
            part.requires_grad_(name in self.trained)
        if self.heads is not None:  # the points come from an earlier layer
            for unused in (self.decoder.enlarge[MAP_LEVEL:], self.decoder.last):
                unused.requires_grad_(False)

    def train(self, mode: bool = True):
        """Frozen parts keep the statistics of their batch norms, too."""
        super().train(mode)
        for name, part in self.named_children():
            if name not in self.trained or (name != "heads" and self.only_heads):
                part.eval()
        return self

    @property
    def only_heads(self) -> bool:
        """Whether the heads still learn alone."""
        return self.heads is not None and int(self.seen) < self.heads_first

    def encode(self, crops):
        """Codes (B, n) of crops."""
        return self.code(self.backbone(crops))

    def forward(self, crops) -> dict[str, torch.Tensor]:
        code = self.encode(crops)
        if self.heads is None:
            return {"code": code, "image": self.decoder(code)}
        if self.training and self.only_heads:
            code = code.detach()
            self.seen += len(crops)
        return self.heads(self.decoder, code)


def build(recipe) -> Autoencoder:
    """A new network of a recipe's [net]."""
    return Autoencoder(recipe.net)


def as_images(crops: torch.Tensor) -> torch.Tensor:
    """uint8 crops (B, S, S, 3) as (B, 3, S, S), 0 to 1."""
    return crops.permute(0, 3, 1, 2).float() * PIXEL_SCALE


class Critic(nn.Module):
    """Images (B, 3, S, S), 0 to 1 -> (B,): higher for photographs than for what the decoder draws."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 128)):
        super().__init__()
        layers, inputs = [], 3
        for outputs in widths:  # no batch norm: the penalty on the gradient is of each image by itself
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
            inputs = outputs
        self.body = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 3, 1, 1))

    def forward(self, images):
        return self.body(2 * images - 1).mean((1, 2, 3))


def gradient_penalty(critic: nn.Module, real: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Mean squared distance from 1 of the norm of the critic's gradient, between real and drawn images.

    Source: Gulrajani et al., Improved Training of Wasserstein GANs, 2017.
    """
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = (share * real + (1 - share) * drawn).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
