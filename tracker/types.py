"""The values that pass between the stages, and the conventions they all follow.

Conventions
-----------
Image px: x right, y down, origin at the outer corner of the first pixel, whose centre is (0.5, 0.5). z has the scale
of x, larger is nearer the viewer; its zero is the model's origin. OpenCV counts pixel centres from 0: subtract 0.5
before drawing with it.
Crop px: the same, within a square crop.
Model space: millimetres, x to image right, y up, z to the viewer; the origin lies between the ear canals.
Angles: degrees. Positive yaw turns the head towards image left (we see the subject's left cheek), positive pitch nods
it down, positive roll tilts it counter-clockwise on the screen. R = Rz(roll) Ry(-yaw) Rx(pitch), y up, z to the viewer.
Time: seconds, given by the source with each frame; nothing in the tracker reads a clock.
Landmarks: 68 points in Multi-PIE order. 17-67 are fixed on the face, 0-16 slide to the visible contour of the jaw.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from facet.tracker.errors import ImageError

if TYPE_CHECKING:
    from facet.tracker.lighting import FaceAppearance


def _check(name: str, array: np.ndarray, shape: tuple) -> None:
    """Raise ValueError where `array` lacks the shape; None stands for any length."""
    if array.shape == shape:
        return
    fits = len(array.shape) == len(shape)
    if fits:
        for expected, found in zip(shape, array.shape, strict=True):
            fits = fits and expected in (None, found)
    if not fits:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")


def check_image(image: np.ndarray) -> None:
    """Raise ImageError unless `image` is a (H, W, 3) uint8 array of at least one pixel."""
    if not isinstance(image, np.ndarray):
        found = "None, as cv2.imread returns where a file cannot be read" if image is None else type(image).__name__
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        found = f"{image.dtype} of shape {image.shape}"
    else:
        return
    raise ImageError(f"expected an image as an array (H, W, 3) of uint8, BGR, found {found}; convert it first")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a source."""

    index: int  # counts the delivered frames from 0
    time_s: float  # from the source; 0.0 is a time like any other
    image: np.ndarray  # (H, W, 3) uint8, BGR
    source: str = ""  # the file, URL or camera it came from
    first: bool = False  # nothing connects it with the frame before: tracks must not carry over
    captured_s: float | None = None  # monotonic clock at capture, for measuring delay only
    still: bool = False  # a photograph: no frame follows that could confirm its faces

    def __post_init__(self):
        _check("Frame.image", self.image, (None, None, 3))


@dataclass(frozen=True, slots=True)
class Box:
    """A detected face, image px."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    score: float  # [0, 1]
    roll_deg: float = 0.0  # of the head, to the next quarter turn; counter-clockwise on the screen

    def rolled(self, turn_deg: float) -> Box:
        """The same rectangle around a head that is rolled further."""
        return replace(self, roll_deg=self.roll_deg + turn_deg)


@dataclass(frozen=True, slots=True)
class Roi:
    """The square of the image that a network sees, image px; it may leave the image.

    `roll_deg` turns the square counter-clockwise on the screen about its centre, so that a head with that roll stands
    upright in the crop.
    """

    x: float  # left edge of the unturned square
    y: float  # top edge of the unturned square
    size: float
    roll_deg: float = 0.0

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.size / 2, self.y + self.size / 2

    def moved(self, x: float, y: float) -> Roi:
        """The same square elsewhere, px."""
        return Roi(self.x + x, self.y + y, self.size, self.roll_deg)

    def zoomed(self, zoom: float) -> Roi:
        """A square `zoom` times as large about the same centre."""
        grown = self.size * (zoom - 1)
        return Roi(self.x - grown / 2, self.y - grown / 2, self.size + grown, self.roll_deg)


@dataclass(frozen=True, slots=True, eq=False)
class FaceParams:
    """What a regressor or a fitter predicts for one face."""

    camera: np.ndarray  # (3, 4) float32, model mm -> crop px (regressor) or image px (fitter), y down
    shape: np.ndarray  # (Ks,) float32, shape coefficients
    expression: np.ndarray  # (Ke,) float32, expression coefficients; blendshape weights in [0, 1] for our own model
    score: float | None = None  # belief that this is a face and the fit is right, [0, 1]; None without such a head
    heads: Mapping[str, np.ndarray] = field(default_factory=dict)  # the network's other heads by name, (n,) float32

    def __post_init__(self):
        _check("FaceParams.camera", self.camera, (3, 4))
        _check("FaceParams.shape", self.shape, (None,))
        _check("FaceParams.expression", self.expression, (None,))


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Position of a head, from the affine camera."""

    rotation: np.ndarray  # (3, 3) float32, orthonormal, det +1, y up, z to the viewer
    scale_px_per_mm: float
    translation_px: np.ndarray  # (3,) float32, where the model's origin lies in the image
    yaw_deg: float
    pitch_deg: float
    roll_deg: float


class TrackState(enum.Enum):
    TENTATIVE = "tentative"
    TRACKED = "tracked"
    LOST = "lost"


@dataclass(frozen=True, slots=True, eq=False)
class FaceTrack:
    """One followed face in one frame, after smoothing."""

    id: int  # from 1; stays with the person
    state: TrackState
    score: float | None  # [0, 1]; None where the network has no such head
    detected: bool  # this frame's crop came from the detector, not from the frame before
    roi: Roi  # what the network saw
    model_to_image: np.ndarray  # (3, 4) float32, model mm -> image px
    shape: np.ndarray  # (Ks,) float32, of the face model that is drawn
    expression: np.ndarray  # (Ke,) float32, of the face model that is drawn: what its mesh is drawn by
    pose: Pose
    landmarks: np.ndarray  # (68, 3) float32, image px
    translation_mm: np.ndarray | None = None  # (3,) float32, camera space: x right, y up, z away from the camera
    irises: np.ndarray | None = None  # (2, 3) float32, image px, centres of the subject's right and left iris disc
    landmark_spread_px: np.ndarray | None = None  # (68,) float32, expected distance of each from its true place
    landmark_visible: np.ndarray | None = None  # (68,) float32, probability that nothing hides it
    blendshapes: dict[str, float] = field(default_factory=dict)  # by ARKit's names, [0, 1]
    vertices: np.ndarray | None = None  # (N, 3) float32, image px; only when asked for
    appearance: FaceAppearance | None = None  # light and skin; only when asked for
    heads: Mapping[str, np.ndarray] = field(default_factory=dict)  # the network's other heads by name, (n,) float32
    # the pose in the image where `pose` and `translation_mm` count from a centre that was set; None where none was
    uncentred: Pose | None = None

    def __post_init__(self):
        _check("FaceTrack.model_to_image", self.model_to_image, (3, 4))
        _check("FaceTrack.landmarks", self.landmarks, (68, 3))
        if self.irises is not None:
            _check("FaceTrack.irises", self.irises, (2, 3))

    @property
    def image_pose(self) -> Pose:
        """The pose that goes with the landmarks in the image, whether or not a centre was set."""
        return self.pose if self.uncentred is None else self.uncentred

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Rectangle of the 68 points: x_min, y_min, x_max, y_max, image px."""
        (x0, y0), (x1, y1) = self.landmarks[:, :2].min(axis=0), self.landmarks[:, :2].max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)


# A detector takes an image, (H, W, 3) uint8 BGR, and returns the faces in it, best first; () when there is none.
Detector = Callable[[np.ndarray], tuple[Box, ...]]
