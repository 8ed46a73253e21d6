"""Files that the records of frames go to: JSON Lines, CSV, Parquet."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tracker.errors import ConfigError, SinkError
from tracker.files import discard, make_partial, publish
from tracker.outputs.record import columns, rows

GROUP_ROWS = 2000  # of a Parquet file that are kept in memory
TEXT, WHOLE = ("source", "state"), ("frame", "width", "height", "id")  # columns that hold no fractions


class RecordLog:
    """Writes records to `path`, which gets its name when the log is closed; a context manager.

    When writing fails, what was written so far stays under the temporary name, if it can be read. An exception before
    the first record leaves no file, and one that existed is not replaced.
    """

    readable_in_part = True

    def __init__(self, path: Path):
        self._path = path
        self._failed = self._closed = False
        self._records = 0
        self._partial = make_partial(path)
        try:
            self._open()
        except BaseException as error:
            discard(self._partial)
            if not isinstance(error, OSError):
                raise
            raise SinkError(f"{path}: cannot be written ({error.strerror or error}); is the disk full?") from error

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.close(keep=kind is None or self._records > 0)

    def write(self, record: dict) -> None:
        """Add what `frame_record` told of a frame.

        Raises
        ------
        SinkError
            Where that fails, as on a full disk.
        """
        try:
            self._write(record)
            self._records += 1
        except OSError as error:
            self._failed = True
            raise self._error(error) from error

    def close(self, keep: bool = True) -> None:
        """Finish the file and give it its name, or delete it. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._finish()
        except OSError as error:
            raise self._error(error) from error
        if self._failed:
            return  # `write` has said where the rest is
        if keep:
            publish(self._partial, self._path)
        else:
            discard(self._partial)

    def _error(self, error: OSError) -> SinkError:
        left = f"{self._partial} holds what was written so far"
        if not self.readable_in_part:
            left = "a .csv or .jsonl would have kept what was written so far"
            discard(self._partial)
        return SinkError(f"{self._path}: writing failed ({error.strerror or error}); {left}")

    def _open(self) -> None:
        raise NotImplementedError

    def _write(self, record: dict) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError


class JsonLinesLog(RecordLog):
    """One JSON object a line, a line a frame."""

    def _open(self) -> None:
        self._file = open(self._partial, "w", encoding="utf-8", newline="\n")

    def _write(self, record: dict) -> None:
        self._file.write(json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n")

    def _finish(self) -> None:
        self._file.close()


class CsvLog(RecordLog):
    """A header, then a row a face; a frame without a face has one row."""

    def __init__(self, path: Path, blendshapes: tuple[str, ...]):
        self._columns = columns(blendshapes)
        super().__init__(path)

    def _open(self) -> None:
        self._file = open(self._partial, "w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, self._columns)
        self._writer.writeheader()

    def _write(self, record: dict) -> None:
        self._writer.writerows(rows(record))

    def _finish(self) -> None:
        self._file.close()


class ParquetLog(RecordLog):
    """The rows of a .csv, for tools that analyse tables; it needs pyarrow."""

    readable_in_part = False  # its table of contents comes last

    def __init__(self, path: Path, blendshapes: tuple[str, ...]):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ConfigError(f"--log {path}: Parquet needs pyarrow; pip install pyarrow, or name a .csv") from error
        self._arrow = pyarrow
        kinds = dict.fromkeys(TEXT, pyarrow.string()) | dict.fromkeys(WHOLE, pyarrow.int64())
        kinds["detected"] = pyarrow.bool_()
        self._schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in columns(blendshapes)])
        self._rows: list[dict] = []
        super().__init__(path)

    def _open(self) -> None:
        self._writer = self._arrow.parquet.ParquetWriter(self._partial, self._schema)

    def _write(self, record: dict) -> None:
        self._rows += rows(record)
        if len(self._rows) >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def _finish(self) -> None:
        if self._rows and not self._failed:
            self._write_group()
        self._writer.close()


LOGS = {".jsonl": JsonLinesLog, ".csv": CsvLog, ".parquet": ParquetLog}


def open_log(path: Path, blendshapes: tuple[str, ...]) -> RecordLog:
    """A log of the kind that the name's ending asks for.

    Parameters
    ----------
    path : ends in one of LOGS
    blendshapes : names in `FaceTrack.blendshapes`; they are columns

    Raises
    ------
    SinkError
        Where the file cannot be written.
    ConfigError
        Where a kind needs a library that is missing.
    """
    kind = LOGS[path.suffix.lower()]
    return kind(path) if kind is JsonLinesLog else kind(path, blendshapes)
