"""Make our own avatar of the face model: python -m tools.avatar [-o weights/avatar.glb]

A stylised head: the mean of the face model with larger eyes, plain colours, and a cap of hair that closes it behind.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from facet.render.geometry import geometry_of
from facet.render.sinks.export import _normals
from facet.render.sinks.mesh_files import Head, glb
from facet.tracker.arkit import ArkitBlendshapes
from facet.tracker.files import new_file
from facet.tracker.morphable import MorphableModel, load_face_model
from facet.tracker.weights import find_entry

SKIN, LIPS, BROWS, HAIR = (168, 196, 238), (120, 118, 214), (70, 60, 58), (96, 74, 62)  # BGR
WHITE, IRIS, PUPIL, MOUTH = (250, 250, 250), (150, 120, 40), (20, 18, 18), (60, 40, 90)
EYE_GROWTH, EYE_REACH_MM = 0.22, 26.0
STEP_MM = 0.02  # offsets below are left out


def build(model: MorphableModel) -> Head:
    """The head, in the model's space."""
    geometry = geometry_of(model)
    names = list(model.region_names)
    used, triangles = np.unique(geometry.light_triangles, return_inverse=True)
    triangles = triangles.reshape(-1, 3).astype(np.int32)
    new = np.full(len(model.mean), -1)
    new[used] = np.arange(len(used))
    points = model.mean[model.landmark_vertices]
    region = model.region[used]
    colours = np.tile(np.uint8(SKIN), (len(used), 1))
    lips = (geometry.albedo[used] @ (1, 1, -1.2)) < 0.35
    inside = np.isin(region, [names.index(n) for n in ("eyeball", "iris", "pupil", "mouth") if n in names])
    colours[lips & ~inside] = LIPS
    for name, colour in (("eyeball", WHITE), ("iris", IRIS), ("pupil", PUPIL), ("mouth", MOUTH)):
        if name in names:
            colours[region == names.index(name)] = colour
    strips, corners = zip(
        *(_brow(points[run], at) for at, run in enumerate((slice(17, 22), slice(22, 27)))), strict=True
    )
    brows, brow_triangles = np.concatenate(strips), np.concatenate(corners)
    hair, hair_triangles = _hair(points)
    face = _stylised(model.mean[used], points)
    vertices = np.concatenate([face, brows, hair]).astype(np.float32)
    places = len(face), len(face) + len(brows)
    triangles = np.concatenate([triangles, brow_triangles + places[0], hair_triangles + places[1]]).astype(np.int32)
    colours = np.concatenate(
        [colours, np.tile(np.uint8(BROWS), (len(brows), 1)), np.tile(np.uint8(HAIR), (len(hair), 1))]
    )
    blendshapes, arkit = {}, ArkitBlendshapes(model.expression_names)
    grow = _growth(model.mean[used], points)
    brow_landmarks = model.landmark_vertices[17:27]
    for name, members in zip(arkit.names, arkit.members, strict=True):
        dense = np.zeros((len(model.mean), 3), np.float32)
        for k in members:
            span = slice(*model.expression_start[k : k + 2])
            np.add.at(dense, model.expression_vertex[span], model.expression_delta[span])
        moved = np.zeros((len(vertices), 3), np.float32)
        moved[: places[0]] = dense[used] * grow[:, None]
        moved[places[0] : places[1]] = np.repeat(dense[brow_landmarks], 2, axis=0)
        at = np.flatnonzero(np.abs(moved).max(axis=1) > STEP_MM)
        blendshapes[name] = 0.0, at, moved[at]
    normals = _normals(vertices, triangles)
    return Head(
        neutral=vertices,
        neutral_normals=normals,
        vertices=vertices,
        normals=normals,
        colours=colours,
        triangles=triangles,
        textured=np.zeros(len(triangles), bool),
        uv=np.zeros((0, 2), np.float32),
        texture=None,
        blendshapes=blendshapes,
    )


def _eyes(points: np.ndarray) -> np.ndarray:
    """(2, 3) middles of the eyes."""
    return np.array([points[36:42].mean(axis=0), points[42:48].mean(axis=0)])


def _growth(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N,) factor of what moves near an eye."""
    distance = np.linalg.norm(vertices[:, None, :2] - _eyes(points)[None, :, :2], axis=2).min(axis=1)
    return (1 + EYE_GROWTH * np.exp(-((distance / EYE_REACH_MM) ** 2))).astype(np.float32)


def _stylised(vertices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """With larger eyes."""
    out = vertices.astype(np.float64)
    for eye in _eyes(points):
        way = vertices - eye
        weight = EYE_GROWTH * np.exp(-((np.linalg.norm(way[:, :2], axis=1) / EYE_REACH_MM) ** 2))
        out += weight[:, None] * way * (vertices[:, 2:] > 0)
    return out.astype(np.float32)


def _brow(points: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """A brow along five landmarks, thin at its outer end: (10, 3) mm, two a landmark, and triangles."""
    thick = np.array([0.6, 1.7, 2.4, 2.6, 2.2])
    thick = thick if first == 0 else thick[::-1]
    ahead = points + np.array([0, 1.5, 2.6])
    strip = np.stack([ahead - (0, 1, 0) * thick[:, None], ahead + (0, 1, 0) * thick[:, None]], axis=1).reshape(-1, 3)
    quads = np.array([(2 * k, 2 * k + 2, 2 * k + 3, 2 * k + 1) for k in range(4)]) + 10 * first
    return strip, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _hair(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A cap from the hairline to the neck, (n, 3) mm and triangles."""
    rows, columns = 20, 72
    around = np.arange(columns) * 2 * np.pi / columns  # 0 in front
    # how far the hair goes down from the crown: brow, temple, behind the ear, neck
    ends_deg = np.interp(np.abs(np.pi - np.abs(np.pi - around)), np.radians([0, 40, 62, 80, 105, 125, 180]),
                         [56, 60, 74, 84, 120, 142, 148])  # fmt: skip
    ends_deg += 4.0 * np.sin(3 * around + 0.8) * (np.cos(around) > 0.4)  # a fringe
    ends_deg = np.convolve(np.r_[ends_deg[-2:], ends_deg, ends_deg[:2]], np.ones(5) / 5, "valid")
    theta = np.linspace(0, 1, rows)[:, None] * np.radians(ends_deg)
    unit = np.stack([np.sin(theta) * np.sin(around), np.cos(theta), np.sin(theta) * np.cos(around)], axis=-1)
    middle = np.array([0.0, points[17:27, 1].mean() - 2.0, -8.0])
    # thinner towards its end, so that it rises from the skin
    size = np.array([84.0, 103.0, 105.0]) * (1 - 0.015 * np.linspace(0, 1, rows)[:, None, None] ** 2)
    triangles = []
    for i in range(rows - 1):
        for j in range(columns):
            a, b = i * columns + j, i * columns + (j + 1) % columns
            triangles += [(a, a + columns, b), (b, a + columns, b + columns)]
    return (middle + unit * size).reshape(-1, 3), np.array(triangles)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.avatar", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("weights/avatar.glb"))
    args = parser.parse_args(arguments)
    model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
    with new_file(args.output) as partial:
        partial.write_bytes(glb(build(model), "facet"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
