"""The one place that makes GL contexts: without a window here, for a window by glfw there."""

from __future__ import annotations

import sys

from facet.tracker.errors import RenderError

GL_VERSION = 330


def make_context(in_window: bool = False):
    """A GL 3.3 core context: without a display, or that of the window which glfw made current.

    Returns
    -------
    moderngl.Context

    Raises
    ------
    RenderError
        Where none can be made.
    """
    try:
        import moderngl

        if in_window:
            return moderngl.create_context(require=GL_VERSION)
        if not sys.platform.startswith("linux"):
            return moderngl.create_context(standalone=True, require=GL_VERSION)
        try:
            return moderngl.create_context(standalone=True, require=GL_VERSION, backend="egl")
        except Exception:
            # without the development files there are only the numbered names
            names = {"libgl": "libGL.so.1", "libegl": "libEGL.so.1"}
            return moderngl.create_context(standalone=True, require=GL_VERSION, backend="egl", **names)
    except Exception as error:  # a driver fails in whatever way it likes
        text = " ".join(str(error).split()) or type(error).__name__
        raise RenderError(f"expected OpenGL 3.3, found none ({text}); use --renderer cpu") from error


def release_context(context) -> None:
    """Give a context back and leave the thread without one: a window's, by another API, may follow."""
    with context:
        pass  # what leaves the block is no longer current
    context.release()


def gl_version(context) -> str:
    """Renderer and version as the driver reports them."""
    info = context.info
    return f"{info['GL_RENDERER']}, {info['GL_VERSION']}"
