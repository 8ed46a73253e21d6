"""A log against its video."""

import json
import shutil

import cv2
import numpy as np
import pytest

from facet.render.sinks.viewer.replay import Replay
from facet.tracker.errors import SourceError
from facet.tracker.outputs.record import frame_record
from tests.conftest import ROOT
from tests.render.sinks.viewer.client import GEOMETRY, decoded, face_at, frame_at, get, parsed, viewer

DEMO = ROOT / "samples" / "demo.mp4"
FRAMES = 40
COUNTS = {"model_to_image": 12, "coefficients": 101, "blendshapes": 51, "landmarks": 204, "irises": 6}


def write_log(path, source, frames=FRAMES):
    records = [frame_record(frame_at(k, str(source)), (face_at(k),) if k % 10 else ()) for k in range(frames)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return records


def small(image):
    return cv2.resize(image, (64, 48), interpolation=cv2.INTER_AREA).astype(int)


def images(path, count):
    """The first frames of a video, small, by OpenCV."""
    capture = cv2.VideoCapture(str(path))
    return [small(capture.read()[1]) for _ in range(count)]


def nearest(image, frames) -> int:
    return int(np.argmin([np.abs(small(image) - one).mean() for one in frames]))


@pytest.mark.parametrize("order", [range(FRAMES), (30, 3, 39, 0, 20, 21, 19)])
def test_every_frame_comes_with_its_own_image(tmp_path, order):
    log = tmp_path / "log.jsonl"
    write_log(log, DEMO)
    truth, replay = images(DEMO, FRAMES), Replay(log, GEOMETRY)
    assert replay.times_s == pytest.approx([k / 30 for k in range(FRAMES)], abs=1e-6)
    for k in order:
        header, faces, jpeg = parsed(replay.message(k), COUNTS)
        assert header["frame"] == k and nearest(decoded(jpeg), truth) == k
        assert len(faces) == len(header["faces"]) == (k % 10 > 0)
    replay.close()


def test_the_face_is_the_logged_one(tmp_path):
    log, face = tmp_path / "log.jsonl", face_at(7)
    write_log(log, "nowhere.mp4")
    header, (numbers,), jpeg = parsed(Replay(log, GEOMETRY).message(7), COUNTS)
    assert jpeg == b""
    assert numbers["landmarks"] == pytest.approx(face.landmarks.ravel(), abs=1e-3)
    assert numbers["blendshapes"] == pytest.approx(list(face.blendshapes.values()), abs=1e-4)
    assert numbers["model_to_image"] == pytest.approx(face.model_to_image.ravel(), abs=1e-2)
    assert header["faces"][0]["pose_deg"][0] == pytest.approx(face.pose.yaw_deg, abs=1e-3)
    assert (numbers["coefficients"][:48] == 0).all() and numbers["coefficients"].any()


def test_a_log_that_is_being_written_is_shown_as_far_as_it_goes(tmp_path):
    log = tmp_path / "log.jsonl"
    write_log(log, DEMO, 5)
    with open(log, "a", encoding="utf-8") as file:
        file.write('{"source": "x", "frame": 5, "ti')
    assert len(Replay(log, GEOMETRY).times_s) == 5


BAD = {
    "empty": "",
    "text": "hello\n",
    "no end": '{"time_s": 1}',
    "not a record": '{"time_s": 1}\n',
    "a list": '["time_s", {"time_s": 1}]\n',
    "wrong values": '{"time_s": 1, "width": "a", "height": [], "faces": 3}\n',
    "wrong face": '{"time_s": 1, "width": 1, "height": 1, "faces": [{"id": 1, "pose": {}}]}\n',
    "infinite": '{"time_s": 1, "width": Infinity, "height": 1, "faces": []}\n',
    "broken": '{"time_s": 1, \n',
    "deep": '{"time_s": 1, "x": ' + "[" * 100_000 + "\n",
    "points": '{"time_s": 1, "width": 1, "height": 1, "faces": [{"id": 1, "state": "tracked", "landmarks": [[1]],'
    ' "pose": {"yaw_deg": 1, "pitch_deg": 1, "roll_deg": 1, "scale_px_per_mm": 1, "translation_px": [1, 1, 1]}}]}\n',
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_damaged_log_is_reported(tmp_path, kind):
    log = tmp_path / "log.jsonl"
    log.write_text(BAD[kind], encoding="utf-8")
    with pytest.raises(SourceError):
        Replay(log, GEOMETRY).message(0)


def test_only_logs_that_were_named_are_served(tmp_path):
    log, other = tmp_path / "log.jsonl", tmp_path / "other.jsonl"
    write_log(log, DEMO, 12)
    shutil.copy(log, other)
    with viewer(folder=tmp_path, logs={"log.jsonl": lambda: log}) as shown:
        status, _, body = get(shown, "/replay/log.jsonl")
        described = json.loads(body)
        assert status == 200 and len(described["times_s"]) == 12 and described["source"] == str(DEMO)
        assert described["numbers"] == COUNTS
        status, _, body = get(shown, "/replay/log.jsonl/frames/11")
        assert status == 200 and parsed(body, COUNTS)[0]["frame"] == 11
        missing = "log.jsonl/frames/12", "log.jsonl/frames/-1"
        for path in ("other.jsonl", "./log.jsonl", f"{log}", "..%2flog.jsonl", *missing):
            assert get(shown, f"/replay/{path}")[0] == 404, path


def test_a_log_that_was_deleted_is_reported(tmp_path):
    with viewer(folder=tmp_path, logs={"gone.jsonl": lambda: tmp_path / "gone.jsonl"}) as shown:
        status, _, body = get(shown, "/replay/gone.jsonl")
        assert status == 404 and b"cannot be read" in body
