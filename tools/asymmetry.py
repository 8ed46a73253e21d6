"""How far each side of a face moves: a report from a log of a video.

usage: python app.py -f smile.mp4 --log smile.jsonl --config configs/precise.toml
       python -m tools.asymmetry smile.jsonl -o report.csv [--chart report.png] [--frames frames.csv] [--rest 0:1.5]

For brows, lids, nose wings, corners of the mouth and lips, right and left (the subject's): where they are at rest, how
far they move from there, in mm and % of the outer eye distance, and the ratio of left to right. Not a medical device.
"""

from __future__ import annotations

import argparse
import csv
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facet.tracker.errors import ConfigError, FaceTrackError
from facet.tracker.files import check_targets, new_file
from facet.tracker.pose import rotation_from_angles
from tools.face_logs import FaceLog, read_face

NOTICE = "not a medical device: no diagnosis, no measure of a treatment"
LARGEST_YAW_DEG = 40.0  # beyond it one side is hardly seen
REST_S = 1.0  # without --rest: so much from the first frame with the face
NOISE_MM = 1.0  # excursions below it are never divided by; see docs/asymmetry.md
NOISE_STDS = 3.0
CORNERS = ((36, 39), (42, 45))  # of the subject's right and left eye
SIDES = ("right", "left")
ROUNDED = 3  # digits


@dataclass(frozen=True, slots=True)
class Measure:
    """A length in the head's own frame.

    kind : height over the line through the eye corners; gap between an upper and a lower place; width from the
    midline outwards; offset from the midline to the subject's left
    """

    region: str
    kind: str
    right: tuple  # landmarks whose mean counts; of a gap (upper, lower)
    left: tuple = ()  # empty where there are no sides

    @property
    def sides(self) -> tuple[str, ...]:
        return SIDES if self.left else ("middle",)


MEASURES = (
    Measure("brow_inner", "height", (20, 21), (22, 23)),
    Measure("brow_outer", "height", (17, 18), (25, 26)),
    Measure("lids", "gap", ((37, 38), (41, 40)), ((43, 44), (47, 46))),
    Measure("nose_wing", "height", (31,), (35,)),
    Measure("mouth_corner", "height", (48,), (54,)),
    Measure("mouth_corner", "width", (48,), (54,)),
    Measure("lips", "gap", ((61,), (67,)), ((63,), (65,))),
    Measure("lips_midline", "offset", (51, 62, 66, 57)),
    Measure("lips_midline", "gap", ((62,), (66,))),
)


