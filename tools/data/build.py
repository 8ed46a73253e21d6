"""Prepare the training data from the material.

usage: python -m tools.data.build faces --out runs/data
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.data import crops, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["faces"])
    parser.add_argument("--out", type=Path, default=Path("runs/data"))
    args = parser.parse_args()
    known = labels.build()
    crops.cut_faces(known, args.out)
    crops.cut_backgrounds(args.out)
    print(f"{len(known.photo)} faces, {known.held_out.sum()} of them held out, in {args.out}")


if __name__ == "__main__":
    main()
