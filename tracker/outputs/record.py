"""The record of a frame, and the same as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator

from facet.tracker.lighting import Light
from facet.tracker.types import FaceTrack, Frame, Pose

PRECISION = ("landmark_spread_px", "landmark_visible")
LOG_ONLY = (*PRECISION, "pose_in_image", "light", "identity")  # tables do not hold these
BOX, AXES = ("x0", "y0", "x1", "y1"), ("x", "y", "z")


def frame_record(frame: Frame, faces: tuple[FaceTrack, ...]) -> dict:
    """What `--log` writes of one frame, ready for JSON. Coordinates in image px, rounded to 1/1000."""
    height, width = frame.image.shape[:2]
    return {
        "source": frame.source.encode(errors="backslashreplace").decode(),  # of names that are not UTF-8, too
        "frame": frame.index,
        "time_s": round(frame.time_s, 6),
        "width": width,
        "height": height,
        "faces": [_face_record(face) for face in faces],
    }


def _face_record(face: FaceTrack) -> dict:
    return {
        "id": face.id,
        "state": face.state.value,
        "score": None if face.score is None else round(face.score, 4),
        "box": [round(value, 3) for value in face.box],
        "detected": face.detected,
        "pose": _pose_record(face.pose),
        **({} if face.uncentred is None else {"pose_in_image": _pose_record(face.uncentred)}),
        "translation_mm": None if face.translation_mm is None else face.translation_mm.astype(float).round(2).tolist(),
        "landmarks": face.landmarks.astype(float).round(3).tolist(),
        "irises": None if face.irises is None else face.irises.astype(float).round(3).tolist(),
        **_precision(face),
        **_appearance(face),
        "blendshapes": {name: round(weight, 4) for name, weight in face.blendshapes.items()},
    }


def _pose_record(pose: Pose) -> dict:
    return {
        "yaw_deg": round(pose.yaw_deg, 3),
        "pitch_deg": round(pose.pitch_deg, 3),
        "roll_deg": round(pose.roll_deg, 3),
        "scale_px_per_mm": round(pose.scale_px_per_mm, 5),
        "translation_px": pose.translation_px.astype(float).round(3).tolist(),
    }


def _precision(face: FaceTrack) -> dict:
    """What only an aligner knows of the landmarks; tables do not hold it."""
    values = (face.landmark_spread_px, face.landmark_visible)
    return {
        name: value.astype(float).round(3).tolist()
        for name, value in zip(PRECISION, values, strict=True)
        if value is not None
    }


def _appearance(face: FaceTrack) -> dict:
    """Light and identity, where they are estimated; null where the light cannot be known."""
    if face.appearance is None:
        return {}
    light, skin = face.appearance.light, face.appearance.skin
    return {
        "light": None if light is None else light_record(light),
        "identity": {
            "shape": face.shape.astype(float).round(4).tolist(),
            "skin": None if skin is None else skin.astype(float).round(4).tolist(),
        },
    }


def light_record(light: Light) -> dict:
    """Light, ready for JSON; see docs/appearance.md."""
    return {
        "sh": light.harmonics.ravel().astype(float).round(5).tolist(),
        "direction": light.direction.round(4).tolist(),
        "intensity": round(light.intensity, 4),
        "tint": light.tint.round(4).tolist(),
    }


def columns(blendshapes: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns of a record as a table: the keys on the way to a value, joined by dots."""
    return (
        *("source", "frame", "time_s", "width", "height", "id", "state", "score"),
        *(f"box.{name}" for name in BOX),
        "detected",
        *(f"pose.{name}" for name in ("yaw_deg", "pitch_deg", "roll_deg", "scale_px_per_mm")),
        *(f"pose.translation_px.{axis}" for axis in AXES),
        *(f"translation_mm.{axis}" for axis in AXES),
        *(f"landmarks.{k}.{axis}" for k in range(68) for axis in AXES),
        *(f"irises.{k}.{axis}" for k in range(2) for axis in AXES),
        *(f"blendshapes.{name}" for name in blendshapes),
    )


def rows(record: dict) -> list[dict]:
    """The rows of a record as a table, by `columns`: one a face, or one without a face; null values have no entry."""
    frame = {name: value for name, value in record.items() if name != "faces"}
    faces = ({name: value for name, value in face.items() if name not in LOG_ONLY} for face in record["faces"])
    return [frame | dict(_flat(face)) for face in faces] or [frame]


def _flat(values: dict, path: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, list):
            names = BOX if name == "box" else AXES if len(value) == len(AXES) else range(len(value))
            value = dict(zip(names, value, strict=True))
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        elif value is not None:
            yield f"{path}{name}", value
