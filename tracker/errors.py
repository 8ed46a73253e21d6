"""The errors that a user of the library can cause. Each message says what was expected, what was found, what to do."""

from __future__ import annotations

import unicodedata

LONGEST = 2000  # characters of a line; a path has up to 4096, most often far fewer


def printable(text: str) -> str:
    """The text as one line in which nothing controls the terminal.

    Line ends, terminal escapes, changes of the writing direction, and bytes of names that are not UTF-8 become
    backslash escapes; the middle of a very long text is left out.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or unicodedata.category(char) == "Zs" else char.encode("unicode_escape").decode()
        for char in text
    )


class FaceTrackError(Exception):
    """Base of all errors that facet raises on purpose; the text is one printable line."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(FaceTrackError):
    """A setting or option that does not exist or is out of range."""


class WeightsError(FaceTrackError):
    """A model file that is missing, damaged or not of the expected form."""


class SourceError(FaceTrackError):
    """A video, image, stream or camera that cannot be read."""


class ImageError(FaceTrackError):
    """An array that is no image of the expected shape and type."""


class SinkError(FaceTrackError):
    """An output that cannot be opened or written."""


class RenderError(FaceTrackError):
    """A picture that cannot be drawn on this machine."""
