"""The parts of a run, opened as options and settings ask."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from facet.checks import IMAGE_SUFFIXES, VIDEO_SUFFIXES, check_files, check_outputs
from facet.detect import open_detector
from facet.keys import KEYS_HELP, handle_keys
from facet.live import add_changes
from facet.options import parse_views
from facet.pacing import EvenDelay, Pace, latency_ms
from facet.render.renderer import Renderer, open_renderer
from facet.render.sinks.image import ImageSink, check_size
from facet.render.sinks.video import OutputConfig, open_video_sink
from facet.render.sinks.virtual_camera import VirtualCamera
from facet.render.sinks.window import Window, open_window
from facet.session import Output, Session
from facet.settings import AppConfig
from facet.tracker.controls import Controls
from facet.tracker.errors import ConfigError, RenderError, printable
from facet.tracker.loop import FaceTracker
from facet.tracker.outputs.logs import open_log
from facet.tracker.outputs.receiver import Sender
from facet.tracker.outputs.record import frame_record
from facet.tracker.sources import Source, open_source
from facet.tracker.stages import Stages
from facet.tracker.weights import find_entry

if TYPE_CHECKING:
    from facet.render.sinks.animation import AnimationExport
    from facet.render.sinks.export import MeshExport

Say = Callable[[str], None]


def open_session(
    args: argparse.Namespace, config: AppConfig, parts: contextlib.ExitStack, say: Say, report: Say
) -> Session:
    """Open all that a run needs.

    Parameters
    ----------
    args, config : options and settings
    parts : closes what was opened
    say, report : take a line of information, and one about something wrong

    Raises
    ------
    FaceTrackError
        Where a part cannot be opened; ConfigError where an option is wrong.
    """
    views = parse_views(args.view)
    check_outputs(args)
    wants_window, needs_window = window_wanted(args)
    spec = args.webcam if args.webcam is not None else args.file
    limits = {"start_s": args.start, "max_frames": args.max_frames}
    source = parts.enter_context(open_source(spec, config.source, **limits, notify=report))
    check_source(args, source)
    check_files(args, config, source, views)
    listener = open_listener(args, parts)
    senders = [parts.enter_context(sender) for sender in senders_of(args.send)]
    stages = Stages(keep_events=bool(args.profile))
    tracker = parts.enter_context(contextlib.closing(build_tracker(config, stages, source.live)))
    session = Session(source, tracker, stages, senders=senders)
    outputs = session.outputs
    renderer: Renderer | None = None
    if args.output or args.virtual_camera or args.serve or wants_window:
        # an image may be larger than what GL draws
        choice = "cpu" if args.renderer == "auto" and source.still else args.renderer
        session.renderer = renderer = parts.enter_context(open_renderer(choice, tracker.mesh_model, ()))
        renderer.avatar = config.avatar
        renderer.set_views(views)
        tracker.with_vertices = renderer.needs_vertices
        if renderer.needs_light:
            tracker.estimate_light()
    if args.output and renderer is not None:
        sink = parts.enter_context(open_sink(args.output, source, config.output, config.source.stall_s))
        outputs.append(picture_file(sink, renderer, source.still))
    camera: VirtualCamera | None = None
    if args.virtual_camera:
        camera = parts.enter_context(VirtualCamera(frame_size(source), source.fps))
        say(f"virtual camera: {camera.name}")
    window: Window | None = None
    if wants_window and renderer is not None:
        mirror, title = args.webcam is not None and not args.no_mirror, printable(f"facet - {source.name}")
        try:
            window = session.window = parts.enter_context(open_window(title, renderer, KEYS_HELP, mirror))
        except RenderError:  # a display that is named and does not answer
            if needs_window:
                raise
    watched = bool(window or camera or senders or args.serve)
    if args.sync or (watched and not source.live and not source.still):
        pace = EvenDelay() if args.sync else Pace(source)
        outputs.append(Output(lambda frame, faces, picture: pace.wait(frame), stage=None))
    controls = add_changes(session, args, config, views, parts, say)
    outputs += [to_sender(sender, controls) for sender in senders]
    if camera:
        outputs.append(picture_in_camera(camera))
    if window is not None and renderer is not None:
        outputs.append(picture_in_window(window, session))
        session.goes_on.append(
            lambda frame: handle_keys(window, tracker, renderer, source, frame, report, controls, session.privacy)
        )
    log = None
    if args.log:
        log = parts.enter_context(open_log(args.log, tracker.blendshape_names))
        outputs.append(Output(lambda frame, faces, picture: log.write(frame_record(frame, faces)), stage=None))
    if listener:
        from facet.serving import page_of

        outputs.append(page_of(session, args, listener, log, parts, say, report))
    if args.export:
        moving = not source.still and args.at is None
        albedo = config.export.skin == "albedo"
        if albedo and moving:
            raise ConfigError("export.skin=albedo: expected images, or --at N for a video, found neither")
        if albedo:
            tracker.estimate_light()
        export = open_export(args.export, tracker, args.at, moving, config, report)
        parts.enter_context(contextlib.closing(export))
        session.export = export
        outputs.append(Output(lambda frame, faces, picture: export.write(frame, faces), stage=None))
        if not (args.output or args.log or watched):
            session.goes_on.append(lambda frame: not export.done)
    session.draw_in_place = source.still and not (session.window or session.export)
    return session


def to_sender(sender: Sender, controls: Controls) -> Output:
    """Faces to another program, unless sending is paused."""

    def send(frame, faces, picture):
        if controls.sending:
            sender.send(frame, faces)

    return Output(send)


def picture_file(sink, renderer: Renderer, still: bool) -> Output:
    """Drawn frames to a file; of images the depth maps, too, where that view is on."""

    def write(frame, faces, picture):
        depth = renderer.depth_map() if still and "depth" in renderer.views else None
        sink.write(picture, frame, *([] if depth is None else [depth]))

    return Output(write, lambda: True)


def picture_in_camera(camera: VirtualCamera) -> Output:
    """Drawn frames to the programs that opened a camera."""

    def show(frame, faces, picture):
        camera.show(picture)

    return Output(show, lambda: True)


def picture_in_window(window: Window, session: Session) -> Output:
    """Drawn frames on the screen; a window draws them itself where nothing else needs them."""

    def show(frame, faces, picture):
        late_ms = latency_ms(frame, session.tracker, session.stages)
        window.show(frame.image, faces, late_ms, picture)

    return Output(show, stage="draw")


def window_wanted(args: argparse.Namespace) -> tuple[bool, bool]:
    """Whether a window is to open where one can, and whether the run is in vain without one.

    Raises
    ------
    RenderError
        Where it is in vain, and there is no display.
    """
    wanted = not (args.no_window or args.serve) and (not (args.output or args.export) or args.webcam is not None)
    others = args.output or args.log or args.export or args.send or args.virtual_camera or args.profile is not None
    if wanted and not has_display():
        if not others:
            raise RenderError("no display to show a window on; write a file with -o OUT or --log PATH")
        wanted = False
    return wanted, wanted and not others


def check_source(args: argparse.Namespace, source: Source) -> None:
    """Refuse options that this kind of source cannot serve."""
    if args.at is not None and source.still:
        raise ConfigError(f"--at {args.at}: only for a video; of images every face is exported, leave --at out")
    if args.sync and not source.live:
        raise ConfigError(f"--sync: expected a camera or a live stream, found {source.name}; leave --sync out")
    if source.still and (args.send or args.virtual_camera or args.serve):
        option = "--send" if args.send else "--virtual-camera" if args.virtual_camera else "--serve"
        raise ConfigError(f"{option}: expected a video or a camera, found images")


def frame_size(source: Source) -> tuple[int, int]:
    """Width and height of all frames, px; ConfigError for images, whose sizes differ."""
    if source.size_wh is None:
        raise ConfigError(f"{source.name}: expected a video or a camera, found images")
    return source.size_wh


def open_listener(args: argparse.Namespace, parts: contextlib.ExitStack):
    """The socket of `--serve`, or None: that a port is taken is reported before anything is loaded or written."""
    if not args.serve:
        return None
    from facet.render.sinks.viewer.address import listen, parse_address

    listener = listen(parse_address(args.serve))
    parts.callback(listener.close)
    return listener


def has_display() -> bool:
    """Whether a window can be expected to open here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_sink(path: Path, source: Source, config: OutputConfig, timeout_s: float):
    """The file, or folder of files, that pictures of this source go to."""
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        if source.still:
            raise ConfigError(f"-o {path}: expected a .jpg, a .png or a folder for images, found a name of a video")
        return open_video_sink(
            path,
            size_wh=frame_size(source),
            fps=source.fps,
            source_path=source.address if source.kind == "video" else None,
            read_to_end=lambda: source.exhausted,
            config=config,
            timeout_s=timeout_s,
        )
    if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        if source.still and (source.frame_count_hint or 1) > 1:
            raise ConfigError(f"-o {path}: expected a folder for {source.frame_count_hint} images, found one file")
        if not source.still and source.frame_count_hint != 1:
            raise ConfigError(
                f"-o {path}: expected a .mp4, .mkv, .mov or a folder for the frames of a video; for one frame add "
                "--max-frames 1, and --start S"
            )
    if source.size_wh and not path.is_dir():
        check_size(path, source.size_wh)
    return ImageSink(path, numbered=not source.still)


