"""Latencies by stage on a clip, through app.py: tracked frames and frames with a detection apart.

python -m tools.bench.latency [CLIP] [--runs 3] [--json PATH] [-- OPTIONS OF app.py]

The figure of each stage is the median over the runs. `step` is the whole tracking of a frame, `step_detect` the same
where the detector ran, `frame` is capture to output.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tools.bench.common import write_json
from tracker.stages import format_table

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_CLIP = ROOT / "samples" / "demo.mp4"


def measure(clip: Path, options: list[str]) -> dict:
    """One run of app.py into a video; its stages."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile.json"
        command = [sys.executable, str(ROOT / "app.py"), "-f", str(clip), "-o", str(Path(folder) / "out.mp4")]
        done = subprocess.run(
            [*command, "--no-window", "--quiet", "--profile", str(profile), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr.strip() or f"app.py ended with status {done.returncode}")
        return json.loads(profile.read_text(encoding="utf-8"))["otherData"]["stages"]


def median_of(runs: list[dict]) -> dict:
    """Figure by figure."""
    return {
        stage: {key: float(np.median([run[stage][key] for run in runs])) for key in runs[0][stage]}
        for stage in runs[0]
        if all(stage in run for run in runs)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=DEFAULT_CLIP)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="PATH")
    args, options = parser.parse_known_args()
    options = [option for option in options if option != "--"]
    stages = median_of([measure(args.clip, options) for _ in range(max(1, args.runs))])
    for row in stages.values():
        row["n"] = int(row["n"])
    print(f"{args.clip.name}, median of {max(1, args.runs)} runs")
    print(format_table(stages))
    if args.json:
        write_json(args.json, {"clip": args.clip.name, "runs": args.runs, "options": options, "stages": stages})
    return 0


if __name__ == "__main__":
    sys.exit(main())
