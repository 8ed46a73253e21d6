"""A folder of training data, of a few faces that the model made, and small recipes for it."""

from pathlib import Path

import numpy as np

from facet.tracker.morphable import load_face_model
from facet.tracker.weights import ROOT
from tools.data.crops import SIZE_PX
from tools.regressor.data import Recipe
from tools.regressor.model import Net
from tools.training.feeding import offer
from tools.training.recipe import Schedule, parts_of

COUNT = 12
SMALL = {"widths": (4, 8, 8, 16), "depths": (1, 0, 1), "reduced": 4, "size_px": 32}
TERMS = ("points", "lids", "cloud", "shape", "expression", "exact_shape", "exact_expression", "exact_sides")
TERMS += ("blink", "gaze", "score", "steady", "pdc", "vdc", "wpdc")
FIRST_TERMS = ("points", "lids", "mesh", "head_blink", "head_gaze", "score", "steady")  # without a face model


def recipe(samples: int, heads=("pose", "shape", "expression", "score"), losses=None, **train) -> Recipe:
    """A small regressor's recipe."""
    if losses is None:
        losses = dict.fromkeys(TERMS if "pose" in heads else FIRST_TERMS, 1.0)
        losses |= {name: 0.1 for name in ("pdc", "vdc", "wpdc") if name in losses}
    train = {"batch": 8, "lr": 1e-3, "weight_decay": 0.0, "warmup": 8, "ema": 0.9} | train
    net = Net(heads=tuple(heads), **SMALL)
    return Recipe(network="regressor", net=net, train=Schedule(samples=samples, **train), losses=losses)


def first_recipe(samples: int, **train) -> Recipe:
    """The same of a first stage, without a face model."""
    return recipe(samples, ("points", "mesh", "blink", "gaze", "score"), **train)


def write(folder: Path) -> Path:
    """A folder as `tools.data.build` writes it, of faces that the model made."""
    rng = np.random.default_rng(0)
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    camera = np.zeros((COUNT, 2, 3, 4), np.float32)
    camera[:, :, [0, 1, 2], [0, 1, 2]] = (0.62, -0.62, 0.62)
    camera[:, :, :2, 3] = (100, 105)
    coefficients = np.zeros((COUNT, 2, model.shape_count + model.expression_count), np.float32)
    landmarks = model.landmarks(camera[0, 0], coefficients[0, 0, : model.shape_count], np.zeros(model.expression_count))
    points = np.tile(landmarks[:, :2], (COUNT, 1, 1)).astype(np.float32)
    mesh = np.zeros((COUNT, 478, 3), np.float32)
    mesh[0] = np.nan
    held_out = np.arange(COUNT) >= COUNT - 4
    np.savez(
        folder / "faces.npz",
        photo=np.arange(COUNT),
        points=points,
        annotated=np.where((np.arange(COUNT) % 2 == 0)[:, None, None], np.nan, points).astype(np.float32),
        mesh=mesh,
        depth=np.tile(landmarks[:, 2], (COUNT, 1)),
        blink=np.tile(np.float32([0.0, 1.0]), (COUNT, 1)),
        gaze=np.tile(np.float32([[0.1, 0.0], [0.1, 0.0]]), (COUNT, 1, 1)),
        yaw_deg=np.zeros(COUNT, np.float32),
        held_out=held_out,
        roi=np.tile(np.float32([0, 0, 300, 0]), (COUNT, 1)),
        group=np.array(["keypoints"] * COUNT),
        identity=np.array([""] * COUNT),
    )
    np.savez(folder / "fits.npz", camera=camera, coefficients=coefficients, error=np.full((COUNT, 2), 0.01))
    images = rng.integers(0, 255, (COUNT, SIZE_PX, SIZE_PX, 3), np.uint8)
    images.tofile(folder / "faces.u8")
    rng.integers(0, 255, (3, 256, 256, 3), np.uint8).tofile(folder / "backgrounds.u8")
    return folder


def feed_for_ever(queue) -> None:
    """What a feeding process does, with batches larger than a pipe holds."""
    while offer(queue, bytes(1_000_000)):
        pass


class FeederHere:
    """Feeds as `tools.training.feeding.Feeder` does, without a process of its own."""

    def __init__(self, recipe, folder, first=0, step=1, processes=1):
        self._feed, self._number, self._step = parts_of(recipe.network).data.Feed(recipe, folder), first, step

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def next(self):
        self._number += self._step
        return self._feed(self._number - self._step)
