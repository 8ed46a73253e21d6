"""Write where the aligner's points lie on the face model, so that precise mode can solve for it.

usage: python -m tools.face_model.points [--model weights/face_model.npz]

Landmarks 17-67 and the irises in the anatomical convention, as linear rows of shapes and expressions; written beside
the face model, and entered in the manifest there. Landmarks 0-16 are the face model's own contour.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from facet.tracker.files import new_file
from facet.tracker.morphable import Steps, load_face_model
from facet.tracker.weights import MANIFEST_NAME, ROOT, find_entry
from tools.face_model.anatomy import anatomical_points
from tools.manifest import describe, update_manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "weights" / "face_model.npz")
    args = parser.parse_args()
    entry = find_entry(args.model, "face_model")
    points = anatomical_points(load_face_model(entry.path))
    rows = Steps.of(points.basis.reshape(len(points.basis), -1))
    output = entry.path.with_name(f"{entry.path.stem}_points.npz")
    with new_file(output, ".npz") as partial:
        np.savez_compressed(
            partial, mean=points.mean.astype(np.float32), steps=rows.steps[: len(rows.step_mm)], step_mm=rows.step_mm
        )
    provenance = f"{entry.path.name}; tools/face_model/points.py"
    described = describe(output, kind="model_points", licence=entry.licence, provenance=provenance)
    update_manifest(
        entry.path.parent / MANIFEST_NAME,
        {entry.name: dict(entry.table) | {"points": output.name}, output.stem: described},
    )


if __name__ == "__main__":
    main()
