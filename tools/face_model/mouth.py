"""Compute tools/face_model/mouth.npz from ICT-FaceKit Light: teeth, gums and tongue, which rendered people need.

python -m tools.face_model.mouth [-o tools/face_model/mouth.npz]

The face model itself has no mouth but a bag behind the lips. Millimetres, y up, relative to the middle of that bag's
vertices, whose distance from the skull goes with the shape of a face. Licence: MIT, as the face model's.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from facet.tracker.files import new_file
from facet.tracker.morphable import MorphableModel
from tools.data import material
from tools.face_model.__main__ import ICT_UNIT_MM, build, find_ear_canals, load_ict, triangulate
from tools.face_model.meshes import compact, simplify

FILE = Path(__file__).with_suffix(".npz")
PARTS = ("gum", "tooth", "tongue")
GUMS, TEETH = 2, 3  # ICT's materials
MOVES = ("jawForward", "jawLeft", "jawOpen", "jawRight")  # the only expressions that move teeth
KEPT_SHARE = 0.45  # of the vertices
# the tongue lies behind the lower front teeth and between the others, in mm before the ear canals
TONGUE_HALF_MM, TONGUE_FRONT_MM = 17.5, 81.0
RAISED_MM, STRETCHED_MM = 9.0, 14.0  # of the tip at 1


@dataclass(frozen=True, slots=True, eq=False)
class Mouth:
    """Teeth, gums and tongue of the mean head."""

    points: np.ndarray  # (V, 3) float32, mm from the middle of the model's mouth
    moves: np.ndarray  # (4, V, 3) float32, mm, of MOVES
    triangles: np.ndarray  # (F, 3) int32
    part: np.ndarray  # (V,) uint8, of PARTS
    tip: np.ndarray  # (V,) float32, 1 at the tip of the tongue, 0 at its root and elsewhere

    def __call__(self, model: MorphableModel, neutral: np.ndarray, expression: np.ndarray, tongue=(0.0, 0.0)):
        """Where it is in a face.

        Parameters
        ----------
        neutral : (N, 3) mm, the face without expression
        expression : (Ke,)
        tongue : how far its tip is raised and stretched out, 0 to 1

        Returns
        -------
        (V, 3) float32, mm
        """
        middle = neutral[model.region == model.region_names.index("mouth")].mean(axis=0)
        weights = np.float32([expression[model.expression_names.index(name)] for name in MOVES])
        points = self.points + middle + np.tensordot(weights, self.moves, 1)
        points[:, 1] += tongue[0] * RAISED_MM * self.tip
        points[:, 2] += tongue[1] * STRETCHED_MM * self.tip
        return points.astype(np.float32)


@lru_cache(maxsize=1)
def load() -> Mouth:
    """The parts that `python -m tools.face_model.mouth` wrote."""
    with np.load(FILE) as file:
        return Mouth(
            file["points"].astype(np.float32), file["moves"].astype(np.float32), file["triangles"].astype(np.int32),
            file["part"], file["tip"].astype(np.float32),
        )  # fmt: skip


def make(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file, of ICT-FaceKit Light."""
    rows, ict = load_ict(path)
    names = [str(name) for name in ict["expression_names"]]
    first = rows.shape[1] - len(names)
    skin = triangulate(ict["faces"][ict["face_material"] == 0])
    canals = find_ear_canals(rows[:, 0], np.unique(skin))
    mean = rows[:, 0] - rows[list(canals), 0].mean(axis=0)
    material_of = np.zeros(len(mean), int)
    for kind in (GUMS, TEETH):
        material_of[np.unique(triangulate(ict["faces"][ict["face_material"] == kind]))] = kind
    moves = rows[:, [first + names.index(name) for name in MOVES]]
    lower = moves[:, MOVES.index("jawOpen"), 1] < -0.5 * ICT_UNIT_MM
    x, z = np.abs(mean[:, 0]), mean[:, 2]
    tongue = (material_of == GUMS) & lower & (x < TONGUE_HALF_MM) & (z < TONGUE_FRONT_MM)
    part = np.where(tongue, PARTS.index("tongue"), np.where(material_of == TEETH, 1, 0))
    tip = tongue * np.clip((z - TONGUE_FRONT_MM + 40) / 40, 0, 1) * np.clip(1 - (x / TONGUE_HALF_MM) ** 2, 0, 1)

    triangles = triangulate(ict["faces"][np.isin(ict["face_material"], (GUMS, TEETH))])
    packed = np.concatenate([mean, moves.reshape(len(mean), -1), part[:, None], tip[:, None]], axis=1)
    packed, triangles, _ = compact(packed, triangles)
    triangles = simplify(packed[:, :3], triangles, np.ones(len(packed), bool), int((1 - KEPT_SHARE) * len(packed)))
    packed, triangles, _ = compact(packed, triangles)
    model = build(path)
    middle = model["mean"][model["region"] == list(model["region_names"]).index("mouth")].mean(axis=0)
    return {
        "points": (packed[:, :3] - middle).astype(np.float16),
        "moves": packed[:, 3:-2].reshape(len(packed), len(MOVES), 3).swapaxes(0, 1).astype(np.float16),
        "triangles": triangles.astype(np.uint16),
        "part": packed[:, -2].round().astype(np.uint8),
        "tip": packed[:, -1].astype(np.float16),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=FILE)
    args = parser.parse_args()
    arrays = make(material.folder() / "face_model" / "ict_facekit_light.npz")
    with new_file(args.output, ".npz") as partial:
        np.savez_compressed(partial, **arrays)
    print(f"{args.output}: {args.output.stat().st_size / 1e3:.0f} kB, {len(arrays['points'])} vertices")


if __name__ == "__main__":
    main()
