"""Prepare the training data from the material.

usage: python -m tools.data.build faces --out runs/data    cut crops and labels
       python -m tools.data.build anatomical --out runs/data   labels of the same faces in the anatomical convention
       python -m tools.data.build fits --out runs/data     the face model's parameters of all of them
       python -m tools.data.build turned --out runs/data   faces turned in 3D, with other eyelids
       python -m tools.data.build rendered --out runs/data faces of the model itself, with exact truth
       python -m tools.data.build busts --out runs/data    people as solids with hair and glasses; fitted heads
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from facet.tracker.weights import ROOT
from tools.data import anatomical, crops, fit, labels, profiles, rendered
from tools.volume import busts

TURNED_COUNT, RENDERED_COUNT = 10000, 60000
BUST_COUNT, BUST_PHOTOGRAPH_COUNT = 5500, 4500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["faces", "anatomical", "fits", "turned", "rendered", "busts"])
    parser.add_argument("--out", type=Path, default=Path("runs/data"))
    parser.add_argument("--rendered", type=int, default=RENDERED_COUNT, help="how many faces to render")
    args = parser.parse_args()
    if args.what == "fits":
        torch.set_num_threads(1)
        with np.load(args.out / "faces.npz") as file:
            table = {name: file[name] for name in file.files}
        result = fit.fit(fit.load_points(ROOT / "weights" / "face_model.npz"), table)
        np.savez(args.out / "fits.npz", **result)
        print(f"fitted to {result['error'].mean():.2%} of sqrt(wh)")
        return
    if args.what == "anatomical":
        anatomical.make(args.out)
        return
    if args.what == "turned":
        profiles.make(args.out, TURNED_COUNT)
        return
    if args.what == "rendered":
        rendered.make(args.out, args.rendered)
        return
    if args.what == "busts":
        busts.make(args.out, BUST_COUNT)
        busts.make_photographs(args.out, args.out, BUST_PHOTOGRAPH_COUNT)
        return
    known = labels.build()
    crops.cut_faces(known, args.out)
    crops.cut_backgrounds(args.out)
    print(f"{len(known.photo)} faces, {known.held_out.sum()} of them held out, in {args.out}")


if __name__ == "__main__":
    main()
