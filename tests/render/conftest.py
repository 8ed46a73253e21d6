"""Fixtures of the renderers' tests: a GL context with an error check before and after, an X server of our own."""

import atexit
import contextlib
import os
import shutil
import subprocess

import pytest

from facet.render.cpu.renderer import CpuRenderer
from facet.render.gl.context import make_context, release_context
from facet.tracker.errors import RenderError


@pytest.fixture(scope="session")
def gl_works() -> str:
    """Empty where a GL context can be had, else why not."""
    try:
        release_context(make_context())
    except RenderError as error:
        return str(error)
    return ""


@pytest.fixture
def open_gl(gl_works):
    """geometry, views -> GlRenderer; skips where there is no GL."""
    if gl_works:
        pytest.skip(gl_works)
    from facet.render.gl.renderer import GlRenderer

    opened = []

    def open_one(geometry, views):
        renderer = GlRenderer(geometry, views, make_context())
        assert renderer.context.error == "GL_NO_ERROR"
        opened.append(renderer)
        return renderer

    yield open_one
    for renderer in opened:
        with contextlib.suppress(RenderError):  # closed
            assert renderer.context.error == "GL_NO_ERROR"
        renderer.close()


@pytest.fixture(params=["cpu", pytest.param("gl", marks=pytest.mark.gl)])
def open_one(request):
    """geometry, views -> a renderer of each kind."""
    return request.getfixturevalue("open_gl") if request.param == "gl" else CpuRenderer


@pytest.fixture(scope="session")
def x_server_of_session(tmp_path_factory):
    """DISPLAY and the file of the screen of an X server of our own, or None.

    It lives until the interpreter ends: Qt, inside OpenCV, keeps its connection and ends the process when it breaks.
    """
    if not shutil.which("Xvfb"):
        return None
    folder = tmp_path_factory.mktemp("screen")
    read, write = os.pipe()
    # -r: a key that a slow machine holds for long is one key
    command = ["Xvfb", "-r", "-displayfd", str(write), "-screen", "0", "1000x700x24", "-noreset", "-fbdir", str(folder)]
    server = subprocess.Popen(command, pass_fds=(write,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    atexit.register(server.kill)
    os.close(write)
    with open(read) as answer:
        number = answer.readline().strip()
    return (f":{number}", folder / "Xvfb_screen0") if number else None


@pytest.fixture
def x_server(x_server_of_session, monkeypatch):
    """The file in which the X server keeps its screen; DISPLAY points to it."""
    if x_server_of_session is None:
        pytest.skip("no Xvfb")
    display, screen = x_server_of_session
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return screen
