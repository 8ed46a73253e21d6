"""Where a head is and how it is turned, from its affine camera, and back. Conventions: tracker/types.py."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tracker.crop import affine_of
from tracker.types import Pose, Roi

# nearer than this to +-90 degrees of yaw, pitch and roll turn about the same axis and only their sum is known
GIMBAL_COS = 1e-4
FLIP_Y = np.array([1.0, -1.0, 1.0])


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


@njit(cache=True)
def _moved(camera, x, y, side, roll_deg, size):
    moved = np.empty((3, 4), np.float32)
    for row, (a, b, c) in enumerate(affine_of(x, y, side, roll_deg, size)):
        moved[row] = a * camera[0] + b * camera[1]
        moved[row, 3] += c
    moved[2] = camera[2] * (side / size)
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


@njit(cache=True)
def _apart(camera):
    """The values of a Pose, in their order. All such steps are compiled: numpy takes a microsecond for each.

    None of them lets the interpreter's lock go: to get it back takes longer than they do.
    """
    rows = np.empty((2, 3))
    rows[0], rows[1] = camera[0, :3], -camera[1, :3]
    rotation = _nearest_rotation(rows)
    yaw, pitch, roll = _angles(rotation)
    scale = (_length(rows[0]) + _length(rows[1])) / 2
    return rotation.astype(np.float32), scale, camera[:, 3].astype(np.float32), yaw, pitch, roll


@njit(cache=True)
def _length(vector):
    return math.sqrt(vector[0] ** 2 + vector[1] ** 2 + vector[2] ** 2)


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
    return _nearest_rotation(np.ascontiguousarray(rows, np.float64))


@njit(cache=True)
def _nearest_rotation(rows):
    rotation = np.eye(3)
    x_length, y_length = _length(rows[0]), _length(rows[1])
    if not (x_length > 0 and y_length > 0):
        return rotation
    # the bisectors of two unit vectors are orthogonal; turning both by the same angle closes the nearest right angle
    inner, outer = rows[0] / x_length + rows[1] / y_length, rows[0] / x_length - rows[1] / y_length
    inner_length, outer_length = _length(inner), _length(outer)
    if not (inner_length > 1e-9 and outer_length > 1e-9):
        return rotation
    inner, outer = inner * (math.sqrt(0.5) / inner_length), outer * (math.sqrt(0.5) / outer_length)
    x, y = inner + outer, inner - outer
    rotation[0], rotation[1] = x, y
    for i in range(3):
        rotation[2, i] = x[(i + 1) % 3] * y[(i + 2) % 3] - x[(i + 2) % 3] * y[(i + 1) % 3]
    return rotation


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


@njit(cache=True)
def _angles(r):
    yaw = math.asin(min(1.0, max(-1.0, r[2, 0])))
    if math.hypot(r[2, 1], r[2, 2]) < GIMBAL_COS:
        pitch, roll = math.atan2(-r[1, 2], r[1, 1]), 0.0
    else:
        pitch, roll = math.atan2(r[2, 1], r[2, 2]), math.atan2(r[1, 0], r[0, 0])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def translation_mm(model_to_image: np.ndarray, size_wh: tuple[int, int], fov_deg: float = 60.0) -> np.ndarray:
    """Where the model's origin lies before a camera that has this field of view and looks at the picture's centre.

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
    focal_px = max(size_wh) / 2 / math.tan(math.radians(fov_deg) / 2)
    return _translation(model_to_image, size_wh[0] / 2, size_wh[1] / 2, focal_px)


@njit(cache=True)
def _translation(camera, middle_x, middle_y, focal_px):
    scale = (_length(camera[0]) + _length(camera[1])) / 2
    if not scale > 0:
        return np.full(3, np.inf, np.float32)
    out = np.empty(3, np.float32)
    out[0], out[1], out[2] = (camera[0, 3] - middle_x) / scale, (middle_y - camera[1, 3]) / scale, focal_px / scale
    return out
