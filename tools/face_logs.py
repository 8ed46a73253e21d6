"""Reading the logs that `app.py --log` writes: one face's landmarks and poses over time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facet.tracker.errors import ConfigError, SourceError
from facet.tracker.outputs.record import AXES

SUFFIXES = (".jsonl", ".csv", ".parquet")
ANGLES = ("yaw_deg", "pitch_deg", "roll_deg")
MAKE_ONE = "make one with python app.py -f VIDEO --log faces.jsonl"


@dataclass(frozen=True, slots=True, eq=False)
class FaceLog:
    """A face in the frames that hold it; lengths in image px."""

    id: int
    frame: np.ndarray  # (n,) int
    time_s: np.ndarray  # (n,)
    landmarks: np.ndarray  # (n, 68, 3)
    angles_deg: np.ndarray  # (n, 3) yaw, pitch, roll
    scale: np.ndarray  # (n,) px per mm
    origin: np.ndarray  # (n, 3), where the model's origin lies
    precise: bool  # whether the landmarks are the aligner's
    frames: int  # of the whole log
    cut_short: bool  # whether the log ends within a record


def read_face(path: Path, face_id: int | None = None) -> FaceLog:
    """The face of a log that holds one, or the one of this id.

    Raises
    ------
    SourceError
        If the file cannot be read, or is not a log with landmarks.
    ConfigError
        If it holds no face of this id, or several and none was named.
    """
    rows, frames, cut_short = [], 0, False
    for row in _rows(path):
        cut_short |= row is None
        frames += bool(row) and row["new_frame"]
        if row and row["id"] is not None:
            rows.append(row)
    if not rows:
        raise SourceError(f"{path}: expected a face, found none in {frames} frames; track a video that shows one")
    ids, counts = np.unique([row["id"] for row in rows], return_counts=True)
    if face_id is None and len(ids) > 1:
        found = ", ".join(f"{k} ({count} frames)" for k, count in zip(ids[:8], counts, strict=False))
        raise ConfigError(f"{path}: expected one face, found {len(ids)}: {found}; name one with --id")
    face_id = int(ids[0]) if face_id is None else face_id
    if face_id not in ids:
        raise ConfigError(f"--id {face_id}: expected one of {', '.join(map(str, ids[:20]))}, which {path} holds")
    rows = [row for row in rows if row["id"] == face_id]
    names = ("frame", "time_s", "landmarks", "angles_deg", "scale", "origin")
    columns = {name: np.array([row[name] for row in rows]) for name in names}
    return FaceLog(face_id, **columns, precise=any(row["precise"] for row in rows), frames=frames, cut_short=cut_short)


def _rows(path: Path) -> Iterator[dict | None]:
    """The faces of a log, and frames without one (id None); None at the end of a file that is cut short."""
    if path.suffix not in SUFFIXES:
        raise SourceError(f"{path}: expected a log, {', '.join(SUFFIXES)}, found another ending; {MAKE_ONE}")
    read = {".jsonl": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}[path.suffix]
    try:
        yield from read(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error}); {MAKE_ONE}") from error
    except UnicodeDecodeError as error:
        raise _foreign(path, "no text") from error


def _foreign(path: Path, found: str) -> SourceError:
    return SourceError(f"{path}: expected a log of facet with 68 landmarks a face, found {found}; {MAKE_ONE}")


def _json_rows(path: Path) -> Iterator[dict | None]:
    with path.open(encoding="utf-8") as file:
        read = 0
        for line in file:
            try:
                record = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                if not read or next(file, None) is not None:
                    raise _foreign(path, f"line {read + 1} that is no record") from None
                yield None
                return
            try:
                frame = {"frame": int(record["frame"]), "time_s": float(record["time_s"])}
                faces = [_face(face) for face in record["faces"]]
            except (KeyError, TypeError, ValueError, IndexError):
                raise _foreign(path, f"another record in line {read + 1}") from None
            read += 1
            for k, face in enumerate(faces):
                yield frame | face | {"new_frame": k == 0}
            if not faces:
                yield frame | {"id": None, "new_frame": True}
        if not read:
            raise _foreign(path, "an empty file")


def _face(face: dict) -> dict:
    pose, landmarks = face["pose"], np.array(face["landmarks"], np.float64)
    if landmarks.shape != (68, 3):
        raise ValueError
    return {
        "id": int(face["id"]),
        "landmarks": landmarks,
        "angles_deg": [float(pose[name]) for name in ANGLES],
        "scale": float(pose["scale_px_per_mm"]),
        "origin": np.array(pose["translation_px"], np.float64).reshape(3),
        "precise": face.get("irises") is not None,
    }


def _csv_rows(path: Path) -> Iterator[dict | None]:
    with path.open(encoding="utf-8", newline="") as file:
        table = csv.reader(file)
        try:
            header = next(table, None)
            if not header:
                raise _foreign(path, "an empty file")
            _check_columns(path, header)
            last = None
            for k, values in enumerate(table):
                if len(values) != len(header):
                    if next(table, None) is not None:
                        raise _foreign(path, f"{len(values)} values in row {k + 2}, not {len(header)}")
                    yield None
                    return
                row = dict(zip(header, values, strict=True))
                yield _table_row(path, row, k, row["frame"] != last)
                last = row["frame"]
        except csv.Error as error:
            raise _foreign(path, str(error)) from error


def _parquet_rows(path: Path) -> Iterator[dict | None]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise ConfigError(f"{path}: Parquet needs pyarrow; pip install pyarrow, or log a .csv or .jsonl") from error
    if not path.is_file():
        raise FileNotFoundError(2, "No such file")
    try:
        table = parquet.read_table(path)
    except ArrowInvalid as error:
        raise _foreign(path, "no Parquet file") from error
    _check_columns(path, table.column_names)
    last = None
    for k, row in enumerate(table.to_pylist()):
        yield _table_row(path, row, k, row["frame"] != last)
        last = row["frame"]


POINT_COLUMNS = [f"landmarks.{k}.{axis}" for k in range(68) for axis in AXES]


def _check_columns(path: Path, names) -> None:
    needed = ["frame", "time_s", "id", *POINT_COLUMNS, *(f"pose.{name}" for name in ANGLES), "pose.scale_px_per_mm"]
    missing = sorted(set(needed) - set(names))
    if missing:
        raise _foreign(path, f"a table without the column {missing[0]}")


def _table_row(path: Path, row: dict, number: int, new_frame: bool) -> dict:
    try:
        known = {"frame": int(row["frame"]), "time_s": float(row["time_s"]), "new_frame": new_frame}
        if row["id"] in (None, ""):
            return known | {"id": None}
        return known | {
            "id": int(row["id"]),
            "landmarks": np.array([row[name] for name in POINT_COLUMNS], np.float64).reshape(68, 3),
            "angles_deg": [float(row[f"pose.{name}"]) for name in ANGLES],
            "scale": float(row["pose.scale_px_per_mm"]),
            "origin": np.array([row[f"pose.translation_px.{axis}"] for axis in AXES], np.float64),
            "precise": row.get("irises.0.x") not in (None, ""),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(path, f"another value in row {number + 2}") from error
