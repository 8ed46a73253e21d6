"""Open Sound Control 1.0: messages and bundles."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

BUNDLE_BYTES = 1400  # at most, so that no network has to take one apart
BUNDLE_HEAD = b"#bundle\0" + struct.pack(">Q", 1)  # time tag 1: now


def osc_message(address: str, *values: str | bool | int | float) -> bytes:
    """One OSC message of texts, truth values, int32 and float32."""
    tags, data = ",", b""
    for value in values:
        if isinstance(value, str):
            tags, data = tags + "s", data + _text(value)
        elif isinstance(value, bool):  # which are all in their tag
            tags += "T" if value else "F"
        elif isinstance(value, int):
            tags, data = tags + "i", data + struct.pack(">i", value)
        else:
            tags, data = tags + "f", data + struct.pack(">f", value)
    return _text(address) + _text(tags) + data


def _text(value: str) -> bytes:
    """Ended by one to four zeros, a multiple of four bytes long."""
    data = value.encode("ascii")
    return data + bytes(4 - len(data) % 4)


def osc_bundles(messages: Iterable[bytes]) -> Iterator[bytes]:
    """The messages in as few datagrams of at most BUNDLE_BYTES as their order allows."""
    bundle = BUNDLE_HEAD
    for message in messages:
        part = struct.pack(">i", len(message)) + message
        if len(bundle) + len(part) > BUNDLE_BYTES:
            yield bundle
            bundle = BUNDLE_HEAD
        bundle += part
    yield bundle
