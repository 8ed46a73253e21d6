"""Build the skin model (weights/skin.npz): albedo with the light divided out, its main modes, and how lights vary.

python -m tools.albedo --data runs/data [-o weights/skin.npz] [--sheet IMAGE]

Reads the fitted faces of `python -m tools.data.build fits` and the sharp portraits of the material. Light and albedo
are estimated in turn: each photograph has 27 light numbers, each person one albedo.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facet.render.geometry import Geometry, geometry_of
from facet.render.unwrap import seen_share
from facet.tracker.aligner import Aligner
from facet.tracker.files import new_file
from facet.tracker.lighting import BANDS, BRIGHT, DARK, basis
from facet.tracker.morphable import MorphableModel, load_face_model
from facet.tracker.weights import ROOT, find_entry
from tools.actor import remap
from tools.appearance.fit import Fitter, mask_of, points_of
from tools.data import material
from tools.data.crops import SIZE_PX
from tools.data.split import gives_offsets
from tools.manifest import describe, update_manifest
from tools.raster import rasterise

SIDE_PX, MODES_SIDE_PX, MODES = 512, 64, 40
MAX_YAW_DEG, MAX_ERROR, MIN_SIZE = 50.0, 0.035, 0.5  # px per mm of the cut
PHOTOS_EACH = 5
MIN_MASK = 0.6  # probability of visible skin
ROUNDS = 4
NOISE = 0.05  # of a colour, in the robust weights
EYES_MM = 89.6  # between the outer corners of the mean face's eyes
MEAN_COLOUR = (0.71, 0.55, 0.47)  # R, G, B: where the albedo starts from; sets what counts as light of strength 1
SPREAD = 0.25  # of log albedo at one place over people, beyond which it is something else
SEEN_SHARE = 0.3  # of the most seen texel's weight, below which a texel is filled from around
LIGHT_RIDGE = 3.0  # holds lights that a turned face does not show


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Texels of the UV layout on skin, and where on the mesh they lie."""

    side: int
    row: np.ndarray  # (T,)
    column: np.ndarray  # (T,)
    corners: np.ndarray  # (T, 3) vertices
    weight: np.ndarray  # (T, 3) barycentric

    @classmethod
    def of(cls, model: MorphableModel, side: int, regions=("face",)) -> Layout:
        skin = np.isin(model.region, [model.region_names.index(name) for name in regions])
        triangles = model.triangles[skin[model.triangles].all(axis=1)]
        uv = np.column_stack([model.uv[:, 0], 1 - model.uv[:, 1], np.zeros(len(model.uv))]) * side
        triangle, weight = rasterise(uv.astype(np.float64), triangles, side, side)
        row, column = np.nonzero(triangle >= 0)
        return cls(side, row, column, triangles[triangle[row, column]], weight[row, column])

    def mix(self, values: np.ndarray) -> np.ndarray:
        """Values of vertices (N, C) at the texels, (T, C) float32."""
        return np.einsum("tkc,tk->tc", values[self.corners], self.weight).astype(np.float32)

    def image(self, values: np.ndarray) -> np.ndarray:
        """Values (T, C) on the layout, (side, side, C) float32; 0 elsewhere."""
        out = np.zeros((self.side, self.side, values.shape[1]), np.float32)
        out[self.row, self.column] = values
        return out


