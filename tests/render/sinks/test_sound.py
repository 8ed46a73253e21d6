"""The sound of an output lies where it lay in the source: flashes and beeps, one each second, at the same moment."""

import contextlib
import http.server
import os
import re
import subprocess
import threading

import imageio_ffmpeg
import numpy as np
import pytest

from facet.render.sinks.video import open_video_sink
from facet.tracker.errors import SinkError
from facet.tracker.sources import open_source
from facet.tracker.types import Frame
from tests.clips import ffmpeg, frame_times
from tests.conftest import material

FLASH = r"drawbox=c=white:t=fill:enable='gte(t\,0.5)*lt(mod(t\,1)\,0.1)'"
BEEP = "aevalsrc='0.8*sin(2*PI*1000*t)*gte(t,0.5)*lt(mod(t,1),0.1)':d=4:s=44100"
STEPS = r"select='not(eq(mod(n\,3)\,1))'"  # a variable frame rate

SOURCES = {
    "h264.mp4": ("-c:v", "libx264"),
    "opus.mkv": ("-c:v", "libx264", "-c:a", "libopus"),
    "pcm.mov": ("-c:v", "libx264", "-c:a", "pcm_s16le"),
    "xvid.avi": ("-c:v", "mpeg4", "-c:a", "mp3"),
    "bframes.avi": ("-c:v", "libx264", "-c:a", "pcm_s16le"),
    "h264.ts": ("-c:v", "libx264"),
    "h264.flv": ("-c:v", "libx264", "-c:a", "aac"),
    "mpeg1.mpg": ("-c:v", "mpeg1video", "-c:a", "mp2"),
    "dvd.vob": ("-c:v", "mpeg2video", "-c:a", "ac3", "-f", "vob"),
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis"),
    "wmv.wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "theora.ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
    "steps.mp4": ("-c:v", "libx264", "-vf", STEPS, "-fps_mode", "vfr"),
    "steps.mkv": ("-c:v", "libx264", "-vf", STEPS, "-fps_mode", "vfr"),
    "late.flv": ("-c:v", "libx264", "-c:a", "aac", "-vf", r"select='gte(t\,0.4)'", "-fps_mode", "passthrough"),
    "late.mp4": ("-c:v", "libx264", "-vf", r"select='gte(t\,0.4)'", "-fps_mode", "passthrough"),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("sound")


def source_of(clips, name):
    path = clips / name
    if not path.exists():
        picture = ["-f", "lavfi", "-i", f"color=black:s=96x64:r=30:d=4,{FLASH},noise=alls=8:allf=t"]
        ffmpeg(*picture, "-f", "lavfi", "-i", BEEP, *SOURCES[name], path)
    return path


def copy(path, out, **options):
    with open_source(str(path), **options) as source:
        sink = open_video_sink(
            out, size_wh=source.size_wh, fps=source.fps, source_path=str(path), read_to_end=lambda: source.exhausted
        )
        with sink:
            for frame in source:
                sink.write(frame.image, frame)
    return sink


def onsets(times, loud, apart_s=0.5):
    """Times at which something begins."""
    found = []
    last = -np.inf
    for time in times[loud]:
        if time - last > apart_s:
            found.append(time)
        last = time
    return np.array(found)


def flashes(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", path, "-fps_mode", "passthrough"]
    text = subprocess.run([*command, "-vf", "showinfo", "-f", "null", "-"], capture_output=True, text=True).stderr
    found = re.findall(r"pts_time:([-\d.]+) .*? mean:\[(\d+)", text)
    times, light = np.array([float(time) for time, _ in found]), np.array([int(light) for _, light in found])
    return onsets(times, light > (light.min() + light.max()) / 2)


def beeps(path):
    exact = ["-af", "aresample=48000:async=1:min_hard_comp=0.001:first_pts=0", "-ac", "1", "-f", "f32le", "-"]
    samples = np.frombuffer(ffmpeg("-i", path, *exact).stdout, np.float32)
    return onsets(np.arange(len(samples)) / 48000, np.abs(samples) > 0.3)


def out_of_step_s(path):
    """How much later than its flash each beep is heard."""
    seen, heard = flashes(path), beeps(path)
    assert len(seen) and len(heard)
    return np.array([heard[np.abs(heard - time).argmin()] - time for time in seen])


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    ("start_s", "suffix"), [(1.5, ".mp4"), (0.0, ".mkv"), pytest.param(0.0, ".mov", marks=pytest.mark.long)]
)
def test_every_container(clips, tmp_path, name, start_s, suffix):
    path, out = source_of(clips, name), tmp_path / f"out{suffix}"
    assert copy(path, out, start_s=start_s).sound
    begin_s = start_s + (0.4 if name.startswith("late") else 0.0)
    assert flashes(out) == pytest.approx(np.arange(np.ceil(begin_s) or 1, 4) - begin_s, abs=0.05)
    # mp3 in AVI is heard 25 ms late in the source already: the container does not hold the delay of its decoder
    assert np.abs(out_of_step_s(out)).max() < (0.035 if name == "xvid.avi" else 0.02)


@pytest.mark.parametrize(("name", "count"), [("beep.mp4", 4), ("midgop.ts", 2), ("joined.ts", 3)])
@pytest.mark.parametrize("suffix", [".mp4", pytest.param(".mkv", marks=pytest.mark.long)])
def test_odd_sources(tmp_path, name, count, suffix):
    out = tmp_path / f"out{suffix}"
    assert copy(material("cases", name), out).sound == "copied"
    assert len(flashes(out)) == count
    assert np.abs(out_of_step_s(out)).max() < 0.02


def test_a_clock_of_days_is_kept(tmp_path):
    out = tmp_path / "out.mp4"
    sink = copy(material("cases", "slow500000.mp4"), out)
    assert sink.sound == "copied" and sink.frames == 30
    assert frame_times(out) == pytest.approx([n * 500_000 / 30 for n in range(30)], rel=1e-6)


def test_a_gif_has_no_sound(clips, tmp_path):
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:d=0.3", clips / "moving.gif")
    assert copy(clips / "moving.gif", tmp_path / "out.mp4").sound == ""


def test_languages_are_kept(clips, tmp_path):
    path = clips / "languages.mkv"
    other = ["-map", "0:v", "-map", "0:a", "-map", "0:a", "-metadata:s:a:0", "language=deu"]
    ffmpeg("-i", source_of(clips, "h264.mp4"), *other, "-metadata:s:a:1", "language=fra", "-c", "copy", path)
    copy(path, tmp_path / "out.mp4")
    text = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", tmp_path / "out.mp4"], capture_output=True, text=True)
    assert "(deu): Audio: aac" in text.stderr and "(fra): Audio: aac" in text.stderr


class Stalling(http.server.BaseHTTPRequestHandler):
    """Serves a video file; from the second request on no more than the first half of it."""

    content = b""
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        start = int((re.match(r"bytes=(\d+)", self.headers.get("Range", "")) or [0, 0])[1])
        self.send_response(206)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "video/mp2t")
        self.send_header("Content-Length", len(self.content) - start)
        self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        end = len(self.content) if type(self).requests == 1 else len(self.content) // 2
        with contextlib.suppress(OSError):
            self.wfile.write(self.content[start:end])
            self.server.over.wait(60)

    def log_message(self, *_):
        pass


