"""What Ctrl-C and the other signals that end a run do while it goes on."""

from __future__ import annotations

import contextlib
import signal
import time

from facet.tracker.sources.base import Source

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PATIENCE_S = 1.0  # a signal that comes so long after the first one says that the run does not end by itself


def raise_at_signals() -> None:
    """All of SIGNALS raise KeyboardInterrupt, but for those that the parent had ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def ignore_signals() -> None:
    """For the last steps, which nothing may break off."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def handled_by(handler, *numbers: int):
    """Meanwhile `handler` gets these signals, but for those that the parent had ignored."""
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        for number in numbers:
            signal.signal(number, handler)
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)


def uninterrupted():
    """Ctrl-C, pressed once more, has no effect meanwhile; a disk that hangs is left by the other signals."""
    return handled_by(signal.SIG_IGN, signal.SIGINT)


@contextlib.contextmanager
def signals_stop(source: Source):
    """Ctrl-C stops the source; KeyboardInterrupt follows when the frame under way is done.

    Raised wherever the program happens to be, it would now and then leave the lock of a queue held for ever. Only
    where the run does not end by itself does a later signal break in.
    """
    stopped_s = None

    def stop(*_):
        nonlocal stopped_s
        source.stop()
        now_s = time.monotonic()
        stopped_s = stopped_s or now_s
        if now_s - stopped_s > PATIENCE_S:
            raise KeyboardInterrupt

    with handled_by(stop, *SIGNALS):
        yield
    if stopped_s is not None:
        raise KeyboardInterrupt
