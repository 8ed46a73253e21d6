"""The live window: by glfw, which shows the GL renderer's picture without reading it back, or by OpenCV."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from facet.render.gl.context import make_context
from facet.render.hud import FrameRate, hud_line, lay_over, text_picture
from facet.render.views import Renderer
from facet.tracker.errors import RenderError
from facet.tracker.types import FaceTrack

if TYPE_CHECKING:
    import moderngl

    from facet.render.gl.renderer import GlRenderer  # moderngl loads only where it draws

SCREEN_SHARE = 0.8  # a window opens no larger than this part of the screen
DEFAULT_SIZE_WH = (960, 540)
NOTE_S = 2.0  # how long a note is shown
NO_DISPLAY = (
    "expected a display to open a window on, found none; write a file with -o OUT, or --log PATH without a window"
)
NO_FRAME = "expected a frame before the snapshot, found none shown yet"
CV_KEYS = {27: "esc", 32: "space"}


def open_window(title: str, renderer: Renderer, help_lines: Sequence[str], mirror: bool = False) -> Window:
    """Open a window that a renderer draws into.

    Parameters
    ----------
    title : of the window
    renderer : a GL renderer moves into the window's own context and ends with the window
    help_lines : keys and what they do, shown by `toggle_help`
    mirror : show the picture as a mirror does; text stays legible

    Returns
    -------
    Window, a context manager

    Raises
    ------
    RenderError
        Where there is no display, or no library that can open a window on it.
    """
    if hasattr(renderer, "move_to"):
        try:
            return GlWindow(title, cast("GlRenderer", renderer), help_lines, mirror)
        except WindowUnavailable:
            pass  # GL without a window system that glfw knows: OpenCV may know it
    return CvWindow(title, renderer, help_lines, mirror)


class WindowUnavailable(RenderError):
    """glfw cannot open a window here."""


class Window:
    """What both kinds of window have in common.

    Attributes
    ----------
    status : a line of text that is shown until it is changed, as "paused"; "" for none
    """

    def __init__(self, renderer: Renderer, help_lines: Sequence[str], mirror: bool):
        self._renderer = renderer
        self._help_lines = tuple(help_lines)
        self._mirror = mirror
        self._with_help = False
        self._rate = FrameRate()
        self._line = self.status = self._note = ""
        self._note_end_s = 0.0
        self._shown: tuple[np.ndarray, tuple[FaceTrack, ...]] | None = None
        self._text: tuple[tuple[tuple[str, ...], float], np.ndarray] | None = None

    def show(
        self,
        image: np.ndarray,
        tracks: Sequence[FaceTrack],
        latency_ms: float | None = None,
        picture: np.ndarray | None = None,
    ) -> None:
        """Draw a frame.

        Parameters
        ----------
        image : (H, W, 3) uint8, BGR
        tracks : its faces
        latency_ms : shown as text; left out where None
        picture : what the renderer has just drawn of it, where it has
        """
        self._rate.tick()
        self._shown = image, tuple(tracks)
        self._line = hud_line(self._rate.fps, latency_ms, len(tracks))
        if not self.closed:
            self._redraw(*self._shown, picture)

    def show_again(self, changed: Callable[[np.ndarray, tuple[FaceTrack, ...]], np.ndarray]) -> None:
        """Draw the last frame again with the image that `changed` makes of it and its faces."""
        if self._shown is not None:
            self._shown = changed(*self._shown), self._shown[1]
            self.redraw()

    def redraw(self) -> None:
        """Draw the last frame again, with the views that are on now."""
        if self._shown is not None and not self.closed:
            self._redraw(*self._shown)

    def note(self, text: str) -> None:
        """Show a line of text for two seconds."""
        self._note, self._note_end_s = text, time.monotonic() + NOTE_S
        self.redraw()

    def toggle_help(self) -> None:
        """Show or hide the list of keys."""
        self._with_help = not self._with_help
        self.redraw()

    def snapshot(self) -> np.ndarray:
        """The picture as shown, mirrored where the window is, without text: (H, W, 3) uint8, BGR.

        Raises
        ------
        RenderError
            Before the first frame.
        """
        if self._shown is None:
            raise RenderError(NO_FRAME)
        picture = self._picture()
        return np.ascontiguousarray(picture[:, ::-1]) if self._mirror else picture

    def _words(self, scale: float) -> np.ndarray:
        """HUD and help as a picture, made anew only when they change."""
        note = self._note if time.monotonic() < self._note_end_s else ""
        lines = tuple(line for line in (self._line, self.status, note) if line)
        if self._with_help:
            lines += ("", *self._help_lines)
        key = lines, scale
        if self._text is None or self._text[0] != key:
            self._text = key, text_picture(lines, scale)
        return self._text[1]

    @property
    def closed(self) -> bool:
        """Whether the user has closed the window."""
        raise NotImplementedError

    def keys(self) -> list[str]:
        """Keys pressed since the last call: characters in lower case, "space", "esc"."""
        raise NotImplementedError

    def _redraw(self, image: np.ndarray, tracks: Sequence[FaceTrack], picture: np.ndarray | None = None) -> None:
        raise NotImplementedError

    def _picture(self) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        """Close the window; it may be called twice."""
        raise NotImplementedError

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *error) -> None:
        self.close()


class GlWindow(Window):
    """A glfw window that the GL renderer draws into."""

    _renderer: GlRenderer

    def __init__(self, title: str, renderer: GlRenderer, help_lines: Sequence[str], mirror: bool):
        super().__init__(renderer, help_lines, mirror)
        self._glfw = glfw = _glfw()
        glfw.window_hint(glfw.CONTEXT_VERSION_MAJOR, 3)
        glfw.window_hint(glfw.CONTEXT_VERSION_MINOR, 3)
        glfw.window_hint(glfw.OPENGL_PROFILE, glfw.OPENGL_CORE_PROFILE)
        glfw.window_hint(glfw.OPENGL_FORWARD_COMPAT, True)
        glfw.window_hint(glfw.VISIBLE, False)
        glfw.window_hint(glfw.SCALE_TO_MONITOR, False)
        renderer.close()  # first: a thread cannot have two APIs' contexts
        self._window = glfw.create_window(*DEFAULT_SIZE_WH, title, None, None)
        if not self._window:
            glfw.terminate()
            renderer.move_to(make_context())
            raise WindowUnavailable("expected a window with OpenGL 3.3, found that glfw cannot make one")
        glfw.make_context_current(self._window)
        glfw.swap_interval(0)  # the camera sets the pace
        self._keys: list[str] = []
        glfw.set_char_callback(self._window, self._on_char)
        glfw.set_key_callback(self._window, self._on_key)
        from facet.render.gl.renderer import load_program

        context = make_context(in_window=True)
        renderer.move_to(context)
        self._program = load_program(context, "screen")
        self._quad = context.vertex_array(self._program, [])
        self._text_texture: moderngl.Texture | None = None
        self._text_uploaded: np.ndarray | None = None
        self._visible = False

    @property
    def closed(self) -> bool:
        return self._window is None or bool(self._glfw.window_should_close(self._window))

    def keys(self) -> list[str]:
        if self._window is not None:
            self._glfw.poll_events()
        pressed, self._keys = self._keys, []
        return pressed

    def _on_char(self, window, codepoint: int) -> None:
        character = chr(codepoint)
        self._keys.append("space" if character == " " else character.lower())

    def _on_key(self, window, key: int, scancode: int, action: int, modifiers: int) -> None:
        if key == self._glfw.KEY_ESCAPE and action == self._glfw.PRESS:
            self._keys.append("esc")

    def _redraw(self, image: np.ndarray, tracks: Sequence[FaceTrack], picture: np.ndarray | None = None) -> None:
        if not self._visible:
            self._open_at(image.shape[1], image.shape[0])
        if picture is None:  # else it is still in the renderer's texture
            self._renderer.show(image, tracks)
        self._present()
        self._glfw.poll_events()

    def _open_at(self, width: int, height: int) -> None:
        """Show the window, as large as the picture where the screen has room."""
        glfw = self._glfw
        monitor = glfw.get_primary_monitor()
        if monitor:
            _, _, room_w, room_h = glfw.get_monitor_workarea(monitor)
            share = min(1.0, SCREEN_SHARE * room_w / width, SCREEN_SHARE * room_h / height)
            width, height = max(round(share * width), 1), max(round(share * height), 1)
        glfw.set_window_size(self._window, max(width, 160), max(height, 90))
        glfw.show_window(self._window)
        self._visible = True

    def _present(self) -> None:
        """Put the renderer's picture on the screen, letterboxed, and the words over it."""
        context, picture = self._renderer.context, self._renderer.picture
        import moderngl

        room_w, room_h = self._glfw.get_framebuffer_size(self._window)
        if room_w < 1 or room_h < 1:  # minimised
            return
        share = min(room_w / picture.width, room_h / picture.height)
        width, height = max(round(share * picture.width), 1), max(round(share * picture.height), 1)
        x, y = (room_w - width) // 2, (room_h - height) // 2
        screen = context.screen
        screen.use()
        screen.clear(viewport=(0, 0, room_w, room_h))
        context.viewport = (x, y, width, height)
        context.disable(moderngl.BLEND | moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        picture.use(0)
        self._program["mirror"].value = self._mirror
        self._quad.render(moderngl.TRIANGLES, vertices=3)
        scale = max(self._glfw.get_window_content_scale(self._window)[0], 0.5) * (1.0 if room_h < 1200 else 1.5)
        words = self._words(scale)
        if self._text_texture is None or words is not self._text_uploaded:
            if self._text_texture is not None:
                self._text_texture.release()
            self._text_texture = context.texture((words.shape[1], words.shape[0]), 4, words.tobytes())
            self._text_texture.filter = (moderngl.NEAREST, moderngl.NEAREST)
            self._text_uploaded = words
        context.viewport = (x, y + height - words.shape[0], words.shape[1], words.shape[0])
        context.enable(moderngl.BLEND)
        context.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        self._text_texture.use(0)
        self._program["mirror"].value = False
        self._quad.render(moderngl.TRIANGLES, vertices=3)
        self._glfw.swap_buffers(self._window)

    def _picture(self) -> np.ndarray:
        return self._renderer.read()

    def close(self) -> None:
        if self._window is not None:
            self._renderer.close()
            self._glfw.destroy_window(self._window)
            self._glfw.terminate()
            self._window = None


def _glfw():
    """glfw, ready to open windows."""
    try:
        import glfw
    except ImportError as error:  # its library is missing
        raise WindowUnavailable(f"expected glfw, found that it cannot be loaded ({error})") from error
    glfw.ERROR_REPORTING = "ignore"  # it would warn on stderr; we look at what it returns
    if not glfw.init():
        raise WindowUnavailable("expected a display, found none that glfw can open")
    return glfw


def _check_display() -> None:
    """Raise where X or Wayland does not answer: Qt inside OpenCV would end the process."""
    if not sys.platform.startswith("linux"):
        return
    try:
        import glfw
    except ImportError:
        return
    glfw.ERROR_REPORTING = "ignore"
    if not glfw.init():
        raise RenderError(NO_DISPLAY)
    glfw.terminate()


class CvWindow(Window):
    """An OpenCV window, for the CPU renderer and where glfw has none."""

    def __init__(self, title: str, renderer: Renderer, help_lines: Sequence[str], mirror: bool):
        super().__init__(renderer, help_lines, mirror)
        self._title = title
        self._keys: list[str] = []
        self._open = False
        self._last: np.ndarray | None = None
        if re.search(r"GUI:\s*NONE", cv2.getBuildInformation()):
            raise RenderError(
                "expected an OpenCV with windows, found a headless build; pip install opencv-python, or use "
                "--renderer gl, or write a file with -o OUT"
            )
        _check_display()
        # Qt, which Linux builds of OpenCV use, would print about its fonts
        os.environ.setdefault("QT_LOGGING_RULES", "*=false")
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise RenderError(NO_DISPLAY) from error
        self._open = True
        self._sized = False

    @property
    def closed(self) -> bool:
        if not self._open:
            return True
        try:
            return self._sized and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:
            return True

    def keys(self) -> list[str]:
        if not self.closed:
            self._poll()
        pressed, self._keys = self._keys, []
        return pressed

    def _poll(self) -> None:
        while (code := cv2.waitKey(1)) >= 0:
            code &= 0xFF
            if code in CV_KEYS or 32 < code < 127:
                self._keys.append(CV_KEYS.get(code) or chr(code).lower())

    def _redraw(self, image: np.ndarray, tracks: Sequence[FaceTrack], picture: np.ndarray | None = None) -> None:
        self._last = self._renderer.draw(image, tracks) if picture is None else picture
        picture = np.ascontiguousarray(self._last[:, ::-1]) if self._mirror else self._last.copy()
        height, width = picture.shape[:2]
        lay_over(picture, self._words(float(np.clip(height / 720, 0.6, 3.0))))
        if not self._sized:
            share = min(1.0, 1280 / width, 800 / height)
            cv2.resizeWindow(self._title, max(round(share * width), 160), max(round(share * height), 90))
        cv2.imshow(self._title, picture)
        self._poll()
        self._sized = True

    def _picture(self) -> np.ndarray:
        if self._last is None:
            raise RenderError(NO_FRAME)
        return self._last.copy()

    def close(self) -> None:
        if self._open:
            self._open = False
            try:
                cv2.destroyWindow(self._title)
                cv2.waitKey(1)
            except cv2.error:
                pass  # the user was first
