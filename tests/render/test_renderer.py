"""Both renderers through the same door: pictures in, pictures out."""

import numpy as np
import pytest

from facet.render.geometry import geometry_of
from facet.render.surface import SURFACE_VIEWS
from facet.render.views import VIEWS
from facet.tracker.errors import RenderError
from tests.render.heads import egg, noise, place, square

HEAD = egg()
GEOMETRY = geometry_of(HEAD)
FLAT = square(60, parts=2)
OVER_IMAGE = tuple(name for name, view in VIEWS.items() if view.in_image is None)  # the others take in what lies around


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_draws_near_the_face_only_and_leaves_the_input(open_one, view):
    image = noise(300, 260)
    before = image.copy()
    with open_one(GEOMETRY, (view,)) as renderer:
        picture = renderer.draw(image, (place(HEAD, 20, 5, 5, scale=0.7, at=(150, 130)),))
    np.testing.assert_array_equal(image, before)
    assert picture.shape == image.shape and picture.dtype == np.uint8 and picture.flags.writeable
    changed = (picture != image).any(axis=2)
    assert changed.sum() > 100
    assert not changed[:5].any() and not changed[:, :5].any() and not changed[:, -5:].any()


def test_no_view_and_no_face_give_the_picture_itself(open_one):
    image = noise(40, 30)
    with open_one(GEOMETRY, ()) as renderer:
        np.testing.assert_array_equal(renderer.draw(image, (place(HEAD),)), image)
        renderer.set_views(VIEWS)
        np.testing.assert_array_equal(renderer.draw(image, ()), image)


