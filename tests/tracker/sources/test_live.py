"""Cameras, network streams and raw frames: the newest frame, stalls, ends that come without warning."""

import http.server
import itertools
import os
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from facet.tracker.errors import SourceError
from facet.tracker.sources import SourceConfig, list_cameras, open_source
from tests.clips import HEIGHT, WIDTH, ffmpeg, make_clip, number_of, numbered_image
from tests.conftest import ROOT
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("live") / "clip.mp4", 30)


# Cameras: a looped file behind OpenCV's interface


class LoopedFile:
    """Acts as cv2.VideoCapture of a camera: plays a file for ever, one frame whenever `tick` is set."""

    def __init__(self, path, frames=None, tick=None, fps=30.0):
        self._path, self._capture, self._left, self._tick = path, cv2.VideoCapture(str(path)), frames, tick
        self.asked = {}
        self.fps = fps
        self.released = False

    def isOpened(self):
        return True

    def set(self, key, value):
        self.asked[key] = value
        return True

    def get(self, key):
        return self.fps if key == cv2.CAP_PROP_FPS else self._capture.get(key)

    def read(self):
        if self._tick is not None:
            self._tick.acquire()
        if self._left == 0:
            return False, None
        if self._left is not None:
            self._left -= 1
        ok, image = self._capture.read()
        if not ok:
            self._capture = cv2.VideoCapture(str(self._path))
            ok, image = self._capture.read()
        return ok, image

    def release(self):
        self.released = True


class NoCamera(LoopedFile):
    def __init__(self):
        self.released = False

    def isOpened(self):
        return False


def test_a_camera_plays_and_is_released(clip):
    tick = threading.Semaphore(0)
    camera = LoopedFile(clip, tick=tick)
    tick.release()
    with open_source(0, SourceConfig(size="320x240", fps=25.0), capture_factory=lambda index: camera) as source:
        assert (source.kind, source.live, source.name) == ("camera", True, "camera 0")
        assert source.size_wh == (WIDTH, HEIGHT) and source.fps == 30.0  # what it does, not what was asked
        frames = [next(source)]
        for _ in range(40):  # the file has 30: it is played again
            tick.release()
            frames.append(next(source))
        tick.release()
    tick.release()  # for a read that began before it was closed
    assert [number_of(frame.image) for frame in frames] == [n % 30 for n in range(41)]
    times = [frame.time_s for frame in frames]
    assert times[0] == 0.0 and all(later > earlier for earlier, later in itertools.pairwise(times))
    assert all(frame.captured_s is not None for frame in frames) and source.dropped == 0
    wait_until(lambda: camera.released)
    wanted = {cv2.CAP_PROP_FRAME_WIDTH: 320, cv2.CAP_PROP_FRAME_HEIGHT: 240, cv2.CAP_PROP_FPS: 25.0}
    assert {key: camera.asked[key] for key in wanted} == wanted


def test_only_the_newest_frame_of_a_camera_is_kept(clip):
    tick = threading.Semaphore(1)
    with open_source(0, capture_factory=lambda index: LoopedFile(clip, tick=tick)) as source:
        tick.release(7)
        wait_until(lambda: source.dropped == 6)  # one was read ahead at opening, one waits in the slot
        frame = next(source)
        assert (frame.index, number_of(frame.image), source.dropped) == (0, 7, 7)
        assert frame.first
        tick.release()


def test_an_unplugged_camera(clip):
    message = "camera 2: it stopped delivering pictures; is it still plugged in"
    source = open_source(2, SourceConfig(reconnect_s=0), capture_factory=lambda index: LoopedFile(clip, frames=5))
    with source, pytest.raises(SourceError, match=message):
        list(source)


def test_a_camera_that_hangs(clip):
    tick = threading.Semaphore(1)
    begin = time.monotonic()
    with open_source(0, SourceConfig(stall_s=1.5), capture_factory=lambda index: LoopedFile(clip, tick=tick)) as source:
        next(source)
        with pytest.raises(SourceError, match=r"camera 0: the camera stalled, no picture for 1\.5 s"):
            next(source)
        tick.release()
    assert time.monotonic() - begin < 30


