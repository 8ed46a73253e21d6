"""What the keys of the window do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from facet.render.privacy import Privacy
from facet.render.sinks.image import write_image
from facet.render.sinks.window import Window
from facet.render.views import VIEWS, Renderer
from facet.tracker.controls import COMMANDS, Controls
from facet.tracker.errors import RenderError, SinkError
from facet.tracker.files import numbered_ends
from facet.tracker.loop import FaceTracker
from facet.tracker.sources.base import Source
from facet.tracker.types import Frame

VIEW_KEYS = [f"{view.key} {name}" for name, view in VIEWS.items()]
VIEW_OF = {view.key: name for name, view in VIEWS.items()}
COMMAND_KEYS = [f"{command.key} {name}" for name, command in COMMANDS.items() if command.key]
COMMAND_OF = {command.key: name for name, command in COMMANDS.items() if command.key}
KEYS_HELP = (
    "q, Esc  quit",
    "space  pause and go on; next image",
    *("   ".join(VIEW_KEYS[start : start + 3]) for start in range(0, len(VIEW_KEYS), 3)),
    *("   ".join(COMMAND_KEYS[start : start + 3]) for start in range(0, len(COMMAND_KEYS), 3)),
    "s  snapshot",
    "r  detect again",
    "h  this help",
)


def handle_keys(
    window: Window,
    tracker: FaceTracker,
    renderer: Renderer,
    source: Source,
    frame: Frame,
    notify: Callable[[str], None] = lambda text: None,
    controls: Controls | None = None,
    privacy: Privacy | None = None,
) -> bool:
    """Do what the keys say; False to quit. A pause, which each image begins with, lasts until space is pressed.

    `notify` gets a line about a snapshot or a view that failed; `controls` get commands, `privacy` the views that are
    on.
    """
    paused = source.still
    while True:
        for key in window.keys():
            if key in ("q", "esc"):
                return False
            if key == "space":
                paused = not paused
            elif key == "r":
                tracker.redetect()
            elif key == "h":
                window.toggle_help()
            elif key == "s":
                take_snapshot(window, frame, notify)
            elif key in VIEW_OF:
                toggle_view(VIEW_OF[key], tracker, renderer, notify)
                if privacy is not None:
                    privacy.views = renderer.views
                    if paused:
                        window.show_again(lambda image, faces: privacy.again(replace(frame, image=image), faces).image)
            elif key in COMMAND_OF and controls is not None:
                controls.post(COMMAND_OF[key])
        if controls is not None:
            if paused:
                controls.drain()
            while controls.notes:
                window.note(controls.notes.popleft())
        if window.closed or source.stopped:
            return False
        window.status = ("space: next image" if source.still else "paused, space: go on") if paused else ""
        if not paused:
            return True
        window.redraw()
        time.sleep(0.02)


def toggle_view(view: str, tracker: FaceTracker, renderer: Renderer, notify: Callable[[str], None]) -> None:
    """Switch a view on or off; report one that the face model cannot show."""
    views = renderer.views
    try:
        renderer.set_views(tuple(v for v in views if v != view) if view in views else (*views, view))
    except RenderError as error:
        notify(str(error))
    tracker.with_vertices = renderer.needs_vertices
    if renderer.needs_light:
        tracker.estimate_light()


def take_snapshot(window: Window, frame: Frame, notify: Callable[[str], None]) -> None:
    """Save what the window shows and note it there; a failure is no reason to stop the session."""
    try:
        window.note(f"saved {save_snapshot(window.snapshot(), frame)}")
    except SinkError as error:
        window.note("the snapshot could not be written")
        notify(f"snapshot: {error}")


def save_snapshot(picture: np.ndarray, frame: Frame) -> Path:
    """Write what the window shows to a new file in the working folder; returns its path."""
    stem = f"facet-{time.strftime('%Y%m%d-%H%M%S')}-{frame.index}"
    ends = numbered_ends()
    while True:
        path = Path(f"{stem}{next(ends)}.png")
        with contextlib.suppress(FileExistsError):
            write_image(path, picture, replace=False)
            return path
