"""A clip of faces that move, blink and leave, its log, and what a program gets of it over a real socket."""

from __future__ import annotations

import math
import socket
from dataclasses import replace

import numpy as np

from facet.tracker.outputs.record import frame_record
from facet.tracker.outputs.senders import open_sender
from facet.tracker.types import Frame
from tests.arkit import ARKIT
from tests.render.heads import egg, place

FPS, FRAMES = 30.0, 300
GONE = range(100, 120)  # frames without a face: shorter than a face is remembered
BOTH = range(200, 260)  # frames with a second one
HEAD = egg()
IMAGE = np.zeros((480, 640, 3), np.uint8)


def wave(k: int, period: float, phase: float) -> float:
    return math.sin(2 * math.pi * k / period + phase)


def face_at(k: int, identity: int = 1):
    yaw, pitch, roll = 50 * wave(k, 70, identity), 25 * wave(k, 45, 1), 30 * wave(k, 90, 2)
    weights = {name: abs(wave(k, 20 + 3 * n, n)) for n, name in enumerate(sorted(ARKIT)) if name != "tongueOut"}
    track = place(HEAD, yaw, pitch, roll, scale=0.7, at=(300 + 40 * wave(k, 100, 0), 200))
    place_mm = np.float32([60 * wave(k, 100, 0), 20 * wave(k, 80, 0), 600 + 50 * wave(k, 120, 0)])
    return replace(track, id=identity, blendshapes=weights, translation_mm=place_mm)


def clip(frames: int = FRAMES):
    """Each frame with its faces, the first one last."""
    for k in range(frames):
        faces = () if k in GONE else (face_at(k),)
        if k in BOTH:
            faces = (face_at(k, 2), *faces)
        yield Frame(k, k / FPS, IMAGE, source="clip.mp4"), faces


def received(url: str, frames: int = FRAMES, host: str = "127.0.0.1"):
    """For each frame of the clip: its record in the log, and the datagrams that arrive for it.

    `url` has {port} where the port of the receiver goes.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind((host, 0))
        receiver.settimeout(5)
        with open_sender(url.format(port=receiver.getsockname()[1])) as sender:
            for frame, faces in clip(frames):
                before = sender.sent
                sender.send(frame, faces)
                assert not sender.trouble
                yield frame_record(frame, faces), [receiver.recv(65535) for _ in range(sender.sent - before)]


def first_face(record: dict) -> dict | None:
    """The face of the log that receivers of one face get."""
    return next((face for face in record["faces"] if face["id"] == 1), None)


def about(axis: str, angle_deg: float) -> np.ndarray:
    """The right-handed rotation about an axis, (3, 3), for column vectors."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    rows = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return np.array(rows[axis])


def logged_rotation(face: dict) -> np.ndarray:
    """That of a face in a log, as README defines its angles: x to image right, y up, z to the viewer."""
    pose = face["pose"]
    return about("z", pose["roll_deg"]) @ about("y", -pose["yaw_deg"]) @ about("x", pose["pitch_deg"])


def logged_gaze_deg(face: dict, side: str) -> tuple[float, float]:
    """Yaw to the subject's right and pitch down of an eye in its head, as the face model turns it at whole weights."""
    out, into, up, down = (face["blendshapes"][f"eyeLook{way}{side}"] for way in ("Out", "In", "Up", "Down"))
    return (30 * (out - into) if side == "Right" else 30 * (into - out)), 25 * down - 20 * up
