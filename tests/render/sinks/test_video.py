"""Videos written: as many frames out as in, their times, the sound, and every way in which writing can fail."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from facet.render.sinks import video
from facet.render.sinks.video import OutputConfig, VideoSink, bgr_to_i420, open_video_sink
from facet.tracker.errors import SinkError, SourceError
from facet.tracker.sources import open_source
from facet.tracker.types import Frame
from tests.clips import (
    CLICK_S,
    HEIGHT,
    WIDTH,
    click_s,
    describe,
    duration_s,
    ffmpeg,
    frame_times,
    make_clip,
    number_of,
    numbered_image,
)
from tests.conftest import ROOT, material

NTSC = 1001 / 30000


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def clip(clips):
    """Three seconds at 29.97 fps, with sound."""
    return make_clip(clips / "clip.mp4", 90, "30000/1001", sound="aac")


def copy(source_path, path, *, sound=True, **options):
    """Write every frame of a video, as the app does."""
    with open_source(str(source_path), **options) as source:
        sink = open_video_sink(
            path,
            size_wh=source.size_wh,
            fps=source.fps,
            source_path=str(source_path) if sound else None,
            read_to_end=lambda: source.exhausted,
        )
        with sink:
            for frame in source:
                sink.write(frame.image, frame)
    assert os.listdir(path.parent) == [path.name]  # nothing but the output is left
    return sink


def frames_of(path):
    with open_source(str(path)) as source:
        return list(source)


def frame(index, time_s=None, image=None):
    return Frame(index, index / 30 if time_s is None else time_s, numbered_image(index) if image is None else image)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_times_duration_and_sound_are_kept(clip, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    sink = copy(clip, path)
    frames = frames_of(path)
    assert [number_of(frame.image) for frame in frames] == list(range(90))
    assert frame_times(path) == pytest.approx([n * NTSC for n in range(90)], abs=1e-6 if suffix != ".mkv" else 5.1e-4)
    assert duration_s(path) == pytest.approx(duration_s(clip), abs=NTSC)
    assert sink.sound == "copied" and sink.frames == 90
    assert click_s(path) == pytest.approx(click_s(clip), abs=0.003)
    text = describe(path)
    assert "h264" in text and "yuv420p(tv, smpte170m" in text and "29.97 fps" in text and "Audio: aac" in text


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_variable_frame_rate_is_kept(clips, tmp_path, suffix):
    # The distance of frames grows: 33, 67, 100, ... ms.
    source = make_clip(clips / "vfr.mp4", 20, filters="setpts=N*(N+1)/2/30/TB", options=["-enc_time_base", "1/90000"])
    path = tmp_path / f"out{suffix}"
    copy(source, path)
    assert frame_times(path) == pytest.approx([n * (n + 1) / 2 / 30 for n in range(20)], abs=6e-4)
    assert [number_of(frame.image) for frame in frames_of(path)] == list(range(20))


def test_a_turned_video_comes_out_upright_and_untagged(clip, clips, tmp_path):
    turned = clips / "turned.mp4"
    ffmpeg("-display_rotation", 90, "-i", clip, "-c", "copy", turned)
    copy(turned, tmp_path / "out.mp4")
    assert f"{HEIGHT}x{WIDTH}" in describe(tmp_path / "out.mp4")
    assert "rotation" not in describe(tmp_path / "out.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("start_s", [0.0, 0.5, 0.93])
def test_sound_follows_a_start_and_an_early_end(clip, tmp_path, suffix, start_s):
    path = tmp_path / f"out{suffix}"
    copy(clip, path, start_s=start_s, max_frames=30)
    begin_s = np.ceil(start_s / NTSC) * NTSC
    assert frame_times(path) == pytest.approx([n * NTSC for n in range(30)], abs=1.1e-3)
    assert click_s(path) == pytest.approx(CLICK_S - begin_s, abs=0.005) or CLICK_S - begin_s > 1.0
    assert duration_s(path) == pytest.approx(30 * NTSC, abs=0.05)


def test_sound_stays_in_step_with_pictures_that_begin_late(clip, clips, tmp_path):
    late = clips / "late.mp4"
    ffmpeg("-itsoffset", "0.4", "-i", clip, "-i", clip, "-map", "0:v", "-map", "1:a", "-c", "copy", late)
    copy(late, tmp_path / "out.mp4")
    assert click_s(tmp_path / "out.mp4") == pytest.approx(CLICK_S - 0.4, abs=0.005)


@pytest.mark.parametrize(("suffix", "result"), [(".mp4", "encoded"), (".mov", "copied"), (".mkv", "copied")])
def test_sound_that_the_container_does_not_take_is_encoded(clips, tmp_path, suffix, result):
    source = make_clip(clips / f"pcm{suffix}.mkv", 30, sound="pcm_s16le")
    sink = copy(source, tmp_path / f"out{suffix}")
    assert sink.sound == result
    assert click_s(tmp_path / f"out{suffix}") == pytest.approx(CLICK_S, abs=0.005)


def test_all_sound_tracks_are_kept(clip, clips, tmp_path):
    two = clips / "two.mkv"
    ffmpeg("-i", clip, "-map", "0:v", "-map", "0:a", "-map", "0:a", "-c", "copy", two)
    copy(two, tmp_path / "out.mp4")
    assert describe(tmp_path / "out.mp4").count("Audio: aac") == 2


@pytest.mark.parametrize("sound", [True, False])
def test_no_sound(clips, tmp_path, sound):
    source = make_clip(clips / f"silent{sound}.mp4", 5)
    assert copy(source, tmp_path / "out.mp4", sound=sound).sound == ""
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index in front, for players on the web


def test_a_header_that_promises_too_much(tmp_path):
    path = material("media", "videos", "obama.mp4")
    sink = copy(path, tmp_path / "out.mp4")
    assert sink.frames == len(frame_times(tmp_path / "out.mp4")) == 55
    assert duration_s(tmp_path / "out.mp4") == pytest.approx(duration_s(path), abs=0.04)
    assert sink.sound == "copied"


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (33, 17), (128, 65), (641, 361)])
def test_odd_sizes_grow_by_one_repeated_pixel(tmp_path, width, height):
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    image = cv2.blur(image, (9, 9))
    with open_video_sink(tmp_path / "out.mp4", size_wh=(width, height), fps=25.0) as sink:
        for index in range(3):
            sink.write(image, frame(index, image=image))
    frames = frames_of(tmp_path / "out.mp4")
    assert len(frames) == 3
    even = frames[0].image
    assert even.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(even[:height, :width].astype(int) - image).mean() < 6


def test_times_that_stand_still_or_go_back_do_not_lose_frames(tmp_path):
    with open_video_sink(tmp_path / "out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0) as sink:
        for index, time_s in enumerate([7.0, 7.0, 7.1, 7.05, 7.2]):
            sink.write(numbered_image(index), frame(index, time_s))
    times = frame_times(tmp_path / "out.mp4")
    assert times == pytest.approx([0, 0.001, 0.1, 0.101, 0.2], abs=1e-4)
    assert [number_of(frame.image) for frame in frames_of(tmp_path / "out.mp4")] == list(range(5))


def test_colours(tmp_path):
    """Against the matrix of BT.601, and through the encoder and back."""
    bgr = np.array([[b, g, r] for b in (0, 128, 255) for g in (0, 128, 255) for r in (0, 128, 255)], np.float64)
    image = np.repeat(np.repeat(bgr.astype(np.uint8)[None], 64, axis=0), 16, axis=1)
    planes = bgr_to_i420(image)
    blue, green, red = (bgr / 255).T
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = planes[64:].reshape(2, 32, -1)
    assert np.abs(planes[:64][0, ::16] - (16 + 219 * luma)).max() <= 1
    assert np.abs(u[0, ::8] - (128 + 224 * (blue - luma) / 1.772)).max() <= 1.5
    assert np.abs(v[0, ::8] - (128 + 224 * (red - luma) / 1.402)).max() <= 1.5
    config = OutputConfig(crf=1)
    with open_video_sink(tmp_path / "out.mp4", size_wh=image.shape[1::-1], fps=30.0, config=config) as sink:
        sink.write(image, frame(0, image=image))
    written = frames_of(tmp_path / "out.mp4")[0].image
    assert np.abs(written[32, 8::16].astype(int) - bgr).max() <= 6


def test_colour_is_averaged_over_four_pixels():
    image = np.zeros((2, 2, 3), np.uint8)
    image[1, 1] = 0, 0, 255  # OpenCV's own conversion sees the top left pixel only
    _, _, v = bgr_to_i420(image)[:, 0], *bgr_to_i420(image)[2:].reshape(2, 1, 1)
    assert v[0, 0] == pytest.approx(128 + 112 / 4, abs=1)


def test_an_existing_file_is_replaced_only_by_a_complete_one(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"precious")
    sink = open_video_sink(path, size_wh=(WIDTH, HEIGHT), fps=30.0)
    sink.write(numbered_image(0), frame(0))
    assert path.read_bytes() == b"precious"
    sink.close()
    assert len(frames_of(path)) == 1
    sink.close()


def test_an_exception_leaves_a_playable_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_video_sink(
        tmp_path / "out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0
    ) as sink:
        for index in range(5):
            sink.write(numbered_image(index), frame(index))
        raise KeyboardInterrupt
    assert [number_of(frame.image) for frame in frames_of(tmp_path / "out.mp4")] == list(range(5))


WRITE_FOR_EVER = """
import itertools, sys, time
from facet.render.sinks.video import open_video_sink
from tests.clips import HEIGHT, WIDTH, numbered_image
from facet.tracker.types import Frame
with open_video_sink(sys.argv[1], size_wh=(WIDTH, HEIGHT), fps=30.0, source_path=sys.argv[2], read_to_end=bool) as sink:
    for index in itertools.count():
        sink.write(numbered_image(index % 256), Frame(index, index / 30, numbered_image(0)))
        print(index, flush=True)
        time.sleep(0.01)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process group")
