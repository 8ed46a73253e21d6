"""What a terminal gets: one line, in which nothing controls it."""

import os

import pytest

from facet.tracker.errors import LONGEST, SourceError, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain text, é, 日本, 🙂, a\u3000b", "plain text, é, 日本, 🙂, a\u3000b"),
        ("two\nlines\r\n", "two\\nlines\\r\\n"),
        ("\x1b[31mred\x1b[0m\x07", "\\x1b[31mred\\x1b[0m\\x07"),
        ("\x9b31m\x7f\x00", "\\x9b31m\\x7f\\x00"),
        ("left\u202eright\u2028\u2029\u200b", "left\\u202eright\\u2028\\u2029\\u200b"),
        (os.fsdecode(b"latin\xe9") if os.name != "nt" else "latin\udce9", "latin\\udce9"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_controls_are_escaped(text, expected):
    assert printable(text) == expected
    printable(text).encode("utf-8")
    assert printable(str(SourceError(text))) == expected


def test_a_long_text_keeps_its_ends():
    line = printable("a" * 10**6 + "b")
    assert len(line) < LONGEST + 10
    assert line.startswith("aaa") and line.endswith("ab")
