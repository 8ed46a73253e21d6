"""A recording that the page starts and stops: a log, and an animated head a face, in a folder of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from facet.render.geometry import Geometry
from facet.render.sinks.animation import AnimationExport
from facet.tracker.errors import FaceTrackError, SinkError
from facet.tracker.files import numbered_ends
from facet.tracker.outputs.logs import open_log
from facet.tracker.outputs.record import frame_record
from facet.tracker.types import FaceTrack, Frame

LOG_NAME = "log.jsonl"
WAITING = 16  # frames at most that wait for a slow disk; more are left out and counted
LOOK_S = 0.1  # how often a wait looks whether the recording has ended
CLOSE_S = 30.0  # the longest wait for its files at the end of a run


class Recording:
    """Writes frames to files in a thread of its own, so that a disk never holds up the tracker.

    Parameters
    ----------
    parent : folder in which that of the recording is made, under a name of date and time that is free
    geometry : of the face model that the tracker draws
    blendshapes : names in `FaceTrack.blendshapes`
    done : called in that thread when the files are complete

    Attributes
    ----------
    folder : of its files
    frames, dropped : how many were written, and how many came while too many waited
    trouble : one line: why nothing more is written; empty where nothing went wrong

    Raises
    ------
    SinkError
        Where the folder cannot be made.
    """

    def __init__(
        self, parent: Path, geometry: Geometry, blendshapes: tuple[str, ...], done: Callable[[Recording], None]
    ):
        self.folder = _new_folder(parent)
        self.frames, self.dropped, self.trouble = 0, 0, ""
        self._geometry, self._blendshapes, self._done = geometry, blendshapes, done
        self._waiting: queue.Queue[tuple[Frame, tuple[FaceTrack, ...]]] = queue.Queue(WAITING)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="facet-recording", daemon=True)
        self._thread.start()

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that are complete, the log first."""
        found = sorted(path for path in self.folder.iterdir() if path.suffix in (".jsonl", ".glb"))
        complete = [path for path in found if not path.name.startswith(".")]
        return tuple(sorted(complete, key=lambda path: path.name != LOG_NAME))

    def write(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None:
        """Add a frame; it waits for nothing."""
        if self.trouble or self._end.is_set():
            return
        try:
            self._waiting.put_nowait((frame, faces))
        except queue.Full:
            self.dropped += 1

    def stop(self) -> None:
        """Let it finish its files; `done` follows."""
        self._end.set()

    def join(self) -> None:
        """Stop, and wait for the files."""
        self.stop()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as files:
                log = files.enter_context(open_log(self.folder / LOG_NAME, self._blendshapes))
                heads = None
                if self._geometry.model is not None and len(self._geometry.triangles):
                    heads = files.enter_context(contextlib.closing(AnimationExport(self.folder, self._geometry)))
                while (next_one := self._next()) is not None:
                    frame, faces = next_one
                    log.write(frame_record(frame, faces))
                    if heads is not None:
                        heads.write(frame, faces)
                    self.frames += 1
        except FaceTrackError as error:
            self.trouble = str(error)
        self._done(self)

    def _next(self) -> tuple[Frame, tuple[FaceTrack, ...]] | None:
        """What waits longest, once it is there; None at the end."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._waiting.get(timeout=LOOK_S)
            if self._end.is_set() and self._waiting.empty():
                return None


def _new_folder(parent: Path) -> Path:
    """Make a folder named after the time."""
    stem = f"facet-{time.strftime('%Y%m%d-%H%M%S')}"
    ends = numbered_ends()
    while True:
        folder = parent / f"{stem}{next(ends)}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise SinkError(f"{folder}: cannot be made ({error.strerror or error})") from error
        return folder
