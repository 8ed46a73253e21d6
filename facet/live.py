"""What changes frames and faces on their way from the tracker to every output: covered heads, live controls."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence

from facet.render.geometry import geometry_of
from facet.render.privacy import PRIVACY_VIEWS, Privacy
from facet.session import Pairs, Session
from facet.settings import AppConfig
from facet.tracker.calibration import Calibration, load_calibration
from facet.tracker.controls import Controls


def add_changes(
    session: Session,
    args: argparse.Namespace,
    config: AppConfig,
    views: Sequence[str],
    parts: contextlib.ExitStack,
    say: Callable[[str], None],
) -> Controls:
    """Let a session cover heads, where a view asks for it, and obey live controls, which are returned.

    `parts` closes what is opened; `say` gets lines about what controls did, where there is no window for them.

    Raises
    ------
    FaceTrackError
        Where nothing can listen at an address of `--control`.
    """
    tracker, renderer = session.tracker, session.renderer
    if renderer is not None or any(name in PRIVACY_VIEWS for name in views):
        geometry = geometry_of(tracker.mesh_model) if renderer is None else renderer.geometry
        session.privacy = Privacy(geometry, tracker.detect, views, config.privacy)
        session.changes.append(session.privacy)
        if renderer is not None:
            renderer.covers_heads = False  # that is done, and better, before
    calibration = load_calibration(args.calibration) if args.calibration else Calibration()
    controls = Controls(calibration, tracker.mesh_model, tracker.relearn_rest, args.calibration)
    session.controls = controls
    session.changes.append(lambda pairs: controlled(pairs, controls))
    if args.control:
        from facet.tracker.remote import open_remote

        for url in args.control:
            parts.enter_context(open_remote(url, controls))
    if session.window is None:
        session.hearers.append(say)
        session.goes_on.append(lambda frame: say_notes(session))
    return controls


def controlled(pairs: Pairs, controls: Controls) -> Pairs:
    """The frames of a session, each with its faces as they go out."""
    for frame, faces in pairs:
        yield frame, controls(faces, frame.time_s)
        frame = faces = None  # a large image is freed before the next one is read


def say_notes(session: Session) -> bool:
    """Pass on what commands did; True, as the session goes on."""
    controls = session.controls
    while controls is not None and controls.notes:
        note = controls.notes.popleft()
        for hear in session.hearers:
            hear(note)
    return True
