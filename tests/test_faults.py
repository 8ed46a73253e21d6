"""What happens while facet runs: a camera is unplugged, a stream stalls, the disk is full, somebody ends the program.

Each time the end is clean, one line says why, and what was written can be played.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from facet.interrupts import PATIENCE_S
from facet.pacing import EvenDelay
from facet.tracker.types import Frame
from tests.clips import ffmpeg
from tests.conftest import ROOT
from tests.program import (
    APP,
    PARTIAL_LOG,
    assert_one_line,
    camera_command,
    interrupted_run,
    playable_frames,
    records,
    run,
)
from tests.servers import serving
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Three hundred frames of noise, which does not compress."""
    path = tmp_path_factory.mktemp("faults") / "noise.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (320, 240))
    rng = np.random.default_rng(0)
    for _ in range(300):
        writer.write(rng.integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    return path


def test_a_camera_is_unplugged(networks, clip, tmp_path):
    out, log = tmp_path / "out.mp4", tmp_path / "log.jsonl"
    command = camera_command(clip, 40, "-o", out, "--log", log, "--set", "source.reconnect_s=0", *networks)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert_one_line(done, 1, "camera 0", "plugged in")
    assert 0 < playable_frames(out) <= 40
    assert len(records(log)) == playable_frames(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "out.mp4"]


def test_no_camera_to_list():
    program = "import app; app.list_cameras = lambda: []; app.leave(app.main(['--list-cameras']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert_one_line(done, 1, "no camera was found")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--webcam", "99999999999"], 2),  # no number of a camera
        (["--webcam", "999999"], 1),
        (["-f", "http://[::1"], 1),
        (["-f", "gopher://h/x"], 1),
    ],
)
def test_a_source_that_cannot_be(options, status):
    assert_one_line(run(*options, "--log", "never.jsonl"), status, options[-1])
    assert not (ROOT / "never.jsonl").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_live_run_is_ended(number, networks, clip, tmp_path):
    out, log = tmp_path / "out.mp4", tmp_path / "log.jsonl"
    command = camera_command(clip, None, "-o", out, "--log", log, *networks)
    status, errors = interrupted_run(command, log, number)
    assert status == 130, errors
    assert errors.strip() == "interrupted"
    assert playable_frames(out) > 0
    assert records(log)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "out.mp4"]


# The lock of a queue gets a signal just when the loop has taken it, where an exception could not let go of it again.
# Its waits are so long that none ends in vain, so the loop takes the lock once a frame on a slow machine, too.
WITH_A_SIGNAL_IN_A_LOCK = """
import queue, signal, sys, threading, types
sys.argv[0] = "app.py"
import app
from facet.render.sinks import video
from facet.tracker.sources import prefetch

class Lock:
    def __init__(self):
        self._lock = threading.Lock()
        self.acquire, self.release, self._left = self._lock.acquire, self._lock.release, 40

    def __enter__(self):
        self.acquire()
        if threading.current_thread() is threading.main_thread():
            self._left -= 1
            if self._left == 0:
                signal.raise_signal(signal.SIGTERM)

    def __exit__(self, *_):
        self.release()

class Queue(queue.Queue):
    def __init__(self, maxsize):
        super().__init__(maxsize)
        self.mutex = Lock()
        self.not_empty, self.not_full = threading.Condition(self.mutex), threading.Condition(self.mutex)

    def get(self, block=True, timeout=None):
        return super().get(block, timeout and 60)

    def put(self, item, block=True, timeout=None):
        super().put(item, block, timeout and 60)

MODULE.queue = types.SimpleNamespace(Queue=Queue, Full=queue.Full, Empty=queue.Empty)
app.leave(app.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("module", ["video", "prefetch"])
def test_a_signal_in_the_worst_moment(module, networks, clip, tmp_path):
    out, log = tmp_path / "out.mp4", tmp_path / "log.jsonl"
    program = WITH_A_SIGNAL_IN_A_LOCK.replace("MODULE", module)
    done = subprocess.run(
        [sys.executable, "-c", program, "-f", str(clip), "-o", str(out), "--log", str(log), *map(str, networks)],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert 40 <= playable_frames(out) == len(records(log)) <= 42


def test_a_pause_between_two_frames_is_ended(networks, tmp_path):
    """Who watches sees a file at its own pace; a frame every three minutes does not keep the run so long."""
    slow, log = tmp_path / "slow.mp4", tmp_path / "log.jsonl"
    ffmpeg("-f", "lavfi", "-i", "color=gray:s=64x48:r=1/180:d=540", slow)
    command = [*APP, "-f", slow, "--send", "osc://127.0.0.1:39539", "--log", log, *networks]
    assert interrupted_run(command, log, signal.SIGTERM) == (130, "interrupted\n")
    assert 1 <= len(records(log)) <= 2


def test_an_encoder_that_hangs_is_left_by_sigterm(networks, clip, tmp_path):
    out = tmp_path / "out.mp4"
    process = subprocess.Popen(
        camera_command(clip, None, "-o", out, *networks),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    deadline, encoders = time.monotonic() + 60, []
    while not encoders and time.monotonic() < deadline:
        before = encoders_of(process.pid)
        time.sleep(1.0)
        encoders = [pid for pid in encoders_of(process.pid) if pid in before]  # not one that was only asked something
    assert encoders
    for encoder in encoders:
        os.kill(encoder, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 40
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(PATIENCE_S + 0.2)
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    assert not list(tmp_path.iterdir())


def encoders_of(pid: int) -> list[int]:
    """The ffmpeg processes that a process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it has ended
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            if fields["Name"].startswith("ffmpeg") and int(fields["PPid"]) == pid:
                found.append(int(status.parent.name))
    return found


