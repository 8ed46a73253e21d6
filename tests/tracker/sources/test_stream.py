"""Network streams that break off, trickle, ask for a password, or send more than can be shown."""

import base64
import hashlib
import itertools
import re
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from facet.tracker.errors import SourceError
from facet.tracker.sources import SourceConfig, open_source
from facet.tracker.sources import stream as source_stream
from tests.clips import HEIGHT, WIDTH, ffmpeg, make_clip, number_of, numbered_image
from tests.conftest import ROOT
from tests.servers import play_rtsp, serving
from tests.waiting import wait_until

MULTIPART = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"
CHUNKED = MULTIPART + "Transfer-Encoding: chunked\r\n\r\n"
PASSWORD = "p@ss word"
LOGIN = "me:p%40ss%20word"


def part(number: int) -> bytes:
    """A picture of an MJPEG stream."""
    data = cv2.imencode(".jpg", numbered_image(number % 256), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data), data)


def send_parts(peer, numbers, wrap=bytes, pause_s=0.02):
    for number in numbers:
        peer.send(wrap(part(number)))
        time.sleep(pause_s)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def all_of(url, **settings):
    """The frames of a stream and what was notified meanwhile."""
    notices = []
    with open_source(url, SourceConfig(**settings), notify=notices.append) as source:
        return list(source), notices


# How a connection ends


def reset(peer):
    peer.reset()


def short_of_its_length(peer):
    peer.send(MULTIPART, f"Content-Length: {10 * len(part(0))}\r\n\r\n")
    send_parts(peer, range(8))


def without_the_last_chunk(peer):
    peer.send(CHUNKED)
    send_parts(peer, range(8), chunk)


def reset_in_the_middle(peer):
    peer.send(MULTIPART, "\r\n")
    send_parts(peer, range(8))
    time.sleep(0.3)  # a reset throws away what the other side has not read
    peer.reset()


def closed_in_order(peer):
    peer.send(MULTIPART, "\r\n")
    send_parts(peer, range(8))


def with_the_last_chunk(peer):
    peer.send(CHUNKED)
    send_parts(peer, range(8), chunk)
    peer.send("0\r\n\r\n")


def of_its_length(peer):
    parts = [part(number) for number in range(8)]
    peer.send(MULTIPART, f"Content-Length: {sum(map(len, parts))}\r\n\r\n", *parts)


BREAKS = (reset_in_the_middle, short_of_its_length, without_the_last_chunk)


@pytest.mark.parametrize("behave", [with_the_last_chunk, of_its_length])
def test_a_complete_body_is_the_end(behave):
    def server(peer):
        peer.request()
        behave(peer)

    with serving(server) as host:
        frames, notices = all_of(f"http://{host}/", reconnect_s=20)
    assert number_of(frames[-1].image) == 7 and notices == []


@pytest.mark.parametrize("behave", BREAKS)
def test_a_break_is_an_error_where_nothing_is_tried_again(behave):
    def server(peer):
        peer.request()
        behave(peer)

    with serving(server) as host, pytest.raises(SourceError, match=rf"^http://{host}/x: the connection was lost \("):
        all_of(f"http://u:secret@{host}/x?k=secret", reconnect_s=0)


