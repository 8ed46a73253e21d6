"""The page of `--serve`: of a run, or of a log that was made before."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from facet.checks import check_outputs
from facet.render.geometry import geometry_of
from facet.render.sinks.viewer.address import Address, listen, parse_address
from facet.render.sinks.viewer.replay import ENDING, Replay
from facet.render.sinks.viewer.server import Viewer
from facet.session import Output, Session
from facet.settings import AppConfig
from facet.tracker.arkit import ArkitBlendshapes
from facet.tracker.errors import ConfigError
from facet.tracker.morphable import load_face_model
from facet.tracker.outputs.record_log import RecordLog
from facet.tracker.tokens import config_folder, read_token, write_token
from facet.tracker.weights import find_entry

Say = Callable[[str], None]
TOKEN_BYTES = 16


def page_of(
    session: Session,
    args: argparse.Namespace,
    listener: socket.socket,
    log: RecordLog | None,
    parts: contextlib.ExitStack,
    say: Say,
    report: Say,
) -> Output:
    """Serve the page of a run; frames go to it as to any other output."""
    tracker, renderer = session.tracker, session.renderer
    geometry = geometry_of(tracker.mesh_model) if renderer is None else renderer.geometry
    logs = {args.log.name: lambda: log.written} if log and args.log.suffix == ENDING else {}
    viewer = Viewer(
        listener,
        parse_address(args.serve),
        token_of(parse_address(args.serve)),
        geometry,
        tracker.blendshape_names,
        name=session.source.name,
        mirror=args.webcam is not None and not args.no_mirror,
        stages=session.stages,
        controls=session.controls,
        logs=logs,
        notify=report,
    )
    parts.enter_context(viewer)
    session.hearers.append(viewer.note)
    say(f"viewer: {viewer.url}")
    return Output(viewer.write, lambda: viewer.wants_image)


def serve_log(args: argparse.Namespace, config: AppConfig, say: Say, report: Say) -> None:
    """Serve the page of a log and its video until a signal comes.

    Raises
    ------
    FaceTrackError
        Where the log cannot be read, or the page not be served.
    """
    check_outputs(args)
    others = {"-o": args.output, "--log": args.log, "--export": args.export, "--send": args.send}
    for option, value in others.items():
        if value:
            raise ConfigError(f"{option}: a log is shown in the page alone, {args.file} is one; leave {option} out")
    address, path = parse_address(args.serve), Path(args.file)
    with listen(address) as listener:
        model = load_face_model(find_entry(config.regressor.mesh, "face_model").path)
        geometry = geometry_of(model)
        Replay(path, geometry)  # a file that is no log is reported at once
        names = ArkitBlendshapes(model.expression_names).names
        logs = {path.name: lambda: path}
        with Viewer(listener, address, token_of(address), geometry, names, logs=logs, notify=report) as viewer:
            link = "&" if "?" in viewer.url else "?"
            say(f"viewer: {viewer.url}{link}replay={quote(path.name)}")
            threading.Event().wait()


def token_of(address: Address) -> str:
    """The token that the page's URL must hold where other machines reach it; the same in every run, so that a page
    that was open connects again."""
    if address.local:
        return ""
    path = config_folder() / "serve.token"
    token = read_token(path)
    if not token:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        write_token(path, token)
    return token
