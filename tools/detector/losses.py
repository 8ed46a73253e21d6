"""Train the detector; resumes from OUT/last.pt where there is one.

usage: python -m tools.detector.losses --config configs/train/detector.toml --out runs/detector [--dry-run]

Points near a face compete by score and overlap, the best few are its positives and learn how good their box is
(task-aligned assignment: Feng et al., "TOOD", ICCV 2021; quality focal loss: Li et al., NeurIPS 2020; GIoU:
Rezatofighi et al., CVPR 2019). Writes log.csv, and checkpoints with the recipe inside.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import multiprocessing
import queue
import time
import tomllib
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from tools.data import detection
from tools.detector.model import FaceBoxes, boxes_at, grid_points
from tools.training.curves import draw
from tools.training.feeding import offer
from tools.training.grow import grow
from tracker.files import new_file

CHECKPOINT_S = 180.0
MAX_FACES = 96  # of a training picture; more are left alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="a checkpoint to begin with, of the same or a smaller net")
    parser.add_argument("--cache", type=Path, default=Path("runs/data"), help="folder for the decoded photographs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dry-run", action="store_true", help="two steps, to see that everything fits together")
    args = parser.parse_args()
    config = tomllib.loads(args.config.read_text(encoding="utf-8"))
    if args.dry_run:
        config["train"] |= {"steps": 2, "batch": 2}
    train(config, args.out, args.cache, args.threads, args.init)


def train(config: dict, out: Path, cache: Path, threads: int = 1, init: Path | None = None) -> None:
    """Train to the end of the recipe; a checkpoint every three minutes."""
    torch.set_num_threads(threads)
    settings = config["train"]
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(settings["seed"])
    net = FaceBoxes(**config["net"]).to(device, memory_format=torch.channels_last)
    if init is not None:
        grow(net, torch.load(init, map_location=device, weights_only=True)["average"])
    average = FaceBoxes(**config["net"]).to(device)
    average.load_state_dict(net.state_dict())
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": settings["weight_decay"]},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings["lr"])
    step = 0
    if (out / "last.pt").exists():
        state = torch.load(out / "last.pt", map_location=device, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
    points, strides = grid_points(settings["size_px"], settings["size_px"], device)
    saved_s = started_s = time.monotonic()
    first, sums = step, np.zeros(3)
    with batches(settings, cache, step) as next_batch:
        while step < settings["steps"]:
            for group in optimiser.param_groups:
                group["lr"] = settings["lr"] * schedule(step, settings)
            images, faces, unsure = next_batch()
            images = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()
            logits, distances = net(images.contiguous(memory_format=torch.channels_last))
            losses = loss(
                logits, distances, points, strides, to_tensors(faces, device), to_tensors(unsure, device), config
            )
            total = losses[0] + settings["box_weight"] * losses[1]
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimiser.step()
            step += 1
            follow(average, net, min(settings["ema"], (1 + step) / (10 + step)))
            sums += [float(value.detach()) for value in losses]
            if step % 50 == 0 or step == settings["steps"]:
                count = step - first if step - first < 50 else 50
                rate = (step - first) * settings["batch"] / (time.monotonic() - started_s)
                figures = f"score {sums[0] / count:.4f} box {sums[1] / count:.4f} iou {sums[2] / count:.3f}"
                print(f"{step} {figures} {rate:.0f}/s", flush=True)
                new = not (out / "log.csv").exists()
                with (out / "log.csv").open("a", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    if new:
                        writer.writerow(["step", "score", "box", "iou"])
                    writer.writerow([step, *np.round(sums / count, 5)])
                sums[:] = 0
            if time.monotonic() - saved_s > CHECKPOINT_S or step == settings["steps"]:
                saved_s = time.monotonic()
                state = {
                    "step": step, "config": config, "net": net.state_dict(), "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                }  # fmt: skip
                draw(out)
                with new_file(out / "last.pt") as partial:
                    torch.save(state, partial)


def schedule(step: int, settings: dict) -> float:
    """Factor on the learning rate: a warm-up, then half a cosine down to 1 %."""
    if step < settings["warmup_steps"]:
        return (step + 1) / settings["warmup_steps"]
    done = (step - settings["warmup_steps"]) / max(1, settings["steps"] - settings["warmup_steps"])
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, done))) / 2


@torch.no_grad()
def follow(average, net, keep: float) -> None:
    """Exponential moving average of weights; counts and statistics too."""
    for mean, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - keep)
        else:
            mean.copy_(new)


def to_tensors(boxes: list[np.ndarray], device) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(b[:MAX_FACES], np.float32)).to(device) for b in boxes]


# Losses


def loss(logits, distances, points, strides, faces, unsure, config):
    """Score loss, box loss and mean overlap of a batch, each normalised by the number of positives' worth."""
    assign = config["assign"]
    score_sum = box_sum = worth = overlap_sum = logits.new_zeros(())
    for image in range(len(logits)):
        predicted = boxes_at(points, distances[image])
        target, match = assign_points(logits[image].detach(), predicted.detach(), points, strides, faces[image], assign)
        weight = torch.ones_like(target)
        if len(unsure[image]):
            inside = contains(unsure[image], points).any(dim=0)
            weight[inside & (target == 0)] = 0.0
        probability = logits[image].sigmoid()
        focal = (target - probability).abs() ** 2
        score_sum = (
            score_sum
            + (weight * focal * F.binary_cross_entropy_with_logits(logits[image], target, reduction="none")).sum()
        )
        positive = target > 0
        worth = worth + target.sum()
        if positive.any():
            overlap, generalised = overlaps(predicted[positive], faces[image][match[positive]])
            box_sum = box_sum + (target[positive] * (1 - generalised)).sum()
            overlap_sum = overlap_sum + (target[positive] * overlap).sum().detach()
    norm = worth.clamp(min=1.0)
    return score_sum / norm, box_sum / norm, overlap_sum / norm


