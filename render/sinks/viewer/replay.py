"""A log against its video, frame by frame, for a page that scrubs through both."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from facet.render.geometry import Geometry
from facet.render.sinks.viewer.messages import encoded, face_header, face_numbers, packed
from facet.tracker.arkit import ArkitBlendshapes
from facet.tracker.errors import FaceTrackError, SourceError
from facet.tracker.pose import camera_from_pose, rotation_from_angles
from facet.tracker.sources import Source, open_source
from facet.tracker.types import FaceTrack, Frame, Pose, Roi, TrackState

ENDING = ".jsonl"
FORWARD_S = 2.0  # up to so far ahead reading on is faster than seeking
HALF_STEP_S = 0.0005  # times in logs are rounded; frames are at least twice as far apart
LONGEST_RECORD = 1 << 22  # bytes; one of a hundred faces has a tenth of that
LONGEST_START = 1 << 13  # of a record, up to its time: the name of the source comes before it
TIME = re.compile(rb'"time_s":\s*(-?\d+(?:\.\d+)?)')


class Replay:
    """A log in JSON Lines and the video that it names. Its methods may be called from any thread.

    A log holds no shape: the mesh has that of the mean face, moved by the logged blendshapes.

    Parameters
    ----------
    path : the log
    geometry : of the face model that is drawn

    Attributes
    ----------
    times_s : of each frame
    source : what the log says that it was made of

    Raises
    ------
    SourceError
        Where it is no such log.
    """

    def __init__(self, path: Path, geometry: Geometry):
        self._path, self._geometry = path, geometry
        self._lock = threading.Lock()
        self._starts, self.times_s = _index(path)
        first = self._record(0)
        self.source = str(first.get("source", ""))
        model = geometry.model
        self._blendshapes = ArkitBlendshapes(model.expression_names if model is not None else ())
        self._video: Source | None = None
        self._shown: Frame | None = None  # the last that was read
        self._no_video = not os.path.isfile(self.source)

    @property
    def blendshapes(self) -> tuple[str, ...]:
        """Names of those in `message`."""
        return self._blendshapes.names

    def message(self, index: int) -> bytes:
        """The message of a frame, as `messages` describes it.

        Raises
        ------
        SourceError
            Where there is no such frame, or its record is damaged.
        """
        with self._lock:
            record = self._record(index)
            try:
                faces = [self._face(face) for face in record["faces"]]
                header = {
                    "frame": index,
                    "time_s": float(record["time_s"]),
                    "width": int(record["width"]),
                    "height": int(record["height"]),
                    "faces": [face_header(face) for face in faces],
                }
                numbers = [face_numbers(face, self._blendshapes.names).tobytes() for face in faces]
                head = packed(header, *numbers)
            except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
                raise SourceError(f"{self._path}: record {index} is no record of a frame: {error}") from error
            image = self._image(self.times_s[index])
            return head if image is None else head + encoded(image)

    def close(self) -> None:
        with self._lock:
            if self._video is not None:
                self._video.close()
            self._no_video = True

    def _record(self, index: int) -> dict:
        if not 0 <= index < len(self._starts) - 1:
            raise SourceError(f"{self._path}: has {len(self._starts) - 1} frames, no frame {index}")
        start, end = self._starts[index : index + 2]
        try:
            with open(self._path, "rb") as file:
                file.seek(start)
                record = json.loads(file.read(end - start))
        except (OSError, ValueError, RecursionError) as error:
            raise SourceError(f"{self._path}: record {index} cannot be read; is it a log in JSON Lines?") from error
        if not isinstance(record, dict):
            raise SourceError(f"{self._path}: expected records of frames, found something else")
        return record

    def _face(self, face: Mapping) -> FaceTrack:
        """A face as it was logged, with the mean shape."""
        angles = [float(face["pose"][f"{name}_deg"]) for name in ("yaw", "pitch", "roll")]
        rotation = rotation_from_angles(*angles).astype(np.float32)
        place = np.array(face["pose"]["translation_px"], np.float32)
        pose = Pose(rotation, float(face["pose"]["scale_px_per_mm"]), place, *angles)
        weights = {str(name): float(weight) for name, weight in face.get("blendshapes", {}).items()}
        model, irises, distance = self._geometry.model, face.get("irises"), face.get("translation_mm")
        expression = np.zeros(model.expression_count if model is not None else 0, np.float32)
        for name, members in zip(self._blendshapes.names, self._blendshapes.members, strict=True):
            expression[list(members)] = weights.get(name, 0.0)
        return FaceTrack(
            id=int(face["id"]),
            state=TrackState(face["state"]),
            score=None if face.get("score") is None else float(face["score"]),
            detected=bool(face.get("detected")),
            roi=Roi(0, 0, 1),
            model_to_image=camera_from_pose(pose),
            shape=np.zeros(model.shape_count if model is not None else 0, np.float32),
            expression=expression,
            pose=pose,
            landmarks=np.array(face["landmarks"], np.float32),
            translation_mm=None if distance is None else np.array(distance, np.float32),
            irises=None if irises is None or None in irises else np.array(irises, np.float32),
            blendshapes=weights,
        )

    def _image(self, time_s: float) -> np.ndarray | None:
        """The frame of the video at a time; None where there is no video, or it has ended."""
        if self._no_video:
            return None
        try:
            shown_s = self._shown.time_s if self._shown is not None else -np.inf
            if not time_s - FORWARD_S <= shown_s <= time_s + HALF_STEP_S:
                self._seek(time_s)
            video = self._video
            while video is not None and self._shown is not None and self._shown.time_s < time_s - HALF_STEP_S:
                self._shown = next(video, None)
            return None if self._shown is None else self._shown.image
        except FaceTrackError:
            self._shown = None
            return None

    def _seek(self, time_s: float) -> None:
        if self._video is not None:
            self._video.close()
        self._video = self._shown = None
        self._video = open_source(self.source, start_s=max(0.0, time_s - HALF_STEP_S))
        self._no_video = self._video.kind != "video"
        self._shown = None if self._no_video else next(self._video, None)


def _index(path: Path) -> tuple[list[int], list[float]]:
    """Where the records of a log begin, and the end of the last; and their times."""
    starts, times_s, place = [0], [], 0
    try:
        with open(path, "rb") as file:
            while line := file.readline(LONGEST_RECORD):
                found = TIME.search(line[:LONGEST_START])
                if not line.endswith(b"\n"):
                    break  # the last one of a log that is being written, or no log
                if found is None:
                    raise SourceError(f"{path}: expected a log in JSON Lines, found a line without time_s")
                place += len(line)
                starts.append(place)
                times_s.append(float(found[1]))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error}); name a log in JSON Lines") from error
    if not times_s:
        raise SourceError(f"{path}: expected a log in JSON Lines, found no record of a frame")
    return starts, times_s
