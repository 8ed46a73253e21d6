"""Batches come from processes of their own, in the order of their numbers however many there are."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from queue import Empty, Full

import cv2
import numpy as np

from tools.training import TrainingError
from tools.training.recipe import Recipe, parts_of

WAIT_S = 2.0  # how often a process that waits checks that the other one lives
QUEUE_BATCHES = 6


class Feeder:
    """Batches `first`, `first + step`, ... of a recipe's data.

    Each is made from the recipe's seed and its number alone, so a run that is resumed continues the stream.
    """

    def __init__(self, recipe: Recipe, folder: Path, first: int = 0, step: int = 1, processes: int = 1):
        context = multiprocessing.get_context("spawn")
        self._queues = [context.Queue(max(2, QUEUE_BATCHES // processes)) for _ in range(processes)]
        self._processes = [
            context.Process(target=_feed, args=(queue, recipe, folder, first + k * step, processes * step), daemon=True)
            for k, queue in enumerate(self._queues)
        ]
        self._taken = 0

    def __enter__(self) -> Feeder:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *exc) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def next(self) -> dict[str, np.ndarray]:
        """The next batch.

        Raises
        ------
        TrainingError
            If the process that makes it has ended.
        """
        turn = self._taken % len(self._queues)
        self._taken += 1
        while True:
            try:
                return self._queues[turn].get(timeout=WAIT_S)
            except Empty:
                if not self._processes[turn].is_alive():
                    raise TrainingError("a process that makes training batches has ended; its error is above") from None


def offer(queue, batch) -> bool:
    """Put a batch, waiting for room; False where the training has ended, as when it was killed."""
    training = multiprocessing.parent_process()
    while training is None or training.is_alive():
        try:
            queue.put(batch, timeout=WAIT_S)
            return True
        except Full:
            continue
    queue.cancel_join_thread()  # nobody reads what is under way
    return False


def _feed(queue, recipe: Recipe, folder: Path, first: int, step: int) -> None:
    cv2.setNumThreads(1)
    feed = parts_of(recipe.network).data.Feed(recipe, folder)
    number = first
    while offer(queue, feed(number)):
        number += step
