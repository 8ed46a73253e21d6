"""Heads are covered: whole, in every frame, also where a face is lost for a while or found late."""

from __future__ import annotations

import weakref
from dataclasses import replace

import cv2
import numpy as np
import pytest

from facet.live import controlled
from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from facet.render.privacy import (
    COVER_COLOUR,
    PRIVACY_VIEWS,
    Privacy,
    PrivacyConfig,
    box_outline,
    head_outline,
    padded,
)
from facet.tracker.controls import Controls
from facet.tracker.morphable import load_face_model
from facet.tracker.types import Box, Frame
from tests.conftest import ROOT
from tests.render.heads import egg, noise, place

HEAD = egg()
GEOMETRY = geometry_of(HEAD)
POSES = [(0, 0, 0), (60, 0, 0), (-90, 10, 0), (0, 50, 0), (0, -40, 180), (30, 20, 75)]
SIZE_WH = (320, 240)
SCENE = noise(*SIZE_WH)


def inside(outline: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points, (n, 2), lie in a convex polygon."""
    return np.array([cv2.pointPolygonTest(outline, (float(x), float(y)), False) >= 0 for x, y in points])


@pytest.mark.parametrize("pose", POSES)
def test_the_outline_holds_the_head_of_everybody_in_any_pose(pose):
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    geometry = geometry_of(model)
    rng = np.random.default_rng(2)
    for _ in range(4):
        shape = rng.normal(size=model.shape_count).astype(np.float32)
        expression = rng.uniform(0, 0.5, model.expression_count).astype(np.float32)
        mesh = model.vertices(shape, expression)
        track = place(model, *pose, scale=1.3, at=(200, 200), mesh=mesh)
        chin = mesh[model.landmark_vertices, 1].min()
        head = track.vertices[mesh[:, 1] >= chin - 5, :2]
        assert inside(head_outline(track, geometry, 0.1), head).all()
        behind = (mesh * (1, 1, -1))[(mesh[:, 1] >= chin) & (mesh[:, 2] > 0)] * (0.95, 0.95, 0.85)
        back = behind @ track.model_to_image[:2, :3].T + track.model_to_image[:2, 3]
        assert inside(head_outline(track, geometry, 0.1), back).all()


def test_padding_grows_the_outline_about_its_middle():
    outline = np.float32([[10, 10], [30, 10], [30, 50], [10, 50]])
    np.testing.assert_allclose(padded(outline, 0.5), [[5, 0], [35, 0], [35, 60], [5, 60]])


@pytest.mark.parametrize("view", PRIVACY_VIEWS)
def test_a_view_changes_the_head_and_nothing_else(view):
    track = place(HEAD, 20, 5, 10, scale=0.6, at=(160, 120))
    image = noise(*SIZE_WH)
    drawn = CpuRenderer(GEOMETRY, (view,)).draw(image, (track,))
    np.testing.assert_array_equal(image, noise(*SIZE_WH))
    mask = np.zeros(SIZE_WH[::-1], np.uint8)
    cv2.fillConvexPoly(mask, np.rint(head_outline(track, GEOMETRY, 0.2) - 0.5).astype(np.int32), 1)
    changed = (drawn != image).any(axis=2)
    assert changed[mask == 1].mean() > 0.99 and not changed[mask == 0].any()
    if view == "cover":
        assert (drawn[mask == 1] == COVER_COLOUR).all()
    else:  # noise is averaged away
        assert drawn[mask == 1].std() < 0.35 * image[mask == 1].std()


@pytest.mark.gl
@pytest.mark.parametrize("view", PRIVACY_VIEWS)
def test_the_renderers_agree(open_gl, view):
    tracks = (place(HEAD, 20, scale=0.5, at=(100, 120)), place(HEAD, -30, scale=0.4, at=(310, 100)))
    pictures = [r.draw(SCENE, tracks) for r in (CpuRenderer(GEOMETRY, (view,)), open_gl(GEOMETRY, (view,)))]
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize("at", [(-30, 120), (320, 0), (160, 260), (-4000, 120), (1e7, 0), (np.nan, 3)])
def test_heads_at_the_border_outside_and_damaged(at):
    track = place(HEAD, scale=0.6, at=at)
    for view in PRIVACY_VIEWS:
        assert CpuRenderer(GEOMETRY, (view,)).draw(SCENE, (track,)).shape == SCENE.shape


def test_tiny_and_huge_heads():
    for scale in (0.005, 40.0):
        for view in PRIVACY_VIEWS:
            drawn = CpuRenderer(GEOMETRY, (view,)).draw(SCENE, (place(HEAD, scale=scale, at=(160, 120)),))
            assert (drawn[120, 160] != SCENE[120, 160]).any()


def clip(places, lost=(), cuts=(), boxes=None, view=("cover",), config=PrivacyConfig(), number=1):
    """Pass frames through `Privacy`: a head at `places`, None where nobody is, and not tracked in the frames `lost`.

    Returns the covered images and where the head is in each.
    """
    scene = SCENE.copy()
    pairs = []
    for index, at in enumerate(places):
        if index in cuts:
            scene = np.ascontiguousarray(255 - scene)
        faces = ()
        if at is not None and index not in lost:
            faces = (replace(place(HEAD, scale=0.3, at=at), id=number),)
        pairs.append((Frame(index, index / 30, scene.copy(), first=index == 0), faces))
    privacy = Privacy(GEOMETRY, lambda image: (), view, config)
    if boxes is not None:
        calls = iter(boxes)
        privacy = Privacy(GEOMETRY, lambda image: next(calls), view, config)
    done = list(privacy(pairs))
    assert [frame.index for frame, _ in done] == list(range(len(places)))
    assert [faces for _, faces in done] == [faces for _, faces in pairs]
    return [frame.image for frame, _ in done]


def share_covered(image, at, scale=0.3) -> float:
    """Of the head at a place."""
    mask = np.zeros(SIZE_WH[::-1], np.uint8)
    outline = head_outline(place(HEAD, scale=scale, at=at), GEOMETRY)
    cv2.fillConvexPoly(mask, np.rint(outline - 0.5).astype(np.int32), 1)
    if not mask.any():
        return 1.0
    return float((image[mask == 1] == COVER_COLOUR).all(axis=1).mean())


WALK = [(60 + 4 * t, 120 + 8 * np.sin(t / 4)) for t in range(50)]


@pytest.mark.parametrize(
    "lost",
    [
        (), range(10), range(40, 50), range(15, 25), (3, 5, 7, 8, 30), range(20, 30, 2), (*range(10), *range(14, 24)),
    ],
)  # fmt: skip
def test_no_face_flashes_through_up_to_ten_lost_frames(lost):
    for at, image in zip(WALK, clip(WALK, lost), strict=True):
        assert share_covered(image, at) == 1.0


def test_a_face_that_is_lost_for_long_stays_covered_where_it_was():
    still = [(160, 120)] * 160
    found = [share_covered(image, at) for image, at in zip(clip(still, range(20, 140)), still, strict=True)]
    assert [share == 1.0 for share in found] == [True] * 110 + [False] * 20 + [True] * 30
    config = PrivacyConfig(hold_frames=10)
    images = clip(still[:60], range(20, 45), config=config)
    found = [share_covered(image, at) for image, at in zip(images, still, strict=False)]
    assert [share == 1.0 for share in found] == [True] * 30 + [False] * 5 + [True] * 25
    assert max(found[30:35]) == 0


def test_nothing_is_covered_where_nobody_is():
    images = clip([None] * 15 + [(160, 120)] * 20 + [None] * 30, config=PrivacyConfig(hold_frames=10))
    changed = [not np.array_equal(image, SCENE) for image in images]
    assert changed == [False] * 5 + [True] * 40 + [False] * 20


def test_a_cut_ends_what_is_covered():
    images = clip([(160, 120)] * 15 + [None] * 15 + [(60, 120)] * 15, cuts=(15, 30))
    changed = [(image == COVER_COLOUR).all(axis=2).any() for image in images]
    assert changed == [True] * 15 + [False] * 15 + [True] * 15


def test_a_face_that_is_found_late_after_a_cut_is_covered_from_the_cut_on():
    images = clip([None] * 15 + [(100, 120)] * 20, lost=range(15, 22), cuts=(15,))
    assert [share_covered(image, (100, 120)) for image in images[15:]] == [1.0] * 20
    assert np.array_equal(images[14], SCENE)


def test_faces_that_only_the_detector_finds_are_covered():
    """A crowd: no room for tracks; every other search fails."""
    places = [(60 + 3 * t, 120) for t in range(30)]
    boxes = [(Box(x - 16, y - 22, x + 16, y + 26, 0.9),) if t % 2 else () for t, (x, y) in enumerate(places)]
    images = clip(places, lost=range(30), boxes=boxes)
    assert min(share_covered(image, at, 0.25) for image, at in zip(images, places, strict=True)) == 1.0


def test_a_search_every_fifth_frame_does_for_a_face_that_comes_in():
    places = [(10 + 4 * t, 120) for t in range(40)]
    boxes = [(Box(x - 16, y - 22, x + 16, y + 26, 0.9),) for x, y in places][::5]
    images = clip(places, lost=range(40), boxes=boxes, config=PrivacyConfig(detect_every=5))
    assert min(share_covered(image, at, 0.25) for image, at in zip(images, places, strict=True)) == 1.0


def test_the_box_of_a_detector_becomes_a_whole_head():
    outline = box_outline(Box(100, 100, 140, 170, 1.0))
    (x0, y0), (x1, y1) = outline.min(axis=0), outline.max(axis=0)
    assert x0 < 95 and x1 > 145 and y0 < 90 and y1 > 172


@pytest.mark.parametrize("view", ["cover", "mesh"])
def test_a_photograph_is_freed_before_the_next_one_is_read(view):
    privacy = Privacy(GEOMETRY, lambda image: (), (view,))
    seen: list[weakref.ref] = []

    def photographs():
        for index in range(3):
            assert not seen or seen[-1]() is None
            image = SCENE.copy()
            seen.append(weakref.ref(image))
            yield Frame(index, 0.0, image, first=True, still=True), (place(HEAD, scale=0.3, at=(100, 100)),)
            image = None

    controls = Controls()
    pairs = controlled(privacy(photographs()), controls)
    while (pair := next(pairs, None)) is not None:
        assert pair[0].image.shape == SCENE.shape
        pair = None
    assert len(seen) == 3


def test_photographs_do_not_wait_for_one_another():
    privacy = Privacy(GEOMETRY, lambda image: (), ("cover",))
    track = place(HEAD, scale=0.3, at=(100, 100))

    def photographs():
        for index in range(3):
            yield Frame(index, 0.0, SCENE.copy(), first=True, still=True), (track,) if index == 1 else ()
            passed.append(index)

    passed: list[int] = []
    for frame, _ in privacy(photographs()):
        assert passed == list(range(frame.index))
        assert np.array_equal(frame.image, SCENE) == (frame.index != 1)


def test_without_a_view_that_covers_frames_pass_at_once_as_they_are():
    privacy = Privacy(GEOMETRY, pytest.fail, ("mesh",))
    frames = [(Frame(t, t / 30, SCENE), ()) for t in range(3)]
    assert list(privacy(frames)) == frames


def test_switched_on_and_off_while_frames_pass():
    privacy, track = Privacy(GEOMETRY, lambda image: ()), place(HEAD, scale=0.3, at=(100, 100))
    done = []

    def frames():
        for index in range(60):
            privacy.views = ("blur",) if 20 <= index < 40 else ()
            yield Frame(index, index / 30, SCENE, first=index == 0), (track,)

    for frame, _ in privacy(frames()):
        done.append((frame.index, not np.array_equal(frame.image, SCENE)))
    assert [index for index, _ in done] == list(range(60))
    # those that wait when it is switched off go out as they are
    assert [index for index, covered in done if covered] == list(range(20, 27))


def test_a_paused_frame_is_covered_anew_when_views_change():
    privacy, track = Privacy(GEOMETRY, lambda image: ()), place(HEAD, scale=0.3, at=(100, 100))
    frame = Frame(0, 0.0, SCENE, first=True)
    assert privacy.again(frame, (track,)) is frame
    privacy.views = ("cover",)
    covered = privacy.again(frame, (track,))
    assert share_covered(covered.image, (100, 100)) == 1.0
    privacy.views = ()
    np.testing.assert_array_equal(privacy.again(covered, (track,)).image, SCENE)


@pytest.mark.parametrize(
    "value",
    [
        {"lost_frames": -1},
        {"padding": -0.1},
        {"detect_every": 0},
        {"detect_every": 11},
        {"hold_frames": 9},
        {"min_score": 2},
    ],
)
def test_settings_out_of_range(value):
    with pytest.raises(ValueError, match=next(iter(value))):
        PrivacyConfig(**value)
