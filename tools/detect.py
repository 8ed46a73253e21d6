"""Write the detector's own boxes.

    python -m tools.detect -f SOURCE --log boxes.jsonl [--min-score S] [--config PATH] [--set a.b=value]

One JSON object a frame: "source", "frame", "time_s", "width", "height", "boxes": [[x0, y0, x1, y1, score], ...], image
px, best first. SOURCE is what app.py takes: a video, an image, a folder or glob of images, a URL, '-'.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from app import write_line
from facet.checks import input_files
from facet.detect import open_detector
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.errors import ConfigError, FaceTrackError
from facet.tracker.files import check_targets, new_file
from facet.tracker.sources import open_source


def detect_all(
    source: str, log: Path, config: AppConfig, settings: tuple[Path, ...] = ()
) -> tuple[int, int, list[str]]:
    """Detect in every frame of a source; returns the numbers of frames and of boxes, and what was skipped and why.

    Parameters
    ----------
    source : what `open_source` takes
    log : the file to write; one that exists is replaced when the new one is complete
    config : settings
    settings : the file that they came from

    Raises
    ------
    ConfigError
        Where the log would replace an input or one of `settings`.
    """
    detector = open_detector(config.detector, config.runtime)
    frames = boxes = 0
    with open_source(source, config.source) as opened:
        check_targets({"--log": log}, inputs=[*input_files(source, opened, config), *settings])
        with new_file(log, ".jsonl") as partial, partial.open("w", encoding="utf-8") as file:
            for frame in opened:
                found = detector(frame.image)
                record = {
                    "source": frame.source,
                    "frame": frame.index,
                    "time_s": round(frame.time_s, 6),
                    "width": frame.image.shape[1],
                    "height": frame.image.shape[0],
                    "boxes": [
                        [*(round(v, 3) for v in (b.x_min, b.y_min, b.x_max, b.y_max)), round(b.score, 5)] for b in found
                    ],
                }
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                frames, boxes = frames + 1, boxes + len(found)
    return frames, boxes, opened.skipped


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-f", "--file", required=True, metavar="SOURCE", help="what app.py -f takes")
    parser.add_argument("--log", required=True, type=Path, metavar="PATH", help="the JSON Lines file to write")
    parser.add_argument("--min-score", type=float, metavar="S", help="short for --set detector.min_score=S")
    parser.add_argument("--config", type=Path, metavar="PATH", help="TOML over the defaults")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="one setting over both")
    options = parser.parse_args(arguments)
    if options.min_score is not None:
        options.set.append(f"detector.min_score={options.min_score}")
    try:
        config = load_config(AppConfig, options.config, options.set)
        settings = () if options.config is None else (options.config,)
        frames, boxes, skipped = detect_all(options.file, options.log, config, settings)
    except FaceTrackError as error:
        write_line(f"tools.detect: {error}", sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        write_line("interrupted", sys.stderr)
        return 130
    write_line(f"{frames} frames, {boxes} boxes -> {options.log}", sys.stdout)
    for line in skipped:
        write_line(f"skipped: {line}", sys.stderr)
    return 1 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
