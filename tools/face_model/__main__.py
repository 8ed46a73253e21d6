"""Compute weights/face_model.npz from ICT-FaceKit Light.

python -m tools.face_model [-o weights/face_model.npz]

Reads $FACET_MATERIAL/face_model/ict_facekit_light.npz (MIT), and what tools/face_model/proportions.py learnt of
photographs. Millimetres, y up, origin between the ear canals.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from facet.tracker.files import new_file
from tools.face_model import proportions
from tools.face_model.contour import contour_lines
from tools.face_model.landmarks import SHIFT_MM, nearest_vertices, slide
from tools.face_model.meshes import border_loops, compact, cut, edges_of, simplify
from tools.face_model.parts import GAZE_DEG, close_lids, eyeball_rows, gaze_rotation, lid_margin, mouth_rows
from tools.manifest import describe, update_manifest

ROOT = Path(__file__).resolve().parents[2]
ICT_UNIT_MM = 10.0
# ICT vertices deepest in the two ears' conchas, at the entrances of the ear canals
EAR_CANAL_NEAR_MM = (70.0, 4.0, 10.0)
VARIANCE = 0.99
REGIONS = ("face", "ear", "neck", "mouth", "eyeball", "iris", "pupil")
NOT_ARKIT = ("PupilDilate", "cheekRaiser")
LEFT_BALL, RIGHT_BALL = slice(21451, 23021), slice(23021, 24591)
LIGHT_TRIANGLES = 2600

# ICT vertices where annotators of photographs put the 68 points; ICT's own list lies up to 13 mm away (brows' inner
# ends, jaw). Found by fitting the model to annotated faces and moving each landmark by what was left over.
# fmt: off
LANDMARKS_68 = np.array([
    1639, 1050, 1054, 367, 746, 844, 242, 801, 966, 3042, 2483, 3085, 2987, 2608, 3274, 3270, 3848, 268, 493, 1914,
    2041, 2005, 4205, 4237, 4114, 2734, 2509, 978, 1348, 4840, 4857, 68, 2076, 5, 4270, 2309, 1507, 1542, 1537, 1528,
    1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732, 5708, 5665, 2081, 0, 4275, 6170, 6213, 6346, 6461, 5518, 5957, 5841,
    5702, 5739, 5533, 6244, 6207, 6455, 5517, 5951,
])
# fmt: on


def load_ict(path: Path):
    """ICT-FaceKit Light in mm: rows (N, 1 + 100 + 57, 3) of mean, identity and expression; the archive beside it."""
    data = np.load(path, allow_pickle=False)
    neutral = data["neutral"][:, None].astype(np.float64)
    identity = data["identity"].transpose(1, 0, 2) * data["identity_scale"][None, :, None].astype(np.float64)
    expression = data["expression"].transpose(1, 0, 2) * data["expression_scale"][None, :, None].astype(np.float64)
    return np.concatenate([neutral, identity, expression], axis=1) * ICT_UNIT_MM, data


def triangulate(quads: np.ndarray) -> np.ndarray:
    """Quads (a, b, c, d), d = -1 for triangles, as triangles."""
    four = quads[:, 3] >= 0
    return np.concatenate([quads[:, :3], quads[four][:, [0, 2, 3]]]).astype(np.int64)


def lid_loops(mean: np.ndarray, triangles: np.ndarray) -> list[np.ndarray]:
    """Borders of the two lid openings: the highest of the face's inner borders."""
    return sorted(border_loops(triangles)[1:], key=lambda loop: -mean[loop, 1].mean())[:2]


def above_neck(mean: np.ndarray, chin: np.ndarray) -> np.ndarray:
    """Height over the plane from under the chin to under the ears, where the mesh ends; (N,) about mm."""
    return mean[:, 1] - (chin[1] - 32.0) + 0.75 * (mean[:, 2] - (chin[2] - 15.0))


