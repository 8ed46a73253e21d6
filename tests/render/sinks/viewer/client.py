"""A viewer with something to show, and a client of its protocol written from the description in `messages`."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
from websockets.sync.client import connect

from facet.render.geometry import geometry_of
from facet.render.sample import sample_face
from facet.render.sinks.viewer.address import Address, listen
from facet.render.sinks.viewer.server import Viewer
from facet.tracker.arkit import ArkitBlendshapes
from facet.tracker.morphable import load_face_model
from facet.tracker.pose import camera_from_pose, pose_from_camera, rotation_from_angles
from facet.tracker.types import Frame, Pose
from facet.tracker.weights import ROOT

MODEL = load_face_model(ROOT / "weights" / "face_model.npz")
GEOMETRY = geometry_of(MODEL)
BLENDSHAPES = ArkitBlendshapes(MODEL.expression_names)
SIZE_WH = (320, 240)
FPS = 30.0


def face_at(k: int, identity: int = 1):
    """A face that turns, talks and blinks."""
    base = sample_face(GEOMETRY, SIZE_WH, 130)
    angles = 25 * np.sin(k / 9), 12 * np.cos(k / 7), 8 * np.sin(k / 5)
    rotation = rotation_from_angles(*angles).astype(np.float32)
    camera = camera_from_pose(Pose(rotation, base.pose.scale_px_per_mm, base.pose.translation_px, *angles))
    shape = (0.8 * np.sin(np.arange(MODEL.shape_count))).astype(np.float32)
    expression = (0.6 * np.abs(np.sin(0.2 * k + np.arange(MODEL.expression_count)))).astype(np.float32)
    return replace(
        base,
        id=identity,
        score=0.97,
        model_to_image=camera,
        shape=shape,
        expression=expression,
        pose=pose_from_camera(camera),
        landmarks=MODEL.landmarks(camera, shape, expression),
        translation_mm=np.float32([10, -20, 600 + k]),
        blendshapes=BLENDSHAPES(expression),
        vertices=None,
    )


def frame_at(k: int, source: str = "clip.mp4", captured_s: float | None = None) -> Frame:
    """An image whose brightness counts the frames."""
    image = np.full((SIZE_WH[1], SIZE_WH[0], 3), 40 + k % 160, np.uint8)
    return Frame(k, k / FPS, image, source=source, captured_s=captured_s)


@contextlib.contextmanager
def viewer(host: str = "127.0.0.1", token: str = "", port: int = 0, **more):
    """A viewer on a free port."""
    address = Address(host, port)
    with Viewer(listen(address), address, token, GEOMETRY, BLENDSHAPES.names, **more) as found:
        yield found


@contextlib.contextmanager
def fed(shown: Viewer, fps: float = 15.0, faces=lambda k: (face_at(k),)):
    """Meanwhile frames reach the viewer from a thread, as from a tracker."""
    end = threading.Event()

    def feed():
        k = 0
        while not end.wait(1 / fps):
            frame = frame_at(k, captured_s=time.monotonic())
            shown.write(frame, faces(k), frame.image if shown.wants_image else None)
            k += 1

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def port_of(shown: Viewer) -> int:
    return int(shown.url.split("/")[2].rpartition(":")[2])


def get(shown: Viewer, path: str, **headers: str) -> tuple[int, dict, bytes]:
    """Status, headers and body of a request; the path goes out as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(shown), timeout=60)
    try:
        connection.putrequest("GET", path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def live(shown: Viewer, query: str = "", **more):
    """A connection as the page has it."""
    return connect(f"ws://127.0.0.1:{port_of(shown)}/live{query}", compression=None, max_size=None, **more)


def parsed(data: bytes, counts: dict[str, int]) -> tuple[dict, list[dict[str, np.ndarray]], bytes]:
    """Header, numbers of each face by name, and the JPEG."""
    length = int.from_bytes(data[:4], "little")
    header, place, faces = json.loads(data[4 : 4 + length]), 4 + length, []
    assert place % 4 == 0
    for _ in header["faces"]:
        numbers = {}
        for name, count in counts.items():
            numbers[name] = np.frombuffer(data, "<f4", count, place)
            place += 4 * count
        faces.append(numbers)
    return header, faces, data[place:]


class Page:
    """What a page does with its connection."""

    def __init__(self, connection):
        self.connection = connection
        self.hello = json.loads(connection.recv(60))["hello"]
        self.state = json.loads(connection.recv(60))["state"]
        self.notes: list[str] = []

    def ask(self, **request) -> None:
        self.connection.send(json.dumps(request))

    def receive(self, timeout_s: float = 60.0) -> bytes | None:
        """The next message if it is a frame; a text is kept and gives None."""
        data = self.connection.recv(timeout_s)
        if isinstance(data, bytes):
            return data
        text = json.loads(data)
        self.state = text.get("state", self.state)
        self.notes += [text["note"]] if "note" in text else []
        return None

    def frame(self) -> tuple[dict, list, bytes]:
        """The next frame."""
        while (data := self.receive()) is None:
            pass
        return parsed(data, self.hello["numbers"])

    def watch(self, frames: int) -> None:
        """Receive, and confirm, so many frames."""
        for _ in range(frames):
            self.frame()
            self.ask(shown=1)

    def until(self, condition) -> None:
        """Receive, and confirm frames, until something is so."""
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            if self.receive() is not None:
                self.ask(shown=1)


def decoded(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