@pytest.fixture
def stalling(clips):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    server.daemon_threads, server.over = True, threading.Event()
    Stalling.content, Stalling.requests = source_of(clips, "h264.ts").read_bytes(), 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/clip.ts"
    server.over.set()
    server.shutdown()


def test_a_sound_that_cannot_be_fetched_is_reported_and_the_video_kept(stalling, tmp_path):
    path = tmp_path / "out.mp4"
    sink = open_video_sink(path, size_wh=(96, 64), fps=30.0, source_path=stalling, timeout_s=2.0)
    Stalling.requests = 1  # the source was read; now the sound is fetched
    for index in range(30):
        sink.write(np.zeros((64, 96, 3), np.uint8), Frame(index, index / 30, np.zeros((64, 96, 3), np.uint8)))
    with pytest.raises(SinkError, match=r"the video is complete, but .*sound.*: .*the server stalled, no data for 2 s"):
        sink.close()
    assert len(frame_times(path)) == 30 and os.listdir(tmp_path) == ["out.mp4"]


def test_a_sound_that_is_damaged_is_passed_over(clips, tmp_path):
    data = bytearray(source_of(clips, "pcm.mov").read_bytes())
    path = clips / "damaged.mov"
    path.write_bytes(data.replace(b"sowt", b"????"))
    with pytest.raises(SinkError, match="the video is complete, but it has no sound"):
        copy(path, tmp_path / "out.mp4")
    assert len(frame_times(tmp_path / "out.mp4")) == 120


def test_a_video_too_wide_for_h264(clips, tmp_path):
    ffmpeg("-f", "lavfi", "-i", "color=red:s=20000x32:d=0.1", "-c:v", "ffv1", clips / "wide.mkv")
    with pytest.raises(SinkError, match=r"at most 16384 px a side, as H.264 has them, found 20000x32"):
        copy(clips / "wide.mkv", tmp_path / "out.mp4")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_no_utf8(clips, tmp_path):
    path, out = tmp_path / os.fsdecode(b"\xe9.mp4"), tmp_path / os.fsdecode(b"\xff.mp4")
    path.write_bytes(source_of(clips, "h264.mp4").read_bytes())
    assert copy(path, out).sound == "copied"
    assert len(frame_times(out)) == 120
