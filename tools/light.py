"""Light of real places: the irradiance of panoramas as spherical harmonics.

python -m tools.light [-o tools/light.npz]

Of the panoramas (CC0, Poly Haven) of the material; each is scaled so that a surface that faces all directions in turn
receives 1 on average. Axes of the panoramas: x right, y up, z to the viewer.
Source: Ramamoorthi and Hanrahan, An Efficient Representation for Irradiance Environment Maps, SIGGRAPH 2001.
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np

from facet.tracker.files import new_file
from tools.data import material

FILE = Path(__file__).with_suffix(".npz")
LOBE = np.pi * np.array([1, 2 / 3, 2 / 3, 2 / 3, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 4])  # of a matt surface
BRIGHTEST = 50.0  # times the mean radiance: the sun itself would leave nothing of the rest


def basis(unit: np.ndarray) -> np.ndarray:
    """The nine real spherical harmonics up to order 2 of unit vectors (n, 3); (n, 9)."""
    x, y, z = unit.T
    one = np.ones_like(x)
    return np.stack(
        [
            0.282095 * one, 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
            0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y),
        ],
        axis=1,
    )  # fmt: skip


def irradiance(radiance: np.ndarray) -> np.ndarray:
    """Coefficients (9, 3) of the light that a panorama (H, W, 3) sends to a surface, by its normal; BGR."""
    height, width = radiance.shape[:2]
    polar = (np.arange(height) + 0.5) * np.pi / height
    around = (np.arange(width) + 0.5) * 2 * np.pi / width
    p, a = np.meshgrid(polar, around, indexing="ij")
    unit = np.stack([np.sin(p) * np.sin(a), np.cos(p), -np.sin(p) * np.cos(a)], -1).reshape(-1, 3)
    solid = (np.sin(p) * (np.pi / height) * (2 * np.pi / width)).ravel()
    colour = np.minimum(radiance, BRIGHTEST * radiance.mean()).reshape(-1, 3)[:, ::-1].astype(np.float64)
    found = LOBE[:, None] * (basis(unit).T * solid @ colour) / np.pi
    return found / (basis(np.eye(1, 3))[0, 0] * found[0].mean())


def turned(light: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Coefficients (9, 3) of a light turned by a rotation (3, 3)."""
    unit = np.random.default_rng(0).normal(size=(32, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return np.linalg.lstsq(basis(unit @ turn.T), basis(unit) @ light, rcond=None)[0]


@lru_cache(maxsize=1)
def load() -> np.ndarray:
    """The lights (n, 9, 3) that `python -m tools.light` wrote; BGR."""
    with np.load(FILE) as file:
        return file["lights"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    args = parser.parse_args()
    with np.load(material.folder() / "environments" / "environments.npz") as file:
        names, radiance = file["name"], file["radiance"].astype(np.float32)
    lights = np.stack([irradiance(place) for place in radiance]).astype(np.float32)
    with new_file(args.output, ".npz") as partial:
        np.savez_compressed(partial, lights=lights, names=names)
    print(f"{args.output}: {len(lights)} lights")


if __name__ == "__main__":
    main()