def senders_of(urls: list[str]) -> Iterator[Sender]:
    """The senders of `--send`; they are loaded when one is asked for."""
    if urls:
        from facet.tracker.outputs.senders import open_sender

        for url in urls:
            yield open_sender(url)


def open_export(
    folder: Path, tracker: FaceTracker, at: int | None, moving: bool, config: AppConfig, report: Say
) -> MeshExport | AnimationExport:
    """The meshes of `--export`; what writes them is loaded when they are asked for."""
    from facet.render.geometry import geometry_of
    from facet.render.sinks.animation import AnimationExport
    from facet.render.sinks.export import MeshExport

    geometry = geometry_of(tracker.mesh_model)
    if moving:
        if config.export.volume:
            raise ConfigError("export.volume: expected images, or one frame of a video; add --at N")
        return AnimationExport(folder, geometry)
    volumes = None
    if config.export.volume:
        from facet.tracker.volume import VolumeNet

        volumes = VolumeNet.open(find_entry(config.export.weights, "volume"), config.runtime)
    return MeshExport(folder, geometry, at, config.export.skin == "albedo", report, volumes)


def build_tracker(config: AppConfig, stages: Stages, live: bool):
    """The tracker with the networks and face models that the settings name."""
    detector = open_detector(config.detector, config.runtime)
    return FaceTracker.open(
        detector,
        regressor=config.regressor,
        config=config.tracker,
        smoothing=config.smoothing,
        camera=config.camera,
        blendshapes=config.blendshapes,
        lighting=config.lighting,
        runtime=config.runtime,
        stages=stages,
        live=live,
    )
