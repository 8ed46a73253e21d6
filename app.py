"""facet: real-time 3D face tracking. Options -> settings -> session -> run; all that is printed is printed here."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # what nobody catches when Ctrl-C comes at a bad moment, as while the next module loads
    sys.excepthook = lambda kind, *rest: os._exit(130) if kind is KeyboardInterrupt else sys.__excepthook__(kind, *rest)
import signal

SET_UP = "run `make setup`, then .venv/bin/python app.py, or pip install -r requirements.txt"
if __name__ == "__main__":
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is not signal.SIG_IGN:  # what the parent had ignored stays so
            signal.signal(number, lambda *_: os._exit(130))  # while the libraries load nothing is open yet
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(f"app.py: expected Python 3.11 or newer, found {sys.version.split()[0]}; {SET_UP}")

import argparse
import contextlib
import threading
import time

try:
    from facet import startup

    startup.limit_threads()
    if __name__ == "__main__":
        startup.prepare_process()
    from facet.assembly import open_session
    from facet.interrupts import ignore_signals, raise_at_signals, signals_stop, uninterrupted
    from facet.options import parse_args
    from facet.profile import profile_lines, write_trace
    from facet.session import Session, run
    from facet.settings import AppConfig
    from facet.tracker.config import load_config, to_toml
    from facet.tracker.errors import ConfigError, FaceTrackError, SinkError, SourceError, printable
    from facet.tracker.kernels import load_kernels
    from facet.tracker.outputs.receiver import Sender
    from facet.tracker.sources import list_cameras
    from facet.tracker.sources.container import ends_early
except ImportError as error:
    if __name__ != "__main__" or (type(error) is ImportError and (error.name or "").split(".")[0] == "facet"):
        raise  # a mistake of ours
    reason = " ".join(str(error).split())
    sys.exit(f"app.py: this Python ({sys.executable}) does not load a package: {reason}; {SET_UP}")

COMPILING_S = 1.5  # kernels that are compiled load in a tenth of that
SENDING_S = 5.0  # after which a run says where datagrams go


class Progress:
    """A progress bar on a terminal, at most ten times a second."""

    def __init__(self, total: int | None, enabled: bool):
        self._bar = None
        if enabled:
            from tqdm import tqdm  # takes a thirtieth of a second

            self._bar = tqdm(total=total, unit=" frames", mininterval=0.1, leave=False, dynamic_ncols=True)

    def step(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def report(self, line: str) -> None:
        """Report a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        report(line)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Notices:
    """Lines on stderr, each once: faces are left out; where datagrams go."""

    def __init__(self, tracker, max_faces: int, senders: list[Sender], print_line):
        self._tracker, self._max_faces, self._senders = tracker, max_faces, list(senders)
        self._print = print_line
        self._more_faces, self._start_s = False, time.monotonic()

    def __call__(self) -> None:
        if self._tracker.left_out and not self._more_faces:
            self._more_faces = True
            self._print(f"more faces were detected than are tracked (at most {self._max_faces}); --faces N allows more")
        if self._senders and time.monotonic() - self._start_s > SENDING_S:
            for sender in self._senders:
                self._print(sender.status)
            self._senders = []


def load_kernels_patiently(watched: bool, solving: bool = False) -> None:
    """Load the kernels; where that takes long, they are being compiled, and who watches gets a line about it."""
    notice = threading.Timer(COMPILING_S, report, ["compiling the kernels, about ten seconds, only in the first run"])
    notice.daemon = True
    if watched:
        notice.start()
    try:
        load_kernels(solving=solving)
    except FaceTrackError:
        pass  # reported where the tracker needs what failed
    finally:
        notice.cancel()


