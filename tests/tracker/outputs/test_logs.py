"""Records as lines and as tables say the same."""

import builtins
import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from facet.tracker.errors import ConfigError, SinkError
from facet.tracker.lighting import FaceAppearance, Light
from facet.tracker.outputs.logs import LOGS, open_log
from facet.tracker.outputs.record import columns, frame_record, rows
from facet.tracker.outputs.record_log import TextTable
from facet.tracker.outputs.tables import GROUP_ROWS
from facet.tracker.types import Frame
from tests.render.heads import egg, place

NAMES = ("eyeBlinkLeft", "jawOpen")
HEAD = egg()


def record_of(index, faces=2):
    """A frame with faces; the first is placed in space, the second has neither place nor score nor irises."""
    track = place(HEAD, 10 + index, 5, 2, scale=0.7)
    irises = np.float32([[11, 12, 13], [21, 22, 23.4567]])
    placed = replace(
        track, translation_mm=np.float32([1, 2, 600]), irises=irises, blendshapes=dict.fromkeys(NAMES, 0.25)
    )
    bare = replace(track, id=2, score=None, blendshapes=dict.fromkeys(NAMES, 0.5))
    frame = Frame(index, index / 30, np.zeros((30, 40, 3), np.uint8), source='a, "clip".mp4')
    return frame_record(frame, (placed, bare)[:faces])


def write(path, records):
    log = open_log(path, NAMES)
    for record in records:
        log.write(record)
    log.close()
    log.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_rows_hold_every_number_of_the_record_under_its_column():
    record = record_of(3)
    (first, second), face = rows(record), record["faces"][0]
    assert list(first) == [name for name in columns(NAMES) if name in first]
    assert set(columns(NAMES)) - set(first) == set()
    missing = {"score"} | {f"{path}.{axis}" for path in ("translation_mm", "irises.0", "irises.1") for axis in "xyz"}
    assert set(columns(NAMES)) - set(second) == missing
    assert record["faces"][0]["irises"] == [[11, 12, 13], [21, 22, 23.457]] and record["faces"][1]["irises"] is None
    assert first["irises.1.z"] == 23.457
    assert (first["frame"], first["time_s"], first["id"], first["detected"]) == (3, 0.1, 1, face["detected"])
    assert [first[f"box.{name}"] for name in ("x0", "y0", "x1", "y1")] == face["box"]
    assert first["pose.yaw_deg"] == face["pose"]["yaw_deg"]
    assert first["pose.translation_px.y"] == face["pose"]["translation_px"][1]
    assert [first[f"landmarks.67.{axis}"] for axis in "xyz"] == face["landmarks"][67]
    assert first["blendshapes.jawOpen"] == 0.25


