"""The logs of a training as a picture.

usage: python -m tools.training.curves runs/small
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def draw(folder: Path) -> None:
    """Write curves.png: every column of log.csv and val.csv against the first."""
    tables = []
    for name in ("log.csv", "val.csv"):
        if (folder / name).exists():
            with (folder / name).open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            tables += [(name, column, rows) for column in list(rows[0])[1:] if rows]
    if not tables:
        return
    wide = min(4, len(tables))
    high = -(-len(tables) // wide)
    figure, axes = pyplot.subplots(high, wide, figsize=(3.2 * wide, 2.4 * high), squeeze=False, layout="constrained")
    for axis in axes.flat[len(tables) :]:
        axis.remove()
    for axis, (name, column, rows) in zip(axes.flat, tables, strict=False):
        first = next(iter(rows[0]))
        axis.plot([float(row[first]) for row in rows], [float(row[column]) for row in rows], linewidth=1)
        axis.set_title(f"{column} ({name.removesuffix('.csv')})", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    figure.savefig(folder / "curves.png", dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
