"""The renderer that needs no GL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facet.render.cpu.raster import composite, rasterise, rasterise_values
from facet.render.geometry import Geometry
from facet.render.overlay import draw_segments
from facet.render.sample import sample_face
from facet.render.surface import SURFACE_VIEWS, WIRE_RADIUS_PX, Patch, SurfaceView, depth_values, patches, place
from facet.render.views import VIEWS, Renderer, overlay_segments
from facet.tracker.types import FaceTrack

MAX_SAMPLES = 1 << 22  # of the rasteriser's buffer, 8 bytes each


class CpuRenderer(Renderer):
    """Draws with numba, in the rectangles of the faces only."""

    name = "cpu"

    def __init__(self, geometry: Geometry, views: Sequence[str]):
        super().__init__(geometry, views)
        self._samples = np.empty(0, np.int64)  # grows with the faces
        # the kernels are compiled, or loaded, now and not in the first frame
        self._compile()

    def _compile(self) -> None:
        views, self.views = self.views, ("mesh", "landmarks")
        self._draw(np.zeros((24, 24, 3), np.uint8), (sample_face(self.geometry, (24, 24), 20.0),))
        self.views = views

    def _draw(self, image: np.ndarray, tracks: Sequence[FaceTrack], in_place: bool = False) -> np.ndarray:
        picture = image if in_place and image.flags.c_contiguous else np.array(image, order="C")
        size_wh = picture.shape[1], picture.shape[0]
        for name in self.views:
            if name in SURFACE_VIEWS:
                for patch in patches(SURFACE_VIEWS[name], self.geometry, tracks, size_wh):
                    self._draw_patch(picture, SURFACE_VIEWS[name], patch)
            elif VIEWS[name].strokes is not None:
                draw_segments(picture, overlay_segments(name, tracks, self.geometry))
        return picture

    def _draw_patch(self, picture: np.ndarray, view: SurfaceView, patch: Patch) -> None:
        z_min = min(surface.vertices[:, 2].min() for surface in patch.surfaces)
        z_max = max(surface.vertices[:, 2].max() for surface in patch.surfaces)
        wire_px = np.float32(WIRE_RADIUS_PX if view.wire else 0)
        x0, top, x1, bottom = patch.rect
        width = x1 - x0
        wide = 4 * width + 4  # the rasteriser works on pairs of pixels
        rows = max(1, MAX_SAMPLES // wide)  # a face larger than that is drawn in bands
        for y0 in range(top, bottom, rows):
            height = min(rows, bottom - y0)
            if self._samples.size < height * wide:
                self._samples = np.empty(height * wide, np.int64)
            samples = self._samples[: height * wide].reshape(height, wide)
            samples[:] = 0
            for surface in patch.surfaces:
                triangles = self.geometry.light_triangles if surface.light else self.geometry.triangles
                rasterise(
                    surface.vertices, triangles, surface.colours, x0, y0, height, width, z_min, z_max, wire_px, samples
                )
            composite(picture, x0, y0, height, width, samples)

    def _depth_map(self, size_wh: tuple[int, int], tracks: Sequence[FaceTrack]) -> np.ndarray:
        width, height = size_wh
        result = np.zeros((height, width), np.uint16)
        placed = [
            (found[1], depth_values(track.vertices, track))
            for track in tracks
            if track.vertices is not None and (found := place(self.geometry, track, size_wh)) is not None
        ]
        if not placed:
            return result
        # in bands of the rectangle that holds all faces
        corners = np.concatenate([vertices[:, :2] for vertices, _ in placed])
        x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, size_wh)
        x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, size_wh)
        rows = max(1, MAX_SAMPLES // max(1, 2 * (x1 - x0)))
        for top in range(y0, y1, rows):
            band = result[top : min(top + rows, y1), x0:x1]
            depth, values = np.full(band.shape, -np.inf, np.float32), np.zeros(band.shape, np.float32)
            for vertices, steps in placed:
                shifted = vertices - np.array([x0, top, 0], np.float32)
                rasterise_values(shifted, self.geometry.triangles, steps, depth, values)
            band[:] = np.rint(values, out=values)
        return result
