"""All figures in one run, and the table of docs/evaluation.md.

    python -m tools.evaluate table [-o out/evaluation]

Each part writes PART.json and its pictures there; the table is printed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
from pathlib import Path

from tools.evaluation.common import OURS, UPSTREAM

PARTS = ("landmarks", "pose", "blendshapes", "blink", "score", "jitter", "lag", "detector")
# what, part, how to say it: <keys in its JSON:format>, * stands for the system
ROWS = (
    ("68 points / sqrt(wh), photographs", "landmarks", "<photographs/*/nme:.2f> %"),
    ("51 inner points / outer eye distance", "landmarks", "<photographs/*/inner:.2f> %"),
    ("both where the face is tracked, as in a video", "landmarks", "<followed/*/nme:.2f>; <followed/*/inner:.2f> %"),
    ("faces missed; worse than 10 %", "landmarks", "<photographs/*/missed:d>; <photographs/*/failures_10:.1f> %"),
    (
        "error of the lip gap; of the mouth width / outer eye distance", "landmarks",
        "<photographs/*/lips:.1f>; <photographs/*/mouth_width:.1f> %",
    ),
    (
        "68 points / sqrt(wh), rendered people, yaw 0-30; 30-60; 60-80 degrees", "landmarks",
        "<rendered/*/nme_yaw_0_30:.1f>; <rendered/*/nme_yaw_30_60:.1f>; <rendered/*/nme_yaw_60_90:.1f> %",
    ),
    (
        "the same in 3D / outer eye distance; faces missed", "landmarks",
        "<rendered/*/gte:.1f> %; <rendered/*/missed:d>",
    ),
    (
        "error of the yaw, rendered people at 0-30; 30-60; 60-80 degrees; missed at 60-80", "pose",
        "<*/0_30/yaw:.1f>; <*/30_60/yaw:.1f>; <*/60_80/yaw:.1f> degrees; <*/60_80/missed:d>",
    ),
    (
        "blendshapes that follow the truth, of those that show", "blendshapes",
        "<rendered/*/shown/good:d> of <rendered/*/shown/shown:d>",
    ),
    (
        "their correlation; slope (medians)", "blendshapes",
        "<rendered/*/shown/median_correlation:.2f>; <rendered/*/shown/median_slope:.2f>",
    ),
    (
        "shut eyes at 0.7 or more; open eyes at 0.25 or less, photographs", "blink",
        "<photographs/*/shut_reported:.0%> of <photographs/*/eyes_shut:d>; "
        "<photographs/*/open_reported:.0%> of <photographs/*/eyes_open:d>",
    ),
    ("winks found, rendered people", "blink", "<rendered/*/winks_reported:.0%>"),
    ("score: faces against half faces, wrong scales, hands, walls (AUC)", "score", "<all_wrong/auc:.4f>"),
    ("jitter of a still, noisy face; without smoothing", "jitter", "<*/jitter:.3f>; <*_raw/jitter:.2f> %"),
    ("jitter of its blendshapes: mean; worst", "jitter", "<*/tremble:.4f>; <*/worst_tremble:.3f>"),
    ("lag of a swaying face", "lag", "<*/lag_frames:.2f> frames"),
    (
        "average precision, crowds, faces from 10 / 20 px (2x) and 32 px (1x)", "detector",
        "<*/crowds_min_face_10/ap_10px_2x:.2f> / <*/crowds_min_face_10/ap_20px_2x:.2f> / "
        "<*/crowds_min_face_10/ap_32px_1x:.2f>",
    ),
)  # fmt: skip


def cell(results: dict, text: str, system: str) -> str:
    """The figures of a system, in the row's format; a dash where it has none."""
    known = True

    def figure(match: re.Match) -> str:
        nonlocal known
        value = results
        for name in match[1].replace("*", system).split("/"):
            value = value.get(name) if isinstance(value, dict) else None
        known &= value is not None
        return "" if value is None else format(value, match[2])

    said = re.sub("<([^:>]+):([^>]+)>", figure, text)
    return said if known else "-"


def table(parts: dict[str, dict]) -> str:
    """Markdown, of the parts' JSON."""
    lines = ["| what | facet | 3DDFA_V2 x0.5 | command |", "|---|---|---|---|"]
    for what, part, text in ROWS:
        if part in parts:
            theirs = "no score" if part == "score" else cell(parts[part], text, UPSTREAM)
            lines.append(f"| {what} | {cell(parts[part], text, OURS)} | {theirs} | `{part}` |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate table", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("out/evaluation"))
    folder = parser.parse_args(arguments).output
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for part in PARTS:
        path = folder / f"{part}.json"
        more = ["--no-time"] if part == "detector" else ["--plots", str(folder)]
        importlib.import_module(f"tools.evaluation.{part}").main(["--json", str(path), *more])
        parts[part] = json.loads(path.read_text(encoding="utf-8"))
    parts["detector"] = {UPSTREAM if "upstream" in file else OURS: of for file, of in parts["detector"].items()}
    print(table(parts))
    return 0
