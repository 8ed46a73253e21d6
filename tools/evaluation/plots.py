"""The figures of the evaluation as pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

YAW_STEP_DEG = 10


def save(figure, path: Path) -> None:
    """Write a picture and forget it."""
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def panels(count: int, columns: int = 3, width: float = 4.2, height: float = 3.2):
    """A figure and so many axes."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[count:]:
        axis.remove()
    for axis in axes.flat[:count]:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
    return figure, axes.flat[:count]


def landmarks(results: dict, errors: dict, folder: Path) -> None:
    """A set each: the share of faces up to an error, a missed one never; and the errors by yaw."""
    figure, axes = panels(2 * len(results), columns=2)
    for (name, systems), (curve, bars) in zip(results.items(), zip(axes[::2], axes[1::2], strict=True), strict=True):
        limit = np.linspace(0, 10, 201)
        for system, error in errors[name].items():
            curve.plot(limit, [(error <= t).mean() for t in limit], label=system)
        curve.set(title=f"{name}: faces up to an error", xlabel="NME, %", ylim=(0, 1.02))
        curve.legend(fontsize=8)
        bins = sorted({key for row in systems.values() for key in row if key.startswith("nme_yaw_")} - {"nme_yaw_mean", "nme_yaw_std"})  # fmt: skip  # noqa: E501
        for i, (system, row) in enumerate(systems.items()):
            bars.bar(np.arange(len(bins)) + 0.4 * i, [row.get(key, 0) for key in bins], 0.36, label=system)
        bars.set_xticks(np.arange(len(bins)) + 0.2, [key.removeprefix("nme_yaw_").replace("_", "-") for key in bins])
        bars.set(title=f"{name}: NME by yaw", xlabel="degrees", ylabel="%")
    save(figure, folder / "landmarks.png")


def pose(reported: dict[str, np.ndarray], truth: np.ndarray, folder: Path) -> None:
    """Reported over true angles."""
    figure, axes = panels(3)
    for k, (axis, name) in enumerate(zip(axes, ("yaw", "pitch", "roll"), strict=True)):
        for system, angles in reported.items():
            axis.plot(truth[:, k], angles[:, k], ".", markersize=3, label=system)
        ends = truth[:, k].min(), truth[:, k].max()
        axis.plot(ends, ends, "k-", linewidth=0.6)
        axis.set(title=name, xlabel="true, deg", ylabel="reported, deg")
    axes[0].legend(fontsize=8)
    save(figure, folder / "pose.png")


def by_photograph(values: dict[str, list[float]], title: str, path: Path) -> None:
    """A figure of every photograph."""
    figure, (axis,) = panels(1, width=7)
    for name, row in values.items():
        axis.plot(np.arange(1, len(row) + 1), row, "o-", markersize=4, linewidth=0.8, label=name)
    axis.set(title=title, xlabel="photograph", yscale="log")
    axis.legend(fontsize=8)
    save(figure, path)


def sway(paths: dict[str, np.ndarray], truth: np.ndarray, folder: Path) -> None:
    """Predicted less true place of a face, one photograph."""
    figure, (axis,) = panels(1, width=7)
    for name, x in paths.items():
        axis.plot((x - x.mean()) - (truth - truth.mean()), linewidth=1, label=name)
    axis.set(title="a swaying face: reported less true place", xlabel="frame", ylabel="px")
    axis.legend(fontsize=8)
    save(figure, folder / "lag.png")


def lids(reported: dict[str, np.ndarray], gap: np.ndarray, folder: Path) -> None:
    """Reported weights over MediaPipe's gaps of the lids."""
    figure, axes = panels(len(reported))
    for axis, (name, blink) in zip(axes, reported.items(), strict=True):
        axis.plot(gap.ravel(), blink.ravel(), ".", markersize=2)
        axis.set(title=name, xlabel="gap of the lids / width of the eye (MediaPipe)", ylabel="eyeBlink")
        axis.set(xlim=(0, 0.6), ylim=(-0.02, 1.02))
    save(figure, folder / "blink.png")


def scores(kinds: dict[str, np.ndarray], folder: Path) -> None:
    """How the scores of each kind of crop are spread."""
    figure, (axis,) = panels(1, width=7)
    axis.violinplot(list(kinds.values()), showmedians=True, widths=0.9)
    axis.set_xticks(range(1, len(kinds) + 1), list(kinds))
    axis.set(title="scores", ylim=(-0.02, 1.02))
    save(figure, folder / "score.png")


def blendshapes(reported: dict[str, np.ndarray], names: tuple[str, ...], truth: np.ndarray, folder: Path) -> None:
    """Reported over true weights, a panel for each name; `reported`: (names, people, frames of a ramp)."""
    figure, axes = panels(len(names), columns=9, width=1.7, height=1.6)
    for k, (axis, name) in enumerate(zip(axes, names, strict=True)):
        for i, (system, weights) in enumerate(reported.items()):
            axis.plot(truth, weights[k].T, ".", color=f"C{i}", markersize=2, label=system)
        axis.plot((0, 1), (0, 1), "k-", linewidth=0.5)
        axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
        axis.set_title(name, fontsize=8)
        axis.tick_params(labelsize=6)
    save(figure, folder / "blendshapes.png")
