"""Train a network by its recipe, with all that it depends on and that is not there yet.

usage: python -m tools.train regressor [--set train.samples=100000] [--export runs/weights]

The recipe is configs/train/NAME.toml. A run resumes from runs/NAME/last.pt and ends with runs/NAME/result.pt, beside
log.csv, val.csv and curves.png. Where a recipe starts from shipped files, --from-scratch trains their predecessors
instead, in runs/scratch. On CUDA where there is one; on several by torchrun -m tools.train.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from torch import distributed

from facet.tracker.errors import ConfigError, FaceTrackError
from facet.tracker.weights import MANIFEST_NAME, ROOT
from tools.manifest import update_manifest
from tools.training import checkpoint
from tools.training.loop import RANK, RANKS, device_of_rank, train
from tools.training.recipe import Recipe, load_recipe, parts_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs lie and how they are made."""

    runs: Path = Path("runs")
    data: Path = Path("runs/data")
    scratch: bool = False
    threads: int = 1
    processes: int = 1


def make(name: str, place: Place, out: Path | None = None, overrides: tuple[str, ...] = ()) -> Path:
    """The result of a recipe, trained with what it depends on unless it is there; the path of result.pt."""
    recipe, out = load_recipe(name, overrides), out or place.runs / name
    if checkpoint.seen_samples(out) >= recipe.train.samples:
        return out / checkpoint.RESULT
    init, teacher = (dependency(source, place) if source else None for source in sources(recipe, place.scratch))
    others = {init if key == "init" else dependency(key, place): part for key, part in recipe.average.items()}
    if RANK == 0:
        print(f"{name}: {recipe.train.samples} samples into {out}", flush=True)
    return train(recipe, out, place.data, init, teacher, others, place.threads, place.processes)


def sources(recipe: Recipe, scratch: bool) -> tuple[str, str]:
    """What a recipe starts from and its teacher: names of recipes, shipped files, or ""."""
    if scratch:
        return recipe.scratch_init or recipe.init, recipe.scratch_teacher or recipe.teacher
    return recipe.init, recipe.teacher


def dependency(source: str, place: Place) -> Path:
    """The file of a network that a recipe names; a recipe that has a result is not trained again."""
    if source.endswith(".onnx"):
        return ROOT / source
    result = place.runs / source / checkpoint.RESULT
    return result if result.exists() else make(source, place)


def export(result: Path, name: str, folder: Path, data: Path) -> Path:
    """Write a result as the ONNX file that its recipe ships, or NAME.onnx, and its entry in the manifest beside it."""
    recipe, net = checkpoint.open_network(result)
    path = folder / (Path(recipe.ships).name if recipe.ships else f"{name}.onnx")
    folder.mkdir(parents=True, exist_ok=True)
    table = parts_of(recipe.network).export.write(net, recipe, path, data)
    seen = checkpoint.load(result)["seen"]
    table |= {"licence": "MIT", "provenance": f"configs/train/{name}.toml, {seen} samples", "recipe": name}
    update_manifest(folder / MANIFEST_NAME, {path.stem: table})
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help="of recipes, configs/train/NAME.toml")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="another value, as in app.py")
    parser.add_argument("--from-scratch", action="store_true", help="use no shipped file")
    parser.add_argument("--out", type=Path, help="folder of the run, for a single NAME (default: runs/NAME)")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="of python -m tools.data.build")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write the ONNX file and its manifest entry there"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the training itself (default: 1)")
    parser.add_argument("--processes", type=int, default=1, help="that make batches (default: 1)")
    args = parser.parse_args()
    if args.out and len(args.names) > 1:
        parser.error("--out: expected a single NAME; leave it out")
    runs = Path("runs/scratch") if args.from_scratch else Path("runs")
    place = Place(runs, args.data, args.from_scratch, args.threads, args.processes)
    if RANKS > 1:
        distributed.init_process_group("nccl" if device_of_rank().type == "cuda" else "gloo")
    try:
        for name in args.names:
            result = make(name, place, args.out, tuple(args.set))
            if args.export and RANK == 0:
                print(export(result, Path(name).stem, args.export, args.data))
    except FaceTrackError as error:
        print(f"tools.train: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    finally:
        if RANKS > 1:
            distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
