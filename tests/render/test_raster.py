"""The CPU's rasteriser, triangle by triangle."""

import numpy as np
import pytest

from facet.render.cpu import renderer as cpu
from facet.render.cpu.raster import composite, rasterise, rasterise_values
from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from tests import reference
from tests.render.heads import egg, noise, place

WHITE = np.full((3, 4), 255, np.uint8)
TRIANGLE = np.array([[0, 1, 2]], np.int32)


def samples_of(width: int, height: int) -> np.ndarray:
    return np.zeros((height, 4 * width + 4), np.int64)


def facing(corners) -> np.ndarray:
    """(3, 3) float32 vertices in the order that faces the viewer, y down."""
    vertices = np.zeros((3, 3), np.float32)
    vertices[:, :2] = corners
    (ax, ay), (bx, by), (cx, cy) = vertices[:, :2].astype(float)
    return vertices if (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) < 0 else np.ascontiguousarray(vertices[::-1])


def draw(vertices, triangles, colours, width, height, wire_px=0.0, samples=None, z=(0.0, 1.0)):
    samples = samples_of(width, height) if samples is None else samples
    z_min, z_max = np.float32(z[0]), np.float32(z[1])
    rasterise(vertices, triangles, colours, 0, 0, height, width, z_min, z_max, np.float32(wire_px), samples)
    return samples


def covered(samples: np.ndarray, width: int) -> np.ndarray:
    """Samples that something was written to, of each pixel."""
    return (samples[:, : 4 * width].reshape(len(samples), width, 4) != 0).sum(axis=2)


@pytest.mark.parametrize(
    "corners",
    [
        [(2.3, 1.7), (7.1, 3.2), (3.9, 6.6)],  # small
        [(1.2, 2.1), (28.7, 5.3), (9.4, 22.2)],  # large
        [(-6.4, 4.2), (12.3, -9.1), (20.5, 18.6)],  # leaves the picture on three sides
        [(-80.0, -40.0), (400.0, 3.0), (5.0, 300.0)],  # covers nearly all of it
        [(5.0, 5.0), (6.0, 5.0), (5.0, 6.0)],  # one pixel's half
        [(4.2, 3.1), (4.3, 3.1), (4.2, 3.3)],  # between the samples
        [(3.0, 3.0), (9.0, 9.0), (15.0, 15.0)],  # no area
        [(40.0, 2.0), (50.0, 2.0), (45.0, 9.0)],  # outside
    ],
)
def test_coverage_is_that_of_the_plain_version(corners):
    corners = np.round(np.array(corners) * 256) / 256
    got = covered(draw(facing(corners), TRIANGLE, WHITE, 32, 24), 32)
    area = np.linalg.det(np.c_[corners, np.ones(3)])
    expected = reference.triangle_samples(corners, (32, 24)) if area else 0
    np.testing.assert_array_equal(got, expected)


def test_what_faces_away_is_left_out():
    vertices = facing([(2, 2), (20, 4), (6, 19)])
    assert covered(draw(vertices, TRIANGLE, WHITE, 32, 24), 32).any()
    assert not covered(draw(vertices, TRIANGLE[:, ::-1].copy(), WHITE, 32, 24), 32).any()


def fan(seed: int, spread: float):
    """Triangles around a point that together fill a polygon."""
    rng = np.random.default_rng(seed)
    turn = -np.sort(rng.uniform(0, 2 * np.pi, 17))
    vertices = np.zeros((18, 3), np.float32)
    vertices[1:, :2] = np.stack([np.cos(turn), np.sin(turn)], axis=1) * spread
    vertices[:, :2] += rng.uniform(14, 16, 2)
    return vertices, np.array([(0, 1 + i, 1 + (i + 1) % 17) for i in range(17)], np.int32)


@pytest.mark.parametrize("spread", [3.0, 12.0, 200.0])
@pytest.mark.parametrize("seed", range(4))
def test_triangles_that_share_edges_leave_no_crack_and_blend_once(spread, seed):
    vertices, triangles = fan(seed, spread)
    colours = np.full((18, 4), 100, np.uint8)
    each = [covered(draw(vertices, triangles[i : i + 1], colours, 32, 32), 32) for i in range(17)]
    together = draw(vertices, triangles, colours, 32, 32)
    assert (sum(each) >= covered(together, 32)).all()
    if spread == 200.0:
        assert (covered(together, 32) == 4).all()
    values = together[:, :128][together[:, :128] != 0] & 0xFFFFFFFF
    assert set(values.tolist()) == {100 | 100 << 8 | 100 << 16 | 100 << 24}
    image = np.zeros((32, 32, 3), np.uint8)
    composite(image, 0, 0, 32, 32, together)
    assert image.max() <= 100


def test_no_sample_within_a_grid_is_missed():
    """Snapped corners: many small and large triangles over the whole picture, each sample is hit."""
    rng = np.random.default_rng(5)
    x, y = np.meshgrid(np.linspace(-3, 43, 24), np.linspace(-3, 43, 24))
    vertices = np.stack([x, y, np.zeros_like(x)], axis=-1)
    vertices[..., :2] += rng.uniform(-0.9, 0.9, (24, 24, 2))
    vertices = vertices.reshape(-1, 3).astype(np.float32)
    triangles = []
    for i in range(23):
        for j in range(23):
            a, c = i * 24 + j, (i + 1) * 24 + j
            triangles += [(a, c, a + 1), (a + 1, c, c + 1)]
    samples = draw(vertices, np.array(triangles, np.int32), np.full((576, 4), 9, np.uint8), 40, 40)
    assert (covered(samples, 40) == 4).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_nearer_wins_in_either_order(order):
    corners = [(2, 2), (30, 3), (5, 28)]
    vertices = np.concatenate([facing(corners), facing(corners)])
    vertices[:3, 2], vertices[3:, 2] = 0.2, 0.8
    colours = np.zeros((6, 4), np.uint8)
    colours[:3], colours[3:] = (255, 0, 0, 255), (0, 0, 255, 255)
    triangles = np.array([[0, 1, 2], [3, 4, 5]], np.int32)[list(order)]
    image = np.zeros((32, 32, 3), np.uint8)
    composite(image, 0, 0, 32, 32, draw(vertices, triangles, colours, 32, 32))
    assert image[..., 0].max() == 0 and image[..., 2].max() == 255


