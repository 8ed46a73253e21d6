"""Real faces through the whole program: several at once, gone and back, a cut, nobody at all."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.conftest import material
from tests.program import records, run


def frames_of(name: str, count: int):
    capture = cv2.VideoCapture(str(material("media", "videos", name)))
    frames = []
    while len(frames) < count and (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def write(path, frames, fps=30):
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def track(clip, tmp_path, networks):
    log = tmp_path / "log.jsonl"
    done = run("-f", clip, "--log", log, *networks)
    assert done.returncode == 0, done.stderr
    return records(log)


def centre_x(face):
    return np.mean([point[0] for point in face["landmarks"]])


@pytest.fixture(scope="module")
def person():
    """A face in a still picture, on a canvas."""
    frame = frames_of("d3.mp4", 1)[0]
    return cv2.resize(frame, (480, 480))


def test_two_faces_keep_two_ids_side_by_side(tmp_path, networks):
    pairs = zip(frames_of("d3.mp4", 90), frames_of("d10.mp4", 90), strict=True)
    lines = track(write(tmp_path / "two.mp4", [np.hstack(pair) for pair in pairs]), tmp_path, networks)
    for line in lines[2:]:
        assert [face["id"] for face in line["faces"]] in ([1, 2], [2, 1])
    sides = {face["id"]: set() for face in lines[5]["faces"]}
    for line in lines[5:]:
        for face in line["faces"]:
            sides[face["id"]].add(centre_x(face) < 512)
    assert sorted(map(sorted, sides.values())) == [[False], [True]]


def test_gone_and_back(person, tmp_path, networks):
    there = cv2.copyMakeBorder(person, 120, 120, 400, 400, cv2.BORDER_CONSTANT, value=(90, 100, 95))
    empty = np.full_like(there, 100)
    moved = np.roll(there, -220, axis=1)
    lines = track(write(tmp_path / "c.mp4", [there] * 20 + [empty] * 25 + [moved] * 20), tmp_path, networks)
    present = np.array([bool(line["faces"]) for line in lines])
    expected = np.repeat([True, False, True], [20, 25, 20])
    assert (present & ~expected).sum() == 0, "nothing is tracked where nobody is"
    assert (~present & expected).sum() <= 2
    assert lines[-1]["faces"][0]["id"] == lines[10]["faces"][0]["id"]


def test_a_cut_to_another_person_and_back(person, tmp_path, networks):
    other = cv2.resize(frames_of("d10.mp4", 1)[0], (480, 480))
    first = cv2.copyMakeBorder(person, 120, 120, 400, 400, cv2.BORDER_CONSTANT, value=(90, 100, 95))
    second = cv2.copyMakeBorder(other, 100, 140, 200, 600, cv2.BORDER_CONSTANT, value=(40, 60, 150))
    lines = track(write(tmp_path / "c.mp4", [first] * 20 + [second] * 20 + [first] * 20), tmp_path, networks)
    assert sum(not line["faces"] for line in lines) <= 3
    ids = [line["faces"][0]["id"] if line["faces"] else None for line in lines]
    assert ids[15] == ids[55]
    assert ids[35] != ids[15]


def test_an_empty_room_stays_empty(tmp_path, networks):
    backgrounds = sorted(material("faces", "photos", "backgrounds").iterdir())[:12]
    frames = [cv2.resize(cv2.imread(str(path)), (640, 480)) for path in backgrounds for _ in range(4)]
    lines = track(write(tmp_path / "empty.mp4", frames, fps=4), tmp_path, networks)
    assert sum(len(line["faces"]) for line in lines) == 0


def test_a_lying_header_ends_quietly(tmp_path, networks):
    """obama.mp4 promises 158 frames and holds 55."""
    out, log = tmp_path / "out.mp4", tmp_path / "log.jsonl"
    done = run("-f", material("media", "videos", "obama.mp4"), "-o", out, "--log", log, *networks)
    assert done.returncode == 0, done.stderr
    lines = records(log)
    assert len(lines) == 55
    assert sum(bool(line["faces"]) for line in lines) >= 54
