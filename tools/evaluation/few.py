"""How near points lie that were learnt from few annotated photographs: from scratch, on the autoencoder, the regressor.

    python -m tools.evaluate few [--runs runs/few] [--train] [--numbers 10 50 150 300] [--seeds 3] [--json PATH]

Of each start and number of annotated photographs the mean error on held-out people over the seeds, which choose the
photographs and the order of training, and its standard deviation; inner points in % of the outer eye distance. --train
trains what is missing of it, with equal numbers of samples; without it the runs that are there are judged.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from tools.autoencoder.losses import Judge
from tools.evaluation.common import options, report
from tools.train import Place, make
from tools.training import checkpoint

STARTS = {"scratch": "few_scratch", "autoencoder": "few", "regressor": "few_regressor"}
NUMBERS, SEEDS = (10, 50, 150, 300), 3


def run_name(start: str, number: int | None, seed: int) -> str:
    """The folder of a run; number None is all."""
    return f"{start}_{number or 'all'}_{seed}"


def train(start: str, number: int | None, seed: int, args) -> Path:
    """The result of a run, trained where it is missing."""
    chosen = (f"data.annotated={number}",) if number else ()
    overrides = (*chosen, f"data.seed={seed}", f"train.seed={seed}", *args.set)
    return make(STARTS[start], Place(args.runs.parent, args.cut), args.runs / run_name(start, number, seed), overrides)


def error(result: Path, data: Path) -> float:
    """Inner error of a network on the held-out photographs, %."""
    recipe, net = checkpoint.open_network(result)
    return Judge(recipe, data, torch.device("cpu")).validate(net)["inner"]


def figures(errors: dict[tuple[str, str], list[float]]) -> dict[str, dict[str, dict[str, float]]]:
    """Means, deviations and counts by start and number; of the autoencoder also by that from scratch."""
    results: dict = {}
    for (start, number), values in errors.items():
        row = {"inner": float(np.mean(values)), "std": float(np.std(values)), "seeds": len(values)}
        if start != "scratch" and ("scratch", number) in errors:
            row["by_scratch"] = row["inner"] / float(np.mean(errors["scratch", number]))
        results.setdefault(start, {})[number] = row
    return results


def main(arguments: list[str]) -> int:
    parser = options("few", __doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/few"), help="folder of the runs")
    parser.add_argument("--cut", type=Path, default=Path("runs/data"), help="what `tools.data.build faces` wrote")
    parser.add_argument("--train", action="store_true", help="train what is missing")
    parser.add_argument("--numbers", type=int, nargs="+", default=NUMBERS, metavar="N", help="of photographs; 0: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"runs of each (default: {SEEDS})")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS), metavar="START")
    args = parser.parse_args(arguments)
    if args.train:
        for number in args.numbers:
            for start in args.starts:
                for seed in range(1, args.seeds + 1):
                    train(start, number, seed, args)
    found: dict[tuple[str, str], list[float]] = {}
    for result in sorted(args.runs.glob(f"*/{checkpoint.RESULT}")):
        match = re.fullmatch(r"(\w+)_(\d+|all)_(\d+)", result.parent.name)
        if match and match[1] in STARTS:
            found.setdefault((match[1], match[2]), []).append(error(result, args.cut))
    if not found:
        parser.error(f"--runs: expected runs in {args.runs}, found none; train them with --train")
    order = sorted(found, key=lambda key: (list(STARTS).index(key[0]), 10**9 if key[1] == "all" else int(key[1])))
    return report(figures({key: found[key] for key in order if key[0] == "scratch"} | found), args)
