"""The files of a run: last.pt to resume from, result.pt for what uses the trained network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from facet.tracker.errors import ConfigError
from facet.tracker.files import new_file
from facet.tracker.weights import MANIFEST_NAME, find_entry
from tools.training import TrainingError
from tools.training.recipe import Recipe, from_dict, load_recipe, parts_of

LAST, RESULT = "last.pt", "result.pt"


def save(path: Path, recipe: Recipe, seen: int, **states) -> None:
    """Write state dicts with their recipe; an earlier file survives a broken write."""
    with new_file(path) as partial:
        torch.save({"recipe": dataclasses.asdict(recipe), "seen": seen, **states}, partial)


def load(path: Path, device="cpu") -> dict:
    """What `save` wrote.

    Raises
    ------
    TrainingError
        If it cannot be read.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch has no common base for what damaged files raise
        raise TrainingError(f"{path}: expected a checkpoint, found another file: {error}") from error


def seen_samples(folder: Path) -> int:
    """With how many samples the result in a run's folder was trained; 0 where there is none."""
    return load(folder / RESULT)["seen"] if (folder / RESULT).exists() else 0


def open_network(path: Path, device="cpu") -> tuple[Recipe, torch.nn.Module]:
    """A trained network, for use, and the recipe that made it.

    Parameters
    ----------
    path : result.pt of a run, or an ONNX file of ours whose manifest entry names its recipe

    Raises
    ------
    TrainingError, WeightsError, ConfigError
        If the file is missing, damaged, or not of ours.
    """
    if path.suffix == ".onnx":
        entry = find_entry(path)
        if "recipe" not in entry.table:
            manifest = entry.path.parent / MANIFEST_NAME
            raise ConfigError(f"{manifest} [{entry.name}]: expected the name of its recipe, found none; add it")
        recipe = load_recipe(entry.get("recipe", str))
        parts = parts_of(recipe.network)
        net = parts.model.build(recipe)
        parts.export.read(net, entry.path)
    else:
        state = load(path)
        recipe = from_dict(state["recipe"])
        net = parts_of(recipe.network).model.build(recipe)
        net.load_state_dict(state["net"])
    return recipe, net.to(device, memory_format=torch.channels_last).eval()
