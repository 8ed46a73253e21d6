"""Least squares within bounds, and the small linear algebra that goes with it, without BLAS and its threads."""

from __future__ import annotations

import math

import numpy as np

from facet.tracker.compiling import njit


@njit(nogil=True, fastmath=True)
def descend(matrix, gradient, x, low, high, sweeps, least_step):
    """Minimise a quadratic function within bounds by coordinate descent, in place.

    Parameters
    ----------
    matrix : (n, n) float64, symmetric, positive definite where bounds differ: the second derivatives
    gradient : (n,) float64, at `x`; afterwards at the result
    x : (n,) float64, where the search starts; afterwards the result
    low, high : (n,) float64; a coordinate between equal bounds stays
    sweeps : at most so many rounds over all coordinates
    least_step : shorter steps are not taken, and a round without a step is the last one
    """
    count = len(x)
    for _ in range(sweeps):
        moved = False
        for i in range(count):
            new = low[i]
            if low[i] < high[i]:  # what cannot move need not have a curvature
                new = min(max(x[i] - gradient[i] / matrix[i, i], low[i]), high[i])
            step = new - x[i]
            if abs(step) > least_step:
                moved = True
                x[i] = new
                for j in range(count):
                    gradient[j] += matrix[i, j] * step
        if not moved:
            break


@njit(nogil=True)
def factor(matrix):
    """Lower triangle L of a symmetric positive definite (n, n) matrix, L L' = matrix (Cholesky)."""
    count = len(matrix)
    lower = np.zeros((count, count))
    for i in range(count):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            lower[i, j] = math.sqrt(max(total, 1e-300)) if i == j else total / lower[j, j]
    return lower


@njit(nogil=True)
def divide(lower, vector):
    """Solve L L' x = vector, in place."""
    count = len(vector)
    for i in range(count):
        for k in range(i):
            vector[i] -= lower[i, k] * vector[k]
        vector[i] /= lower[i, i]
    for i in range(count - 1, -1, -1):
        for k in range(i + 1, count):
            vector[i] -= lower[k, i] * vector[k]
        vector[i] /= lower[i, i]