@pytest.mark.parametrize("size_wh", [(1, 1), (2, 1), (37, 21), (90, 161), (641, 359), (480, 854)])
def test_pictures_of_all_sizes(open_one, size_wh):
    image = noise(*size_wh)
    track = place(HEAD, 15, scale=min(size_wh) / 260, at=(size_wh[0] / 2, size_wh[1] / 2))
    with open_one(GEOMETRY, VIEWS) as renderer:
        picture = renderer.draw(image, (track,))
    assert picture.shape == image.shape
    assert (picture[size_wh[1] // 2, size_wh[0] // 2] != image[size_wh[1] // 2, size_wh[0] // 2]).any()


def test_one_renderer_for_pictures_of_changing_size(open_one):
    with open_one(GEOMETRY, ("mesh", "axes")) as renderer:
        for width, height in ((64, 48), (200, 150), (63, 47), (64, 48)):
            image = noise(width, height)
            assert renderer.draw(image, (place(HEAD, scale=0.2, at=(30, 24)),)).shape == image.shape


@pytest.mark.parametrize("at", [(0, 100), (200, 0), (100, 200), (-20, -20), (230, 190)])
def test_faces_partly_outside_the_picture(open_one, at):
    image = noise(200, 200)
    with open_one(GEOMETRY, OVER_IMAGE) as renderer:
        picture = renderer.draw(image, (place(HEAD, scale=0.6, at=at),))
    # inside, it is what a larger picture shows there
    large = np.zeros((600, 600, 3), np.uint8)
    large[200:400, 200:400] = image
    with open_one(GEOMETRY, OVER_IMAGE) as renderer:
        shifted = place(HEAD, scale=0.6, at=(at[0] + 200, at[1] + 200))
        expected = renderer.draw(large, (shifted,))[200:400, 200:400]
    difference = np.abs(picture.astype(int) - expected)
    assert difference.max() <= 24 and (difference > 2).mean() < 2e-3


@pytest.mark.parametrize("at", [(-900, 50), (50, -900), (5000, 50), (50, 5000), (1e7, 1e7)])
def test_faces_outside_the_picture(open_one, at):
    image = noise(100, 80)
    with open_one(GEOMETRY, VIEWS) as renderer:
        np.testing.assert_array_equal(renderer.draw(image, (place(HEAD, at=at),)), image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_damaged_vertices_leave_the_face_out_and_the_others_in(open_one, value, column):
    image = noise(300, 150)
    good, bad = place(HEAD, scale=0.5, at=(75, 75)), place(HEAD, scale=0.5, at=(220, 75))
    bad.vertices[17, column] = value
    bad.landmarks[30, column] = value
    with open_one(GEOMETRY, VIEWS) as renderer:
        picture = renderer.draw(image, (good, bad))
        renderer.depth_map()
        renderer.set_views(("mesh",))
        meshes = renderer.draw(image, (good, bad))
    assert (picture[:, :150] != image[:, :150]).any()
    if column < 2 or not abs(value) < 1e38:
        np.testing.assert_array_equal(meshes[:, 150:], image[:, 150:])


def test_a_damaged_camera_draws_nothing(open_one):
    image = noise(100, 100)
    for value in (np.nan, 0.0):
        track = place(HEAD, scale=0.5, at=(50, 50))
        track.model_to_image[:, :3] = value
        with open_one(GEOMETRY, ("mesh", "depth")) as renderer:
            np.testing.assert_array_equal(renderer.draw(image, (track,)), image)


def test_a_face_without_vertices_has_axes_but_no_mesh(open_one):
    image = noise(200, 200)
    track = place(HEAD, scale=0.6)
    bare = type(track)(**{name: getattr(track, name) for name in track.__slots__ if name != "vertices"})
    with open_one(GEOMETRY, ("mesh",)) as renderer:
        np.testing.assert_array_equal(renderer.draw(image, (bare,)), image)
        assert renderer.depth_map().max() == 0
        renderer.set_views(("axes",))
        assert (renderer.draw(image, (bare,)) != image).any()


def test_a_model_of_points_has_axes_but_no_mesh(open_one):
    points = egg(8, 10)
    points.triangles = np.zeros((0, 3), np.int32)
    image = noise(200, 200)
    with open_one(geometry_of(points), ("mesh", "wire", "depth")) as renderer:
        np.testing.assert_array_equal(renderer.draw(image, (place(points),)), image)
        renderer.set_views(("landmarks",))
        assert (renderer.draw(image, (place(points),)) != image).any()


def red_and_blue(first_scale=1.0, second_scale=1.0, z=(0.0, 0.0), turn=(0.0, 0.0)):
    """Depth images show which of two flat faces is seen: their greys differ with their own depth."""
    one = place(FLAT, turn[0], scale=first_scale, at=(60, 60))
    two = place(FLAT, turn[1], scale=second_scale, at=(60, 60))
    for track, shift in zip((one, two), z, strict=True):
        track.vertices[:, 2] += shift
    return one, two


@pytest.mark.parametrize("swap", [False, True])
def test_the_nearer_of_two_faces_hides_the_other_in_either_order(open_one, swap):
    near, far = red_and_blue(z=(30.0, -30.0))
    image = np.zeros((120, 120, 3), np.uint8)
    with open_one(geometry_of(FLAT), ("depth",)) as renderer:
        alone = renderer.draw(image, (near,))
        both = renderer.draw(image, (far, near) if swap else (near, far))
        np.testing.assert_array_equal(both, alone)
        values = renderer.depth_map()
    assert values[60, 60] == 32768 + 3000


def test_two_faces_that_cross_share_one_depth_buffer(open_one):
    one, two = red_and_blue(turn=(35.0, -35.0))
    image = np.zeros((120, 120, 3), np.uint8)
    with open_one(geometry_of(FLAT), ("depth",)) as renderer:
        both = renderer.draw(image, (one, two))[..., 0].astype(int)
        first = renderer.draw(image, (one,))[..., 0].astype(int)
        second = renderer.draw(image, (two,))[..., 0].astype(int)
    # each shows the half in which it is nearer, hence brighter
    np.testing.assert_allclose(both[60, 40:80], np.maximum(first, second)[60, 40:80], atol=2)
    assert (first[60, 40:55] > second[60, 40:55]).all() != (first[60, 65:80] > second[60, 65:80]).all()


@pytest.mark.parametrize("swap", [False, True])
def test_the_larger_head_is_in_front(open_one, swap):
    large, small = red_and_blue(first_scale=1.6, second_scale=0.8)
    image = np.zeros((120, 120, 3), np.uint8)
    with open_one(geometry_of(FLAT), ("mesh",)) as renderer:
        alone = renderer.draw(image, (large,))
        np.testing.assert_array_equal(renderer.draw(image, (small, large) if swap else (large, small)), alone)


def test_views_are_drawn_in_their_order(open_one):
    image = np.zeros((200, 200, 3), np.uint8)
    track = place(HEAD, 30, scale=0.7)
    with open_one(GEOMETRY, ("depth", "axes")) as renderer:
        above = renderer.draw(image, (track,))
        renderer.set_views(("axes", "depth"))
        below = renderer.draw(image, (track,))
    x, y = track.landmarks[27:31, :2].mean(axis=0).astype(int)
    assert np.ptp(above[y, x].astype(int)) > 30  # a coloured stroke
    assert np.ptp(below[y, x].astype(int)) <= 1  # grey covers it


def test_the_depth_view_is_lighter_where_nearer(open_one):
    image = np.zeros((200, 200, 3), np.uint8)
    with open_one(GEOMETRY, ("depth",)) as renderer:
        picture = renderer.draw(image, (place(HEAD, scale=0.7),))
    assert int(picture[100, 100, 0]) > int(picture[100, 140, 0]) > 0
    assert np.ptp(picture, axis=2).max() <= 1


def test_the_depth_map_tells_millimetres(open_one):
    track = place(HEAD, scale=0.7, at=(100, 100), z_px=12.0)
    with open_one(GEOMETRY, ()) as renderer:
        renderer.draw(noise(200, 200), (track,))
        values = renderer.depth_map()
    assert values.dtype == np.uint16 and values.shape == (200, 200) and values[0, 0] == 0
    nose = track.vertices[np.argmax(track.vertices[:, 2])]
    expected = 32768 + 100 * (nose[2] - 12.0) / 0.7
    assert values[int(nose[1]), int(nose[0])] == pytest.approx(expected, abs=100)
    assert values.max() <= expected + 1


@pytest.mark.parametrize(
    ("turn", "bgr"),
    # a flat face looks along its own z: to the viewer, to image left, up
    [((0, 0), (255, 128, 128)), ((30, 0), (238, 128, 64)), ((0, -30), (238, 191, 128))],
)
def test_the_normals_view_tells_where_the_surface_looks(open_one, turn, bgr):
    with open_one(geometry_of(FLAT), ("normals",)) as renderer:
        picture = renderer.draw(np.zeros((120, 120, 3), np.uint8), (place(FLAT, *turn, at=(60, 60)),))
    np.testing.assert_allclose(picture[60, 60].astype(int), bgr, atol=1)


def test_pncc_tells_the_place_on_the_mean_face(open_one):
    track = place(HEAD, 10, 5, scale=0.7)
    nose = np.argmax(HEAD.mean[:, 2])
    with open_one(GEOMETRY, ("pncc",)) as renderer:
        picture = renderer.draw(np.zeros((200, 200, 3), np.uint8), (track,))
    expected = 255 * (HEAD.mean[nose] - HEAD.mean.min(axis=0)) / np.ptp(HEAD.mean, axis=0)
    x, y = track.vertices[nose, :2].astype(int)
    np.testing.assert_allclose(picture[y, x].astype(int), expected, atol=6)


def test_uv_tells_the_place_on_the_layout(open_one):
    track = place(HEAD, -10, 5, scale=0.7)
    there = np.argmin(np.linalg.norm(HEAD.mean - (30, 20, 90), axis=1))
    with open_one(GEOMETRY, ("uv",)) as renderer:
        picture = renderer.draw(np.zeros((200, 200, 3), np.uint8), (track,))
    x, y = track.vertices[there, :2].astype(int)
    np.testing.assert_allclose(picture[y, x].astype(int), (0, *(255 * HEAD.uv[there, ::-1])), atol=6)


def test_a_model_without_uv_has_no_such_view(open_one):
    with open_one(geometry_of(FLAT), ()) as renderer, pytest.raises(RenderError, match="expected a face model with"):
        renderer.set_views(("uv",))


def test_a_depth_map_wants_a_picture_first(open_one):
    with open_one(GEOMETRY, ()) as renderer, pytest.raises(RenderError, match="expected a picture"):
        renderer.depth_map()


def test_it_knows_whether_vertices_are_needed(open_one):
    with open_one(GEOMETRY, ("axes", "box", "landmarks")) as renderer:
        assert not renderer.needs_vertices
        for view in SURFACE_VIEWS:
            renderer.set_views(("axes", view))
            assert renderer.needs_vertices


def test_unknown_views_are_refused(open_one):
    with pytest.raises(RenderError, match=r"expected views of mesh.*found halo"):
        open_one(GEOMETRY, ("halo",))


def test_vertices_of_another_model_are_refused(open_one):
    with (
        open_one(GEOMETRY, ("mesh",)) as renderer,
        pytest.raises(RenderError, match=r"expected 2400 vertices.*found 9"),
    ):
        renderer.draw(noise(100, 100), (place(FLAT),))


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4), (0, 10, 3)])
def test_pictures_of_the_wrong_form_are_refused(open_one, shape):
    with open_one(GEOMETRY, ("mesh",)) as renderer, pytest.raises(RenderError, match="expected a picture"):
        renderer.draw(np.zeros(shape, np.uint8), ())


def test_it_may_be_closed_twice(open_one):
    renderer = open_one(GEOMETRY, ("mesh",))
    renderer.close()
    renderer.close()


def test_a_picture_that_is_no_contiguous_array(open_one):
    image = noise(120, 100)
    track = place(HEAD, scale=0.3, at=(60, 50))
    with open_one(GEOMETRY, ("mesh", "axes")) as renderer:
        expected = renderer.draw(np.ascontiguousarray(image[:, ::-1]), (track,))
        np.testing.assert_array_equal(renderer.draw(image[:, ::-1], (track,)), expected)
