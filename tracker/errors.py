"""The errors that a user of the library can cause. Each message tells what was expected, what was found, what to do."""


def printable(text: str) -> str:
    """The text with control characters, and bytes of names that are not UTF-8, as escapes; always one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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


class SinkError(FaceTrackError):
    """An output that cannot be opened or written."""


class RenderError(FaceTrackError):
    """A picture that cannot be drawn on this machine."""
