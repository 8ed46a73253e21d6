"""Images: upright, eight bits a channel, in natural order."""

import logging
import os
import re
import shutil
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from facet.tracker.errors import SourceError
from facet.tracker.sources import SourceConfig, open_source
from facet.tracker.sources.images import read_image
from tests.clips import make_clip, number_of, numbered_image
from tests.conftest import ROOT, material

pillow_heif.register_heif_opener()


def read(path, **options):
    with open_source(str(path), **options) as source:
        frames = list(source)
    return source, frames


def numbers(frames):
    return [number_of(frame.image) for frame in frames]


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


def test_an_unreadable_image_among_others_is_reported_and_skipped(tmp_path):
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
    """An EXIF segment of a JPEG that holds the orientation and one tag before it."""
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


QUADRANTS = np.full((64, 96, 3), 30, np.uint8)  # BGR: white, red; green, dark
QUADRANTS[:32, :48], QUADRANTS[:32, 48:], QUADRANTS[32:, :48] = 255, (0, 0, 255), (0, 255, 0)


def pil_image(bgr=QUADRANTS, mode="RGB"):
    return Image.fromarray(np.ascontiguousarray(bgr[..., ::-1])).convert(mode)


def read_one(path):
    source, (frame,) = read(path)
    assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous and frame.image.flags.writeable
    assert not source.skipped
    return frame.image


def assert_close(image, expected, tolerance=3):
    """Equal but for the edges of the quadrants, which lossy formats blur."""
    assert image.shape == expected.shape
    difference = np.abs(image.astype(int) - expected).max(axis=2)
    height, width = difference.shape
    difference[height // 2 - 8 : height // 2 + 8] = 0
    difference[:, width // 2 - 8 : width // 2 + 8] = 0
    assert difference.max() <= tolerance


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif", "heic"])
def test_every_format_is_upright(tmp_path, suffix):
    """Expected: what EXIF 2.3 says of orientations 1 to 8. AVIF and HEIC get the turn from irot and imir."""
    turns = [
        *(lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1]),
        *(lambda a: a.transpose(1, 0, 2), lambda a: np.rot90(a, -1)),
        *(lambda a: a.transpose(1, 0, 2)[::-1, ::-1], lambda a: np.rot90(a)),
    ]
    for orientation, turn in enumerate(turns, start=1):
        path = tmp_path / f"{orientation}.{suffix}"
        tag = Image.Exif()
        tag[0x0112] = orientation
        pil_image().save(path, exif=tag if suffix == "tif" else tag.tobytes(), quality=100)
        assert_close(read_one(path), turn(QUADRANTS), 6)


TILES_RGB = [
    *((120, 124, 130), (120, 124, 130), (120, 124, 130), (120, 124, 130)),
    *((120, 124, 130), (109, 125, 120), (108, 118, 93), (92, 123, 101)),
    *((120, 124, 130), (104, 120, 116), (95, 98, 87), (78, 102, 90)),
]


def test_heic_in_tiles():
    """The means of twelve parts, as ImageMagick gives them."""
    image = read_one(material("cases", "tiles.heic"))
    assert image.shape == (960, 1280, 3)
    means = cv2.resize(image, (4, 3), interpolation=cv2.INTER_AREA)[..., ::-1]
    assert np.abs(means.reshape(-1, 3).astype(int) - TILES_RGB).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "avif", "heic"])
def test_alpha_of_every_format_shows_white(tmp_path, suffix):
    rgba = np.dstack([QUADRANTS[..., ::-1], np.full((64, 96), 255, np.uint8)])
    rgba[:32, :48, 3], rgba[32:, 48:, 3], rgba[32:, :48, 3] = 0, 0, 128
    Image.fromarray(rgba).save(tmp_path / f"cut.{suffix}", quality=100)
    expected = QUADRANTS.copy()
    expected[32:, 48:], expected[32:, :48] = 255, (127, 255, 127)
    assert_close(read_one(tmp_path / f"cut.{suffix}"), expected, 6)


