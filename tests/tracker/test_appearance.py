"""What a thumbnail must distinguish, and what it must not mind."""

import cv2
import numpy as np
import pytest

from facet.tracker.appearance import Appearance, thumbnail


def face_like(seed: int, size: int = 112) -> np.ndarray:
    """A smooth coloured picture that no other seed resembles."""
    coarse = np.random.default_rng(seed).integers(30, 220, (5, 5, 3)).astype(np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    looks = Appearance()
    looks.add(thumbnail(a, 1.35))
    return looks.likeness(thumbnail(b, 1.35))


def test_nothing_is_like_nothing():
    assert Appearance().likeness(thumbnail(face_like(1), 1.35)) == -1


@pytest.mark.parametrize("share", [0.5, 0.75, 1.15])
def test_light_does_not_matter(share):
    picture = face_like(1)
    assert likeness(picture, np.clip(picture * share, 0, 255).astype(np.uint8)) > 0.95


def test_noise_and_size_do_not_matter():
    picture = face_like(1)
    noisy = np.clip(picture + np.random.default_rng(0).normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    assert likeness(picture, noisy) > 0.95
    assert likeness(picture, cv2.resize(picture, (200, 200))) > 0.95


def test_another_is_another():
    assert max(likeness(face_like(1), face_like(seed)) for seed in range(2, 12)) < 0.8


@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_a_flat_crop_resembles_nothing_not_even_another_flat_one(level):
    rng = np.random.default_rng(level)
    flat = np.clip(level + rng.normal(0, 2, (112, 112, 3)), 0, 255).astype(np.uint8)
    assert not thumbnail(flat, 1.35).any()
    assert likeness(flat, flat) == 0


def test_views_that_differ_are_kept_and_the_first_stays():
    looks = Appearance()
    for seed in range(30):
        looks.add(thumbnail(face_like(seed), 1.35))
    assert looks.likeness(thumbnail(face_like(0), 1.35)) > 0.99
    assert looks.likeness(thumbnail(face_like(29), 1.35)) > 0.99
