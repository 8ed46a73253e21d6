"""The record of a frame: one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path

from tracker.errors import SinkError
from tracker.types import FaceTrack, Frame


def frame_record(frame: Frame, faces: tuple[FaceTrack, ...]) -> dict:
    """What `--log` tells of one frame, ready for JSON. Coordinates in image px, rounded to 1/1000."""
    height, width = frame.image.shape[:2]
    return {
        "source": frame.source,
        "frame": frame.index,
        "time_s": round(frame.time_s, 6),
        "width": width,
        "height": height,
        "faces": [_face_record(face) for face in faces],
    }


def _face_record(face: FaceTrack) -> dict:
    pose = face.pose
    return {
        "id": face.id,
        "state": face.state.value,
        "score": None if face.score is None else round(face.score, 4),
        "box": [round(value, 3) for value in face.box],
        "detected": face.detected,
        "pose": {
            "yaw_deg": round(pose.yaw_deg, 3),
            "pitch_deg": round(pose.pitch_deg, 3),
            "roll_deg": round(pose.roll_deg, 3),
            "scale_px_per_mm": round(pose.scale_px_per_mm, 5),
            "translation_px": face.pose.translation_px.astype(float).round(3).tolist(),
        },
        "translation_mm": None if face.translation_mm is None else face.translation_mm.astype(float).round(2).tolist(),
        "landmarks": face.landmarks.astype(float).round(3).tolist(),
        "blendshapes": {name: round(weight, 4) for name, weight in face.blendshapes.items()},
    }


class JsonLinesLog:
    """Writes records to `path`, which gets its name when the log is closed.

    What was written so far is never lost: when writing fails it stays under the temporary name, its last line cut.
    """

    def __init__(self, path: Path):
        self._path = path
        self._failed = False
        self._partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        try:
            self._file = open(self._partial, "w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise SinkError(
                f"{path}: cannot be written ({error.strerror}); name a file in a folder that exists"
            ) from error

    def write(self, record: dict) -> None:
        try:
            self._file.write(json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            self._failed = True
            raise self._error(error) from error

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._file.closed:
            return
        try:
            self._file.close()
        except OSError as error:
            raise self._error(error) from error
        if not self._failed:
            try:
                self._partial.replace(self._path)
            except OSError as error:
                raise self._error(error) from error

    def _error(self, error: OSError) -> SinkError:
        reason = error.strerror or error
        return SinkError(f"{self._path}: writing failed ({reason}); {self._partial} holds the lines so far")
