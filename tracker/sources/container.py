"""Whether a video file is whole, as far as its container says."""

from __future__ import annotations

import os
import struct
from pathlib import Path

MP4_BOX_NAMES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
MATROSKA, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"


def ends_early(path: Path | str) -> bool:
    """Whether the file ends before what its container announces does: MP4, MOV, Matroska, WebM and AVI.

    False for other formats, for files that are written on, and where the file cannot be read.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(64)
            if head[4:8] in MP4_BOX_NAMES:
                return _boxes_end(file, size) > size
    except OSError:
        return False
    if head[:4] == b"RIFF" and len(head) >= 8:
        return 8 + int.from_bytes(head[4:8], "little") > size
    if head[:4] == MATROSKA:
        start, length = _element(head, 4)
        if head[start + length : start + length + 4] == SEGMENT:
            start, length = _element(head, start + length + 4)
            return length >= 0 and start + length > size
    return False


def _boxes_end(file, size: int) -> int:
    """Where the last of an MP4's boxes ends; the size of the file where the last one is open."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, name, longer = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        length = longer if length == 1 else size - position if length == 0 else length
        if length < 8 or not name.isalnum():
            return size  # no box
        position += length
    return position


def _element(data: bytes, position: int) -> tuple[int, int]:
    """Where the content of a Matroska element begins and how long it is, from its length field; -1 where it is open."""
    first = data[position] if position < len(data) else 0
    count = 9 - first.bit_length()
    if count > 8:
        return position, -1
    value = int.from_bytes(data[position : position + count], "big") & ((1 << 7 * count) - 1)
    return position + count, -1 if value == (1 << 7 * count) - 1 else value
