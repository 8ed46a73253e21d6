"""Reading ahead: order, errors, and an end from either side."""

import threading
import time

import pytest

from facet.tracker.sources.prefetch import prefetch
from tests.waiting import wait_until


def test_everything_in_order():
    with prefetch(iter(range(100)), depth=3) as items:
        assert list(items) == list(range(100))


def test_nothing_at_all():
    with prefetch([]) as items:
        assert list(items) == []


def test_it_never_reads_further_ahead_than_asked():
    read = []

    def source():
        for index in range(100):
            read.append(index)
            yield index

    with prefetch(source(), depth=2) as items:
        next(items)
        wait_until(lambda: len(read) == 1 + 2)
        time.sleep(0.2)
        assert len(read) == 1 + 2


def test_an_error_arrives_after_what_came_before_it():
    def source():
        yield 1
        raise RuntimeError("broken")

    with prefetch(source()) as items:
        assert next(items) == 1
        with pytest.raises(RuntimeError, match="broken"):
            next(items)


def test_leaving_early_ends_the_thread():
    before = set(threading.enumerate())

    def endless():
        while True:
            yield 0

    with prefetch(endless(), depth=1) as items:
        next(items)
    wait_until(lambda: not set(threading.enumerate()) - before)


def test_nothing_is_waited_for_once_it_is_stopped():
    stopped, go_on = threading.Event(), threading.Event()

    def stalling():
        yield 0
        go_on.wait()

    with prefetch(stalling(), stopped=stopped.is_set) as items:
        assert next(items) == 0
        threading.Timer(0.2, stopped.set).start()
        assert list(items) == []
    go_on.set()


def test_what_was_read_ahead_is_left_once_it_is_stopped():
    stopped = threading.Event()
    with prefetch(iter(range(10)), depth=5, stopped=stopped.is_set) as items:
        assert next(items) == 0
        stopped.set()
        assert list(items) == []


def test_while_a_large_item_is_used_none_is_read():
    read = []

    def source():
        for index in range(4):
            read.append(index)
            yield index

    with prefetch(source(), is_large=lambda index: index == 1) as items:
        next(items)
        wait_until(lambda: len(read) == 2)
        assert next(items) == 1
        time.sleep(0.2)
        assert len(read) == 2
        assert list(items) == [2, 3]
