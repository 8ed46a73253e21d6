"""Recipes: what a training run needs, read from configs/train/NAME.toml and checked.

A network is a folder of tools/ with the same four files, which the training calls:

    model.py   build(recipe) -> Module: images (B, H, W, 3) uint8 BGR -> dict of tensors, by head
    data.py    Recipe, with the network's own [net] and [data]; Feed(recipe, folder): number -> batch, a dict of arrays
               with `images`, made from the recipe's seed and the number alone, in a process of its own
    losses.py  LOSSES, named functions of what `Judge(recipe, folder, device, teacher).compare(out, batch)` returns;
               `Judge.validate(net)` -> dict of figures on held-out photographs. It may have
               `sheet(net)`, an image that shows them, and `state_dict` and `load_state_dict` where it learns itself
    export.py  write(net, recipe, path, folder): the ONNX file; returns its table for the manifest. read(net, path)
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from facet.tracker.config import load_config
from facet.tracker.errors import ConfigError
from facet.tracker.weights import ROOT

RECIPES = ROOT / "configs" / "train"
NETWORKS = ("regressor", "detector", "heatmaps", "autoencoder", "volume")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The [train] of a recipe; lengths in samples, so that they do not depend on the batch."""

    samples: int
    batch: int
    lr: float  # the peak
    warmup: int = 0
    weight_decay: float = 0.02
    ema: float = 0.998  # what the average keeps of itself in a step
    clip: float = 5.0  # of the gradient's norm
    seed: int = 1
    precision: str = "float32"  # or bfloat16; CUDA computes in bfloat16 either way

    def __post_init__(self):
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16, got {self.precision}")
        if min(self.samples, self.batch) < 1:
            raise ValueError(f"samples and batch must be at least 1, got {self.samples} and {self.batch}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What all recipes have; a network's own adds `net` and `data`.

    `init`, `teacher` and the keys of `average` are names of recipes, or shipped files (weights/NAME.onnx); among these
    keys `init` stands for what the run started from.
    """

    network: str
    init: str = ""  # what the run starts from; "" is a random start
    scratch_init: str = ""  # the same where a run must not use shipped files (--from-scratch)
    teacher: str = ""
    scratch_teacher: str = ""
    ships: str = ""  # the shipped file to which the result is a successor
    train: Schedule
    losses: dict[str, float]
    average: dict[str, float] = field(default_factory=dict)  # what is averaged with the result, which counts 1

    def __post_init__(self):
        if ("teacher" in self.losses) != bool(self.teacher):
            raise ValueError("a teacher and a loss of the name teacher belong together; set both or neither")
        if "init" in self.average and not self.init:
            raise ValueError("average.init: expected a run that starts from another, found none; set init")


def check_shares(shares: dict[str, float], sources: tuple[str, ...]) -> None:
    """Raise ValueError where shares of the samples name another source than these, or none."""
    for name in shares:
        if name not in sources:
            raise ValueError(f"unknown source {name}; known: {', '.join(sources)}")
    if not sum(shares.values()) > 0:
        raise ValueError(f"shares must name at least one of {', '.join(sources)}")


def parts_of(network: str) -> SimpleNamespace:
    """The modules model, data, losses and export of a network."""
    names = ("model", "data", "losses", "export")
    return SimpleNamespace(**{name: importlib.import_module(f"tools.{network}.{name}") for name in names})


def load_recipe(name: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe by its name, or by the path of a TOML file.

    Raises
    ------
    ConfigError
        For an unknown recipe, network, key or loss, or a value of a wrong type.
    """
    path = Path(name) if str(name).endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.exists():
        raise ConfigError(f"{path}: expected a recipe, found none; {_nearest(path.stem, recipe_names())}")
    try:
        network = tomllib.loads(path.read_text(encoding="utf-8")).get("network")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    if network not in NETWORKS:
        raise ConfigError(f"{path}: unknown network {network}; {_nearest(str(network), NETWORKS)}")
    parts = parts_of(network)
    recipe = load_config(parts.data.Recipe, path, overrides)
    for loss in recipe.losses:
        if loss not in parts.losses.LOSSES:
            raise ConfigError(f"{path} [losses]: unknown loss {loss}; {_nearest(loss, parts.losses.LOSSES)}")
    return recipe


def recipe_names() -> list[str]:
    """The names of all recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def from_dict(values: dict) -> Recipe:
    """A recipe that `dataclasses.asdict` took apart."""

    def build(kind, value):
        if not dataclasses.is_dataclass(kind):
            return value
        hints = typing.get_type_hints(kind)
        return kind(**{name: build(hints[name], item) for name, item in value.items()})

    return build(parts_of(values["network"]).data.Recipe, values)


def _nearest(name: str, known) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
