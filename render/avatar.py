"""The view that draws an avatar instead of the face, or beside it: our own head, or that of a .glb or .vrm file.

It moves by what leaves the program: the blendshapes and the pose of the face, calibrated and centred where that is
asked for. What reads and draws it is loaded when the view is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from facet.tracker.errors import RenderError
from facet.tracker.types import FaceTrack
from facet.tracker.weights import ROOT

if TYPE_CHECKING:
    from facet.render.avatar_head import Avatar

OWN = ROOT / "weights" / "avatar.glb"
PLACES = ("over", "beside")


@dataclass(frozen=True, slots=True)
class AvatarConfig:
    """The head of the view avatar."""

    file: Annotated[str, "a .glb or .vrm with ARKit's blendshapes; empty for our own"] = ""
    place: Annotated[str, "over or beside the face"] = "over"

    def __post_init__(self):
        if self.place not in PLACES:
            raise ValueError(f"place must be one of {', '.join(PLACES)}, got {self.place}")


@functools.lru_cache(maxsize=2)
def load_avatar(file: str) -> Avatar:
    """The avatar of a file, our own where the name is empty.

    Raises
    ------
    RenderError
        Where it cannot be read or is no head that can be moved.
    """
    from facet.render.avatar_head import Avatar
    from facet.render.glb import read_head

    path = Path(file) if file else OWN
    mesh = read_head(path)
    try:
        return Avatar(mesh)
    except ValueError as error:
        raise RenderError(f"{path}: {error}; give a .glb or .vrm with ARKit's blendshapes") from error


def draw_avatars(image: np.ndarray, tracks: Sequence[FaceTrack], config: AvatarConfig) -> None:
    """Draw the avatars of all faces into an image, (H, W, 3) uint8, BGR, written; the farthest first."""
    avatar = load_avatar(config.file)
    for track in sorted(tracks, key=lambda track: track.pose.scale_px_per_mm):
        avatar.draw(image, track, config.place)
