"""Labels of all photographs in the anatomical convention, and sharp portraits cut at their resolution.

A face has 87 points: the 68, of which 0-16 lie on the visible contour; 17 points of the jaw that are fixed on the head,
68-84; the centres of the subject's right and left iris, 85 and 86.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.aligner import COUNT, IRISES, JAW
from facet.tracker.crop import cut
from facet.tracker.mirror import MIRROR_68
from facet.tracker.morphable import MorphableModel, load_face_model
from facet.tracker.weights import ROOT
from tools.data import convention, material
from tools.data.crops import SIZE_PX, to_crop, upright_roi
from tools.data.split import gives_offsets
from tools.face_model.anatomy import anatomical_points

MIRROR = np.r_[MIRROR_68, np.arange(84, 67, -1), 86, 85]
PORTRAIT_PX = 400  # side of the cut portraits
# MediaPipe's points count up to the first yaw, 3DDFA_V2's beyond the second
MESH_YAW_DEG, OTHER_YAW_DEG = 40.0, 52.0
# noise of a label: a share of the outer eye distance, and px of the photograph
NOISE_SHARE, NOISE_PX = 0.011, 0.35
# how much the annotated points count beside MediaPipe's: lids and inner lips are not closed there
ANNOTATED_SHARE = np.zeros(68)
ANNOTATED_SHARE[:17], ANNOTATED_SHARE[17:36] = 0.5, 0.3
ANNOTATED_SHARE[[36, 39, 42, 45]], ANNOTATED_SHARE[48:60] = 0.2, 0.2
HIDDEN_BY_MASK = np.r_[2:15, 30:36, 48:68, 68:85]
DEPTH_KNOWN = np.r_[17:68]
SHUT = 0.6  # from here on the irises are hidden
TURNED_WEIGHT = 0.4  # of faces turned in 3D: their fits are not exact


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """87 points of n faces, px of their cuts."""

    points: np.ndarray  # (n, 87, 2) float32
    weight: np.ndarray  # (n, 87) float32, [0, 1], 0 where the place is unknown
    depth: np.ndarray  # (n, 87) float32, px, z larger is nearer; NaN where unknown
    visible: np.ndarray  # (n, 87) float32, 1 visible, 0 hidden, NaN where unknown


def photographs(table: dict) -> Points:
    """Labels of the faces that `tools.data.build faces` cut.

    Parameters
    ----------
    table : the arrays of faces.npz
    """
    count, yaw = len(table["yaw_deg"]), np.abs(table["yaw_deg"])
    meshed = ~np.isnan(table["mesh"][:, 0, 0])
    ridge, annotated = table["points"].astype(np.float64), table["annotated"].astype(np.float64)
    scale = table["roi"][:, 2] / SIZE_PX  # px of the photograph in a px of the cut
    mesh = table["mesh"].astype(np.float64)
    eye_px = np.linalg.norm(mesh[:, 33] - mesh[:, 263], axis=1)
    image_px = np.array([max(size) for size in material.photo_sizes()])[table["photo"]]
    bias = convention.small_image_bias(eye_px * scale, image_px) / scale
    roll = np.radians(table["roi"][:, 3])
    # one px right and one down of the photograph, in the axes of the cut, which is turned by the roll
    towards = np.stack([np.cos(roll) - np.sin(roll), np.sin(roll) + np.cos(roll)], axis=1)
    mesh[..., :2] -= (bias[:, None] * towards)[:, None]

    points = np.full((count, COUNT, 2), np.nan)
    points[meshed, :68], points[meshed, IRISES] = convention.from_mesh(mesh[meshed])
    points[:, :17] = ridge[:, :17]
    other = ridge.copy()
    learn = meshed & (yaw > 20) & (yaw < MESH_YAW_DEG) & ~table["held_out"]
    if learn.any():
        other = convention.bring(ridge, points[:, :68], learn)
        other[:, :17] = ridge[:, :17]
    share = np.where(meshed, np.clip((OTHER_YAW_DEG - yaw) / (OTHER_YAW_DEG - MESH_YAW_DEG), 0, 1), 0)[:, None, None]
    points[:, :68] = np.where(share > 0, share * np.nan_to_num(points[:, :68]), 0) + (1 - share) * other

    # of held-out people the annotated points only judge
    both = meshed & ~np.isnan(annotated[:, 0, 0]) & ~table["held_out"]
    learn = both & (yaw < 35)
    if learn.any():
        brought = np.full_like(annotated, np.nan)
        brought[both] = convention.bring(annotated[both], points[both, :68], learn[both])
        brought[:, :17] = annotated[:, :17]
        part = ANNOTATED_SHARE[:, None]
        points[both, :68] = (1 - part) * points[both, :68] + part * brought[both]

    eye = np.linalg.norm(ridge[:, 36] - ridge[:, 45], axis=1) / np.maximum(np.cos(np.radians(yaw)), 0.3)
    noise = np.hypot(NOISE_SHARE, NOISE_PX / (eye * scale)) * (1 + (yaw > MESH_YAW_DEG))
    weight = np.tile(((NOISE_SHARE / noise) ** 2)[:, None], (1, COUNT))
    weight[:, :17] *= 0.5
    weight[:, JAW] = 0
    weight[:, IRISES] *= ((yaw < MESH_YAW_DEG) & meshed)[:, None] * (np.nan_to_num(table["blink"], nan=1) < SHUT)
    masked = table["group"] == "masked"
    weight[np.ix_(masked, HIDDEN_BY_MASK)] *= 0.2
    weight[:, 36:48] *= np.where(yaw > OTHER_YAW_DEG, 0.3, 1)[:, None]  # of profiles nobody saw the lids
    depth = np.full((count, COUNT), np.nan)
    depth[:, DEPTH_KNOWN] = (table["depth"] - table["depth"][:, 17:].mean(axis=1, keepdims=True))[:, DEPTH_KNOWN]
    visible = np.full((count, COUNT), np.nan)
    visible[(yaw < 20) & ~masked] = 1
    weight[np.isnan(points).any(axis=2)] = 0
    return Points(*(a.astype(np.float32) for a in (np.nan_to_num(points), weight, depth, visible)))


def cut_portraits(out: Path) -> None:
    """Write `portraits.u8` (n, 400, 400, 3) uint8 BGR and `portraits.npz`: delineated people that give labels."""
    known = material.delineated()
    rows = [i for i, person in enumerate(known.identity) if gives_offsets(person)]
    images = np.memmap(out / "portraits.u8", np.uint8, "w+", shape=(len(rows), PORTRAIT_PX, PORTRAIT_PX, 3))
    mesh = known.mesh[rows].astype(np.float64)
    points, weight = np.zeros((len(rows), COUNT, 2)), np.ones((len(rows), COUNT))
    points[:, :68], points[:, IRISES] = convention.from_mesh(mesh)
    weight[:, JAW] = 0
    weight[:, :17] = 0  # MediaPipe spaces the jaw's points otherwise than the labels of the other photographs
    for i, row in enumerate(rows):
        drawn = known.points[row].astype(np.float64)
        if np.isfinite(drawn).all():
            points[i, list(convention.EXACT)] = drawn[list(convention.EXACT.values())]
            for chosen, curve in convention.CURVES:
                points[i, list(chosen)] = convention.nearest_on_curve(points[i, list(chosen)], drawn[list(curve)])
            points[i, IRISES] = [drawn[list(ring)].mean(axis=0) for ring in convention.IRIS_RINGS]
        roi = upright_roi(points[i, :68])
        image = cv2.imread(str(material.folder() / "faces" / known.file[row]))
        images[i] = cut(image, roi, PORTRAIT_PX)
        points[i] = to_crop(points[i], roi, PORTRAIT_PX)
    images.flush()
    depth = np.full((len(rows), COUNT), np.nan)
    visible = np.ones((len(rows), COUNT))
    fields = {"points": points, "weight": weight, "depth": depth, "visible": visible}
    np.savez(out / "portraits.npz", **{name: array.astype(np.float32) for name, array in fields.items()})


def rendered(table: dict) -> Points:
    """Exact points of the faces that `tools.data.build rendered` drew.

    Parameters
    ----------
    table : the arrays of rendered.npz
    """
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    places, vertices = _on_model(model, table["camera"].astype(np.float64), table["coefficients"])
    seen = np.unpackbits(table["visible"], axis=1)[:, : len(model.mean)]
    visible = np.full(places.shape[:2], np.nan)
    visible[:, 17:] = seen[:, vertices[17:]]
    weight = np.ones(places.shape[:2])
    weight[:, IRISES] = _blinks(model, table["coefficients"]) < SHUT
    depth = places[..., 2] - places[:, 17:68, 2].mean(axis=1, keepdims=True)
    return Points(*(a.astype(np.float32) for a in (places[..., :2], weight, depth, visible)))


def turned(table: dict, fits: dict, known: Points) -> Points:
    """Points of the faces that `tools.data.build turned` made: the photograph's labels, moved with the fitted mesh.

    What a label lies off the mesh it keeps, as the photograph's pixels do; of lids the less the more they are shut.

    Parameters
    ----------
    table, fits : the arrays of turned.npz and fits.npz
    known : the labels of the photographs
    """
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    source = table["source"]
    camera, coefficients = fits["camera"][source, 0].astype(np.float64), fits["coefficients"][source, 0]
    before, _ = _on_model(model, camera, coefficients)
    off = known.points[source] - before[..., :2]
    off[:, :17], off[:, JAW] = 0, 0  # these slide, or no photograph reports them
    off[known.weight[source] == 0] = 0
    new_camera, new_coefficients = table["camera"][:, 0].astype(np.float64), table["coefficients"][:, 0]
    places, _ = _on_model(model, new_camera, new_coefficients)
    shut = _blinks(model, new_coefficients)
    for eye, points in enumerate((range(36, 42), range(42, 48))):
        off[:, list(points)] *= 1 - shut[:, eye, None, None]
    # the shift in mm that looks like `off` in the photograph, seen by the new camera
    back = np.linalg.pinv(camera[:, :2, :3])
    places[..., :2] += np.einsum("nij,njk,npk->npi", new_camera[:, :2, :3], back, off)
    weight = TURNED_WEIGHT * np.where(known.weight[source] == 0, 1, known.weight[source])
    weight[:, IRISES] *= shut < SHUT
    depth = places[..., 2] - places[:, 17:68, 2].mean(axis=1, keepdims=True)
    visible = np.full(places.shape[:2], np.nan)
    return Points(*(a.astype(np.float32) for a in (places[..., :2], weight, depth, visible)))


def _on_model(model: MorphableModel, camera: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points of faces of the model, (n, 87, 3) px, and the vertex of each, (87,), of 0-16 that of the fixed jaw."""
    inner, count = anatomical_points(model), len(camera)
    jaw = model.landmark_vertices[:17]
    rows = np.concatenate([model.shape_basis[:, jaw], _expression_rows(model, jaw)])
    places = np.zeros((count, COUNT, 3))

    def project(points):
        return np.einsum("nij,nkj->nki", camera[:, :, :3], points) + camera[:, None, :, 3]

    placed = project(inner(coefficients))
    places[:, 17:68], places[:, IRISES] = placed[:, :51], placed[:, 51:]
    places[:, JAW] = project(model.mean[jaw] + (coefficients @ rows.reshape(len(rows), -1)).reshape(count, 17, 3))
    halves = np.split(coefficients, [model.shape_count], axis=1)
    places[:, :17] = [model.landmarks(c, *face)[:17] for c, *face in zip(camera, *halves, strict=True)]
    return places, np.concatenate([jaw, inner.vertices[:51], jaw, inner.vertices[51:]])


def _blinks(model: MorphableModel, coefficients: np.ndarray) -> np.ndarray:
    """(n, 2) how shut the right and the left eye are."""
    names = list(model.expression_names)
    return coefficients[:, [model.shape_count + names.index(f"eyeBlink_{side}") for side in "RL"]]


def _expression_rows(model, rows) -> np.ndarray:
    """(Ke, len(rows), 3) mm of some vertices."""
    result = np.zeros((model.expression_count, len(model.mean), 3), np.float32)
    for k in range(model.expression_count):
        span = slice(*model.expression_start[k : k + 2])
        result[k, model.expression_vertex[span]] = model.expression_delta[span]
    return result[:, rows]


def mirrored(points: np.ndarray, size: int) -> np.ndarray:
    """(n, 87, 2) px of the flipped cuts of a size."""
    return (points * np.float32([-1, 1]) + np.float32([size, 0]))[:, MIRROR]


def make(out: Path) -> None:
    """Write `anatomical.npz`, the labels of the cut faces, and the portraits."""
    with np.load(out / "faces.npz") as file:
        known = photographs({name: file[name] for name in file.files})
    np.savez(out / "anatomical.npz", **{name: getattr(known, name) for name in known.__dataclass_fields__})
    cut_portraits(out)
