"""All settings of the program, by part: what `--config`, `--set` and `--print-config` know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from facet.detect import DetectorConfig
from facet.render.avatar import AvatarConfig
from facet.render.privacy import PrivacyConfig
from facet.render.sinks.video import OutputConfig
from facet.tracker.blendshapes import BlendshapesConfig
from facet.tracker.lighting import LightConfig
from facet.tracker.loop import CameraConfig, RegressorConfig
from facet.tracker.runtime import RuntimeConfig
from facet.tracker.smoothing import SmoothingConfig
from facet.tracker.sources.base import SourceConfig
from facet.tracker.tracks import TrackerConfig


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """What meshes look like."""

    skin: Annotated[str, "image: the colours of the image; albedo: skin with its light divided out"] = "image"
    volume: Annotated[bool, "the whole head as a closed mesh, too"] = False
    weights: Annotated[str, "the network that predicts the whole head"] = "weights/volume.onnx"

    def __post_init__(self):
        if self.skin not in ("image", "albedo"):
            raise ValueError(f"skin must be image or albedo, got {self.skin}")


@dataclass(frozen=True, slots=True)
class AppConfig:
    """All settings; each part owns its own."""

    source: SourceConfig = field(default_factory=SourceConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    regressor: RegressorConfig = field(default_factory=RegressorConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    blendshapes: BlendshapesConfig = field(default_factory=BlendshapesConfig)
    lighting: LightConfig = field(default_factory=LightConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    avatar: AvatarConfig = field(default_factory=AvatarConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
