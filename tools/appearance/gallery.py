"""Sheets of reconstructions, to be looked at: what was found of each face, and its head from three sides.

python -m tools.appearance.gallery [PHOTOS...] -o sheet.jpg [--people N]

Without PHOTOS: of people who do not exist, as docs/appearance.jpg is made.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from app import write_line
from facet.render.sinks.export import head_of
from facet.render.sinks.mesh_files import Head
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.errors import FaceTrackError
from facet.tracker.lighting import lamp, sampled
from facet.tracker.pose import rotation_from_angles
from tools.evaluation.people import cast
from tools.raster import interpolate, rasterise
from tools.reconstruct import TILE_PX, Studio, drawn, strip

SIDES_DEG = (-55.0, 0.0, 55.0)
PX_PER_MM = 1.15
STUDIO_LIGHT = lamp((-0.4, 0.5, 0.8), 0.65, 0.5)
PEOPLE_YAW_DEG = (-12.0, 18.0, -35.0)


def sides(head: Head) -> np.ndarray:
    """A head under studio light from three sides, (TILE_PX, 3 TILE_PX, 3) uint8, BGR."""
    tiles = []
    for yaw_deg in SIDES_DEG:
        turn = rotation_from_angles(yaw_deg, 0.0, 0.0)
        turned, normals = head.vertices @ turn.T, head.normals @ turn.T
        points = turned * (PX_PER_MM, -PX_PER_MM, PX_PER_MM) + (TILE_PX / 2, TILE_PX / 2, 0)
        buffer = rasterise(points.astype(np.float64), head.triangles, TILE_PX, TILE_PX)
        on_texture = np.zeros(len(points))
        on_texture[head.triangles[head.textured]] = 1
        values = np.column_stack([normals, head.uv, head.colours, on_texture])
        mixed = interpolate(values, head.triangles, *buffer).astype(np.float32)
        normal = mixed[..., :3] / np.maximum(np.linalg.norm(mixed[..., :3], axis=2, keepdims=True), 1e-6)
        skin = sampled(head.texture, mixed[..., 3:5].reshape(-1, 2)).reshape(TILE_PX, TILE_PX, 3)
        albedo = np.where(mixed[..., 8:] > 0.99, skin, mixed[..., 5:8])
        shading = STUDIO_LIGHT.shading(normal.reshape(-1, 3)).reshape(TILE_PX, TILE_PX, 3)[..., ::-1]
        shown = np.where((buffer[0] >= 0)[..., None], albedo * shading, 40)
        tiles.append(np.clip(np.rint(shown), 0, 255).astype(np.uint8))
    return np.hstack(tiles)


def rows_of(studio: Studio, image: np.ndarray, faces) -> list[np.ndarray]:
    """A row for each face: what `tools.reconstruct --sheet` shows, and the head from three sides."""
    rows = []
    for face in faces:
        found = studio.reconstruct([image], [face])[0]
        head = head_of(image, found.face, studio.geometry, albedo=True, mask=found.mask)
        rows.append(np.hstack([strip(found, drawn(found, studio.geometry), head.texture), sides(head)]))
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.appearance.gallery", description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", metavar="PHOTOS", help="images, folders or globs")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="SHEET")
    parser.add_argument("--people", type=int, default=len(PEOPLE_YAW_DEG), metavar="N", help="without PHOTOS")
    args = parser.parse_args(arguments)
    try:
        config = load_config(AppConfig)
        studio, rows = Studio(config), []
        for photo in studio.photos(args.photos, config):
            rows += rows_of(studio, photo.image, photo.faces)
        if not args.photos:
            model, people = cast(args.people)
            still = np.zeros(model.expression_count, np.float32)
            for k, person in enumerate(people):
                image = person.shot(PEOPLE_YAW_DEG[k % len(PEOPLE_YAW_DEG)], 4.0, 0.0, still).picture
                rows += rows_of(studio, image, studio.tracker.track(image))
    except FaceTrackError as error:
        write_line(f"tools.appearance.gallery: {error}", sys.stderr)
        return 1
    if not rows:
        write_line("tools.appearance.gallery: found no face", sys.stderr)
        return 1
    cv2.imwrite(str(args.output), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return 0


if __name__ == "__main__":
    sys.exit(main())
