"""A face for VTube Studio, as a plug-in of its API: JSON over a WebSocket.

A thread of its own holds the connection, so that the tracker never waits. It sends the newest frame when VTube
Studio has taken the one before.

Source: https://github.com/DenchiSoft/VTubeStudio, version 1.0 of the API. Signs of the inputs: FaceAngleX positive to
the subject's left, FaceAngleY up, FaceAngleZ clockwise on the screen, eyes X to the subject's right and Y up.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path

from facet.tracker.errors import ConfigError, SinkError
from facet.tracker.outputs.avatar import (
    LOOK_DOWN_DEG,
    LOOK_OUT_DEG,
    LOOK_UP_DEG,
    Moved,
    OneFace,
    Weights,
    gaze_deg,
    head_angles_deg,
)
from facet.tracker.outputs.livelink import SHAPES
from facet.tracker.outputs.receiver import Receiver
from facet.tracker.tokens import config_folder, read_token, write_token
from facet.tracker.types import FaceTrack, Frame

PLUGIN = {"pluginName": "facet", "pluginDeveloper": "facet"}
CUSTOM = frozenset(SHAPES) - {"CheekPuff", "TongueOut"}  # inputs that VTube Studio does not have by itself
OPEN_S, REPLY_S, ALLOW_S = 2.0, 5.0, 600.0  # the longest waits: for a connection, a reply, the user's permission
RETRY_S = 2.0  # between two attempts to connect
REPEAT_S = 0.5  # VTube Studio forgets what is not repeated within a second
LOOK_S = 0.2  # how often a wait looks whether the run has ended
CLOSE_S = 3.0
NOT_AUTHENTICATED, DENIED = 8, 50  # errors of its API


class VTubeStudioError(Exception):
    """What VTube Studio reports of a request."""

    def __init__(self, number: int, message: str):
        super().__init__(f"error {number}: {message}")
        self.number = number


class Ended(Exception):
    """The run is over, or it makes no sense to connect again."""


class VTubeStudio:
    """Sends the first face to VTube Studio; a context manager.

    Attributes
    ----------
    sent : frames that VTube Studio has taken
    dropped : frames that came while it was not connected

    Raises
    ------
    ConfigError
        Where the library websockets is missing.
    SinkError
        Where the host is not known.
    """

    def __init__(self, receiver: Receiver):
        try:
            import websockets.sync.client as client
        except ImportError as error:
            raise ConfigError(f"--send {receiver.url}: needs websockets; pip install websockets") from error
        try:
            socket.getaddrinfo(receiver.host, receiver.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise SinkError(
                f"--send {receiver.url}: {receiver.host} is not known here; give a name or an address"
            ) from error
        self._connect, self._url = client.connect, receiver.url
        host = f"[{receiver.host}]" if ":" in receiver.host else receiver.host
        self._address = f"ws://{host}:{receiver.port}"
        self._token_file = token_file(receiver.host, receiver.port)
        self.sent, self.dropped = 0, 0
        self._one, self._moved, self._requests = OneFace(), Moved(), 0
        self._state = f"not yet connected to VTube Studio at {self._address}"
        self._connected = False
        self._newest: tuple[dict, bool] | None = None  # parameters, and whether a face is found
        self._change, self._end = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="facet-vts", daemon=True)
        self._thread.start()

    def send(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None:
        """Hand over the first face of a frame."""
        face = self._one.of(faces, frame.time_s)
        parameters = parameters_of(face, self._moved(face)) if face else parameters_of(None)
        with self._change:
            self._newest = parameters, face is not None
            self.dropped += not self._connected
            self._change.notify()

    @property
    def status(self) -> str:
        """Whether VTube Studio takes what is sent."""
        sent = f"{self.sent} frames sent to VTube Studio at {self._address}"
        return f"--send {self._url}: {sent if self._connected else self._state}"

    @property
    def trouble(self) -> str:
        """What is wrong where VTube Studio got nothing, or no longer gets it; else empty."""
        return "" if self._connected or not self.dropped else f"--send {self._url}: {self._state}"

    def __enter__(self) -> VTubeStudio:
        return self

    def __exit__(self, *_) -> None:
        self._end.set()
        with self._change:
            self._change.notify()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        from websockets.exceptions import WebSocketException

        while not self._end.is_set():
            try:
                with self._connect(
                    self._address,
                    user_agent_header=None,
                    open_timeout=OPEN_S,
                    close_timeout=LOOK_S,
                    compression=None,
                    proxy=None,
                ) as link:
                    self._serve(link)
            except Ended:
                return
            except VTubeStudioError as error:
                self._state = f"VTube Studio reports {error}"
            except (OSError, WebSocketException):  # TimeoutError is an OSError
                self._state = f"no VTube Studio at {self._address}; start it and switch its plug-in API on"
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self._state = f"what replies at {self._address} is not VTube Studio; give the port of its plug-in API"
            finally:
                if not self._end.is_set():  # closed in order is no trouble
                    self._connected = False
            self._end.wait(RETRY_S)

    def _serve(self, link) -> None:
        """Log in, create what is missing, then pass on the newest frame, until the connection ends."""
        self._authenticate(link)
        known = self._create_parameters(link)
        self._connected = True
        newest = None
        while True:
            with self._change:
                self._change.wait_for(lambda: self._newest or self._end.is_set(), REPEAT_S)
                newest, self._newest = self._newest or newest, None
            if self._end.is_set():
                raise Ended
            if newest is None:  # no frame yet
                continue
            parameters, found = newest
            values = [{"id": name, "value": value} for name, value in parameters.items() if name in known]
            request = {"faceFound": found, "mode": "set", "parameterValues": values}
            self._request(link, "InjectParameterDataRequest", request)
            self.sent += 1

    def _authenticate(self, link) -> None:
        """With the token that was kept; VTube Studio asks the user for a new one where it does not take that."""
        token = read_token(self._token_file)
        if token and self._log_in(link, token):
            return
        self._state = "VTube Studio asks whether facet may control it: allow it there"
        try:
            token = self._request(link, "AuthenticationTokenRequest", PLUGIN, ALLOW_S)["authenticationToken"]
        except VTubeStudioError as error:
            if error.number != DENIED:
                raise
            self._state = "permission was denied in VTube Studio; start facet again to be asked again"
            raise Ended from error
        if not isinstance(token, str):
            raise TypeError("expected a text as the token")
        write_token(self._token_file, token)
        if not self._log_in(link, token):
            raise VTubeStudioError(NOT_AUTHENTICATED, "the token that it gave is not taken")

    def _log_in(self, link, token: str) -> bool:
        reply = self._request(link, "AuthenticationRequest", PLUGIN | {"authenticationToken": token})
        return bool(reply["authenticated"])

    def _create_parameters(self, link) -> set[str]:
        """The inputs that can be set: those of VTube Studio, and ours by ARKit's names as far as it creates them."""
        known = set()
        for name in parameters_of(None):
            if name in CUSTOM:
                request: dict[str, str | int] = {"parameterName": name, "explanation": "ARKit blendshape from facet"}
                request |= {"min": 0, "max": 1, "defaultValue": 0}
                try:
                    self._request(link, "ParameterCreationRequest", request)
                except VTubeStudioError:  # of another plug-in, or one too many
                    continue
            known.add(name)
        return known

    def _request(self, link, kind: str, data: dict, wait_s: float = REPLY_S) -> dict:
        """The data of the reply to a request.

        Raises
        ------
        VTubeStudioError
            Where VTube Studio reports an error.
        TimeoutError
            Where no reply comes in time.
        Ended
            Where the run ends meanwhile.
        """
        self._requests += 1
        request_id = f"facet{self._requests}"
        head = {"apiName": "VTubeStudioPublicAPI", "apiVersion": "1.0", "requestID": request_id, "messageType": kind}
        link.send(json.dumps(head | {"data": data}))
        deadline_s = time.monotonic() + wait_s
        while not self._end.is_set():
            try:
                reply = json.loads(link.recv(timeout=LOOK_S))
            except TimeoutError:
                if time.monotonic() > deadline_s:
                    raise
                continue
            if reply.get("requestID") != request_id:
                continue  # an event, or the reply to an earlier request
            if reply["messageType"] == "APIError":
                raise VTubeStudioError(reply["data"]["errorID"], reply["data"].get("message", ""))
            return reply["data"]
        raise Ended


