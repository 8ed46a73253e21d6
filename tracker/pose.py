"""Where a head is and how it is turned, from its affine camera, and back. Conventions: tracker/types.py."""

from __future__ import annotations

import math

import numpy as np

from facet.tracker.compiling import njit
from facet.tracker.crop import affine_of
from facet.tracker.types import Pose, Roi

# nearer than this to +-90 degrees of yaw, pitch and roll turn about the same axis and only their sum is known
GIMBAL_COS = 1e-4
FLIP_Y = np.array([1.0, -1.0, 1.0])
FOV_DEG = 60.0  # of a camera of which nothing is known, across the longer side


def model_to_image(camera: np.ndarray, roi: Roi, crop_size: int) -> np.ndarray:
    """Bring an affine camera from a crop to the image.

    Parameters
    ----------
    camera : (3, 4) float, model mm -> crop px, y down
    roi : Roi, image px; where the crop was cut
    crop_size : int, px

    Returns
    -------
    (3, 4) float32, model mm -> image px, y down; z is scaled and otherwise left alone
    """
    return _moved(camera, roi.x, roi.y, roi.size, roi.roll_deg, crop_size)


@njit()
def _moved(camera, x, y, side, roll_deg, size):
    moved = np.empty((3, 4), np.float32)
    (a, b, c), (d, e, f) = affine_of(x, y, side, roll_deg, size)
    for column in range(4):
        last = 1.0 if column == 3 else 0.0
        moved[0, column] = a * camera[0, column] + b * camera[1, column] + c * last
        moved[1, column] = d * camera[0, column] + e * camera[1, column] + f * last
        moved[2, column] = camera[2, column] * (side / size)
    return moved


def pose_from_camera(model_to_image: np.ndarray) -> Pose:
    """Take an affine camera apart.

    Parameters
    ----------
    model_to_image : (3, 4) float, model mm -> image px, y down

    Returns
    -------
    Pose
        The scale is the mean of the first two rows' lengths, the rotation the nearest one to their directions. The
        third row is not looked at: networks learn it badly. A camera without extent has scale 0 and no rotation.
    """
    return Pose(*_apart(model_to_image))


@njit()
def _apart(camera):
    """The values of a Pose, in their order. All such steps are compiled: numpy takes a microsecond for each.

    None of them lets the interpreter's lock go: to get it back takes longer than they do.
    """
    rows, rotation = np.empty((2, 3)), np.empty((3, 3))
    turned, shift = np.empty((3, 3), np.float32), np.empty(3, np.float32)
    for i in range(3):
        rows[0, i], rows[1, i], shift[i] = camera[0, i], -camera[1, i], camera[i, 3]
    _nearest_rotation(rows, rotation)
    for i in range(3):
        for j in range(3):
            turned[i, j] = rotation[i, j]
    yaw, pitch, roll = _angles(rotation)
    return turned, (_length(rows, 0) + _length(rows, 1)) / 2, shift, yaw, pitch, roll


@njit()
def _length(matrix, row):
    """Of the first three numbers of a row."""
    x, y, z = matrix[row, 0], matrix[row, 1], matrix[row, 2]
    return math.sqrt(x * x + y * y + z * z)


def camera_from_pose(pose: Pose) -> np.ndarray:
    """The affine camera of a pose, (3, 4) float32, model mm -> image px, y down; the inverse of `pose_from_camera`."""
    camera = np.empty((3, 4), np.float32)
    camera[:, :3] = pose.rotation * (FLIP_Y[:, None] * pose.scale_px_per_mm)
    camera[:, 3] = pose.translation_px
    return camera


def nearest_rotation(rows: np.ndarray) -> np.ndarray:
    """The rotation whose first two rows are nearest to the directions of two vectors.

    Parameters
    ----------
    rows : (2, 3) float

    Returns
    -------
    (3, 3) float64, orthonormal, det +1; the identity where a vector is zero or both lie on one line
    """
    rotation = np.empty((3, 3))
    _nearest_rotation(np.ascontiguousarray(rows, np.float64), rotation)
    return rotation


