"""The renderer on OpenGL 3.3 core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import moderngl
import numpy as np

from facet.render.camera import pixel_to_clip
from facet.render.geometry import Geometry
from facet.render.gl.context import gl_version, release_context
from facet.render.gl.face import COLUMNS, FaceShader, PlacedFace, count_weights, number_texture, rings
from facet.render.lit import FADE, appearance_of, vertex_albedo
from facet.render.surface import (
    DEPTH_FAR_MM,
    DEPTH_MAP_ORIGIN,
    DEPTH_MAP_PER_MM,
    DEPTH_NEAR_MM,
    SURFACE_VIEWS,
    WIRE_COLOUR,
    WIRE_RADIUS_PX,
    Patch,
    join_overlapping,
)
from facet.render.views import VIEWS, Renderer, overlay_segments
from facet.tracker.errors import RenderError
from facet.tracker.lighting import C0, C1, C2
from facet.tracker.types import FaceTrack

SHADERS = Path(__file__).parents[1] / "shaders"
SAMPLES = 4
LAYER_STEP_PX = 128  # the faces' layer grows in these steps
MARGIN_MM = 1.0
# how the surface's shader colours
PAINTS = {"PAINT_SKIN": 0, "PAINT_DEPTH": 1, "PAINT_NORMALS": 2, "PAINT_CODE": 3, "PAINT_LIT": 4}
# of the views; the others show their code
PAINT_OF = {"mesh": "PAINT_SKIN", "depth": "PAINT_DEPTH", "normals": "PAINT_NORMALS", "lit": "PAINT_LIT"}


def load_program(
    context: moderngl.Context, name: str, varyings: Sequence[str] = (), /, **constants: float
) -> moderngl.Program:
    """Compile a file of `shaders/`, whose stages the preprocessor separates; it knows the constants by name.

    With `varyings`, outputs to be kept in a buffer, it is a vertex shader alone.
    """
    known = "".join(f"#define {key} {value}\n" for key, value in constants.items())
    text = (SHADERS / f"{name}.glsl").read_text(encoding="utf-8")
    stages = {"vertex_shader": "VERTEX_SHADER"}
    if not varyings:
        stages["fragment_shader"] = "FRAGMENT_SHADER"
    if "GEOMETRY_SHADER" in text:
        stages["geometry_shader"] = "GEOMETRY_SHADER"
    text = known + text
    sources = {key: f"#version 330 core\n#define {macro}\n{text}" for key, macro in stages.items()}
    return context.program(**sources, varyings=tuple(varyings))


class GlRenderer(Renderer):
    """Draws on a GL context, which it owns: `picture` holds the last picture, `draw` reads it back.

    Channels keep OpenCV's order, B where GL says red; only what goes to a screen must turn them.
    """

    def __init__(self, geometry: Geometry, views: Sequence[str], context: moderngl.Context):
        super().__init__(geometry, views)
        self._picture: moderngl.Texture | None = None
        self._layer: moderngl.Texture | None = None
        self._context: moderngl.Context | None = None
        self.move_to(context)

    @property
    def context(self) -> moderngl.Context:
        """The context that it draws on; raises RenderError once it is closed."""
        if self._context is None:
            raise RenderError("expected an open renderer, found one that was closed")
        return self._context

    @property
    def picture(self) -> moderngl.Texture:
        """The last picture, as a texture; raises RenderError where none was drawn."""
        if self._picture is None:
            raise RenderError("expected a picture that was drawn, found none")
        return self._picture

    def move_to(self, context: moderngl.Context) -> None:
        """Leave the context for another one, that of a window; what was drawn stays behind."""
        self.close()
        self._context = context
        self.name = f"gl ({gl_version(context)})"
        geometry, depth = self.geometry, {"DEPTH_NEAR_MM": DEPTH_NEAR_MM, "DEPTH_FAR_MM": DEPTH_FAR_MM}
        steps = {"DEPTH_MAP_ORIGIN": float(DEPTH_MAP_ORIGIN), "DEPTH_MAP_PER_MM": DEPTH_MAP_PER_MM}
        deform = load_program(context, "deform", ["place"], COLUMNS=COLUMNS, WEIGHTS=count_weights(geometry))
        self._faces = FaceShader(context, deform, geometry)
        lit = {"FADE": FADE, "C0": C0, "C1": C1, "C2": C2}
        self._surface = load_program(context, "surface", COLUMNS=COLUMNS, **depth, **PAINTS, **lit)
        self._wire = load_program(context, "wire", COLUMNS=COLUMNS)
        self._values = load_program(context, "values", COLUMNS=COLUMNS, **steps)
        self._background, self._composite = load_program(context, "picture"), load_program(context, "composite")
        self._segments = load_program(context, "segments")
        self._strokes = context.buffer(reserve=36 * 512, dynamic=True)
        painted = np.zeros((1, 4), np.float32)
        if geometry.vertex_count:
            painted = np.column_stack([geometry.albedo, geometry.opacity]).astype(np.float32)
        albedo = context.buffer(painted.tobytes())
        colours = {"": albedo}  # by the name of the code; the skin's has none
        for name, code in geometry.codes.items():
            painted[: len(code), :3], painted[:, 3] = code, 1
            colours[name] = context.buffer(painted.tobytes())
        colours["lit"] = self._lit = context.buffer(painted.tobytes(), dynamic=True)  # of the face that is drawn
        self._filled, self._wired, self._rings = {}, {}, {}
        for light, triangles in ((False, geometry.triangles), (True, geometry.light_triangles)):
            triangles = triangles if len(triangles) else np.zeros((1, 3), np.int32)
            spans, corners = rings(triangles, max(geometry.vertex_count, 1))
            self._rings[light] = number_texture(context, corners)
            spans, indices = context.buffer(spans.tobytes()), context.buffer(triangles.tobytes())
            for name, colour in colours.items():
                lit = [(colour, "4f", "in_albedo"), (spans, "2i", "in_span")]
                self._filled[name, light] = context.vertex_array(self._surface, lit, indices)
            self._wired[light] = context.vertex_array(self._wire, [(albedo, "4f", "in_albedo")], indices)
            if not light:
                self._valued = context.vertex_array(self._values, [], indices)
        for program in (self._surface, self._wire, self._values):
            program["positions"].value = 0
        self._surface["rings"].value = 1
        self._wire["wire_px"].value = WIRE_RADIUS_PX
        self._wire["wire_colour"].value = tuple(value / 255 for value in WIRE_COLOUR)
        self._whole = context.vertex_array(self._background, [])
        self._over = context.vertex_array(self._composite, [])
        stroke = [(self._strokes, "4f 1f 4f /i", "in_ends", "in_radius", "in_colour")]
        self._stroked = context.vertex_array(self._segments, stroke)
        context.front_face = "cw"
        context.cull_face = "back"

    @property
    def needs_vertices(self) -> bool:
        """Only where the face model is not at hand: the vertex shader evaluates it."""
        return self.geometry.model is None and super().needs_vertices

    def _draw(self, image: np.ndarray, tracks: Sequence[FaceTrack], in_place: bool) -> np.ndarray:
        self.render(image, tracks)
        return self.read()

    def show(self, image: np.ndarray, tracks: Sequence[FaceTrack]) -> None:
        """Draw as `draw` does, into `picture`, and read nothing back."""
        self._remember(image, tracks)
        image, _ = self._with_image_views(image, tracks, in_place=False)
        self.render(image, tracks)

    def render(self, image: np.ndarray, tracks: Sequence[FaceTrack]) -> None:
        """Draw the picture and the views of all faces into `picture`."""
        context, size_wh = self.context, (image.shape[1], image.shape[0])
        self._fit(context, size_wh)
        faces = self._faces.place(tracks if super().needs_vertices else (), size_wh)
        patches = join_overlapping([Patch(face.rect, (face,)) for face in faces])
        self._image.write(np.ascontiguousarray(image))
        self._picture_fbo.use()
        context.viewport = (0, 0, *size_wh)
        context.disable(moderngl.BLEND | moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self._image.use(0)
        self._whole.render(moderngl.TRIANGLES, vertices=3)
        for name in self.views:
            if name in SURFACE_VIEWS:
                for patch in patches:
                    self._draw_patch(name, patch)
            elif VIEWS[name].strokes is not None:
                self._draw_strokes(overlay_segments(name, tracks, self.geometry), size_wh)

    def read(self) -> np.ndarray:
        """The last picture, (H, W, 3) uint8 BGR."""
        width, height = self.picture.size
        picture = np.empty((height, width, 3), np.uint8)
        self._picture_fbo.read_into(picture, components=3, alignment=1)
        return picture

    def _fit(self, context: moderngl.Context, size_wh: tuple[int, int]) -> None:
        """Targets for this size of picture."""
        if self._picture is not None and self._picture.size == size_wh:
            return
        limit = context.info["GL_MAX_TEXTURE_SIZE"]
        if max(size_wh) > limit:
            raise RenderError(f"expected a picture of at most {limit} px, found {size_wh}; use --renderer cpu")
        self._release_targets()
        self._image = context.texture(size_wh, 3, alignment=1)
        self._picture = picture = context.texture(size_wh, 4)
        picture.filter = (moderngl.LINEAR, moderngl.LINEAR)
        picture.repeat_x = picture.repeat_y = False
        self._picture_fbo = context.framebuffer([picture])

    def _fit_layer(self, context: moderngl.Context, width: int, height: int) -> moderngl.Texture:
        """A layer with four samples a pixel, at least this large."""
        if self._layer is not None and self._layer.width >= width and self._layer.height >= height:
            return self._layer
        old = self._layer.size if self._layer is not None else (0, 0)
        size = tuple(-(-max(n, o) // LAYER_STEP_PX) * LAYER_STEP_PX for n, o in zip((width, height), old, strict=True))
        self._release_layer()
        self._layer = context.texture(size, 4, samples=SAMPLES)
        self._layer_depth = context.depth_renderbuffer(size, samples=SAMPLES)
        self._layer_fbo = context.framebuffer([self._layer], self._layer_depth)
        return self._layer

    def _draw_patch(self, name: str, patch: Patch) -> None:
        x0, y0, x1, y1 = patch.rect
        width, height = x1 - x0, y1 - y0
        context, wire = self.context, SURFACE_VIEWS[name].wire
        layer = self._fit_layer(context, width, height)
        self._layer_fbo.use()
        self._layer_fbo.clear(viewport=(0, 0, width, height))
        context.viewport = (0, 0, width, height)
        context.disable(moderngl.BLEND)
        context.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        program = self._wire if wire else self._surface
        code = name if name in self.geometry.codes or name == "lit" else ""
        program["pixel_to_clip"].write(pixel_to_clip(patch.rect, *_between(patch.surfaces)).T.tobytes())
        for face in patch.surfaces:
            light = face.light or wire
            face.positions.use(0)
            if not wire:
                self._rings[light].use(1)
                program["px_per_mm"].value, program["origin_mm"].value = face.scale_px_per_mm, face.origin_mm
                program["paint"].value = PAINTS[PAINT_OF.get(name, "PAINT_CODE")]
                if name == "lit":
                    self._fill_lit(face.track)
            (self._wired[light] if wire else self._filled[code, light]).render(moderngl.TRIANGLES)
        self._picture_fbo.use()
        context.viewport = (x0, y0, width, height)
        context.disable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        context.enable(moderngl.BLEND)
        context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        layer.use(0)
        self._composite["origin"].value = x0, y0
        self._over.render(moderngl.TRIANGLES, vertices=3)
        context.viewport = (0, 0, *self.picture.size)

    def _fill_lit(self, track: FaceTrack) -> None:
        """Skin and light of the face that is drawn next."""
        light, skin = appearance_of(track)
        albedo = vertex_albedo(self.geometry, skin)
        self._lit.orphan()
        self._lit.write(np.column_stack([albedo, self.geometry.opacity]).astype(np.float32).tobytes())
        self._surface["harmonics"].write(np.ascontiguousarray(light.harmonics[::-1].T, np.float32).tobytes())

    def _draw_strokes(self, segments: np.ndarray, size_wh: tuple[int, int]) -> None:
        if not len(segments):
            return
        self._strokes.orphan(max(self._strokes.size, segments.nbytes))
        self._strokes.write(segments)
        context = self.context
        context.enable(moderngl.BLEND)
        context.blend_func = (
            *(moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA),
            *(moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA),
        )
        self._segments["size"].value = size_wh
        self._stroked.render(moderngl.TRIANGLE_STRIP, vertices=4, instances=len(segments))

    def _depth_map(self, size_wh: tuple[int, int], tracks: Sequence[FaceTrack]) -> np.ndarray:
        faces = self._faces.place(tracks, size_wh)
        if not faces:
            return np.zeros(size_wh[::-1], np.uint16)
        context = self.context
        target = context.texture(size_wh, 1, dtype="f4")
        depth = context.depth_renderbuffer(size_wh)
        fbo = context.framebuffer([target], depth)
        fbo.use()
        fbo.clear()
        matrix = pixel_to_clip((0, 0, *size_wh), *_between(faces))
        self._values["pixel_to_clip"].write(matrix.T.tobytes())
        context.disable(moderngl.BLEND)
        context.enable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        for face in faces:
            face.positions.use(0)
            self._values["origin_mm"].value = face.origin_mm
            self._valued.render(moderngl.TRIANGLES)
        values = np.frombuffer(fbo.read(components=1, dtype="f4", alignment=1), np.float32)
        for item in (fbo, depth, target):
            item.release()
        return np.rint(values.reshape(size_wh[::-1])).astype(np.uint16)

    def _release_targets(self) -> None:
        if self._picture is not None:
            for item in (self._picture_fbo, self._picture, self._image):
                item.release()
            self._picture = None

    def _release_layer(self) -> None:
        if self._layer is not None:
            for item in (self._layer_fbo, self._layer_depth, self._layer):
                item.release()
            self._layer = None

    def close(self) -> None:
        if self._context is not None:
            self._picture = self._layer = None
            release_context(self._context)
            self._context = None


def _between(faces: Sequence[PlacedFace]) -> tuple[float, float]:
    """Least and largest depth of several faces, mm, and a little beyond: the shader's rounding must clip nothing."""
    return min(face.depth[0] for face in faces) - MARGIN_MM, max(face.depth[1] for face in faces) + MARGIN_MM