def test_closing_while_a_read_blocks(clip):
    tick = threading.Semaphore(1)
    source = open_source(0, capture_factory=lambda index: LoopedFile(clip, tick=tick))
    next(source)
    ended = []
    consumer = threading.Thread(target=lambda: ended.extend(source))
    consumer.start()
    tick.release()  # lets the thread that close() waits for come back
    source.close()
    consumer.join(30)
    assert not consumer.is_alive() and not source.exhausted


def test_stopping_ends_a_wait(clip):
    """The consumer looks by itself, because a signal handler that interrupted it could not wake it."""
    tick = threading.Semaphore(1)
    with open_source(0, SourceConfig(stall_s=60), capture_factory=lambda index: LoopedFile(clip, tick=tick)) as source:
        next(source)
        threading.Timer(0.2, source.stop).start()
        begin_s = time.monotonic()
        assert list(source) == [] and not source.exhausted
        assert time.monotonic() - begin_s < 30
        tick.release()


def test_an_unknown_camera_lists_those_found(clip):
    def factory(index):
        return LoopedFile(clip) if index in (0, 3) else NoCamera()

    with pytest.raises(SourceError, match=rf"camera 7: .* found: 0 \(.*, {WIDTH}x{HEIGHT}\), 3 ") as caught:
        open_source(7, capture_factory=factory)
    assert "\n" not in str(caught.value)
    cameras = list_cameras(factory)
    assert [(camera.index, camera.size_wh) for camera in cameras] == [(0, (WIDTH, HEIGHT)), (3, (WIDTH, HEIGHT))]


