"""facet: real-time 3D face tracking. Command line: options -> config -> parts -> run()."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # what nobody catches when Ctrl-C comes at a bad moment, as while the next module loads
    sys.excepthook = lambda kind, *rest: os._exit(130) if kind is KeyboardInterrupt else sys.__excepthook__(kind, *rest)
import signal

SET_UP = "run `make setup`, then .venv/bin/python app.py, or pip install -r requirements.txt"
# all end a run as Ctrl-C does
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
if __name__ == "__main__":
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # what the parent had ignored stays so
            signal.signal(number, lambda *_: os._exit(130))  # while the libraries load nothing is open yet
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"app.py: expected Python 3.11 or newer, found {sys.version.split()[0]}; {SET_UP}")

import argparse
import contextlib
import ctypes
import difflib
import gc
import importlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

STARTED_S = time.perf_counter()
# Before the libraries load. Our matrices are small: pools of threads that wait for each other only cost.
for pool in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(pool, "1")
# OpenCV's messages are not for the user, ours are.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
if __name__ == "__main__":
    # Where SciPy is installed numba loads it, for linear algebra that no kernel of ours has: a quarter of a second.
    sys.modules.setdefault("scipy", None)
    # Likewise cffi, a twentieth of a second; who reads an image by libvips takes this back.
    sys.modules.setdefault("cffi", None)
    # What loads now stays; looking for garbage in it meanwhile takes a twentieth of a second.
    gc.disable()
# glibc's ways to take less memory, where there is glibc
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
if __name__ == "__main__" and hasattr(LIBC, "mallopt"):
    LIBC.mallopt(-8, 1)  # M_ARENA_MAX: what one thread frees, another uses
if __name__ == "__main__":
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file would get its number, and messages of libraries with it
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")
    try:
        for package in ("facet.detect", "facet.render.sinks.video"):
            importlib.import_module(package)
    except ImportError as error:
        if type(error) is ImportError and (error.name or "").split(".")[0] == "facet":
            raise  # a mistake of ours
        reason = " ".join(str(error).split())
        sys.exit(f"app.py: this Python ({sys.executable}) does not load a package: {reason}; {SET_UP}")

from facet.detect import DetectorConfig, open_detector
from facet.render.renderer import VIEWS, open_renderer
from facet.render.sinks.image import ImageSink, check_size, depth_path, folder_targets, frame_targets, write_image
from facet.render.sinks.video import OutputConfig, open_video_sink
from facet.render.sinks.virtual_camera import VirtualCamera
from facet.render.sinks.window import open_window
from facet.tracker import __version__
from facet.tracker.config import load_config, to_toml
from facet.tracker.errors import ConfigError, FaceTrackError, RenderError, SinkError, SourceError, printable
from facet.tracker.files import check_targets, new_file, numbered_ends
from facet.tracker.kernels import load_kernels
from facet.tracker.loop import CameraConfig, FaceTracker, RegressorConfig
from facet.tracker.outputs.logs import LOGS, log_format, open_log
from facet.tracker.outputs.receiver import Sender
from facet.tracker.outputs.record import frame_record
from facet.tracker.outputs.record_log import RecordLog
from facet.tracker.runtime import RuntimeConfig
from facet.tracker.smoothing import SmoothingConfig
from facet.tracker.sources import Source, SourceConfig, list_cameras, open_source
from facet.tracker.sources.base import LOOK_S
from facet.tracker.sources.container import ends_early
from facet.tracker.sources.prefetch import prefetch
from facet.tracker.stages import Stages, format_table
from facet.tracker.tracks import TrackerConfig
from facet.tracker.types import FaceTrack, Frame

if TYPE_CHECKING:
    from facet.render.sinks.animation import AnimationExport
    from facet.render.sinks.export import MeshExport
from facet.tracker.weights import model_files

LARGE_FRAME_BYTES = 1 << 27
PATIENCE_S = 1.0  # a signal that comes so long after the first one says that the run does not end by itself
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
VIEW_KEYS = [f"{digit} {view}" for digit, view in enumerate(VIEWS, start=1)]
KEYS_HELP = (
    "q, Esc  quit",
    "space  pause and go on; next image",
    *("   ".join(VIEW_KEYS[start : start + 3]) for start in range(0, len(VIEW_KEYS), 3)),
    "s  snapshot",
    "r  detect again",
    "h  this help",
)
EXAMPLES = """examples:
  app.py --webcam                            live window; h lists its keys
  app.py -f video.mp4 -o out.mp4             a drawn video
  app.py -f video.mp4 --log faces.csv        data only
  app.py -f photos/ -o drawn/ --view mesh    every image of a folder
  app.py --webcam --send osc://127.0.0.1:39540
