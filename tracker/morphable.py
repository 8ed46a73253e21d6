"""Linear face models: coefficients in, landmarks and vertices out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facet.tracker.compiling import njit
from facet.tracker.errors import WeightsError
from facet.tracker.weights import load_arrays

# Softness with which the contour point is chosen from its line, mm: neighbours blend, so that it never jumps.
CONTOUR_SOFTNESS_MM = 1.0
REBAKE_SHAPE = 0.02  # a neutral face is computed anew when a coefficient of its shape has moved so far
LARGEST_MM = 1e6  # of a face model in any unit; damaged ones have larger numbers, or none
NO_UV = np.zeros((0, 2), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The rows of a basis as whole numbers: half the memory, and the time goes into reading it."""

    steps: np.ndarray  # (K, M) int16, filled up with zeros to a multiple of four rows
    step_mm: np.ndarray  # (K,) float32, without those

    @classmethod
    def of(cls, rows: np.ndarray) -> Steps:
        """The nearest to (K, M) float."""
        step_mm = np.maximum(np.abs(rows).max(axis=1, initial=0.0), 1e-9) / np.iinfo(np.int16).max
        return cls.whole(np.rint(rows / step_mm[:, None]), step_mm)

    @classmethod
    def whole(cls, steps: np.ndarray, step_mm: np.ndarray) -> Steps:
        """Of (K, M) whole numbers."""
        filled = np.zeros((-(-len(steps) // 4) * 4, steps.shape[1]), np.int16)
        filled[: len(steps)] = steps
        return cls(filled, np.asarray(step_mm, np.float32))

    @property
    def rows(self) -> np.ndarray:
        """(K, M) float32, mm."""
        return self.steps[: len(self.step_mm)] * self.step_mm[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class SparseRows:
    """The rows of a face model that make its landmarks, and those alone."""

    mean: np.ndarray  # (P, 3) float32: 68 landmarks, then the candidates of the contour
    both: Steps  # P * 3 numbers a row: shapes, then expressions
    lines: int  # how many landmarks, from the first, slide
    outward: np.ndarray  # (lines, 2) float32, unit: where the silhouette lies from each line, model x and y

    @property
    def basis(self) -> np.ndarray:
        """(Ks + Ke, P * 3) float32."""
        return self.both.rows


@dataclass(frozen=True, slots=True, eq=False)
class MorphableModel:
    """Any linear face model: mean + shape coefficients x shape basis + expression coefficients x expression basis.

    Lengths are mm, y up. Triangles are counter-clockwise seen from outside.
    """

    mean: np.ndarray  # (N, 3) float32
    shape: Steps  # N * 3 numbers a row, for coefficients of unit variance
    expression_start: np.ndarray  # (Ke + 1,) int32: where each expression's entries begin in the next two
    expression_vertex: np.ndarray  # (M,) int32
    expression_delta: np.ndarray  # (M, 3) float32
    triangles: np.ndarray  # (F, 3) int32
    landmark_vertices: np.ndarray  # (68,) int32
    sparse: SparseRows
    expression_names: tuple[str, ...] = ()
    light_triangles: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    uv: np.ndarray = field(default_factory=lambda: NO_UV)  # (N, 2) float32, origin bottom left
    pncc: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))  # (N, 3) float32, [0, 1]
    region: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))  # (N,) index into region_names
    region_names: tuple[str, ...] = ()

    @property
    def shape_basis(self) -> np.ndarray:
        """(Ks, N, 3) float32, mm."""
        return self.shape.rows.reshape(self.shape_count, -1, 3)

    @property
    def shape_count(self) -> int:
        return len(self.shape.step_mm)

    @property
    def expression_count(self) -> int:
        return len(self.expression_start) - 1

    def bake(self, shape: np.ndarray) -> np.ndarray:
        """The neutral face of a shape, (Ks,); (N, 3) float32 mm."""
        if len(shape) != self.shape_count:
            raise ValueError(f"shape: expected {self.shape_count} coefficients, got {len(shape)}")
        return _bake(self.mean, np.ascontiguousarray(shape, np.float32), self.shape.steps, self.shape.step_mm)

    def vertices(self, shape: np.ndarray, expression: np.ndarray, neutral: np.ndarray | None = None) -> np.ndarray:
        """All vertices of a face.

        Parameters
        ----------
        shape : (Ks,) float
        expression : (Ke,) float
        neutral : (N, 3) float32, `bake(shape)` where it is at hand; `shape` is then not looked at

        Returns
        -------
        (N, 3) float32, mm
        """
        if len(expression) != self.expression_count:
            raise ValueError(f"expression: expected {self.expression_count} coefficients, got {len(expression)}")
        neutral = self.bake(shape) if neutral is None else neutral
        return add_expression(
            neutral,
            np.asarray(expression, np.float32),
            self.expression_start,
            self.expression_vertex,
            self.expression_delta,
        )

    def landmarks(self, model_to_image: np.ndarray, shape: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """The 68 landmarks in the image; of a model with a contour, 0-16 lie on the visible one.

        Parameters
        ----------
        model_to_image : (3, 4) float, model mm -> image px

        Returns
        -------
        (68, 3) float32, image px
        """
        counts = self.shape_count, self.expression_count
        if (len(shape), len(expression)) != counts:
            raise ValueError(f"shape, expression: expected {counts} coefficients, got {len(shape), len(expression)}")
        shape, expression = np.ascontiguousarray(shape, np.float32), np.ascontiguousarray(expression, np.float32)
        camera, sparse = np.ascontiguousarray(model_to_image, np.float32), self.sparse
        return _landmarks(
            shape, expression, camera, sparse.mean, sparse.both.steps, sparse.both.step_mm, sparse.outward
        )


# The kernels below hold loops where numpy would call BLAS: its threads wait for each other on a busy machine.


@njit(nogil=True, fastmath=True)
def project(points, model_to_image):
    """Model mm to image px: (N, 3) and (3, 4), both float32 or both float64 -> (N, 3)."""
    out = np.empty_like(points)
    m = model_to_image
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for row in range(3):
            out[i, row] = m[row, 0] * x + m[row, 1] * y + m[row, 2] * z + m[row, 3]
    return out


@njit(nogil=True)
def contour_weights(candidates, model_to_image, outward):
    """Choose, on each line, the point farthest out in the image.

    Parameters
    ----------
    candidates : (lines * C, 3) float, image px
    model_to_image : (3, 4) float64
    outward : (lines, 2) float32, unit, model x and y

    Returns
    -------
    (lines, C) float32, each row sums to 1

    Convention
    ----------
    Neighbours are blended by a softmax of how far out they lie, so the point slides and never jumps.
    """
    lines = len(outward)
    per_line = len(candidates) // lines
    m = model_to_image
    softness_px = CONTOUR_SOFTNESS_MM * np.sqrt((m[:2, :3] ** 2).sum() / 2)
    weight = np.empty((lines, per_line), np.float32)
    for line in range(lines):
        dx = m[0, 0] * outward[line, 0] + m[0, 1] * outward[line, 1]
        dy = m[1, 0] * outward[line, 0] + m[1, 1] * outward[line, 1]
        length = max(np.sqrt(dx * dx + dy * dy), 1e-9) * max(softness_px, 1e-9)
        largest = -np.inf
        for c in range(per_line):
            point = candidates[line * per_line + c]
            out = (point[0] * dx + point[1] * dy) / length
            weight[line, c] = out
            largest = max(largest, weight[line, c])
        total = 0.0
        for c in range(per_line):
            behind = weight[line, c] - largest
            weight[line, c] = np.exp(behind) if behind > -20.0 else 0.0  # most are, and it is nothing
            total += weight[line, c]
        for c in range(per_line):
            weight[line, c] /= total
    return weight


@njit(nogil=True, fastmath=True)
def _add_steps(mean, coefficients, steps):
    """mean + sum of coefficients x steps: (N, 3) float32, (K,) float32, (K, N * 3) int16; K is a multiple of four."""
    out = mean.copy()
    flat = out.reshape(-1)
    for k in range(0, len(coefficients), 4):
        a, b, c, d = coefficients[k], coefficients[k + 1], coefficients[k + 2], coefficients[k + 3]
        rows = steps[k : k + 4]
        for i in range(len(flat)):
            flat[i] += a * rows[0, i] + b * rows[1, i] + c * rows[2, i] + d * rows[3, i]
    return out


@njit(nogil=True)
def _bake(mean, shape, steps, step_mm):
    coefficients = np.zeros(len(steps), np.float32)
    for k in range(len(step_mm)):
        coefficients[k] = step_mm[k] * shape[k]
    return _add_steps(mean, coefficients, steps)


@njit(nogil=True)
def _landmarks(shape, expression, model_to_image, mean, steps, step_mm, outward):
    """Landmarks of the rows in `mean` and `steps`, (68, 3) float32, image px; the first slide on the contour."""
    coefficients = np.zeros(len(steps), np.float32)
    for k in range(len(step_mm)):
        coefficients[k] = step_mm[k] * (shape[k] if k < len(shape) else expression[k - len(shape)])
    points = project(_add_steps(mean, coefficients, steps), model_to_image)
    landmarks = points[:68].copy()
    if len(outward) == 0:
        return landmarks
    weight = contour_weights(points[68:], model_to_image.astype(np.float64), outward)
    lines, per_line = weight.shape
    for line in range(lines):
        landmarks[line] = 0
        for c in range(per_line):
            for axis in range(3):
                landmarks[line, axis] += weight[line, c] * points[68 + line * per_line + c, axis]
    return landmarks


@njit(nogil=True)
def add_expression(neutral, weights, start, vertex, delta):
    """neutral + sum of weights x sparse deltas; (N, 3) float32."""
    out = neutral.copy()
    for k in range(len(weights)):
        w = weights[k]
        if w == 0.0:
            continue
        # unsigned, an index is not asked whether it counts from the end: a quarter of the time
        for i in range(np.uint32(start[k]), np.uint32(start[k + 1])):
            v = np.uint32(vertex[i])
            out[v, 0] += w * delta[i, 0]
            out[v, 1] += w * delta[i, 1]
            out[v, 2] += w * delta[i, 2]
    return out


def make_model(
    mean: np.ndarray,
    shape_basis: np.ndarray,
    expression_basis: np.ndarray,
    triangles: np.ndarray,
    landmark_vertices: np.ndarray,
    unit_mm: float = 1.0,
    contour_edges: np.ndarray | None = None,
    contour_share: np.ndarray | None = None,
    **rest,
) -> MorphableModel:
    """Make a model of dense bases.

    Parameters
    ----------
    mean : (N, 3), shape_basis : (Ks, N, 3), expression_basis : (Ke, N, 3), in units of `unit_mm`
    triangles : (F, 3), may be (0, 3)
    landmark_vertices : (68,)
    unit_mm : 0.001 for micrometres
    contour_edges, contour_share : (L, C, 2) and (L, C), candidates of the first L landmarks between two vertices each
    rest : the remaining fields of MorphableModel

    Raises
    ------
    ValueError
        Where the arrays do not belong together.
    """
    expression_basis = np.asarray(expression_basis, np.float32)
    if expression_basis.shape[1:] != (len(mean), 3):
        raise ValueError(f"expression_basis: expected (K, {len(mean)}, 3), got {expression_basis.shape}")
    moving = expression_basis.any(axis=2)
    unit = np.float32(unit_mm)
    return _assemble(
        np.asarray(mean, np.float32) * unit,
        np.asarray(shape_basis, np.float32) * unit,
        None,
        np.r_[0, np.cumsum(moving.sum(axis=1))].astype(np.int32),
        np.nonzero(moving)[1].astype(np.int32),
        expression_basis[moving] * unit,
        triangles,
        landmark_vertices,
        contour_edges,
        contour_share,
        **rest,
    )


def _assemble(mean, shape_basis, shape_mm, start, vertex, delta, triangles, landmark_vertices, edges, share, **rest):
    """Check that the arrays belong together and make a model of them; lengths in mm, expressions as in the model.

    The shape basis is whole numbers of `shape_mm`, (Ks,), or mm where that is None.
    """
    count = len(mean)
    if shape_basis.ndim != 3 or shape_basis.shape[1:] != (count, 3):
        raise ValueError(f"shape_basis: expected (K, {count}, 3), got {shape_basis.shape}")
    if shape_mm is not None and shape_mm.shape != (len(shape_basis),):
        raise ValueError(f"shape_scale: expected ({len(shape_basis)},), got {shape_mm.shape}")
    flat = shape_basis.reshape(len(shape_basis), -1)
    shape = Steps.of(flat) if shape_mm is None else Steps.whole(flat, shape_mm)
    landmark_vertices = np.asarray(landmark_vertices, np.int32)
    if landmark_vertices.shape != (68,):
        raise ValueError(f"landmark_vertices: expected (68,), got {landmark_vertices.shape}")
    triangles = np.ascontiguousarray(triangles, np.int32).reshape(-1, 3)
    edges = np.zeros((0, 0, 2), int) if edges is None else edges.astype(int)
    share = np.zeros((0, 0)) if share is None else share
    for name, indices in {
        "triangles": triangles,
        "landmark_vertices": landmark_vertices,
        "expression_vertex": vertex,
        "contour_edges": edges,
        "light_triangles": rest.get("light_triangles", triangles),
    }.items():
        if indices.size and not 0 <= indices.min() <= indices.max() < count:
            raise ValueError(f"{name}: expected indices below {count}, got {indices.min()} to {indices.max()}")
    lengths = {"mean": mean, "shape_basis": shape.step_mm, "expression_delta": delta, "contour_share": share}
    for name, values in lengths.items():
        if not (np.abs(values) < LARGEST_MM).all():  # nor is nan
            raise ValueError(f"{name}: expected numbers below {LARGEST_MM}, got larger ones or none")
    if len(vertex) != len(delta) or start[0] != 0 or start[-1] != len(vertex) or (np.diff(start) < 0).any():
        raise ValueError(f"expression_start: expected 0 to {len(vertex)} ascending, with as many deltas as vertices")

    # only the rows that landmarks are made of: the dense expressions are large
    wanted, place = np.unique(np.r_[landmark_vertices, edges.ravel()], return_inverse=True)
    slot = np.full(count, -1)
    slot[wanted] = np.arange(len(wanted))
    shown = slot[vertex] >= 0
    expression = np.zeros((len(start) - 1, len(wanted), 3), np.float32)
    expression[np.repeat(np.arange(len(start) - 1), np.diff(start))[shown], slot[vertex[shown]]] = delta[shown]
    shown_shape = shape_basis[:, wanted] * (1 if shape_mm is None else shape_mm[:, None, None])
    basis = np.concatenate([shown_shape, expression])
    return MorphableModel(
        mean=mean,
        shape=shape,
        expression_start=start,
        expression_vertex=vertex,
        expression_delta=delta,
        triangles=triangles,
        landmark_vertices=landmark_vertices,
        sparse=_sparse_rows(mean[wanted], basis, place[:68], place[68:].reshape(edges.shape), share),
        **rest,
    )


def _sparse_rows(mean, basis, landmarks, edges, share) -> SparseRows:
    """Gather what landmarks are made of; the candidates lie between two vertices each."""
    rows_mean, rows_basis = mean[landmarks], basis[:, landmarks]
    lines, outward = len(edges), np.zeros((0, 2), np.float32)
    if lines:
        a, b = edges.reshape(-1, 2).T
        t = share.reshape(-1, 1).astype(np.float32)
        between = mean[a] * (1 - t) + mean[b] * t
        rows_mean = np.concatenate([rows_mean, between])
        rows_basis = np.concatenate([rows_basis, basis[:, a] * (1 - t) + basis[:, b] * t], axis=1)
        # a line leaves the face the way it runs, from the middle of the face outwards
        jaw = mean[landmarks[:lines]]
        middle = np.array([0.0, jaw[:, 1].max()], np.float32)
        points = between.reshape(lines, -1, 3)
        spread = np.ptp(points[:, :, :2], axis=1)
        outward = np.where(spread[:, 1:] < 3.0, np.sign(jaw[:, :1]) * np.array([1, 0], np.float32), jaw[:, :2] - middle)
        outward = (outward / np.linalg.norm(outward, axis=1, keepdims=True)).astype(np.float32)
    return SparseRows(
        mean=np.ascontiguousarray(rows_mean, np.float32),
        both=Steps.of(rows_basis.reshape(len(basis), -1)),
        lines=lines,
        outward=outward,
    )


def load_face_model(path: Path | str) -> MorphableModel:
    """Read a face model that `tools/face_model` or `tools/import_3ddfa` wrote.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or lacks an array.
    """
    arrays: dict[str, Any] = dict(load_arrays(path, "a face model"))
    try:
        if "shape" in arrays:
            return _unpack(arrays)
        names = tuple(str(name) for name in arrays.pop("expression_names", ()))
        return make_model(**arrays, expression_names=names)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise WeightsError(f"{path}: expected a face model, found: {error}; restore or make the file anew") from error


def _unpack(arrays: dict[str, np.ndarray]) -> MorphableModel:
    """The packed form: integers with scales, sparse expressions."""
    start = arrays["expression_start"]
    scale = np.repeat(arrays["expression_scale"], np.diff(start))
    return _assemble(
        arrays["mean"],
        arrays["shape"],
        arrays["shape_scale"],
        start,
        arrays["expression_vertex"].astype(np.int32),
        arrays["expression_delta"] * scale[:, None],
        arrays["triangles"],
        arrays["landmark_vertices"],
        arrays["contour_edges"],
        arrays["contour_share"],
        expression_names=tuple(str(name) for name in arrays["expression_names"]),
        light_triangles=arrays["light_triangles"].astype(np.int32),
        uv=arrays["uv"].astype(np.float32),
        pncc=arrays["pncc"].astype(np.float32),
        region=arrays["region"],
        region_names=tuple(str(name) for name in arrays["region_names"]),
    )
