"""The views there are, and what both renderers have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facet.render.avatar import AvatarConfig, draw_avatars, load_avatar
from facet.render.gaze import gaze
from facet.render.geometry import Geometry
from facet.render.overlay import MAX_COORDINATE_PX, axes, contours, landmarks, pose_box
from facet.render.privacy import PRIVACY_VIEWS, blur, cover, over_heads, pixelate
from facet.render.surface import SURFACE_VIEWS
from facet.tracker.errors import RenderError
from facet.tracker.types import FaceTrack


@dataclass(frozen=True, slots=True)
class View:
    """How a view is drawn: by strokes, in the image itself, or else as a surface of SURFACE_VIEWS.

    Those drawn in the image lie below all others, which come in the order of `--view`.
    """

    key: str  # in the window
    strokes: Callable[[FaceTrack, Geometry], np.ndarray] | None = None  # (M, 9) segments
    in_image: Callable[[np.ndarray, Sequence[FaceTrack], Renderer], None] | None = None  # (H, W, 3) uint8, written
    prepare: Callable[[Renderer], object] | None = None  # called when it is switched on


VIEWS: dict[str, View] = {
    "mesh": View("1"),
    "wire": View("2"),
    "axes": View("3", strokes=axes),
    "box": View("4", strokes=pose_box),
    "landmarks": View("5", strokes=landmarks),
    "depth": View("6"),
    "normals": View("7"),
    "pncc": View("8"),
    "uv": View("9"),
    "lit": View("0"),
    "gaze": View("g", strokes=gaze),
    "contours": View("o", strokes=contours),
    "blur": View("b", in_image=over_heads(blur)),
    "pixelate": View("x", in_image=over_heads(pixelate)),
    "cover": View("v", in_image=over_heads(cover)),
    "avatar": View(
        "m",
        in_image=lambda image, tracks, renderer: draw_avatars(image, tracks, renderer.avatar),
        prepare=lambda renderer: load_avatar(renderer.avatar.file),
    ),
}


def overlay_segments(name: str, tracks: Sequence[FaceTrack], geometry: Geometry) -> np.ndarray:
    """The strokes of an overlay view for all faces, (M, 9) float32; those that are not finite are left out."""
    draw = VIEWS[name].strokes
    strokes = [] if draw is None else [draw(track, geometry) for track in tracks]
    segments = np.concatenate(strokes) if strokes else np.empty((0, 9), np.float32)
    # written so that NaN fails too
    return np.ascontiguousarray(segments[np.abs(segments[:, :5]).max(axis=1, initial=0) < MAX_COORDINATE_PX])


class Renderer:
    """Draws faces over pictures; a context manager.

    Attributes
    ----------
    name : what draws, for the user
    geometry : Geometry
    views : names of VIEWS, in the order in which they are drawn
    avatar : AvatarConfig, of the view of that name
    covers_heads : whether views of PRIVACY_VIEWS are drawn; not where `Privacy` has done so already
    """

    name: str
    covers_heads = True
    avatar: AvatarConfig = AvatarConfig()

    def __init__(self, geometry: Geometry, views: Sequence[str]):
        self.geometry = geometry
        self.set_views(views)
        self._last: tuple[tuple[int, int], tuple[FaceTrack, ...]] | None = None

    def set_views(self, views: Sequence[str]) -> None:
        """Draw these views, in this order.

        Raises
        ------
        RenderError
            For a name that is not in VIEWS, and where the face model lacks what a view shows.
        """
        for name in views:
            if name not in VIEWS:
                raise RenderError(f"expected views of {', '.join(VIEWS)}; found {name}")
            if name in ("uv", "lit") and "uv" not in self.geometry.codes:
                raise RenderError(f"view {name}: expected a face model with a UV layout, found one without")
            prepare = VIEWS[name].prepare
            if prepare is not None:
                prepare(self)
        self.views = tuple(views)

    @property
    def needs_vertices(self) -> bool:
        """Whether the dense vertices of the faces are drawn at all."""
        return any(name in SURFACE_VIEWS for name in self.views)

    @property
    def needs_light(self) -> bool:
        """Whether light and skin of the faces are drawn."""
        return "lit" in self.views

    def draw(self, image: np.ndarray, tracks: Sequence[FaceTrack], in_place: bool = False) -> np.ndarray:
        """Draw the views of all faces over a picture.

        Parameters
        ----------
        image : (H, W, 3) uint8, BGR; stays as it is
        tracks : faces; one without `vertices` has no dense views
        in_place : `image` may be drawn on, which saves the memory of a copy

        Returns
        -------
        (H, W, 3) uint8, BGR, a new array, or `image` where `in_place` allows

        Raises
        ------
        RenderError
            For a picture or a face of the wrong form.
        """
        self._remember(image, tracks)
        image, in_place = self._with_image_views(image, tracks, in_place)
        return self._draw(image, tuple(tracks), in_place)

    def _with_image_views(
        self, image: np.ndarray, tracks: Sequence[FaceTrack], in_place: bool
    ) -> tuple[np.ndarray, bool]:
        """The image with the views that are drawn in it, and whether it may be drawn on."""
        names = [name for name in self.views if self.covers_heads or name not in PRIVACY_VIEWS]
        drawn = [draw for name in names if (draw := VIEWS[name].in_image) is not None]
        if not drawn or not tracks:
            return image, in_place
        image = image if in_place and image.flags.c_contiguous else np.array(image, order="C")
        for draw in drawn:
            draw(image, tracks, self)
        return image, True

    def depth_map(self) -> np.ndarray:
        """Depth of the faces of the last picture drawn.

        Returns
        -------
        (H, W) uint16: 0 where no face is; elsewhere 32768 at the depth of the face's own origin (between the ears), 100
        steps a millimetre, nearer is larger, clipped to 1-65535. The nearest face covers the others.
        """
        if self._last is None:
            raise RenderError("expected a picture that was drawn before its depth map is asked for")
        size_wh, tracks = self._last
        return self._depth_map(size_wh, tracks)

    def _remember(self, image: np.ndarray, tracks: Sequence[FaceTrack]) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise RenderError(f"expected a picture (H, W, 3) uint8, found {image.shape} {image.dtype}")
        self._last = (image.shape[1], image.shape[0]), tuple(tracks)

    def _draw(self, image: np.ndarray, tracks: Sequence[FaceTrack], in_place: bool) -> np.ndarray:
        raise NotImplementedError

    def _depth_map(self, size_wh: tuple[int, int], tracks: Sequence[FaceTrack]) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        """Give back what the renderer holds; it may be called twice."""

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *error) -> None:
        self.close()
