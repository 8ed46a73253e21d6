"""Reconstruct faces of photographs: shape, expression, skin with the light divided out, and the light.

python -m tools.reconstruct PHOTOS -o DIR [--together] [--relight left|X,Y,Z|other.jpg|light.json] [--sheet]

PHOTOS are images, folders or globs. Each face gives .obj, .ply and .glb with its albedo, .json and .mat with all
coefficients; --relight also the photograph in another light; --sheet a strip of input, reconstruction, albedo, shading
and landmarks. See docs/appearance.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from app import write_line
from facet.assembly import build_tracker
from facet.render.geometry import Geometry, geometry_of
from facet.render.lit import vertex_albedo
from facet.render.sinks.export import UNKNOWN_LIGHT, head_of, make_folder, stems
from facet.render.sinks.image import write_image
from facet.render.sinks.mesh_files import Head, file_names, write_head
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.errors import ConfigError, FaceTrackError, SourceError
from facet.tracker.files import new_file
from facet.tracker.lighting import Light, lamp, sampled
from facet.tracker.outputs.record import light_record
from facet.tracker.sources import open_source
from facet.tracker.stages import Stages
from tools.appearance.identity import others
from tools.appearance.reconstruction import Reconstruction, Reconstructor
from tools.raster import interpolate, rasterise

LAMPS = {"left": (-1, 0.3, 0.5), "right": (1, 0.3, 0.5), "top": (0, 1, 0.4), "front": (0, 0.1, 1)}  # x right, y up
LAMP_STRENGTH, LAMP_AMBIENT = 0.9, 0.25
DARKEST = 0.08  # shading below which the photograph holds too little to be lit anew
MOST_GAIN = 4.0
TILE_PX = 320
RELIGHT_FORMS = "left, right, top, front, X,Y,Z (x right, y up, z to the viewer), a photograph or a .json with light"


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A photograph and the faces found in it."""

    name: str
    image: np.ndarray
    faces: tuple


class Studio:
    """The parts that all photographs share."""

    def __init__(self, config: AppConfig):
        self.tracker = build_tracker(config, Stages(), live=False)
        self.model = self.tracker.mesh_model
        self.geometry: Geometry = geometry_of(self.model)
        self.reconstruct = Reconstructor(self.model)

    def photos(self, sources: Sequence[str], config: AppConfig) -> list[Photo]:
        """Read photographs, and find their faces."""
        found = []
        for spec in sources:
            with open_source(spec, config.source) as source:
                if not source.still:
                    raise SourceError(f"{spec}: expected images, found {source.kind}; take frames out of it first")
                found += [Photo(f.source, f.image, self.tracker.step(f)) for f in source]
        return found


def parse_light(text: str, studio: Studio, config: AppConfig) -> tuple[Light, bool]:
    """The light of `--relight`, and whether it is a lamp, which takes on colour and strength of the photograph's light.

    Raises
    ------
    ConfigError
        Where it has none of the forms, or its photograph shows no face whose light can be known.
    """
    if text in LAMPS:
        return lamp(LAMPS[text], LAMP_STRENGTH, LAMP_AMBIENT), True
    parts = text.split(",")
    if len(parts) == 3:
        try:
            direction = np.array([float(part) for part in parts])
        except ValueError:
            direction = np.zeros(3)
        if np.isfinite(direction).all() and np.linalg.norm(direction) > 0:
            return lamp(direction, LAMP_STRENGTH, LAMP_AMBIENT), True
    path = Path(text)
    if path.suffix.lower() == ".json" and path.is_file():
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            numbers = np.array((read.get("light") or read)["sh"], np.float32).reshape(3, 9)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"--relight {text}: expected light with 27 numbers sh, found: {error}") from error
        if not np.isfinite(numbers).all():
            raise ConfigError(f"--relight {text}: expected finite numbers, found others")
        return Light(numbers), False
    if not path.is_file():
        raise ConfigError(f"--relight {text}: expected {RELIGHT_FORMS}; found none of them")
    photos = studio.photos([text], config)
    faces = [(photo, face) for photo in photos for face in photo.faces]
    if not faces:
        raise ConfigError(f"--relight {text}: expected a photograph with a face, found no face")
    photo, face = max(faces, key=lambda one: one[1].pose.scale_px_per_mm)
    light = studio.reconstruct([photo.image], [face])[0].face.appearance.light
    if light is None:
        raise ConfigError(f"--relight {text}: {UNKNOWN_LIGHT}; take another photograph")
    return light, False


