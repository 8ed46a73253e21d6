"""The demo clip, which this project rendered, is tracked and compared with its truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.program import records, run

CLIP, TRUTH = ROOT / "samples" / "demo.mp4", ROOT / "samples" / "demo_truth.jsonl"


@pytest.fixture(scope="module", params=["default", "large"])
def tracked(request, networks, tmp_path_factory):
    """Records of the clip, by the default network and by the larger one, and the truth of the same frames."""
    if request.param == "large":
        networks = ["--config", ROOT / "configs" / "large.toml"]
    log = tmp_path_factory.mktemp("demo") / "log.jsonl"
    done = run("-f", CLIP, "--log", log, "--set", "smoothing.enabled=false", *networks)
    assert done.returncode == 0, done.stderr
    truth = [json.loads(line) for line in TRUTH.read_text(encoding="utf-8").splitlines()]
    lines = records(log)
    assert len(lines) == len(truth)
    return lines, truth


def test_one_face_in_every_frame(tracked):
    lines, _ = tracked
    assert [len(line["faces"]) for line in lines] == [1] * len(lines)
    assert {line["faces"][0]["id"] for line in lines} == {1}


def test_landmarks_lie_on_the_face(tracked):
    errors = []
    for line, true in zip(*tracked, strict=True):
        points, wanted = np.array(line["faces"][0]["landmarks"])[:, :2], np.array(true["landmarks"])
        errors.append(np.linalg.norm(points - wanted, axis=1).mean() / np.sqrt(np.prod(np.ptp(wanted, axis=0))))
    assert np.mean(errors) < 0.045
    assert np.max(errors) < 0.09


@pytest.mark.parametrize(("angle", "limit_deg"), [("yaw_deg", 6.0), ("pitch_deg", 8.0), ("roll_deg", 4.0)])
def test_the_head_turns_as_it_does(tracked, angle, limit_deg):
    got = np.array([line["faces"][0]["pose"][angle] for line in tracked[0]])
    true = np.array([line["pose"][angle] for line in tracked[1]])
    assert np.corrcoef(got, true)[0, 1] > 0.93
    assert np.abs(got - true - np.median(got - true)).mean() < limit_deg


def test_eyes_close_and_the_mouth_opens(tracked):
    if not (ROOT / "weights" / "regressor.onnx").exists():
        pytest.skip("the imported network's eyes do not close")
    for name, least in (("eyeBlinkLeft", 0.8), ("eyeBlinkRight", 0.8), ("jawOpen", 0.6)):
        got = np.array([line["faces"][0]["blendshapes"][name] for line in tracked[0]])
        true = np.array([line["blendshapes"][name] for line in tracked[1]])
        assert np.corrcoef(got, true)[0, 1] > least, name
