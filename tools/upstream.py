"""The networks of FaceBoxes and 3DDFA_V2 in torch, with the names that their checkpoints use.

Written from tables of layers; they exist to read released checkpoints, not to be trained.

Source: Zhang et al., FaceBoxes: A CPU Real-time Face Detector with High Accuracy, IJCB 2017; Guo et al., Towards Fast,
Accurate and Stable 3D Dense Face Alignment, ECCV 2020; Howard et al., MobileNets, 2017.
"""

from __future__ import annotations

import torch
from torch import nn

PARAMS = 62  # affine camera 12, shape 40, expression 10


class ConvBnRelu(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class CRelu(ConvBnRelu):
    """Both signs of each response: twice the channels for one convolution."""

    def forward(self, x):
        x = self.bn(self.conv(x))
        return torch.relu(torch.cat([x, -x], dim=1))


class Inception(nn.Module):
    """Four branches of 32 channels that see 1, 3, 3 and 5 px."""

    def __init__(self):
        super().__init__()
        self.branch1x1 = ConvBnRelu(128, 32, 1)
        self.branch1x1_2 = ConvBnRelu(128, 32, 1)
        self.branch3x3_reduce = ConvBnRelu(128, 24, 1)
        self.branch3x3 = ConvBnRelu(24, 32, 3, padding=1)
        self.branch3x3_reduce_2 = ConvBnRelu(128, 24, 1)
        self.branch3x3_2 = ConvBnRelu(24, 32, 3, padding=1)
        self.branch3x3_3 = ConvBnRelu(32, 32, 3, padding=1)

    def forward(self, x):
        pooled = nn.functional.avg_pool2d(x, 3, 1, 1)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch1x1_2(pooled),
                self.branch3x3(self.branch3x3_reduce(x)),
                self.branch3x3_3(self.branch3x3_2(self.branch3x3_reduce_2(x))),
            ],
            dim=1,
        )


class FaceBoxes(nn.Module):
    """(N, 3, H, W) BGR less its mean -> offsets (N, P, 4), face probabilities (N, P)."""

    def __init__(self):
        super().__init__()
        self.conv1 = CRelu(3, 24, 7, 4, 3)
        self.conv2 = CRelu(48, 64, 5, 2, 2)
        self.inception1, self.inception2, self.inception3 = Inception(), Inception(), Inception()
        self.conv3_1, self.conv3_2 = ConvBnRelu(128, 128, 1), ConvBnRelu(128, 256, 3, 2, 1)
        self.conv4_1, self.conv4_2 = ConvBnRelu(256, 128, 1), ConvBnRelu(128, 256, 3, 2, 1)
        channels, anchors = (128, 256, 256), (21, 1, 1)
        self.loc = nn.ModuleList(nn.Conv2d(c, 4 * a, 3, padding=1) for c, a in zip(channels, anchors, strict=True))
        self.conf = nn.ModuleList(nn.Conv2d(c, 2 * a, 3, padding=1) for c, a in zip(channels, anchors, strict=True))

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x), 3, 2, 1)
        x = nn.functional.max_pool2d(self.conv2(x), 3, 2, 1)
        sources = [self.inception3(self.inception2(self.inception1(x)))]
        sources.append(self.conv3_2(self.conv3_1(sources[-1])))
        sources.append(self.conv4_2(self.conv4_1(sources[-1])))
        loc, conf = (
            torch.cat([head(s).permute(0, 2, 3, 1).flatten(1) for head, s in zip(heads, sources, strict=True)], dim=1)
            for heads in (self.loc, self.conf)
        )
        return loc.unflatten(1, (-1, 4)), conf.unflatten(1, (-1, 2)).softmax(dim=-1)[..., 1]


class DepthwiseSeparable(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.bn_dw = nn.BatchNorm2d(inputs)
        self.conv_sep = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(outputs)

    def forward(self, x):
        x = torch.relu(self.bn_dw(self.conv_dw(x)))
        return torch.relu(self.bn_sep(self.conv_sep(x)))


MOBILENET_BLOCKS = (  # name, channels at width 1, stride
    ("dw2_1", 64, 1),
    ("dw2_2", 128, 2),
    ("dw3_1", 128, 1),
    ("dw3_2", 256, 2),
    ("dw4_1", 256, 1),
    ("dw4_2", 512, 2),
    ("dw5_1", 512, 1),
    ("dw5_2", 512, 1),
    ("dw5_3", 512, 1),
    ("dw5_4", 512, 1),
    ("dw5_5", 512, 1),
    ("dw5_6", 1024, 2),
    ("dw6", 1024, 1),
)


class MobileNet(nn.Module):
    """MobileNet V1: (N, 3, S, S) -> (N, 62)."""

    def __init__(self, width: float = 1.0):
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Conv2d(3, channels, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for name, outputs, stride in MOBILENET_BLOCKS:
            outputs = int(outputs * width)
            self.add_module(name, DepthwiseSeparable(channels, outputs, stride))
            channels = outputs
        self.fc = nn.Linear(channels, PARAMS)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        for name, _, _ in MOBILENET_BLOCKS:
            x = getattr(self, name)(x)
        return self.fc(x.mean(dim=(2, 3)))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        straight = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + straight)


class ResNet22(nn.Module):
    """(N, 3, S, S) -> (N, 62)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, 2, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        channels = 64
        for stage, (outputs, blocks) in enumerate(((128, 3), (256, 4), (512, 3)), start=1):
            layers = [BasicBlock(channels, outputs, 2)]
            layers += [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            channels = outputs
        self.conv_param = nn.Conv2d(channels, PARAMS, 1)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.conv_param(x).mean(dim=(2, 3))


class FromBytes(nn.Module):
    """A network that takes (N, H, W, 3) uint8 BGR: what it does to its pixels is inside."""

    def __init__(self, network: nn.Module, mean: tuple[float, float, float], std: float):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.std = std

    def forward(self, pixels):
        return self.network((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)
