"""Reads the output of 3DDFA's networks."""

from __future__ import annotations

import numpy as np

from facet.tracker.errors import WeightsError
from facet.tracker.weights import WeightsEntry

POSE_COUNT = 12  # affine camera, row by row
UM_PER_MM = 1000.0


def output_of_3ddfa(entry: WeightsEntry, size_px: int):
    """How many numbers a network of 3DDFA gives, and what reads them, by its manifest entry.

    Raises
    ------
    WeightsError
        Where a value is missing, or has another size.
    """
    shape_count, expression_count = entry.get("shape_count", int), entry.get("expression_count", int)
    pose_mean, pose_std = (np.array(entry.get(key, list), np.float64) for key in ("pose_mean", "pose_std"))
    if pose_mean.shape != (POSE_COUNT,) or pose_std.shape != (POSE_COUNT,):
        raise WeightsError(f"{entry.path}: expected 12 values in pose_mean and pose_std of its manifest entry")
    return POSE_COUNT + shape_count + expression_count, translate_3ddfa(pose_mean, pose_std, shape_count, size_px)


def translate_3ddfa(pose_mean: np.ndarray, pose_std: np.ndarray, shape_count: int, size_px: int):
    """A function that reads the output: affine camera | shape | expression, each in standard deviations.

    Parameters
    ----------
    pose_mean, pose_std : (12,) float, of the camera's numbers (row by row; micrometres -> crop px)

    Convention
    ----------
    3DDFA's crop px count pixel centres from 1 and y goes up, flipped by `size + 1 - y`: x_ours = x - 0.5,
    y_ours = size + 0.5 - y. Its z offset is a constant of the training without meaning; ours is 0.
    Shape and expression stay in standard deviations: the imported face model has their means and deviations inside.

    Source: 3DDFA_V2, utils/tddfa_util.py, `_parse_param` and `similar_transform`.
    """
    unit = np.array([UM_PER_MM, UM_PER_MM, UM_PER_MM, 1.0])
    flip = np.array([1.0, -1.0, 1.0])
    factor = flip[:, None] * unit
    scale = (pose_std.reshape(3, 4) * factor).ravel()
    offset = (pose_mean.reshape(3, 4) * factor).ravel()
    offset[[3, 7]] += -0.5, size_px + 0.5
    scale[11] = offset[11] = 0.0
    scale, offset = scale.astype(np.float32), offset.astype(np.float32)

    def translate(params: np.ndarray):
        cameras = (params[:, :POSE_COUNT] * scale + offset).reshape(-1, 3, 4)
        shapes, expressions = np.split(params[:, POSE_COUNT:], [shape_count], axis=1)
        return cameras, shapes, expressions, None, {}

    return translate
