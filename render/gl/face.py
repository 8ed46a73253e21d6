"""The face model on the GL side: a vertex shader evaluates it into a texture, from which the views are drawn.

Per face and frame a camera and the weights of the expressions go over; the neutral face only when its shape changes.
Transform feedback and not a drawn target: software GL would finish each face's drawing before the next may begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import moderngl
import numpy as np

from facet.render.bounds import BlockBounds
from facet.render.geometry import Geometry
from facet.render.surface import (
    LIGHT_BELOW_PX,
    MAX_COORDINATE_PX,
    check_vertices,
    in_picture,
)
from facet.tracker.errors import RenderError
from facet.tracker.morphable import REBAKE_SHAPE, MorphableModel
from facet.tracker.pose import camera_scale, focal_px
from facet.tracker.types import FaceTrack

COLUMNS = 256  # of the textures that hold one row of numbers


@dataclass(frozen=True, slots=True, eq=False)
class Neutral:
    """A face without expression on the GL side, and the boxes it lies in."""

    shape: np.ndarray  # (Ks,) float32
    buffer: moderngl.Buffer  # (N, 3) float32, mm
    array: moderngl.VertexArray  # that reads the buffer
    boxes: np.ndarray  # (2, B, 3) mm, see `BlockBounds`


@dataclass(frozen=True, slots=True, eq=False)
class PlacedFace:
    """A face, evaluated, and where it lies in a picture."""

    positions: moderngl.Texture  # (N, 4) float32, see `number_texture`: x, y in image px, depth in mm
    rect: tuple[int, int, int, int]  # x_min, y_min, x_max, y_max, px, within the picture
    scale_px_per_mm: float
    origin_mm: float  # depth of the model's origin
    depth: tuple[float, float]  # mm; all of the face lies between
    light: bool  # whether the light triangles do
    track: FaceTrack


class FaceShader:
    """Evaluates the model for the faces of a picture."""

    def __init__(self, context: moderngl.Context, program: moderngl.Program, geometry: Geometry):
        self._context, self._program, self._geometry = context, program, geometry
        self._padded = np.zeros((-(-max(geometry.vertex_count, 1) // COLUMNS) * COLUMNS, 4), np.float32)
        self._evaluated = context.buffer(reserve=self._padded.nbytes)
        # nothing is drawn to it, but GL wants one, and without a window there is none
        self._target = context.framebuffer([context.renderbuffer((1, 1))])
        self._positions: list[moderngl.Texture] = []  # by the place among the faces of a picture
        self._neutrals: dict[int, Neutral] = {}  # by the track
        if geometry.model is not None:
            self._bounds = BlockBounds(geometry.model)
            spans, deltas = sparse_by_vertex(geometry.model, geometry.vertex_count)
            self._deltas = number_texture(context, deltas)
            self._spans = context.buffer(spans.tobytes())

    def place(self, tracks: Sequence[FaceTrack], size_wh: tuple[int, int]) -> list[PlacedFace]:
        """Evaluate the faces of a picture; left out are those without a mesh, damaged ones, and those outside.

        It leaves another framebuffer in use.

        A face that comes with vertices is drawn by them, any other one by its coefficients.

        Raises
        ------
        RenderError
            Where a face has another number of vertices or coefficients than the model.
        """
        for track_id in set(self._neutrals) - {track.id for track in tracks}:
            gone = self._neutrals.pop(track_id)
            gone.array.release()
            gone.buffer.release()
        self._target.use()
        placed = [self._place(index, track, size_wh) for index, track in enumerate(tracks)]
        return [face for face in placed if face is not None]

    def _place(self, index: int, track: FaceTrack, size_wh: tuple[int, int]) -> PlacedFace | None:
        geometry, scale, focal = self._geometry, camera_scale(track.model_to_image), focal_px(size_wh)
        if not len(geometry.triangles) or not scale > 1e-6:
            return None
        neutral = None
        if track.vertices is not None:
            vertices = check_vertices(geometry, track.vertices)
            low, high = vertices.min(axis=0), vertices.max(axis=0)
        elif geometry.model is not None:
            _check_coefficients(geometry.model, track)
            neutral = self._neutral(geometry.model, track)
            low, high = self._bounds.in_picture(neutral.boxes, track.expression, track.model_to_image)
        else:
            return None
        if not np.abs([low, high]).max() < MAX_COORDINATE_PX:  # written so that NaN fails too
            return None
        rect = in_picture(low[0], low[1], high[0], high[1], size_wh)
        if rect is None:
            return None
        if index >= len(self._positions):
            self._positions.append(number_texture(self._context, self._padded))
        positions = self._positions[index]
        if neutral is None:
            self._padded[: len(vertices), :3] = vertices
            self._padded[:, 2] = (self._padded[:, 2] - focal) / scale
            positions.write(self._padded)
        else:
            camera = track.model_to_image.astype(np.float64)
            camera[2] /= scale
            camera[2, 3] -= focal / scale
            self._evaluate(neutral, camera, track.expression)
            positions.write(self._evaluated)
        return PlacedFace(
            positions=positions,
            rect=rect,
            scale_px_per_mm=scale,
            origin_mm=(float(track.model_to_image[2, 3]) - focal) / scale,
            depth=((low[2] - focal) / scale, (high[2] - focal) / scale),
            light=bool((high - low)[:2].max() < LIGHT_BELOW_PX),
            track=track,
        )

    def _evaluate(self, neutral: Neutral, to_picture: np.ndarray, expression: np.ndarray) -> None:
        program = self._program
        weights = np.zeros(program["weights"].array_length, np.float32)
        weights[: len(expression)] = expression
        program["weights"].write(weights.tobytes())
        program["to_picture"].write(to_picture.T.astype(np.float32).tobytes())
        self._deltas.use(0)
        neutral.array.transform(self._evaluated, moderngl.POINTS, vertices=self._geometry.vertex_count)

    def _neutral(self, model: MorphableModel, track: FaceTrack) -> Neutral:
        known = self._neutrals.get(track.id)
        if known is not None and np.abs(track.shape - known.shape).max(initial=0) <= REBAKE_SHAPE:
            return known
        baked = model.bake(track.shape)
        if known is not None:
            buffer, array = known.buffer, known.array
        else:
            buffer = self._context.buffer(reserve=baked.nbytes, dynamic=True)
            inputs = [(buffer, "3f", "in_neutral"), (self._spans, "2i", "in_span")]
            array = self._context.vertex_array(self._program, inputs)
        buffer.orphan()
        buffer.write(baked)
        self._neutrals[track.id] = Neutral(np.array(track.shape), buffer, array, self._bounds.boxes(baked))
        return self._neutrals[track.id]


def _check_coefficients(model: MorphableModel, track: FaceTrack) -> None:
    wanted, found = (model.shape_count, model.expression_count), (len(track.shape), len(track.expression))
    if found != wanted:
        raise RenderError(
            f"expected {wanted} coefficients of shape and expression, found {found}; "
            "draw with the face model that the tracker was given"
        )


def count_weights(geometry: Geometry) -> int:
    """How many weights of expressions the shader takes; at least one, as GLSL has no empty arrays."""
    return max(1, geometry.model.expression_count if geometry.model is not None else 0)


def sparse_by_vertex(model: MorphableModel, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The expressions of a model in the order of its vertices.

    Returns
    -------
    spans (count, 2) int32: first row and number of rows of each vertex; deltas (M, 4) float32: mm, expression
    """
    expression = np.repeat(np.arange(model.expression_count), np.diff(model.expression_start))
    order = np.argsort(model.expression_vertex, kind="stable")
    deltas = np.column_stack([model.expression_delta, expression])[order].astype(np.float32)
    numbers = np.bincount(model.expression_vertex, minlength=count)
    return np.column_stack([np.cumsum(numbers) - numbers, numbers]).astype(np.int32), deltas


def rings(triangles: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each vertex the triangles around it, by their two other corners in order.

    Returns
    -------
    spans (count, 2) int32: first row and number of rows of each vertex; corners (3 F, 2) int32
    """
    vertex = triangles.T.ravel()
    corners = np.concatenate([triangles[:, [1, 2]], triangles[:, [2, 0]], triangles[:, [0, 1]]])
    numbers = np.bincount(vertex, minlength=count)
    order = np.argsort(vertex, kind="stable")
    return np.column_stack([np.cumsum(numbers) - numbers, numbers]).astype(np.int32), corners[order].astype(np.int32)


def number_texture(context: moderngl.Context, rows: np.ndarray) -> moderngl.Texture:
    """Rows of 2 or 4 numbers, (M, k) float32 or int32, as a texture: row i at texel (i % COLUMNS, i // COLUMNS)."""
    height = max(1, -(-len(rows) // COLUMNS))
    padded = np.zeros((height * COLUMNS, rows.shape[1]), rows.dtype)
    padded[: len(rows)] = rows
    texture = context.texture((COLUMNS, height), rows.shape[1], padded.tobytes(), dtype=f"{rows.dtype.kind}4")
    texture.filter = moderngl.NEAREST, moderngl.NEAREST
    return texture
