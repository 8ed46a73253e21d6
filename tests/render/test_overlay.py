"""Axes, pose box and landmarks."""

import numpy as np
import pytest

from facet.render.geometry import geometry_of
from facet.render.overlay import AXIS_COLOURS, BOX_COLOUR, axes, draw_segments, landmarks, pose_box
from tests import reference
from tests.render.heads import egg, place

HEAD = egg()
GEOMETRY = geometry_of(HEAD)


@pytest.mark.parametrize(
    ("start", "end", "radius"),
    [
        ((4.2, 5.1), (20.7, 9.8), 1.5),
        ((3.0, 18.0), (25.0, 18.0), 0.6),
        ((12.0, 2.0), (12.0, 20.0), 2.0),
        ((10.5, 10.5), (10.5, 10.5), 3.0),
        ((-5.0, -5.0), (40.0, 30.0), 1.0),
        ((50.0, 50.0), (60.0, 60.0), 2.0),
    ],
)
def test_strokes_cover_what_the_plain_version_covers(start, end, radius):
    image = np.zeros((24, 32, 3), np.uint8)
    draw_segments(image, np.float32([[*start, *end, radius, 255, 255, 255, 1]]))
    expected = 255 * reference.segment_cover(start, end, radius, (32, 24))
    np.testing.assert_allclose(image[..., 0], expected, atol=1)


def test_strokes_blend_in_order():
    image = np.full((9, 9, 3), 100, np.uint8)
    dot = [4.5, 4.5, 4.5, 4.5, 3.0]
    draw_segments(image, np.float32([[*dot, 200, 0, 0, 0.5], [*dot, 0, 200, 0, 0.5]]))
    np.testing.assert_allclose(image[4, 4], [75, 125, 25], atol=1)
    np.testing.assert_array_equal(image[0, 0], 100)


def shaft(track, axis: int) -> np.ndarray:
    """The direction in which an axis is drawn, px."""
    strokes = axes(track, GEOMETRY)
    own = strokes[(strokes[:, 5:8] == AXIS_COLOURS[axis]).all(axis=1)]
    return own[0, 2:4] - own[0, :2]


@pytest.mark.parametrize(
    ("pose", "axis", "direction"),
    [
        ((0, 0, 0), 0, (1, 0)),
        ((0, 0, 0), 1, (0, -1)),
        ((40, 0, 0), 2, (-1, 0)),  # positive yaw: towards image left
        ((0, 40, 0), 2, (0, 1)),  # positive pitch: nods down
        ((0, 0, 90), 0, (0, -1)),  # positive roll: counter-clockwise on the screen
    ],
)
def test_axes_point_where_the_conventions_say(pose, axis, direction):
    drawn = shaft(place(HEAD, *pose), axis)
    np.testing.assert_allclose(drawn / np.linalg.norm(drawn), direction, atol=1e-3)


def test_axes_grow_with_the_face():
    small, large = shaft(place(HEAD, scale=1.0), 0), shaft(place(HEAD, scale=2.0), 0)
    np.testing.assert_allclose(2 * small, large, rtol=1e-4)


def test_the_nearer_axis_is_drawn_later():
    strokes = axes(place(HEAD, 30, 0, 0), GEOMETRY)
    order = [i for row in strokes for i in range(3) if tuple(row[5:8]) == AXIS_COLOURS[i]]
    assert order[0] == 1 and order[-1] == 2  # z points at the viewer, x a little, y not at all


def test_the_box_has_twelve_edges_and_opens_forwards():
    strokes = pose_box(place(HEAD), GEOMETRY)
    edges = strokes[(strokes[:, 5:8] == BOX_COLOUR).all(axis=1)]
    assert len(edges) == 12
    widths = sorted(round(float(abs(e[2] - e[0])), 2) for e in edges if abs(e[3] - e[1]) < 1e-3)
    assert widths[0] == widths[1] and widths[2] == widths[3] == pytest.approx(widths[0] * 4 / 3, abs=0.02)


def test_landmarks_are_all_there():
    track = place(HEAD, 10, 5, 3)
    strokes = landmarks(track, GEOMETRY)
    dots = strokes[(strokes[:, :2] == strokes[:, 2:4]).all(axis=1)]
    for point in track.landmarks:
        assert (np.abs(dots[:, :2] - point[:2]).max(axis=1) < 1e-4).any()
