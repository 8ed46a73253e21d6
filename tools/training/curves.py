"""The logs of a training: log.csv with the losses, val.csv with held-out figures, both as curves.png.

usage: python -m tools.training.curves runs/regressor
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

ROW_S = 30.0


class Log:
    """Writes the mean of each loss every half minute, held-out figures when they come, and both as curves."""

    def __init__(self, folder: Path, seen: int, writes: bool = True):
        self._folder, self._writes = folder, writes
        self._start(seen)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exc) -> None:
        if self._steps:
            self._write_losses()
        if self._writes:
            draw(self._folder)

    def add(self, seen: int, losses: dict) -> None:
        """The losses of a step, scalar tensors, after which `seen` samples were seen."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._seen, self._steps = seen, self._steps + 1
        if time.monotonic() - self._since_s > ROW_S:
            self._write_losses()

    def validated(self, seen: int, figures: dict[str, float]) -> None:
        """Figures on held-out photographs."""
        if figures:
            self._append("val.csv", {"seen": seen} | figures)
            draw(self._folder)

    def _start(self, seen: int) -> None:
        self._first = self._seen = seen
        self._steps, self._sums, self._since_s = 0, {}, time.monotonic()

    def _write_losses(self) -> None:
        rate = (self._seen - self._first) / max(1e-3, time.monotonic() - self._since_s)
        means = {name: round(float(value) / self._steps, 5) for name, value in self._sums.items()}
        if self._writes:
            self._append("log.csv", {"seen": self._seen, "per_s": round(rate)} | means)
        self._start(self._seen)

    def _append(self, name: str, row: dict) -> None:
        path = self._folder / name
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        print("  ".join(f"{name} {value:.5g}" for name, value in row.items()), flush=True)


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
