"""An avatar, posed by a face's blendshapes and drawn where its eyes are, as large as the face."""

from __future__ import annotations

import cv2
import numpy as np

from facet.render.cpu.textured import SAMPLES, rasterise_textured
from facet.render.geometry import vertex_normals
from facet.render.glb import HeadMesh
from facet.tracker.morphable import add_expression
from facet.tracker.outputs.avatar import gaze_deg
from facet.tracker.outputs.vmc import vrm_presets
from facet.tracker.pose import rotation_from_angles
from facet.tracker.types import FaceTrack

EYES_TO_CHIN_MM = 112.0  # of the mean face of our model, from between the eyes to the lowest point that the jaw moves
BESIDE = 1.15  # widths of the avatar between it and the face
MOVING = 0.3  # of the largest offset of a morph target: what moves less is not what it is about
FLIP = np.array([1, -1, 1], np.float32)  # between y up and y down
LARGEST_PX = 4096  # of an avatar, each way


class Avatar:
    """A head, ready to be posed and drawn.

    Attributes
    ----------
    names : blendshapes or presets that move it
    """

    def __init__(self, mesh: HeadMesh):
        self._mesh = mesh
        self.names = tuple(mesh.morphs)
        self._start = np.r_[0, np.cumsum([len(at) for at, _ in mesh.morphs.values()])].astype(np.int32)
        self._vertex = np.concatenate([at for at, _ in mesh.morphs.values()]).astype(np.int32)
        delta = np.concatenate([by for _, by in mesh.morphs.values()]).astype(np.float32)
        self._by_presets = not any(name.startswith(("jaw", "mouth", "brow")) for name in self.names)
        blinks = [self._moving(name) for name in self.names if "blink" in name.lower()]
        if len(blinks) < 1:
            raise ValueError("expected a head whose eyes blink, found no such blendshape")
        eyes = np.mean([mesh.vertices[at].mean(axis=0) for at in blinks], axis=0)
        opened = [name for name in ("jawOpen", "aa") if name in self.names]
        moving = mesh.vertices[self._moving(opened[0])] if opened else mesh.vertices
        height = float(eyes[1] - moving[:, 1].min())
        if not height > 1e-9:
            raise ValueError("expected a head with its eyes above its chin, found another")
        # VRM 0 looks along -z
        turn = np.array([1, 1, 1] if eyes[2] >= np.median(mesh.vertices[:, 2]) else [-1, 1, -1], np.float32)
        self._unit = np.float32(EYES_TO_CHIN_MM / height) * turn
        self._neutral = ((mesh.vertices - eyes) * self._unit).astype(np.float32)
        self._delta = delta * self._unit
        self._eyes = {side: (at, ((middle - eyes) * self._unit)) for side, (at, middle) in mesh.eyes.items()}
        # corners that texture seams have split share a normal
        _, first, self._weld = np.unique(np.round(mesh.vertices, 6), axis=0, return_index=True, return_inverse=True)
        self._first = first
        self._welded = np.ascontiguousarray(self._weld.reshape(-1)[mesh.triangles], np.int32)
        self.width_mm = float(np.ptp(self._neutral[:, 0]))
        # the kernel is compiled, or loaded, now and not in the first frame
        self._rasterise(np.zeros((len(mesh.vertices), 3), np.float32), np.zeros_like(mesh.colours), (0, 0))

    def _moving(self, name: str) -> np.ndarray:
        """The vertices that a blendshape is about."""
        at, by = self._mesh.morphs[name]
        length = np.linalg.norm(by, axis=1)
        return at[length >= MOVING * length.max(initial=0)]

    def posed(self, blendshapes: dict[str, float]) -> np.ndarray:
        """Vertices, (N, 3) float32 mm from between the eyes, y up, z to where it looks."""
        values = vrm_presets(blendshapes) if self._by_presets else blendshapes
        weights = np.array([values.get(name, 0.0) for name in self.names], np.float32)
        vertices = add_expression(self._neutral, weights, self._start, self._vertex, self._delta)
        looks = any(name.startswith(("eyeLook", "lookUp")) for name in self.names)  # else bones turn the eyes
        for side, (at, middle) in () if looks else self._eyes.items():
            turn = rotation_from_angles(*gaze_deg(blendshapes, side), 0.0).astype(np.float32)
            vertices[at] = (vertices[at] - middle) @ turn.T + middle
        return vertices

    def draw(self, image: np.ndarray, face: FaceTrack, place: str) -> None:
        """Draw the avatar of a face into an image, (H, W, 3) uint8, BGR, written."""
        scale = face.pose.scale_px_per_mm
        eyes = face.landmarks[36:48].mean(axis=0)
        if not (np.isfinite(eyes).all() and np.isfinite(face.pose.rotation).all() and 1e-3 < scale < 1e3):
            return
        points = self.posed(face.blendshapes) @ face.pose.rotation.T * np.float32(scale) * FLIP
        shift = eyes[:2].astype(np.float32)
        if place == "beside":
            to_right = shift[0] < image.shape[1] / 2
            shift = shift + np.array([(1 if to_right else -1) * BESIDE * self.width_mm * scale, 0], np.float32)
        points[:, :2] += shift
        (x0, y0), (x1, y1) = np.floor(points[:, :2].min(axis=0)), np.ceil(points[:, :2].max(axis=0))
        left, top = max(int(x0), 0), max(int(y0), 0)
        right, bottom = min(int(x1), image.shape[1]), min(int(y1), image.shape[0])
        if left >= right or top >= bottom or max(x1 - x0, y1 - y0) > LARGEST_PX:
            return
        colours = self._mesh.colours * self._light(points)[:, None]
        samples = (points - np.array([left, top, 0], np.float32)) * np.array([SAMPLES, SAMPLES, 1], np.float32)
        target = self._rasterise(samples, colours, (SAMPLES * (bottom - top), SAMPLES * (right - left)))
        small = cv2.resize(target, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        part = image[top:bottom, left:right]
        # samples without a triangle are black: colours are times alpha already
        part[:] = small[..., :3] + (part.astype(np.uint16) * (255 - small[..., 3:]) // 255).astype(np.uint8)

    def _rasterise(self, samples: np.ndarray, colours: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The head in samples, (*size, 4) uint8, by its vertices there and their colours, (N, 3) float32 each."""
        mesh, depth, target = self._mesh, np.full(size, -np.inf, np.float32), np.zeros((*size, 4), np.uint8)
        colours = colours.astype(np.float32)
        rasterise_textured(samples, mesh.triangles, colours, mesh.uv, mesh.texture, mesh.textures, depth, target)
        return target

    def _light(self, points: np.ndarray) -> np.ndarray:
        """(N,) float32 of light on vertices in image px: a key from above left, and the sky."""
        welded = np.ascontiguousarray(points[self._first])
        normals = np.empty_like(welded)
        vertex_normals(welded, self._welded, normals)
        x, y, z = normals.T
        lit = 0.42 + 0.2 * (0.5 - 0.5 * y) + 0.5 * np.maximum(-0.34 * x - 0.46 * y + 0.82 * z, 0)
        return np.minimum(lit, 1.0)[self._weld.reshape(-1)].astype(np.float32)
