"""Records in the columns of OpenFace's CSV, for scripts that read it.

Its camera: x to image right, y down, z away from the camera, millimetres; angles in radians, R = Rx Ry Rz. Pixels
count from the centre of the first one. Eye 0 is the one at image left. Its action units (AU) are not measured here:
they are approximated by blendshapes. The points of the eyes (eye_lmk) and its shape parameters (p_) are left out.

Source: https://github.com/TadasBaltrusaitis/OpenFace/wiki/Output-Format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from facet.tracker.outputs.avatar import Weights, gaze_deg
from facet.tracker.outputs.record_log import TextTable
from facet.tracker.pose import rotation_from_angles

POINTS = range(68)
TO_ITS_CAMERA = np.array([1.0, -1.0, -1.0])  # from x to image right, y up, z to the viewer
FULL_INTENSITY, PRESENT = 5.0, 1.0  # of an action unit
# the blendshapes whose mean, over both sides where they have sides, stands for an action unit
ACTION_UNITS = {
    **{1: "browInnerUp", 2: "browOuterUp", 4: "browDown", 5: "eyeWide", 6: "cheekSquint", 7: "eyeSquint"},
    **{9: "noseSneer", 10: "mouthUpperUp", 12: "mouthSmile", 14: "mouthDimple", 15: "mouthFrown"},
    **{17: "mouthShrugLower", 20: "mouthStretch", 23: "mouthPress", 25: "jawOpen", 26: "jawOpen"},
    **{28: "mouthRollLower", 45: "eyeBlink"},
}
ONE_SIDED = {"browInnerUp", "mouthShrugLower", "jawOpen", "mouthRollLower"}
WITHOUT_INTENSITY = 28
COLUMNS = (
    *("frame", "face_id", "timestamp", "confidence", "success"),
    *(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"),
    *("gaze_angle_x", "gaze_angle_y"),
    *(f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"),
    *(f"{axis}_{k}" for axis in "xyXYZ" for k in POINTS),
    *(f"AU{unit:02d}_r" for unit in ACTION_UNITS if unit != WITHOUT_INTENSITY),
    *(f"AU{unit:02d}_c" for unit in ACTION_UNITS),
)


class OpenFaceCsv(TextTable):
    """A row a face; a frame without a face has one row with success 0."""

    columns, line_end = COLUMNS, "\n"

    def rows(self, record: dict) -> Iterator[dict]:
        start = {"frame": record["frame"] + 1, "timestamp": f"{record['time_s']:.3f}"}
        for face in record["faces"]:
            yield start | _numbers(face)
        if not record["faces"]:
            yield start | dict.fromkeys(COLUMNS[1:2] + COLUMNS[3:], 0)


def _numbers(face: dict) -> dict[str, object]:
    """The columns of a face, from its record."""
    pose, blendshapes = face["pose"], face["blendshapes"]
    rotation = rotation_from_angles(pose["yaw_deg"], pose["pitch_deg"], pose["roll_deg"])
    found = {"face_id": face["id"] - 1, "success": 1, "confidence": 1 if face["score"] is None else face["score"]}
    eyes = np.array([rotation @ _direction(*gaze_deg(blendshapes, side)) for side in ("Right", "Left")]) * TO_ITS_CAMERA
    for eye, direction in enumerate(eyes):
        found |= {f"gaze_{eye}_{axis}": f"{value:.6f}" for axis, value in zip("xyz", direction, strict=True)}
    x, y, z = eyes.mean(axis=0)
    found |= {"gaze_angle_x": f"{math.atan2(x, -z):.4f}", "gaze_angle_y": f"{math.atan2(y, -z):.4f}"}
    place = np.zeros(3) if face["translation_mm"] is None else np.array(face["translation_mm"]) * (1, -1, 1)
    found |= {f"pose_T{axis}": f"{value:.2f}" for axis, value in zip("xyz", place, strict=True)}
    found |= {f"pose_R{axis}": f"{value:.4f}" for axis, value in zip("xyz", _its_angles(rotation), strict=True)}
    points = np.array(face["landmarks"])
    solid = (points - pose["translation_px"]) * (1, 1, -1) / max(pose["scale_px_per_mm"], 1e-6)
    if measured := face.get("pose_in_image"):  # pose and position count from a centre: the points, too
        seen = rotation_from_angles(measured["yaw_deg"], measured["pitch_deg"], measured["roll_deg"])
        solid = (solid * TO_ITS_CAMERA) @ (seen @ rotation.T) * TO_ITS_CAMERA
    solid = solid + place
    for axis, values in zip("xyXYZ", (*(points[:, :2] - 0.5).T, *solid.T), strict=True):
        found |= {f"{axis}_{k}": f"{value:.2f}" for k, value in enumerate(values.tolist())}
    return found | _action_units(blendshapes)


def _direction(yaw_deg: float, pitch_deg: float) -> np.ndarray:
    """Where an eye looks, (3,) in its head: x to image right, y up, z out of the face."""
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    return np.array([-math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)])


def _its_angles(rotation: np.ndarray) -> tuple[float, float, float]:
    """About x, y and z, radians, of a rotation that is Rx Ry Rz in its camera."""
    its = rotation * np.outer(TO_ITS_CAMERA, TO_ITS_CAMERA)
    y = math.asin(min(max(its[0, 2], -1.0), 1.0))
    return math.atan2(-its[1, 2], its[2, 2]), y, math.atan2(-its[0, 1], its[0, 0])


def _action_units(blendshapes: dict[str, float]) -> dict[str, object]:
    """Intensities from 0 to 5, and whether a unit is there, as far as blendshapes say."""
    get = Weights(blendshapes)
    found: dict[str, object] = {}
    for unit, name in ACTION_UNITS.items():
        weight = get(name) if name in ONE_SIDED else get.mean(name)
        if unit == 25:  # lips part where the jaw falls and they do not keep closed
            weight = max(weight - get("mouthClose"), get.mean("mouthLowerDown"), get.mean("mouthUpperUp"))
        intensity = FULL_INTENSITY * weight
        if unit != WITHOUT_INTENSITY:
            found[f"AU{unit:02d}_r"] = f"{intensity:.2f}"
        found[f"AU{unit:02d}_c"] = int(intensity >= PRESENT)
    return found
