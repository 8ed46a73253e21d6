"""The mesh with its skin, under the light that was estimated on it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from facet.render.geometry import Geometry
from facet.tracker.lighting import Light, SkinModel, load_skin
from facet.tracker.types import FaceTrack

FADE = 0.25  # cosine between surface and camera below which the mesh lets the image through


@lru_cache(maxsize=1)
def skin_model() -> SkinModel:
    """The skin model; it is loaded when it is first drawn."""
    return load_skin()


@lru_cache(maxsize=2)
def _skin_at_vertices(geometry: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (N, 3), modes (N, 3, K), and which vertices show skin (N, 1): eyes and mouth keep the geometry's colours."""
    uv = geometry.codes["uv"][:, :0:-1]
    mean, modes = skin_model().at(uv)
    return mean, modes, np.any(uv != 0, axis=1, keepdims=True)


def appearance_of(track: FaceTrack) -> tuple[Light, np.ndarray]:
    """Light and skin coefficients of a face; the average ones where its own are unknown."""
    skin = skin_model()
    light, own = Light(skin.light_mean.reshape(3, -1)), np.zeros(skin.count, np.float32)
    known = track.appearance
    if known is None or known.light is None or known.skin is None:
        return light, own
    return known.light, known.skin


def vertex_albedo(geometry: Geometry, skin: np.ndarray) -> np.ndarray:
    """Albedo at the vertices, (N, 3) float32, BGR in [0, 1], of skin coefficients (K,)."""
    mean, modes, shown = _skin_at_vertices(geometry)
    albedo = np.clip(mean + modes @ np.asarray(skin, np.float32), 0.01, 1)[:, ::-1]
    return np.where(shown, albedo, geometry.albedo).astype(np.float32)


def lit_skin(geometry: Geometry, normals: np.ndarray, track: FaceTrack) -> np.ndarray:
    """Colours (N, 4) uint8, BGR times alpha, alpha; normals (N, 3) in image axes."""
    light, skin = appearance_of(track)
    shading = light.shading(normals * np.array([1, -1, 1], np.float32))[:, ::-1]
    colour = np.clip(vertex_albedo(geometry, skin) * shading, 0, 1)
    alpha = (geometry.opacity * np.clip(normals[:, 2] / FADE, 0, 1))[:, None]
    return np.rint(255 * np.concatenate([colour * alpha, alpha], axis=1)).astype(np.uint8)
