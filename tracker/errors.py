"""The errors that a user of the library can cause. Each message tells what was expected, what was found, what to do."""


class FaceTrackError(Exception):
    """Base of all errors that facet raises on purpose; the text is one line, fit for a user's eyes."""


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
