"""A stand-in for VTube Studio's plug-in API, as strict as its documentation."""

from __future__ import annotations

import json
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

DEFAULTS = """
FacePositionX FacePositionY FacePositionZ FaceAngleX FaceAngleY FaceAngleZ MouthSmile MouthOpen MouthX Brows BrowLeftY
BrowRightY EyeOpenLeft EyeOpenRight EyeLeftX EyeLeftY EyeRightX EyeRightY CheekPuff TongueOut FaceAngry
"""


class ApiError(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.number = number


class StandIn:
    """A server on a free port, with whatever user sits in front of it.

    Attributes
    ----------
    allows : whether the user allows a plug-in that asks; None keeps it waiting
    asked : how often the user was asked
    injected : the data of all InjectParameterDataRequests that were in order
    errors : the numbers of all errors that were sent
    """

    def __init__(self, allows: bool | None = True, port: int = 0, foreign: tuple[str, ...] = ()):
        self.allows, self.foreign = allows, foreign
        self.asked, self.connections = 0, 0
        self.tokens, self.injected, self.errors, self.parameters = set(), [], [], {}
        self._links, self._decided = [], threading.Event()
        self._server = serve(self._handle, "127.0.0.1", port)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._decided.set()
        self._server.shutdown()
        self.cut()
        self._thread.join(5)

    def cut(self):
        """End all connections, as when VTube Studio is closed."""
        for link in self._links:
            link.close()

    def decide(self, allows: bool):
        """The user answers what is asked."""
        self.allows = allows
        self._decided.set()

    def _handle(self, link):
        self._links.append(link)
        self.connections += 1
        session = {"authenticated": False}
        try:
            for text in link:
                link.send(json.dumps(self._reply(json.loads(text), session)))
        except ConnectionClosed:
            pass

    def _reply(self, request, session):
        assert (request["apiName"], request["apiVersion"]) == ("VTubeStudioPublicAPI", "1.0")
        assert 1 <= len(request["requestID"]) <= 64 and request["requestID"].isascii()
        head = {name: request[name] for name in ("apiName", "apiVersion", "requestID")}
        kind = request["messageType"]
        try:
            data = getattr(self, kind)(request["data"], session)
            return head | {"messageType": kind.replace("Request", "Response"), "data": data}
        except ApiError as error:
            self.errors.append(error.number)
            return head | {"messageType": "APIError", "data": {"errorID": error.number, "message": "a message"}}

    def AuthenticationTokenRequest(self, data, session):
        assert all(3 <= len(data[name]) <= 32 for name in ("pluginName", "pluginDeveloper"))
        self.asked += 1
        if self.allows is None:
            self._decided.wait(10)
        if not self.allows:
            raise ApiError(50)
        token = f"token{self.asked}"
        self.tokens.add(token)
        return {"authenticationToken": token}

    def AuthenticationRequest(self, data, session):
        assert data["pluginName"] and data["pluginDeveloper"]
        session["authenticated"] = data["authenticationToken"] in self.tokens
        return {"authenticated": session["authenticated"], "reason": ""}

    def ParameterCreationRequest(self, data, session):
        if not session["authenticated"]:
            raise ApiError(8)
        name = data["parameterName"]
        assert 4 <= len(name) <= 32 and name.isalnum() and len(data["explanation"]) < 256
        assert data["min"] <= data["defaultValue"] <= data["max"]
        if name in DEFAULTS.split():
            raise ApiError(354)
        if name in self.foreign:
            raise ApiError(352)
        self.parameters[name] = data
        assert len(self.parameters) <= 100
        return {"parameterName": name}

    def InjectParameterDataRequest(self, data, session):
        if not session["authenticated"]:
            raise ApiError(8)
        if not data["parameterValues"]:
            raise ApiError(450)
        if {one["id"] for one in data["parameterValues"]} - set(DEFAULTS.split()) - set(self.parameters):
            raise ApiError(453)
        assert data["mode"] == "set" and isinstance(data["faceFound"], bool)
        self.injected.append(data)
        return {}
