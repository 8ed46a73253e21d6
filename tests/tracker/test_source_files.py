"""Videos and images: every frame once, in order, with its own time, upright."""

import itertools
import os
import shutil
import threading
import zlib

import cv2
import numpy as np
import pytest

from tests.clips import HEIGHT, WIDTH, ffmpeg, frame_times, make_clip, number_of, numbered_image
from tests.conftest import material
from tracker.errors import SourceError
from tracker.source import SourceConfig, open_source

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


# Videos


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
def test_what_is_no_video_is_told_in_one_line(tmp_path, clip, spoil, capfd):
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


# Images


def write(path, image, *options):
    assert cv2.imwrite(str(path), image, *options)
    return path


def test_a_folder_in_natural_order(tmp_path):
    for number in (10, 2, 1):
        write(tmp_path / f"face{number}.png", numbered_image(number))
    write(tmp_path / ".hidden.png", numbered_image(99))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    source, frames = read(tmp_path)
    assert numbers(frames) == [1, 2, 10]
    assert all(frame.first for frame in frames)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [os.path.basename(frame.source) for frame in frames] == ["face1.png", "face2.png", "face10.png"]
    assert source.still and source.kind == "images" and source.frame_count_hint == 3 and source.exhausted


def test_a_glob(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path / f"{'ab'[number % 2]}{number}.png", numbered_image(number))
    assert numbers(read(tmp_path / "b*.png")[1]) == [1, 3]
    write(tmp_path / "x[1].png", numbered_image(7))
    assert numbers(read(tmp_path / "x[1].png")[1]) == [7]  # an existing file is no pattern


@pytest.mark.parametrize("spec", ["", "*.png"])
def test_no_images_is_an_error(tmp_path, spec):
    with pytest.raises(SourceError, match=r"expected images .* found none"):
        open_source(str(tmp_path / spec))


