"""Sources that are image files. None of them is dropped."""

from __future__ import annotations

import glob
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from tracker.errors import SourceError
from tracker.source_base import Picture, Source, refuse_start

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".avif", ".jfif", ".jp2", ".ppm", ".pgm", ".pbm", ".pfm", ".hdr"),
)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")  # what the pixels need, and the orientation
BACKGROUND = 255  # transparent pixels show white, as in most viewers


class ImageFiles(Source):
    """Images, each a picture of its own: every frame has `first` set and time 0.0.

    A single image that cannot be read raises at opening. Among several it is told in `skipped` and the others
    follow.
    """

    kind = "images"
    still = True

    def __init__(self, name: str, paths: list[str], max_frames: int | None = None):
        super().__init__(name, max_frames)
        self._paths = iter(paths)
        self.frame_count_hint = int(min(len(paths), self._max_frames))
        self._ahead: Picture | None = None
        if len(paths) == 1:
            image = read_image(next(self._paths))
            self.size_wh = image.shape[1], image.shape[0]
            self._ahead = Picture(image, 0.0, paths[0], first=True)

    def _read(self) -> Picture | None:
        if self._ahead is not None:
            picture, self._ahead = self._ahead, None
            return picture
        for path in self._paths:
            try:
                return Picture(read_image(path), 0.0, path, first=True)
            except SourceError as error:
                self.skipped.append(str(error))
        return None


def open_images(spec: str, start_s: float = 0.0, max_frames: int | None = None) -> ImageFiles:
    """Images of a file, a folder (not of the folders in it) or a glob, in natural order: 2.png before 10.png."""
    refuse_start(start_s, "images")
    path = Path(spec)
    if path.is_file():
        return ImageFiles(spec, [spec], max_frames)
    if path.is_dir():
        try:
            found = [str(entry) for entry in path.iterdir() if is_image_name(entry.name) and entry.is_file()]
        except OSError as error:
            raise SourceError(f"{spec}: the folder cannot be read ({error.strerror or error})") from error
    else:
        found = [entry for entry in glob.glob(spec, recursive=True) if is_image_name(entry) and Path(entry).is_file()]
    if not found:
        raise SourceError(f"{spec}: expected images ({', '.join(IMAGE_SUFFIXES[:5])}, ...), found none")
    return ImageFiles(spec, sorted(found, key=_natural), max_frames)


def is_image_name(name: str) -> bool:
    """Whether a file name looks like that of an image; hidden files do not count."""
    path = Path(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: str) -> np.ndarray:
    """Read an image as the tracker wants it, upright by its EXIF tag.

    Grey becomes three channels, 16 bits are scaled to 8, floats are clipped to [0, 1], transparency shows white.

    Returns
    -------
    (H, W, 3) uint8, BGR

    Raises
    ------
    SourceError
        Where the file cannot be read or is no image.
    """
    try:
        data = np.fromfile(path, np.uint8)  # imread cannot open every path on every system
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from error
    return decode_image(data, path)


def decode_image(data: np.ndarray, name: str) -> np.ndarray:
    """Decode the bytes of an image file, (N,) uint8, as `read_image` does; `name` is for the message."""
    try:
        if data[:8].tobytes() == PNG_SIGNATURE:
            data = _checked_png(data)
        image, kinds, chunks = cv2.imdecodeWithMetadata(data, cv2.IMREAD_UNCHANGED)
    except (cv2.error, struct.error, ValueError):
        image = None
    if image is None or image.size == 0:
        raise SourceError(f"{name}: expected an image, found {data.size} bytes that are none; is the file complete?")
    exif = [bytes(chunk) for kind, chunk in zip(kinds, chunks, strict=True) if kind == cv2.IMAGE_METADATA_EXIF]
    return _upright(_to_bgr8(image), _orientation(exif[0]) if exif else 1)


def _checked_png(data: np.ndarray) -> np.ndarray:
    """The chunks of a PNG that matter; ValueError where it is damaged. Of the others libpng would write to stderr."""
    content, position, kept = data.tobytes(), 8, [PNG_SIGNATURE]
    while kept[-1][4:8] != b"IEND":
        (length,) = struct.unpack_from(">I", content, position)
        chunk = content[position : position + length + 12]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ValueError("damaged PNG")
        if chunk[4:8] in PNG_CHUNKS:
            kept.append(chunk)
        position += len(chunk)
    return np.frombuffer(b"".join(kept), np.uint8)


def _to_bgr8(image: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of any depth -> (H, W, 3) uint8."""
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = (np.clip(np.nan_to_num(image.astype(np.float32)), 0, 1) * 255 + 0.5).astype(np.uint8)
    if image.ndim == 2:
        image = image[..., None]
    channels = image.shape[2]
    if channels in (2, 4):
        colour, alpha = image[..., : channels - 1].astype(np.uint32), image[..., channels - 1 :].astype(np.uint32)
        image = ((colour * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _orientation(exif: bytes) -> int:
    """Orientation 1 to 8 of the EXIF block (a small TIFF); 1 where it tells none. Source: EXIF 2.3, tag 0x0112."""
    start = exif.find(b"II*\0") if b"II*\0" in exif[:16] else exif.find(b"MM\0*")
    if start < 0:
        return 1
    tiff = exif[start:]
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, offset)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, offset + 2 + 12 * entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror an image as its EXIF orientation asks."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _natural(path: str) -> list:
    """Sort key under which numbers in names count as numbers."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"([0-9]+)", path)]