def track(args: argparse.Namespace, config: AppConfig) -> int:
    """Open the parts, run, close them; returns the exit status."""
    if args.file == "-" and not (config.source.size and config.source.fps):
        raise ConfigError("-f -: raw frames need their size and rate: --set source.size=1280x720 --set source.fps=30")
    say = (lambda text: None) if args.quiet else print_line
    watched = not args.quiet and sys.stderr is not None and sys.stderr.isatty()
    # numba sets itself up, for a seventh of a second, while the files open
    kernels = watched, bool(config.regressor.aligner)
    threading.Thread(target=load_kernels_patiently, args=kernels, name="facet-kernels", daemon=True).start()
    with contextlib.ExitStack() as parts:
        session = open_session(args, config, parts, say, report)
        source, tracker = session.source, session.tracker
        drawn = f"; renderer: {session.renderer.name}" if session.renderer else ""
        say(f"networks: {tracker.provider}, {config.runtime.threads} thread(s){drawn}")
        progress = Progress(source.frame_count_hint, enabled=watched and not session.window)
        parts.callback(progress.close)
        print_notice = (lambda line: None) if args.quiet else progress.report
        notices = Notices(tracker, config.tracker.max_faces, session.senders, print_notice)

        def after_frame() -> None:
            progress.step()
            notices()

        startup.settle_memory()
        try:
            with signals_stop(source):
                run(session, after_frame)
        finally:
            with uninterrupted():  # an output that was interrupted is finished all the same
                parts.__exit__(*sys.exc_info())  # parts learn what went wrong, which `close` would not pass on
            close_report(args, session, say)
    return final_report(args, session)


def close_report(args: argparse.Namespace, session: Session, say) -> None:
    """What is said however the run ended."""
    say(session.summary.text(args.output, "image" if session.source.still else "frame"))
    for sender in session.senders:
        if sender.trouble:
            report(sender.trouble)
    if args.profile is not None:
        for line in profile_lines(session):
            say(line)
        if args.profile:
            write_trace(session, args.profile)


def final_report(args: argparse.Namespace, session: Session) -> int:
    """What went wrong in a run that came to its end; returns the exit status."""
    source, frames = session.source, session.summary.frames
    for line in source.notes:
        report(line)
    for line in source.skipped:
        write_line(f"skipped: {line}", sys.stderr)
    if source.kind == "video" and source.exhausted and ends_early(source.name):
        report(f"{source.name}: the file ends early; {frames} frames of it are left")
    if session.export and not session.export.heads:
        absent = f": there is no frame {args.at}, the last is {frames - 1}"
        where = "" if args.at is None else f" in frame {args.at}" if session.export.done else absent
        raise SinkError(f"--export {args.export}: found no face{where}")
    unheard = any(sender.dropped and not sender.sent for sender in session.senders)
    return 1 if source.skipped or unheard else 0


def print_line(text: str) -> None:
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


def print_cameras() -> None:
    """List the cameras, one a line."""
    cameras = list_cameras()
    if not cameras:
        raise SourceError("no camera was found; plug one in")
    for camera in cameras:
        print(printable(str(camera)), flush=True)


def main(argv: list[str] | None = None) -> int:
    """The program; returns the exit status."""
    try:
        args = parse_args(argv)
        raise_at_signals()
        config = load_config(AppConfig, args.config, args.set)
        if args.print_config:
            print(to_toml(config), end="", flush=True)
        elif args.list_cameras:
            print_cameras()
        elif args.serve and args.file and args.file.lower().endswith(".jsonl"):
            from facet.serving import serve_log

            serve_log(args, config, (lambda text: None) if args.quiet else print_line, report)
        else:
            return track(args, config)
        return 0
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


def leave(status: int) -> None:
    """End the process. All is closed; taking numba and its compiler apart would cost a sixth of a second."""
    ignore_signals()
    with contextlib.suppress(OSError, AttributeError):  # a reader that left, or none from the start
        sys.stdout.flush()
    os._exit(status)


def command() -> None:
    """The command `facet` of an installed package."""
    leave(main())


if __name__ == "__main__":
    command()
