"""Latencies by stage: a table for people, Chrome trace events for a timeline."""

from __future__ import annotations

import threading
import time
from array import array

import numpy as np

STAGES = (
    "read", "detect", "crop", "regress", "model", "align", "solve", "light", "update", "step", "step_detect", "draw",
    "write", "frame",
)  # fmt: skip
# Percentiles come from the newest spans of a stage, and the timeline holds the newest events, so that a session of
# days takes no more memory than one of minutes. Count, mean and maximum are of the whole run.
KEPT_SPANS = 20_000
KEPT_EVENTS = 100_000


class Stages:
    """Collects how long each stage took. Any thread may measure."""

    def __init__(self, keep_events: bool = False):
        self._stages: dict[str, Stage] = {}
        # number of the stage, start, end, thread
        self._events = tuple(Ring("q", KEPT_EVENTS) for _ in range(4)) if keep_events else None
        self._lock = threading.Lock()
        self._start_ns = time.perf_counter_ns()

    def __call__(self, name: str) -> Span:
        """Measure the body of a `with` statement as one span of the stage `name`."""
        return Span(self, name)

    def add(self, name: str, start_ns: int, end_ns: int) -> None:
        """Add a span between two readings of `time.perf_counter_ns`."""
        span_ms = (end_ns - start_ns) * 1e-6
        with self._lock:
            stage = self._stages.get(name)
            if stage is None:
                stage = self._stages[name] = Stage(len(self._stages))
            stage.spans_ms.add(span_ms)
            stage.total_ms += span_ms
            if span_ms > stage.longest_ms:
                stage.longest_ms = span_ms
            if self._events is not None:
                event = stage.number, start_ns, end_ns, threading.get_native_id()
                for ring, number in zip(self._events, event, strict=True):
                    ring.add(number)

    def last_ms(self, name: str) -> float:
        """Length of the newest span of a stage; 0 where there is none."""
        with self._lock:
            return self._stages[name].spans_ms.last() if name in self._stages else 0.0

    def summary(self) -> dict[str, dict[str, float]]:
        """Count and latencies of each stage that ran, in the order of `STAGES`."""
        with self._lock:
            spans = {name: stage.spans_ms.newest() for name, stage in self._stages.items()}
            totals = {name: (s.spans_ms.count, s.total_ms, s.longest_ms) for name, s in self._stages.items()}
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

        `session` holds more figures of the run; it goes under `otherData` as it is.
        """
        with self._lock:
            events = [ring.newest().tolist() for ring in self._events or ()]
            names = list(self._stages)
        return {
            "traceEvents": [
                {
                    "name": names[stage],
                    "ph": "X",
                    "pid": 1,
                    "tid": thread,
                    "ts": (start_ns - self._start_ns) / 1000,
                    "dur": (end_ns - start_ns) / 1000,
                }
                for stage, start_ns, end_ns, thread in zip(*events, strict=True)
            ],
            "displayTimeUnit": "ms",
            "otherData": {"stages": self.summary(), **(session or {})},
        }


class Ring:
    """The newest of many numbers. All its memory is taken at once, so that a long session takes no more."""

    __slots__ = ("_numbers", "count")

    def __init__(self, kind: str, kept: int):
        self._numbers: array = array(kind, [0]) * kept
        self.count = 0

    def add(self, number: float) -> None:
        self._numbers[self.count % len(self._numbers)] = number
        self.count += 1

    def last(self) -> float:
        return self._numbers[(self.count - 1) % len(self._numbers)]

    def newest(self) -> np.ndarray:
        """(n,) the numbers that are kept, oldest first."""
        numbers, kept = np.array(self._numbers), len(self._numbers)
        return numbers[: self.count] if self.count <= kept else np.roll(numbers, -(self.count % kept))


class Stage:
    """What is kept of one stage."""

    __slots__ = ("longest_ms", "number", "spans_ms", "total_ms")

    def __init__(self, number: int):
        self.number, self.total_ms, self.longest_ms = number, 0.0, 0.0
        self.spans_ms = Ring("f", KEPT_SPANS)


class Span:
    """One run of a stage; a class because contextlib's generators take three times as long."""

    __slots__ = ("_name", "_stages", "_start_ns")

    def __init__(self, stages: Stages, name: str):
        self._stages, self._name = stages, name

    def __enter__(self) -> None:
        self._start_ns = time.perf_counter_ns()

    def __exit__(self, *error) -> None:
        self._stages.add(self._name, self._start_ns, time.perf_counter_ns())


def format_table(summary: dict[str, dict[str, float]]) -> str:
    """The summary as aligned text, a line a stage."""
    lines = [f"{'stage':<12}{'n':>7}{'mean':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}   ms"]
    for name, row in summary.items():
        times = "".join(f"{row[key]:9.2f}" for key in ("mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"))
        lines.append(f"{name:<12}{row['n']:>7}{times}")
    return "\n".join(lines)
