"""Videos: every frame once, in order, with its own time, upright."""

import itertools
import os
import shutil
import threading

import numpy as np
import pytest

from facet.tracker.errors import SourceError
from facet.tracker.sources import SourceConfig, open_source
from tests.clips import HEIGHT, WIDTH, ffmpeg, frame_times, make_clip, number_of
from tests.conftest import material

NTSC = 1001 / 30000


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def clip(clips):
    """Sixty frames at 29.97 fps."""
    return make_clip(clips / "clip.mp4", 60, "30000/1001")


def read(path, **options):
    with open_source(str(path), **options) as source:
        frames = list(source)
    return source, frames


def numbers(frames):
    return [number_of(frame.image) for frame in frames]


def test_every_frame_comes_once_in_order_with_its_time(clip):
    source, frames = read(clip)
    assert numbers(frames) == list(range(60))
    assert [frame.index for frame in frames] == list(range(60))
    assert [frame.time_s for frame in frames] == pytest.approx([n * NTSC for n in range(60)], abs=1e-6)
    assert [frame.first for frame in frames] == [True] + [False] * 59
    assert (source.kind, source.live, source.still, source.exhausted) == ("video", False, False, True)
    assert source.fps == pytest.approx(30000 / 1001) and source.frame_count_hint == 60
    assert source.size_wh == (WIDTH, HEIGHT) and frames[0].image.shape == (HEIGHT, WIDTH, 3)
    assert frames[0].source == str(clip) and source.dropped == 0


def test_variable_frame_rate_keeps_its_times(clips):
    path = make_clip(clips / "vfr.mp4", 30, filters=r"select=not(eq(mod(n\,3)\,1))")
    _, frames = read(path)
    kept = [n for n in range(30) if n % 3 != 1]
    assert numbers(frames) == kept
    assert [frame.time_s for frame in frames] == pytest.approx([n / 30 for n in kept], abs=1e-3)


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mov", ".avi", ".webm"])
def test_containers(clip, clips, suffix):
    path = clips / f"container{suffix}"
    codec = ["-c:v", "libvpx", "-deadline", "realtime"] if suffix == ".webm" else ["-c", "copy"]
    ffmpeg("-i", clip, *codec, path)
    _, frames = read(path)
    assert numbers(frames) == list(range(60))
    assert [frame.time_s for frame in frames] == pytest.approx([n * NTSC for n in range(60)], abs=1.1e-3)


def test_times_count_from_the_first_frame(clip, clips):
    path = clips / "late.mkv"
    ffmpeg("-i", clip, "-c", "copy", "-output_ts_offset", "5", path)
    assert read(path)[1][0].time_s == 0.0


