"""Marching cubes: closed whatever the voxels hold, and where the solid is."""

import numpy as np
import pytest
import trimesh

from facet.render.isosurface import isosurface, table


def ball(radius, middle, shape):
    """How much of each voxel a ball covers, nearly."""
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]] + 0.5
    away = np.sqrt((x - middle[0]) ** 2 + (y - middle[1]) ** 2 + (z - middle[2]) ** 2)
    return np.clip(radius - away + 0.5, 0, 1).astype(np.float32)


def mesh_of(inside, level=0.5):
    points, triangles = isosurface(inside, level)
    return trimesh.Trimesh(points, triangles, process=False)


def parts(mesh):
    """How many pieces a mesh has; trimesh needs SciPy for that, which these tests do without."""
    label, edges = np.arange(len(mesh.vertices)), mesh.edges_unique
    while True:
        lowest = label.copy()
        for one, other in (edges.T, edges.T[::-1]):
            np.minimum.at(lowest, one, label[other])
        if np.array_equal(lowest, label):
            return len(np.unique(label))
        label = lowest


@pytest.mark.parametrize("inside", [np.zeros((4, 5, 6)), np.full((2, 2, 2), 0.5), np.full((3, 3, 3), np.nan)])
def test_nothing_inside_gives_no_triangle(inside):
    points, triangles = isosurface(inside)
    assert points.shape == (0, 3) and triangles.shape == (0, 3)


def test_a_ball_is_where_it_was():
    mesh = mesh_of(ball(11.3, (15.2, 17.1, 14.6), (30, 34, 32)))
    away = np.linalg.norm(mesh.vertices - (15.2, 17.1, 14.6), axis=1)
    assert np.abs(away - 11.3).max() < 0.1
    assert mesh.is_watertight and mesh.euler_number == 2
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 11.3**3, rel=0.01)


def test_normals_point_outwards():
    mesh = mesh_of(ball(8, (10, 10, 10), (20, 20, 20)))
    assert ((mesh.triangles_center - 10) * mesh.face_normals).sum(axis=1).min() > 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["noise", "bits"])
def test_any_voxels_give_one_closed_surface(seed, kind):
    rng = np.random.default_rng(seed)
    inside = rng.random((9, 10, 11)) if kind == "noise" else rng.integers(0, 2, (9, 10, 11))
    mesh = mesh_of(inside, 0.4)
    assert mesh.is_watertight and mesh.is_winding_consistent and parts(mesh) == 1 and mesh.volume > 0
    assert mesh.area_faces.min() > 0


def test_all_256_cases_are_closed():
    """Each case as a cell of its own, in the middle of nothing."""
    for case in range(1, 256):
        inside = np.zeros((4, 4, 4))
        for corner in range(8):
            inside[1 + (corner >> 2), 1 + (corner >> 1 & 1), 1 + (corner & 1)] = case >> corner & 1
        assert mesh_of(inside).is_watertight, case
    assert table()[1].max() == 5


def test_a_solid_that_leaves_the_volume_is_capped():
    mesh = mesh_of(ball(12, (0, 10, 10), (20, 20, 20)))
    assert mesh.is_watertight
    assert mesh.vertices.min() >= 0 and mesh.vertices.max() <= 20


def test_only_the_largest_solid_stays_and_it_has_no_hollow():
    inside = (
        ball(8, (10, 10, 10), (20, 20, 40)) - ball(4, (10, 10, 10), (20, 20, 40)) + ball(3, (33, 10, 10), (20, 20, 40))
    )
    mesh = mesh_of(inside)
    assert parts(mesh) == 1 and mesh.volume == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.02)
