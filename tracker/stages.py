"""Latencies by stage: a table for people, Chrome trace events for a timeline."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager

import numpy as np

STAGES = ("read", "detect", "crop", "regress", "model", "update", "step", "step_detect", "draw", "write", "frame")
# Percentiles come from the newest spans of a stage, and the timeline holds the newest events, so that a session of
# days takes no more memory than one of minutes. Count, mean and maximum are of the whole run.
KEPT_SPANS = 20_000
KEPT_EVENTS = 100_000


class Stages:
    """Collects how long each stage took. Any thread may measure."""

    def __init__(self, keep_events: bool = False):
        self._spans: dict[str, deque[float]] = {}
        self._totals: dict[str, tuple[int, float, float]] = {}  # n, sum, max; ms
        self._events: deque[tuple[str, int, int, int]] | None = deque(maxlen=KEPT_EVENTS) if keep_events else None
        self._lock = threading.Lock()
        self._start_ns = time.perf_counter_ns()

    @contextmanager
    def __call__(self, name: str):
        """Measure the body of a `with` statement as one span of the stage `name`."""
        start_ns = time.perf_counter_ns()
        try:
            yield
        finally:
            self.add(name, start_ns, time.perf_counter_ns())

    def add(self, name: str, start_ns: int, end_ns: int) -> None:
        """Add a span between two readings of `time.perf_counter_ns`."""
        span_ms = (end_ns - start_ns) * 1e-6
        with self._lock:
            if name not in self._spans:
                self._spans[name] = deque(maxlen=KEPT_SPANS)
            self._spans[name].append(span_ms)
            n, total, longest = self._totals.get(name, (0, 0.0, 0.0))
            self._totals[name] = n + 1, total + span_ms, max(longest, span_ms)
            if self._events is not None:
                self._events.append((name, start_ns, end_ns, threading.get_native_id()))

    def last_ms(self, name: str) -> float:
        """Length of the newest span of a stage; 0 where there is none."""
        with self._lock:
            return self._spans[name][-1] if name in self._spans else 0.0

    def summary(self) -> dict[str, dict[str, float]]:
        """Count and latencies of each stage that ran, in the order of `STAGES`."""
        with self._lock:
            spans = {name: np.array(values) for name, values in self._spans.items()}
            totals = dict(self._totals)
        table = {}
        for name in [s for s in STAGES if s in spans] + sorted(set(spans) - set(STAGES)):
            p50, p95, p99 = np.percentile(spans[name], [50, 95, 99])
            n, total, longest = totals[name]
            table[name] = {
                "n": n,
                "mean_ms": total / n,
                "p50_ms": float(p50),
                "p95_ms": float(p95),
                "p99_ms": float(p99),
                "max_ms": longest,
            }
        return table

    def chrome_trace(self, session: dict | None = None) -> dict:
        """The spans as Chrome trace events (complete events, microseconds), the summary under `otherData.stages`.

        `session` tells more of the run; it goes under `otherData` as it is.
        """
        with self._lock:
            events = list(self._events or ())
        return {
            "traceEvents": [
                {
                    "name": name,
                    "ph": "X",
                    "pid": 1,
                    "tid": thread,
                    "ts": (start_ns - self._start_ns) / 1000,
                    "dur": (end_ns - start_ns) / 1000,
                }
                for name, start_ns, end_ns, thread in events
            ],
            "displayTimeUnit": "ms",
            "otherData": {"stages": self.summary(), **(session or {})},
        }


def format_table(summary: dict[str, dict[str, float]]) -> str:
    """The summary as aligned text, a line a stage."""
    lines = [f"{'stage':<12}{'n':>7}{'mean':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}   ms"]
    for name, row in summary.items():
        times = "".join(f"{row[key]:9.2f}" for key in ("mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"))
        lines.append(f"{name:<12}{row['n']:>7}{times}")
    return "\n".join(lines)