class Stalling(http.server.BaseHTTPRequestHandler):
    """Motion JPEG that stops in the middle until the server is to `resume`."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        self.end_headers()
        picture = cv2.imencode(".jpg", np.full((120, 160, 3), 80, np.uint8))[1].tobytes()
        try:
            for index in range(40):
                if index == 20:
                    self.server.stalls.set()
                    self.server.resume.wait()
                self.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\n\r\n" + picture + b"\r\n")
                time.sleep(0.03)
        except OSError:
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def stream():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    server.daemon_threads = True
    server.resume, server.stalls = threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.resume.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_stream_stalls_and_comes_back(stream, networks, tmp_path):
    log = tmp_path / "log.jsonl"

    def resume():
        while not list(tmp_path.glob(PARTIAL_LOG)) and not stream.resume.is_set():
            time.sleep(0.05)
        time.sleep(4)
        stream.resume.set()

    threading.Thread(target=resume, daemon=True).start()
    address = f"http://127.0.0.1:{stream.server_port}/"
    done = run("-f", address, "--log", log, "--set", "source.stall_s=60", "--set", "source.reconnect_s=0", *networks)
    times = [record["time_s"] for record in records(log)]
    assert max(np.diff(times)) > 1.5, done.stderr
    assert times[-1] > times[0] + 2.0, "pictures after the stall are tracked as well"


def test_a_stream_stalls_for_good(stream, networks, tmp_path):
    out, log = tmp_path / "out.mp4", tmp_path / "log.jsonl"
    address = f"http://127.0.0.1:{stream.server_port}/"
    settings = ["--set", "source.stall_s=4", "--set", "source.reconnect_s=0"]
    done = run("-f", address, "-o", out, "--log", log, *settings, *networks)
    assert_one_line(done, 1, "stalled", "source.stall_s")
    assert 0 < playable_frames(out) <= 25
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "out.mp4"]


def test_a_stream_is_lost_for_good(networks, tmp_path):
    """Said once when it is tried again, once when that is given up; what was written is kept, no secret in it."""
    log, out = tmp_path / "log.jsonl", tmp_path / "out.mp4"
    image = cv2.imencode(".jpg", np.full((120, 160, 3), 80, np.uint8))[1].tobytes()

    def server(peer):
        peer.request()
        if peer.number > 0:
            peer.reset()
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=part\r\n\r\n")
        left = 30
        while left:
            peer.send(b"--part\r\nContent-Type: image/jpeg\r\n\r\n", image, b"\r\n")
            left -= log_begun(log)
            time.sleep(0.03)
        peer.reset()

    with serving(server) as host:
        address = f"http://me:secret@{host}/live?token=secret"
        done = run("-f", address, "--log", log, "-o", out, "--set", "source.reconnect_s=1.5", *networks)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 2, done.stderr
    assert lines[0].startswith(f"app.py: http://{host}/live: the connection was lost (")
    assert lines[0].endswith("; trying again for 1.5 s") and "did not come back for 1.5 s" in lines[1]
    assert {record["source"] for record in records(log)} == {f"http://{host}/live"}
    assert playable_frames(out) == len(records(log)) > 0
    assert "secret" not in done.stderr + done.stdout + log.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "out.mp4"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_sigkill_leaves_no_process(stream, networks, tmp_path):
    """While the stream stalls, neither what reads it nor what encodes would notice by itself that a pipe broke."""
    address = f"http://127.0.0.1:{stream.server_port}/"
    command = [*APP, "-f", address, "-o", tmp_path / "out.mp4", "--set", "source.stall_s=300", "--no-window", *networks]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        wait_until(lambda: stream.stalls.is_set() and encoders_of(process.pid), 120)
        time.sleep(0.5)
        children = encoders_of(process.pid)
    finally:
        process.kill()
        process.wait()
    assert children
    wait_until(lambda: not any(is_running(pid) for pid in children), 30)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def log_begun(log: Path) -> bool:
    return bool(list(log.parent.glob(PARTIAL_LOG)))


def limited(limit_bytes):
    """As on a full disk: no file grows beyond the limit."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return limit


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize("which", ["video", "log"])
def test_the_disk_is_full(which, networks, clip, tmp_path):
    path = tmp_path / ("out.mp4" if which == "video" else "log.jsonl")
    options = ["-o", path] if which == "video" else ["--log", path]
    done = subprocess.run(
        [*APP, "-f", str(clip), "--no-window", *map(str, [*options, *networks])],
        capture_output=True, text=True, cwd=ROOT, timeout=120, check=False, preexec_fn=limited(20_000),
    )  # fmt: skip
    assert_one_line(done, 1, path.name)


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        assert seconds >= 0
        self.now_s += seconds


