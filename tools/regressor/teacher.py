"""A trained network as the teacher of another: its points are free of what annotators were unsure of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tools.data.augment import Recipe, open_images, tracking_crop
from tools.regressor.model import FaceNet
from tracker.mirror import MIRROR_68

VIEWS = 3  # crops of each face, each also mirrored: their mean lay 2.48 % from annotators, one look 2.56 %
FACES_AT_ONCE = 64


def open_teacher(checkpoint: Path, config: dict, device: torch.device) -> FaceNet:
    """The averaged network of a checkpoint of tools.training.loop, with the goal `params`.

    Parameters
    ----------
    config : the pupil's

    Raises
    ------
    ValueError
        If the teacher saw crops of another size or scale, or tells sizes in another unit.
    """
    state = torch.load(checkpoint, map_location=device)
    for section, name in (("net", "size_px"), ("crops", "landmark_scale"), ("train", "base_scale")):
        own, theirs = config[section][name], state["config"][section][name]
        if own != theirs:
            raise ValueError(f"{checkpoint}: expected a teacher of {name} {own}, found {theirs}")
    heads = {"params": len(state["average"]["heads.params.bias"])}
    net = FaceNet(**state["config"]["net"], heads=heads).to(device, memory_format=torch.channels_last).eval()
    net.load_state_dict(state["average"])
    return net


@torch.no_grad()
def told_landmarks(
    landmarks_of: Callable[[torch.Tensor], torch.Tensor], data: Path, points: np.ndarray, recipe: Recipe
) -> np.ndarray:
    """What a teacher says of the cut photographs before anything befalls them; asked once, as a run starts.

    Parameters
    ----------
    landmarks_of : (B, S, S, 3) uint8 crops -> (B, 68, 3) in shares of the crop's side
    data : of `tools.data.build`
    points : (n, 68, 2) cut px, where the faces lie

    Returns
    -------
    (n, 68, 3) float32, cut px.
    """
    rng = np.random.default_rng(4)
    told = np.zeros((len(points), 68, 3), np.float32)
    images = open_images(data)[0]
    for rows in np.array_split(np.arange(len(points)), -(-len(points) // FACES_AT_ONCE)):
        for _ in range(VIEWS):
            some = [tracking_crop(images[row], points[row], recipe, rng) for row in rows]
            crops, affine = (np.array(values) for values in zip(*some, strict=True))
            said = landmarks_symmetric(landmarks_of, torch.from_numpy(crops)).cpu().numpy() * recipe.size_px
            said[..., :2] -= affine[:, None, :, 2]
            told[rows] += said / affine[:, None, :1, 0] / VIEWS
    return told


def landmarks_symmetric(landmarks_of: Callable[[torch.Tensor], torch.Tensor], crops: torch.Tensor) -> torch.Tensor:
    """The mean of what is said of crops, and of the crops mirrored; (B, 68, 3) in shares of the side."""
    plain, mirrored = landmarks_of(torch.cat([crops, crops.flip(2)])).chunk(2)
    return (plain + mirrored_landmarks(mirrored)) / 2


def mirrored_landmarks(landmarks: torch.Tensor) -> torch.Tensor:
    """Landmarks (B, 68, 3) of mirrored crops as they lie in the crops, in shares of the side."""
    flip, offset = landmarks.new_tensor([-1, 1, 1]), landmarks.new_tensor([1, 0, 0])
    return (landmarks * flip + offset)[:, MIRROR_68]