def test_surfaces_that_cross_are_cut_where_they_cross():
    left, right = facing([(0, -50), (0, 80), (40, 15)]), facing([(0, -50), (0, 80), (40, 15)])
    left[:, 2] = left[:, 0] / 40
    right[:, 2] = 1 - right[:, 0] / 40
    colours = np.zeros((6, 4), np.uint8)
    colours[:3], colours[3:] = (0, 255, 0, 255), (0, 0, 255, 255)
    samples = draw(np.concatenate([left, right]), np.array([[0, 1, 2], [3, 4, 5]], np.int32), colours, 32, 32)
    image = np.zeros((32, 32, 3), np.uint8)
    composite(image, 0, 0, 32, 32, samples)
    assert (image[15, :20, 2] > 250).all() and (image[15, 21:, 1] > 250).all()


def test_colours_run_straight_between_the_corners():
    vertices = facing([(0, 0), (64, 0), (0, 64)])
    colours = np.zeros((3, 4), np.uint8)
    colours[:, 3] = 255
    colours[:, 0] = np.clip(vertices[:, 0] * 3, 0, 255)
    image = np.zeros((64, 64, 3), np.uint8)
    composite(image, 0, 0, 64, 64, draw(vertices, TRIANGLE, colours, 64, 64))
    row = image[4, :58, 0].astype(float)
    np.testing.assert_allclose(row, 3 * (np.arange(58) + 0.5), atol=1.1)


def test_composite_lays_translucent_colour_over_the_picture():
    samples = samples_of(2, 1)
    samples[0, :4] = 1 << 40 | 100 | 50 << 8 | 25 << 16 | 128 << 24
    samples[0, 4:6] = 1 << 40 | 100 | 50 << 8 | 25 << 16 | 128 << 24  # half the samples
    image = np.full((1, 2, 3), 200, np.uint8)
    composite(image, 0, 0, 1, 2, samples)
    rest = 200 * (1 - 128 / 255)
    np.testing.assert_allclose(image[0, 0], np.array([100, 50, 25]) + rest, atol=1)
    np.testing.assert_allclose(image[0, 1], np.array([50, 25, 12.5]) + 200 * (1 - 64 / 255), atol=1)


def test_wire_draws_the_edges_and_hides_what_is_behind():
    vertices = np.concatenate([facing([(2, 2), (60, 2), (2, 60)]), facing([(4, 4), (30, 4), (4, 30)])])
    vertices[:3, 2], vertices[3:, 2] = 0.9, 0.1
    colours = np.full((6, 4), 255, np.uint8)
    image = np.zeros((64, 64, 3), np.uint8)
    samples = draw(vertices, np.array([[3, 4, 5], [0, 1, 2]], np.int32), colours, 64, 64, wire_px=0.6)
    composite(image, 0, 0, 64, 64, samples)
    assert image[2, 10:50].min() > 100  # along the upper edge of the nearer one
    assert image[10:18, 10:18].max() == 0  # within, though the farther one has an edge there
    assert image[6:22, 4].max() == 0


def test_values_of_the_nearest_surface():
    vertices = np.concatenate([facing([(0, 0), (16, 0), (0, 16)]), facing([(0, 0), (8, 0), (0, 8)])])
    vertices[3:, 2] = 1
    depth, target = np.full((16, 16), -np.inf, np.float32), np.zeros((16, 16), np.float32)
    values = np.float32([10, 10, 10, 20, 20, 20])
    rasterise_values(vertices, np.array([[3, 4, 5], [0, 1, 2]], np.int32), values, depth, target)
    assert target[2, 2] == 20 and target[5, 9] == 10 and target[15, 15] == 0


def test_bands_draw_what_one_piece_draws(monkeypatch):
    """A large face is drawn in parts that fit into memory."""
    head = egg()
    track, image = place(head, 20, 5, 5, scale=0.7, at=(150, 130)), noise(300, 260)
    with CpuRenderer(geometry_of(head), ("mesh", "wire")) as renderer:
        picture, depth = renderer.draw(image, (track,)), renderer.depth_map()
        monkeypatch.setattr(cpu, "MAX_SAMPLES", 4 * 300 * 7)
        parts = renderer.draw(image, (track,))
        assert np.array_equal(parts, picture) and (parts != image).any()
        assert np.array_equal(renderer.depth_map(), depth) and depth.any()


def test_in_place_the_image_itself_is_drawn_on():
    head, image = egg(), noise(300, 260)
    track = place(head, scale=0.7, at=(150, 130))
    with CpuRenderer(geometry_of(head), ("mesh",)) as renderer:
        expected = renderer.draw(image, (track,))
        assert renderer.draw(image, (track,), in_place=True) is image
    assert np.array_equal(image, expected)
