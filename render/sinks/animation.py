"""Writes the faces of a video as animated heads: one binary glTF file a face."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from facet.render.geometry import Geometry
from facet.render.sinks.export import around, head_of, make_folder, model_of, stems
from facet.render.sinks.mesh_files import MM_PER_M, write_animated_glb
from facet.tracker.arkit import ArkitBlendshapes
from facet.tracker.errors import SinkError
from facet.tracker.files import discard, make_partial, new_file
from facet.tracker.morphable import project
from facet.tracker.outputs.avatar import quaternion
from facet.tracker.types import FaceTrack, Frame

GONE_S = 10.0  # after which a face does not come back under its ID
KEPT_KEYS = 256  # in memory; the others wait in a file
TO_GLTF = np.array([1.0, 1.0, -1.0])  # its camera looks along -z


@dataclass(slots=True, eq=False)
class Take:
    """One face while it is seen."""

    waiting: Path  # file with the keys that are not in memory
    seen_s: float = 0.0
    frontal: float = -2.0  # cosine of the angle from frontal, the largest so far
    image: np.ndarray | None = None  # (H, W, 3) uint8, BGR, the part of that frame which the face covers
    face: FaceTrack | None = None  # of that frame, placed in `image`
    keys: list[np.ndarray] = field(default_factory=list)
    last: np.ndarray | None = None  # rotation of the last key


def _depth(face: FaceTrack) -> np.ndarray:
    """(3,) mm by which the head's origin lies behind its face.

    The scale of an affine camera holds at the depth of the points that it was fitted to, not at the origin between the
    ears: a camera with perspective sees the face in its place when that is where the logged distance ends.
    """
    near_px = face.landmarks[17:, 2].mean() - face.pose.translation_px[2]
    return np.array([0.0, 0.0, near_px / max(face.pose.scale_px_per_mm, 1e-6)])


class AnimationExport:
    """Animated heads in a folder, named after the video and the face.

    Mesh and texture are those of the frame in which a face was nearest to frontal. Node: position in the camera's
    space, metres, y up, the camera at the origin looking along -z; a key a frame in which the face is seen. Weights are
    those that the mesh is drawn by (`FaceTrack.expression`). Keys wait in a file beside the target, and a face is
    written when it has been gone for GONE_S: memory grows with the faces in view, by their part of a frame each, not
    with the length.

    Parameters
    ----------
    folder : made where absent
    geometry : of the face model that the tracker draws

    Attributes
    ----------
    heads : how many were written
    done : never before the end

    Raises
    ------
    RenderError
        Where the face model has no triangles.
    SinkError
        Where the folder cannot be made.
    """

    done = False

    def __init__(self, folder: Path, geometry: Geometry):
        self.folder, self.heads = folder, 0
        self._made = make_folder(folder, geometry)
        self._geometry, self._model = geometry, model_of(geometry)
        self._blendshapes = ArkitBlendshapes(self._model.expression_names)
        self._takes: dict[int, Take] = {}
        self._source, self._time_s = "", -np.inf

    def write(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None:
        """Add the faces of a frame; one whose time is not later than the last is left out.

        Raises
        ------
        SinkError
            Where a file cannot be written.
        """
        if frame.time_s <= self._time_s:
            return
        self._source, self._time_s = frame.source, frame.time_s
        for face in faces:
            take = self._takes.get(face.id)
            if take is None:
                take = self._takes[face.id] = Take(make_partial(self.folder / "keys"))
            if face.pose.rotation[2, 2] > take.frontal:
                take.frontal = float(face.pose.rotation[2, 2])
                take.image, take.face = self._cut_out(frame.image, face)
            take.seen_s = frame.time_s
            take.keys.append(self._key(frame.time_s, face, take))
            if len(take.keys) >= KEPT_KEYS:
                self._put_away(take)
        for face_id in [face_id for face_id, take in self._takes.items() if frame.time_s - take.seen_s > GONE_S]:
            self._finish(face_id)

    def _key(self, time_s: float, face: FaceTrack, take: Take) -> np.ndarray:
        """(8 + blendshapes,) float32, as `write_animated_glb` takes it."""
        place_mm = np.zeros(3) if face.translation_mm is None else (face.translation_mm + _depth(face)) * TO_GLTF
        turn = quaternion(face.pose.rotation)
        if take.last is not None and turn @ take.last < 0:  # the near one of both, for programs that interpolate
            turn = -turn
        take.last = turn
        return np.array(
            [time_s, *place_mm / MM_PER_M, *turn, *self._blendshapes(face.expression).values()], np.float32
        )

    def _cut_out(self, image: np.ndarray, face: FaceTrack) -> tuple[np.ndarray, FaceTrack]:
        """A copy of the part of an image that a face covers, and the face placed there."""
        vertices = project(self._model.vertices(face.shape, face.expression), face.model_to_image)
        part, placed = around(image, vertices)
        camera = face.model_to_image.copy()
        camera[:, 3] += placed[0] - vertices[0]
        return part.copy(), replace(face, model_to_image=camera, vertices=None)

    def _put_away(self, take: Take) -> None:
        try:
            with open(take.waiting, "ab") as file:
                file.write(np.array(take.keys, "<f4").tobytes())
        except OSError as error:
            raise SinkError(
                f"--export {self.folder}: cannot be written ({error.strerror or error}); is the disk full?"
            ) from error
        take.keys.clear()

    def _finish(self, face_id: int) -> None:
        """Write the file of a face under the first name that is free."""
        take = self._takes.pop(face_id)
        try:
            self._put_away(take)
            if take.image is None or take.face is None:  # its pose was never a number
                return
            head = head_of(take.image, take.face, self._geometry)
            for stem in stems(self._source, None):
                path = self.folder / f"{stem}_{face_id}.glb"
                if os.path.lexists(path):
                    continue
                with contextlib.suppress(FileExistsError):  # somebody was faster
                    with new_file(path, replace=False) as partial:
                        keys = np.memmap(take.waiting, "<f4", "r").reshape(-1, 8 + len(self._blendshapes.names))
                        write_animated_glb(partial, head, path.stem, keys)
                    self.heads += 1
                    return
        finally:
            keys = None  # a file that is mapped cannot be deleted everywhere
            discard(take.waiting)

    def close(self) -> None:
        """Write the faces that are left; no folder without heads stays that this export made."""
        try:
            while self._takes:
                self._finish(next(iter(self._takes)))
        finally:
            for take in self._takes.values():
                discard(take.waiting)
            if self._made and not self.heads:
                with contextlib.suppress(OSError):
                    self.folder.rmdir()