"""
COMPILING_S = 1.5  # kernels that are compiled load in a tenth of that
SENDING_S = 5.0  # after which a run says where datagrams go


@dataclass(frozen=True, slots=True)
class AppConfig:
    """All settings; each part owns its own."""

    source: SourceConfig = field(default_factory=SourceConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    regressor: RegressorConfig = field(default_factory=RegressorConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    output: OutputConfig = field(default_factory=OutputConfig)


@dataclass(slots=True)
class Outputs:
    """Where the frames and what was found in them go; None where nothing was asked for."""

    sink: object | None = None  # -o
    window: object | None = None
    camera: VirtualCamera | None = None
    senders: list[Sender] = field(default_factory=list)
    log: RecordLog | None = None
    export: MeshExport | AnimationExport | None = None

    @property
    def live(self) -> bool:
        """Whether somebody watches now: a file is then played as fast as it was filmed."""
        return bool(self.window or self.camera or self.senders)


class Summary:
    """What a run did, for its closing line."""

    def __init__(self):
        self.frames = 0
        self.with_face = 0
        self.ids: set[tuple[str, int]] = set()
        self.started_s = time.perf_counter()
        self.first_face_s: float | None = None  # since the program began
        self.delays = Stages()  # of live frames, capture to picture out

    def add(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None:
        self.frames += 1
        if faces and self.first_face_s is None:
            self.first_face_s = time.perf_counter() - STARTED_S
        if frame.captured_s is not None:
            now_ns = time.perf_counter_ns()
            self.delays.add("delay", now_ns - round(1e9 * (time.monotonic() - frame.captured_s)), now_ns)
        self.with_face += bool(faces)
        self.ids.update((frame.source, face.id) for face in faces)

    def text(self, output: Path | None, unit: str) -> str:
        seconds = time.perf_counter() - self.started_s
        what = f"{self.frames or 'no'} {unit}{'s' * (self.frames > 1)}"
        found = f"{len(self.ids)} face{'s' * (len(self.ids) != 1)}, in {self.with_face}" if self.ids else "no face"
        where = f" -> {output}" if output else ""
        return f"{what}: {found}; {seconds:.1f} s, {self.frames / max(seconds, 1e-9):.1f} fps{where}"


class Progress:
    """A progress line on a terminal, at most ten times a second."""

    def __init__(self, total: int | None, enabled: bool):
        self._total, self._enabled, self._last_s, self._start_s = total, enabled, 0.0, time.perf_counter()

    def __call__(self, done: int) -> None:
        now_s = time.perf_counter()
        if not self._enabled or now_s - self._last_s < 0.1:
            return
        self._last_s = now_s
        of = ""
        if self._total:
            filled = min(24, 24 * done // self._total)
            of = f"/{self._total} [{'#' * filled}{'.' * (24 - filled)}]"
        print(f"\r{done}{of} {done / (now_s - self._start_s):.0f} fps ", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._enabled and self._last_s:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Notices:
    """Lines on stderr, each once: faces are left out; where datagrams go."""

    def __init__(self, tracker: FaceTracker, max_faces: int, senders: list[Sender], progress: Progress, enabled: bool):
        self._tracker, self._max_faces, self._senders = tracker, max_faces, list(senders)
        self._progress, self._enabled = progress, enabled
        self._more_faces, self._start_s = False, time.monotonic()

    def __call__(self) -> None:
        if self._tracker.left_out and not self._more_faces:
            self._more_faces = True
            self._print(f"more faces were detected than are tracked (at most {self._max_faces}); --faces N allows more")
        if self._senders and time.monotonic() - self._start_s > SENDING_S:
            for sender in self._senders:
                self._print(sender.status)
            self._senders = []

    def _print(self, line: str) -> None:
        if self._enabled:
            self._progress.close()
            report(line)


def run(source: Source, tracker: FaceTracker, renderer, out: Outputs, stages, progress, notices, summary, sync: bool):
    """The whole of facet: every frame is read, tracked, drawn, shown, sent, written and recorded."""
    pace = EvenDelay() if sync else Pace(source, enabled=out.live and not source.live and not source.still)
    in_place = source.still and not (out.window or out.export)  # nobody else needs the image as it was
    with frames_of(source) as frames:
        for frame, faces in tracked(frames, tracker, stages):
            if out.sink or out.camera:
                with stages("draw"):
                    picture = renderer.draw(frame.image, faces, in_place)
            if out.sink:
                with stages("write"):
                    depth = renderer.depth_map() if source.still and "depth" in renderer.views else None
                    out.sink.write(picture, frame, *([] if depth is None else [depth]))
            if out.live:
                pace.wait(frame)
            for sender in out.senders:
                with stages("write"):
                    sender.send(frame, faces)
            if out.camera:
                with stages("write"):
                    out.camera.show(picture)
            if out.window:
                with stages("draw"):
                    out.window.show(frame.image, faces, latency_ms(frame, tracker, stages))
            if out.log:
                out.log.write(frame_record(frame, faces))
            if out.export:
                out.export.write(frame, faces)
            summary.add(frame, faces)
            progress(summary.frames)
            notices()
            if out.export and out.export.done and not (out.sink or out.live or out.log):
                break
            if out.window and not handle_keys(out.window, tracker, renderer, source, frame):
                break
            frame = picture = depth = None  # a large image is freed before the next one is read


def is_large(frame: Frame) -> bool:
    """Whether a frame takes so much memory that the next one is read when it is done with."""
    return frame.image.size > LARGE_FRAME_BYTES


@contextlib.contextmanager
def frames_of(source: Source):
    """The frames of a source, read ahead in a thread unless it has one, which closing it stops even when it blocks."""
    if source.reads_ahead:
        yield iter(source)
    else:
        with prefetch(source, stopped=lambda: source.stopped, is_large=is_large) as frames:
            yield frames


def tracked(frames, tracker: FaceTracker, stages: Stages):
    """Each frame with its faces, in order; with a lookahead they come some frames later."""
    begin_ns = time.perf_counter_ns()
    while (frame := next_frame(frames, stages)) is not None:
        start_ns = time.perf_counter_ns()
        done = tracker.push(frame)
        stages.add("step_detect" if tracker.detected else "step", start_ns, time.perf_counter_ns())
        yield from done
        frame = done = None
        end_ns = time.perf_counter_ns()
        stages.add("frame", begin_ns, end_ns)
        begin_ns = end_ns
    yield from tracker.flush()


def next_frame(frames, stages: Stages) -> Frame | None:
    """The next frame, or None at the end; the wait for it counts as reading."""
    with stages("read"):
        return next(frames, None)


class Pace:
    """Shows a file to who watches as fast as it was filmed, not as fast as it can be tracked."""

    def __init__(self, source: Source, enabled: bool):
        self._source, self._enabled = source, enabled
        self._ahead_s: float | None = None  # clock minus the time of the frame that is on time

    def wait(self, frame: Frame) -> None:
        if not self._enabled:
            return
        late_s = time.perf_counter() - frame.time_s
        # after a pause, or where tracking is too slow, time goes on from here
        if self._ahead_s is None or late_s - self._ahead_s > 0.1:
            self._ahead_s = late_s
        due_s = frame.time_s + self._ahead_s
        while (left_s := due_s - time.perf_counter()) > 0 and not self._source.stopped:
            time.sleep(min(left_s, LOOK_S))


class EvenDelay:
    """Shows live frames, each with its own faces, at one delay after their capture, so that motion is even.

    The delay is what 95 % of the last frames needed; a later frame is shown at once.
    """

    def __init__(self, frames: int = 90, clock=time.monotonic, sleep=time.sleep):
        self._needed_s: deque[float] = deque(maxlen=frames)
        self._clock, self._sleep = clock, sleep

    def wait(self, frame: Frame) -> None:
        needed_s = self._clock() - frame.captured_s
        self._needed_s.append(needed_s)
        delay_s = sorted(self._needed_s)[int(0.95 * (len(self._needed_s) - 1))]
        self._sleep(max(0.0, delay_s - needed_s))


def latency_ms(frame: Frame, tracker: FaceTracker, stages: Stages) -> float:
    """Time until a frame is shown: of a live one from its capture, of a file's from its decoding, without the pacing.

    Its drawing is about to begin and counts as that of the frame before.
    """
    if frame.captured_s is not None:
        until_now_ms = 1000 * (time.monotonic() - frame.captured_s)
    else:
        until_now_ms = stages.last_ms("step_detect" if tracker.detected else "step")
    return until_now_ms + stages.last_ms("draw")


def handle_keys(window, tracker: FaceTracker, renderer, source: Source, frame: Frame) -> bool:
    """Do what the keys say; False to quit. A pause, which each image begins with, lasts until space is pressed."""
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
                take_snapshot(window, frame)
            elif key.isdigit() and 0 < int(key) <= len(VIEWS):
                toggle_view(VIEWS[int(key) - 1], tracker, renderer)
        if window.closed or source.stopped:
            return False
        window.status = ("space: next image" if source.still else "paused, space: go on") if paused else ""
        if not paused:
            return True
        window.redraw()
        time.sleep(0.02)


def toggle_view(view: str, tracker: FaceTracker, renderer) -> None:
    """A view on or off; one that the face model cannot show is told of."""
    views = renderer.views
    try:
        renderer.set_views(tuple(v for v in views if v != view) if view in views else (*views, view))
    except RenderError as error:
        report(error)
    tracker.with_vertices = renderer.needs_vertices


def take_snapshot(window, frame: Frame) -> None:
    """Save what the window shows and say so there; a failure is no reason to stop the session."""
    try:
        window.note(f"saved {save_snapshot(window.snapshot(), frame)}")
    except SinkError as error:
        window.note("the snapshot could not be written")
        report(f"snapshot: {error}")


def save_snapshot(picture, frame: Frame) -> Path:
    """Write what the window shows to a new file in the working folder; returns its path."""
    stem = f"facet-{time.strftime('%Y%m%d-%H%M%S')}-{frame.index}"
    for end in numbered_ends():
        path = Path(f"{stem}{end}.png")
        with contextlib.suppress(FileExistsError):
            write_image(path, picture, replace=False)
            return path


def path_option(text: str) -> Path:
    """A path that was given; an empty one comes of a shell variable that was not set."""
    if not text:
        raise argparse.ArgumentTypeError("expected a name, found an empty one")
    return Path(text)


def whole_number(text: str) -> int:
    """The value of an option that counts, within what libraries can hold."""
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or abs(number) > 1e9:
        raise argparse.ArgumentTypeError(f"expected a whole number of at most 1e9, found {text[:40]!r}")
    return number


def seconds(text: str) -> float:
    """The value of an option that is a time."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected seconds, found {text!r}") from error


