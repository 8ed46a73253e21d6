"""Differentiable drawing: gradients against finite differences, the basis against the tracker's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from facet.tracker.lighting import basis as plain_basis
from facet.tracker.lighting import lamp
from tests.render.heads import egg, place
from tools.appearance.rendering import basis, draw, vertex_normals, visible

SIZE = 48, 56
HEAD = egg(14, 18)
TRACK = place(HEAD, 20, 10, 5, scale=0.2, at=(24.3, 28.2))


def scene():
    """Points, triangles, albedo and light as tensors of doubles."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(TRACK.vertices.astype(np.float64))
    triangles = torch.from_numpy(HEAD.triangles.astype(np.int64))
    albedo = torch.from_numpy(rng.uniform(0.3, 0.8, points.shape))
    light = torch.from_numpy(lamp((-0.5, 0.4, 0.7), 0.6, 0.5).harmonics.astype(np.float64))
    return points, triangles, albedo, light


def test_the_basis_is_that_of_the_tracker():
    normals = np.random.default_rng(1).normal(size=(20, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(basis(torch.from_numpy(normals)).numpy(), plain_basis(normals), atol=1e-6)


def test_normals_of_what_the_camera_sees_face_it():
    points, triangles, *_ = scene()
    seen = triangles[torch.unique(visible(points, triangles, SIZE).clamp(min=0))].unique()
    assert (vertex_normals(points, triangles)[seen][:, 2] > -0.2).double().mean() > 0.95


@pytest.mark.parametrize("moved", ["points", "albedo", "light"])
def test_gradients_agree_with_finite_differences(moved):
    points, triangles, albedo, light = scene()
    shown = visible(points, triangles, SIZE)
    target = torch.rand((SIZE[1], SIZE[0], 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(**changed):
        values = {"points": points, "albedo": albedo, "light": light} | changed
        image, mask = draw(values["points"], triangles, values["albedo"], values["light"], SIZE, shown)
        return ((image - target)[mask] ** 2).mean()

    value = {"points": points, "albedo": albedo, "light": light}[moved].clone().requires_grad_()
    loss(**{moved: value}).backward()
    way = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-5
    with torch.no_grad():
        ahead, behind = (loss(**{moved: value + sign * step * way}) for sign in (1, -1))
    expected = float((ahead - behind) / (2 * step))
    assert float((value.grad * way).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_a_light_is_found_by_descending_along_its_gradient():
    points, triangles, albedo, light = scene()
    wanted, mask = draw(points, triangles, albedo, light, SIZE)
    found = torch.zeros_like(light).requires_grad_()
    with torch.no_grad():
        found[:, 0] = 0.8
    optimiser = torch.optim.Adam([found], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        error = ((draw(points, triangles, albedo, found, SIZE)[0] - wanted)[mask] ** 2).mean()
        error.backward()
        optimiser.step()
    assert error.item() < 1e-4
