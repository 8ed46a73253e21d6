"""Train short recipes that differ in their losses, and print their errors on held-out photographs.

usage: python -m tools.regressor.compare [NAME ...] [--set train.samples=64000]

Without names: 3DDFA's losses, PDC, VDC, WPDC, and WPDC then VDC.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facet.tracker.errors import FaceTrackError
from tools.regressor.losses import Judge
from tools.train import Place, make
from tools.training.checkpoint import load, open_network
from tools.training.loop import device_of_rank

NAMES = ("regressor_pdc", "regressor_vdc", "regressor_wpdc", "regressor_wpdc_vdc")


def table(results: dict[str, Path], data: Path) -> str:
    """A row a result: its losses, samples, and errors in % as of `losses.landmark_errors`."""
    lines = ["| recipe | losses | samples | NME, 68 points | inner points / eye distance |", "|---|---|---|---|---|"]
    device = device_of_rank()
    for name, path in results.items():
        recipe, net = open_network(path, device)
        errors = Judge(recipe, data, device).validate(net)
        losses = ", ".join(recipe.losses)
        lines.append(f"| {name} | {losses} | {load(path)['seen']} | {errors['nme']:.2f} % | {errors['inner']:.2f} % |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="of recipes of the regressor")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="another value, for all")
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    place = Place(args.runs, args.data)
    try:
        results = {name: make(name, place, overrides=tuple(args.set)) for name in args.names}
        print(table(results, args.data))
    except FaceTrackError as error:
        print(f"tools.regressor.compare: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
