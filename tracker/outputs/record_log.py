"""What all logs have in common: they take the record of each frame, and get their name when they are complete."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from facet.tracker.errors import SinkError
from facet.tracker.files import discard, make_partial, publish


class RecordLog:
    """Writes records to `path`, which gets its name when the log is closed; a context manager.

    When writing fails, what was written so far stays under the temporary name, if it can be read. An exception before
    the first record leaves no file, and one that existed is not replaced.
    """

    readable_in_part = True

    def __init__(self, path: Path, blendshapes: tuple[str, ...] = ()):
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

    @property
    def written(self) -> Path:
        """The file that holds the records so far: the temporary one until the log is closed."""
        return self._path if self._closed else self._partial

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            self.close(keep=kind is None or self._records > 0)
        except SinkError as own:
            if kind is None:
                raise
            if not self._failed:  # else `write` has reported it
                raise SinkError(f"{error}; {own}" if str(error) else str(own)) from error

    def write(self, record: dict) -> None:
        """Add the record of a frame, as of `frame_record`.

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


class TextTable(RecordLog):
    """A text file with a header, then rows of values separated by commas."""

    columns: tuple[str, ...]  # set before this class opens the file
    line_end = "\r\n"

    def rows(self, record: dict) -> Iterable[dict]:
        """The rows of a record by `columns`; what is missing stays empty."""
        raise NotImplementedError

    def _open(self) -> None:
        self._file = open(self._partial, "w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, self.columns, lineterminator=self.line_end)
        self._writer.writeheader()

    def _write(self, record: dict) -> None:
        self._writer.writerows(self.rows(record))

    def _finish(self) -> None:
        self._file.close()