def test_a_camera_that_is_plugged_in_again_goes_on(clip):
    """The first opening after the loss fails; the second gives frames of another size."""
    opened, notices = [], []

    class Larger(LoopedFile):
        def read(self):
            ok, image = super().read()
            return ok, image if image is None else cv2.resize(image, None, fx=2, fy=2)

    def factory(index):
        opened.append(index)
        cameras = [lambda: LoopedFile(clip, frames=5), NoCamera, lambda: Larger(clip, frames=3), NoCamera]
        return cameras[min(len(opened), len(cameras)) - 1]()

    source = open_source(1, SourceConfig(reconnect_s=2.5), capture_factory=factory, notify=notices.append)
    frames = []
    with source, pytest.raises(SourceError, match=r"did not come back for 2\.5 s \(.*\); is it still plugged in\?$"):
        frames.extend(source)
    assert notices == ["camera 1: it stopped delivering pictures; trying again for 2.5 s"] * 2
    assert {frame.image.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    begins = [frame for frame in frames if frame.first]
    assert begins[0].index == 0 and len(begins) == 2
    times = [frame.time_s for frame in frames]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert begins[1].time_s - frames[begins[1].index - 1].time_s > 0.7  # the pauses before both attempts


def test_frames_that_became_old_in_the_driver_are_passed_over(clip):
    """The driver stamps frames on the clock of the system, as V4L2 does."""
    tick = threading.Semaphore(0)
    ages_s = iter([0.0, 3.0, 2.0, 0.5, *[0.01] * 100])

    class Stamped(LoopedFile):
        def get(self, key):
            return 1000 * (time.monotonic() - next(ages_s)) if key == cv2.CAP_PROP_POS_MSEC else super().get(key)

    tick.release(5)
    with open_source(0, capture_factory=lambda index: Stamped(clip, tick=tick)) as source:
        wait_until(lambda: source.dropped == 3)
        frame = next(source)
        assert number_of(frame.image) == 4 and source.dropped == 4  # the first one was replaced
        assert time.monotonic() - frame.captured_s >= 0.01
        tick.release()


@pytest.mark.parametrize("index", [0, 7, 99_999_999_999, 10**400])
def test_without_any_camera(index, capfd):
    with pytest.raises(SourceError, match=rf"^camera {index}: cannot be opened; no camera was found; plug one in$"):
        open_source(index, capture_factory=lambda index: NoCamera())
    assert capfd.readouterr() == ("", "")


# Network


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a clip as a file, a picture, and MJPEG as far as `server.go` allows."""

    def do_GET(self):
        try:
            getattr(self, "send_" + self.path.strip("/").replace(".", "_"))()
        except (BrokenPipeError, ConnectionResetError):
            pass
        except AttributeError:
            self.send_error(404)

    def log_message(self, *arguments):
        pass

    def _reply(self, kind, length=None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _body(self, kind, data):
        self._reply(kind, len(data))
        self.wfile.write(data)

    def send_clip_mp4(self):
        self._body("video/mp4", self.server.clip.read_bytes())

    def send_face_png(self):
        self._body("image/png", cv2.imencode(".png", numbered_image(77))[1].tobytes())

    def send_half_mp4(self):
        data = self.server.clip.read_bytes()
        self._reply("video/mp4", len(data))
        self.wfile.write(data[: len(data) // 2])
        self.server.go.clear()
        self.server.go.wait()

    def send_broadcast(self):
        """H.264 in a transport stream, twice as fast as it should be."""
        self._reply("video/mp2t")
        data = self.server.clip.read_bytes()
        for start in range(0, len(data), 1316):
            self.wfile.write(data[start : start + 1316])
            time.sleep(0.005)

    def send_page(self):
        self._body("text/html", b"<p>no video here</p>")

    def send_garbage(self):
        self._reply("application/octet-stream")
        self.wfile.write(b"nothing that decodes" * 1000)

    def send_mjpeg(self):
        """Paced parts with a running number; `pause` holds them back, `last` ends them."""
        self._reply("multipart/x-mixed-replace; boundary=frame")
        number = 0
        while number != self.server.last:
            self.server.go.wait()
            data = cv2.imencode(".jpg", numbered_image(number % 256), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            number += 1
            self.server.sent = number
            time.sleep(0.03)


@pytest.fixture
def server(clip):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.clip, server.go, server.last, server.sent = clip, threading.Event(), -1, 0
    server.go.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.go.set()
    server.last = 0
    server.shutdown()
    server.server_close()


def test_a_served_file_is_a_file(server):
    with open_source(f"{server.url}/clip.mp4") as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(30))
    assert [frame.time_s for frame in frames] == pytest.approx([n / 30 for n in range(30)])
    assert (source.kind, source.live, source.exhausted) == ("video", False, True)
    assert frames[0].source == f"{server.url}/clip.mp4"


def test_a_served_file_that_stalls_is_given_up(server):
    ffmpeg("-i", server.clip, "-c", "copy", "-movflags", "+faststart", server.clip.with_name("front.mp4"))
    server.clip = server.clip.with_name("front.mp4")
    begin = time.monotonic()
    source = open_source(f"{server.url}/half.mp4", SourceConfig(stall_s=2.5))
    with source, pytest.raises(SourceError, match=r"/half\.mp4: the server stalled, no data for 2\.5 s"):
        list(source)
    assert time.monotonic() - begin < 30


def test_a_served_picture_is_an_image(server):
    with open_source(f"{server.url}/face.png") as source:
        (frame,) = source
    assert source.still and frame.first and number_of(frame.image) == 77


def test_mjpeg_is_live(server):
    with open_source(f"{server.url}/mjpeg") as source:
        assert (source.kind, source.live, source.size_wh) == ("stream", True, (WIDTH, HEIGHT))
        next(source)
        wait_until(lambda: source.dropped >= 5)
        slow = next(source)
        later = [next(source) for _ in range(5)]
    reported = [number_of(frame.image) for frame in (slow, *later)]
    assert reported[0] >= 6 and all(b > a for a, b in itertools.pairwise(reported))
    assert [frame.index for frame in later] == [2, 3, 4, 5, 6]
    blue = later[0].image[-10, -10].astype(int)  # colours survive the way through ffmpeg
    assert np.abs(blue - [200, 0, 0]).max() < 12


def test_a_stream_that_pauses_goes_on(server):
    with open_source(f"{server.url}/mjpeg", SourceConfig(stall_s=30.0)) as source:
        frames = [next(source)]
        server.go.clear()
        threading.Timer(2.0, server.go.set).start()
        while frames[-1].time_s - frames[0].time_s < 2.5:
            frames.append(next(source))
    assert max(b.time_s - a.time_s for a, b in itertools.pairwise(frames)) > 1
    assert number_of(frames[-1].image) > number_of(frames[0].image)


def test_a_stream_that_stalls_is_given_up(server):
    with open_source(f"{server.url}/mjpeg", SourceConfig(stall_s=2.5, reconnect_s=0)) as source:
        next(source)
        server.go.clear()
        with pytest.raises(SourceError, match=r"the stream stalled, no picture for 2\.5 s"):
            for _ in source:
                pass


def test_a_blocked_stream_closes_at_once(server):
    source = open_source(f"{server.url}/mjpeg")
    server.go.clear()
    time.sleep(0.05)
    consumer = threading.Thread(target=lambda: list(source))
    consumer.start()
    begin = time.monotonic()
    source.close()
    consumer.join(30)
    assert not consumer.is_alive() and time.monotonic() - begin < 8  # the stall would be noticed after 10 s


def test_a_stream_that_ends_is_read_to_its_end(server):
    server.last = 20
    with open_source(f"{server.url}/mjpeg", live=False) as source:
        frames = list(source)
    assert [number_of(frame.image) for frame in frames] == list(range(20))
    assert source.exhausted and not source.live and source.dropped == 0


def test_a_broadcast_of_h264(server, tmp_path):
    server.clip = make_clip(tmp_path / "broadcast.ts", 120)
    with open_source(f"{server.url}/broadcast", SourceConfig(reconnect_s=0)) as source:
        frames = list(source)
    reported = [number_of(frame.image) for frame in frames]
    assert source.live and source.exhausted and reported == sorted(set(reported)) and reported[-1] == 119
    assert len(frames) + source.dropped <= 120
    assert all(0 <= time.monotonic() - frame.captured_s < 60 for frame in frames)


def test_a_large_file_with_its_index_at_the_end_needs_a_server_that_sends_parts(server, tmp_path):
    server.clip = make_clip(tmp_path / "large.mp4", 60, options=["-crf", "0", "-vf", "noise=alls=60:allf=t"])
    with pytest.raises(SourceError, match="from their beginning only; download it first"):
        open_source(f"{server.url}/clip.mp4")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing", "the server answered 404 Not Found; check the address"),
        ("/page", "expected a video or an image, found nothing that can be decoded"),
        ("/garbage", "expected a video stream, ffmpeg found: "),
    ],
)
def test_an_address_without_a_video(server, path, message, capfd):
    with pytest.raises(SourceError, match=message) as caught:
        open_source(server.url + path)
    assert str(caught.value).startswith(server.url + path) and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.mp4", "rtsp://127.0.0.1:9/x"])
def test_nobody_answers(url):
    with pytest.raises(SourceError, match=r"Connection refused.*; check the address"):
        open_source(url)


def test_other_schemes_are_refused():
    with pytest.raises(SourceError, match="expected http, https or rtsp, found ftp"):
        open_source("ftp://example.org/x.mp4")


# Raw frames on stdin

READ_RAW = """
import sys
from tests.clips import number_of
from facet.tracker.errors import SourceError
from facet.tracker.sources import SourceConfig, open_source
try:
    with open_source("-", SourceConfig(size=sys.argv[1], fps=25.0)) as source:
        for frame in source:
            print(frame.index, number_of(frame.image), round(frame.time_s, 3), source.kind, source.live)
except SourceError as error:
    print(error)
"""


def read_raw(data, size=f"{WIDTH}x{HEIGHT}", stdin=None):
    given = {"input": data} if stdin is None else {"stdin": stdin}
    done = subprocess.run(
        [sys.executable, "-c", READ_RAW, size],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        **given,
    )
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    return done.stdout.decode().splitlines()


def test_raw_frames():
    data = b"".join(numbered_image(number).tobytes() for number in range(12))
    assert read_raw(data) == [f"{n} {n} {round(n / 25, 3)} raw False" for n in range(12)]


def test_raw_frames_that_end_in_the_middle_of_one():
    data = b"".join(numbered_image(number).tobytes() for number in range(3))
    *frames, error = read_raw(data[:-1000])
    assert len(frames) == 2
    size = WIDTH * HEIGHT * 3
    assert f"expected frames of {WIDTH}x{HEIGHT} BGR, {size} bytes each, found 2 and {size - 1000} bytes more" in error


def test_no_raw_frames_at_all():
    assert read_raw(b"") == ["-: expected frames, found none"]


def test_raw_frames_need_a_size_and_a_rate():
    with pytest.raises(SourceError, match=r"give --set source\.size=WxH source\.fps=F"):
        open_source("-", SourceConfig(size="4x4"))
