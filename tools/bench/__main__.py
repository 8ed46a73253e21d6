"""The whole set of benchmarks: what DESIGN's table of budgets lists, ours and the imported networks in the same run.

python -m tools.bench [CLIP] [--runs 5] [--json PATH] [--only NAME ...] [--soak MINUTES] [--against FOLDER]

Prints the table that README and docs/performance.md show. `--soak` runs nothing but a long live session. `--against`
names another checkout of facet, whose program takes turns with this one where the whole program is measured.
Imported networks (python -m tools.import_3ddfa) are measured where they are present.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.bench import parts, program
from tools.bench.common import ROOT, clip_720p, default_config, machine, write_json

NAMES = ("tracked_face", "faces", "dense", "drawing", "detector", "start_up", "throughput", "live")
LIVE_S = 12.0


def measure(names: tuple[str, ...], clip: Path, runs: int, against: Path | None) -> dict:
    """The results of the named benchmarks."""
    roots = {"ours": ROOT} | ({"against": against.resolve()} if against else {})
    benchmarks = {
        "tracked_face": lambda: parts.tracked_face(clip, 100 * runs),
        "faces": lambda: parts.faces_scaling(clip, 30 * runs),
        "dense": lambda: parts.dense_vertices(20 * runs),
        "drawing": lambda: parts.drawing(10 * runs),
        "detector": lambda: parts.detector(clip, 10 * runs),
        "start_up": lambda: program.start_up(clip, runs, roots),
        "throughput": lambda: program.throughput(clip, runs, roots),
        "live": lambda: program.live(clip, LIVE_S, draw=False),
    }
    results = {}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results[name] = benchmarks[name]()
    return results


def table(results: dict) -> str:
    """The results as a Markdown table: what, the anchor measured in the same run, ours, the ratio, the budget."""
    rows = []

    def add(what: str, anchor: str, ours: str, ratio: float | None, budget: str) -> None:
        rows.append((what, anchor, ours, "" if ratio is None else f"{ratio:.2f}", budget))

    def add_timed(what: str, name: str, label: str, budget: str) -> None:
        if name in results:
            ours, theirs = results[name]["ours_p50_ms"], results[name].get("upstream_p50_ms")
            anchor = f"{label} {theirs:.2f} ms" if theirs else ""
            add(what, anchor, f"{ours:.2f} ms", ours / theirs if theirs else None, budget)

    inside = results.get("tracked_face", {}).get("upstream_here_p50_ms")
    add_timed(
        "one tracked face, one frame, p50",
        "tracked_face",
        f"3DDFA_V2, without score and filter: in our loop {inside or 0:.2f} ms, its own way",
        "0.7, aim 0.5",
    )
    add_timed("dense vertices of one face", "dense", "3DDFA_V2's arithmetic", "0.25")
    add_timed("detector, 720p", "detector", "FaceBoxes", "0.33")
    if "drawing" in results:
        gl = results["drawing"].get("gl_p50_ms")
        add(
            "mesh of a 300 px face into 720p",
            f"{results['drawing']['gl']} {gl:.1f} ms" if gl else "",
            f"{results['drawing']['cpu_p50_ms']:.2f} ms",
            None,
            "6.75 ms (0.25 of Sim3DR's 27 ms)",
        )
    if "faces" in results:
        times = results["faces"]["p50_ms"]
        one = times["1"]
        add(
            "a frame with 4 faces against one",
            f"1 face {one:.2f} ms",
            f"{times['4']:.2f} ms (8 faces {times['8']:.2f} ms)",
            times["4"] / one,
            "3.2",
        )
    if "throughput" in results:
        found = results["throughput"]
        recoded = ", ".join(f"{preset} {found[preset]['fps']:.0f}" for preset in ("ultrafast", "veryfast"))
        add(
            f"{found['size']} H.264 in, mesh and axes, H.264 out, {found['frames']} frames, start-up included",
            f"decode and encode alone: {recoded} fps",
            f"{found['ours']['fps']:.1f} fps",
            None,
            "60 fps, aim 70",
        )
        if found["ours"]["resident_mb"]:
            add("memory, peak of the same runs", "", f"{found['ours']['resident_mb']:.0f} MB", None, "300 MB")
    if "start_up" in results:
        add("start to first tracked frame", "", f"{results['start_up']['ours']:.2f} s", None, "1.0 s, aim 0.7")
    if "live" in results:
        share = results["live"]["cpu_share"]
        add("live, 30 fps, one face, drawing aside", "", f"{100 * share:.0f} % of a core", None, "25 %")
    lines = [("what", "beside it, same run", "ours", "ratio", "budget"), ("---",) * 5, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def soak_table(result: dict) -> str:
    """The long session in a few lines."""
    stages, session = result["profile"]["stages"], result["profile"]
    p50 = stages["step"]["p50_ms"]
    lines = [
        f"soak of {result['seconds'] / 60:.0f} minutes at 30 fps: {stages['frame']['n']} frames, "
        f"{session['dropped_frames']} dropped, {100 * result['cpu_share']:.0f} % of a core with drawing",
        f"memory: {result['resident_mb']:.0f} MB, since the first minute {result['growth_mb'] or 0:+.1f} MB",
        f"left behind: threads {result['threads_left'] or 'none'}, file handles {result['handles_left']}",
    ]
    for name in ("step", "step_detect"):
        if row := stages.get(name):
            lines.append(
                f"{name}: n {row['n']}, p50 {row['p50_ms']:.2f} ms, p99 {row['p99_ms']:.2f} ms "
                f"({row['p99_ms'] / p50:.1f} x the p50 of step), max {row['max_ms']:.2f} ms"
            )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools.bench", description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, default=clip_720p())
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout of facet")
    args = parser.parse_args(argv)
    networks = "own" if default_config() is None else "imported (configs/3ddfa_v2.toml)"
    results = {"networks": networks, "clip": args.clip.name, "runs": args.runs}
    if args.soak:
        results["soak"] = program.live(args.clip, 60 * args.soak, draw=True)
        text = soak_table(results["soak"])
    else:
        results |= measure(tuple(args.only), args.clip, max(1, args.runs), args.against)
        text = table(results)
    here = machine()
    print(f"{here['processor']}, {here['cores']} cores; commit {here['commit']}; networks: {networks}\n")
    print(text)
    if args.json:
        write_json(args.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