@pytest.mark.parametrize("name", ["cmyk.jpg", "cmyk.tif", "progressive.jpg", "palette.png", "palette.bmp", "lossy.jp2"])
def test_colour_models(tmp_path, name):
    kind = name.partition(".")[0]
    image = pil_image(mode="CMYK" if kind == "cmyk" else "RGB")
    image = image.quantize(8, dither=0) if kind == "palette" else image
    image.save(tmp_path / name, quality=100, progressive=kind == "progressive")
    assert_close(read_one(tmp_path / name), QUADRANTS)


def test_grey_kinds(tmp_path):
    grey = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (16, 1))
    deep = grey.astype(np.uint16) * 257 + 100 * (grey < 255)
    bits = (grey > 128).astype(np.uint8) * 255
    transparent = np.dstack([grey, np.full_like(grey, 128)])
    over_white = np.rint(grey * (128 / 255) + 127).astype(np.uint8)
    floats = grey.astype(np.float32) / 255
    floats[0] = np.nan
    without = grey.copy()
    without[0] = 0
    Image.fromarray(bits).convert("1").save(tmp_path / "bit.png")
    Image.fromarray(bits).convert("1").save(tmp_path / "bit.tif")
    Image.fromarray(bits).convert("1").save(tmp_path / "bit.pbm")
    Image.fromarray(grey).save(tmp_path / "grey.pgm")
    Image.fromarray(deep.astype(np.uint16)).save(tmp_path / "deep.tif")
    Image.fromarray(transparent).save(tmp_path / "alpha.png")
    Image.fromarray(grey).save(tmp_path / "clear.png", transparency=int(grey[0, 5]))
    write(tmp_path / "deep.pgm", deep.astype(np.uint16))
    write(tmp_path / "float.tif", floats)
    clear = grey.copy()
    clear[:, 5] = 255
    expected = {
        **{f"bit.{suffix}": bits for suffix in ("png", "tif", "pbm")},
        **{"grey.pgm": grey, "deep.tif": grey, "deep.pgm": grey, "alpha.png": over_white, "clear.png": clear},
        "float.tif": without,
    }
    for name, values in expected.items():
        assert np.abs(read_one(tmp_path / name).astype(int) - values[..., None]).max() <= 1, name


@pytest.mark.parametrize("suffix", ["pfm", "hdr"])
def test_floats_are_linear_up_to_white(tmp_path, suffix):
    values = np.zeros((8, 3, 3), np.float32)
    values[:, 0], values[:, 1], values[:, 2] = 0.25, 1.0, 7.5
    assert read_one(write(tmp_path / f"light.{suffix}", values))[0, :, 0].tolist() == [64, 255, 255]


@pytest.mark.parametrize("suffix", ["png", "webp", "avif"])
def test_of_an_animation_the_first_image_is_read_and_the_rest_is_noted(tmp_path, suffix):
    images = [pil_image(numbered_image(number)) for number in range(3)]
    images[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=images[1:], duration=40)
    source, frames = read(tmp_path / f"moving.{suffix}")
    assert numbers(frames) == [0]
    (note,) = source.notes
    assert note.startswith(str(tmp_path / f"moving.{suffix}")) and "\n" not in note
    images[0].save(tmp_path / f"still.{suffix}")
    assert read(tmp_path / f"still.{suffix}")[0].notes == []


def test_too_large_an_image_is_refused_before_it_is_decoded(tmp_path):
    write(tmp_path / "large.png", np.zeros((300, 500, 3), np.uint8))
    write(tmp_path / "small.png", numbered_image(7))
    config = SourceConfig(max_megapixels=0.1)
    line = r"expected an image of at most 0\.1 megapixels, found 500 x 300, 0\.15 megapixels"
    with pytest.raises(SourceError, match=line):
        open_source(str(tmp_path / "large.png"), config)
    with open_source(str(tmp_path), config) as source:
        assert numbers(list(source)) == [7]
    (skipped,) = source.skipped
    assert re.search(line, skipped) and "source.max_megapixels" in skipped


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif", "heic", "bmp", "jp2", "ppm", "pfm", "hdr"])
def test_the_size_of_every_format_is_known_before_it_is_decoded(tmp_path, suffix):
    path = tmp_path / f"large.{suffix}"
    if suffix == "heic":
        pil_image().save(path)
    else:
        write(path, QUADRANTS.astype(np.float32) / 255 if suffix in ("pfm", "hdr") else QUADRANTS)
    with pytest.raises(SourceError, match=r"found 96 x 64, 0\.006144 megapixels"):
        open_source(str(path), SourceConfig(max_megapixels=0.005))