def parameters_of(face: FaceTrack | None, moved_mm=(0.0, 0.0, 0.0)) -> dict[str, float]:
    """The inputs of VTube Studio and those by ARKit's names, in Pascal case; at rest without a face.

    Parameters
    ----------
    face : to be sent
    moved_mm : (3,) as `Moved` returns it
    """
    blendshapes = face.blendshapes if face else {}
    get = Weights(blendshapes)
    yaw, pitch, roll = head_angles_deg(face.pose.rotation) if face else (0.0, 0.0, 0.0)
    left, up, near = (float(value) / 10 for value in moved_mm)  # cm
    brows = {
        side: 0.5 + (max(get("browInnerUp"), get(f"browOuterUp{side}")) - get(f"browDown{side}")) / 2
        for side in ("Left", "Right")
    }
    found = {
        **{"FacePositionX": left, "FacePositionY": up, "FacePositionZ": near},
        **{"FaceAngleX": -yaw, "FaceAngleY": -pitch, "FaceAngleZ": -roll},
        "MouthSmile": 0.5 + (get.mean("mouthSmile") - get.mean("mouthFrown")) / 2,
        "MouthOpen": max(get("jawOpen") - get("mouthClose"), 0.0),
        "MouthX": get("mouthLeft") - get("mouthRight"),
        **{"Brows": (brows["Left"] + brows["Right"]) / 2, "BrowLeftY": brows["Left"], "BrowRightY": brows["Right"]},
        "FaceAngry": min(get.mean("browDown"), 1 - get.mean("mouthSmile")),
    }
    for side in ("Left", "Right"):
        right, down = gaze_deg(blendshapes, side)
        found[f"EyeOpen{side}"] = 1 - get(f"eyeBlink{side}")
        found[f"Eye{side}X"] = right / LOOK_OUT_DEG
        found[f"Eye{side}Y"] = -down / (LOOK_DOWN_DEG if down > 0 else LOOK_UP_DEG)
    return found | {name: get(name[0].lower() + name[1:]) for name in SHAPES}


def token_file(host: str, port: int) -> Path:
    """Where the permission of one VTube Studio is kept."""
    return config_folder() / f"vts_{re.sub(r'[^0-9A-Za-z.-]', '_', host)}_{port}.token"
