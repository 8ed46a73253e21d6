"""The face model on the GL side: a vertex shader evaluates it into a texture, from which the views are drawn.

Per face and frame a camera and the weights of the expressions go over; the neutral face only when its shape changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import moderngl
import numpy as np

from render.geometry import Geometry
from render.surface import LIGHT_BELOW_PX, MAX_COORDINATE_PX, check_vertices, focal_px, in_picture, scale_px_per_mm
from tracker.types import FaceTrack

COLUMNS = 256  # of the textures that hold one row of numbers
SHAPE_STEP = 0.02  # standard deviations that a shape may change before its neutral face is baked anew
EXPRESSION_REACH_MM = 45.0  # how far an expression moves a vertex along the view, at most
LANDMARK_MARGIN_MM = 15.0  # by what the mesh reaches beyond the landmarks of an open jaw


@dataclass(frozen=True, slots=True, eq=False)
class Neutral:
    """A face without expression on the GL side, and the box it lies in."""

    shape: np.ndarray  # (Ks,) float32
    buffer: moderngl.Buffer  # (N, 3) float32, mm
    box: np.ndarray  # (2, 3) low and high corner, mm


@dataclass(frozen=True, slots=True, eq=False)
class PosedFace:
    """A face and where it lies in a picture; what `FaceShader.evaluate` needs."""

    rect: tuple[int, int, int, int]  # x_min, y_min, x_max, y_max, px, within the picture
    neutral: moderngl.Buffer | np.ndarray  # (N, 3) float32; an array goes over when it is drawn
    to_picture: np.ndarray  # (3, 4) float32: neutral -> x, y in image px, nearness in mm
    weights: np.ndarray  # (Ke,) float32
    scale_px_per_mm: float
    origin_mm: float  # nearness of the model's origin
    nearness: tuple[float, float]  # mm; all of the face lies between
    light: bool  # whether the light triangles do


class FaceShader:
    """Evaluates the model for one face at a time.

    Attributes
    ----------
    positions : texture; texel (i % COLUMNS, i // COLUMNS) holds x, y in image px and nearness in mm of vertex i
    """

    def __init__(self, context: moderngl.Context, program: moderngl.Program, geometry: Geometry):
        self._context, self._program, self._geometry = context, program, geometry
        count = max(geometry.vertex_count, 1)
        size = COLUMNS, -(-count // COLUMNS)
        self.positions = context.texture(size, 4, dtype="f4")
        self.positions.filter = moderngl.NEAREST, moderngl.NEAREST
        self._target = context.framebuffer([self.positions])
        program["size"].value = size
        spans, deltas = sparse_by_vertex(geometry.model, count)
        self._deltas = number_texture(context, deltas)
        self._spans = context.buffer(spans.tobytes())
        self._uploaded = context.buffer(reserve=12 * count, dynamic=True)
        self._neutrals: dict[int, Neutral] = {}  # by the track

    def pose(self, track: FaceTrack, size_wh: tuple[int, int]) -> PosedFace | None:
        """Where a face lies in a picture; None where it has no mesh, is damaged, or lies outside.

        A face that comes with vertices is drawn by them, any other one by its coefficients.

        Raises
        ------
        RenderError
            Where a face has another number of vertices than the model.
        """
        geometry, scale, focal = self._geometry, scale_px_per_mm(track), focal_px(size_wh)
        if not len(geometry.triangles) or not scale > 1e-6:
            return None
        if track.vertices is not None:
            neutral = check_vertices(geometry, track)
            box, camera = np.stack([neutral.min(axis=0), neutral.max(axis=0)]), np.eye(3, 4)
            weights, reach_mm = np.zeros(0, np.float32), 0.0
        elif geometry.model is not None and np.isfinite(track.shape).all() and np.isfinite(track.expression).all():
            known = self._neutral(track)
            neutral, box, camera = known.buffer, known.box, track.model_to_image.astype(np.float64)
            weights, reach_mm = np.asarray(track.expression, np.float32), EXPRESSION_REACH_MM
        else:
            return None
        if not np.abs(box).max() < MAX_COORDINATE_PX:  # written so that NaN fails too
            return None
        shown = np.array(list(itertools.product(*box.T))) @ camera[:, :3].T + camera[:, 3]
        if track.vertices is None:
            marks, margin_px = track.landmarks[:, :2], LANDMARK_MARGIN_MM * scale
            around = np.stack([marks.min(axis=0) - margin_px, marks.max(axis=0) + margin_px])
            shown = np.concatenate([shown, np.column_stack([around, shown[:2, 2]])])
        low, high = shown.min(axis=0), shown.max(axis=0)
        rect = in_picture(*low[:2], *high[:2], size_wh)
        if rect is None:
            return None
        camera = camera.copy()
        camera[2] /= scale
        camera[2, 3] -= focal / scale
        return PosedFace(
            rect=rect,
            neutral=neutral,
            to_picture=camera.astype(np.float32),
            weights=weights,
            scale_px_per_mm=scale,
            origin_mm=(float(track.model_to_image[2, 3]) - focal) / scale,
            nearness=((low[2] - focal) / scale - reach_mm, (high[2] - focal) / scale + reach_mm),
            light=bool((high - low)[:2].max() < LIGHT_BELOW_PX),
        )

    def evaluate(self, face: PosedFace) -> None:
        """Fill `positions`; leaves another framebuffer and viewport in use."""
        buffer = face.neutral
        if isinstance(buffer, np.ndarray):
            self._uploaded.orphan()
            self._uploaded.write(buffer)
            buffer = self._uploaded
        program, context = self._program, self._context
        weights = np.zeros(program["weights"].array_length, np.float32)
        weights[: len(face.weights)] = face.weights
        program["weights"].write(weights.tobytes())
        program["to_picture"].write(np.vstack([face.to_picture, [0, 0, 0, 1]]).astype(np.float32).T.tobytes())
        context.disable(moderngl.BLEND | moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self._target.use()
        self._deltas.use(0)
        inputs = [(buffer, "3f", "in_neutral"), (self._spans, "2i", "in_span")]
        array = context.vertex_array(program, inputs)
        array.render(moderngl.POINTS, vertices=self._geometry.vertex_count)
        array.release()

    def forget(self, tracks: Sequence[FaceTrack]) -> None:
        """Give back what faces left behind that are not among these."""
        for track_id in set(self._neutrals) - {track.id for track in tracks}:
            self._neutrals.pop(track_id).buffer.release()

    def _neutral(self, track: FaceTrack) -> Neutral:
        known = self._neutrals.get(track.id)
        if known is not None and np.abs(track.shape - known.shape).max(initial=0) <= SHAPE_STEP:
            return known
        baked = self._geometry.model.bake(track.shape)
        buffer = known.buffer if known is not None else self._context.buffer(reserve=baked.nbytes, dynamic=True)
        buffer.orphan()
        buffer.write(baked)
        known = Neutral(np.array(track.shape), buffer, np.stack([baked.min(axis=0), baked.max(axis=0)]))
        self._neutrals[track.id] = known
        return known


def count_weights(geometry: Geometry) -> int:
    """How many weights of expressions the shader takes; at least one, as GLSL has no empty arrays."""
    return max(1, geometry.model.expression_count if geometry.model is not None else 0)


def sparse_by_vertex(model, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The expressions of a model in the order of its vertices.

    Returns
    -------
    spans (count, 2) int32: first row and number of rows of each vertex; deltas (M, 4) float32: mm, expression
    """
    if model is None:
        return np.zeros((count, 2), np.int32), np.zeros((1, 4), np.float32)
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
