"""Which renderer draws: GL, the CPU, or the faster of the two on this machine."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import Geometry, geometry_of
from facet.render.sample import sample_face
from facet.render.views import VIEWS, Renderer
from facet.tracker.errors import RenderError, SinkError
from facet.tracker.files import discard, make_partial

__all__ = ["VIEWS", "Renderer", "open_renderer"]

KEPT_DAYS = 30  # a measurement is made anew after that
RUNS = 5
SIZE_WH = (1280, 720)
FACE_PX = 300.0


def open_renderer(choice: str, model, views: Sequence[str]) -> Renderer:
    """Open a renderer for a face model.

    Parameters
    ----------
    choice : "gl", "cpu", or "auto" for the faster of the two here, which is measured once and kept
    model : face model, see `geometry_of`
    views : names of VIEWS, drawn in this order

    Returns
    -------
    Renderer, a context manager; its `name` says what draws and why

    Raises
    ------
    RenderError
        For an unknown choice or view, and where "gl" cannot be had; "auto" then takes the CPU.
    """
    geometry = geometry_of(model)
    if choice == "cpu":
        return CpuRenderer(geometry, views)
    if choice == "gl":
        return _open_gl(geometry, views)
    if choice == "auto":
        return _open_faster(geometry, views)
    raise RenderError(f"expected renderer auto, gl or cpu; found {choice}")


def _open_gl(geometry: Geometry, views: Sequence[str]) -> Renderer:
    from facet.render.gl.context import make_context, release_context

    context = make_context()
    try:
        from facet.render.gl.renderer import GlRenderer

        return GlRenderer(geometry, views, context)
    except RenderError:
        release_context(context)
        raise
    except Exception as error:  # shaders that a driver does not like
        release_context(context)
        raise RenderError(f"expected a working OpenGL 3.3, found: {error}; use --renderer cpu") from error


def _open_faster(geometry: Geometry, views: Sequence[str]) -> Renderer:
    cpu = CpuRenderer(geometry, views)
    key = _machine()
    known: dict | None = _load_choice(cache_file(), key)
    # a context takes a fifth of a second: not for an answer that is known to be the CPU
    if known is not None and known["gl_ms"] is None:
        return cpu
    if known is not None and known["cpu_ms"] <= known["gl_ms"]:
        cpu.name = _say("cpu", known)
        return cpu
    try:
        gl = _open_gl(geometry, views)
    except RenderError:
        _keep_choice(cache_file(), {"machine": key, "gl": "", "cpu_ms": None, "gl_ms": None})
        return cpu
    if known is None or known["gl"] != gl.name:
        known = {"machine": key, "gl": gl.name, "cpu_ms": measure_ms(cpu), "gl_ms": measure_ms(gl)}
        _keep_choice(cache_file(), known)
    if known["cpu_ms"] <= known["gl_ms"]:
        gl.close()
        cpu.name = _say("cpu", known)
        return cpu
    gl.name = _say(gl.name, known)
    return gl


def _say(name: str, known: dict) -> str:
    other = f"{known['gl']} {known['gl_ms']:.1f} ms" if name == "cpu" else f"cpu {known['cpu_ms']:.1f} ms"
    mine = known["cpu_ms"] if name == "cpu" else known["gl_ms"]
    return f"{name}, the faster here: {mine:.1f} ms a frame, {other}"


def measure_ms(renderer: Renderer) -> float:
    """Median time to draw the mesh of a face of 300 px into a 720p picture."""
    views = renderer.views
    renderer.set_views(("mesh",))
    image = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    track = sample_face(renderer.geometry, SIZE_WH, FACE_PX)
    if not renderer.needs_vertices:
        track = replace(track, vertices=None)  # as the tracker then hands it over
    times_ms = []
    try:
        for _ in range(RUNS + 1):
            start_s = time.perf_counter()
            renderer.draw(image, (track,))
            times_ms.append(1e3 * (time.perf_counter() - start_s))
    finally:
        renderer.set_views(views)
    return float(np.median(times_ms[1:]))


def _machine() -> str:
    """What the measurement depends on, as far as it is known without a context."""
    nodes = sorted(os.listdir("/dev/dri")) if os.path.isdir("/dev/dri") else []
    nodes += sorted(name for name in os.listdir("/dev") if name.startswith("nvidia")) if os.path.isdir("/dev") else []
    drivers = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith(("LIBGL_", "MESA_", "GALLIUM_", "__"))]
    return " ".join([platform.node(), platform.machine(), sys.platform, str(os.cpu_count()), *nodes, *drivers])


def cache_file() -> Path | None:
    """Where the choice is kept, by the platform's custom; None where the user has no home."""
    try:
        if sys.platform == "win32":
            base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # HOME is not set, and the system does not know the user
        return None
    return Path(base) / "facet" / "renderer.json"


def _load_choice(path: Path | None, machine: str) -> dict | None:
    """The kept measurement of this machine; None where there is none that can be read and is young enough."""
    if path is None:
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        age_days = (date.today() - date.fromisoformat(known["date"])).days
        for name in ("cpu_ms", "gl_ms"):
            known[name] = None if known["gl"] == "" else float(known[name])
        return known if known["machine"] == machine and 0 <= age_days < KEPT_DAYS else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _keep_choice(path: Path | None, known: dict) -> None:
    """Keep a measurement; a folder that cannot be written is no reason to fail."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = make_partial(path)
        try:
            partial.write_text(json.dumps({**known, "date": date.today().isoformat()}), encoding="utf-8")
            os.replace(partial, path)
        finally:
            discard(partial)
    except (OSError, SinkError):
        pass
