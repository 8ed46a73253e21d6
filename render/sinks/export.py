"""Writes the faces of a picture as meshes that other programs open."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from facet.render.bust import bust, on_face
from facet.render.geometry import Geometry, vertex_normals
from facet.render.sinks.mesh_files import BUST, Head, bust_names, file_names, write_head
from facet.render.skin_texture import albedo_texture
from facet.render.unwrap import seen_share, skin_triangles, texture, vertex_colours
from facet.tracker.arkit import ArkitBlendshapes
from facet.tracker.errors import RenderError, SinkError
from facet.tracker.files import file_name, numbered_ends, same_file
from facet.tracker.lighting import Light, sampled, turned_light
from facet.tracker.morphable import MorphableModel, project
from facet.tracker.pose import camera_scale
from facet.tracker.types import FaceTrack, Frame
from facet.tracker.volume import Volume, VolumeNet

UNKNOWN_LIGHT = "the light on this face is unknown, as it is too dark, too bright or too small"
LONGEST_END = f"_99999{BUST}.obj"  # the number of the face and the ending


class MeshExport:
    """Meshes in a folder, named after the picture, the frame of a video, and the face.

    No file is replaced: where a name is taken, in this run or by a file that exists, the picture's gets a number.

    Parameters
    ----------
    folder : made where absent
    geometry : of the face model that the tracker draws
    frame_index : of a video, the frame whose faces are written; None writes those of every picture
    albedo : write skin with the light divided out, and the light beside it
    notify : gets a line about a face whose light is unknown
    volumes : predicts the whole head of a face, which is written beside it; None where that is not wanted

    Attributes
    ----------
    heads : how many were written
    done : whether the one frame has passed

    Raises
    ------
    RenderError
        Where the face model has no triangles.
    SinkError
        Where the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        geometry: Geometry,
        frame_index: int | None,
        albedo: bool = False,
        notify: Callable[[str], None] = lambda text: None,
        volumes: VolumeNet | None = None,
    ):
        self.folder, self.heads, self.done = folder, 0, False
        self._geometry, self._frame_index, self._volumes = geometry, frame_index, volumes
        self._albedo, self._notify = albedo, notify
        self._taken: set[str] = set()
        self._made = make_folder(folder, geometry)

    def write(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None:
        """Write the faces of a frame, if it is one that is wanted.

        Raises
        ------
        SinkError
            Where a file cannot be written, or would replace the picture it came from, or a head has no surface.
        """
        if self._frame_index is not None and frame.index != self._frame_index:
            return
        self.done = self._frame_index is not None
        for picture in stems(frame.source, self._frame_index):
            heads = [f"{picture}_{face.id}" for face in faces]
            files = [self.folder / name for head in heads for name in file_names(head).values()]
            if self._volumes:
                files += [self.folder / name for head in heads for name in bust_names(head).values()]
            for path in files:
                if same_file(path, frame.source):
                    raise SinkError(f"{path}: the export would replace the input; choose another folder")
            if picture.lower() not in self._taken and not any(map(os.path.lexists, files)):
                break
        self._taken.add(picture.lower())
        for head, face in zip(heads, faces, strict=True):
            made = head_of(frame.image, face, self._geometry, self._albedo)
            write_new(made, self.folder, head)
            if self._albedo and made.light is None:
                self._notify(f"{head}: {UNKNOWN_LIGHT}; exported with the image's colours")
            if self._volumes:
                closed = closed_mesh(self._volumes(frame.image, face), frame, face, model_of(self._geometry))
                write_new(closed, self.folder, f"{head}{BUST}", closed=True)
            self.heads += 1

    def close(self) -> None:
        """Leave no folder without meshes that this export made."""
        if self._made and not self.heads:
            with contextlib.suppress(OSError):
                self.folder.rmdir()


def write_new(head: Head, folder: Path, stem: str, closed: bool = False) -> None:
    """Write a head as new files; raises SinkError where one exists."""
    try:
        write_head(head, folder, stem, closed)
    except FileExistsError as error:
        raise SinkError(f"{folder / stem}.*: exists, and is not replaced; remove it first") from error


def closed_mesh(volume: Volume, frame: Frame, face: FaceTrack, model: MorphableModel) -> Head:
    """The mesh of the head of a face; raises SinkError where it has no surface."""
    closed = bust(on_face(volume, face, model), frame.image)
    if closed is None:
        raise SinkError(f"{frame.source}, face {face.id}: expected a head, found no surface; try a clearer image")
    return closed


def make_folder(folder: Path, geometry: Geometry) -> bool:
    """Make the folder of an export where absent; whether that was so.

    Raises
    ------
    RenderError
        Where the face model has no triangles.
    SinkError
        Where the folder cannot be made.
    """
    model_of(geometry)
    absent = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"--export {folder}: cannot be made ({error.strerror or error})") from error
    return absent


def model_of(geometry: Geometry) -> MorphableModel:
    """The face model whose faces are exported; raises RenderError where it has no triangles."""
    if geometry.model is None or not len(geometry.triangles):
        raise RenderError("--export: expected a face model with triangles, found one of points")
    return geometry.model


def stems(source: str, frame_index: int | None) -> Iterator[str]:
    """Names for the meshes of a picture, without what OBJ files would take for something else; then numbered ones."""
    stem = re.sub(r"[\s\x00-\x1f\ud800-\udfff]+", "_", Path(source.rstrip("/")).stem).lstrip("-") or "picture"
    frame = "" if frame_index is None else f"_{frame_index:06d}"
    for end in numbered_ends():
        yield file_name(stem, frame + end + LONGEST_END).removesuffix(LONGEST_END)


