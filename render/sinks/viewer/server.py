"""Serves the page of `--serve` from a thread of its own.

The loop hands each frame over and goes on. What costs time is done in the server's threads, once a frame and only while
somebody watches: encoding the image, packing the numbers. Each page confirms what it has shown and then gets the newest
frame: one that is slow leaves frames out, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np

from facet.render.geometry import Geometry
from facet.render.hud import FrameRate
from facet.render.sinks.viewer.address import Address, Guard
from facet.render.sinks.viewer.messages import NUMBERS, encoded, face_header, face_numbers, model_message, packed
from facet.render.sinks.viewer.recording import Recording
from facet.render.sinks.viewer.replay import ENDING, Replay
from facet.tracker import __version__
from facet.tracker.errors import ConfigError, FaceTrackError, SinkError
from facet.tracker.stages import Stages
from facet.tracker.types import FaceTrack, Frame

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MOST_PAGES = 16  # open at once
IN_FLIGHT = 2  # frames that a page has not yet confirmed: one that it draws, one on the way
PING_S = 10.0  # a page that does not reply within this time has gone
LONGEST_REQUEST = 1 << 16  # bytes of what a page sends
KEPT_RECORDINGS = 20  # that the page lists; older ones stay on the disk
OPEN_REPLAYS = 4
START_S, CLOSE_S, GOING_AWAY_S = 30.0, 5.0, 0.5
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Controls(Protocol):
    """What the page's buttons act on; see `tracker.controls`."""

    def post(self, name: str, *values) -> bool: ...

    def state(self) -> dict: ...


@dataclass(slots=True, eq=False)
class Moment:
    """A frame as it was handed over, and as it is sent."""

    index: int
    time_s: float
    size_wh: tuple[int, int]
    faces: tuple[FaceTrack, ...]
    image: np.ndarray | None
    latency_ms: float
    fps: float
    messages: dict[bool, asyncio.Future] = field(default_factory=dict)  # with the image, or without


@dataclass(slots=True, eq=False)
class Page:
    """One page that is connected."""

    socket: Any  # aiohttp.web.WebSocketResponse
    with_image: bool
    in_flight: int = 0
    shown: Moment | None = None
    free: asyncio.Event = field(default_factory=asyncio.Event)


