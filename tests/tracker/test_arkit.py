"""Expression weights of the face model become ARKit's blendshapes."""

import numpy as np
import pytest

from facet.tracker.arkit import ArkitBlendshapes, arkit_name
from facet.tracker.morphable import load_face_model
from facet.tracker.weights import ROOT
from tests.arkit import ARKIT


@pytest.mark.parametrize(
    ("name", "arkit"),
    [
        ("eyeBlink_L", "eyeBlinkLeft"),
        ("eyeLookIn_R", "eyeLookInRight"),
        ("browInnerUp_L", "browInnerUp"),
        ("cheekPuff_R", "cheekPuff"),
        ("mouthLeft", "mouthLeft"),
        ("jawOpen", "jawOpen"),
    ],
)
def test_names(name, arkit):
    assert arkit_name(name) == arkit


def test_the_face_model_has_all_of_arkits_blendshapes_but_the_tongue():
    assert len(ARKIT) == 52
    names = load_face_model(ROOT / "weights" / "face_model.npz").expression_names
    assert len(names) == 53
    blendshapes = ArkitBlendshapes(names)
    assert len(blendshapes.names) == 51 and set(blendshapes.names) == ARKIT - {"tongueOut"}
    weights = np.random.default_rng(0).random(53).astype(np.float32)
    by_name = dict(zip(names, weights.tolist(), strict=True))
    found = blendshapes(weights)
    assert tuple(found) == blendshapes.names
    for name in ("browInnerUp", "cheekPuff"):
        assert found[name] == pytest.approx((by_name[f"{name}_L"] + by_name[f"{name}_R"]) / 2)
    assert found["mouthSmileLeft"] == by_name["mouthSmile_L"] and found["mouthRight"] == by_name["mouthRight"]
    assert type(found["jawOpen"]) is float


def test_a_face_model_without_names_has_no_blendshapes():
    assert ArkitBlendshapes(())(np.ones(10, np.float32)) == {}
