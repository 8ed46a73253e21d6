"""What all benchmarks share: what machine this was, and how figures are written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("numpy", "numba", "onnxruntime", "moderngl", "imageio-ffmpeg")


def machine() -> dict:
    """The machine and the versions that a figure belongs to."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
        "packages": {name: version(name) for name in PACKAGES},
    }


def processor_name() -> str:
    """As the system tells it."""
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
