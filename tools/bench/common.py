"""What all benchmarks share: what machine this was, which networks and clips, and how figures are taken and written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

PACKAGES = ("numpy", "numba", "opencv-python", "onnxruntime", "moderngl", "imageio-ffmpeg")
ROOT = Path(__file__).resolve().parents[2]
UPSTREAM_CONFIG = ROOT / "configs" / "3ddfa_v2.toml"
BLOCK = 10


def machine() -> dict:
    """The machine and the versions that a figure belongs to."""
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "load_before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
        "packages": {name: version(name) for name in PACKAGES},
    }


def processor_name() -> str:
    """As the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write_json(path: Path, results: dict) -> None:
    """Results with the machine they were measured on."""
    path.write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n", encoding="utf-8")


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before a `--`, and after it: what is for a benchmark, and what for app.py."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def has_upstream() -> bool:
    """Whether the imported networks of FaceBoxes and 3DDFA_V2 are there to be measured beside ours."""
    return (ROOT / "weights" / "upstream" / "manifest.toml").exists()


def default_config() -> Path | None:
    """None for the project's own networks; the imported ones' settings where ours are absent."""
    if (ROOT / "weights" / "regressor.onnx").exists() and (ROOT / "weights" / "detector.onnx").exists():
        return None
    if has_upstream():
        return UPSTREAM_CONFIG
    raise SystemExit("weights/regressor.onnx and weights/detector.onnx: expected networks, found none; train them")


def clip_720p() -> Path:
    """The 720p clip with one face that figures are reported for: of the test material, else the demo's."""
    material = Path(os.environ.get("FACET_MATERIAL", ROOT.parent / "shared"))
    clip = material / "media" / "videos" / "s32.mp4"
    return clip if clip.exists() else ROOT / "samples" / "demo.mp4"


def times_ms(
    functions: dict[str, Callable[[], object]], runs: int, warm: int = 5, block: int = BLOCK
) -> dict[str, np.ndarray]:
    """Time each function; (runs,) ms.

    They take turns, so that what else the machine does hits all of them, and `block` calls at a time, so that each has
    its own data in the caches as it has in use.
    """
    taken = {name: np.empty(runs) for name in functions}
    for function in functions.values():
        for _ in range(warm):
            function()
    for first in range(0, runs, block):
        for name, function in functions.items():
            for run in range(first, min(first + block, runs)):
                start_s = time.perf_counter()
                function()
                taken[name][run] = 1e3 * (time.perf_counter() - start_s)
    return taken


def median_of(runs: list[dict]) -> dict:
    """Figure by figure, of what every run has; figures that are None in one are None."""
    return {
        key: None if any(run[key] is None for run in runs) else float(np.median([run[key] for run in runs]))
        for key in runs[0]
        if all(key in run for run in runs)
    }