PEAK = """
import resource, sys
from facet.tracker.sources.images import read_image
read_image(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = read_image(sys.argv[2])
print(image.size, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize("name", ["rgba16.png", "turned.jpg", "rgb16.tif"])
def test_peak_memory_of_decoding_is_little_more_than_the_result(tmp_path, name):
    shape = (4000, 4000, 4) if "rgba" in name else (4000, 4000, 3)
    data = bytearray(cv2.imencode(name[-4:], np.zeros(shape, np.uint16 if "16" in name else np.uint8))[1].tobytes())
    if name == "turned.jpg":
        data[2:2] = exif(6, "big")
    (tmp_path / name).write_bytes(data)
    small = write(tmp_path / f"small{name[-4:]}", np.zeros((64, 64, shape[2]), np.uint8))
    command = [sys.executable, "-c", PEAK, str(small), str(tmp_path / name)]
    size, peak = map(int, subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split())
    assert size == 3 * 4000 * 4000
    assert peak <= 1.5 * size + (40 << 20)


posix = pytest.mark.skipif(os.name != "posix", reason="such names exist on POSIX only")


@posix
@pytest.mark.parametrize("name", [b"caf\xe9", b"line\nbreak", b"\x1b[31mred", b"x[1]", "10²".encode(), b"n" * 251])
@pytest.mark.parametrize("suffix", [b".png", b".heic", b".bmp"])
def test_every_name(tmp_path, name, suffix):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name[: 255 - len(suffix)] + suffix)
    if suffix == b".heic":
        pil_image(numbered_image(7)).save(tmp_path / "x.heic")
        os.rename(tmp_path / "x.heic", path)
    else:
        with open(path, "wb") as file:
            file.write(cv2.imencode(suffix.decode(), numbered_image(7))[1].tobytes())
    assert numbers(read(path)[1]) == [7]
    write(tmp_path / "1.png", numbered_image(1))
    assert sorted(numbers(read(tmp_path)[1])) == [1, 7]


@posix
def test_what_is_no_file_is_left_out_of_a_folder(tmp_path):
    write(tmp_path / "1.png", numbered_image(1))
    os.symlink(tmp_path / "loop.png", tmp_path / "loop.png")
    os.symlink(tmp_path / "gone.png", tmp_path / "dangling.png")
    os.symlink("/dev/zero", tmp_path / "device.png")
    os.mkfifo(tmp_path / "pipe.png")
    source, frames = read(tmp_path)
    assert numbers(frames) == [1] and source.skipped == []


def test_a_glob_of_videos(tmp_path):
    make_clip(tmp_path / "one.mp4", 3)
    source, frames = read(tmp_path / "*.mp4")
    assert source.kind == "video" and len(frames) == 3
    shutil.copy(tmp_path / "one.mp4", tmp_path / "x[1].mp4")
    assert read(tmp_path / "x[1].mp4")[0].kind == "video"
    with pytest.raises(SourceError, match=r"expected images or one video, found 2 other files; .*tools\.batch"):
        open_source(str(tmp_path / "*.mp4"))
    with pytest.raises(SourceError, match="found none"):
        open_source(str(tmp_path / "*.mkv"))


def test_messages_of_libvips_never_come_in_the_main_thread(tmp_path, caplog):
    """Python calls signal handlers there only: Ctrl-C in a callback from C would be lost."""
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), np.full((64, 64, 3), 90, np.uint8))
    read_image(str(path))
    with caplog.at_level(logging.DEBUG, logger="pyvips"):
        read_image(str(path))
    assert caplog.records
    assert {record.threadName for record in caplog.records} == {"decoder"}
