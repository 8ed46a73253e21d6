"""Sources that are image files. None of them is dropped.

libvips decodes JPEG, PNG, TIFF, WebP and AVIF in parts, so that no more than the result lies in memory; libheif decodes
HEIC, OpenCV the rest. The first bytes of a file say which, not its name.
"""

from __future__ import annotations

import functools
import glob
import io
import os
import re
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from facet.tracker.errors import SourceError, printable
from facet.tracker.sources.base import MAX_MEGAPIXELS, Picture, Source, SourceConfig, refuse_start

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".heic", ".heif", ".hif", ".avif", ".jfif", ".apng", ".jp2", ".ppm", ".pgm", ".pbm", ".pfm", ".hdr"),
)
HEAD_BYTES = 4096  # hold the signature of every format, and the mark of an animated PNG
SIGNATURES = {
    "jpeg": rb"\xff\xd8\xff",
    "png": rb"\x89PNG\r\n\x1a\n",
    "tiff": rb"II[*+]\0|MM\0[*+]",
    "webp": rb"RIFF.{4}WEBP",
    "avif": rb".{4}ftyp(avif|avis|(mif1|msf1|miaf).{,48}avi[fs])",
    "heic": rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1|miaf)",
    "gif": rb"GIF8[79]a",
    "bmp": rb"BM.{4}\0{4}",
    "jp2": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "pnm": rb"P[1-6]\s",
    "pfm": rb"P[Ff]\s",
    "hdr": rb"#\?(RADIANCE|RGBE)",
}
# the formats whose decoder counts one image where more follow: animated PNG, sequences of AVIF and HEIC
SEQUENCE = rb"\x89PNG.*acTL|.{4}ftyp(avis|hevc|hevx|msf1)"
# Peak memory of decoding, bytes a pixel, measured; formats that are not decoded in parts have a lower limit of size.
RESULT_BYTES = 3
PEAK_BYTES = {"webp": 9, "gif": 12, "avif": 18, "heic": 9, "bmp": 8, "jp2": 24, "pnm": 9, "pfm": 36, "hdr": 20}
INTERLACED_BYTES = 12  # progressive JPEG, interlaced PNG
ALL_LEVELS = 0xFF  # of GLib's messages
# value of white; 1 for floats
WHITE = {"uchar": 255, "char": 127, "ushort": 2**16 - 1, "short": 2**15 - 1, "uint": 2**32 - 1, "int": 2**31 - 1}
PLAIN_COLOURS = ("srgb", "rgb", "rgb16", "scrgb", "b-w", "grey16", "multiband")


class ImageFiles(Source):
    """Images, each a picture of its own: every frame has `first` set and time 0.0.

    A single image that cannot be read raises at opening. Among several it is reported in `skipped` and the others
    follow. Of a file with several images, an animation above all, the first one is read and `notes` says so.
    """

    kind = "images"
    still = True

    def __init__(
        self, name: str, paths: list[str], max_frames: int | None = None, config: SourceConfig = SourceConfig()
    ):
        super().__init__(name, max_frames)
        self.files = tuple(paths)
        self._paths = iter(paths)
        self._config = config
        self.frame_count_hint = int(min(len(paths), self._max_frames))
        self._ahead: Picture | None = None
        if len(paths) == 1:
            self._ahead = self._read_file(next(self._paths))
            self.size_wh = self._ahead.image.shape[1::-1]

    def _read(self) -> Picture | None:
        if self._ahead is not None:
            picture, self._ahead = self._ahead, None
            return picture
        for path in self._paths:
            if self.stopped:
                break
            try:
                return self._read_file(path)
            except SourceError as error:
                self.skipped.append(str(error))
        return None

    def _read_file(self, path: str) -> Picture:
        return Picture(read_image(path, self._config.max_megapixels, self.notes), 0.0, path, first=True)


