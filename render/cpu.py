"""The renderer that needs no GL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from render.geometry import Geometry
from render.overlay import draw_capsules
from render.raster import composite, rasterise, rasterise_values
from render.sample import sample_face
from render.surface import SURFACE_VIEWS, WIRE_RADIUS_PX, Patch, SurfaceView, depth_values, patches, place
from render.views import Renderer, overlay_capsules
from tracker.types import FaceTrack


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

    def _draw(self, image: np.ndarray, tracks: Sequence[FaceTrack]) -> np.ndarray:
        picture = np.array(image, order="C")
        size_wh = picture.shape[1], picture.shape[0]
        for name in self.views:
            if name in SURFACE_VIEWS:
                for patch in patches(SURFACE_VIEWS[name], self.geometry, tracks, size_wh):
                    self._draw_patch(picture, SURFACE_VIEWS[name], patch)
            else:
                draw_capsules(picture, overlay_capsules(name, tracks, self.geometry))
        return picture

    def _draw_patch(self, picture: np.ndarray, view: SurfaceView, patch: Patch) -> None:
        x0, y0, x1, y1 = patch.rect
        height, width = y1 - y0, x1 - x0
        wide = 4 * width + 4  # the rasteriser works on pairs of pixels
        if self._samples.size < height * wide:
            self._samples = np.empty(height * wide, np.int64)
        samples = self._samples[: height * wide].reshape(height, wide)
        samples[:] = 0
        z_min = min(surface.vertices[:, 2].min() for surface in patch.surfaces)
        z_max = max(surface.vertices[:, 2].max() for surface in patch.surfaces)
        wire_px = np.float32(WIRE_RADIUS_PX if view.wire else 0)
        for surface in patch.surfaces:
            triangles = self.geometry.light_triangles if surface.light else self.geometry.triangles
            rasterise(
                surface.vertices, triangles, surface.colours, x0, y0, height, width, z_min, z_max, wire_px, samples
            )
        composite(picture, x0, y0, height, width, samples)

    def _depth_map(self, size_wh: tuple[int, int], tracks: Sequence[FaceTrack]) -> np.ndarray:
        depth = np.full(size_wh[::-1], -np.inf, np.float32)
        values = np.zeros(size_wh[::-1], np.float32)
        for track in tracks:
            placed = place(self.geometry, track, size_wh)
            if placed is not None:
                _, vertices, _ = placed
                rasterise_values(vertices, self.geometry.triangles, depth_values(track.vertices, track), depth, values)
        return np.rint(values).astype(np.uint16)
