"""The face model in the vertex shader does what it does in numpy."""

from dataclasses import replace

import numpy as np
import pytest

from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from facet.render.surface import SURFACE_VIEWS
from facet.tracker.errors import RenderError
from facet.tracker.morphable import load_face_model, make_model, project
from facet.tracker.weights import ROOT
from tests.render.heads import egg, noise, place

pytestmark = pytest.mark.gl
SIZE_WH = (400, 380)


@pytest.fixture(scope="module")
def model():
    return load_face_model(ROOT / "weights" / "face_model.npz")


def a_face(model, seed, track_id=1, at=(205.3, 190.8), scale=1.3):
    """A track with coefficients and the vertices they mean."""
    rng = np.random.default_rng(seed)
    shape = (0.8 * rng.normal(size=model.shape_count)).astype(np.float32)
    expression = (rng.uniform(size=model.expression_count) * (rng.random(model.expression_count) < 0.2)).astype("f4")
    mesh = model.vertices(shape, expression)
    track = place(model, *rng.uniform(-25, 25, 3), scale=scale, at=at, mesh=mesh)
    landmarks = model.landmarks(track.model_to_image, shape, expression)
    return replace(track, id=track_id, shape=shape, expression=expression, landmarks=landmarks)


def positions_of(renderer, *tracks):
    """What the shader says of faces without vertices, (N, 3) each: px, px, and depth in px."""
    found = []
    for face in renderer._faces.place([replace(track, vertices=None) for track in tracks], SIZE_WH):
        texels = np.frombuffer(face.positions.read(), np.float32).reshape(-1, 4)
        found.append(texels[: renderer.geometry.vertex_count, :3].astype(float))
        found[-1][:, 2] = (found[-1][:, 2] - face.origin_mm) * face.scale_px_per_mm + tracks[0].model_to_image[2, 3]
    return found


def plain(model, track):
    return project(model.vertices(track.shape, track.expression), track.model_to_image)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_vertices_are_those_of_the_plain_model(model, open_gl, seed):
    track = a_face(model, seed)
    (found,) = positions_of(open_gl(geometry_of(model), ()), track)
    np.testing.assert_allclose(found, plain(model, track), atol=2e-2)


def test_each_of_several_faces_has_its_own_vertices(model, open_gl):
    renderer = open_gl(geometry_of(model), ())
    tracks = [a_face(model, seed, seed, (100 + 60 * seed, 150), 0.5) for seed in (1, 2, 3)]
    for order in (tracks, tracks[::-1], tracks[1:]):  # a face keeps its shape wherever it stands among the others
        for track, found in zip(order, positions_of(renderer, *order), strict=True):
            np.testing.assert_allclose(found, plain(model, track), atol=2e-2)


def test_a_model_without_expressions_light_triangles_and_regions(open_gl):
    head, rng = egg(), np.random.default_rng(3)
    shapes = rng.normal(size=(2, *head.mean.shape)).astype("f4")
    model = make_model(head.mean, shapes, np.zeros((0, *head.mean.shape)), head.triangles, head.landmark_vertices)
    shape, none = np.float32([0.5, -1.0]), np.zeros(0, np.float32)
    track = replace(place(head, 20, scale=1.2, mesh=model.vertices(shape, none)), shape=shape, expression=none)
    renderer = open_gl(geometry_of(model), ("mesh",))
    (found,) = positions_of(renderer, track)
    np.testing.assert_allclose(found, plain(model, track), atol=2e-2)
    image = noise(*SIZE_WH)
    wanted = CpuRenderer(geometry_of(model), ("mesh",)).draw(image, (track,)).astype(int)
    difference = np.abs(renderer.draw(image, (replace(track, vertices=None),)) - wanted).max(axis=2)
    assert (difference <= 8).mean() > 0.99


@pytest.mark.parametrize("counts", [(3, 53), (48, 10)])
def test_coefficients_of_another_model_are_refused(model, open_gl, counts):
    shape, expression = (np.zeros(count, np.float32) for count in counts)
    other = replace(a_face(model, 1), vertices=None, shape=shape, expression=expression)
    with pytest.raises(RenderError, match=r"expected \(48, 53\) coefficients"):
        open_gl(geometry_of(model), ("mesh",)).draw(noise(*SIZE_WH), (other,))


@pytest.mark.parametrize("view", SURFACE_VIEWS)
def test_coefficients_draw_what_vertices_draw(model, open_gl, view):
    geometry, image = geometry_of(model), noise(*SIZE_WH)
    tracks = (
        a_face(model, 4, 1, (130, 150), 0.9),
        a_face(model, 5, 2, (200, 200), 1.0),
        a_face(model, 6, 3, (350, 60), 0.2),
    )
    wanted = CpuRenderer(geometry, (view,)).draw(image, tracks).astype(int)
    renderer = open_gl(geometry, (view,))
    found = renderer.draw(image, [replace(track, vertices=None) for track in tracks]).astype(int)
    assert not renderer.needs_vertices
    assert (found != image).any() and (np.abs(found - wanted).max(axis=2) <= 8).mean() > 0.99


def test_the_depth_map_needs_no_vertices_either(model, open_gl):
    geometry, image, track = geometry_of(model), noise(*SIZE_WH), a_face(model, 7)
    maps = []
    for renderer, one in ((CpuRenderer(geometry, ()), track), (open_gl(geometry, ()), replace(track, vertices=None))):
        renderer.draw(image, (one,))
        maps.append(renderer.depth_map().astype(int))
    assert maps[0].any() and (np.abs(maps[0] - maps[1]) > 20).mean() < 5e-3


def test_a_shape_goes_over_when_it_changes_and_is_forgotten_with_its_track(model, open_gl):
    renderer = open_gl(geometry_of(model), ("mesh",))
    track = a_face(model, 8)
    positions_of(renderer, track)
    known = renderer._faces._neutrals[1]
    nearly = replace(track, shape=track.shape + np.float32(0.01))
    positions_of(renderer, nearly)
    assert renderer._faces._neutrals[1] is known
    other = replace(track, shape=-track.shape)
    (found,) = positions_of(renderer, other)
    np.testing.assert_allclose(found, plain(model, other), atol=2e-2)
    renderer.draw(noise(*SIZE_WH), ())
    assert not renderer._faces._neutrals


@pytest.mark.parametrize("name", ["shape", "expression"])
def test_damaged_coefficients_leave_the_face_out(model, open_gl, name):
    track, image = replace(a_face(model, 9), vertices=None), noise(*SIZE_WH)
    getattr(track, name)[3] = np.nan
    np.testing.assert_array_equal(open_gl(geometry_of(model), ("mesh",)).draw(image, (track,)), image)


def test_without_a_model_the_vertices_are_needed(open_gl):
    renderer = open_gl(geometry_of(egg()), ("mesh",))
    assert renderer.needs_vertices
    renderer.set_views(("axes",))
    assert not renderer.needs_vertices