def head_points(landmarks: np.ndarray, angles_deg: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Landmarks in the head's own frame, mm: x to the subject's left, y up, z forwards.

    The pose is taken off, then the line through the eye corners is levelled; its middle is the origin. So a constant
    error of the head's roll or place does not count.

    Parameters
    ----------
    landmarks : (n, 68, 3) image px
    angles_deg : (n, 3) yaw, pitch, roll
    scale : (n,) px per mm
    """
    rotation = np.array([rotation_from_angles(*angles) for angles in angles_deg]).reshape(-1, 3, 3)
    upright = np.einsum("nji,nkj->nki", rotation, landmarks * (1, -1, 1)) / scale[:, None, None]
    right, left = (upright[:, list(corners)].mean(axis=1) for corners in CORNERS)
    along = left[:, :2] - right[:, :2]
    cos, sin = along.T / np.linalg.norm(along, axis=1)
    upright = upright - ((right + left) / 2)[:, None]
    x, y = upright[..., 0], upright[..., 1]
    cos, sin = cos[:, None], sin[:, None]
    return np.stack([cos * x + sin * y, cos * y - sin * x, upright[..., 2]], axis=-1)


def lengths(points: np.ndarray, measure: Measure) -> np.ndarray:
    """(n, sides) mm of a measure, of (n, 68, 3) points in the head's frame."""
    columns = []
    for side, places in zip((-1, 1), (measure.right, measure.left), strict=True):
        if not places:
            continue
        if measure.kind == "gap":
            upper, lower = (points[:, list(part), 1].mean(axis=1) for part in places)
            columns.append(upper - lower)
        else:
            x, y = (points[:, list(places), axis].mean(axis=1) for axis in range(2))
            columns.append({"height": y, "width": side * x, "offset": x}[measure.kind])
    return np.stack(columns, axis=1)


def eye_distance(points: np.ndarray) -> np.ndarray:
    """(n,) distance of the outer eye corners, mm."""
    return np.linalg.norm(points[:, 36] - points[:, 45], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a face does; of every frame of the log that holds it, NaN where it is turned too far."""

    log: FaceLog
    usable: np.ndarray  # (n,) bool
    rest: tuple[float, float]  # s
    eyes_mm: float  # outer eye distance at rest
    values: list[np.ndarray]  # of each of MEASURES (n, sides) mm
    rest_mm: list[np.ndarray]  # (sides,)
    noise_mm: list[np.ndarray]  # (sides,) below which an excursion may be noise

    def excursions(self, k: int) -> np.ndarray:
        """(n, sides) mm from rest."""
        return self.values[k] - self.rest_mm[k]


def report(log: FaceLog, rest: tuple[float, float] | None = None) -> Report:
    """Measure a face.

    Parameters
    ----------
    rest : from when to when it is at rest, s; None: the first second that shows it

    Raises
    ------
    ConfigError
        If the log has no times, no frame that can be measured, or none at rest.
    """
    if np.ptp(log.time_s) <= 0:
        raise ConfigError(
            f"expected a video, found {len(log.time_s)} still images or a single frame; movement from rest needs time"
        )
    finite = np.isfinite(log.landmarks).all(axis=(1, 2)) & np.isfinite(log.angles_deg).all(axis=1)
    usable = finite & np.isfinite(log.scale) & (log.scale > 0)
    usable[usable] = np.abs(log.angles_deg[usable, 0]) <= LARGEST_YAW_DEG
    if not usable.any():
        raise ConfigError(
            f"expected frames with a yaw of at most {LARGEST_YAW_DEG:.0f} degrees, found none of {len(usable)}; film "
            "the face from the front"
        )
    points = np.full(log.landmarks.shape, np.nan)
    points[usable] = head_points(log.landmarks[usable], log.angles_deg[usable], log.scale[usable])
    if rest is None:
        start = float(log.time_s[usable][0])
        rest = start, start + REST_S
    resting = usable & (log.time_s >= rest[0]) & (log.time_s <= rest[1])
    if not resting.any():
        seen = log.time_s[usable]
        raise ConfigError(
            f"expected frames at rest from {rest[0]:g} to {rest[1]:g} s that show the face from the front, found none; "
            f"such frames are from {seen[0]:g} to {seen[-1]:g} s: name some with --rest"
        )
    values = [lengths(points, measure) for measure in MEASURES]
    rest_mm = [np.median(value[resting], axis=0) for value in values]
    noise = []
    for value, at_rest in zip(values, rest_mm, strict=True):
        spread = 1.4826 * np.median(np.abs(value[resting] - at_rest), axis=0)
        noise.append(np.maximum(NOISE_STDS * spread, NOISE_MM))
    eyes = float(np.median(eye_distance(points[resting])))
    return Report(log, usable, rest, eyes, [smooth(value) for value in values], rest_mm, noise)


def smooth(values: np.ndarray) -> np.ndarray:
    """The median of three frames, so that a single bad one is no peak; NaN stays."""
    if len(values) < 3:
        return values
    padded = np.concatenate([values[:1], values, values[-1:]])
    neighbours = np.stack([padded[:-2], padded[1:-1], padded[2:]])
    neighbours = np.where(np.isnan(neighbours), values, neighbours)
    return np.median(neighbours, axis=0)


PEAKS = [f"{peak}_{what}" for peak in ("highest", "lowest") for what in ("mm", "percent", "s", "ratio")]
COLUMNS = ("region", "measure", "side", "rest_mm", "rest_percent", "noise_mm", *PEAKS)


def summary(result: Report) -> list[dict]:
    """Rows by COLUMNS: of each measure its sides, then the difference, left less right, with the ratio left / right.

    `highest` and `lowest` are the furthest excursions from rest in either direction. There is no ratio where the right
    side's excursion is below its noise.
    """
    rows = []
    percent = 100 / result.eyes_mm
    for k, measure in enumerate(MEASURES):
        excursions = result.excursions(k)
        own = []
        for column, side in enumerate(measure.sides):
            moved = excursions[:, column]
            row = {"region": measure.region, "measure": measure.kind, "side": side}
            row |= {"rest_mm": result.rest_mm[k][column], "noise_mm": result.noise_mm[k][column]}
            for name, find in (("highest", np.nanargmax), ("lowest", np.nanargmin)):
                at = int(find(moved))
                row |= {f"{name}_mm": moved[at], f"{name}_s": result.log.time_s[at]}
            own.append(row)
        rows += own
        if len(own) == 2:
            right, left = own
            names = ("rest_mm", "highest_mm", "lowest_mm")
            row = right | {"side": "difference"} | {name: left[name] - right[name] for name in names}
            row |= {"noise_mm": max(right["noise_mm"], left["noise_mm"]), "highest_s": None, "lowest_s": None}
            for name in ("highest", "lowest"):
                if abs(right[f"{name}_mm"]) >= right["noise_mm"]:
                    row[f"{name}_ratio"] = left[f"{name}_mm"] / right[f"{name}_mm"]
            rows.append(row)
    for row in rows:
        row |= {f"{name}_percent": percent * row[f"{name}_mm"] for name in ("rest", "highest", "lowest")}
    return rows


def frame_rows(result: Report) -> tuple[list[str], list[list]]:
    """Columns and rows of every frame's values, empty where the face is turned too far."""
    names, columns = ["frame", "time_s", "yaw_deg"], [result.log.frame, result.log.time_s, result.log.angles_deg[:, 0]]
    for k, measure in enumerate(MEASURES):
        for column, side in enumerate(measure.sides):
            name = f"{measure.region}.{measure.kind}.{side}"
            moved = result.excursions(k)[:, column]
            names += [f"{name}.mm", f"{name}.excursion_mm", f"{name}.excursion_percent"]
            columns += [result.values[k][:, column], moved, 100 / result.eyes_mm * moved]
    return names, [[rounded(value) for value in row] for row in zip(*columns, strict=True)]


def rounded(value):
    """A number as tables hold it, empty where unknown."""
    if value is None or isinstance(value, str):
        return value or ""
    if not np.isfinite(value):
        return ""
    return int(value) if isinstance(value, (int, np.integer)) else round(float(value), ROUNDED) + 0.0


def write_table(path: Path, names, rows) -> None:
    """Write a CSV file that is complete or not there."""
    with new_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)


def draw(result: Report, path: Path) -> None:
    """Write a chart of each measure's excursions over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 3, figsize=(13, 8), sharex=True, layout="constrained")
    time_s = result.log.time_s
    for k, (axis, measure) in enumerate(zip(axes.flat, MEASURES, strict=True)):
        axis.axvspan(*result.rest, color="0.93")
        axis.axhspan(-result.noise_mm[k].max(), result.noise_mm[k].max(), color="0.97")
        for column, side in enumerate(measure.sides):
            colour = {"right": "tab:blue", "left": "tab:red", "middle": "black"}[side]
            axis.plot(time_s, result.excursions(k)[:, column], color=colour, linewidth=1.2, label=side)
        axis.set_title(f"{measure.region.replace('_', ' ')}, {measure.kind}", fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.supxlabel("s", fontsize=9)
    figure.supylabel("mm from rest", fontsize=9)
    figure.suptitle(f"face {result.log.id}; grey: at rest, and below the noise; {NOTICE}", fontsize=9)
    with new_file(path) as partial:
        figure.savefig(partial, dpi=110)
    pyplot.close(figure)


def show(result: Report, rows: list[dict]) -> list[str]:
    """The report as lines of text."""
    log, left_out = result.log, int((~result.usable).sum())
    lines = [
        f"face {log.id} in {len(log.time_s)} of {log.frames} frames, at rest from {result.rest[0]:g} to "
        f"{result.rest[1]:g} s, outer eye distance {result.eyes_mm:.1f} mm; {NOTICE}"
    ]
    if log.cut_short:
        lines.append("the log is cut short; what it holds was used")
    if left_out:
        lines.append(f"{left_out} frames left blank: turned by more than {LARGEST_YAW_DEG:.0f} degrees, or no numbers")
    if not log.precise:
        lines.append("a log of the default mode, in which brows and corners of the mouth move less than they do; log "
                     "with --config configs/precise.toml")  # fmt: skip
    lines.append(f"{'region, measure':<22}{'side':<12}{'rest':>9}{'highest':>9}{'lowest':>9}   ratio left / right")
    for row in rows:
        ratios = [f"{row[name]:.2f}" if name in row else "-" for name in ("highest_ratio", "lowest_ratio")]
        ratio = f"{ratios[0]:>9}{ratios[1]:>7}" if row["side"] == "difference" else ""
        numbers = "".join(f"{row[name] + 0.0:9.2f}" for name in ("rest_mm", "highest_mm", "lowest_mm"))
        lines.append(f"{row['region'] + ', ' + row['measure']:<22}{row['side']:<12}{numbers}{ratio}")
    return lines


def interval(text: str) -> tuple[float, float]:
    """Two times in seconds, "0:1.5"."""
    try:
        start, end = map(float, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected two times in seconds, as 0:1.5, found {text}") from None
    if not 0 <= start < end < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a start before an end, as 0:1.5, found {text}")
    return start, end


class Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line."""

    def error(self, message: str):
        print(f"tools.asymmetry: {message}", file=sys.stderr)
        sys.exit(2)


def main(arguments: list[str] | None = None) -> int:
    if hasattr(signal, "SIGPIPE"):  # a reader that leaves ends the program quietly
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    text = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m tools.asymmetry", description=__doc__, formatter_class=text)
    parser.add_argument("log", metavar="LOG", type=Path, help="of app.py --log: .jsonl, .csv or .parquet")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PATH", help="the report, .csv")
    parser.add_argument("--chart", type=Path, metavar="PATH", help="excursions over time, .png")
    parser.add_argument("--frames", type=Path, metavar="PATH", help="the values of every frame, .csv")
    parser.add_argument("--rest", type=interval, metavar="FROM:TO", help="when the face is at rest, s (default: the "
                        "first second that shows it)")  # fmt: skip
    parser.add_argument("--id", type=int, metavar="N", help="which face, where the log holds several")
    args = parser.parse_args(arguments)
    outputs = {"-o": args.output, "--chart": args.chart, "--frames": args.frames}
    try:
        for option, path in outputs.items():
            suffix = ".png" if option == "--chart" else ".csv"
            if path and path.suffix.lower() != suffix:
                raise ConfigError(f"{option} {path}: expected a name that ends in {suffix}")
        check_targets({option: path for option, path in outputs.items() if path}, inputs=[args.log])
        log = read_face(args.log, args.id)
        try:
            result = report(log, args.rest)
        except ConfigError as error:
            raise ConfigError(f"{args.log}: {error}") from error
        rows = summary(result)
        write_table(args.output, COLUMNS, [[rounded(row.get(name)) for name in COLUMNS] for row in rows])
        if args.frames:
            write_table(args.frames, *frame_rows(result))
        if args.chart:
            draw(result, args.chart)
    except FaceTrackError as error:
        print(f"tools.asymmetry: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(show(result, rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
