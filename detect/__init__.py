"""The face detector."""

from facet.detect.faceboxes import DetectorConfig, FaceBoxes
from facet.tracker.runtime import RuntimeConfig
from facet.tracker.weights import find_entry

__all__ = ["DetectorConfig", "FaceBoxes", "open_detector"]


def open_detector(config: DetectorConfig = DetectorConfig(), runtime: RuntimeConfig = RuntimeConfig()) -> FaceBoxes:
    """Load the detector that the settings name; see `FaceBoxes.open` and `find_entry` for what can go wrong."""
    return FaceBoxes.open(find_entry(config.weights, "detector"), config, runtime)
