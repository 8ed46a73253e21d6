"""Live controls: named commands from keys, a page or other programs, and what they do to the faces.

    controls = Controls(calibration, tracker.mesh_model, tracker.relearn_rest)
    controls.post("centre")                          # from any thread; also post("shape", "jawOpen", "gain", 1.3)
    faces = controls(faces, frame.time_s)            # once a frame, in the loop, before every output
    if controls.sending: ...

Outputs get what `controls` returns, so that all of them show the same.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from facet.tracker.calibration import (
    Calibration,
    Centre,
    ShapeCalibration,
    ShapeTable,
    approached,
    centred,
    check_shape,
    save_calibration,
)
from facet.tracker.errors import ConfigError, SinkError
from facet.tracker.morphable import MorphableModel
from facet.tracker.types import FaceTrack

WAITING = 64  # commands at most; more in one frame come of a program that runs wild
LONGEST_STEP_S = 0.2  # what the centre follows after a face was gone does not count the gap
AUTO_CENTRE_S = 20.0  # where no file sets another
SHAPE_VALUES = tuple(field.name for field in fields(ShapeCalibration))
SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False, "toggle": None}


def _nothing(*values) -> tuple:
    if values:
        raise ValueError(f"no value, found {values[0]!r}")
    return ()


def _switch(*values) -> tuple[bool | None]:
    """Whether it is to be on; None, also without a value, for the other of both."""
    if not values:
        return (None,)
    text = str(int(values[0])) if isinstance(values[0], float) and values[0] in (0, 1) else str(values[0]).lower()
    if len(values) > 1 or text not in SWITCH:
        raise ValueError(f"on, off or toggle, found {' '.join(map(str, values))}")
    return (SWITCH[text],)


def _shape(*values) -> tuple[str, str, float]:
    """A blendshape, one of SHAPE_VALUES and its value."""
    if len(values) != 3 or values[1] not in SHAPE_VALUES:
        raise ValueError(f"a blendshape, one of {', '.join(SHAPE_VALUES)}, and a number; found {values}")
    check_shape(str(values[0]))
    try:
        return str(values[0]), str(values[1]), float(values[2])
    except (TypeError, ValueError) as error:
        raise ValueError(f"a number for {values[1]}, found {values[2]!r}") from error


class Controls:
    """What a user has set while a session runs.

    `post` may be called from any thread, all else from the thread of the loop.

    Parameters
    ----------
    calibration : to begin with
    model : face model of the meshes, which then move by calibrated weights; None leaves them as measured
    relearn_rest : called for the command "relearn"
    path : file that the command "save" writes; None where none was named

    Attributes
    ----------
    calibration : as it is now
    frozen, sending, auto_centre : whether faces stand still; whether senders send; whether the centre follows the face
    notes : lines about what commands did, newest last; who shows them takes them off
    """

    def __init__(
        self,
        calibration: Calibration = Calibration(),
        model: MorphableModel | None = None,
        relearn_rest: Callable[[], None] = lambda: None,
        path: Path | None = None,
    ):
        self._commands: queue.Queue[tuple[str, tuple]] = queue.Queue(WAITING)
        self._model, self._relearn_rest, self._path = model, relearn_rest, path
        self.frozen, self.sending, self.auto_centre = False, True, calibration.auto_centre_s > 0
        self.notes: deque[str] = deque(maxlen=8)
        self._faces: tuple[FaceTrack, ...] = ()  # as they were measured
        self._shown: tuple[FaceTrack, ...] = ()  # as they went out
        self._centres: dict[int, Centre] = {}  # by the face; others take that of the calibration
        self._seen_s: dict[int, float] = {}
        self._set(calibration)

    def post(self, name: str, *values) -> bool:
        """Have a command done before the next frame goes out.

        Parameters
        ----------
        name : one of COMMANDS
        values : what it takes: text, numbers, truth values

        Returns
        -------
        Whether there was room for it.

        Raises
        ------
        ConfigError
            For an unknown command or wrong values.
        """
        if name not in COMMANDS:
            raise ConfigError(f"unknown command {name}; known: {', '.join(COMMANDS)}")
        try:
            values = COMMANDS[name].parse(*values)
        except ValueError as error:
            raise ConfigError(f"{name}: expected {error}") from error
        try:
            self._commands.put_nowait((name, values))
        except queue.Full:
            return False
        return True

    def __call__(self, faces: tuple[FaceTrack, ...], time_s: float) -> tuple[FaceTrack, ...]:
        """Do what was posted, and return the faces of a frame as they go out.

        Parameters
        ----------
        faces : of the frame, as they were measured
        time_s : of the frame
        """
        self._faces = faces
        self.drain()
        if self.auto_centre:
            self._follow(faces, time_s)
        if not self.frozen:
            self._shown = tuple(self._applied(face) for face in faces) if self._changes else faces
        return self._shown

    def drain(self) -> None:
        """Do what was posted; for pauses, in which no frame follows."""
        while not self._commands.empty():
            name, values = self._commands.get_nowait()
            COMMANDS[name].run(self, *values)

    def state(self) -> dict:
        """What is set now, ready for JSON; may be called from any thread."""
        return {
            "frozen": self.frozen,
            "sending": self.sending,
            "auto_centre": self.auto_centre,
            "centred": bool(self._centres) or self.calibration.centre is not None,
            "shapes": {name: asdict(shape) for name, shape in self.calibration.shapes.items()},
        }

    @property
    def _changes(self) -> bool:
        return bool(self._shapes or self._centres or self.calibration.centre)

    def _set(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self._shapes = ShapeTable(calibration.shapes, self._model) if calibration.shapes else None

    def _applied(self, face: FaceTrack) -> FaceTrack:
        centre = self._centres.get(face.id, self.calibration.centre)
        if self._shapes is not None:
            face = self._shapes(face)
        return face if centre is None else centred(face, centre)

    def _follow(self, faces: tuple[FaceTrack, ...], time_s: float) -> None:
        """Move the centres of the faces that are there towards them."""
        for face in faces:
            start = self._centres.get(face.id, self.calibration.centre)
            if start is None:
                start = Centre.of(face.pose.rotation, face.translation_mm)
            step_s = min(max(time_s - self._seen_s.get(face.id, time_s), 0.0), LONGEST_STEP_S)
            share = step_s / (step_s + (self.calibration.auto_centre_s or AUTO_CENTRE_S))
            self._centres[face.id] = approached(start, face, share)
        self._seen_s = {face.id: time_s for face in faces}
        self._keep_centre()

    def _keep_centre(self) -> None:
        """Let a face that comes later begin with the centre of the first one that is here."""
        first = min((face.id for face in self._faces if face.id in self._centres), default=None)
        if first is not None:
            self._set(replace(self.calibration, centre=self._centres[first]))
            here = {face.id for face in self._faces}
            self._centres = {face: centre for face, centre in self._centres.items() if face in here}

    def _centre(self) -> None:
        if not self._faces:
            self.notes.append("no face to centre")
            return
        for face in self._faces:
            self._centres[face.id] = Centre.of(face.pose.rotation, face.translation_mm)
        self._keep_centre()
        self.notes.append("centred")

    def _uncentre(self) -> None:
        self._centres = {}
        self._set(replace(self.calibration, centre=None))
        self.auto_centre = False
        self.notes.append("no centre")

    def _relearn(self) -> None:
        self._relearn_rest()
        self.notes.append("learning the face at rest")

    def _freeze(self, on: bool | None) -> None:
        self.frozen = not self.frozen if on is None else on
        self.notes.append("frozen" if self.frozen else "not frozen")

    def _pause(self, on: bool | None) -> None:
        self.sending = not self.sending if on is None else not on
        self.notes.append("sending" if self.sending else "sending paused")

    def _auto_centre(self, on: bool | None) -> None:
        self.auto_centre = not self.auto_centre if on is None else on
        self.notes.append(f"automatic centre {'on' if self.auto_centre else 'off'}")

    def _shape(self, name: str, value: str, number: float) -> None:
        try:
            self._set(self.calibration.with_shape(name, **{value: number}))
            self.notes.append(f"{name}: {value} {number:g}")
        except ValueError as error:
            self.notes.append(f"{name}: {error}")

    def _save(self) -> None:
        if self._path is None:
            self.notes.append("not saved; name a file with --calibration")
            return
        followed = self.calibration.auto_centre_s or AUTO_CENTRE_S
        self._set(replace(self.calibration, auto_centre_s=followed if self.auto_centre else 0.0))
        try:
            save_calibration(self._path, self.calibration)
            self.notes.append(f"saved {self._path}")
        except SinkError as error:
            self.notes.append(str(error))


@dataclass(frozen=True, slots=True)
class Command:
    """What may be posted."""

    meaning: str
    run: Callable
    parse: Callable[..., tuple] = _nothing
    key: str = ""  # in the window


COMMANDS = {
    "centre": Command("pose and position of each face count from where it is now", Controls._centre, key="c"),
    "uncentre": Command("they count from the camera again", Controls._uncentre, key="u"),
    "auto_centre": Command("the centre follows the face slowly, or stays", Controls._auto_centre, _switch, "a"),
    "relearn": Command("learn the face at rest anew, from the next second on", Controls._relearn, key="l"),
    "freeze": Command("faces stand still in every output, or go on", Controls._freeze, _switch, "f"),
    "pause": Command("nothing is sent, or sending goes on", Controls._pause, _switch, "p"),
    "shape": Command("gain, offset, low or high of a blendshape", Controls._shape, _shape),
    "save": Command("write the file of --calibration", Controls._save, key="k"),
}
