"""Images: upright, eight bits a channel, in natural order."""

import os
import zlib

import cv2
import numpy as np
import pytest

from tests.clips import number_of, numbered_image
from tracker.errors import SourceError
from tracker.source import open_source


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
