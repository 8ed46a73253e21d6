"""`--log`: the endings of its name. Another format is one more file and one more line of LOGS."""

from __future__ import annotations

from pathlib import Path

from facet.tracker.errors import ConfigError
from facet.tracker.outputs.json_lines import JsonLinesLog
from facet.tracker.outputs.livelink_csv import LiveLinkCsv
from facet.tracker.outputs.openface import OpenFaceCsv
from facet.tracker.outputs.record_log import RecordLog
from facet.tracker.outputs.tables import CsvLog, ParquetLog

LOGS = {
    ".jsonl": JsonLinesLog,
    ".csv": CsvLog,
    ".parquet": ParquetLog,
    ".livelink.csv": LiveLinkCsv,
    ".openface.csv": OpenFaceCsv,
}


def log_format(path: Path) -> str:
    """The longest ending of LOGS that a name has.

    Raises
    ------
    ConfigError
        Where it has none.
    """
    fits = [ending for ending in LOGS if path.name.lower().endswith(ending)]
    if not fits:
        raise ConfigError(f"--log {path}: expected a name that ends in {', '.join(LOGS)}")
    return max(fits, key=len)


def open_log(path: Path, blendshapes: tuple[str, ...]) -> RecordLog:
    """A log of the format that the name's ending asks for.

    Parameters
    ----------
    path : ends in one of LOGS
    blendshapes : names in `FaceTrack.blendshapes`; they are columns of tables

    Raises
    ------
    SinkError
        Where the file cannot be written.
    ConfigError
        Where the name has no such ending, or a format needs a library that is missing.
    """
    return LOGS[log_format(path)](path, blendshapes)
