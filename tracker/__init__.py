"""facet's core: follows faces from frame to frame. Conventions: tracker/types.py."""

from facet.tracker.config import load_config
from facet.tracker.errors import (
    ConfigError,
    FaceTrackError,
    ImageError,
    RenderError,
    SinkError,
    SourceError,
    WeightsError,
)
from facet.tracker.loop import FaceTracker
from facet.tracker.sources import open_source
from facet.tracker.types import Box, FaceTrack, Frame, Pose, Roi, TrackState

__version__ = "0.1.0"
__all__ = [
    "Box",
    "ConfigError",
    "FaceTrack",
    "FaceTrackError",
    "FaceTracker",
    "Frame",
    "ImageError",
    "Pose",
    "RenderError",
    "Roi",
    "SinkError",
    "SourceError",
    "TrackState",
    "WeightsError",
    "load_config",
    "open_source",
]
