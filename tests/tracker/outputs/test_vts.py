"""VTube Studio: what a stand-in for it gets, and what becomes of tokens, denials and lost connections."""

import builtins
import os
import socket
import stat
from dataclasses import replace

import numpy as np
import pytest

from facet.tracker.errors import ConfigError, SinkError
from facet.tracker.outputs import vts
from facet.tracker.outputs.record import frame_record
from facet.tracker.outputs.senders import open_sender
from facet.tracker.types import Frame
from tests.arkit import ARKIT
from tests.tracker.outputs.clip import GONE, about, clip, face_at, first_face, logged_gaze_deg, logged_rotation
from tests.tracker.outputs.vtube_studio import StandIn
from tests.waiting import wait_until

FRAME = Frame(0, 0.0, np.zeros((480, 640, 3), np.uint8))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(vts, "RETRY_S", 0.05)
    return tmp_path


def tokens(home):
    return sorted(home.rglob("*.token"))


def sender_of(studio):
    return open_sender(f"vts://127.0.0.1:{studio.port}")


def send_until(sender, condition, faces=None):
    """Send a face, frame after frame, until something has happened."""

    def once():
        sender.send(FRAME, (face_at(0),) if faces is None else faces)
        return condition()

    wait_until(once)


def test_a_clip_as_vtube_studio_gets_it():
    with StandIn() as studio, sender_of(studio) as sender:
        wait_until(lambda: sender._connected)
        for k, (frame, faces) in enumerate(clip()):
            done = len(studio.injected)
            sender.send(frame, faces)
            wait_until(lambda done=done: len(studio.injected) > done)
            data, face = studio.injected[-1], first_face(frame_record(frame, faces))
            values = {one["id"]: one["value"] for one in data["parameterValues"]}
            assert data["faceFound"] == (k not in GONE)
            if face is None:
                assert values["FaceAngleX"] == values["JawOpen"] == 0 and values["EyeOpenLeft"] == 1
                continue
            weights = face["blendshapes"] | {"tongueOut": 0}
            for name in ARKIT:
                assert values[name[0].upper() + name[1:]] == pytest.approx(weights[name], abs=6e-5)
            left, up, clockwise = (values[f"FaceAngle{axis}"] for axis in "XYZ")
            found = about("y", left) @ about("x", -up) @ about("z", -clockwise)
            np.testing.assert_allclose(found, logged_rotation(face), atol=1e-4)
            for side in ("Left", "Right"):
                right, down = logged_gaze_deg(face, side)
                assert values[f"EyeOpen{side}"] == pytest.approx(1 - weights[f"eyeBlink{side}"], abs=6e-5)
                assert values[f"Eye{side}X"] == pytest.approx(right / 30, abs=2e-4)
                assert values[f"Eye{side}Y"] == pytest.approx(-down / (25 if down > 0 else 20), abs=2e-4)
        assert not studio.errors and not sender.trouble
        assert set(studio.parameters) == {name[0].upper() + name[1:] for name in ARKIT} - {"CheekPuff", "TongueOut"}


def test_values_of_a_face_at_rest_and_of_expressions():
    def of(**weights):
        return vts.parameters_of(replace(face_at(0), blendshapes=weights))

    rest = of()
    assert (rest["MouthSmile"], rest["Brows"], rest["MouthOpen"], rest["EyeOpenLeft"]) == (0.5, 0.5, 0, 1)
    assert of(mouthSmileLeft=1, mouthSmileRight=1)["MouthSmile"] == 1
    assert of(mouthFrownLeft=1, mouthFrownRight=1)["MouthSmile"] == 0
    assert of(browDownLeft=1)["BrowLeftY"] == 0 and of(browDownLeft=1)["BrowRightY"] == 0.5
    assert of(browInnerUp=1)["Brows"] == 1
    assert of(jawOpen=0.75, mouthClose=0.5)["MouthOpen"] == 0.25
    assert of(eyeLookOutLeft=1, eyeLookInRight=1)["EyeLeftX"] == -1  # to the subject's left


def test_positions_are_centimetres_from_where_the_head_was_first():
    with StandIn() as studio, sender_of(studio) as sender:
        wait_until(lambda: sender._connected)
        for place_mm in ((0, 0, 600), (30, 20, 550)):
            done = len(studio.injected)
            sender.send(FRAME, (replace(face_at(0), translation_mm=np.float32(place_mm)),))
            wait_until(lambda done=done: len(studio.injected) > done)
        values = {one["id"]: one["value"] for one in studio.injected[-1]["parameterValues"]}
    assert [values[f"FacePosition{axis}"] for axis in "XYZ"] == pytest.approx([3, 2, 5])


def test_the_user_is_asked_once(home):
    with StandIn() as studio:
        for _ in range(2):
            with sender_of(studio) as sender:
                send_until(sender, lambda: sender.sent)
        assert (studio.asked, studio.connections) == (1, 2)
    (file,) = tokens(home)
    assert file.read_text() == "token1"
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len([path for path in file.parent.iterdir()]) == 1