def test_ctrl_c_in_a_terminal_leaves_a_playable_file_with_sound(clip, tmp_path):
    path = tmp_path / "out.mp4"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(path), str(clip)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.stdout.readline() != b"40\n":
        pass
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to us and to every child in our group
    process.communicate(timeout=30)
    frames = frames_of(path)
    assert len(frames) >= 40 and number_of(frames[40].image) == 40
    assert duration_s(path) == pytest.approx(len(frames) / 30, abs=0.05)  # the sound, 3 s, ends with the pictures
    assert click_s(path) == pytest.approx(CLICK_S, abs=0.005)
    assert os.listdir(tmp_path) == ["out.mp4"]


WRITE_ON_A_FULL_DISK = """
import resource, sys
import numpy as np
from facet.render.sinks.video import OutputConfig, open_video_sink
from facet.tracker.errors import SinkError
from facet.tracker.types import Frame
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
try:
    with open_video_sink(sys.argv[1], size_wh=(256, 256), fps=30.0, config=OutputConfig("ultrafast", 5)) as sink:
        for index in range(int(sys.argv[2])):
            sink.write(np.roll(noise, index, 1), Frame(index, index / 30, noise))
except SinkError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files, which stands for a full disk")
@pytest.mark.parametrize("count", [3, 400])
def test_a_full_disk(tmp_path, count):
    wrapper = tmp_path / "ffmpeg"  # it learns of the limit as of a full disk: by an error, not by a signal
    wrapper.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {imageio_ffmpeg.get_ffmpeg_exe()} \"$@\"\n")
    wrapper.chmod(0o755)
    path = tmp_path / "full" / "out.mp4"
    path.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WRITE_ON_A_FULL_DISK, str(path), str(count)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "IMAGEIO_FFMPEG_EXE": str(wrapper)},
        capture_output=True, text=True, timeout=60,
    )
    assert done.stderr == ""
    assert re.fullmatch(rf"{path}: the video cannot be written: .*File too large; is the disk full\?\n", done.stdout)
    assert os.listdir(path.parent) == []


def test_relative_names_that_ffmpeg_would_misread(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-in 12:30.mp4").write_bytes(clip.read_bytes())
    with open_source("-in 12:30.mp4", max_frames=3) as source:
        sink = open_video_sink(
            "-out 12:30.mp4", size_wh=source.size_wh, fps=source.fps, source_path=source.name, read_to_end=lambda: False
        )
        with sink:
            for each in source:
                sink.write(each.image, each)
    assert sink.sound == "copied"
    assert len(frames_of(tmp_path / "-out 12:30.mp4")) == 3
    assert sorted(os.listdir(tmp_path)) == ["-in 12:30.mp4", "-out 12:30.mp4"]


def test_pictures_survive_when_the_sound_cannot_be_joined(clip, tmp_path):
    sink = open_video_sink(tmp_path / "out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0, source_path=str(clip))
    sink.write(numbered_image(5), frame(0))
    sink._joined.unlink()
    sink._joined.mkdir()  # stands in the way of joining
    with pytest.raises(SinkError, match=r"cannot be completed: .*; .*\.partial\.mp4 holds its pictures") as caught:
        sink.close()
    sink._joined.rmdir()
    (kept,) = tmp_path.iterdir()
    assert str(kept) in str(caught.value)
    assert number_of(frames_of(kept)[0].image) == 5


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".MOV"])
def test_an_encode_that_cannot_get_its_name_is_kept(clip, tmp_path, suffix, sound):
    path = tmp_path / f"out{suffix}"
    source = str(clip) if sound else None
    sink = open_video_sink(path, size_wh=(WIDTH, HEIGHT), fps=30.0, source_path=source)
    with pytest.raises(SinkError, match="holds the complete file") as caught, sink:
        sink.write(numbered_image(5), frame(0))
        path.mkdir()  # stands in the way of the final name
    path.rmdir()
    (kept,) = tmp_path.iterdir()
    assert str(kept) in str(caught.value)
    assert number_of(frames_of(kept)[0].image) == 5


def test_a_kept_encode_is_named_though_the_run_failed_first(tmp_path):
    path = tmp_path / "out.mp4"
    sink = open_video_sink(path, size_wh=(WIDTH, HEIGHT), fps=30.0)
    message = r"the camera was unplugged; .*out\.mp4: .*holds the complete file"
    with pytest.raises(SinkError, match=message), sink:
        sink.write(numbered_image(5), frame(0))
        path.mkdir()
        raise SourceError("the camera was unplugged")


@pytest.mark.parametrize("step", ["make_partial", "_Ffmpeg", "matroska_header"])
@pytest.mark.parametrize("error", [SinkError("full"), KeyboardInterrupt()])
def test_a_sink_that_cannot_begin_leaves_nothing(tmp_path, monkeypatch, step, error):
    known, calls = getattr(video, step), []

    def fail(*arguments):
        calls.append(step)
        if step == "make_partial" and len(calls) == 1:
            return known(*arguments)
        raise error

    monkeypatch.setattr(video, step, fail)
    with pytest.raises(type(error)):
        open_video_sink(tmp_path / "out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0, source_path="clip.mp4")
    assert os.listdir(tmp_path) == []


def test_files_with_names_like_temporary_ones_stay(clip, tmp_path):
    """Names that earlier releases used: one is the input, the others are links to the user's file."""
    (tmp_path / "mine").write_bytes(b"mine")
    source = tmp_path / "x.partial.mp4"
    source.write_bytes(clip.read_bytes())
    others = [tmp_path / name for name in ("x.joined.mp4", "x.partial.mkv", "y.partial.mp4", "y.joined.mkv")]
    for other in others:
        other.write_bytes(b"mine")
    if os.name == "posix":
        others.append(tmp_path / "y.joined.mp4")
        others[-1].symlink_to(tmp_path / "mine")
    for name in ("x.mp4", "y.mp4", "y.mkv"):
        with open_video_sink(
            tmp_path / name, size_wh=(WIDTH, HEIGHT), fps=30.0, source_path=str(source), read_to_end=lambda: False
        ) as sink:
            sink.write(numbered_image(5), frame(0))
        assert len(frames_of(tmp_path / name)) == 1
        (tmp_path / name).unlink()
    assert source.read_bytes() == clip.read_bytes()
    assert all(other.read_bytes() == b"mine" for other in (*others, tmp_path / "mine"))
    assert sorted(tmp_path.iterdir()) == sorted([source, tmp_path / "mine", *others])


