"""Records as JSON Lines."""

from __future__ import annotations

import json

from facet.tracker.outputs.record_log import RecordLog


class JsonLinesLog(RecordLog):
    """One JSON object a line, a line a frame."""

    def _open(self) -> None:
        self._file = open(self._partial, "w", encoding="utf-8", newline="\n")

    def _write(self, record: dict) -> None:
        self._file.write(json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n")

    def _finish(self) -> None:
        self._file.close()
