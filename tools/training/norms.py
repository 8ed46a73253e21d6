"""Batch norms: taken back out of ONNX files, in which they are folded into convolutions, and their statistics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from tools.training import TrainingError

LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


def read_layers(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases of an ONNX file's convolutions and linear layers, in the order in which they run.

    Batch norms that the export left behind their convolutions are folded into them.
    """
    graph = onnx.load(path).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in values:  # equal tensors are written once
            values[node.output[0]] = values[node.input[0]]
        elif node.op_type in ("Conv", "Gemm"):
            weight, *bias = (values[name] for name in node.input[1:])
            layers.append((weight, bias[0] if bias else np.zeros(len(weight), np.float32)))
        elif node.op_type == "BatchNormalization":
            scale, offset, mean, variance = (values[name] for name in node.input[1:])
            (epsilon,) = (a.f for a in node.attribute if a.name == "epsilon")
            weight, bias = layers.pop()
            gain = scale / np.sqrt(variance + epsilon)
            layers.append((weight * gain.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * gain + offset))
    return layers


@torch.no_grad()
def load_layers(net: nn.Module, example: torch.Tensor, layers: list, path: Path) -> None:
    """Put weights with folded batch norms into a network; its norms begin as identities that carry the biases.

    Parameters
    ----------
    example : an input, which shows the order in which the layers run
    layers : weights and biases, as of `read_layers`
    path : for messages

    Raises
    ------
    TrainingError
        If the network has other layers.
    """
    order = _call_order(net, example)
    plain = [k for k, layer in enumerate(order) if not isinstance(layer, nn.BatchNorm2d)]
    own, found = [tuple(order[k].weight.shape) for k in plain], [weight.shape for weight, _ in layers]
    if own != found:
        raise TrainingError(
            f"{path}: expected layers of shapes {own}, found {found}; use the recipe that it was made by"
        )
    for k, (weight, bias) in zip(plain, layers, strict=True):
        layer, norm = order[k], order[k + 1] if k + 1 < len(order) else None
        layer.weight.copy_(torch.from_numpy(weight.copy()))
        bias = torch.from_numpy(bias.copy())
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.ones_(norm.weight)
            norm.bias.copy_(bias)
            norm.running_mean.zero_()
            norm.running_var.fill_(1 - norm.eps)
        else:
            layer.bias.copy_(bias)


@torch.no_grad()
def keep_function(net: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Give batch norms the statistics of some batches, and weights with which they compute what they did before.

    So training, which norms by a batch's statistics, starts where a network of folded norms ended.
    """
    sums = {}

    def measure(norm, inputs):
        x = inputs[0].double()
        total = torch.stack(
            [x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), torch.full_like(x[0, :, 0, 0], x[:, 0].numel())]
        )
        sums[norm] = sums.get(norm, 0) + total

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    training = net.training
    net.eval()
    for images in batches:
        net(images)
    net.train(training)
    for hook in hooks:
        hook.remove()
    for norm, (total, squares, count) in sums.items():
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias += gain * (mean.float() - norm.running_mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(gain * (norm.running_var + norm.eps).sqrt())


@torch.no_grad()
def mean_of(states: list[dict[str, torch.Tensor]], parts: list[float]) -> dict[str, torch.Tensor]:
    """The weighted mean of networks' state dicts; their statistics must be taken anew (torch's update_bn)."""
    shares = [part / sum(parts) for part in parts]
    return {
        name: sum(share * state[name] for share, state in zip(shares, states, strict=True))
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def _call_order(net: nn.Module, example: torch.Tensor) -> list[nn.Module]:
    order = []
    layers = [module for module in net.modules() if isinstance(module, LAYERS)]
    hooks = [layer.register_forward_pre_hook(lambda layer, _: order.append(layer)) for layer in layers]
    training = net.training
    net.eval()(example)
    net.train(training)
    for hook in hooks:
        hook.remove()
    return order
