"""Batches go from a process that makes them to the training that it must not outlive."""

from __future__ import annotations

import multiprocessing
from queue import Full

LOOK_S = 2.0  # how often a process that waits for room looks for its parent


def offer(queue, batch) -> bool:
    """Put a batch, waiting for room; False where the training has gone, as when it was killed."""
    training = multiprocessing.parent_process()
    while training is None or training.is_alive():
        try:
            queue.put(batch, timeout=LOOK_S)
            return True
        except Full:
            continue
    queue.cancel_join_thread()  # nobody reads what is under way
    return False