@njit()
def _nearest_rotation(rows, out):
    for i in range(3):
        for j in range(3):
            out[i, j] = 1.0 if i == j else 0.0
    x_length, y_length = _length(rows, 0), _length(rows, 1)
    if not (x_length > 0 and y_length > 0):
        return
    # the bisectors of two unit vectors are orthogonal; turning both by the same angle closes the nearest right angle
    bisectors = np.empty((2, 3))
    for i in range(3):
        x, y = rows[0, i] / x_length, rows[1, i] / y_length
        bisectors[0, i], bisectors[1, i] = x + y, x - y
    inner, outer = _length(bisectors, 0), _length(bisectors, 1)
    if not (inner > 1e-9 and outer > 1e-9):
        return
    for i in range(3):
        x, y = math.sqrt(0.5) * bisectors[0, i] / inner, math.sqrt(0.5) * bisectors[1, i] / outer
        out[0, i], out[1, i] = x + y, x - y
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        out[2, i] = out[0, j] * out[1, k] - out[0, k] * out[1, j]


def rotation_from_angles(yaw_deg: float, pitch_deg: float, roll_deg: float) -> np.ndarray:
    """R = Rz(roll) Ry(-yaw) Rx(pitch), y up, z to the viewer; (3, 3) float64."""
    (cos_y, sin_y), (cos_p, sin_p), (cos_r, sin_r) = (
        (math.cos(angle), math.sin(angle)) for angle in map(math.radians, (-yaw_deg, pitch_deg, roll_deg))
    )
    about_x = np.array([[1, 0, 0], [0, cos_p, -sin_p], [0, sin_p, cos_p]])
    about_y = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    about_z = np.array([[cos_r, -sin_r, 0], [sin_r, cos_r, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def angles_from_rotation(rotation: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a rotation.

    Parameters
    ----------
    rotation : (3, 3) float, orthonormal, y up, z to the viewer

    Returns
    -------
    yaw_deg in [-90, 90], pitch_deg and roll_deg in [-180, 180]; at a yaw of +-90 degrees the roll is said to be 0
    """
    return _angles(np.ascontiguousarray(rotation, np.float64))


@njit()
def _angles(r):
    yaw = math.asin(min(1.0, max(-1.0, r[2, 0])))
    if math.hypot(r[2, 1], r[2, 2]) < GIMBAL_COS:
        pitch, roll = math.atan2(-r[1, 2], r[1, 1]), 0.0
    else:
        pitch, roll = math.atan2(r[2, 1], r[2, 2]), math.atan2(r[1, 0], r[0, 0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def focal_px(size_wh: tuple[int, int], fov_deg: float = FOV_DEG) -> float:
    """Focal length, px, of a camera with this field of view across the longer side of an image."""
    return max(size_wh) / 2 / math.tan(math.radians(fov_deg) / 2)


def camera_scale(camera: np.ndarray) -> float:
    """Scale of an affine camera, (3, 4), px per mm: the mean length of its first two rows."""
    return float(_scale(camera))


def translation_mm(model_to_image: np.ndarray, size_wh: tuple[int, int], fov_deg: float = FOV_DEG) -> np.ndarray:
    """Where the model's origin lies before a camera that has this field of view and faces the image's centre.

    Parameters
    ----------
    model_to_image : (3, 4) float, model mm -> image px, y down
    size_wh : width and height of the image, px
    fov_deg : field of view across the longer side

    Returns
    -------
    (3,) float32, mm, camera space: x right, y up, z away from the camera; infinite for a camera without extent

    Convention
    ----------
    The affine camera is taken for the perspective one at the distance of the model's origin: focal length / scale.
    """
    return _translation(model_to_image, size_wh[0] / 2, size_wh[1] / 2, focal_px(size_wh, fov_deg))


@njit()
def _scale(camera):
    return (_length(camera, 0) + _length(camera, 1)) / 2


@njit()
def _translation(camera, middle_x, middle_y, focal_px):
    scale = _scale(camera)
    out = np.empty(3, np.float32)
    if scale > 0:
        out[0], out[1], out[2] = (camera[0, 3] - middle_x) / scale, (middle_y - camera[1, 3]) / scale, focal_px / scale
    else:
        out[0] = out[1] = out[2] = np.inf
    return out