def find_ear_canals(mean: np.ndarray, face: np.ndarray) -> tuple[int, int]:
    """The innermost vertex of each concha: nearest to the head's middle within 10 mm of the place where canals are."""
    canals = []
    for side in (-1, 1):
        near = face[np.linalg.norm(mean[face] - np.array(EAR_CANAL_NEAR_MM) * (side, 1, 1), axis=1) < 10.0]
        canals.append(int(near[np.argmin(np.abs(mean[near, 0]))]))
    return canals[0], canals[1]


def principal_modes(identity: np.ndarray, weight: np.ndarray, share: float) -> tuple[np.ndarray, float]:
    """Recompute the modes of a model with unit-normal coefficients so that few explain its weighted variance.

    Parameters
    ----------
    identity : (N, K, 3) float
    weight : (N,) float, what each vertex counts
    share : of the weighted variance to be kept

    Returns
    -------
    modes (N, k, 3), again for unit-normal coefficients; the share that they keep
    """
    flat = (identity * np.sqrt(weight)[:, None, None]).transpose(1, 0, 2).reshape(identity.shape[1], -1)
    variances, vectors = np.linalg.eigh(flat @ flat.T)
    order = np.argsort(-variances)
    kept = np.cumsum(variances[order]) / variances.sum()
    count = int(np.searchsorted(kept, share) + 1)
    return np.einsum("nkc,km->nmc", identity, vectors[:, order[:count]]), float(kept[count - 1])


