"""`--profile`: latencies by stage, and a Chrome trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from facet.session import Session
from facet.tracker.files import new_file
from facet.tracker.stages import format_table


def profile_figures(session: Session) -> dict:
    """What the table of stages cannot hold: start-up, share of frames that were detected in, dropped frames, delay."""
    table, summary = session.stages.summary(), session.summary
    return {
        "start_up_s": summary.first_face_s,
        "detector_share": table.get("detect", {"n": 0})["n"] / max(1, summary.frames),
        "dropped_frames": session.source.dropped,
        "delay": summary.delays.summary().get("delay"),
    }


def profile_lines(session: Session) -> Iterator[str]:
    """The table of latencies by stage, and the other figures, as text."""
    table, figures = session.stages.summary(), profile_figures(session)
    yield from format_table(table).splitlines()
    if figures["start_up_s"] is not None:
        yield f"start-up: {figures['start_up_s']:.2f} s to the first face"
    detections, frames = table.get("detect", {"n": 0})["n"], session.summary.frames
    yield f"detector: in {detections} of {frames} frames ({100 * figures['detector_share']:.1f} %)"
    if session.source.live:
        yield f"dropped: {figures['dropped_frames']} frames"
    if delay := figures["delay"]:
        times = ", ".join(f"{name} {delay[f'{name}_ms']:.1f}" for name in ("p50", "p95", "p99", "max"))
        yield f"delay, capture to picture out: {times} ms"


def write_trace(session: Session, path: str | Path) -> None:
    """Write the events of all stages as a Chrome trace.

    Raises
    ------
    SinkError
        Where the file cannot be written.
    """
    with new_file(path) as partial:
        partial.write_text(json.dumps(session.stages.chrome_trace(profile_figures(session))), encoding="utf-8")
