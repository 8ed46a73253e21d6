"""The GL and the CPU renderer draw the same pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from facet.render.surface import SURFACE_VIEWS
from facet.render.views import VIEWS
from facet.tracker.morphable import load_face_model
from tests.render.heads import egg, noise, place

pytestmark = pytest.mark.gl
FACE_MODEL = Path(__file__).resolve().parents[2] / "weights" / "face_model.npz"
POSES = [(0, 0, 0), (25, -10, 5), (-50, 15, -20), (80, 0, 0), (-90, 20, 30), (5, 45, 0), (0, -40, 170)]


def compare(cpu, gl, image, tracks, view):
    """Silhouette IoU, mean difference and share within 8 of 255 inside the silhouette eroded by 2 px."""
    for renderer in (cpu, gl):
        renderer.set_views((view,))
    pictures = [renderer.draw(image, tracks).astype(int) for renderer in (cpu, gl)]
    for renderer in (cpu, gl):
        renderer.set_views(("depth",))
    black = np.zeros_like(image)
    shapes = [renderer.draw(black, tracks).max(axis=2) > 20 for renderer in (cpu, gl)]
    iou = (shapes[0] & shapes[1]).sum() / max((shapes[0] | shapes[1]).sum(), 1)
    inside = cv2.erode((shapes[0] & shapes[1]).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    difference = np.abs(pictures[0] - pictures[1]).max(axis=2)[inside]
    return iou, difference.mean(), (difference <= 8).mean()


@pytest.mark.parametrize("view", SURFACE_VIEWS)
@pytest.mark.parametrize("pose", POSES)
def test_the_two_agree_on_our_face(open_gl, pose, view):
    model = load_face_model(FACE_MODEL)
    geometry = geometry_of(model)
    track = place(model, *pose, scale=1.3, at=(205.3, 190.8))
    iou, mean, share = compare(CpuRenderer(geometry, ()), open_gl(geometry, ()), noise(400, 380), (track,), view)
    assert iou >= 0.99 and mean <= 2 and share >= 0.99


@pytest.mark.parametrize("scale", [0.1, 0.35, 0.9, 2.5])
def test_the_two_agree_at_all_sizes(open_gl, scale):
    head = egg()
    geometry = geometry_of(head)
    track = place(head, 20, 10, 5, scale=scale, at=(200.5, 199.2))
    iou, mean, share = compare(CpuRenderer(geometry, ()), open_gl(geometry, ()), noise(401, 399), (track,), "mesh")
    assert iou >= 0.99 and mean <= 2 and share >= 0.99


def test_the_two_agree_on_several_faces(open_gl):
    head = egg()
    geometry = geometry_of(head)
    tracks = (
        place(head, 20, scale=0.8, at=(120, 120)),
        place(head, -30, scale=0.7, at=(190, 140)),
        place(head, 0, scale=0.3, at=(330, 60)),
    )
    iou, mean, share = compare(CpuRenderer(geometry, ()), open_gl(geometry, ()), noise(400, 300), tracks, "mesh")
    assert iou >= 0.99 and mean <= 2 and share >= 0.99


@pytest.mark.parametrize("view", [view for view in VIEWS if VIEWS[view].strokes is not None])
def test_the_two_agree_on_strokes(open_gl, view):
    head = egg()
    geometry = geometry_of(head)
    image, track = noise(300, 300), place(head, 30, 10, 5, scale=0.9, at=(150, 150))
    pictures = [
        r.draw(image, (track,)).astype(int) for r in (CpuRenderer(geometry, (view,)), open_gl(geometry, (view,)))
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 4


def test_the_two_agree_on_the_depth_map(open_gl):
    head = egg()
    geometry = geometry_of(head)
    track = place(head, 30, 10, 5, scale=0.9, at=(150, 150))
    maps = []
    for renderer in (CpuRenderer(geometry, ()), open_gl(geometry, ())):
        renderer.draw(noise(300, 300), (track,))
        maps.append(renderer.depth_map().astype(int))
    assert ((maps[0] > 0) != (maps[1] > 0)).mean() < 1e-3
    assert (np.abs(maps[0] - maps[1]) > 20).mean() < 1e-3
