"""The training of every network: recipe in, runs/NAME/result.pt out."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch
from torch import distributed
from torch.optim.swa_utils import update_bn

from tools.training import checkpoint
from tools.training.curves import Log
from tools.training.feeding import Feeder
from tools.training.grow import grow
from tools.training.norms import keep_function, mean_of
from tools.training.recipe import Recipe, Schedule, parts_of

CHECKPOINT_S = 180.0
STATISTICS_BATCHES, STATISTICS_FROM = 8, 10**9  # numbers of batches that no training reaches
RANK, RANKS = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # of torchrun


def train(
    recipe: Recipe,
    out: Path,
    data: Path,
    init: Path | None = None,
    teacher: Path | None = None,
    average: dict[Path, float] | None = None,
    threads: int = 1,
    processes: int = 1,
    stop: int | None = None,
) -> Path:
    """Train to the end of the recipe, from where an earlier run of it ended; returns the path of the result.

    Parameters
    ----------
    out : the run's folder, for last.pt, result.pt, log.csv, val.csv and curves.png
    data : of `tools.data.build`
    init, teacher, average : files of networks, as of `checkpoint.open_network`; `average` with their parts
    threads : of the training itself
    processes : that make batches
    stop : after so many samples, to resume another time
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    schedule, parts, device = recipe.train, parts_of(recipe.network), device_of_rank()
    torch.manual_seed(schedule.seed)
    judge = parts.losses.Judge(recipe, data, device, teacher)
    net, mean = (parts.model.build(recipe).to(device, memory_format=torch.channels_last) for _ in range(2))
    optimiser = adamw(net, schedule)
    seen = 0
    if (out / checkpoint.LAST).exists():
        state = checkpoint.load(out / checkpoint.LAST, device)
        for part, name in ((net, "net"), (mean, "mean"), (optimiser, "optimiser")):
            part.load_state_dict(state[name])
        if "judge" in state:
            judge.load_state_dict(state["judge"])
        seen = state["seen"]
    else:
        if init is not None:
            start_from(net, init, recipe, data)
        mean.load_state_dict(net.state_dict())
    shared = torch.nn.parallel.DistributedDataParallel(net) if RANKS > 1 else net
    mixed = torch.autocast(
        device.type, torch.bfloat16, enabled=device.type == "cuda" or schedule.precision == "bfloat16"
    )
    step, saved_s = schedule.batch * RANKS, time.monotonic()
    first = seen // step * RANKS + RANK
    end = schedule.samples if stop is None else stop
    with Feeder(recipe, data, first, RANKS, processes) as feeder, Log(out, seen, writes=RANK == 0) as log:
        while seen < end:
            torch.manual_seed(schedule.seed + seen)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(seen, schedule)
            batch = {name: torch.from_numpy(array).to(device) for name, array in feeder.next().items()}
            net.train()
            with mixed:
                output = shared(batch["images"])
            compared = judge.compare({name: head.float() for name, head in output.items()}, batch)
            terms = {name: weight * parts.losses.LOSSES[name](compared) for name, weight in recipe.losses.items()}
            loss = sum(terms.values())
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), schedule.clip)
            optimiser.step()
            seen += step
            follow(mean, net, min(schedule.ema, seen / (seen + 20 * step)))
            log.add(seen, terms | {"loss": loss})
            if RANK == 0 and (time.monotonic() - saved_s > CHECKPOINT_S or seen >= end):
                log.validated(seen, judge.validate(mean.eval()))
                states = {"net": net.state_dict(), "mean": mean.state_dict(), "optimiser": optimiser.state_dict()}
                if hasattr(judge, "state_dict"):
                    states["judge"] = judge.state_dict()
                if hasattr(judge, "sheet") and (sheet := judge.sheet(mean)) is not None:
                    cv2.imwrite(str(out / f"sheet_{seen}.png"), sheet)
                checkpoint.save(out / checkpoint.LAST, recipe, seen, **states)
                saved_s = time.monotonic()
    if RANK == 0 and seen >= schedule.samples:
        if average:
            average_with(mean, average, recipe, data)
        checkpoint.save(out / checkpoint.RESULT, recipe, seen, net=mean.state_dict())
    if RANKS > 1:
        distributed.barrier()
    return out / checkpoint.RESULT


def device_of_rank() -> torch.device:
    """The GPU of this process where there is CUDA, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def adamw(net: torch.nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """An optimiser of what is not frozen, in which biases and norms do not decay."""
    learning = [p for p in net.parameters() if p.requires_grad]
    decayed = {"params": [p for p in learning if p.ndim > 1], "weight_decay": schedule.weight_decay}
    others = {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0}
    return torch.optim.AdamW([decayed, others], lr=schedule.lr)


def learning_rate(seen: int, schedule: Schedule) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak."""
    if seen < schedule.warmup:
        return schedule.lr * (seen + 1) / schedule.warmup
    share = (seen - schedule.warmup) / max(1, schedule.samples - schedule.warmup)
    return schedule.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


@torch.no_grad()
def follow(mean: torch.nn.Module, net: torch.nn.Module, keep: float) -> None:
    """Exponential moving average of weights and of batch norms' statistics."""
    for own, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
        if own.dtype.is_floating_point:
            own.lerp_(new, 1 - keep)
        else:
            own.copy_(new)


def start_from(net: torch.nn.Module, source: Path, recipe: Recipe, data: Path) -> None:
    """Put a trained network of the same layers into `net`, which may be wider or narrower; see `grow`."""
    device = next(net.parameters()).device
    known, other = checkpoint.open_network(source, device)
    if source.suffix == ".onnx":
        keep_function(other, at_size(known.net.size_px, some_images(recipe, data, device)))
    grow(net, other.state_dict())


def at_size(size: int, batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Batches of uint8 images (B, S, S, 3), enlarged or reduced for a network of another size."""
    for images in batches:
        if images.shape[1] != size:
            planes = torch.nn.functional.interpolate(images.permute(0, 3, 1, 2).float(), size=(size, size), mode="area")
            images = planes.round().to(torch.uint8).permute(0, 2, 3, 1)
        yield images


def average_with(net: torch.nn.Module, others: dict[Path, float], recipe: Recipe, data: Path) -> None:
    """Replace a network, which counts 1, by its weighted mean with others; batch norms' statistics are taken anew."""
    device = next(net.parameters()).device
    states = [net.state_dict()]
    for source in others:
        other = parts_of(recipe.network).model.build(recipe).to(device)
        start_from(other, source, recipe, data)
        states.append(other.state_dict())
    net.load_state_dict(mean_of(states, [1.0, *others.values()]))
    update_bn(some_images(recipe, data, device), net)
    net.eval()


def some_images(recipe: Recipe, data: Path, device) -> Iterator[torch.Tensor]:
    """The images of a few training batches, always the same."""
    feed = parts_of(recipe.network).data.Feed(recipe, data)
    for number in range(STATISTICS_FROM, STATISTICS_FROM + STATISTICS_BATCHES):
        yield torch.from_numpy(feed(number)["images"]).to(device)