def test_an_unreadable_image_among_others_is_told_and_skipped(tmp_path):
    write(tmp_path / "1.png", numbered_image(1))
    (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    (tmp_path / "3.jpg").write_bytes(b"")
    write(tmp_path / "4.png", numbered_image(4))
    source, frames = read(tmp_path)
    assert numbers(frames) == [1, 4]
    assert [frame.index for frame in frames] == [0, 1]
    assert [line.partition(":")[0] for line in source.skipped] == [str(tmp_path / "2.png"), str(tmp_path / "3.jpg")]


def test_a_single_unreadable_image_is_an_error(tmp_path):
    path = tmp_path / "bad.jpg"
    path.write_bytes(b"not a picture")
    with pytest.raises(SourceError, match=r"bad\.jpg: expected an image, found 13 bytes that are none"):
        open_source(str(path))


def exif(orientation, order):
    """An EXIF segment of a JPEG that tells the orientation and one tag before it."""
    def number(value, size):
        return value.to_bytes(size, order)

    entries = [(0x010F, 2, 4, b"me\0\0"), (0x0112, 3, 1, number(orientation, 2) + b"\0\0")]
    tiff = (b"II" if order == "little" else b"MM") + number(42, 2) + number(8, 4) + number(len(entries), 2)
    tiff += b"".join(number(tag, 2) + number(kind, 2) + number(count, 4) + value for tag, kind, count, value in entries)
    body = b"Exif\0\0" + tiff + b"\0\0\0\0"
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("orientation", range(9))
def test_exif_orientation(tmp_path, orientation, order):
    """Held against OpenCV's own handling, and against the standard's words for the corners."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :24], image[:16, 24:], image[16:, :24] = (255, 255, 255), (0, 0, 255), (0, 255, 0)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    path = tmp_path / "turned.jpg"
    path.write_bytes(data[:2] + exif(orientation, order) + data[2:])
    _, (frame,) = read(path)
    assert np.abs(frame.image.astype(int) - cv2.imread(str(path), cv2.IMREAD_COLOR)).max() <= 1
    # Where the stored top left is shown: 1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 to 8 again.
    corner = [(-1, 0), (0, 0), (0, -1), (-1, -1)][orientation % 4] if orientation else (0, 0)
    assert frame.image[corner].min() > 240
    assert frame.image.shape == ((48, 32, 3) if orientation >= 5 else (32, 48, 3))


def test_depths_and_channels(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colour = np.dstack([grey, grey.T, 255 - grey])
    cases = {
        "grey.png": (grey, np.dstack([grey] * 3)),
        "grey16.png": (grey.astype(np.uint16) * 257, np.dstack([grey] * 3)),
        "colour16.png": (colour.astype(np.uint16) * 257 + 100 * (colour < 255).astype(np.uint16), colour),
        "colour16.tiff": (colour.astype(np.uint16) * 257 - (colour == 255), colour),
        "float.tiff": (colour.astype(np.float32) / 255, colour),
    }
    for name, (stored, expected) in cases.items():
        _, (frame,) = read(write(tmp_path / name, stored))
        assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
        assert np.abs(frame.image.astype(int) - expected).max() <= 1, name


@pytest.mark.parametrize("scale", [1, 257])
def test_transparency_shows_white(tmp_path, scale):
    image = np.zeros((1, 3, 4), np.uint16)
    image[0, :, 2] = 200 * scale  # red
    image[0, :, 3] = np.array([0, 128, 255]) * scale
    _, (frame,) = read(write(tmp_path / "cut.png", image.astype(np.uint8 if scale == 1 else np.uint16)))
    assert frame.image[0].tolist() == [[255, 255, 255], [127, 127, 227], [0, 0, 200]]


@pytest.mark.parametrize("name", ["dot.png", "dot.jpg", "dot.bmp", "dot.webp"])
def test_a_single_pixel(tmp_path, name):
    source, (frame,) = read(write(tmp_path / name, np.full((1, 1, 3), 90, np.uint8)))
    assert frame.image.shape == (1, 1, 3) and abs(int(frame.image[0, 0, 0]) - 90) <= 2
    assert source.size_wh == (1, 1)


def test_a_picture_is_known_by_its_content(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(cv2.imencode(".png", numbered_image(3))[1].tobytes())
    source, frames = read(path)
    assert source.still and numbers(frames) == [3]


def test_a_gif_moves(clip, tmp_path):
    ffmpeg("-i", clip, "-frames:v", 5, tmp_path / "moving.gif")
    source, frames = read(tmp_path / "moving.gif")
    assert not source.still and numbers(frames) == list(range(5))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp", ".bmp"])
@pytest.mark.parametrize("part", [0.3, 0.7])
def test_half_an_image_is_quiet(tmp_path, suffix, part, capfd):
    """An error or a picture with an empty part, as the format will have it; the decoders say nothing of their own."""
    path = tmp_path / f"half{suffix}"
    data = cv2.imencode(suffix, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    path.write_bytes(data[: int(len(data) * part)])
    try:
        assert read(path)[1][0].image.shape == (64, 64, 3)
    except SourceError as error:
        assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")


def test_remarkable_chunks_of_a_png_are_quiet(tmp_path, capfd):
    def chunk(kind, content):
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    image = numbered_image(5)
    data = cv2.imencode(".png", image)[1].tobytes()
    odd = chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"no profile")) + chunk(b"gAMA", b"\0\0\0\0")
    turned = chunk(b"eXIf", exif(6, "big")[10:])
    (tmp_path / "odd.png").write_bytes(data[:33] + odd + turned + data[33:])
    _, (frame,) = read(tmp_path / "odd.png")
    assert np.array_equal(frame.image, np.rot90(image, -1))
    (tmp_path / "bad.png").write_bytes(data[:60] + b"!" + data[61:])
    with pytest.raises(SourceError, match=r"bad\.png: expected an image"):
        open_source(str(tmp_path / "bad.png"))
    assert capfd.readouterr() == ("", "")


def test_a_start_time_is_refused_for_images(tmp_path):
    with pytest.raises(SourceError, match="--start wants a video file"):
        open_source(str(write(tmp_path / "a.png", numbered_image(1))), start_s=1.0)


@pytest.mark.parametrize(
    "settings", [{"size": "640"}, {"size": "0x4"}, {"fps": 0.0}, {"fps": float("nan")}, {"stall_s": 0.0}]
)
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="must be"):
        SourceConfig(**settings)