def test_csv_reads_back(tmp_path):
    records = [record_of(0), record_of(1, faces=0), record_of(2, faces=1)]
    write(tmp_path / "log.csv", records)
    with open(tmp_path / "log.csv", newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    wanted = [row for record in records for row in rows(record)]
    assert len(found) == 4 and tuple(found[0]) == columns(NAMES)
    given = {name: value for name, value in found[2].items() if value != ""}
    assert given == {"source": 'a, "clip".mp4', "frame": "1", "time_s": "0.033333", "width": "40", "height": "30"}
    assert found == [{name: str(row.get(name, "")) for name in columns(NAMES)} for row in wanted]


def test_csv_without_a_frame_has_its_header(tmp_path):
    write(tmp_path / "log.csv", [])
    assert (tmp_path / "log.csv").read_text().strip() == ",".join(columns(NAMES))


def test_parquet_reads_back(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    records = [record_of(k) for k in range(GROUP_ROWS // 2 + 3)] + [record_of(9999, faces=0)]
    write(tmp_path / "log.parquet", records)
    file = parquet.ParquetFile(tmp_path / "log.parquet")
    assert file.num_row_groups == 2  # memory does not grow with the video
    found = file.read().to_pylist()
    wanted = [row for record in records for row in rows(record)]
    assert found == [{name: row.get(name) for name in columns(NAMES)} for row in wanted]
    assert (found[-1]["frame"], found[-1]["id"], found[-1]["detected"]) == (9999, None, None)


def test_parquet_without_a_frame_has_its_columns(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "log.parquet", [])
    table = parquet.read_table(tmp_path / "log.parquet")
    assert table.num_rows == 0 and tuple(table.column_names) == columns(NAMES)


def test_parquet_without_its_library_says_what_to_do(tmp_path, monkeypatch):
    known = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return known(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="pip install pyarrow"):
        open_log(tmp_path / "log.parquet", NAMES)
    assert not list(tmp_path.iterdir())


def test_lines_read_back(tmp_path):
    records = [record_of(0), record_of(1, faces=0)]
    write(tmp_path / "log.jsonl", records)
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == records


@pytest.mark.parametrize("suffix", LOGS)
def test_a_folder_that_is_missing(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(SinkError, match="cannot be written"):
        open_log(tmp_path / "none" / f"log{suffix}", NAMES)


@pytest.mark.parametrize("suffix", LOGS)
def test_a_folder_in_its_place(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / f"log{suffix}").mkdir()
    with pytest.raises(SinkError, match="found a folder"):
        open_log(tmp_path / f"log{suffix}", NAMES)


def test_a_parquet_file_that_cannot_be_finished_is_not_promised(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    log = open_log(tmp_path / "log.parquet", NAMES)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log, "_write", full)
    with pytest.raises(SinkError, match=r"No space left.*a .csv or .jsonl would have kept"):
        log.write(record_of(0))
    log.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", LOGS)
def test_endings_in_capitals(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    write(tmp_path / f"log{suffix.upper()}", [record_of(0)])


@pytest.mark.parametrize("suffix", LOGS)
def test_two_logs_of_one_name_do_not_mix(tmp_path, suffix):
    """The one that is closed last stays, whole."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"log{suffix}"
    alone = tmp_path / "alone"
    alone.mkdir()
    write(alone / path.name, [record_of(k) for k in range(0, 20, 2)])
    first, second = open_log(path, NAMES), open_log(path, NAMES)
    for k in range(20):
        (second if k % 2 else first).write(record_of(k))
    second.close()
    first.close()
    assert path.read_bytes() == (alone / path.name).read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", LOGS)
def test_a_log_that_cannot_get_its_name_is_kept(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path, alone = tmp_path / f"log{suffix}", tmp_path / "alone"
    alone.mkdir()
    write(alone / path.name, [record_of(0)])
    log = open_log(path, NAMES)
    log.write(record_of(0))
    path.mkdir()
    with pytest.raises(SinkError, match="holds the complete file") as caught:
        log.close()
    (kept,) = tmp_path.glob(".facet-*")
    assert str(kept) in str(caught.value)
    assert kept.read_bytes() == (alone / path.name).read_bytes()


@pytest.mark.parametrize("suffix", LOGS)
def test_a_run_that_fails_before_its_first_frame_leaves_the_old_log(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"log{suffix}"
    path.write_bytes(b"hours of work")
    with pytest.raises(ValueError), open_log(path, NAMES):
        raise ValueError
    assert path.read_bytes() == b"hours of work"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError), open_log(path, NAMES) as log:
        log.write(record_of(0))
        raise ValueError
    assert path.read_bytes() != b"hours of work"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["log.partial.jsonl", "log.partial.csv"])
def test_a_file_named_like_a_temporary_one_stays(tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    with open_log(tmp_path / name.replace(".partial", ""), NAMES) as log:
        log.write(record_of(0))
    assert (tmp_path / name).read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_another_format_is_one_line(tmp_path, monkeypatch):
    class Names(TextTable):
        columns = ("frame",)

        def rows(self, record):
            yield {"frame": record["frame"]}

    monkeypatch.setitem(LOGS, ".names.csv", Names)
    write(tmp_path / "a.names.csv", [record_of(3), record_of(4)])
    assert (tmp_path / "a.names.csv").read_text().split() == ["frame", "3", "4"]


@pytest.mark.parametrize("name", ["log", "log.txt", "csv", "log.csv.gz", ".parquet.x"])
def test_endings_that_are_none(tmp_path, name):
    with pytest.raises(ConfigError, match=r"ends in .jsonl, .csv, .parquet, .livelink.csv, .openface.csv"):
        open_log(tmp_path / name, NAMES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("written", [True, False])
def test_two_outputs_that_fail_are_both_reported(tmp_path, monkeypatch, written):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(SinkError) as caught, open_log(tmp_path / "a.csv", NAMES) as log:
        if written:
            log.write(record_of(0))
        raise SinkError("b.png: cannot be replaced")
    expected = "b.png: cannot be replaced"
    for kept in tmp_path.iterdir():
        refused = f"{tmp_path / 'a.csv'}: cannot be replaced (Operation not permitted)"
        expected += f"; {refused}; {kept} holds the complete file"
    assert str(caught.value) == expected
    assert len(list(tmp_path.iterdir())) == written


def test_light_and_identity_are_logged_where_they_are_estimated_and_tables_leave_them_out():
    harmonics = np.arange(27, dtype=np.float32).reshape(3, 9) / 100
    track = replace(place(HEAD), shape=np.float32([0.5, -1]), blendshapes=dict.fromkeys(NAMES, 0.5))
    known = replace(track, appearance=FaceAppearance(Light(harmonics), np.float32([0.25, 0, -2])))
    unknown = replace(track, appearance=FaceAppearance(None, None))
    frame = Frame(0, 0.0, np.zeros((30, 40, 3), np.uint8))
    record = json.loads(json.dumps(frame_record(frame, (known, unknown, track))))
    lit, dark, plain = record["faces"]
    np.testing.assert_allclose(lit["light"]["sh"], np.arange(27) / 100, atol=1e-5)
    assert np.linalg.norm(lit["light"]["direction"]) == pytest.approx(1, abs=1e-3)
    assert set(lit["light"]) == {"sh", "direction", "intensity", "tint"}
    assert lit["identity"] == {"shape": [0.5, -1], "skin": [0.25, 0, -2]}
    assert dark["light"] is None and dark["identity"] == {"shape": [0.5, -1], "skin": None}
    assert "light" not in plain and "identity" not in plain
    for row in rows(record):
        assert set(row) <= set(columns(NAMES))
