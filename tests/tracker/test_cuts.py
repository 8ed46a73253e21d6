"""Hard cuts, and what is none."""

import numpy as np
import pytest

from facet.tracker.cuts import CutDetector

RNG = np.random.default_rng(5)


def scene(seed, shape=(180, 320)):
    """A smooth random picture."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (5, 8, 3)).astype(np.uint8)
    import cv2

    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def test_the_first_frame_is_no_cut():
    assert not CutDetector()(scene(1))


def test_another_scene_is_a_cut_once():
    is_cut = CutDetector()
    assert [is_cut(scene(s)) for s in (1, 1, 2, 2, 1)] == [False, False, True, False, True]


@pytest.mark.parametrize("change", ["noise", "shift", "brighter", "half dark"])
def test_what_is_no_cut(change):
    is_cut, image = CutDetector(), scene(3)
    is_cut(image)
    changed = {
        "noise": np.clip(image + RNG.normal(0, 12, image.shape), 0, 255),
        "shift": np.roll(image, 12, axis=1),
        "brighter": np.clip(image * 0.6 + 90, 0, 255),
        "half dark": image * 0.5,
    }[change].astype(np.uint8)
    assert not is_cut(changed)


def test_another_size_is_a_cut():
    is_cut = CutDetector()
    is_cut(scene(1))
    assert is_cut(scene(1, (40, 30)))


def test_after_a_reset_nothing_is_a_cut():
    is_cut = CutDetector()
    is_cut(scene(1))
    is_cut.reset()
    assert not is_cut(scene(2))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 999, 3), (37, 65, 3)])
def test_odd_sizes(shape):
    is_cut = CutDetector()
    image = np.zeros(shape, np.uint8)
    assert not is_cut(image)
    assert not is_cut(image)
    assert is_cut(np.full(shape, 255, np.uint8))
