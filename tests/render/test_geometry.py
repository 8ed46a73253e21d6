"""What is drawn of a face model, as arrays."""

import numpy as np
import pytest

from facet.render.camera import pixel_to_clip
from facet.render.geometry import EYEBALL, LIPS, SKIN, geometry_of, lit_colours, vertex_normals
from facet.tracker.morphable import load_face_model
from facet.tracker.weights import ROOT
from tests import reference
from tests.render.heads import egg, place, square


def test_normals_are_those_of_the_plain_version():
    head = egg(12, 16)
    vertices = place(head, 30, 20, 10, scale=1.3).vertices
    normals = np.empty_like(vertices)
    vertex_normals(vertices, head.triangles, normals)
    np.testing.assert_allclose(normals, reference.vertex_normals(vertices, head.triangles), atol=2e-5)


def test_the_normals_of_a_head_point_outwards():
    head = egg()
    vertices = place(head).vertices
    normals = np.empty_like(vertices)
    vertex_normals(vertices, head.triangles, normals)
    used = np.unique(head.triangles)
    assert ((vertices - (100, 100, 0)) * normals).sum(axis=1)[used].min() > 0


def test_a_vertex_without_triangles_has_no_normal():
    vertices = np.zeros((4, 3), np.float32)
    vertices[1, 0] = vertices[2, 1] = 1
    normals = np.full((4, 3), 7, np.float32)
    vertex_normals(vertices, np.array([[0, 2, 1]], np.int32), normals)
    np.testing.assert_array_equal(normals[3], 0)
    np.testing.assert_allclose(normals[:3], [[0, 0, 1]] * 3)


def test_light_is_brighter_from_above_left_and_alpha_covers_colour():
    normals = np.float32([[0, 0, 1], [-0.5, -0.5, 0.7071], [0.5, 0.5, 0.7071], [0, 0, -1], [0, 0, 0]])
    colours = np.empty((5, 4), np.uint8)
    lit_colours(normals, np.tile(np.float32(SKIN), (5, 1)), np.float32([1, 1, 1, 1, 0]), colours)
    shade = colours[:, :3].sum(axis=1) / np.maximum(colours[:, 3], 1)
    assert shade[1] > shade[0] > shade[2] > shade[3] > 0
    assert (colours[:, :3] <= colours[:, 3:]).all()
    np.testing.assert_array_equal(colours[4], 0)


@pytest.mark.parametrize("flip", [False, True])
def test_triangles_are_turned_towards_the_viewer(flip):
    model = square(parts=3)
    if flip:
        model.triangles = model.triangles[:, ::-1]
    corners = model.mean[geometry_of(model).triangles]
    assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0).all()


def test_light_triangles_are_the_full_ones_where_the_model_has_none():
    geometry = geometry_of(egg(8, 10))
    np.testing.assert_array_equal(geometry.light_triangles, geometry.triangles)


def test_a_model_of_points_has_nothing_to_fill():
    model = egg(8, 10)
    model.triangles = np.zeros((0, 3), np.int32)
    geometry = geometry_of(model)
    assert geometry.triangles.shape == (0, 3) and geometry.vertex_count == 80


def test_the_border_fades_and_a_closed_surface_has_none():
    flat = geometry_of(square(200, parts=20))
    border = np.abs(flat.mean[:, :2]).max(axis=1) > 99
    assert (flat.opacity[border] == 0).all()
    assert (flat.opacity[np.abs(flat.mean[:, :2]).max(axis=1) < 35] == 1).all()
    assert (geometry_of(egg()).opacity == 1).all()


def test_our_mesh_ends_before_the_ears():
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    opacity = geometry_of(model).opacity
    assert (opacity[model.region == model.region_names.index("ear")] == 0).all()
    assert (opacity[model.landmark_vertices[17:]] > 0.9).all()


def test_an_inner_hole_does_not_fade():
    model = square(200, parts=20)
    middle = np.abs(model.mean[model.triangles].mean(axis=1)[:, :2]).max(axis=1) < 25
    model.triangles = model.triangles[~middle]
    geometry = geometry_of(model)
    at_hole = np.abs(np.abs(model.mean[:, :2]).max(axis=1) - 30) < 1
    assert at_hole.any() and (geometry.opacity[at_hole] == 1).all()


def test_lips_and_eyes_have_their_colours():
    model = square(200, parts=40)
    spots = np.zeros((68, 2))
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    spots[48:60] = np.stack([40 * np.cos(turn), 30 * np.sin(turn)], axis=1)
    spots[60:68] = np.stack([12 * np.cos(turn[:8] * 1.5), 8 * np.sin(turn[:8] * 1.5)], axis=1)
    model.landmark_vertices = np.array([np.argmin(((model.mean[:, :2] - s) ** 2).sum(axis=1)) for s in spots])
    model.region = np.zeros(len(model.mean), np.uint8)
    eye = np.hypot(model.mean[:, 0] + 60, model.mean[:, 1] - 60) < 15
    model.region[eye] = 1
    model.region_names = ("face", "eyeball")
    geometry = geometry_of(model)

    def at(x, y):
        return geometry.albedo[np.argmin(((model.mean[:, :2] - (x, y)) ** 2).sum(axis=1))]

    np.testing.assert_allclose(at(25, 0), LIPS, atol=0.04)
    np.testing.assert_allclose(at(0, 0), SKIN, atol=0.04)
    np.testing.assert_allclose(at(80, -80), SKIN, atol=1e-6)
    np.testing.assert_allclose(at(-60, 60), EYEBALL, atol=1e-6)


def test_the_matrix_puts_the_picture_on_the_framebuffer():
    matrix = pixel_to_clip((10, 20, 110, 70), -5.0, 15.0)
    corners = np.array([[10, 20, 5, 1], [110, 70, 5, 1], [60, 45, 15, 1], [60, 45, -5, 1]], float)
    clip = corners @ matrix.T
    np.testing.assert_allclose(clip[:2, :2], [[-1, -1], [1, 1]], atol=1e-6)
    np.testing.assert_allclose(clip[2:, :2], 0, atol=1e-6)
    assert -1 < clip[2, 2] < -0.98 and 0.98 < clip[3, 2] < 1  # the nearer has the smaller depth
    np.testing.assert_array_equal(clip[:, 3], 1)
