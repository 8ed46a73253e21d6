"""Latencies by stage on a clip, through app.py: tracked frames and frames with a detection apart.

python -m tools.bench.latency [CLIP] [--runs 3] [--json PATH] [-- OPTIONS OF app.py]

The figure of each stage is the median over the runs. `step` is the whole tracking of a frame, `step_detect` the same
where the detector ran, `frame` is capture to output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from facet.tracker.stages import format_table
from tools.bench.common import ROOT, clip_720p, median_of, split_arguments, write_json
from tools.bench.program import run_app


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=clip_720p())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="PATH")
    own, options = split_arguments(sys.argv[1:])
    args = parser.parse_args(own)
    runs = [run_app(args.clip, ROOT, options)["profile"]["stages"] for _ in range(max(1, args.runs))]
    stages = {stage: median_of([run[stage] for run in runs]) for stage in runs[0] if all(stage in run for run in runs)}
    for row in stages.values():
        row["n"] = int(row["n"])
    print(f"{args.clip.name}, median of {max(1, args.runs)} runs")
    print(format_table(stages))
    if args.json:
        write_json(args.json, {"clip": args.clip.name, "runs": args.runs, "options": options, "stages": stages})
    return 0


if __name__ == "__main__":
    sys.exit(main())