def export_targets(folder: Path, sources: Iterable[str], frame_index: int | None) -> list[Path]:
    """The files that exist in a folder under a name that a `MeshExport` gives to a face of one of these sources."""
    if not folder.is_dir():
        return []
    taken: set[str] = set()
    for source in sources:
        taken.add(next(stem.lower() for stem in stems(source, frame_index) if stem.lower() not in taken))
    kinds = "|".join({**file_names(""), **bust_names("")})
    mesh = re.compile(rf"(.+)_[1-9]\d*(?:{BUST})?\.({kinds})", re.IGNORECASE)
    found = ((path, mesh.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return [path for path, match in found if match and match[1].lower() in taken]


def head_of(
    image: np.ndarray, face: FaceTrack, geometry: Geometry, albedo: bool = False, mask: np.ndarray | None = None
) -> Head:
    """A tracked face as a mesh with the colours that an image shows of it.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR
    albedo : divide the light out, where it is known; the head then has the light beside its texture
    mask : (H, W) float32, probability that a pixel shows the face; only the albedo is kept clear of the rest
    """
    model = model_of(geometry)
    neutral = model.bake(face.shape)
    vertices = model.vertices(face.shape, face.expression, neutral)
    placed = project(vertices, np.ascontiguousarray(face.model_to_image, np.float32))
    whole, (image, placed) = placed, around(image, placed)
    seen = seen_share(placed, geometry.triangles, camera_scale(face.model_to_image))
    textured = skin_triangles(geometry)
    known = face.appearance if albedo and textured.any() else None
    light, own = (None, None) if known is None else (known.light, known.skin)
    part, shown = None, seen
    if light is not None and mask is not None:
        left, top = np.rint(whole[0, :2] - placed[0, :2]).astype(int)
        part = mask[top : top + len(image), left : left + image.shape[1]]
        # eyes behind glasses, a mouth behind a hand: not what lies before them
        column, row = np.clip(placed[:, :2].astype(int), 0, (image.shape[1] - 1, image.shape[0] - 1)).T
        shown = seen * (part[row, column] > 0.5)
    colours = vertex_colours(image, placed, shown, geometry.albedo)
    skin = None
    if light is not None and own is not None:
        skin = albedo_texture(image, placed, geometry, seen, light, own, part)
        colours = unlit(colours, placed, geometry, light, skin)
        light = turned_light(light, face.pose.rotation.T)
    elif textured.any():
        skin = texture(image, placed, geometry, seen)
    return Head(
        neutral=neutral,
        vertices=vertices,
        neutral_normals=_normals(neutral, geometry.triangles),
        normals=_normals(vertices, geometry.triangles),
        colours=colours,
        triangles=geometry.triangles,
        textured=textured,
        uv=model.uv,
        texture=skin,
        light=light,
        blendshapes=_blendshapes(model, face),
    )


def unlit(
    colours: np.ndarray, placed: np.ndarray, geometry: Geometry, light: Light, skin: np.ndarray
) -> np.ndarray:
    """Colours at the vertices, (N, 3) uint8 BGR, with the light divided out; of skin those of the albedo texture."""
    normals = np.empty_like(placed)
    vertex_normals(placed, geometry.triangles, normals)
    shading = np.maximum(light.shading(normals * np.array([1, -1, 1], np.float32))[:, ::-1], 0.3)
    uv = geometry.codes["uv"][:, :0:-1]
    plain = np.clip(colours / shading, 0, 255)
    return np.rint(np.where(np.any(uv != 0, axis=1, keepdims=True), sampled(skin, uv), plain)).astype(np.uint8)


def _normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Of vertices in model space, (N, 3) float32."""
    down = vertices * np.array([1, -1, 1], np.float32)
    normals = np.empty_like(down)
    vertex_normals(down, triangles, normals)
    return normals * np.array([1, -1, 1], np.float32)


def around(image: np.ndarray, placed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a picture that a face covers, and its vertices, (N, 3) px, there."""
    (x0, y0), (x1, y1) = placed[:, :2].min(axis=0), placed[:, :2].max(axis=0)
    height, width = image.shape[:2]
    left, top = min(max(int(x0) - 2, 0), width - 1), min(max(int(y0) - 2, 0), height - 1)
    right, bottom = max(min(int(x1) + 3, width), left + 1), max(min(int(y1) + 3, height), top + 1)
    return image[top:bottom, left:right], placed - np.array([left, top, 0], np.float32)


def _blendshapes(model: MorphableModel, face: FaceTrack) -> dict:
    """What `Head.blendshapes` holds of a model that names its expressions; both sides add up where ARKit has one."""
    found, blendshapes = {}, ArkitBlendshapes(model.expression_names)
    for (name, weight), members in zip(blendshapes(face.expression).items(), blendshapes.members, strict=True):
        spans = [slice(*model.expression_start[k : k + 2]) for k in members]
        at, row = np.unique(np.concatenate([model.expression_vertex[span] for span in spans]), return_inverse=True)
        by = np.zeros((len(at), 3), np.float32)
        np.add.at(by, row, np.concatenate([model.expression_delta[span] for span in spans]))
        found[name] = weight, at, by
    return found