def test_sync_shows_every_frame_at_one_delay():
    clock, rng = Clock(), np.random.default_rng(0)
    even = EvenDelay(frames=60, clock=clock, sleep=clock.sleep)
    image, delays = np.zeros((2, 2, 3), np.uint8), []
    for index in range(300):
        captured_s = 100.0 + index / 30
        clock.now_s = max(clock.now_s, captured_s) + rng.uniform(0.004, 0.014)  # tracking takes its time
        even.wait(Frame(index, index / 30, image, captured_s=captured_s))
        delays.append(clock.now_s - captured_s)
    settled = np.array(delays[60:])
    assert np.ptp(np.percentile(settled, [5, 90])) < 0.002
    assert settled.max() < 0.016


def test_sync_waits_for_no_late_frame():
    clock = Clock()
    even = EvenDelay(clock=clock, sleep=clock.sleep)
    image = np.zeros((2, 2, 3), np.uint8)
    for index, needed_s in enumerate([0.01] * 50 + [0.5]):
        captured_s = 100.0 + index
        clock.now_s = captured_s + needed_s
        even.wait(Frame(index, index, image, captured_s=captured_s))
    assert clock.now_s - captured_s == pytest.approx(0.5)


def test_sync_is_for_live_sources(networks, clip, tmp_path):
    done = run("-f", clip, "--sync", "--log", tmp_path / "log.jsonl", *networks)
    assert_one_line(done, 2, "--sync", "live")


def test_live_never_looks_ahead(networks, clip, tmp_path):
    command = camera_command(clip, None, "--log", tmp_path / "l.jsonl", "--set", "smoothing.lookahead=5", *networks)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert_one_line(done, 2, "smoothing.lookahead=5", "live")


@pytest.mark.skipif(os.name != "posix", reason="such names exist on POSIX only")
def test_names_of_any_bytes(tmp_path, networks):
    """In a folder, in every log, and escaped on the terminal."""
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    data = cv2.imencode(".png", np.full((64, 64, 3), 99, np.uint8))[1].tobytes()
    names = [b"caf\xe9.png", b"line\nbreak.png", b"\x1b[31mred.png", "10²".encode() + b".png", b"n" * 251 + b".png"]
    for name in names:
        with open(folder + b"/" + name, "wb") as file:
            file.write(data)
    with open(folder + b"/b\xe9d\n.png", "wb") as file:
        file.write(b"junk")
    for suffix in (".jsonl", ".csv"):
        out = tmp_path / f"out{suffix[1:]}"
        command = ["-f", os.fsdecode(folder), "-o", str(out), "--log", f"{out}{suffix}", *networks]
        run = subprocess.run([sys.executable, "app.py", *command], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 1
        (line,) = [line for line in run.stderr.splitlines() if line.startswith("skipped: ")]
        assert "b\\udce9d\\n.png: expected an image, found 4 bytes" in line and "\x1b" not in run.stderr + run.stdout
        assert len(os.listdir(out)) == len(names)
        assert r"caf\udce9.png" in Path(f"{out}{suffix}").read_text(encoding="utf-8").replace(r"\\", "\\")


MAKE_LARGE = """
import sys, cv2, numpy as np
frame = cv2.VideoCapture("samples/demo.mp4").read()[1]
image = cv2.resize(frame, (18_000, 11_000))
if "rgba16" in sys.argv[1]:
    image = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA).astype(np.uint16) * np.uint16(257)
if "stripes" in sys.argv[1]:  # no face: searched at all rolls
    image = np.zeros(image.shape[:2], np.uint8)
    image[::7] = 255
assert cv2.imwrite(sys.argv[1], image)
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize("name", ["rgba16.png", "photo.jpg", "stripes.tif"])
def test_an_image_of_198_megapixels_takes_less_than_a_gibibyte(tmp_path, networks, name):
    # made in a process of its own: what runs the program hands its peak down to it
    subprocess.run([sys.executable, "-c", MAKE_LARGE, str(tmp_path / name)], cwd=ROOT, check=True)
    command = [*APP, "-f", tmp_path / name, "-o", tmp_path / "out.png", "--log", tmp_path / "out.jsonl", *networks]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert ('"id":' in (tmp_path / "out.jsonl").read_text()) == ("stripes" not in name)
    assert usage.ru_maxrss <= 1 << 20  # KiB
