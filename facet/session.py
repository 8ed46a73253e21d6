"""One run: every frame is read, tracked, drawn once, and given to each output."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facet.render.privacy import Privacy
from facet.render.views import Renderer
from facet.startup import STARTED_S
from facet.tracker.controls import Controls
from facet.tracker.loop import FaceTracker
from facet.tracker.outputs.receiver import Sender
from facet.tracker.sources.base import Source
from facet.tracker.sources.prefetch import prefetch
from facet.tracker.stages import Stages
from facet.tracker.types import FaceTrack, Frame

if TYPE_CHECKING:
    from facet.render.sinks.animation import AnimationExport
    from facet.render.sinks.export import MeshExport
    from facet.render.sinks.window import Window

LARGE_FRAME_BYTES = 1 << 27
Faces = tuple[FaceTrack, ...]
Pairs = Iterator[tuple[Frame, Faces]]


@dataclass(frozen=True, slots=True)
class Output:
    """Where frames go: a file, a window, another program.

    Attributes
    ----------
    write : takes a frame, its faces, and the drawn picture, (H, W, 3) uint8 BGR, or None where nobody needs it
    needs_picture : whether it needs this frame drawn
    stage : under which its time counts in `--profile`; None for none
    """

    write: Callable[[Frame, Faces, np.ndarray | None], None]
    needs_picture: Callable[[], bool] = lambda: False
    stage: str | None = "write"


@dataclass(slots=True)
class Session:
    """The parts of a run.

    Attributes
    ----------
    renderer : None where nothing is drawn
    outputs : each gets every frame, in this order
    senders : those of `--send` among the outputs
    export : the meshes of `--export`, or None
    changes : what frames and faces pass through, in this order, before any output gets them
    privacy, controls : those of the changes that cover heads and obey live commands, or None
    hearers : get a line about what a command did, where no window shows it
    goes_on : called after every frame; False ends the run
    """

    source: Source
    tracker: FaceTracker
    stages: Stages
    renderer: Renderer | None = None
    outputs: list[Output] = field(default_factory=list)
    senders: list[Sender] = field(default_factory=list)
    window: Window | None = None
    export: MeshExport | AnimationExport | None = None
    draw_in_place: bool = False  # nobody needs the image as it was
    changes: list[Callable[[Pairs], Pairs]] = field(default_factory=list)
    privacy: Privacy | None = None
    controls: Controls | None = None
    hearers: list[Callable[[str], None]] = field(default_factory=list)
    goes_on: list[Callable[[Frame], bool]] = field(default_factory=list)
    summary: Summary = field(default_factory=lambda: Summary())


def run(session: Session, after_frame: Callable[[], None]) -> None:
    """The whole of facet. `after_frame` is called when a frame has reached every output."""
    stages, summary = session.stages, session.summary
    with frames_of(session.source) as frames:
        pairs = tracked(frames, session.tracker, stages)
        for change in session.changes:
            pairs = change(pairs)
        for frame, faces in pairs:
            picture = None
            if session.renderer is not None and any(output.needs_picture() for output in session.outputs):
                with stages("draw"):
                    picture = session.renderer.draw(frame.image, faces, session.draw_in_place)
            for output in session.outputs:
                with stages(output.stage) if output.stage else contextlib.nullcontext():
                    output.write(frame, faces, picture)
            summary.add(frame, faces)
            after_frame()
            if not all(goes_on(frame) for goes_on in session.goes_on):
                break
            frame = picture = None  # a large image is freed before the next one is read


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


class Summary:
    """What a run did, for its closing line."""

    def __init__(self):
        self.frames = 0
        self.with_face = 0
        self.ids: set[tuple[str, int]] = set()
        self.started_s = time.perf_counter()
        self.first_face_s: float | None = None  # since the program began
        self.delays = Stages()  # of live frames, capture to picture out

    def add(self, frame: Frame, faces: Faces) -> None:
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