class Viewer:
    """The page, with what it shows and asks for; a context manager.

    Parameters
    ----------
    listener : a listening socket, from `address.listen`
    address : what it listens on
    token : that a URL must hold; "" for none
    geometry : of the face model that the tracker draws
    blendshapes : names in `FaceTrack.blendshapes`
    name : of the source, as the page shows it
    mirror : show the image as a mirror does
    stages : latencies of the run
    controls : what the buttons act on; None leaves them out
    logs : where the files that a page may replay are now, by their name in its URL
    folder : in which recordings get folders of their own
    notify : gets one line when something goes wrong; may be called from another thread

    Attributes
    ----------
    wants_image : whether a page waits for the image of the next frame
    url : of the page, with the token

    Raises
    ------
    ConfigError
        Where the library aiohttp is missing.
    """

    def __init__(
        self,
        listener: socket.socket,
        address: Address,
        token: str,
        geometry: Geometry,
        blendshapes: Sequence[str],
        *,
        name: str = "",
        mirror: bool = False,
        stages: Stages | None = None,
        controls: Controls | None = None,
        logs: Mapping[str, Callable[[], Path]] = MappingProxyType({}),
        folder: Path = Path(),
        notify: Callable[[str], None] = lambda text: None,
    ):
        try:
            import aiohttp.web
        except ImportError as error:
            listener.close()
            raise ConfigError("--serve: needs aiohttp; pip install aiohttp") from error
        self._web = aiohttp.web
        port = listener.getsockname()[1]
        shown = Address(socket.gethostname() if address.host in ("0.0.0.0", "::") else address.host, port)
        self.url = f"http://{shown}/" + (f"?token={token}" if token else "")
        self.wants_image = False
        self._listener, self._guard = listener, Guard(address, token)
        self._geometry, self._blendshapes = geometry, tuple(blendshapes)
        self._name, self._mirror, self._stages, self._controls = name, mirror, stages, controls
        self._logs, self._folder, self._notify = dict(logs), folder, notify
        self._recording: Recording | None = None
        self._recordings: list[Recording] = []
        self._replays: dict[str, Replay] = {}
        self._rate, self._watched = FrameRate(), False
        self._pages: set[Page] = set()
        self._newest: Moment | None = None
        self._files = self._files_now()
        self._state: dict = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="facet-viewer", daemon=True)
        self._thread.start()
        self._started.wait(START_S)
        if self._error is not None:
            raise SinkError(f"--serve {address}: cannot be served ({self._error}); choose another port")

    # from the thread of the loop

    def write(self, frame: Frame, faces: tuple[FaceTrack, ...], image: np.ndarray | None = None) -> None:
        """Hand a frame over.

        Parameters
        ----------
        frame, faces : as tracked
        image : as drawn, (H, W, 3) uint8, BGR, left alone from now on; None where `wants_image` was False
        """
        self._rate.tick()
        recording = self._recording
        if recording is not None:
            recording.write(frame, faces)
        loop = self._loop
        if loop is None or not self._watched:
            return
        size_wh = frame.image.shape[1], frame.image.shape[0]
        moment = Moment(frame.index, frame.time_s, size_wh, faces, image, self._latency_ms(frame), self._rate.fps)
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(self._arrived, moment)

    def note(self, text: str) -> None:
        """Show a line of text in every page."""
        loop = self._loop
        if loop is not None and self._watched:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._send_all, {"note": text})

    def _latency_ms(self, frame: Frame) -> float:
        """From the capture of a live frame, or from the decoding of a file's, until now."""
        if frame.captured_s is not None:
            return 1000 * (time.monotonic() - frame.captured_s)
        if self._stages is None:
            return math.nan
        return self._stages.last_ms("step") + self._stages.last_ms("draw")

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the server, and a recording with its files; may be called twice."""
        if self._recording is not None:
            self._recording.join()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(CLOSE_S)

    # in the server's thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            self._error = error
            if self._started.is_set():
                self._notify(f"--serve: the page is no longer served ({error})")
        finally:
            self._watched = self.wants_image = False
            self._listener.close()
            self._started.set()

    async def _serve(self) -> None:
        self._end, self._fresh, self._choice = asyncio.Event(), asyncio.Condition(), asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        # one thread encodes, so that a frame is encoded at a time; another reads what replays and downloads need
        self._encoder = ThreadPoolExecutor(1, "facet-viewer-encode")
        self._reader = ThreadPoolExecutor(1, "facet-viewer-read")
        log = logging.getLogger("facet.viewer")
        log.addHandler(logging.NullHandler())
        log.propagate = False
        web = self._web
        guarded = web.middleware(lambda request, handler: self._guarded(request, handler))
        app = web.Application(middlewares=[guarded], client_max_size=LONGEST_REQUEST, logger=log)
        app.router.add_get("/", self._get_page)
        app.router.add_get("/page/{path:.*}", self._get_asset)
        app.router.add_get("/live", self._live)
        app.router.add_get("/model", self._get_model)
        app.router.add_get("/recordings/{folder}/{file}", self._get_recording)
        app.router.add_get("/replay/{log:.+}/frames/{index:\\d{1,9}}", self._get_replay_frame)
        app.router.add_get("/replay/{log:.+}", self._get_replay)
        runner = web.AppRunner(app, access_log=None, logger=log, handle_signals=False, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.SockSite(runner, self._listener).start()
            self._started.set()
            await self._end.wait()
            leaving = [asyncio.wait_for(page.socket.close(code=1001), GOING_AWAY_S) for page in self._pages]
            await asyncio.gather(*leaving, return_exceptions=True)
        finally:
            await runner.cleanup()
            self._encoder.shutdown(cancel_futures=True)
            self._reader.shutdown(wait=False, cancel_futures=True)  # a video on a disk that hangs is left alone

    async def _guarded(self, request, handler):
        """Refuse what must not be served; the same headers for all."""
        web = self._web
        token = None if request.path.startswith("/page/") else request.query.get("token", "")
        refusal = self._guard.refusal(request.headers.get("Host", ""), request.headers.get("Origin"), token)
        try:
            response = web.Response(status=403, text=refusal) if refusal else await handler(request)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=error.reason)
        except FaceTrackError as error:
            response = web.Response(status=404, text=str(error))
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _get_page(self, request):
        return self._asset("index.html")

    async def _get_asset(self, request):
        return self._asset(request.match_info["path"])

    def _asset(self, name: str):
        path = ASSETS.get(name)
        if path is None:
            raise self._web.HTTPNotFound()
        return self._web.Response(body=path.read_bytes(), content_type=KINDS[path.suffix], charset="utf-8")

    async def _get_model(self, request):
        body = await self._read(model_message, self._geometry)
        return self._web.Response(body=body, content_type="application/octet-stream")

    async def _get_recording(self, request):
        folder, name = request.match_info["folder"], request.match_info["file"]
        for recording in self._recordings:
            for path in recording.files if recording.folder.name == folder else ():
                if path.name == name:
                    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(f'{folder}_{name}')}"}
                    return self._web.FileResponse(path, headers=headers)
        raise self._web.HTTPNotFound()

    async def _get_replay(self, request):
        """What a log holds; it is read anew, as it may have grown."""
        name = request.match_info["log"]
        if name not in self._replayable():
            raise self._web.HTTPNotFound()
        replay = await self._read(self._opened, name)
        return self._web.json_response({
            "source": replay.source,
            "times_s": replay.times_s,
            "blendshapes": replay.blendshapes,
            **self._numbers(replay.blendshapes),
        })  # fmt: skip

    async def _get_replay_frame(self, request):
        name, index = request.match_info["log"], int(request.match_info["index"])
        if name not in self._replayable():
            raise self._web.HTTPNotFound()
        body = await self._read(lambda: (self._replays.get(name) or self._opened(name)).message(index))
        return self._web.Response(body=body, content_type="application/octet-stream")

    def _opened(self, name: str) -> Replay:
        """In the reader's thread: a log opened anew; of those that are open the oldest is closed."""
        if name in self._replays:
            self._replays.pop(name).close()
        self._replays[name] = replay = Replay(self._replayable()[name](), self._geometry)
        while len(self._replays) > OPEN_REPLAYS:
            self._replays.pop(next(iter(self._replays))).close()
        return replay

    async def _read(self, call: Callable, *values):
        """The result of what reads files."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, call, *values)

    def _replayable(self) -> dict[str, Callable[[], Path]]:
        """Logs by their name in a URL: those that were named, and those of the recordings."""
        recorded = {
            f"{recording.folder.name}/{path.name}": lambda path=path: path
            for recording in self._recordings
            for path in recording.files
            if path.suffix == ENDING
        }
        return self._logs | recorded

    async def _live(self, request):
        """The connection of a page: frames to it, confirmations and requests from it."""
        web = self._web
        if len(self._pages) >= MOST_PAGES:
            raise web.HTTPServiceUnavailable()
        connection = web.WebSocketResponse(heartbeat=PING_S, compress=False, max_msg_size=LONGEST_REQUEST)
        await connection.prepare(request)
        page = Page(connection, with_image=request.query.get("image", "1") != "0")
        self._pages.add(page)
        page.free.set()
        self._look()
        feeding = None
        try:
            await connection.send_str(json.dumps({"hello": self._hello()}))
            await connection.send_str(json.dumps({"state": self._state_now()}))
            feeding = asyncio.get_running_loop().create_task(self._feed(page))
            async for message in connection:
                if message.type is web.WSMsgType.TEXT:
                    await self._request(page, message.data)
        except ConnectionError:
            pass
        finally:
            self._pages.discard(page)
            self._look()
            if feeding is not None:
                feeding.cancel()
        return connection

    def _look(self) -> None:
        """Work out anew whether somebody watches, for the loop."""
        self._watched = bool(self._pages)
        if not self._pages:
            self._newest = None
        self.wants_image = any(page.with_image and page.free.is_set() for page in self._pages)

    def _arrived(self, moment: Moment) -> None:
        self._newest = moment
        asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self) -> None:
        """Let the pages know that there is something new."""
        async with self._fresh:
            self._fresh.notify_all()
        state = self._state_now()
        if state != self._state:
            self._state = state
            self._send_all({"state": state})

    def _send_all(self, what: dict) -> None:
        text = json.dumps(what)
        for page in list(self._pages):
            asyncio.get_running_loop().create_task(_sent(page.socket, text))

    async def _feed(self, page: Page) -> None:
        """Send the newest frame whenever the page has room for one."""
        try:
            while True:
                await page.free.wait()
                async with self._fresh:
                    await self._fresh.wait_for(lambda: self._newest is not None and self._newest is not page.shown)
                moment = page.shown = self._newest
                if moment is None or (page.with_image and moment.image is None):  # drawn before the page was there
                    continue
                page.in_flight += 1
                if page.in_flight >= IN_FLIGHT:
                    page.free.clear()
                    self._look()
                await page.socket.send_bytes(await self._message(moment, page.with_image))
        except ConnectionError:
            pass  # the page has gone
        except Exception as error:
            self._notify(f"--serve: a frame could not be sent ({error!r}); please report this")
        finally:
            await page.socket.close()

    def _message(self, moment: Moment, with_image: bool) -> asyncio.Future:
        """The message of a frame, which is made once for all pages."""
        future = moment.messages.get(with_image)
        if future is None:
            future = moment.messages[with_image] = asyncio.get_running_loop().run_in_executor(
                self._encoder, self._packed, moment, with_image
            )
        return asyncio.shield(future)

    def _packed(self, moment: Moment, with_image: bool) -> bytes:
        latency = round(moment.latency_ms, 2) if math.isfinite(moment.latency_ms) else None
        header = {
            "frame": moment.index,
            "time_s": round(moment.time_s, 6),
            "width": moment.size_wh[0],
            "height": moment.size_wh[1],
            "fps": round(moment.fps, 2),
            "latency_ms": latency,
            "faces": [face_header(face) for face in moment.faces],
        }
        numbers = [face_numbers(face, self._blendshapes).tobytes() for face in moment.faces]
        return packed(header, *numbers, encoded(moment.image) if with_image and moment.image is not None else b"")

    async def _request(self, page: Page, text: str) -> None:
        """Do what a page asks for; what cannot be read is left out."""
        try:
            request = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(request, dict):
            return
        if "shown" in request:
            page.in_flight = max(0, page.in_flight - 1)
            page.free.set()
            self._look()
        if "ping" in request:
            await page.socket.send_str(json.dumps({"pong": request["ping"]}))
        if "record" in request:
            await self._record(page, bool(request["record"]))
        if isinstance(command := request.get("command"), list) and command:
            await self._command(page, command)

    async def _command(self, page: Page, command: list) -> None:
        try:
            if self._controls is None:
                raise ConfigError("this run has no controls")
            if not self._controls.post(str(command[0]), *command[1:]):
                raise ConfigError("too many commands at once; try again")
        except ConfigError as error:
            await page.socket.send_str(json.dumps({"note": str(error)}))

    async def _record(self, page: Page, on: bool) -> None:
        try:
            async with self._choice:
                if on and self._recording is None:
                    recording = await self._read(self._new_recording)
                    self._recordings = [*self._recordings[1 - KEPT_RECORDINGS :], recording]
                    self._recording = recording
                elif not on and self._recording is not None:
                    self._recording.stop()
        except SinkError as error:
            self._notify(f"recording: {error}")
            await page.socket.send_str(json.dumps({"note": str(error)}))
        await self._refresh()

    def _new_recording(self) -> Recording:
        return Recording(self._folder, self._geometry, self._blendshapes, self._recorded)

    def _recorded(self, recording: Recording) -> None:
        """In the recording's thread: its files are complete."""
        if recording.trouble:
            self._notify(f"recording: {recording.trouble}")
        self._recording = None
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: loop.create_task(self._refresh()))

    async def _refresh(self) -> None:
        """Look anew for what can be downloaded and replayed."""
        self._files = await self._read(self._files_now)
        await self._wake()

    def _hello(self) -> dict:
        """What a page must know before the first frame."""
        return {
            "version": __version__,
            "source": self._name,
            "mirror": self._mirror,
            "blendshapes": self._blendshapes,
            "controls": self._controls is not None,
            **self._numbers(self._blendshapes),
        }

    def _numbers(self, blendshapes: Sequence[str]) -> dict:
        """How many numbers each part of a face has, in their order."""
        model = self._geometry.model
        coefficients = 0 if model is None else model.shape_count + model.expression_count
        counts = (12, coefficients, len(blendshapes), 68 * 3, 2 * 3)
        return {"numbers": dict(zip(NUMBERS, counts, strict=True))}

    def _state_now(self) -> dict:
        """What changes now and then."""
        return self._files | {"controls": None if self._controls is None else self._controls.state()}

    def _files_now(self) -> dict:
        """What can be downloaded and replayed."""
        recording = self._recording
        return {
            "recording": None if recording is None else recording.folder.name,
            "recordings": [
                {
                    "name": one.folder.name,
                    "files": [path.name for path in one.files],
                    "frames": one.frames,
                    "dropped": one.dropped,
                    "trouble": one.trouble,
                }
                for one in self._recordings
                if one is not recording
            ],
            "logs": list(self._replayable()),
        }


async def _sent(connection, text: str) -> None:
    """Send a line to a page, which may have left."""
    with contextlib.suppress(ConnectionError, RuntimeError):
        await connection.send_str(text)


def _assets() -> dict[str, Path]:
    """The files of the page by their name in a URL; no other path is ever opened."""
    found = (path for path in PAGE.rglob("*") if path.suffix in KINDS)
    return {path.relative_to(PAGE).as_posix(): path for path in found}


ASSETS = _assets()
