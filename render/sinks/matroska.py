"""Raw frames as a Matroska stream: the simplest container in which a pipe can carry the time of each frame.

Source: RFC 8794 (EBML) and RFC 9559 (Matroska).
"""

from __future__ import annotations


def matroska_header(width: int, height: int, fps: float) -> bytes:
    """What stands before the first frame of a Matroska stream of raw I420 frames, its clock in microseconds."""
    colour = _element(0x55B0, _uint(0x55B1, 6), _uint(0x55B9, 1), _uint(0x55BA, 1), _uint(0x55BB, 1))
    video = _element(0xE0, _uint(0xB0, width), _uint(0xBA, height), _element(0x2EB524, b"I420"), colour)
    track = _element(
        0xAE,
        _uint(0xD7, 1),  # number
        _uint(0x73C5, 1),  # uid
        _uint(0x83, 1),  # type: video
        _element(0x22B59C, b"und"),  # language
        _uint(0x23E383, round(1e9 / fps)),  # default duration, ns
        _element(0x86, b"V_UNCOMPRESSED"),
        video,
    )
    doc = _element(0x1A45DFA3, _element(0x4282, b"matroska"), _uint(0x4287, 4), _uint(0x4285, 2))
    info = _element(0x1549A966, _uint(0x2AD7B1, 1000), _element(0x4D80, b"facet"), _element(0x5741, b"facet"))
    segment_of_unknown_size = bytes.fromhex("18538067 01ffffffffffffff")
    return doc + segment_of_unknown_size + info + _element(0x1654AE6B, track)


def matroska_block(time_s: float, size: int) -> bytes:
    """What stands before a frame of `size` bytes: a cluster of its own, so that times may lie any distance apart."""
    block_head = bytes([0x81, 0, 0, 0x80])  # track 1, no time offset, key frame
    block = bytes([0xA3]) + _size(len(block_head) + size) + block_head
    timestamp = _uint(0xE7, round(time_s * 1e6))
    return bytes.fromhex("1f43b675") + _size(len(timestamp) + len(block) + size) + timestamp + block


def _size(size: int) -> bytes:
    return (size | 1 << 56).to_bytes(8, "big")


def _element(key: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return key.to_bytes((key.bit_length() + 7) // 8, "big") + _size(len(content)) + content


def _uint(key: int, value: int) -> bytes:
    return _element(key, value.to_bytes(8, "big"))