def read(
    image: np.ndarray, vertices: np.ndarray, geometry: Geometry, layout: Layout, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a photograph shows of the skin.

    Parameters
    ----------
    image : (H, W, 3) uint8, BGR
    vertices : (N, 3) float32, image px
    mask : (H, W) float32, probability that a pixel shows the face, or None

    Returns
    -------
    colour (T, 3) float32, R, G, B in [0, 1]; normals (T, 3) float32, view axes; weight (T,) float32
    """
    from facet.render.geometry import vertex_normals

    normals = np.empty_like(vertices)
    vertex_normals(vertices, geometry.triangles, normals)
    scale = float(np.ptp(vertices[:, 0]) / np.ptp(geometry.mean[:, 0]))
    seen = seen_share(vertices, geometry.triangles, scale)
    mixed = layout.mix(np.column_stack([vertices[:, :2], normals, seen]))
    place, normal, weight = mixed[:, :2], mixed[:, 2:5] * np.float32([1, -1, 1]), mixed[:, 5]
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    x, y = np.ascontiguousarray(place[:, :1] - 0.5), np.ascontiguousarray(place[:, 1:] - 0.5)
    colour = remap(image, x, y)[:, ::-1] / np.float32(255)
    height, width = image.shape[:2]
    inside = (x > 1) & (y > 1) & (x < width - 2) & (y < height - 2)
    weight = weight * inside[:, 0] * (colour.max(axis=1) > DARK) * (colour.min(axis=1) < BRIGHT)
    if mask is not None:
        shown = remap(mask[..., None].repeat(3, axis=2), x, y)[:, 0]
        weight = weight * np.clip((shown - MIN_MASK) / 0.3, 0, 1)
    return colour, normal, weight.astype(np.float32)


def visible_mask(aligner: Aligner, image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The probability that each pixel shows the face, (H, W) float32."""
    alignment = aligner(image, [points], [0.0])[0]
    return mask_of(alignment, image.shape[:2])


def choose(table: dict, fits: dict) -> list[tuple[int, str]]:
    """Well fitted bare faces of people that no evaluation holds out: rows and people, a few photographs of each."""
    count: dict[str, int] = {}
    chosen = []
    for row in np.argsort(np.abs(table["yaw_deg"]) // 12, kind="stable"):
        size = np.linalg.norm(fits["camera"][row, 0, 0, :3]) * table["roi"][row, 2] / SIZE_PX
        if table["group"][row] not in material.BARE_FACES or table["held_out"][row] or size < MIN_SIZE:
            continue
        if fits["error"][row, 0] > MAX_ERROR or abs(table["yaw_deg"][row]) > MAX_YAW_DEG:
            continue
        person = str(table["identity"][row]) or f"photo {table['photo'][row]}"
        if count.setdefault(person, 0) < PHOTOS_EACH:
            count[person] += 1
            chosen.append((int(row), person))
    return chosen


@dataclass(slots=True, eq=False)
class Collection:
    """All photographs at the texels."""

    colour: np.ndarray  # (N, T, 3) float16
    normal: np.ndarray  # (N, T, 3) float16
    weight: np.ndarray  # (N, T) float16
    person: np.ndarray  # (N,) int
    portraits: np.ndarray  # (N,) bool: taken in a studio


def collect(data: Path, model: MorphableModel, layout: Layout) -> tuple[Collection, list]:
    """Read the chosen photographs, and the portraits, whose fits come too."""
    table, fits = (dict(np.load(data / name)) for name in ("faces.npz", "fits.npz"))
    geometry, aligner = geometry_of(model), Aligner.open(find_entry("weights/aligner.onnx", "aligner"))
    images = np.memmap(data / "faces.u8", np.uint8, "r").reshape(-1, SIZE_PX, SIZE_PX, 3)
    rows, names = [], []
    for row, person in choose(table, fits):
        camera = fits["camera"][row, 0]
        shape, expression = np.split(fits["coefficients"][row, 0], [model.shape_count])
        vertices = (model.vertices(shape, expression) @ camera[:, :3].T + camera[:, 3]).astype(np.float32)
        image = np.ascontiguousarray(images[row])
        mask = visible_mask(aligner, image, table["points"][row])
        found = read(image, vertices, geometry, layout, mask)
        if found[2].sum() > 0.15 * len(layout.row):
            rows.append([array.astype(np.float16) for array in found])
            names.append(person)
    studio = []
    for image, vertices, person, mask in portraits(model, aligner):
        rows.append([a.astype(np.float16) for a in read(image, vertices, geometry, layout, mask)])
        names.append(person)
        studio.append((image, vertices, mask))
    person = np.unique(names, return_inverse=True)[1]
    colour, normal, weight = (np.stack(column) for column in zip(*rows, strict=True))
    taken = np.arange(len(rows)) >= len(rows) - len(studio)
    return Collection(colour, normal, weight, person, taken), studio


def portraits(model: MorphableModel, aligner: Aligner):
    """The sharp portraits that give labels: image about the face, vertices (N, 3) px, person, mask."""
    known, fitter = material.delineated(), Fitter(model)
    still = np.zeros(model.shape_count), np.zeros(model.expression_count)
    for name, person, mesh in zip(known.file, known.identity, known.mesh, strict=True):
        if not gives_offsets(person):
            continue
        image = cv2.imread(str(material.folder() / "faces" / name))
        landmarks = mesh[material.MESH_TO_68, :2].astype(np.float64)
        alignment = aligner(image, [landmarks], [0.0])[0]
        scale = np.linalg.norm(alignment.points[36, :2] - alignment.points[45, :2]) / EYES_MM
        camera = np.diag(np.float32([scale, -scale, scale, 0]))[:3]
        camera[:2, 3] = alignment.points[27:31, :2].mean(axis=0)
        start = fitter.start(camera, *still)
        fit = fitter([points_of(alignment)], [start], precision=4.0, steps=20)[0]
        vertices = model.vertices(fit.shape, fit.expression) @ fit.camera[:, :3].T + fit.camera[:, 3]
        yield image, vertices.astype(np.float32), person, mask_of(alignment, image.shape[:2])


def fit_light(colour, harmonics, weight, albedo, prior, precision) -> np.ndarray:
    """Light (27,) of colours (T, 3) of an albedo (T, 3) by robust least squares; weight (T,)."""
    light = prior
    for turn in range(4):
        shade = harmonics @ light.reshape(3, BANDS).T
        error = ((albedo * shade - colour) ** 2).mean(axis=1)
        robust = weight if turn == 0 else weight / (1 + error / (2 * NOISE) ** 2) ** 2
        hessian, right = precision.copy(), precision @ prior
        trust = 150 / max(float(weight.sum()), 1) / NOISE**2
        for c in range(3):
            own = harmonics * (albedo[:, c, None])
            lever = own * (robust * trust)[:, None]
            place = slice(c * BANDS, (c + 1) * BANDS)
            hessian[place, place] += lever.T @ own
            right[place] += lever.T @ colour[:, c]
        light = np.linalg.solve(hessian, right).astype(np.float32)
    return light


def separate(photos: Collection, modes_count: int, mirror: np.ndarray):
    """Divide the photographs into albedo and light.

    Parameters
    ----------
    mirror : (T,) of each texel the one on the other side

    Returns
    -------
    mean (T, 3), modes (K, T, 3), lights (N, 27), their mean (27,) and precision (27, 27), noise, often seen (T,) bool
    """
    count, texels = photos.weight.shape
    people = photos.person.max() + 1
    lights = np.zeros((count, 27), np.float32)
    front = np.zeros((3, BANDS), np.float32)
    front[:, 0], front[:, 2] = 0.75, 0.2  # a white surface that faces the camera is about white
    light_mean, precision = front.ravel(), LIGHT_RIDGE * np.eye(27, dtype=np.float32)
    mean = np.tile(np.float32(MEAN_COLOUR), (texels, 1))
    albedo_of = np.tile(mean, (people, 1, 1))
    bare_modes = np.zeros((0, texels, 3), np.float32)
    for turn in range(ROUNDS):
        total = np.zeros((people, texels, 3), np.float32)
        square = np.full((people, texels, 3), 1e-6, np.float32)
        errors, tones = [], np.zeros((count, 3), np.float32)
        for i in range(count):
            colour, weight = photos.colour[i].astype(np.float32), photos.weight[i].astype(np.float32)
            harmonics, person = basis(photos.normal[i].astype(np.float32)), photos.person[i]
            lights[i] = fit_light(colour, harmonics, weight, albedo_of[person], light_mean, precision)
            shade = np.maximum(harmonics @ lights[i].reshape(3, BANDS).T, 0.02)
            error = albedo_of[person] * shade - colour
            robust = weight / (1 + (error**2).mean(axis=1) / (3 * NOISE) ** 2) ** 2
            total[person] += robust[:, None] * shade * colour
            square[person] += robust[:, None] * shade**2
            errors.append(float(np.sqrt((robust[:, None] * error**2).sum() / max(3 * robust.sum(), 1))))
            tones[i] = np.log(np.maximum((weight[:, None] * shade).sum(axis=0) / max(weight.sum(), 1e-3), 0.05))
        if turn == 0:
            tone = skin_tone(tones, photos)
            level = np.exp(tone)[:, None]  # (people, 1, 3)
            total, square = total * level, square
        weight = square.mean(axis=2)
        found = total / square
        # what few pixels say counts little; both sides of a face are alike: what differs is mostly shadow
        sure = np.where(weight > 0.02, np.clip(weight / 0.3, 0, 1), 0)[..., None]
        both = sure + sure[:, mirror]
        found = (sure * found + (sure * found)[:, mirror]) / np.maximum(both, 1e-6)
        sure = np.clip(both, 0, 1)
        mean = robust_mean(found, sure)
        change = np.where(sure > 0, found - mean, 0)
        bare_modes, albedo_of = principal(change, sure, mean, modes_count)
        if turn > 0:
            mu = lights.mean(axis=0)
            spread = np.cov(lights.T) + 0.002 * np.eye(27)
            light_mean, precision = mu.astype(np.float32), np.linalg.inv(spread).astype(np.float32)
        print(f"round {turn + 1}: error {255 * np.median(errors):.1f} levels", flush=True)
    often = photos.weight.astype(np.float32).sum(axis=0)
    often = often + often[mirror]
    return mean, bare_modes, lights, light_mean, precision, float(np.median(errors)), often > SEEN_SHARE * often.max()


def skin_tone(tones: np.ndarray, photos: Collection) -> np.ndarray:
    """Log skin tone of each person, (people, 3): that part of the brightness of its photographs which is the skin's.

    In the studio all have the same light: what differs there is skin. It sets how far tones differ at all.
    """
    people = photos.person.max() + 1
    studio = tones[photos.portraits]
    of_skin = np.cov(studio.T)
    others = tones[~photos.portraits]
    of_light = np.maximum(np.cov(others.T) - of_skin, 0) + 0.01 * np.eye(3)
    middle = others.mean(axis=0)
    gain = of_skin @ np.linalg.inv(of_skin + of_light)
    tone = np.zeros((people, 3), np.float32)
    for person in range(people):
        own = photos.person == person
        if photos.portraits[own].any():
            tone[person] = tones[own].mean(axis=0) - studio.mean(axis=0)
        else:
            tone[person] = gain @ (tones[own].mean(axis=0) - middle)
    print(f"tone: skin {np.sqrt(np.diag(of_skin)).round(2)}, light {np.sqrt(np.diag(of_light)).round(2)} (log R, G, B)")
    return tone


def robust_mean(found: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """Mean over people of albedos (people, T, 3) that hair and shadows do not move, (T, 3)."""
    weight = sure
    for _ in range(4):
        mean = (weight * found).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-3)
        error = (np.log(np.maximum(found, 0.02) / np.maximum(mean, 0.02)) ** 2).mean(axis=2, keepdims=True)
        weight = sure / (1 + error / SPREAD**2) ** 2
    return mean.astype(np.float32)


def principal(change, sure, mean, count) -> tuple[np.ndarray, np.ndarray]:
    """Main modes of people's albedos with holes, for coefficients of unit variance, and the albedos by them."""
    people = len(change)
    sureness = np.repeat(sure, 3, axis=2).reshape(people, -1)
    # one pixel of hair must not become a mode
    own = np.clip(change, -0.35, 0.35).reshape(people, -1).astype(np.float32)
    target = sureness * own
    for _ in range(4):
        variances, vectors = np.linalg.eigh(target @ target.T)
        vectors = vectors[:, ::-1][:, :count]
        rows = vectors.T @ target  # (K, T * 3)
        shrink = np.clip(1 - np.median(variances) / variances[::-1][:count], 0, 1)
        guess = (vectors * shrink) @ rows
        target = sureness * own + (1 - sureness) * guess
    modes = (rows * np.sqrt(shrink)[:, None] / np.sqrt(people)).reshape(count, -1, 3)
    return modes.astype(np.float32), np.maximum(mean + guess.reshape(people, -1, 3), 0.02)


def fill(layout: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Continue a layout (S, S, C) over what is not seen (S, S), ever more blurred; float32."""
    out = (layout * seen[..., None]).astype(np.float32)
    known, left = seen.astype(np.float32), ~seen
    filled = out.copy()
    for sigma in (1, 2, 4, 8, 16, 32, 64, 128):
        share = cv2.GaussianBlur(known, (0, 0), sigma)
        blurred = cv2.GaussianBlur(out, (0, 0), sigma).reshape(out.shape)
        good = left & (share > 0.02)
        filled[good] = (blurred / np.maximum(share, 1e-6)[..., None])[good]
        left &= ~good
    return filled


def detail(studio: list, model: MorphableModel, lights: np.ndarray) -> np.ndarray:
    """What the sharp portraits add to a coarse mean, as a factor (SIDE_PX, SIDE_PX, 3) float32 about 1."""
    layout, geometry = Layout.of(model, SIDE_PX), geometry_of(model)
    total, weights = np.zeros((SIDE_PX, SIDE_PX, 3), np.float32), np.zeros((SIDE_PX, SIDE_PX, 1), np.float32)
    for (image, vertices, mask), light in zip(studio, lights, strict=True):
        colour, normal, weight = read(image, vertices, geometry, layout, mask)
        shade = np.maximum(basis(normal) @ light.reshape(3, BANDS).T, 0.05)
        albedo = colour / shade
        albedo /= np.maximum((weight[:, None] * albedo).sum(axis=0) / max(weight.sum(), 1), 0.05)
        total += layout.image(albedo * weight[:, None])
        weights += layout.image(weight[:, None])
    total, weights = total + total[:, ::-1], weights + weights[:, ::-1]
    seen = weights[..., 0] > 0.1 * weights.max()
    sharp = fill(total / np.maximum(weights, 1e-6), seen)
    coarse = cv2.GaussianBlur(sharp, (0, 0), 0.7 * SIDE_PX / MODES_SIDE_PX)
    near = cv2.GaussianBlur(cv2.erode(seen.astype(np.float32), np.ones((9, 9))), (0, 0), 6)[..., None]
    return 1 + near * (np.clip(sharp / np.maximum(coarse, 0.05), 0.5, 1.6) - 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.albedo", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "runs" / "data")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "weights" / "skin.npz")
    parser.add_argument("--sheet", type=Path, help="draw the mean and its modes into an image")
    args = parser.parse_args(arguments)
    for name in ("faces.npz", "faces.u8", "fits.npz"):
        if not (args.data / name).exists():
            parser.error(f"--data: expected {args.data / name}, found none; run python -m tools.data.build first")
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    layout = Layout.of(model, MODES_SIDE_PX)
    place = np.full((layout.side, layout.side), -1)
    place[layout.row, layout.column] = np.arange(len(layout.row))
    mirror = place[layout.row, layout.side - 1 - layout.column]
    mirror = np.where(mirror < 0, np.arange(len(mirror)), mirror)
    photos, studio = collect(args.data, model, layout)
    print(f"{len(photos.person)} photographs of {photos.person.max() + 1} people, {len(studio)} of them in a studio")
    mean, modes, lights, light_mean, precision, noise, often = separate(photos, MODES, mirror)
    seen = layout.image(often[:, None].astype(np.float32))[..., 0] > 0
    coarse = fill(layout.image(mean), seen)
    fine = cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    fine = np.clip(fine * detail(studio, model, lights[photos.portraits]), 0.01, 1)
    spread = np.stack([fill(layout.image(mode), seen) for mode in modes])
    scale = np.abs(spread).reshape(len(spread), -1).max(axis=1) / 127
    arrays = {
        "mean": np.round(255 * fine[..., ::-1]).astype(np.uint8),  # B, G, R, as images
        "modes": np.round(spread[..., ::-1] / scale[:, None, None, None]).astype(np.int8),
        "modes_scale": scale.astype(np.float32),
        "light_mean": light_mean,
        "light_precision": precision,
        "noise": np.float32(noise),
    }
    with new_file(args.output, ".npz") as partial:
        np.savez_compressed(partial, **arrays)
    provenance = f"albedo of {photos.person.max() + 1} people, light divided out; tools/albedo.py"
    licence = "CC BY 4.0 (credit in skin.md)"
    entry = describe(args.output, kind="skin", licence=licence, provenance=provenance)
    update_manifest(args.output.parent / "manifest.toml", {"skin": entry})
    print(f"{args.output}: {args.output.stat().st_size / 1e3:.0f} kB, noise {255 * noise:.1f} levels")
    if args.sheet:
        big = [cv2.resize(mode, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC) for mode in spread[:6]]
        views = [fine] + [np.clip(fine + sign * 2 * mode, 0, 1) for mode in big for sign in (1, -1)]
        tiles = [cv2.resize(view, (256, 256), interpolation=cv2.INTER_AREA) for view in views[1:]]
        pairs = np.hstack([np.vstack(tiles[k : k + 2]) for k in range(0, len(tiles), 2)])
        sheet = np.hstack([views[0], pairs])
        cv2.imwrite(str(args.sheet), np.round(255 * sheet[..., ::-1]).astype(np.uint8))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
