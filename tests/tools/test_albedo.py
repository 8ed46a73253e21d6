"""The skin model's building: albedo and light of made photographs are separated."""

import numpy as np
import pytest

pytest.importorskip("torch")

from facet.tracker.lighting import lamp
from tools.albedo import Collection, fill, robust_mean, separate

TEXELS, PEOPLE, EACH = 240, 24, 3


def made_photographs():
    """People with a dark band on the skin, each under lights of its own; the albedos (PEOPLE, T, 3), too."""
    rng = np.random.default_rng(0)
    half = rng.normal(size=(TEXELS // 2, 3)) * (1, 1, 0.6) + (0, 0, 1)
    front = np.concatenate([half, half * (-1, 1, 1)])
    front[:, 2] = np.abs(front[:, 2]) + 0.2
    front /= np.linalg.norm(front, axis=1, keepdims=True)
    band = np.tile(np.arange(TEXELS // 2) % 4 == 0, 2)[:, None]
    mean = np.where(band, (0.45, 0.33, 0.28), (0.7, 0.55, 0.47))
    albedo = np.clip(mean * np.exp(0.15 * rng.normal(size=(PEOPLE, 1, 1))), 0.05, 0.95)
    colours, normals, persons = [], [], []
    for person in range(PEOPLE):
        for _ in range(EACH):
            light = lamp(rng.normal(size=3) * (1, 0.5, 0.3) + (0, 0.3, 1), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.5))
            colours.append(np.clip(albedo[person] * light.shading(front), 0, 1))
            normals.append(front)
            persons.append(person)
    weight = np.ones((len(colours), TEXELS), np.float16)
    studio = np.arange(len(colours)) >= len(colours) - 4 * EACH
    photos = Collection(np.float16(colours), np.float16(normals), weight, np.array(persons), studio)
    mirror = np.r_[TEXELS // 2 : TEXELS, 0 : TEXELS // 2]
    return photos, mirror, mean


def test_the_mean_albedo_has_the_pattern_and_not_the_light():
    photos, mirror, mean = made_photographs()
    found, modes, lights, light_mean, precision, noise, often = separate(photos, 4, mirror)
    off = np.log(found) - np.log(mean)
    assert (off - off.mean()).std() < 0.06 and np.abs(np.log(mean) - np.log(mean).mean()).std() > 0.1
    assert modes.shape == (4, TEXELS, 3) and lights.shape == (PEOPLE * EACH, 27) and noise < 0.03
    assert np.linalg.eigvalsh(precision).min() > 0 and light_mean.shape == (27,) and often.all()


def test_hair_of_some_does_not_move_the_mean():
    skin = np.full((20, 5, 3), 0.6)
    skin[:4, 2] = 0.08
    np.testing.assert_allclose(robust_mean(skin, np.ones((20, 5, 1))), 0.6, atol=0.02)


def test_what_is_not_seen_is_filled_from_around():
    layout, seen = np.zeros((32, 32, 3), np.float32), np.zeros((32, 32), bool)
    layout[8:24, 8:24], seen[8:24, 8:24] = 0.5, True
    np.testing.assert_allclose(fill(layout, seen), 0.5, atol=0.02)
