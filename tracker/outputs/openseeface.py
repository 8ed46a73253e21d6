"""Faces in the packets of OpenSeeFace, which VSeeFace, Unity and Godot plug-ins read.

Its space of a head: x to image left, y up, z to where the face looks, the tip of the nose at the origin. Its camera:
x up, y to image left, z away from us, where faces lie at negative z, and a focal length of the picture's width. Source:
facetracker.py, tracker.py and Unity/OpenSee.cs of https://github.com/emilianavt/OpenSeeFace. That its solver of poses
settles on points behind the camera is not written there; it follows from the angles that tracker.py takes for frontal
(180, 0, 90), and from the signs that OpenSee.cs gives a translation.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterator

import cv2
import numpy as np

from facet.tracker.outputs.avatar import Numbers, gaze_deg, quaternion
from facet.tracker.pose import focal_px
from facet.tracker.types import FaceTrack, Frame

FACES = 5  # in a datagram at most: 9 KB is the most that macOS sends
UNIT_MM = 140.0  # of its lengths, by the distance of the outer corners of the eyes
ORDER = [*range(48), *range(49, 54), *range(55, 60), 48, 61, 62, 63, 54, 65, 66, 67]  # its 66, of the 68
SIDES = ("Left", "Right")
EYES = (("Right", 36, 39), ("Left", 42, 45))  # corners
EYE_DEPTH = 0.385  # from the pupil to the middle of the eyeball, in distances of the corners
TO_ITS_HEAD = np.array([-1.0, 1.0, 1.0])
TO_ITS_CAMERA = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
WIDTH_AT_DISTANCE = 1 / focal_px((1, 1))  # of what an image shows, in distances from the camera
HEAD = struct.Struct("<di4fBf4f3f3f")


class OpenSeeFace:
    """The datagrams of all faces, each under a number of its own; none without a face."""

    def __init__(self):
        self._numbers = Numbers()

    def __call__(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> Iterator[bytes]:
        seen = {number: face for number, face in self._numbers(faces, frame.time_s).items() if face}
        return openseeface_packets(frame, seen, time.time())


def openseeface_packets(frame: Frame, faces: dict[int, FaceTrack], now_s: float) -> Iterator[bytes]:
    """The datagrams of a frame.

    Parameters
    ----------
    frame : whose size is sent
    faces : by the numbers that they are sent under
    now_s : time that goes on from one run to the next: receivers leave out what is older than what they have
    """
    packets = [face_packet(frame, face, number, now_s) for number, face in faces.items()]
    for start in range(0, len(packets), FACES):
        yield b"".join(packets[start : start + FACES])


def face_packet(frame: Frame, face: FaceTrack, number: int, now_s: float) -> bytes:
    """The 1,785 bytes of one face."""
    height, width = frame.image.shape[:2]
    pose, weights = face.pose, face.blendshapes
    rotation = TO_ITS_CAMERA @ pose.rotation * TO_ITS_HEAD
    unit_px = max(pose.scale_px_per_mm, 1e-6) * UNIT_MM
    nose_x, nose_y, _ = face.landmarks[30].tolist()
    place = ((height / 2 - nose_y) / unit_px, (width / 2 - nose_x) / unit_px, -width / unit_px)
    if face.uncentred is not None and face.translation_mm is not None:  # reported from the centre
        right, up, away = (face.translation_mm / UNIT_MM).tolist()
        place = (up, -right, -WIDTH_AT_DISTANCE * away)
    head = HEAD.pack(
        now_s,
        number,
        *(width, height),
        *(1.0 - weights.get("eyeBlinkRight", 0.0), 1.0 - weights.get("eyeBlinkLeft", 0.0)),
        *(1, 0.0),  # the pose is known; the confidence says how well it fits
        *_its_quaternion(rotation),
        *_angles_deg(rotation),
        *place,
    )
    in_head = head_points(face.landmarks, face.image_pose.rotation, unit_px)
    eyes = np.array([_eye(in_head, weights, *eye) for eye in EYES])
    solid = np.concatenate([in_head[ORDER], eyes[:, 0], eyes[:, 1]])
    flat = np.concatenate([face.landmarks[ORDER, :2], _to_image(eyes[:, 0], face, unit_px)]) - 0.5
    confidence = np.full(68, 1.0 if face.score is None else face.score)
    rest = (confidence, flat, solid * (1, -1, -1), features(weights))
    return head + b"".join(np.asarray(part, "<f4").tobytes() for part in rest)


def head_points(landmarks: np.ndarray, rotation: np.ndarray, unit_px: float) -> np.ndarray:
    """Landmarks, (68, 3) image px, as the head had them before it was turned: (68, 3) in OpenSeeFace's head."""
    upright = (landmarks - landmarks[30]) * (1, -1, 1) @ rotation  # row vectors: turned back
    return upright / unit_px * TO_ITS_HEAD


def features(weights: dict[str, float]) -> np.ndarray:
    """Its 14 features, each in [-1, 1] and 0 at rest, from blendshapes by ARKit's names."""

    def get(name: str) -> float:
        return weights.get(name, 0.0)

    out = [get(f"eyeWide{side}") - get(f"eyeBlink{side}") for side in SIDES]
    for side in SIDES:
        inner, outer, down = get("browInnerUp"), get(f"browOuterUp{side}"), get(f"browDown{side}")
        out += [inner - max(outer, down), (inner + outer) / 2 - down, outer - inner]  # steep, up, quirked
    narrow = max(get("mouthPucker"), get("mouthFunnel"))
    wide = {side: max(get(f"mouth{part}{side}") for part in ("Smile", "Stretch", "Dimple")) - narrow for side in SIDES}
    for side in SIDES:
        out += [get(f"mouthFrown{side}") - get(f"mouthSmile{side}"), wide[side]]  # corner down, out
    out += [get("jawOpen") - get("mouthClose"), sum(wide.values()) / 2]
    return np.clip(out, -1.0, 1.0)


def _angles_deg(rotation: np.ndarray) -> tuple[float, float, float]:
    """About x, y and z as OpenCV takes a rotation apart, the one about y within 90 degrees."""
    x, y, z = cv2.RQDecomp3x3(rotation)[0]
    if abs(y) > 90:  # the same rotation by other angles
        x, y, z = (math.remainder(angle, 360) for angle in (x + 180, 180 - y, z + 180))
    return x, y, z


def _its_quaternion(rotation: np.ndarray) -> np.ndarray:
    """It takes rotations to turn row vectors: the inverse of what is said elsewhere.

    w changes its sign with every nod there, so x and y, which are 0.7 for a frontal face, say which of both signs.
    """
    found = quaternion(rotation.T)
    return found if found[0] + found[1] >= 0 else -found


def _eye(in_head: np.ndarray, weights: dict[str, float], side: str, *corners: int) -> tuple[np.ndarray, np.ndarray]:
    """The pupil and the middle of the eyeball, in its head."""
    first, second = in_head[corners[0]], in_head[corners[1]]
    depth = EYE_DEPTH * float(np.linalg.norm(first - second))
    middle = (first + second) / 2 - (0.0, 0.0, depth)
    yaw, pitch = (math.radians(angle) for angle in gaze_deg(weights, side))
    direction = np.array([math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
    return middle + depth * direction, middle


def _to_image(points: np.ndarray, face: FaceTrack, unit_px: float) -> np.ndarray:
    """Points of its head, (n, 3), in the image, (n, 2) px."""
    turned = (points * TO_ITS_HEAD) @ face.image_pose.rotation.T * unit_px
    return face.landmarks[30, :2] + turned[:, :2] * (1, -1)
