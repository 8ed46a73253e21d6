"""The proportions of photographed faces: where the landmarks of the mean and of each shape mode lie on them.

python -m tools.face_model.proportions --data runs/data [--weights weights/regressor.onnx ...]

Scans of a modest number of heads say little about where brows, eyes and mouths lie on others. Fits to photographs, and
what networks predict for them, keep errors that go with the shape and the turn of the head: these are learnt here, on
people that nobody holds out, as corrections in mm of the mean's and the modes' landmarks. `python -m tools.face_model`
spreads them smoothly over the mesh. What the brows of most faces do is no expression, but the mean's: ICT's neutral
heads have higher ones. Reads what `python -m tools.data.build fits` wrote.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from facet.tracker import agreement
from facet.tracker.files import new_file
from facet.tracker.mirror import MIRROR_68, Mirror
from facet.tracker.morphable import load_face_model
from facet.tracker.regressor import Regressor
from facet.tracker.types import FaceParams
from facet.tracker.weights import ROOT, find_entry
from tools.data import labels, material
from tools.evaluation import crops
from tools.face_model.parts import shift_and_growth

FILE = Path(__file__).with_suffix(".npz")
# of squared mm of a face against those of a correction per unit of its mode; depth is hardly seen
RIDGE = np.array([300.0, 300.0, 1500.0])
RIDGE_MEAN = 0.1  # the mean's share of it: it is no deviation
ROBUST_MM, ROUNDS = 0.5, 3  # an error counts by its square up to this length, by its length beyond
AT_REST = "brow"
# corrections are alike within so many mm; what part of their variance is noise: nobody agrees on where the jaw's lie
SPREAD_MM = 25.0
NOISE_68 = np.repeat([1.0, 0.02], [17, 51])
ANCHOR_NOISE = 0.02


def adapt(
    rows: np.ndarray, landmarks: np.ndarray, wanted: np.ndarray, balls: list[np.ndarray], anchors: np.ndarray
) -> np.ndarray:
    """Move the mean and the modes so that their landmarks come to lie about where they are wanted.

    Parameters
    ----------
    rows : (N, 1 + Ks, 3) float, mm: the mean and the modes, whose signs may be others than those of `wanted`
    landmarks : (68,) int
    wanted : (68, 1 + Ks, 3) float, mm
    balls : vertices of each eyeball, which stays one
    anchors : (A, 3) float, mm: what lies there in the mean does not move

    Returns
    -------
    (N, 1 + Ks, 3) float
    """
    now, mean = rows[landmarks], rows[:, 0]
    sign = np.where((now * wanted).sum(axis=(0, 2)) < 0, -1.0, 1.0)
    moves = np.concatenate([sign[:, None] * wanted - now, np.zeros((len(anchors), *now.shape[1:]))])
    at = np.concatenate([mean[landmarks], anchors])
    noise = np.r_[NOISE_68, np.full(len(anchors), ANCHOR_NOISE)]
    weights = np.linalg.solve(_likeness(at, at) + np.diag(noise), moves.reshape(len(at), -1))
    field = (_likeness(mean, at) @ weights).reshape(rows.shape)
    for ball in balls:
        shift, growth = shift_and_growth(field[ball], mean[ball])
        field[ball] = shift + growth[:, None] * (mean[ball] - mean[ball].mean(axis=0))[:, None]
    return rows + field


def _likeness(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    square = ((points[:, None] - others[None]) ** 2).sum(axis=2)
    return np.exp(-square / (2 * SPREAD_MM**2))


def learn(shown: np.ndarray, wanted: np.ndarray, camera: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """By how much each landmark of the mean and of the modes lies beside where it is seen.

    Parameters
    ----------
    shown, wanted : (n, 68, 2) float, px
    camera : (n, 3, 4) float, model mm -> px
    shape : (n, Ks) float

    Returns
    -------
    (68, 1 + Ks, 3) float, mm
    """
    scale = np.linalg.norm(camera[:, 0, :3], axis=1)
    turn = camera[:, :2, :3] / scale[:, None, None]
    beside = ((wanted - shown) / scale[:, None, None]).astype(np.float64)
    ones = np.concatenate([np.ones((len(shape), 1)), shape], axis=1)
    rows = (ones[:, None, :, None] * turn[:, :, None, :]).reshape(2 * len(shape), -1)
    ridge = np.tile(RIDGE, (ones.shape[1], 1))
    ridge[0] *= RIDGE_MEAN
    found = np.zeros((shown.shape[1], ones.shape[1], 3))
    for k in range(len(found)):
        error, target = beside[:, k], beside[:, k].reshape(-1)
        for _ in range(ROUNDS):
            weight = np.repeat(ROBUST_MM / np.maximum(np.linalg.norm(error, axis=1), ROBUST_MM), 2)
            heavy = rows * weight[:, None]
            solution = np.linalg.solve(heavy.T @ rows + np.diag(ridge.ravel() * ROBUST_MM), heavy.T @ target)
            error = (target - rows @ solution).reshape(-1, 2)
        found[k] = solution.reshape(-1, 3)
    return found


def symmetric(found: np.ndarray, mirror: Mirror) -> np.ndarray:
    """The mean of corrections, (68, 1 + Ks, 3), and of what they are in the mirror."""
    sign = np.concatenate([[1.0], mirror.shape_sign])[:, None] * (-1, 1, 1)
    return (found + found[MIRROR_68] * sign) / 2


def at_rest(expressions: np.ndarray, names: tuple[str, ...], mirror: Mirror) -> np.ndarray:
    """How far a third of the faces raise or lower their brows at most, (Ke,), of (n, Ke); 0 of all else."""
    level = np.percentile(expressions, material.REST_PERCENT, axis=0)
    level = (level + level[mirror.expression_partner]) / 2
    return np.where([name.startswith(AT_REST) for name in names], level, 0.0)


def predictions(network: Regressor, mirror: Mirror, images, points: np.ndarray) -> list[FaceParams]:
    """What a network says of cut faces, each seen once more in the mirror, in their px."""
    faces = []
    for image, face_points in zip(images, points, strict=True):
        place = crops.place(face_points, network.crop_spec)
        crop = crops.warp(image, place, network.size)
        plain, mirrored = network(np.ascontiguousarray([crop, crop[:, ::-1]]))
        face = agreement.mean_of([plain, mirror.face(mirrored, network.size)])
        camera = face.camera / place[0, 0]
        camera[:2, 3] -= place[:, 2] / place[0, 0]
        faces.append(replace(face, camera=camera))
    return faces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="networks that are asked, too")
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    args = parser.parse_args()
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    mirror, count = Mirror.of(model), model.shape_count
    images, table = crops.cut_faces(args.data)
    rows = np.flatnonzero(~table["held_out"] & np.isin(table["group"], material.BARE_FACES))
    wanted = labels.wanted_points(table)[rows]
    with np.load(args.data / "fits.npz") as file:
        fitted = file["coefficients"][rows, 0]
        cases = [(file["landmarks"][rows, 0], file["camera"][rows, 0], fitted[:, :count])]
    for weights in args.weights:
        network = Regressor.open(find_entry(weights, "regressor"))
        faces = predictions(network, mirror, images[rows], table["points"][rows])
        network.close()
        shown = [model.landmarks(face.camera, face.shape, face.expression)[:, :2] for face in faces]
        cases.append((np.array(shown), np.array([f.camera for f in faces]), np.array([f.shape for f in faces])))
    shown, camera, shape = (np.concatenate(part) for part in zip(*cases, strict=True))
    ahead = np.abs(table["yaw_deg"][rows]) < material.REST_YAW_DEG
    rest = at_rest(fitted[ahead, count:], model.expression_names, mirror)
    raised = model.sparse.basis[count:].reshape(len(rest), -1, 3)[:, :68]
    found = symmetric(learn(shown, np.tile(wanted, (len(cases), 1, 1)), camera, shape), mirror)
    modes = model.shape_basis[:, model.landmark_vertices]
    now = np.concatenate([model.mean[model.landmark_vertices][None], modes]).swapaxes(0, 1)
    wanted = now + found
    wanted[:, 0] += np.einsum("k,kpc->pc", rest, raised)
    if FILE.exists():  # the model that all this is of was made with it
        with np.load(FILE) as file:
            rest = rest + file["rest"]
    with new_file(args.output, ".npz") as partial:
        np.savez_compressed(partial, landmarks=wanted.astype(np.float32), rest=rest.astype(np.float32))
    size = np.sqrt((found**2).sum(axis=2)).mean(axis=0)
    print(
        f"{args.output}: {size[0]:.2f} mm of the mean, {size[1:].mean():.2f} mm of a mode, by {len(rows)} faces; "
        f"of expressions {rest.max():.2f} at most belongs to the mean"
    )


if __name__ == "__main__":
    main()