def open_images(
    spec: str, start_s: float = 0.0, max_frames: int | None = None, config: SourceConfig = SourceConfig()
) -> ImageFiles:
    """Images of a file, a folder (not of the folders in it) or a glob, in natural order: 2.png before 10.png."""
    refuse_start(start_s, "images")
    path = Path(spec)
    if path.is_file():
        return ImageFiles(spec, [spec], max_frames, config)
    if path.is_dir():
        try:
            found = [str(entry) for entry in path.iterdir() if is_image_name(entry.name)]
        except OSError as error:
            raise SourceError(f"{spec}: the folder cannot be read ({error.strerror or error})") from error
    else:
        found = [entry for entry in glob.glob(spec, recursive=True) if is_image_name(entry)]
    found = [entry for entry in found if os.path.isfile(entry)]
    if not found:
        raise SourceError(f"{spec}: expected images ({', '.join(IMAGE_SUFFIXES[:5])}, ...), found none")
    return ImageFiles(spec, sorted(found, key=_natural), max_frames, config)


def is_image_name(name: str) -> bool:
    """Whether a file name has the ending of an image; hidden files do not count."""
    path = Path(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def is_image_file(path: str) -> bool:
    """Whether a file begins as an image does, whatever its name. A GIF does not count: it is read as a video."""
    try:
        with open(path, "rb") as file:
            return _format_of(file.read(HEAD_BYTES)) not in (None, "gif")
    except OSError:
        return False


def read_image(
    path: str, max_megapixels: float = MAX_MEGAPIXELS, notes: list[str] | None = None
) -> np.ndarray:
    """Read an image as the tracker wants it, upright as its EXIF tag or container says.

    Grey becomes three channels, 16 bits are scaled to 8, floats are clipped to [0, 1], transparency shows white.

    Parameters
    ----------
    path : str
    max_megapixels : float
        Larger images are refused before they are decoded.
    notes : list of str, extended
        A line where the file holds more than the image that is returned.

    Returns
    -------
    (H, W, 3) uint8, BGR

    Raises
    ------
    SourceError
        Where the file cannot be read, is no image, or is too large.
    """
    try:
        with open(path, "rb") as file:
            return _decode(file, path, max_megapixels, notes)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error


def decode_image(
    data: bytes, name: str, max_megapixels: float = MAX_MEGAPIXELS, notes: list[str] | None = None
) -> np.ndarray:
    """Decode the bytes of an image file as `read_image` does; `name` is for the message."""
    return _decode(io.BytesIO(data), name, max_megapixels, notes)


def _decode(file: BinaryIO, name: str, max_megapixels: float, notes: list[str] | None) -> np.ndarray:
    head = file.read(HEAD_BYTES)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    kind = _format_of(head)
    notes = [] if notes is None else notes

    def admit(width: int, height: int, peak_bytes: int) -> None:
        """Raise SourceError where an image is too large."""
        limit, megapixels = max_megapixels * RESULT_BYTES / peak_bytes, width * height / 1e6
        if megapixels > limit:
            part = "" if peak_bytes == RESULT_BYTES else f" (of {max_megapixels:g}, as this format takes more memory)"
            raise SourceError(
                f"{name}: expected an image of at most {limit:.4g} megapixels{part}, found {width} x {height},"
                f" {megapixels:.4g} megapixels; shrink it, or raise source.max_megapixels"
            )

    try:
        if kind in ("jpeg", "png", "tiff", "webp", "avif", "gif"):
            image, count = _aside(_decode_by_vips, file, kind, admit)
        elif kind == "heic":
            image, count = _decode_heic(file, admit)
        elif kind is not None:
            image, count = _decode_by_opencv(file, kind, admit), 1
        else:
            image = None
    except MemoryError as error:
        raise SourceError(f"{name}: not enough memory for the image; free some, or shrink the image") from error
    except _NotDecoded:
        image = None
    if image is None or image.size == 0:
        raise SourceError(f"{name}: expected an image, found {size} bytes that are none; is the file complete?")
    if count > 1 or re.match(SEQUENCE, head, re.DOTALL):
        what = "holds several images, the first was read; to track an animation convert it to a video"
        notes.append(f"{printable(name)}: {what}")
    return image


class _NotDecoded(Exception):
    """A decoder found the file damaged."""


def _format_of(head: bytes) -> str | None:
    """Which of SIGNATURES a file begins with."""
    return next((kind for kind, mark in SIGNATURES.items() if re.match(mark, head, re.DOTALL)), None)


def _aside(decode: Callable, *arguments):
    """What `decode` returns or raises, run in a thread of its own.

    libvips calls Python with its messages. In the main thread Ctrl-C could come in such a call, where it would be lost.
    """
    result: list[tuple[Any, BaseException | None]] = []

    def run():
        try:
            result.append((decode(*arguments), None))
        except BaseException as error:
            result.append((None, error))

    thread = threading.Thread(target=run, name="decoder", daemon=True)
    thread.start()
    thread.join()
    value, error = result[0]
    if error is not None:
        raise error
    return value


def _decode_by_vips(file: BinaryIO, kind: str, admit: Callable[[int, int, int], None]) -> tuple[np.ndarray, int]:
    """The first image of a file, (H, W, 3) uint8 BGR, and how many the file holds."""
    vips = _vips()
    load = getattr(vips.Image, f"{'heif' if kind == 'avif' else kind}load_source")
    options = {"fail_on": "error"} | ({"unlimited": True} if kind in ("jpeg", "png", "avif") else {})
    try:
        image = load(_vips_source(vips, file), access="sequential", **options)
        peak_bytes = INTERLACED_BYTES if _field(image, "interlaced", 0) else PEAK_BYTES.get(kind, RESULT_BYTES)
        admit(image.width, image.height, peak_bytes)
        count = _field(image, "n-pages", 1)
        if _field(image, "orientation", 1) in range(2, 9):  # turning needs random access, to a file on disk if large
            image = load(_vips_source(vips, file), access="random", **options).autorot()
        image = _to_bgr8(image)
        data = image.write_to_memory()
    except vips.Error as error:
        raise _NotDecoded(str(error)) from error
    return np.frombuffer(data, np.uint8).reshape(image.height, image.width, 3), count


@functools.cache
def _vips():
    """The module pyvips, loaded when the first image is read."""
    if sys.modules.get("cffi", sys) is None:  # a program hides it from numba, which would load it in vain
        del sys.modules["cffi"]
    import pyvips

    pyvips.cache_set_max(0)  # a cached image would hold its file open
    for domain in (b"GLib", b"GLib-GObject"):  # their messages go to Python's logging, too, and not to stderr
        pyvips.glib_lib.g_log_set_handler(domain, ALL_LEVELS, pyvips._log_handler_cb, pyvips.ffi.NULL)
    return pyvips


def _vips_source(vips, file: BinaryIO):
    """What libvips reads a file from; by its descriptor, as names need not be UTF-8."""
    file.seek(0)
    if isinstance(file, io.BytesIO):
        return vips.Source.new_from_memory(file.getvalue())
    if os.name == "nt":  # descriptors there belong to the C library of one DLL
        return vips.Source.new_from_file(file.name)
    return vips.Source.new_from_descriptor(file.fileno())


def _field(image, name: str, default: int) -> int:
    return image.get(name) if image.get_typeof(name) else default


def _to_bgr8(image):
    """Any libvips image -> three channels of uint8, BGR."""
    if image.interpretation == "cmyk":  # plain, as other programs do it without a profile
        alpha = [image[4]] if image.bands > 4 else []
        ink = image.invert()
        image = (ink[:3] * ink[3] / 255).rint().cast("uchar").bandjoin(alpha)
    elif image.interpretation not in PLAIN_COLOURS:
        image = image.colourspace("srgb")
    white = WHITE.get(image.format, 1)
    if image.hasalpha():  # transparent pixels show white, as in most viewers
        image = image.flatten(background=white, max_alpha=white)
    if image.format != "uchar":
        if image.format in ("float", "double"):
            image = (image == image).ifthenelse(image, 0)  # NaN
        image = image.linear(255 / white, 0.5).floor().cast("uchar")
    red, green, blue = (image[0], image[1], image[2]) if image.bands >= 3 else (image[0],) * 3
    return blue.bandjoin([green, red])


def _decode_heic(file: BinaryIO, admit: Callable[[int, int, int], None]) -> tuple[np.ndarray, int]:
    """The primary image of a HEIC file, as `_decode_by_vips`; libheif joins tiles and turns it as the file says."""
    import pillow_heif

    try:
        images = pillow_heif.open_heif(file, convert_hdr_to_8bit=True)
        image = images[images.primary_index]
        admit(*image.size, PEAK_BYTES["heic"])
        pixels = np.asarray(image)
    except (ValueError, RuntimeError, OSError, EOFError, IndexError, SyntaxError) as error:
        raise _NotDecoded(str(error)) from error
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), len(images)
    if pixels.shape[2] == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), len(images)
    return _over_white(pixels), len(images)


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 RGB and alpha -> (H, W, 3) uint8 BGR over white, row by row."""
    image = np.empty((*rgba.shape[:2], 3), np.uint8)
    for row, source in zip(image, rgba, strict=True):
        alpha = source[:, 3:].astype(np.uint32)
        row[:] = (source[:, 2::-1] * alpha + 255 * (255 - alpha) + 127) // 255
    return image


def _decode_by_opencv(file: BinaryIO, kind: str, admit: Callable[[int, int, int], None]) -> np.ndarray | None:
    """An image of a format without orientation, (H, W, 3) uint8 BGR, alpha left out; None where it is damaged."""
    try:
        admit(*_size_in_header(file, kind), PEAK_BYTES[kind])
        file.seek(0)
        data = np.frombuffer(file.read(), np.uint8)
        if kind != "pfm":
            return cv2.imdecode(data, cv2.IMREAD_COLOR)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)  # OpenCV would take 255 for white
        return None if image is None else (np.clip(np.nan_to_num(image), 0, 1) * 255 + 0.5).astype(np.uint8)
    except (cv2.error, ValueError, SyntaxError, OSError, struct.error) as error:
        raise _NotDecoded(str(error)) from error


def _size_in_header(file: BinaryIO, kind: str) -> tuple[int, int]:
    """Width and height of an image that OpenCV decodes, px; ValueError, SyntaxError or OSError where there is none."""
    if kind in ("pfm", "hdr"):  # text; Pillow does not know them
        head = file.read(HEAD_BYTES)
        if kind == "pfm":
            match = re.match(rb"P[Ff]\s+(?P<width>\d{1,9})\s+(?P<height>\d{1,9})\s", head)
        else:
            match = re.search(rb"\n[-+]Y +(?P<height>\d{1,9}) +[-+]X +(?P<width>\d{1,9})\n", head)
        if match is None:
            raise ValueError("no size in the header")
        return int(match["width"]), int(match["height"])
    from PIL import BmpImagePlugin, Jpeg2KImagePlugin, PpmImagePlugin

    readers = {"bmp": BmpImagePlugin.BmpImageFile, "jp2": Jpeg2KImagePlugin.Jpeg2KImageFile}
    return readers.get(kind, PpmImagePlugin.PpmImageFile)(file).size  # Image.open has a limit of its own


def _natural(path: str) -> list:
    """Sort key under which numbers in names count as numbers."""
    parts = re.split(r"([0-9]+)", path)
    return [(0, int(part), "") if index % 2 else (1, 0, part.lower()) for index, part in enumerate(parts)]
