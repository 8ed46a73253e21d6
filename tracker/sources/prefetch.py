"""Reads ahead in a thread, so that decoding overlaps with tracking."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from facet.tracker.sources.base import CLOSE_S, LOOK_S

T = TypeVar("T")
_END = object()


@contextmanager
def prefetch(
    items: Iterable[T],
    depth: int = 1,
    stopped: Callable[[], bool] = lambda: False,
    is_large: Callable[[T], bool] = lambda _: False,
) -> Iterator[Iterator[T]]:
    """Iterate over `items` from another thread, at most `depth` ahead.

    Order is kept and nothing is dropped. An error in `items` is raised where it would have been read. Leaving the
    `with` statement stops the thread at its next item, which is not waited for long. Once `stopped` says so, there are
    no more items. While an item that `is_large` is used, none is read: two may not fit into memory.
    """
    ahead: queue.Queue = queue.Queue(depth)  # never full, as what is put there had room
    room = threading.Semaphore(depth)  # taken before an item is read, as a picture that waits takes memory
    stop = threading.Event()

    def read() -> None:
        try:
            source = iter(items)
            while not stop.is_set():
                if room.acquire(timeout=LOOK_S):
                    ahead.put((next(source), None))
        except StopIteration:
            ahead.put((_END, None))
        except BaseException as error:
            ahead.put((_END, error))

    def deliver() -> Iterator[T]:
        while not stopped():
            try:
                item, error = ahead.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if item is _END:
                return
            alone = is_large(item)
            if not alone:
                room.release()
            yield item
            del item
            if alone:
                room.release()

    reader = threading.Thread(target=read, name="facet-reader", daemon=True)
    reader.start()
    try:
        yield deliver()
    finally:
        stop.set()
        reader.join(CLOSE_S)
