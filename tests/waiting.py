"""Waits for what another thread does."""

import time


def wait_until(condition, timeout_s=30.0):
    """Return once `condition()` is true; fail where that takes longer."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)
