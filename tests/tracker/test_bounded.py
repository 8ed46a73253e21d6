import numpy as np
import pytest

from facet.tracker.bounded import descend, divide, factor

lsq_linear = pytest.importorskip("scipy.optimize").lsq_linear  # only the tools have SciPy


def problem(seed, rows=30, count=20):
    rng = np.random.default_rng(seed)
    design, wanted = rng.normal(size=(rows, count)), rng.normal(0, 5, rows)
    return design, wanted, np.zeros(count), np.ones(count)


def solved(design, wanted, low, high, start, sweeps=5000, least_step=1e-12):
    matrix, x = design.T @ design, start.copy()
    gradient = matrix @ x - design.T @ wanted
    descend(matrix, gradient, x, low, high, sweeps, least_step)
    return x, gradient


def test_the_minimum_is_scipys_wherever_the_search_starts():
    for seed in range(5):
        design, wanted, low, high = problem(seed)
        expected = lsq_linear(design, wanted, (low, high), tol=1e-12).x
        for start in (0.0, 0.5, 1.0):
            x, gradient = solved(design, wanted, low, high, np.full(20, start))
            np.testing.assert_allclose(x, expected, atol=1e-5)
            np.testing.assert_allclose(gradient, design.T @ (design @ x - wanted), atol=1e-6)
        assert (x == low).any() and (x == high).any() and ((x > low) & (x < high)).any()


def test_a_coordinate_between_equal_bounds_stays():
    design, wanted, low, high = problem(7)
    low[3] = high[3] = 0.3
    assert solved(design, wanted, low, high, np.full(20, 0.3))[0][3] == 0.3


def test_short_steps_are_not_taken():
    design, wanted, low, high = problem(8)
    x, _ = solved(design, wanted, low, high, np.full(20, 0.5), least_step=2.0)
    np.testing.assert_array_equal(x, 0.5)


def test_a_factor_divides_as_numpy_does():
    design, wanted, *_ = problem(9)
    matrix, vector = design.T @ design, design.T @ wanted
    lower = factor(matrix)
    np.testing.assert_allclose(lower, np.linalg.cholesky(matrix), atol=1e-9)
    expected = np.linalg.solve(matrix, vector)
    divide(lower, vector)
    np.testing.assert_allclose(vector, expected, rtol=1e-6)


def test_what_cannot_move_need_not_have_a_curvature():
    matrix, gradient = np.diag([2.0, 0.0]), np.array([-4.0, 1.0])
    x, low, high = np.array([0.0, 0.5]), np.array([-9.0, 0.5]), np.array([9.0, 0.5])
    descend(matrix, gradient, x, low, high, 10, 1e-9)
    assert x.tolist() == [2.0, 0.5]
