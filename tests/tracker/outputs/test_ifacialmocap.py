"""iFacialMocap, read as its receivers read it."""

import numpy as np
import pytest

from tests.arkit import ARKIT
from tests.tracker.outputs.clip import GONE, about, first_face, logged_gaze_deg, logged_rotation, received

EXAMPLE = (  # of the maker's page, with fewer weights
    "mouthSmile_R-0|eyeLookOut_L-0|mouthLeft-1|=head#-21.488958,-6.038993,-6.6019735,-0.030653415,-0.10287084,"
    "-0.6584072|rightEye#6.0297494,2.4403017,0.25649446|leftEye#6.034903,-1.6660284,-0.17520553|"
)


def read(text):
    """Weights by name and numbers by part, as receivers take them: split at `=`, `|`, then `-` or `#`."""
    assert text.endswith("|")
    weights, parts = text.split("=")
    found = {}
    for item in weights.rstrip("|").split("|"):
        name, value = item.split("-")
        found[name] = int(value)
        assert 0 <= found[name] <= 100
    numbers = {}
    for item in parts.rstrip("|").split("|"):
        name, values = item.split("#")
        numbers[name] = [float(value) for value in values.split(",")]
    return found, numbers


def test_the_reader_reads_the_example_of_the_maker():
    weights, numbers = read(EXAMPLE)
    assert weights == {"mouthSmile_R": 0, "eyeLookOut_L": 0, "mouthLeft": 1}
    assert {name: len(values) for name, values in numbers.items()} == {"head": 6, "rightEye": 3, "leftEye": 3}


def arkit(name):
    """ARKit's name of one of its names: sides are _L and _R."""
    return name.replace("_L", "Left").replace("_R", "Right")


def test_a_clip_as_receivers_read_it():
    for k, (record, packets) in enumerate(received("ifacialmocap://127.0.0.1:{port}")):
        face = first_face(record)
        assert len(packets) == (k not in GONE)
        if face is None:
            continue
        weights, numbers = read(packets[0].decode("ascii"))
        assert sorted(map(arkit, weights)) == sorted(ARKIT) and len(weights) == 52
        logged = face["blendshapes"] | {"tongueOut": 0}
        assert all(abs(value / 100 - logged[arkit(name)]) <= 0.00501 for name, value in weights.items())
        x, y, z = numbers["head"][:3]
        np.testing.assert_allclose(about("y", y) @ about("x", x) @ about("z", z), logged_rotation(face), atol=1e-4)
        right, up, away = face["translation_mm"]
        assert numbers["head"][3:] == pytest.approx([right / 1000, up / 1000, -away / 1000], abs=1e-5)
        for side in ("Left", "Right"):
            yaw, pitch = logged_gaze_deg(face, side)
            assert numbers[f"{side.lower()}Eye"] == pytest.approx([pitch, -yaw, 0], abs=6e-3)


def test_sides_are_in_the_form_of_the_app():
    _, (data,) = next(received("ifacialmocap://127.0.0.1:{port}", frames=1))
    weights, _ = read(data.decode())
    one_sided = {"jawLeft", "jawRight", "mouthLeft", "mouthRight", "browInnerUp", "cheekPuff", "mouthRollUpper"}
    assert one_sided <= set(weights)
    assert {"eyeBlink_L", "mouthSmile_R", "browOuterUp_L"} <= set(weights)
