"""Losses against values computed by hand."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tools.regressor import parameters as losses


def model(points=((1.0, 2.0, 2.0), (3.0, 0.0, -1.0)), std=2.0):
    mean = torch.tensor(points)
    basis = torch.zeros(2, len(points), 3)
    basis[0, 0, 0] = 3.0
    basis[0, 1, 1] = 4.0
    basis[1, 1, 2] = 2.0
    return losses.PointModel(mean, basis, torch.arange(14.0) / 10, torch.full((14,), std))


def test_point_distance_is_euclidean_and_soft_at_zero():
    a = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]], requires_grad=True)
    distance = losses.point_distance(a, torch.zeros(1, 2, 2))
    np.testing.assert_allclose(distance.detach(), [[5.0, 1e-3]], rtol=1e-5)
    distance.sum().backward()
    assert torch.isfinite(a.grad).all()


def test_pdc_is_the_mean_square_of_the_whitened_difference():
    output, target = torch.zeros(2, 14), torch.zeros(2, 14)
    output[0, 3], output[1, 13] = 2.0, -1.0
    assert losses.pdc(output, target).item() == pytest.approx((4 + 1) / 28)


def test_vdc_by_hand():
    # the camera's numbers are 0.1 i, so a difference of 1 (2 unwhitened) in number 0 moves x by 2 x
    output, target = torch.zeros(1, 14), torch.zeros(1, 14)
    output[0, 0] = 1.0
    known = model()
    coefficients = torch.tensor([1.2, 1.3])  # their means: whitened 0
    x = known.mean[:, 0] + coefficients[0] * known.basis[0, :, 0]
    expected = ((2 * x) ** 2).sum().item() / 6
    assert losses.vdc(output, target, known).item() == pytest.approx(expected, rel=1e-5)


def test_vdc_looks_away_from_the_shift_in_depth():
    output, target = torch.zeros(1, 14), torch.zeros(1, 14)
    output[0, losses.DEPTH_SHIFT] = 5.0
    assert losses.vdc(output, target, model()).item() == 0.0


def test_wpdc_weights_by_hand():
    output, target = torch.zeros(1, 14), torch.zeros(1, 14)
    output[0, [0, 5, 10, 3, 11, 12, 13]] = torch.tensor([1.0, -1.0, 0.5, 1.0, 9.0, 1.0, 2.0])
    known = model()
    spots = known.mean + 1.2 * known.basis[0] + 1.3 * known.basis[1]
    by_hand = torch.full((14,), 1e-6)
    by_hand[0] += 2 * spots[:, 0].norm()
    by_hand[5] += 2 * spots[:, 1].norm()
    by_hand[10] += 1 * spots[:, 2].norm()
    by_hand[3] += 2 * 2**0.5
    by_hand[11] += 18 * 2**0.5
    by_hand[12] += 0.5 * 2 * 5.0  # the first column has length 5, scale 0.5
    by_hand[13] += 0.5 * 4 * 2.0
    by_hand /= by_hand.max()
    by_hand[11] = 0
    found = losses.wpdc_weights(output, target, known, scale=0.5)[0]
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)


def test_wpdc_is_the_weighted_mean_and_its_weights_take_no_gradient():
    target = torch.zeros(1, 14)
    output = torch.zeros(1, 14)
    output[0, 0] = 3.0
    output.requires_grad_()
    loss = losses.wpdc(output, target, model())
    assert loss.item() == pytest.approx(9 / 14, rel=1e-5)  # the only wrong number has weight 1
    loss.backward()
    assert output.grad[0, 0].item() == pytest.approx(2 * 3 / 14, rel=1e-5)


def test_all_are_zero_where_nothing_is_wrong():
    params = torch.randn(4, 14, generator=torch.Generator().manual_seed(0))
    known = model()
    assert losses.pdc(params, params) == losses.vdc(params, params, known) == losses.wpdc(params, params, known) == 0