def assign_points(logits, predicted, points, strides, faces, assign: dict):
    """Choose the points that answer for each face.

    Returns
    -------
    target (P,): how good the box at a positive point is, 0 elsewhere; match (P,): index of its face
    """
    count = len(faces)
    if count == 0:
        return torch.zeros_like(logits), torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    overlap, _ = overlaps(predicted[None], faces[:, None])
    overlap = overlap.clamp(min=0)
    centre, size = (faces[:, :2] + faces[:, 2:]) / 2, faces[:, 2:] - faces[:, :2]
    offset = (points[None] - centre[:, None]).abs()
    # near the middle of the face; at least the cells around it, however small it is
    allowed = (offset < torch.maximum(0.35 * size[:, None], 0.75 * strides[None, :, None])).all(dim=2)
    # a stride serves faces of about its scale
    length = size.max(dim=1).values[:, None]
    allowed &= (length < 12 * strides[None]) & (length > 1.2 * (strides[None] - 8))
    metric = logits.sigmoid()[None] ** assign["score_power"] * overlap ** assign["iou_power"] + 1e-9
    metric = torch.where(allowed, metric, torch.zeros_like(metric))
    best, index = metric.topk(min(assign["candidates"], metric.shape[1]), dim=1)
    chosen = torch.zeros_like(metric)
    chosen.scatter_(1, index, best)
    value, match = chosen.max(dim=0)
    positive = value > 0
    owner = torch.zeros_like(metric, dtype=torch.bool)
    owner[match, torch.arange(len(match), device=match.device)] = positive
    chosen = torch.where(owner, chosen, torch.zeros_like(chosen))
    # the best point of a face is worth the overlap it reaches
    peak = chosen.max(dim=1, keepdim=True).values.clamp(min=1e-12)
    reach = torch.where(owner, overlap, torch.zeros_like(overlap)).max(dim=1, keepdim=True).values
    target = (chosen / peak * reach.clamp(min=0.05)).max(dim=0).values
    return target, match


def contains(boxes, points):
    """(n, P) bool: which points lie in which boxes."""
    return ((points[None] >= boxes[:, None, :2]) & (points[None] <= boxes[:, None, 2:])).all(dim=2)


def overlaps(a, b):
    """IoU and generalised IoU of boxes (..., 4), broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1), (b[..., 2:] - b[..., :2]).prod(-1)
    union = area_a + area_b - both
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    iou = both / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


# Batches come from another process


class batches:
    """Context manager: a function that returns the next batch, made by a process of its own."""

    def __init__(self, settings: dict, cache: Path, step: int):
        detection.load(cache)  # decodes the photographs when it is the first time
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(maxsize=6)
        self._process = context.Process(target=_supply, args=(self._queue, settings, cache, step), daemon=True)

    def __enter__(self):
        self._process.start()
        return self._next

    def __exit__(self, *exc):
        self._process.terminate()
        self._process.join()

    def _next(self):
        while True:
            try:
                return self._queue.get(timeout=20.0)
            except queue.Empty:
                if not self._process.is_alive():
                    raise RuntimeError("the process that makes the batches has ended") from None


def _supply(out, settings: dict, cache: Path, step: int) -> None:
    cv2.setNumThreads(1)
    sampler = detection.Sampler(detection.load(cache), settings["size_px"], settings["seed"])
    for number in itertools.count(step):
        pictures = range(number * settings["batch"], (number + 1) * settings["batch"])
        images, faces, unsure = zip(*map(sampler.sample, pictures), strict=True)
        if not offer(out, (np.stack(images), list(faces), list(unsure))):
            return


if __name__ == "__main__":
    main()