def test_a_token_that_is_no_longer_valid_is_replaced(home):
    with StandIn() as studio:
        with sender_of(studio) as sender:
            send_until(sender, lambda: sender.sent)
        studio.tokens.clear()
        with sender_of(studio) as sender:
            send_until(sender, lambda: sender.sent)
        assert studio.asked == 2
    assert tokens(home)[0].read_text() == "token2"


def test_the_user_takes_his_time():
    with StandIn(allows=None) as studio, sender_of(studio) as sender:
        send_until(sender, lambda: studio.asked)
        assert "allow it there" in sender.status
        assert not sender.sent and sender.dropped
        studio.decide(True)
        send_until(sender, lambda: sender.sent)
        assert "frames sent to VTube Studio" in sender.status


def test_a_denial_is_final(home):
    with StandIn(allows=False) as studio, sender_of(studio) as sender:
        send_until(sender, lambda: "denied" in sender.status)
        sender._thread.join(5)
        assert not sender._thread.is_alive()
        sender.send(FRAME, (face_at(0),))
        assert (studio.asked, studio.connections, sender.sent) == (1, 1, 0)
        assert "denied in VTube Studio; start facet again" in sender.trouble
    assert not tokens(home)


def test_a_lost_connection_is_made_again():
    with StandIn() as studio, sender_of(studio) as sender:
        send_until(sender, lambda: sender.sent)
        studio.cut()
        send_until(sender, lambda: studio.connections == 2 and sender._connected)
        done = len(studio.injected)
        send_until(sender, lambda: len(studio.injected) > done + 2)
        assert studio.asked == 1 and not sender.trouble


def test_vtube_studio_may_start_later(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open_sender(f"vts://127.0.0.1:{port}") as sender:
        send_until(sender, lambda: "no VTube Studio at" in sender.status)
        assert f"ws://127.0.0.1:{port}" in sender.trouble
        with StandIn(port=port) as studio:
            send_until(sender, lambda: studio.injected)
            assert not sender.trouble


def test_a_name_of_another_plug_in_is_left_out():
    with StandIn(foreign=("JawOpen",)) as studio, sender_of(studio) as sender:
        send_until(sender, lambda: sender.sent)
        names = {one["id"] for one in studio.injected[-1]["parameterValues"]}
        assert "JawOpen" not in names and "JawForward" in names


def test_what_is_not_repeated_is_forgotten(monkeypatch):
    """VTube Studio wants values every second; a paused video holds its face."""
    monkeypatch.setattr(vts, "REPEAT_S", 0.05)
    with StandIn() as studio, sender_of(studio) as sender:
        wait_until(lambda: sender._connected)
        sender.send(FRAME, (face_at(0),))
        wait_until(lambda: len(studio.injected) >= 3)
        assert studio.injected[0] == studio.injected[2]


def test_the_newest_frame_wins():
    """A slow receiver gets the last of many frames next, and nobody waits."""
    with StandIn(allows=None) as studio, sender_of(studio) as sender:
        wait_until(lambda: studio.asked)
        for k in range(50):
            sender.send(FRAME, (face_at(k),))
        studio.decide(True)
        wait_until(lambda: studio.injected)
        values = {one["id"]: one["value"] for one in studio.injected[0]["parameterValues"]}
        assert values["JawOpen"] == pytest.approx(face_at(49).blendshapes["jawOpen"])


def test_something_else_at_that_port():
    """A server that speaks no WebSocket does not stop the run."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(5)
        with open_sender(f"vts://127.0.0.1:{server.getsockname()[1]}") as sender:
            link, _ = server.accept()
            link.recv(1000)
            link.sendall(b"SSH-2.0-x\r\n")
            link.close()
            send_until(sender, lambda: "no VTube Studio at" in sender.status)


@pytest.mark.parametrize("data", [[], {}, {"authenticationToken": 7}, {"authenticationToken": None}])
def test_replies_that_are_none(home, data):
    with StandIn() as studio:
        studio._reply = lambda request, _: {"requestID": request["requestID"], "messageType": "Reply", "data": data}
        with sender_of(studio) as sender:
            send_until(sender, lambda: "is not VTube Studio" in sender.status)
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_written_only_asks_again(home):
    (home / "facet").write_text("a file in the way")
    with StandIn() as studio, sender_of(studio) as sender:
        send_until(sender, lambda: sender.sent)


def test_a_host_that_does_not_exist():
    with pytest.raises(SinkError, match=r"no-such-host.invalid is not known here"):
        open_sender("vts://no-such-host.invalid:8001")


def test_without_its_library(monkeypatch):
    known = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("websockets"):
            raise ImportError(name)
        return known(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="pip install websockets"):
        open_sender("vts://127.0.0.1:8001")