def test_two_sinks_of_one_name_do_not_mix(tmp_path):
    """The one that is complete last stays."""
    path = tmp_path / "out.mp4"
    sinks = [open_video_sink(path, size_wh=(WIDTH, HEIGHT), fps=30.0) for _ in range(2)]
    for index in range(4):
        for number, sink in enumerate(sinks, start=1):
            sink.write(numbered_image(number), frame(index))
    for number, sink in reversed(list(enumerate(sinks, start=1))):
        sink.close()
        assert [number_of(each.image) for each in frames_of(path)] == [number] * 4
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_the_longest_names_are_written(clip, tmp_path):
    path = tmp_path / ("n" * 251 + ".mp4")
    with open_video_sink(
        path, size_wh=(WIDTH, HEIGHT), fps=30.0, source_path=str(clip), read_to_end=lambda: False
    ) as sink:
        sink.write(numbered_image(5), frame(0))
    assert os.listdir(tmp_path) == [path.name]
    assert len(frames_of(path)) == 1


def test_an_encoder_that_dies(tmp_path):
    sink = open_video_sink(tmp_path / "out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0)
    sink._ffmpeg._process.kill()
    with pytest.raises(SinkError, match=r"out\.mp4: the video cannot be written"):
        for index in range(200):
            sink.write(numbered_image(0), frame(index))
            time.sleep(0.005)
    with pytest.raises(SinkError):
        sink.close()
    assert os.listdir(tmp_path) == []


@pytest.fixture
def impatient(monkeypatch):
    """An encoder counts as stalled much sooner."""
    monkeypatch.setattr(video, "STALL_S", 0.6)


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
@pytest.mark.parametrize("when", ["writing", "closing"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_encoder_that_does_not_respond(suffix, when, impatient, tmp_path):
    """It is ended; what a player can read of the video is kept and named."""
    path = tmp_path / f"out{suffix}"
    sink = open_video_sink(path, size_wh=(WIDTH, HEIGHT), fps=30.0)
    noise = np.random.default_rng(0).integers(0, 255, (8, HEIGHT, WIDTH, 3), np.uint8)
    for index in range(400):  # more than one cluster of Matroska
        sink.write(noise[index % 8], frame(index))
    deadline = time.monotonic() + 20
    while suffix == ".mkv" and video.size_of(sink._partial) < 50_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    sink._ffmpeg._process.send_signal(signal.SIGSTOP)
    with pytest.raises(SinkError, match="not responded") as caught:
        for index in range(400, 4000 if when == "writing" else 401):
            sink.write(noise[index % 8], frame(index))
        sink.close()
    with contextlib.suppress(SinkError):
        sink.close()
    assert sink._ffmpeg.status == -signal.SIGKILL
    assert not sink._thread.is_alive()
    left = os.listdir(tmp_path)
    assert path.name not in left and len(left) == (suffix == ".mkv")
    if left:
        assert left[0] in str(caught.value)
        assert len(frames_of(tmp_path / left[0])) > 10


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
def test_an_encoder_that_never_ends(impatient, tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\ncat > /dev/null\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    (tmp_path / "out").mkdir()
    sink = open_video_sink(tmp_path / "out" / "out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0)
    sink.write(numbered_image(0), frame(0))
    with pytest.raises(SinkError, match=r"out\.mp4: .*not responded"):
        sink.close()
    assert os.listdir(tmp_path / "out") == []


def test_no_frame_no_file(tmp_path):
    with open_video_sink(tmp_path / "out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0):
        pass
    assert os.listdir(tmp_path) == []


def test_a_frame_of_another_size(tmp_path):
    with open_video_sink(tmp_path / "out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0) as sink:
        sink.write(numbered_image(0), frame(0))
        with pytest.raises(SinkError, match="expected frames of 128x64"):
            sink.write(numbered_image(0)[:32], frame(1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.avi", r"expected a name ending in \.mp4, \.mkv, \.mov, found \.avi"),
        ("out", "found no ending"),
        ("missing/out.mp4", "make the folder first"),
        ("folder.mp4", "found a folder"),
        ("in.mp4", "the output would replace the input"),
    ],
)
def test_outputs_that_cannot_be_are_refused_at_once(tmp_path, name, message):
    (tmp_path / "folder.mp4").mkdir()
    source = make_clip(tmp_path / "in.mp4", 2)
    before = source.read_bytes()
    with pytest.raises(SinkError, match=message) as caught:
        open_video_sink(tmp_path / name, size_wh=(WIDTH, HEIGHT), fps=30.0, source_path=str(source))
    assert "\n" not in str(caught.value)
    assert source.read_bytes() == before


@pytest.mark.skipif(os.name != "posix" or not os.path.exists("/proc/self"), reason="needs a folder nobody can write")
def test_a_folder_that_cannot_be_written():
    with pytest.raises(SinkError, match=r"cannot be written \(.*\); choose another folder"):
        open_video_sink("/proc/out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0)


@pytest.mark.parametrize("settings", [{"preset": "quick"}, {"crf": -1}, {"crf": 52}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="must be"):
        OutputConfig(**settings)


def test_the_sink_is_what_opening_gives(tmp_path):
    with open_video_sink(tmp_path / "out.mp4", size_wh=(WIDTH, HEIGHT), fps=30.0) as sink:
        assert isinstance(sink, VideoSink)
        sink.write(numbered_image(0), frame(0))
