"""A folder of training data, of a few faces that the model made."""

from pathlib import Path

import numpy as np

from tools.data.crops import SIZE_PX
from tools.training.feeding import offer
from tracker.morphable import load_face_model
from tracker.weights import ROOT

COUNT = 12


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