class OptionParser(argparse.ArgumentParser):
    """Reports a wrong option in one line, without the list of all options."""

    def error(self, message: str):
        report(message)
        sys.exit(2)

    def unknown(self, word: str):
        """Report an argument that is no option, or no known one."""
        if not word.startswith("-"):
            self.error(f"{word}: expected an option; to read a file, name it after -f: app.py -f {word}")
        known = [name for action in self._actions for name in action.option_strings]
        near = difflib.get_close_matches(word.partition("=")[0], known, n=1, cutoff=0.7)
        self.error(f"{word}: no such option; {f'did you mean {near[0]}?' if near else '--help lists all'}")


def epilog() -> str:
    """The end of the help, for which alone all schemes of `--send` are loaded."""
    from facet.tracker.outputs.senders import scheme_table

    return "\n  ".join([f"{EXAMPLES}\nschemes of --send, with their usual ports:", *scheme_table()])


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Options as DESIGN fixes them."""
    parser = OptionParser(
        prog="app.py",
        usage="app.py -f SOURCE [options]\n       app.py --webcam [N] [options]",
        description="Real-time 3D face tracking: a video, images, a stream or a webcam in; drawn frames and data out.",
        epilog=epilog() if {"-h", "--help"} & set(sys.argv[1:] if argv is None else argv) else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"facet {__version__}")
    source = parser.add_argument_group("input: -f or --webcam")
    source.add_argument(
        "-f",
        "--file",
        metavar="SOURCE",
        help="video, image, folder or glob of images, URL (http, rtsp), or '-' for raw BGR frames on stdin",
    )
    source.add_argument("--webcam", nargs="?", const=0, type=whole_number, metavar="N", help="camera N, default 0")
    source.add_argument("--list-cameras", action="store_true", help="list the cameras and exit")
    source.add_argument("--no-mirror", action="store_true", help="show the webcam as it is, not as a mirror")
    source.add_argument("--start", type=seconds, default=0.0, metavar="S", help="skip the first S seconds")
    source.add_argument("--max-frames", type=whole_number, metavar="N", help="stop after N frames")
    source.add_argument("--faces", type=whole_number, metavar="N", help="track at most N faces, default 4")
    output = parser.add_argument_group("output: a window, where none of -o, --log, --export, --send is given")
    output.add_argument(
        "-o",
        "--output",
        type=path_option,
        metavar="OUT",
        help="drawn frames: a .mp4, .mkv or .mov with the sound, a .jpg or .png, or a folder for many images",
    )
    output.add_argument(
        "--view", default="mesh,axes", metavar="LIST", help=f"default mesh,axes; of {', '.join(VIEWS)}, or none"
    )
    output.add_argument(
        "--renderer", choices=("auto", "gl", "cpu"), default="auto", help="default auto: the faster one on this machine"
    )
    output.add_argument(
        "--log", type=path_option, metavar="PATH", help=f"data of every frame: {', '.join(LOGS)}"
    )
    output.add_argument(
        "--export",
        type=path_option,
        metavar="DIR",
        help="meshes of every face, .obj, .ply and .glb; of a video an animated .glb a face, or with --at one frame",
    )
    output.add_argument("--at", type=whole_number, metavar="N", help="with --export: one frame of a video, from 0")
    output.add_argument(
        "--send",
        action="append",
        default=[],
        metavar="URL",
        help="faces to another program, by one of the schemes below; may be repeated",
    )
    output.add_argument("--virtual-camera", action="store_true", help="drawn frames as a camera for other programs")
    output.add_argument("--sync", action="store_true", help="live input: show all frames with the same delay")
    output.add_argument("--no-window", action="store_true", help="show no window")
    output.add_argument(
        "--profile", nargs="?", const="", metavar="PATH", help="print latencies by stage; .json: write a Chrome trace"
    )
    output.add_argument("--quiet", action="store_true", help="print errors only")
    config = parser.add_argument_group("settings")
    config.add_argument(
        "--config", type=path_option, metavar="PATH", help="TOML file with settings that replace the defaults"
    )
    config.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="one setting; may be repeated"
    )
    config.add_argument("--print-config", action="store_true", help="print all settings with their meaning and exit")
    args, rest = parser.parse_known_args(argv)
    if rest:
        parser.unknown(rest[0])
    if args.faces is not None:
        args.set.append(f"tracker.max_faces={args.faces}")
    if not (args.list_cameras or args.print_config):
        if args.file is None and args.webcam is None:
            parser.error("expected an input: -f SOURCE, for example app.py -f video.mp4 -o out.mp4, or --webcam")
        if args.file is not None and args.webcam is not None:
            parser.error("expected one input, found -f and --webcam; leave one of them out")
        if args.webcam is not None and args.webcam < 0:
            parser.error(f"--webcam must be at least 0, got {args.webcam}; --list-cameras lists those found")
        if args.faces is not None and args.faces < 1:
            parser.error(f"--faces must be at least 1, got {args.faces}")
        if args.max_frames is not None and args.max_frames < 1:
            parser.error(f"--max-frames must be at least 1, got {args.max_frames}")
        if args.at is not None and args.export is None:
            parser.error("--at names the frame that --export DIR writes, found no --export; add it")
        if args.at is not None and not 0 <= args.at < (args.max_frames or args.at + 1):
            parser.error(f"--at must be at least 0 and below --max-frames, got {args.at}")
        if not 0 <= args.start <= 1e9:
            parser.error(f"--start must be at least 0 and at most 1e9, got {args.start}")
    return args


def parse_views(text: str) -> tuple[str, ...]:
    """The views of `--view`, in order; "none" is none."""
    views = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in views:
        if name not in (*VIEWS, "none"):
            raise ConfigError(f"--view {text}: unknown view {name}; known: {', '.join(VIEWS)}, none")
    return tuple(name for name in dict.fromkeys(views) if name != "none")


def check_outputs(args: argparse.Namespace) -> None:
    """Wrong endings and addresses are told before anything is opened."""
    if args.send:
        from facet.tracker.outputs.senders import parse_receiver

        for url in args.send:
            parse_receiver(url)
    if args.log:
        log_format(args.log)
    if args.profile and not args.profile.lower().endswith(".json"):
        raise ConfigError(f"--profile {args.profile}: expected a name that ends in .json")
    if args.output and args.output.suffix and not args.output.is_dir():
        if args.output.suffix.lower() not in VIDEO_SUFFIXES + IMAGE_SUFFIXES:
            videos, images = ", ".join(VIDEO_SUFFIXES), ", ".join(IMAGE_SUFFIXES)
            raise ConfigError(f"-o {args.output}: expected a name that ends in {videos}, {images}, or a folder")


def check_files(args: argparse.Namespace, config: AppConfig, source: Source, views: tuple[str, ...]) -> None:
    """Refuse outputs that would replace an input or a file that the user did not name, before anything is written."""
    named = {option: Path(path) for option, path in (("--log", args.log), ("--profile", args.profile)) if path}
    unnamed: list[Path] = []
    sources, with_depth = source.files or (source.name,), source.still and "depth" in views
    if args.output and args.output.suffix and not args.output.is_dir():
        named["-o"] = args.output
        if len(source.files) > 1 and args.max_frames != 1:
            raise ConfigError(f"-o {args.output}: expected a folder for {len(source.files)} images, found a file name")
        if with_depth:
            named["-o, depth map"] = depth_path(args.output)
    elif args.output and source.still:
        unnamed += folder_targets(args.output, sources, with_depth)
    elif args.output:
        unnamed += frame_targets(args.output, source.name)
    if args.export:
        from facet.render.sinks.export import export_targets

        unnamed += export_targets(args.export, sources, args.at)
    inputs = input_files(args.file, source, config)
    check_targets(named, unnamed, [*inputs, args.config] if args.config else inputs)


def input_files(spec: str | None, source: Source, config: AppConfig) -> list[Path | str | int]:
    """The files that a run reads, those of the networks among them; 0 for stdin."""
    models = (config.detector.weights, config.regressor.weights, config.regressor.mesh)
    files = [*source.files, *(path for name in models for path in model_files(name))]
    return files if spec is None else [0 if spec == "-" else spec, *files]


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
            size_wh=source.size_wh,
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


def open_export(folder: Path, tracker: FaceTracker, at: int | None, moving: bool) -> MeshExport | AnimationExport:
    """The meshes of `--export`; what writes them is loaded when they are asked for."""
    from facet.render.geometry import geometry_of
    from facet.render.sinks.animation import AnimationExport
    from facet.render.sinks.export import MeshExport

    geometry = geometry_of(tracker.mesh_model)
    return AnimationExport(folder, geometry) if moving else MeshExport(folder, geometry, at)


def build_tracker(config: AppConfig, stages: Stages, live: bool):
    """The tracker with the networks and face models that the settings name."""
    detector = open_detector(config.detector, config.runtime)
    return FaceTracker.open(
        detector,
        regressor=config.regressor,
        config=config.tracker,
        smoothing=config.smoothing,
        camera=config.camera,
        runtime=config.runtime,
        stages=stages,
        live=live,
    )


def load_kernels_patiently(watched: bool) -> None:
    """Load the kernels; where that takes long, they are being compiled, and who watches is told."""
    message = "compiling the kernels, about ten seconds, only in the first run"
    notice = threading.Timer(COMPILING_S, report, [message])
    notice.daemon = True
    if watched:
        notice.start()
    try:
        load_kernels()
    except FaceTrackError:
        pass  # reported where the tracker needs what failed
    finally:
        notice.cancel()


def track(args: argparse.Namespace, config: AppConfig) -> int:
    """Open the parts, run, close them; returns the exit status."""
    views = parse_views(args.view)
    check_outputs(args)
    if args.file == "-" and not (config.source.size and config.source.fps):
        raise ConfigError("-f -: raw frames need their size and rate: --set source.size=1280x720 --set source.fps=30")
    wants_window = not args.no_window and (not (args.output or args.export) or args.webcam is not None)
    others = args.output or args.log or args.export or args.send or args.virtual_camera or args.profile is not None
    needs_window = wants_window and not others
    if wants_window and not has_display():
        if needs_window:
            raise RenderError("no display to show a window on; write a file with -o OUT or --log PATH")
        wants_window = False
    stages = Stages(keep_events=bool(args.profile))
    say = (lambda text: None) if args.quiet else tell
    # numba sets itself up, for a seventh of a second, while the files below open
    watched = on_terminal() and not args.quiet
    threading.Thread(target=load_kernels_patiently, args=(watched,), name="facet-kernels", daemon=True).start()
    with contextlib.ExitStack() as parts:
        spec = args.webcam if args.webcam is not None else args.file
        limits = {"start_s": args.start, "max_frames": args.max_frames}
        source = parts.enter_context(open_source(spec, config.source, **limits, notify=report))
        if args.at is not None and source.still:
            raise ConfigError(f"--at {args.at}: only for a video; of images every face is exported, leave --at out")
        if args.sync and not source.live:
            raise ConfigError(f"--sync: expected a camera or a live stream, found {source.name}; leave --sync out")
        if source.still and (args.send or args.virtual_camera):
            option = "--send" if args.send else "--virtual-camera"
            raise ConfigError(f"{option}: expected a video or a camera, found images")
        check_files(args, config, source, views)
        senders = [parts.enter_context(sender) for sender in senders_of(args.send)]
        tracker = parts.enter_context(contextlib.closing(build_tracker(config, stages, source.live)))
        out, renderer = Outputs(senders=senders), None
        if args.output or args.virtual_camera or wants_window:
            # an image may be larger than what GL draws
            choice = "cpu" if args.renderer == "auto" and source.still else args.renderer
            renderer = parts.enter_context(open_renderer(choice, tracker.mesh_model, views))
            tracker.with_vertices = renderer.needs_vertices
        if args.output:
            out.sink = parts.enter_context(open_sink(args.output, source, config.output, config.source.stall_s))
        if args.virtual_camera:
            out.camera = parts.enter_context(VirtualCamera(source.size_wh, source.fps))
            say(f"virtual camera: {out.camera.name}")
        if wants_window:
            mirror, title = args.webcam is not None and not args.no_mirror, printable(f"facet - {source.name}")
            try:
                out.window = parts.enter_context(open_window(title, renderer, KEYS_HELP, mirror))
            except RenderError:  # a display that is named and does not answer
                if needs_window:
                    raise
        if args.log:
            out.log = parts.enter_context(open_log(args.log, tracker.blendshape_names))
        if args.export:
            moving = not source.still and args.at is None
            export = open_export(args.export, tracker, args.at, moving)
            out.export = parts.enter_context(contextlib.closing(export))
        drawn = f"; renderer: {renderer.name}" if renderer else ""
        say(f"networks: {tracker.provider}, {config.runtime.threads} thread(s){drawn}")
        progress = Progress(source.frame_count_hint, enabled=on_terminal() and not args.quiet and not out.window)
        parts.callback(progress.close)
        notices = Notices(tracker, config.tracker.max_faces, senders, progress, enabled=not args.quiet)
        summary = Summary()
        # all that is there stays: searching it for garbage would hold up a frame by many ms
        gc.freeze()
        gc.enable()
        if hasattr(LIBC, "malloc_trim"):
            LIBC.malloc_trim(0)  # what loading took and gave back
        try:
            with signals_stop(source):
                run(source, tracker, renderer, out, stages, progress, notices, summary, args.sync)
        finally:
            with uninterrupted():  # an output that was interrupted is finished all the same
                parts.__exit__(*sys.exc_info())  # parts learn what went wrong, which `close` would not pass on
            say(summary.text(args.output, "image" if source.still else "frame"))
            for sender in senders:
                if sender.trouble:
                    report(sender.trouble)
            if args.profile is not None:
                report_profile(stages, summary, source, args.profile, say)
    for line in source.notes:
        report(line)
    for line in source.skipped:
        write_line(f"skipped: {line}", sys.stderr)
    if source.kind == "video" and source.exhausted and ends_early(source.name):
        report(f"{source.name}: the file ends early; {summary.frames} frames of it are left")
    if out.export and not out.export.heads:
        done = out.export.done
        absent = f": there is no frame {args.at}, the last is {summary.frames - 1}"
        where = "" if args.at is None else f" in frame {args.at}" if done else absent
        raise SinkError(f"--export {args.export}: found no face{where}")
    unheard = any(sender.dropped and not sender.sent for sender in senders)
    return 1 if source.skipped or unheard else 0


def on_terminal() -> bool:
    """Whether somebody may read stderr while it runs."""
    return sys.stderr is not None and sys.stderr.isatty()


def tell(text: str) -> None:
    """Print one line."""
    write_line(text, sys.stdout)


def report(trouble: object) -> None:
    """Print one line about what went wrong."""
    write_line(f"app.py: {trouble}", sys.stderr)


def write_line(text: str, stream) -> None:
    """Write one line; that nobody reads it is no reason to stop, and a name in it controls no terminal."""
    with contextlib.suppress(OSError):
        if stream is not None:  # closed from the start, as by pythonw
            text, encoding = printable(text), getattr(stream, "encoding", None) or "utf-8"
            print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


@contextlib.contextmanager
def handled_by(handler, *numbers: int):
    """Meanwhile `handler` gets these signals, but for those that the parent had ignored."""
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        for number in numbers:
            signal.signal(number, handler)
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)


def uninterrupted():
    """Ctrl-C, pressed once more, has no effect meanwhile; a disk that hangs is left by the other signals."""
    return handled_by(signal.SIG_IGN, signal.SIGINT)


@contextlib.contextmanager
def signals_stop(source: Source):
    """Ctrl-C stops the source; KeyboardInterrupt follows when the frame under way is done.

    Raised wherever the program happens to be, it would now and then leave the lock of a queue held for ever. Only
    where the run does not end by itself does a later signal break in.
    """
    stopped_s = None

    def stop(*_):
        nonlocal stopped_s
        source.stop()
        now_s = time.monotonic()
        stopped_s = stopped_s or now_s
        if now_s - stopped_s > PATIENCE_S:
            raise KeyboardInterrupt

    with handled_by(stop, *SIGNALS):
        yield
    if stopped_s is not None:
        raise KeyboardInterrupt


def report_profile(stages: Stages, summary: Summary, source: Source, path: str, say) -> None:
    """Print the table of latencies and what a table cannot hold; write the Chrome trace where a path is given."""
    table = stages.summary()
    detections = table["detect"]["n"] if "detect" in table else 0
    session = {
        "start_up_s": summary.first_face_s,
        "detector_share": detections / max(1, summary.frames),
        "dropped_frames": source.dropped,
        "delay": summary.delays.summary().get("delay"),
    }
    for line in format_table(table).splitlines():
        say(line)
    if summary.first_face_s is not None:
        say(f"start-up: {summary.first_face_s:.2f} s to the first face")
    say(f"detector: in {detections} of {summary.frames} frames ({100 * session['detector_share']:.1f} %)")
    if source.live:
        say(f"dropped: {source.dropped} frames")
    if delay := session["delay"]:
        times = ", ".join(f"{name} {delay[f'{name}_ms']:.1f}" for name in ("p50", "p95", "p99", "max"))
        say(f"delay, capture to picture out: {times} ms")
    if path:
        with new_file(path) as partial:
            partial.write_text(json.dumps(stages.chrome_trace(session)), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """The program; returns the exit status."""
    args = parse_args(argv)
    try:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
        config = load_config(AppConfig, args.config, args.set)
        if args.print_config:
            print(to_toml(config), end="", flush=True)
            return 0
        if args.list_cameras:
            cameras = list_cameras()
            if not cameras:
                raise SourceError("no camera was found; plug one in")
            for camera in cameras:
                print(printable(str(camera)), flush=True)
            return 0
        return track(args, config)
    except ConfigError as error:
        report(error)
        return 2
    except FaceTrackError as error:
        report(error)
        return 1
    except OSError as error:  # stdout on a full disk
        report(f"{error.filename or 'stdout'}: {error.strerror or error}")
        return 1
    except MemoryError:
        report("the memory is full; track a smaller image or fewer at once")
        return 1
    except KeyboardInterrupt:
        ignore_signals()  # once more they would spoil the last words
        write_line("interrupted", sys.stderr)
        return 130


def ignore_signals() -> None:
    """For the last steps, which nothing may break off."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave(status: int) -> None:
    """End the process. All is closed; taking numba and its compiler apart would cost a sixth of a second."""
    ignore_signals()
    with contextlib.suppress(OSError, AttributeError):  # a reader that left, or none from the start
        sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
