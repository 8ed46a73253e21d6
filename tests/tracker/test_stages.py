"""The stage clock: figures, the trace, and bounded memory."""

import json

import pytest

from facet.tracker import stages as module
from facet.tracker.stages import Stages, format_table

MS = 1_000_000


def test_figures_of_a_stage():
    stages = Stages()
    for span in range(1, 101):
        stages.add("crop", 0, span * MS)
    row = stages.summary()["crop"]
    assert row == {
        "n": 100,
        "mean_ms": pytest.approx(50.5),
        "p50_ms": pytest.approx(50.5),
        "p95_ms": pytest.approx(95.05),
        "p99_ms": pytest.approx(99.01),
        "max_ms": pytest.approx(100),
    }
    assert stages.last_ms("crop") == pytest.approx(100)
    assert stages.last_ms("draw") == 0


def test_nothing_measured_is_an_empty_table():
    assert Stages().summary() == {}
    assert format_table({}).startswith("stage")


def test_stages_come_in_the_order_of_a_frame():
    stages = Stages()
    for name in ("frame", "draw", "read", "other"):
        stages.add(name, 0, MS)
    assert list(stages.summary()) == ["read", "draw", "frame", "other"]


def test_a_span_counts_when_its_body_fails():
    stages = Stages()
    with pytest.raises(KeyError), stages("crop"):
        raise KeyError
    assert stages.summary()["crop"]["n"] == 1


def test_the_trace_is_what_chrome_reads():
    stages = Stages(keep_events=True)
    with stages("crop"):
        pass
    trace = json.loads(json.dumps(stages.chrome_trace()))
    (event,) = trace["traceEvents"]
    assert event["ph"] == "X"
    assert event["name"] == "crop"
    assert event["dur"] >= 0
    assert trace["otherData"]["stages"]["crop"]["n"] == 1


def test_memory_is_bounded_and_the_count_is_not(monkeypatch):
    monkeypatch.setattr(module, "KEPT_SPANS", 10)
    stages = Stages()
    for span in range(100):
        stages.add("crop", 0, span * MS)
    row = stages.summary()["crop"]
    assert row["n"] == 100
    assert row["mean_ms"] == pytest.approx(49.5)
    assert row["p50_ms"] == pytest.approx(94.5), "percentiles are of the newest"
