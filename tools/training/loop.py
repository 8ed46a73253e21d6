"""Train the regressor; resumes from runs/NAME/last.pt where there is one.

usage: python -m tools.training.loop --config configs/train/regressor_points.toml --out runs/points
       python -m tools.training.loop --config configs/train/regressor.toml --init runs/points/last.pt --out runs/small

On CUDA where there is one, with mixed precision; on several by torchrun (torchrun --nproc-per-node 4 -m
tools.training.loop ...), each with a batch of its own. OUT holds last.pt, log.csv, val.csv, and both in curves.png.
"""

from __future__ import annotations

import argparse
import csv
import math
import multiprocessing
import os
import time
import tomllib
from pathlib import Path

import cv2
import numpy as np
import torch

from tools.data.augment import Recipe, Sampler
from tools.regressor import losses as goals
from tools.regressor.model import FaceNet
from tools.training.curves import draw
from tools.training.feeding import offer
from tools.training.grow import grow
from tracker.files import new_file

CHECKPOINT_S = 180.0
QUEUE_BATCHES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("runs/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="a checkpoint to begin with, of the same or a smaller net")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="mixed precision on a CPU, too: for AVX-512 BF16")
    args = parser.parse_args()
    config = tomllib.loads(args.config.read_text())
    train(config, args.data, args.out, args.init, args.threads, args.bfloat16)


def train(config: dict, data: Path, folder: Path, init: Path | None, threads: int, mixed: bool = False):
    """Train to the end of the recipe; a checkpoint every three minutes."""
    torch.set_num_threads(threads)
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    folder.mkdir(parents=True, exist_ok=True)
    recipe, settings = Recipe(config["net"]["size_px"], **goals.recipe_of(config)), config["train"]
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if ranks > 1:
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    goal = goals.GOALS[settings["goal"]](data, recipe, config, device)
    net = FaceNet(**config["net"], heads=goal.heads).to(device, memory_format=torch.channels_last)
    average = FaceNet(**config["net"], heads=goal.heads).to(device)
    decay = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": settings["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings["lr"])
    seen = 0
    if (folder / "last.pt").exists():
        state = torch.load(folder / "last.pt", map_location=device)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        seen = state["seen"]
    else:
        goal.start(net)
        if init is not None:
            grow(net, torch.load(init, map_location=device)["average"])
        average.load_state_dict(net.state_dict())
    shared = torch.nn.parallel.DistributedDataParallel(net) if ranks > 1 else net
    total, batch = settings["samples"], settings["batch"]
    feeder = Feeder(data, recipe, batch, seen + 1 + rank, config.get("groups", {}))
    saved = logged = time.perf_counter()
    logged_seen, sums = seen, {}
    try:
        while seen < total:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(seen, total, settings["lr"], settings["warmup"])
            sample = {name: torch.from_numpy(array).to(device) for name, array in feeder.next().items()}
            net.train()
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda or mixed):
                out = shared(sample["crops"])
            terms = goal.losses({name: head.float() for name, head in out.items()}, sample)
            loss = sum(terms.values())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), settings.get("clip", 5.0))
            optimiser.step()
            seen += batch * ranks
            update_average(average, net, min(settings["ema"], seen / (seen + 20 * batch * ranks)))
            for name, value in (terms | {"loss": loss}).items():
                sums[name] = sums.get(name, 0.0) + value.detach().item()
            now = time.perf_counter()
            if rank > 0:
                continue
            if now - logged > 30:
                steps = (seen - logged_seen) / (batch * ranks)
                row = {"seen": seen, "per_s": round((seen - logged_seen) / (now - logged))}
                row |= {name: round(value / steps, 5) for name, value in sums.items()}
                log(folder / "log.csv", row)
                logged, logged_seen, sums = now, seen, {}
            if now - saved > CHECKPOINT_S or seen >= total:
                average.eval()
                log(folder / "val.csv", {"seen": seen} | goal.validate(average))
                state = {"config": config, "seen": seen, "net": net.state_dict(), "average": average.state_dict()}
                save(folder / "last.pt", state | {"optimiser": optimiser.state_dict()})
                draw(folder)
                saved = time.perf_counter()
    finally:
        feeder.close()
        if ranks > 1:
            torch.distributed.destroy_process_group()


def learning_rate(seen: int, total: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then half a cosine to a hundredth."""
    if seen < warmup:
        return peak * (seen + 1) / warmup
    share = (seen - warmup) / max(1, total - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


@torch.no_grad()
def update_average(average: torch.nn.Module, net: torch.nn.Module, keep: float) -> None:
    """Exponential moving average of weights and of batch norm's statistics."""
    for mine, theirs in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mine.dtype.is_floating_point:
            mine.lerp_(theirs, 1 - keep)
        else:
            mine.copy_(theirs)


def save(path: Path, state: dict) -> None:
    """Write a checkpoint so that the last one survives a broken write."""
    with new_file(path) as partial:
        torch.save(state, partial)


def log(path: Path, row: dict) -> None:
    """Append a row to a CSV file and show it."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
    print("  ".join(f"{name} {value:.5g}" for name, value in row.items()), flush=True)


class Feeder:
    """Batches from a process of their own."""

    def __init__(self, data: Path, recipe: Recipe, batch: int, seed: int, groups: dict[str, float]):
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(QUEUE_BATCHES)
        args = self._queue, data, recipe, batch, seed, groups
        self._process = context.Process(target=_feed, args=args, daemon=True)
        self._process.start()

    def next(self) -> dict[str, np.ndarray]:
        """The next batch.

        Raises
        ------
        queue.Empty
            If none comes within two minutes: the process has died.
        """
        return self._queue.get(timeout=120)

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _feed(queue, data: Path, recipe: Recipe, batch: int, seed: int, groups: dict[str, float]) -> None:
    cv2.setNumThreads(1)
    table, rows, weights = goals.training_rows(data, groups)
    sampler = Sampler(data, table, rows, weights, recipe, seed)
    while offer(queue, sampler.batch(batch)):
        pass


if __name__ == "__main__":
    main()
