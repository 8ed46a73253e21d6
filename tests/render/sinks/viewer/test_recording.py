"""Recordings that a page starts, stops and downloads."""

import json
import threading

import pygltflib
import pytest

from facet.render.sinks import animation
from facet.render.sinks.viewer import recording
from facet.render.sinks.viewer.recording import Recording
from facet.tracker.errors import SinkError
from facet.tracker.outputs.record import frame_record
from tests.render.sinks.viewer.client import BLENDSHAPES, GEOMETRY, Page, face_at, fed, frame_at, get, live, viewer
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def head():
    return animation.head_of(frame_at(0).image, face_at(0), GEOMETRY)


@pytest.fixture(autouse=True)
def quick(monkeypatch, head):
    """A texture takes seconds, and other tests judge it."""
    monkeypatch.setattr(animation, "head_of", lambda *_: head)


def recorded(folder, frames=40):
    """A recording of some frames, finished."""
    made = Recording(folder, GEOMETRY, BLENDSHAPES.names, lambda _: None)
    for k in range(frames):
        made.write(frame_at(k), (face_at(k),))
        wait_until(lambda k=k: made.frames + made.dropped > k)
    made.join()
    return made


def test_a_recording_holds_every_frame(tmp_path):
    made = recorded(tmp_path)
    log, head = made.files
    assert (made.frames, made.dropped, made.trouble) == (40, 0, "")
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert lines == [frame_record(frame_at(k), (face_at(k),)) for k in range(40)]
    times = pygltflib.GLTF2().load(str(head)).accessors
    assert any(one.count == 40 and one.type == "SCALAR" for one in times)


def test_two_recordings_of_one_second_have_two_folders(tmp_path):
    assert recorded(tmp_path, 1).folder != recorded(tmp_path, 1).folder


def test_a_disk_that_hangs_holds_up_nobody(tmp_path, monkeypatch):
    go_on = threading.Event()
    write = recording.frame_record
    monkeypatch.setattr(recording, "frame_record", lambda *of: go_on.wait(60) and write(*of))
    made = Recording(tmp_path, GEOMETRY, BLENDSHAPES.names, lambda _: None)
    for k in range(100):
        made.write(frame_at(k), ())
    waiting = 100 - made.dropped
    go_on.set()
    made.join()
    assert made.frames == waiting <= recording.WAITING + 1


def test_a_full_disk_is_reported_once(tmp_path, monkeypatch):
    def full(*_):
        raise SinkError("log.jsonl: writing failed (No space left on device)")

    monkeypatch.setattr(recording, "frame_record", full)
    done = []
    made = Recording(tmp_path, GEOMETRY, BLENDSHAPES.names, done.append)
    made.write(frame_at(0), ())
    wait_until(lambda: done)
    assert "No space" in made.trouble and done == [made]
    made.write(frame_at(1), ())
    made.join()


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    with pytest.raises(SinkError, match="cannot be made"):
        Recording(tmp_path / "absent", GEOMETRY, BLENDSHAPES.names, lambda _: None)


def test_a_page_records_and_downloads(tmp_path):
    with viewer(folder=tmp_path) as shown, live(shown) as connection, fed(shown):
        page = Page(connection)
        page.ask(record=True)
        page.until(lambda: page.state["recording"])
        name = page.state["recording"]
        page.watch(12)
        page.ask(record=False)
        page.until(lambda: page.state["recording"] is None and page.state["recordings"])
        (made,) = page.state["recordings"]
        assert made["name"] == name and made["dropped"] == 0 and not made["trouble"] and made["frames"] >= 10
        assert made["files"] == ["log.jsonl", "clip_1.glb"]
        for file in made["files"]:
            status, headers, body = get(shown, f"/recordings/{name}/{file}")
            assert status == 200 and body == (tmp_path / name / file).read_bytes()
            assert headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}_{file}"
        assert get(shown, f"/recordings/{name}/other.glb")[0] == 404
        assert get(shown, f"/recordings/{name}/../{name}/log.jsonl")[0] == 404
        assert f"{name}/log.jsonl" in page.state["logs"]
        status, _, body = get(shown, f"/replay/{name}/log.jsonl")
        assert status == 200 and len(json.loads(body)["times_s"]) == made["frames"]


def test_the_end_of_the_run_finishes_a_recording(tmp_path):
    with viewer(folder=tmp_path) as shown, live(shown) as connection, fed(shown):
        page = Page(connection)
        page.ask(record=True)
        page.until(lambda: page.state["recording"])
        page.watch(8)
    (log,) = tmp_path.glob("facet-*/log.jsonl")
    assert len(log.read_text(encoding="utf-8").splitlines()) >= 3
    assert list(tmp_path.glob("facet-*/*.glb")) and not list(tmp_path.glob("facet-*/.*"))


def test_a_folder_that_cannot_be_written_is_noted(tmp_path):
    lines = []
    with viewer(folder=tmp_path / "absent", notify=lines.append) as shown, live(shown) as connection:
        page = Page(connection)
        page.ask(record=True)
        page.until(lambda: page.notes)
        assert "cannot be made" in page.notes[0] and len(lines) == 1
        assert page.state["recording"] is None
