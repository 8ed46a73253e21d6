"""Records as tables: a row a face, CSV and Parquet."""

from __future__ import annotations

from pathlib import Path

from facet.tracker.errors import ConfigError
from facet.tracker.outputs.record import columns, rows
from facet.tracker.outputs.record_log import RecordLog, TextTable

GROUP_ROWS = 2000  # of a Parquet file that are kept in memory
TEXT, WHOLE = ("source", "state"), ("frame", "width", "height", "id")  # columns that hold no fractions


class CsvLog(TextTable):
    """A header, then a row a face; a frame without a face has one row."""

    def __init__(self, path: Path, blendshapes: tuple[str, ...]):
        self.columns = columns(blendshapes)
        super().__init__(path)

    def rows(self, record: dict) -> list[dict]:
        return rows(record)


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