def like(light: Light, own: Light) -> Light:
    """A lamp with the colour and the strength of another light."""
    strength = own.intensity / max(light.intensity, 1e-6)
    return Light((light.harmonics * own.tint[:, None] * strength).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The mesh of a face at every pixel of a photograph."""

    normals: np.ndarray  # (H, W, 3) float32, view axes
    uv: np.ndarray  # (H, W, 2) float32
    albedo: np.ndarray  # (H, W, 3) float32, BGR: of the skin model, of eyes and mouth of the image
    share: np.ndarray  # (H, W) float32, 0 outside the face, soft at its border


def drawn(found: Reconstruction, geometry: Geometry) -> Drawn:
    """Rasterise the fitted mesh."""
    from facet.render.geometry import vertex_normals

    vertices = np.ascontiguousarray(found.face.vertices, np.float32)
    normals = np.empty_like(vertices)
    vertex_normals(vertices, geometry.triangles, normals)
    height, width = found.image.shape[:2]
    buffer = rasterise(vertices.astype(np.float64), geometry.triangles, width, height)
    skin = found.face.appearance.skin
    uv = geometry.codes["uv"][:, :0:-1]
    place = np.clip(vertices[:, :2].astype(int), 0, (width - 1, height - 1))
    albedo = found.image[place[:, 1], place[:, 0]] / np.float32(255)
    if skin is not None:
        shading = found.face.appearance.light.shading(normals * np.float32([1, -1, 1]))[:, ::-1]
        unlit = np.clip(albedo / np.maximum(shading, 0.3), 0, 1)
        albedo = np.where(uv.any(axis=1)[:, None], vertex_albedo(geometry, skin), unlit)
    values = np.column_stack([normals * np.float32([1, -1, 1]), uv, albedo, geometry.opacity])
    mixed = interpolate(values, geometry.triangles, *buffer).astype(np.float32)
    normal = mixed[..., :3] / np.maximum(np.linalg.norm(mixed[..., :3], axis=2, keepdims=True), 1e-6)
    share = mixed[..., 8] * np.clip(normal[..., 2] / 0.2, 0, 1)
    return Drawn(normal, mixed[..., 3:5], mixed[..., 5:8], share)


def relit(found: Reconstruction, light: Light, seen: Drawn) -> np.ndarray:
    """The photograph with another light on the face, (H, W, 3) uint8; soft where hair, hands and background begin."""
    flat = seen.normals.reshape(-1, 3)
    own = found.face.appearance.light
    before, after = (one.shading(flat).reshape(seen.normals.shape)[..., ::-1] for one in (own, light))
    gain = np.clip((after + DARKEST) / (before + DARKEST), 0, MOST_GAIN)
    width = float(np.ptp(found.landmarks[:, 0]))
    # eyes and the insides of mouth and nostrils are lit as the skin around them
    skin = (seen.uv.any(axis=2) & (seen.normals[..., 2] > 0.15)).astype(np.float32)[..., None]
    soft = max(0.012 * width, 0.5)
    around = cv2.GaussianBlur(gain * skin, (0, 0), 3 * soft) / np.maximum(
        cv2.GaussianBlur(skin, (0, 0), 3 * soft)[..., None], 1e-3
    )
    gain = cv2.GaussianBlur(skin * gain + (1 - skin) * around, (0, 0), soft)
    soft = 0.03 * width
    share = cv2.GaussianBlur(seen.share * np.clip((found.mask - 0.3) / 0.4, 0, 1), (0, 0), max(soft, 0.5))[..., None]
    return np.clip(np.rint(found.image * (1 + share * (gain - 1))), 0, 255).astype(np.uint8)


def strip(found: Reconstruction, seen: Drawn, texture: np.ndarray | None) -> np.ndarray:
    """Input, reconstruction, albedo, shading and landmarks beside each other, (TILE_PX, 5 TILE_PX, 3) uint8."""
    image, share = found.image.astype(np.float32), seen.share[..., None]
    light = found.face.appearance.light
    shading = np.ones_like(image)
    if light is not None:
        shading = light.shading(seen.normals.reshape(-1, 3)).reshape(image.shape)[..., ::-1]
    albedo = 255 * seen.albedo
    if texture is not None:
        on_skin = seen.uv.any(axis=2)[..., None]
        albedo = np.where(on_skin, sampled(texture, seen.uv.reshape(-1, 2)).reshape(image.shape), albedo)
    ground = np.full_like(image, 255)
    tiles = [
        image,
        image * (1 - share) + share * 255 * seen.albedo * shading,
        ground * (1 - share) + share * albedo,
        ground * (1 - share) + share * 150 * shading,
    ]
    x0, y0, x1, y1 = found.face.box
    side = 1.5 * max(x1 - x0, y1 - y0)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2 - 0.08 * side
    zoom = TILE_PX / side
    matrix = np.float32([[zoom, 0, TILE_PX / 2 - zoom * x], [0, zoom, TILE_PX / 2 - zoom * y]])
    shown = [np.clip(np.rint(tile), 0, 255).astype(np.uint8) for tile in tiles]
    flags = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    shown = [cv2.warpAffine(t, matrix, (TILE_PX, TILE_PX), flags=flags, borderMode=cv2.BORDER_REPLICATE) for t in shown]
    dots = shown[0].copy()
    for column, row in found.landmarks @ matrix[:, :2].T + matrix[:, 2]:
        cv2.circle(dots, (round(column * 16 - 8), round(row * 16 - 8)), 32, (60, 240, 90), -1, cv2.LINE_AA, 4)
    return np.hstack([*shown, dots])


def record(found: Reconstruction, name: str, expressions: Sequence[str]) -> dict:
    """All numbers of a face, ready for JSON."""
    face, pose = found.face, found.face.pose
    light, skin = face.appearance.light, face.appearance.skin
    return {
        "source": name.encode(errors="backslashreplace").decode(),
        "units": "mm, y up; camera: mm to image px, y down; angles in degrees; skin and shape in standard deviations",
        "shape": face.shape.astype(float).round(5).tolist(),
        "expression": {n: round(float(w), 4) for n, w in zip(expressions, face.expression, strict=True)},
        "skin": None if skin is None else skin.astype(float).round(5).tolist(),
        "light": None if light is None else light_record(light),
        "pose": {"yaw_deg": pose.yaw_deg, "pitch_deg": pose.pitch_deg, "roll_deg": pose.roll_deg},
        "camera": face.model_to_image.astype(float).round(6).tolist(),
        "landmarks": found.landmarks.astype(float).round(3).tolist(),
    }


def matlab(found: Reconstruction) -> dict[str, np.ndarray]:
    """The coefficients under the keys of Deep3DFaceRecon's .mat files; they go with this project's face model."""
    face, pose = found.face, found.face.pose
    light, skin = face.appearance.light, face.appearance.skin
    gamma = np.full(27, np.nan) if light is None else light.harmonics.astype(np.float64).ravel()
    gamma[::9] -= 0.8
    return {
        "id": face.shape[None].astype(np.float64),
        "exp": face.expression[None].astype(np.float64),
        "tex": np.zeros((1, 0)) if skin is None else skin[None].astype(np.float64),
        "angle": np.radians([[pose.pitch_deg, -pose.yaw_deg, pose.roll_deg]]),
        "gamma": np.nan_to_num(gamma)[None],
        "trans": pose.translation_px[None].astype(np.float64),
        "lm68": found.landmarks[None].astype(np.float64),
    }


class Writer:
    """Writes reconstructions into a folder; no file is replaced."""

    def __init__(self, folder: Path, studio: Studio, sheet: bool, light: tuple[Light, bool] | None):
        self.folder, self._studio, self._sheet, self._light = folder, studio, sheet, light
        make_folder(folder, studio.geometry)
        self._taken: set[str] = set()

    def __call__(self, found: Reconstruction, name: str, number: int, mesh: bool = True) -> None:
        """Write one face; without a `mesh` only what is this photograph's own."""
        kinds = (*file_names(""), "json", "mat", "jpg", "png")
        for stem in stems(name, None):
            base = f"{stem}_{number}"
            if base not in self._taken and not any((self.folder / f"{base}.{kind}").exists() for kind in kinds):
                break
        self._taken.add(base)
        geometry = self._studio.geometry
        seen = drawn(found, geometry) if self._sheet or self._light else None
        head: Head | None = None
        if mesh or self._sheet:
            head = head_of(found.image, found.face, geometry, albedo=True, mask=found.mask)
        if mesh:
            write_head(head, self.folder, base)
        text = json.dumps(record(found, name, self._studio.model.expression_names), ensure_ascii=False, indent=1)
        with new_file(self.folder / f"{base}.json", replace=False) as partial:
            partial.write_text(text, encoding="utf-8")
        from scipy.io import savemat

        with new_file(self.folder / f"{base}.mat", replace=False) as partial, partial.open("wb") as file:
            savemat(file, matlab(found))
        own = found.face.appearance.light
        if self._light is not None and own is not None:
            light, is_lamp = self._light
            picture = relit(found, like(light, own) if is_lamp else light, seen)
            write_image(self.folder / f"{base}_relit.jpg", picture, replace=False)
        if self._sheet:
            write_image(self.folder / f"{base}_sheet.jpg", strip(found, seen, head.texture), replace=False)


def largest(photo: Photo):
    """The nearest face of a photograph."""
    return max(photo.faces, key=lambda face: face.pose.scale_px_per_mm)


def run(args: argparse.Namespace, config: AppConfig) -> int:
    """Reconstruct; the exit status."""
    studio = Studio(config)
    light = None if args.relight is None else parse_light(args.relight, studio, config)
    photos = studio.photos(args.photos, config)
    status = 0
    for photo in photos:
        if not photo.faces:
            report(f"{photo.name}: found no face")
            status = 1
    with_face = [photo for photo in photos if photo.faces]
    if not with_face:
        return 1
    if args.together:
        wrong = others([photo.image for photo in with_face], [largest(photo) for photo in with_face])
        for k in wrong:
            report(f"{with_face[k].name}: shows another person than the other photographs; left out")
            status = 1
        with_face = [photo for k, photo in enumerate(with_face) if k not in wrong]
    writer = Writer(args.output, studio, args.sheet, light)
    count = 0
    groups = [[(photo, largest(photo)) for photo in with_face]] if args.together else []
    if not args.together:
        groups = [[(photo, face)] for photo in with_face for face in photo.faces]
    for group in groups:
        found = studio.reconstruct([photo.image for photo, _ in group], [face for _, face in group])
        # the mesh takes its skin from the photograph that sees most of the face
        best = int(np.argmin([np.hypot(face.pose.yaw_deg, face.pose.pitch_deg) for _, face in group]))
        for k, ((photo, face), one) in enumerate(zip(group, found, strict=True)):
            if one.face.appearance.light is None:
                report(f"{photo.name}, face {face.id}: {UNKNOWN_LIGHT}; written with the image's colours")
            writer(one, photo.name, face.id, mesh=k == best)
            count += 1
    write_line(f"{len(photos)} photographs, {count} faces -> {args.output}", sys.stdout)
    return status


def report(text: str) -> None:
    """Print one line about something wrong."""
    write_line(f"tools.reconstruct: {text}", sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.reconstruct", description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", metavar="PHOTOS", help="images, folders or globs")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--together", action="store_true", help="all photographs show one person: one shape, one skin")
    parser.add_argument("--relight", metavar="LIGHT", help=RELIGHT_FORMS)
    parser.add_argument("--sheet", action="store_true", help="also a strip of what was found")
    parser.add_argument("--config", type=Path, metavar="PATH", help="TOML over the defaults")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="one setting over both")
    args = parser.parse_args(arguments)
    try:
        return run(args, load_config(AppConfig, args.config, args.set))
    except FaceTrackError as error:
        report(error)
        return 2 if isinstance(error, ConfigError) else 1
    except FileExistsError as error:
        report(f"{error.filename}: exists, and is not replaced; remove it first")
        return 1
    except KeyboardInterrupt:
        write_line("interrupted", sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
