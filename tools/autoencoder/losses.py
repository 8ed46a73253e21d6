"""The losses of the autoencoder and of landmark networks on it: named functions of a batch of `Compared`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from facet.tracker.weights import ROOT
from tools.autoencoder.data import Recipe, held_out_crops, load, training_rows
from tools.autoencoder.model import Autoencoder, Critic, as_images, gradient_penalty
from tools.training import checkpoint
from tools.training.terms import registry

VALIDATED = 400  # held-out faces at most
AT_ONCE = 64
SHEET = 12  # faces of a sheet
FEATURES = ROOT / "weights" / "regressor.onnx"  # whose backbone compares images
SIGMA_CELLS = 1.75  # of a point's map; as the ancestor's 7 px of 128
SSIM_PX, SSIM_SHADES = 7, (0.01**2, 0.03**2)
# Source: Wang et al., Adaptive Wing Loss, ICCV 2019
OMEGA, THETA, EPSILON, ALPHA = 14.0, 0.5, 1.0, 2.1
NEAR_WEIGHT, NEAR = 10.0, 0.2  # of cells at which the target, dilated by a cell, is at least so high

LOSSES: dict[str, Callable[[Compared], torch.Tensor]] = {}
loss = registry(LOSSES)


class Compared:
    """What the network predicts of a batch and what is true of it.

    Attributes
    ----------
    output, batch : of `model.Autoencoder` and `data.FaceSampler`
    judge : has what compares images: the critic and the features
    judged : whether the critic judges this batch
    """

    def __init__(self, output: dict, batch: dict, judge: Judge, judged: bool):
        self.output, self.batch, self.judge, self.judged = output, batch, judge, judged

    @cached_property
    def real(self) -> torch.Tensor:
        """(B, 3, S, S), 0 to 1."""
        return as_images(self.batch["images"])

    @property
    def drawn(self) -> torch.Tensor:
        """The reconstructions, (B, 3, S, S)."""
        return self.output["image"]

    @cached_property
    def side(self) -> int:
        """Of the maps, cells."""
        return self.output["maps"].shape[-1]


class Judge:
    """Compares a network's output with images and labels; of an autoencoder it trains the critic beside it."""

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device, teacher: Path | None = None):
        self._recipe, self._device = recipe, device
        faces = load(folder, recipe)
        self.rows = training_rows(faces, recipe)  # so that what the recipe asks for is checked at once
        self._crops, self._points = held_out_crops(faces, recipe, VALIDATED)
        self._batches = 0
        self.features = self.critic = None
        if "features" in recipe.losses:
            self.features = checkpoint.open_network(FEATURES, device)[1].backbone.body
            self.features.requires_grad_(False)
        if "critic" in recipe.losses and recipe.critic.every:
            self.critic = Critic().to(device)
            self._optimiser = torch.optim.Adam(self.critic.parameters(), recipe.critic.lr, betas=(0.0, 0.9))

    def compare(self, output: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> Compared:
        """What the losses take; the critic takes a step of its own before it judges."""
        self._batches += 1
        judged = self.critic is not None and self._batches % self._recipe.critic.every == 0
        compared = Compared(output, batch, self, judged)
        if judged:
            cost = critic_cost(self.critic, compared.real, compared.drawn.detach(), self._recipe.critic.penalty)
            self._optimiser.zero_grad(set_to_none=True)
            cost.backward()
            self._optimiser.step()
        return compared

    def state_dict(self) -> dict:
        """What a run that is resumed needs of the critic."""
        if self.critic is None:
            return {}
        return {"critic": self.critic.state_dict(), "optimiser": self._optimiser.state_dict(), "batches": self._batches}

    def load_state_dict(self, state: dict) -> None:
        """Take up what `state_dict` gave."""
        if self.critic is not None and state:
            self.critic.load_state_dict(state["critic"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._batches = state["batches"]

    def validate(self, net: Autoencoder) -> dict[str, float]:
        """On held-out faces: mean difference in levels and SSIM of reconstructions, or errors of points in %."""
        if not len(self._crops):
            return {}
        found = predict(net, self._crops)
        if net.heads is not None:
            return point_errors(found["places"] * self._recipe.net.size_px, self._points)
        real = as_images(torch.from_numpy(self._crops))
        drawn = torch.from_numpy(found["image"])
        return {"levels": 255 * float((real - drawn).abs().mean()), "ssim": float(ssim(real, drawn))}

    def sheet(self, net: Autoencoder) -> np.ndarray | None:
        """An image of held-out faces: input, reconstruction, and a random face; or with points, true and predicted."""
        crops = self._crops[:SHEET]
        if not len(crops):
            return None
        found = predict(net, crops)
        if net.heads is not None:
            size = 4 * crops.shape[1]
            rows = [[cv2.resize(crop, (size, size), interpolation=cv2.INTER_CUBIC) for crop in crops] for _ in range(2)]
            for row, places in zip(rows, (self._points / crops.shape[1], found["places"]), strict=True):
                for image, points in zip(row, places, strict=False):
                    for x, y in points[np.isfinite(points).all(axis=1)]:
                        cv2.circle(image, (int(x * size), int(y * size)), 2, (60, 255, 60), -1, cv2.LINE_AA)
            return np.concatenate([np.concatenate(row, axis=1) for row in rows])
        drawn = np.stack([to_bytes(found["image"]), to_bytes(random_faces(net, self._crops, len(crops)))])
        rows = [crops, *drawn]
        return cv2.resize(np.concatenate([np.concatenate(row, axis=1) for row in rows]), None, fx=2, fy=2)


@torch.no_grad()
def predict(net: Autoencoder, crops: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a network for crops (n, S, S, 3), without the maps."""
    device, parts = next(net.parameters()).device, []
    for i in range(0, len(crops), AT_ONCE):
        output = net(torch.from_numpy(crops[i : i + AT_ONCE]).to(device))
        parts.append({name: value.float().cpu().numpy() for name, value in output.items() if name != "maps"})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def random_faces(net: Autoencoder, crops: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Faces (count, 3, S, S) of random codes: of the mean and covariance that the codes of crops have."""
    codes = predict(net, crops)["code"].astype(np.float64)
    drawn = np.random.default_rng(seed).multivariate_normal(codes.mean(axis=0), np.cov(codes.T), count)
    device = next(net.parameters()).device
    return net.decoder(torch.from_numpy(drawn).float().to(device)).cpu().numpy()


def to_bytes(images: np.ndarray) -> np.ndarray:
    """(n, 3, S, S), 0 to 1, as (n, S, S, 3) uint8."""
    return np.clip(255 * images.transpose(0, 2, 3, 1) + 0.5, 0, 255).astype(np.uint8)


def point_errors(points: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean errors of (n, k, 2) points in %: / sqrt(wh) of the truth; of 68 or more also the inner ones / eyes."""
    distance = np.linalg.norm(points - truth, axis=2)
    size = np.nanmax(truth, axis=1) - np.nanmin(truth, axis=1)
    result = {"nme": 100 * float(np.nanmean(distance / np.sqrt(size.prod(axis=1))[:, None]))}
    if truth.shape[1] >= 68:
        eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)[:, None]
        result["inner"] = 100 * float(np.nanmean(distance[:, 17:68] / eyes))
    return result


@loss
def square(compared: Compared) -> torch.Tensor:
    """Squared error of the reconstruction."""
    return (compared.drawn - compared.real).square().mean()


@loss
def absolute(compared: Compared) -> torch.Tensor:
    """Absolute error of the reconstruction."""
    return (compared.drawn - compared.real).abs().mean()


@loss
def structure(compared: Compared) -> torch.Tensor:
    """One less the structural similarity."""
    return 1 - ssim(compared.drawn, compared.real)


@loss
def features(compared: Compared) -> torch.Tensor:
    """Difference of what our own regressor's layers see in reconstruction and image, by the size of the latter."""
    body, total, layers = compared.judge.features, 0.0, 0
    drawn, real = compared.drawn, compared.real
    for layer in body:
        with torch.autocast(drawn.device.type, torch.bfloat16):
            drawn = layer(drawn)
            with torch.no_grad():
                real = layer(real)
        if isinstance(layer, nn.Sequential):  # each change of size
            wrong = (drawn - real).float().square().mean()
            total, layers = total + wrong / real.float().square().mean().clamp(min=1e-6), layers + 1
    return total / layers


@loss
def critic(compared: Compared) -> torch.Tensor:
    """How far the critic takes reconstructions for drawn; 0 in batches that it does not judge."""
    if not compared.judged:
        return compared.drawn.new_zeros(())
    return -compared.judge.critic(compared.drawn).mean()


def critic_cost(critic: nn.Module, real: torch.Tensor, drawn: torch.Tensor, penalty: float) -> torch.Tensor:
    """What the critic minimises: the distance that it sees between drawn and real images, negative, and the penalty."""
    return critic(drawn).mean() - critic(real).mean() + penalty * gradient_penalty(critic, real, drawn)


def ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean structural similarity of the brightness of images (B, 3, S, S), 0 to 1, over windows of 7 x 7 px.

    Source: Wang et al., Image quality assessment: from error visibility to structural similarity, 2004.
    """

    a, b = (x.mean(1, keepdim=True).contiguous() for x in (a, b))
    together = torch.stack([a, b, a * a, b * b, a * b]).flatten(0, 1)
    means = F.avg_pool2d(F.avg_pool2d(together, (SSIM_PX, 1), 1), (1, SSIM_PX), 1)
    mean_a, mean_b, square_a, square_b, product = means.unflatten(0, (5, len(a)))
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    shared = product - mean_a * mean_b
    light, contrast = SSIM_SHADES
    top = (2 * mean_a * mean_b + light) * (2 * shared + contrast)
    return (top / ((mean_a**2 + mean_b**2 + light) * (variance_a + variance_b + contrast))).mean()


@loss
def wing(compared: Compared) -> torch.Tensor:
    """Adaptive wing loss of the maps against Gaussians that peak at 1, with more weight near the points."""
    target = peaks(compared.batch["points"], compared.side)
    near = F.max_pool2d(target, 3, 1, 1) >= NEAR
    cost = adaptive_wing(compared.output["maps"], target) * (1 + NEAR_WEIGHT * near)
    return mean_of(cost.mean((2, 3)), compared.batch["weight"])


@loss
def places(compared: Compared) -> torch.Tensor:
    """Distance of the places from the truth, in cells of the maps."""
    error = (compared.output["places"] - compared.batch["points"]).norm(dim=2) * compared.side
    return mean_of(error, compared.batch["weight"])


@loss
def depth(compared: Compared) -> torch.Tensor:
    """Depth of the points where it is known, in cells of the maps."""
    truth = compared.batch["depth"]
    error = (compared.output["depth"] - truth.nan_to_num()).abs() * compared.side
    return mean_of(error, ~truth.isnan() * compared.batch["weight"])


def peaks(points: torch.Tensor, side: int, sigma: float = SIGMA_CELLS) -> torch.Tensor:
    """(B, points, side, side) Gaussians of height 1 about places (B, points, 2) in shares of the side."""
    cells = (torch.arange(side, device=points.device) + 0.5) / side
    x, y = (torch.exp(-((cells - points[..., k, None]) * side).square() / (2 * sigma**2)) for k in range(2))
    return y[..., :, None] * x[..., None, :]


def adaptive_wing(found: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The adaptive wing loss, element by element: logarithmic near the target, the more so the higher that is."""
    distance, power = (found - target).abs(), ALPHA - target
    ratio = (THETA / EPSILON) ** power
    slope = OMEGA / (1 + ratio) * power * (THETA / EPSILON) ** (power - 1) / EPSILON
    offset = THETA * slope - OMEGA * torch.log1p(ratio)
    small = OMEGA * torch.log1p((distance.clamp(max=THETA) / EPSILON) ** power)
    return torch.where(distance < THETA, small, slope * distance - offset)


def mean_of(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean of values by weights of their shape; 0 where nothing has a weight."""
    return (values * weight).sum() / weight.sum().clamp(min=1.0)