def test_without_times_in_the_container_frames_are_counted(clip, clips):
    path = clips / "bare.h264"
    ffmpeg("-i", clip, "-c", "copy", path)
    source, frames = read(path)
    assert numbers(frames) == list(range(60))
    assert [frame.time_s for frame in frames] == pytest.approx([n / source.fps for n in range(60)])


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
def test_rotation_of_the_container_is_applied(clip, clips, turn_deg):
    path = clips / f"turned{turn_deg}.mp4"
    ffmpeg("-display_rotation", turn_deg, "-i", clip, "-c", "copy", path)  # counter-clockwise
    source, frames = read(path, max_frames=3)
    upright = np.rot90(read(clip, max_frames=1)[1][0].image, turn_deg // 90)
    assert np.array_equal(frames[0].image, upright)
    assert source.rotation_deg == -turn_deg % 360
    assert source.size_wh == (upright.shape[1], upright.shape[0])


def test_a_truncated_file_ends_after_its_last_frame(clip, clips):
    path = clips / "truncated.mkv"
    ffmpeg("-i", clip, "-c", "copy", path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    source, frames = read(path)
    assert 20 < len(frames) < 60
    assert numbers(frames)[:20] == list(range(20))
    assert source.exhausted


def test_a_damaged_middle_does_not_end_the_video(clip, clips):
    path = clips / "damaged.mp4"
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdat") + 4
    middle, length = start + (len(data) - start) // 3, (len(data) - start) // 6
    data[middle : middle + length] = np.random.default_rng(0).bytes(length)
    path.write_bytes(data)
    _, frames = read(path)
    times = [frame.time_s for frame in frames]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    assert number_of(frames[0].image) == 0 and number_of(frames[-1].image) == 59
    assert len(frames) == len(frame_times(path))


def test_a_header_that_promises_too_much():
    source, frames = read(material("media", "videos", "obama.mp4"))
    assert source.frame_count_hint == 158 and len(frames) == 55
    assert frames[-1].time_s == pytest.approx(54 / 25)


def test_frames_of_another_size_are_scaled_to_the_first(clip, clips):
    parts = []
    for name, size in (("one", "128:64"), ("two", "64:32")):
        ffmpeg("-i", clip, "-vf", f"scale={size}", "-c:v", "libx264", "-frames:v", 10, clips / f"{name}.ts")
        parts.append((clips / f"{name}.ts").read_bytes())
    path = clips / "sizes.ts"
    path.write_bytes(b"".join(parts))
    source, frames = read(path)
    assert len(frames) == 20
    assert {frame.image.shape[1::-1] for frame in frames} == {source.size_wh}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("start_s", [0.0, 0.5, 2.0 - NTSC, 5.0])
def test_start(clips, suffix, start_s):
    path = clips / f"long{suffix}"
    if not path.exists():
        make_clip(path, 200, "30000/1001")
    source, frames = read(path, start_s=start_s, max_frames=5)
    first = int(np.ceil(start_s / NTSC - 0.02))  # Matroska rounds times to 1 ms
    assert numbers(frames) == list(range(first, first + 5))
    assert frames[0].time_s == pytest.approx(first * NTSC, abs=1e-3) and frames[0].first
    assert not source.exhausted


def test_start_behind_the_end(clip):
    with pytest.raises(SourceError, match=r"last frame, at 1\.969 s; start earlier"):
        open_source(str(clip), start_s=9.0)
    with pytest.raises(SourceError, match="behind the last frame"):
        open_source(str(clip), start_s=1e300)  # beyond 64 bits of ticks


@pytest.mark.parametrize("count", [0, 1, 59, 60, 61])
def test_max_frames(clip, count):
    source, frames = read(clip, max_frames=count)
    assert len(frames) == source.frame_count_hint == min(count, 60)
    assert source.exhausted == (count > 60)


def test_closing_from_another_thread_ends_the_iteration(clip):
    source = open_source(str(clip))
    iterator = iter(source)
    next(iterator)
    closer = threading.Thread(target=source.close)
    closer.start()
    closer.join()
    assert list(iterator) == [] and not source.exhausted
    source.close()


def damaged_head(path, clip):
    data = clip.read_bytes()
    path.write_bytes(data[: len(data) // 2])  # the index stood at the end


def text(path, clip):
    path.write_text("no video\n" * 99)


def empty(path, clip):
    path.write_bytes(b"")


def nothing(path, clip):
    pass


def header_alone(path, clip):
    ffmpeg("-i", clip, "-c", "copy", "-movflags", "frag_keyframe+empty_moov", path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moof") - 4])


def sound_alone(path, clip):
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-vn", path)


@pytest.mark.parametrize("spoil", [damaged_head, text, empty, nothing, header_alone, sound_alone])
def test_what_is_no_video_is_reported_in_one_line(tmp_path, clip, spoil, capfd):
    path = tmp_path / "bad.mp4"
    spoil(path, clip)
    with pytest.raises(SourceError, match=r"bad\.mp4: ") as caught:
        open_source(str(path))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # neither OpenCV nor ffmpeg says anything of its own


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user without all rights")
def test_an_unreadable_file(clip, tmp_path):
    path = shutil.copy(clip, tmp_path)
    os.chmod(path, 0)
    with pytest.raises(SourceError, match="permission denied"):
        open_source(path)


def test_a_gif_moves(clip, tmp_path):
    ffmpeg("-i", clip, "-frames:v", 5, tmp_path / "moving.gif")
    source, frames = read(tmp_path / "moving.gif")
    assert not source.still and numbers(frames) == list(range(5))


@pytest.mark.parametrize(
    "settings", [{"size": "640"}, {"size": "0x4"}, {"fps": 0.0}, {"fps": float("nan")}, {"stall_s": 0.0}]
)
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="must be"):
        SourceConfig(**settings)