def test_a_file_whose_connection_breaks_is_no_complete_file(tmp_path):
    options = ["-movflags", "+faststart", "-crf", "0", "-vf", "noise=alls=60:allf=t"]
    data = make_clip(tmp_path / "clip.mp4", 60, options=options).read_bytes()

    def server(peer):
        peer.request()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {len(data)}\r\n\r\n"
        peer.send(head, data[: 2 * len(data) // 3])
        if peer.number == 0:  # which only asks what it is
            time.sleep(0.3)
        peer.reset() if peer.number % 2 else None

    frames = []
    with serving(server) as host, pytest.raises(SourceError, match=rf"^http://{host}/a\.mp4: the connection broke off"):
        frames.extend(open_source(f"http://u:secret@{host}/a.mp4"))


def test_a_closed_body_without_a_length_is_the_end_where_nothing_is_tried_again():
    def server(peer):
        peer.request()
        closed_in_order(peer)

    with serving(server) as host:
        frames, notices = all_of(f"http://{host}/", reconnect_s=0)
    assert number_of(frames[-1].image) == 7 and notices == []


@pytest.mark.parametrize("behave", [*BREAKS, closed_in_order])
def test_a_lost_connection_is_made_again(behave):
    """The third connection brings frames of another size, and ends in order."""
    asked = []

    def server(peer):
        asked.append(peer.request())
        if peer.number == 0:
            behave(peer)
        elif peer.number == 1:
            peer.reset()
        else:
            peer.send(CHUNKED)
            send_parts(peer, range(100, 108), chunk)
            peer.send("0\r\n\r\n")

    with serving(server) as host:
        frames, notices = all_of(f"http://{host}/live?token=abc", reconnect_s=20)
    assert len(notices) == 1 and notices[0].startswith(f"http://{host}/live: the connection was lost (")
    assert notices[0].endswith("; trying again for 20 s")
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers == sorted(numbers) and numbers[0] < 8 and numbers[-1] == 107
    begins = [frame.index for frame in frames if frame.first]
    assert begins == [0, next(n for n, number in enumerate(numbers) if number >= 100)]
    times = [frame.time_s for frame in frames]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    gap_s = times[begins[1]] - times[begins[1] - 1]
    assert gap_s > 0.7  # a quarter and half a second of waiting: time goes on by the clock
    assert len(asked) == 3 and all("token=abc" in request for request in asked)


def test_a_connection_that_does_not_come_back():
    alive = threading.Event()

    def server(peer):
        peer.request()
        if not alive.is_set():
            alive.set()
            reset_in_the_middle(peer)
        else:
            peer.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    notices = []
    with serving(server) as host:
        source = open_source(f"http://{host}/", SourceConfig(reconnect_s=1.5), notify=notices.append)
        message = r"did not come back for 1\.5 s \(at last: .*503 Service Unavailable"
        with source, pytest.raises(SourceError, match=message) as caught:
            list(source)
    assert len(notices) == 1 and "\n" not in str(caught.value)


def test_closing_ends_the_attempts():
    def server(peer):
        peer.request()
        if peer.number == 0:
            reset_in_the_middle(peer)
        else:
            time.sleep(60)

    notices = []
    with serving(server) as host:
        source = open_source(f"http://{host}/", SourceConfig(reconnect_s=50), notify=notices.append)
        consumer = threading.Thread(target=lambda: list(source))
        consumer.start()
        wait_until(lambda: notices)
        begin_s = time.monotonic()
        source.close()
        consumer.join(30)
    assert not consumer.is_alive() and time.monotonic() - begin_s < 8


def test_a_stalled_stream_is_tried_again():
    def server(peer):
        peer.request()
        peer.send(CHUNKED)
        send_parts(peer, range(8), chunk)
        if peer.number == 0:
            time.sleep(60)
        peer.send("0\r\n\r\n")

    with serving(server) as host:
        frames, notices = all_of(f"http://{host}/", reconnect_s=20, stall_s=2.0)
    assert len(notices) == 1 and "the stream stalled, no picture for 2 s; trying again" in notices[0]
    assert sum(frame.first for frame in frames) == 2


# Servers that trickle, and answers without bounds


def drip_the_head(peer):
    peer.drip(b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 1000)


def drip_the_image(peer):
    peer.send("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n")
    peer.drip(b"\x89PNG" + b"x" * 5000)


def drip_the_playlist(peer):
    peer.send("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n")
    peer.drip(b"#EXTM3U\n" * 500)


def drip_the_first_frame(peer):
    peer.send(MULTIPART, "\r\n")
    peer.drip(part(0))


def say_nothing(peer):
    time.sleep(60)


@pytest.mark.parametrize(
    "behave", [drip_the_head, drip_the_image, drip_the_playlist, drip_the_first_frame, say_nothing]
)
def test_a_server_that_trickles_is_given_up(behave):
    def server(peer):
        peer.request()
        behave(peer)

    begin_s = time.monotonic()
    with serving(server) as host, pytest.raises(SourceError, match=r"did not answer for 1 s|no picture for 1 s"):
        open_source(f"http://{host}/x", SourceConfig(stall_s=1.0))
    assert time.monotonic() - begin_s < 20  # a minute and more, where each read is waited for by itself


def test_a_stream_that_trickles_stalls():
    def server(peer):
        peer.request()
        peer.send(MULTIPART, "\r\n")
        send_parts(peer, range(8))
        peer.drip(part(8), 0.2)

    with serving(server) as host, pytest.raises(SourceError, match=r"the stream stalled, no picture for 1\.5 s"):
        all_of(f"http://{host}/", stall_s=1.5, reconnect_s=0)


def redirect_in_circles(peer):
    peer.send("HTTP/1.1 302 Found\r\nLocation: /round?token=secret\r\nContent-Length: 0\r\n\r\n")


def redirect_for_ever(peer):
    peer.send(f"HTTP/1.1 302 Found\r\nLocation: /{peer.number}?token=secret\r\nContent-Length: 0\r\n\r\n")


def redirect_to_a_file(peer):
    peer.send("HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n")


def redirect_to_ftp(peer):
    peer.send("HTTP/1.1 302 Found\r\nLocation: ftp://u:secret@127.0.0.1/x\r\nContent-Length: 0\r\n\r\n")


def send_a_long_header(peer):
    peer.send("HTTP/1.1 200 OK\r\nX: ", b"x" * 200_000, "\r\n\r\n")


def send_many_headers(peer):
    peer.send("HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000, "\r\n")


def send_an_endless_playlist(peer):
    peer.send("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n", b"#EXTM3U\n")
    while True:
        peer.send(b"#" * 65536)


def speak_something_else(peer):
    peer.send("220 mail.example.org ESMTP\r\n")


@pytest.mark.parametrize(
    "behave",
    [
        redirect_in_circles, redirect_for_ever, redirect_to_a_file, redirect_to_ftp, send_a_long_header,
        send_many_headers, send_an_endless_playlist, speak_something_else, reset,
    ],
)  # fmt: skip
def test_an_answer_without_bounds_or_sense_is_one_line(behave, capfd):
    def server(peer):
        peer.request()
        behave(peer)

    with serving(server) as host, pytest.raises(SourceError) as caught:
        open_source(f"http://u:secret@{host}/x?k=secret", SourceConfig(stall_s=20.0))
    assert str(caught.value).startswith(f"http://{host}/x: ") and len(str(caught.value)) < 500
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1", "http://[::1]x/", "http://u:secret@[::1/x", "http://", "http:///x", "http://h:99999/", "http://h:x/",
        "http://h:0/", "http://u:se/cret@h/", "http://u:12#secret@h/", "http://a..b/", "http://" + "a" * 70 + "/", "rtsp://[::1",
        "rtsp://", "rtsp://h:99999/x", "https://h\x00i/", "http://h/a\nb", "http://%zz/", "://", "1://h/",
        "foo://u:secret@h/x", "file:///etc/passwd", "concat://a|b", "HTTP://[",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_one_line(url):
    with pytest.raises(SourceError) as caught:
        open_source(url, SourceConfig(stall_s=5.0))
    assert "\n" not in str(caught.value).removeprefix(url) and "cret" not in str(caught.value)


# Passwords


def asking_for_a_password(answer):
    expected = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    def server(peer):
        if f"Authorization: {expected}" in peer.request():
            answer(peer)
        else:
            peer.send("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")

    return server


def send_an_image(peer):
    data = cv2.imencode(".png", numbered_image(55))[1].tobytes()
    peer.send(f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(data)}\r\n\r\n", data)


def test_a_password_opens_an_image_a_file_and_a_stream(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", 12, options=["-movflags", "+faststart"]).read_bytes()

    def send_a_file(peer):
        peer.send(f"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {len(clip)}\r\n\r\n", clip)

    for answer, numbers in ((send_an_image, [55]), (send_a_file, list(range(12))), (with_the_last_chunk, [7])):
        with serving(asking_for_a_password(answer)) as host:
            frames, _ = all_of(f"http://{LOGIN}@{host}/a")
        assert [number_of(frame.image) for frame in frames][-len(numbers) :] == numbers
        assert {frame.source for frame in frames} == {f"http://{host}/a"}


def test_a_password_is_digested_where_a_camera_asks_for_that():
    """The response is computed as RFC 2617, 3.2.2 says."""

    def md5(text):
        return hashlib.md5(text.encode()).hexdigest()

    def server(peer):
        given = dict(re.findall(r'(\w+)="?([^",\r]*)', peer.request()))
        start = md5(f"me:cam:{PASSWORD}"), given.get("nonce"), given.get("nc"), given.get("cnonce"), "auth"
        if given.get("response") == md5(":".join(map(str, (*start, md5("GET:/a"))))):
            with_the_last_chunk(peer)
        challenge = 'Digest realm="cam", nonce="12ab", qop="auth"'
        peer.send(f"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n")

    with serving(server) as host:
        frames, _ = all_of(f"http://{LOGIN}@{host}/a")
    assert number_of(frames[-1].image) == 7


def test_a_wrong_password_and_none():
    with serving(asking_for_a_password(send_an_image)) as host:
        with pytest.raises(SourceError, match=r"401 Unauthorized; check user and password$"):
            open_source(f"http://me:other@{host}/a")
        with pytest.raises(SourceError, match=r"401 Unauthorized; give them: http://USER:PASSWORD@HOST/"):
            open_source(f"http://{host}/a")


def test_a_password_is_not_passed_on_to_another_server():
    seen = []

    def other(peer):
        seen.append(peer.request())
        peer.send("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")

    with serving(other) as host:

        def redirect(peer):
            peer.send(f"HTTP/1.1 302 Found\r\nLocation: http://{host}/b\r\nContent-Length: 0\r\n\r\n")

        with serving(asking_for_a_password(redirect)) as first, pytest.raises(SourceError, match="401"):
            open_source(f"http://{LOGIN}@{first}/a")
    assert seen and not any("Authorization" in request for request in seen)


# What is in it


def test_an_interlaced_stream_is_deinterlaced(tmp_path):
    """Every frame as from a file, which is held against ffmpeg's own program."""
    path = tmp_path / "fields.ts"
    fields = ["-vf", "tinterlace=interleave_top", "-flags", "+ildct+ilme"]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=50:d=0.6", *fields, "-c:v", "mpeg2video", "-q:v", 2, path)

    def server(peer):
        peer.request()
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n", path.read_bytes())

    with serving(server) as host, open_source(f"http://{host}/", live=False) as source:
        frames = [frame.image for frame in source]
    with open_source(str(path)) as source:
        expected = [frame.image for frame in source]
    assert len(frames) == len(expected) == 15
    assert np.array_equal(frames, expected)


# The newest frame, whatever holds up the reading


@pytest.mark.parametrize("codec", ["mjpeg", "h264"])
def test_what_came_while_nobody_read_is_passed_over(codec, tmp_path, monkeypatch):
    """The conversion of a frame is held up while a hundred others and more arrive: the next one is the newest."""
    go, sent, count = threading.Event(), threading.Event(), 200
    if codec == "mjpeg":
        head, units = MULTIPART, [part(number) for number in range(count)]
    else:
        clip = make_clip(tmp_path / "c.mp4", count, options=["-tune", "zerolatency", "-x264-params", "scenecut=0"])
        bare = ["-c", "copy", "-bsf:v", "h264_mp4toannexb,h264_metadata=aud=insert", "-f", "h264"]
        stream = ffmpeg("-i", clip, *bare, "-")
        start = b"\0\0\0\1\x09"
        head = "HTTP/1.1 200 OK\r\nContent-Type: video/h264\r\n"
        units = [start + unit for unit in stream.stdout.split(start)[1:]]
    assert len(units) == count

    def server(peer):
        peer.request()
        peer.send(head, "\r\n", *units[:80])
        go.wait()
        peer.send(*units[80:])
        sent.set()
        time.sleep(60)

    held, convert = threading.Event(), source_stream.to_bgr
    open_gate = threading.Event()

    def to_bgr(*arguments):
        image = convert(*arguments)
        if go.is_set():
            held.set()
            open_gate.wait(60)
        return image

    monkeypatch.setattr(source_stream, "to_bgr", to_bgr)
    with serving(server) as host, open_source(f"http://{host}/") as source:
        go.set()
        frames = [next(source)]
        held.wait(30)
        sent.wait(30)
        time.sleep(0.5)  # until the last bytes are through
        open_gate.set()
        while number_of(frames[-1].image) < count - 3:
            frames.append(next(source))
        numbers = [number_of(frame.image) for frame in frames]
        assert len(numbers) <= 4 and numbers == sorted(set(numbers)), numbers
        assert source.dropped > count - 100


SENDER = """
import http.server, sys, time
import cv2, numpy as np
from tests.clips import numbered_image

rng, pictures = np.random.default_rng(0), []
for number in range(256):
    image = rng.integers(0, 255, (360, 640, 3), np.uint8)
    image[:64, :128] = numbered_image(number)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    head = "--frame\\r\\nContent-Type: image/jpeg\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(data)
    pictures.append(head.encode() + data + b"\\r\\n")

class Sender(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        begin_s = time.monotonic()
        print(begin_s, flush=True)
        for number in range(100_000):
            time.sleep(max(0.0, begin_s + number / 30 - time.monotonic()))
            self.wfile.write(pictures[number % 256])

    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Sender)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.mark.long
def test_the_delay_does_not_grow_beside_busy_loops():
    """From the moment at which a picture is due at the sender until it is in hand, with work of 30 ms for each."""
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    delays_s, sent = [], 0
    try:
        with open_source(f"http://127.0.0.1:{int(sender.stdout.readline())}/") as source:
            begin_s = float(sender.stdout.readline())
            while time.monotonic() < begin_s + 40:
                frame = next(source)
                sent += (number_of(frame.image) - sent) % 256
                delays_s.append(time.monotonic() - begin_s - sent / 30)
                end_s = time.thread_time() + 0.03
                while time.thread_time() < end_s:
                    pass
    finally:
        for process in (sender, *loops):
            process.kill()
            process.wait()
    late = sorted(delays_s[len(delays_s) // 4 :])
    print(f"delay: median {late[len(late) // 2]:.3f} s, most {late[-1]:.3f} s, {len(delays_s)} frames")
    assert late[len(late) // 2] < 0.5 and late[-1] < 2.0


@pytest.mark.parametrize(
    ("size", "matrix", "tag"), [("320x240", "bt601", 2), ("1280x720", "bt709", 2), ("320x240", "bt709", 1)]
)
def test_colours_of_a_stream(size, matrix, tag, tmp_path):
    """Untagged, video from 720 lines on is BT.709, below BT.601."""
    plain = f"color=c=0xC83214:s={size}:r=10:d=1,scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p"
    mark = ["-bsf:v", f"h264_metadata=matrix_coefficients={tag}"]
    ffmpeg("-f", "lavfi", "-i", plain, "-c:v", "libx264", "-qp", "0", *mark, tmp_path / "plain.ts")

    def server(peer):
        peer.request()
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n", (tmp_path / "plain.ts").read_bytes())

    with serving(server) as host:
        frames, _ = all_of(f"http://{host}/", reconnect_s=0)
    assert np.abs(frames[-1].image[50, 50].astype(int) - [0x14, 0x32, 0xC8]).max() <= 3


def test_pixels_of_a_stream_are_square(tmp_path):
    clip = make_clip(tmp_path / "wide.ts", 20, filters="setsar=2/1").read_bytes()

    def server(peer):
        peer.request()
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n", clip)

    with serving(server) as host:
        frames, _ = all_of(f"http://{host}/", reconnect_s=0)
    assert frames[-1].image.shape == (HEIGHT, 2 * WIDTH, 3)


# rtsp


def test_an_rtsp_server_that_hangs_up_is_asked_again(tmp_path):
    clips = [make_clip(tmp_path / f"{n}.ts", 40, options=["-tune", "zerolatency"]).read_bytes() for n in range(2)]

    def server(peer):
        play_rtsp(peer, clips[min(peer.number, 1)])

    notices = []
    with serving(server) as host:
        address = f"rtsp://me:secret@{host}/live"
        with open_source(address, SourceConfig(reconnect_s=20), notify=notices.append) as source:
            frames = [next(source)]
            while sum(frame.first for frame in frames) < 2 or len(notices) < 2:
                frames.append(next(source))
    assert source.live and notices[0].startswith(f"rtsp://{host}/live: the connection was lost")
    times = [frame.time_s for frame in frames]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


def test_an_rtsp_server_that_says_nothing():
    with serving(say_nothing) as host, pytest.raises(SourceError, match="no picture for 1 s"):
        open_source(f"rtsp://{host}/live", SourceConfig(stall_s=1.0))


# Playlists


def test_a_broadcast_in_segments_is_played_as_it_was_filmed_and_ends_with_its_playlist(tmp_path):
    clip = make_clip(tmp_path / "clip.ts", 90, options=["-tune", "zerolatency"])
    cut = ["-f", "hls", "-hls_time", "1", "-hls_list_size", "0", "-hls_segment_filename", tmp_path / "part%d.ts"]
    ffmpeg("-i", clip, "-c", "copy", *cut, tmp_path / "all.m3u8")
    *lines, end = (tmp_path / "all.m3u8").read_text().splitlines(keepends=True)
    assert end.strip() == "#EXT-X-ENDLIST" and "part2.ts" in lines[-1]
    begin_s = time.monotonic()

    def server(peer):
        name = peer.request().split()[1].strip("/")
        data = (tmp_path / name).read_bytes() if name.endswith(".ts") else "".join(lines).encode()
        if not name.endswith(".ts") and time.monotonic() - begin_s > 2.0:
            data += end.encode()
        peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n", data)

    with serving(server) as host:
        frames, notices = all_of(f"http://{host}/live.m3u8", reconnect_s=20)
    numbers = [number_of(frame.image) for frame in frames]
    assert notices == [] and numbers == sorted(set(numbers)) and numbers[-1] == 89
    assert len(numbers) > 20  # not the last of each segment
    assert frames[-1].time_s - frames[0].time_s == pytest.approx((numbers[-1] - numbers[0]) / 30, abs=1.5)
