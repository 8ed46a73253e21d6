"""The small aligner through the command line."""

from __future__ import annotations

import cv2
import numpy as np

from tests.conftest import ROOT
from tests.program import records, run


def test_balanced_mode_logs_irises_between_the_corners_of_the_eyes(tmp_path):
    video = cv2.VideoCapture(str(ROOT / "samples" / "demo.mp4"))
    _, image = video.read()
    video.release()
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    config = ROOT / "configs" / "balanced.toml"
    done = run("-f", tmp_path / "photo.png", "--log", tmp_path / "log.jsonl", "--config", config)
    assert done.returncode == 0, done.stderr
    (face,) = records(tmp_path / "log.jsonl")[0]["faces"]
    points = np.array(face["landmarks"])[:, :2]
    for (x, y, _), (first, last) in zip(face["irises"], ((36, 39), (42, 45)), strict=True):
        assert points[first, 0] < x < points[last, 0]
        assert abs(y - points[[first, last], 1].mean()) < 0.15 * np.linalg.norm(points[36] - points[45])
    assert len(face["landmark_visible"]) == len(face["landmark_spread_px"]) == 68