def visible_area(mean: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """A third of the area of each vertex' triangles that a camera within 60 degrees of the front can see."""
    a, b, c = (mean[triangles[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a) / 2
    area = np.linalg.norm(normal, axis=1)
    facing = normal[:, 2] > -0.5 * area
    out = np.zeros(len(mean))
    np.add.at(out, triangles.ravel(), np.repeat(area * facing / 3, 3))
    return out


def quantise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, ...) float as int16 and a scale a row."""
    scale = np.abs(values).reshape(len(values), -1).max(axis=1) / 32767.0
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return np.round(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int16), scale


def build(path: Path, photographed: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """All arrays of the face model.

    Parameters
    ----------
    path : of ICT-FaceKit Light
    photographed : what tools.face_model.proportions learnt of faces; None for ICT's heads as they are
    """
    rows, ict = load_ict(path)
    names = [str(name) for name in ict["expression_names"]]
    count_identity = len(ict["identity"])
    keep = [i for i, name in enumerate(names) if not name.startswith(NOT_ARKIT)]
    expression_names = [names[i] for i in keep]
    rows = rows[:, np.r_[0 : 1 + count_identity, 1 + count_identity + np.array(keep)]]
    skin = ict["face_material"] == 0
    triangles = triangulate(ict["faces"][skin])
    canals = find_ear_canals(rows[:, 0], np.unique(triangles))
    rows[:, 0] -= rows[list(canals), 0].mean(axis=0)
    mean = rows[:, 0]

    for loop in lid_loops(mean, triangles):
        blink = "eyeBlink_L" if mean[loop, 0].mean() > 0 else "eyeBlink_R"
        close_lids(rows, 1 + count_identity + expression_names.index(blink), lid_margin(ict["faces"][skin], loop))

    # per-vertex UV: a corner's; the face has no seam in its layout
    uv = np.zeros((len(rows), 2))
    corner, corner_uv = ict["faces"][skin], ict["face_uvs"][skin]
    uv[corner[corner >= 0]] = ict["uvs"][corner_uv[corner >= 0]]

    source = rows  # with the eyeballs, which are made anew below

    # the neck ends on a plane from under the chin to under the ears
    packed = np.concatenate([rows.reshape(len(rows), -1), uv], axis=1)
    chin = mean[LANDMARKS_68[8]]
    height = above_neck(mean, chin)
    # and behind the ears' lobes on an upright one
    packed, triangles, old = cut(packed, triangles, np.minimum(height, np.maximum(mean[:, 1] + 22.0, mean[:, 2] - 2.0)))
    rows, uv = packed[:, :-2].reshape(len(packed), -1, 3), packed[:, -2:]
    mean = rows[:, 0]
    new_of = {int(o): i for i, o in enumerate(old) if o >= 0}
    landmarks = np.array([new_of[int(v)] for v in LANDMARKS_68])
    height = above_neck(mean, chin)

    ear = (np.abs(mean[:, 0]) > 66.0) & (mean[:, 2] < 24.0) & (mean[:, 1] > -45.0) & (mean[:, 1] < 50.0)
    neck = (height < 40.0) & (mean[:, 2] < chin[2] - 12.0)
    scalp = mean[:, 1] > 90.0
    coarse = ear | neck | scalp
    coarse[landmarks] = False
    triangles = simplify(mean, triangles, coarse, int(0.6 * coarse.sum()))
    packed = np.concatenate([rows.reshape(len(rows), -1), uv, np.stack([ear, neck], axis=1)], axis=1)
    packed, triangles, kept = compact(packed, triangles)
    rows, uv = packed[:, :-4].reshape(len(packed), -1, 3), packed[:, -4:-2]
    new_of = {int(k): i for i, k in enumerate(kept)}
    landmarks = np.array([new_of[int(v)] for v in landmarks])
    region = np.where(packed[:, -2] > 0.5, 1, np.where(packed[:, -1] > 0.5, 2, 0))
    mean = rows[:, 0]
    count_skin = len(rows)
    skin_triangles = triangles

    # the inside of the mouth closes the lips' border; the two other inner borders are the lids'
    loops = border_loops(triangles)
    inner = loops[1:]
    lips = min(inner, key=lambda loop: mean[loop, 1].mean())
    bag, bag_triangles = mouth_rows(rows, lips)
    index_of = np.r_[lips, np.arange(len(rows), len(rows) + len(bag))]
    triangles = np.concatenate([triangles, index_of[bag_triangles]])
    rows = np.concatenate([rows, bag])
    region = np.r_[region, np.full(len(bag), 3)]
    uv = np.concatenate([uv, np.zeros((len(bag), 2))])
    weight = visible_area(rows[:, 0], triangles)[:count_skin]

    for side, ball in (("L", LEFT_BALL), ("R", RIGHT_BALL)):
        gaze = {
            1 + count_identity + expression_names.index(f"eyeLook{way}_{side}"): gaze_rotation(side, way)
            for way in GAZE_DEG
        }
        ball_rows, ball_triangles, part = eyeball_rows(source, np.arange(ball.start, ball.stop), gaze)
        triangles = np.concatenate([triangles, ball_triangles + len(rows)])
        region = np.r_[region, [REGIONS.index(name) for name in part]]
        rows = np.concatenate([rows, ball_rows])
        uv = np.concatenate([uv, np.zeros((len(ball_rows), 2))])
    mean = rows[:, 0]

    weight = np.r_[weight, np.zeros(len(mean) - count_skin)]
    modes, kept_variance = principal_modes(rows[:, 1 : 1 + count_identity], weight, VARIANCE)
    expression = rows[:, 1 + count_identity :]

    landmarks, shift = nearest_vertices(mean, skin_triangles, landmarks)

    protected = np.ones(len(mean))
    for loop in inner:
        protected[loop] = 8.0
    free = np.isin(np.arange(len(mean)), skin_triangles)
    free[landmarks] = False
    free[lips] = False  # the inside of the mouth hangs on them
    light = simplify(mean, skin_triangles, free, len(mean), protected, LIGHT_TRIANGLES)
    light = np.concatenate([light, triangles[len(skin_triangles) :]])

    usable = (region == 0) | (region == REGIONS.index("neck"))  # the jaw's edge lies where the neck begins
    usable &= ~((np.abs(mean[:, 0]) > 60.0) & (mean[:, 2] < 8.0))
    jaw = mean[landmarks[:17]] + np.pad(SHIFT_MM[:17], ((0, 0), (0, 1)))
    edges, share = contour_lines(mean, skin_triangles, jaw, usable)

    # last, so that nothing above depends on it: coefficients that a network has learnt keep their meaning
    packed = np.concatenate([mean, modes.reshape(len(mean), -1), expression.reshape(len(mean), -1), uv], axis=1)
    packed = slide(packed, mean, skin_triangles, landmarks, shift)
    mean, uv = packed[:, :3], packed[:, -2:]
    modes, expression = (
        part.reshape(len(mean), -1, 3) for part in np.split(packed[:, 3:-2], [3 * modes.shape[1]], axis=1)
    )

    if photographed is not None:
        mean = mean + np.einsum("k,nkc->nc", photographed["rest"], expression)
        eyes = np.flatnonzero(region >= REGIONS.index("eyeball"))
        balls = [eyes[mean[eyes, 0] * side > 0] for side in (-1, 1)]
        moved = np.concatenate([mean[:, None], modes], axis=1)
        moved = proportions.adapt(moved, landmarks, photographed["landmarks"], balls, source[list(canals), 0])
        mean, modes = moved[:, 0], moved[:, 1:]

    shape_q, shape_scale = quantise(modes.transpose(1, 0, 2))
    expression = expression.transpose(1, 0, 2)
    small = np.abs(expression).max(axis=2) < 0.01  # mm
    expression[small] = 0.0
    start = np.r_[0, np.cumsum((~small).sum(axis=1))].astype(np.int32)
    vertex = np.concatenate([np.flatnonzero(~row) for row in small]).astype(np.uint16)
    delta_q, delta_scale = [], []
    for row, keep_row in zip(expression, ~small, strict=True):
        q, s = quantise(row[keep_row][None])
        delta_q.append(q[0])
        delta_scale.append(s[0])
    low, high = mean[:count_skin].min(axis=0), mean[:count_skin].max(axis=0)
    return {
        "mean": mean.astype(np.float32),
        "shape": shape_q,
        "shape_scale": shape_scale,
        "expression_start": start,
        "expression_vertex": vertex,
        "expression_delta": np.concatenate(delta_q),
        "expression_scale": np.array(delta_scale, np.float32),
        "expression_names": np.array(expression_names),
        "triangles": triangles.astype(np.uint16),
        "light_triangles": light.astype(np.uint16),
        "landmark_vertices": landmarks.astype(np.int32),
        "contour_edges": edges.astype(np.uint16),
        "contour_share": share,
        "uv": np.clip(uv, 0, 1).astype(np.float16),
        "pncc": np.clip((mean - low) / (high - low), 0, 1).astype(np.float16),
        "region": region.astype(np.uint8),
        "region_names": np.array(REGIONS),
        "ear_canal_vertices_ict": np.array(canals, np.int32),
        "variance_kept": np.float32(kept_variance),
    }


def main() -> None:
    material = Path(os.environ.get("FACET_MATERIAL", ROOT.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "weights" / "face_model.npz")
    args = parser.parse_args()
    with np.load(proportions.FILE) as file:
        arrays = build(material / "face_model" / "ict_facekit_light.npz", dict(file))
    with new_file(args.output, ".npz") as partial:
        np.savez_compressed(partial, **arrays)
    licence = "MIT (ICT-FaceKit, notice in LICENSE.ict_facekit)"
    provenance = "ICT-FaceKit Light, with the proportions of photographed faces; tools/face_model"
    entry = describe(args.output, kind="face_model", licence=licence, provenance=provenance)
    update_manifest(args.output.parent / "manifest.toml", {"face_model": entry})
    _, shared = edges_of(arrays["triangles"].astype(int))
    print(
        f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB, {len(arrays['mean'])} vertices, "
        f"{len(arrays['triangles'])} triangles ({len(arrays['light_triangles'])} light), "
        f"{len(arrays['shape'])} shape modes keep {arrays['variance_kept']:.2%}, "
        f"{len(arrays['expression_names'])} expressions, {len(arrays['expression_vertex'])} deltas, "
        f"ear canals at ICT vertices {arrays['ear_canal_vertices_ict'].tolist()}, border edges {(shared == 1).sum()}"
    )


if __name__ == "__main__":
    main()
