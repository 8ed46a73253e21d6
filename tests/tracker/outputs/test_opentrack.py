"""opentrack's UDP, read by its layout: six little-endian doubles."""

import numpy as np
import pytest

from tests.tracker.outputs.clip import GONE, about, first_face, logged_rotation, received


def test_a_clip_as_opentrack_reads_it():
    for k, (record, packets) in enumerate(received("opentrack://127.0.0.1:{port}")):
        assert len(packets) == (k not in GONE)
        if not packets:
            continue
        assert len(packets[0]) == 48
        x, y, z, yaw, pitch, roll = np.frombuffer(packets[0], "<f8")
        face = first_face(record)
        right, up, away = face["translation_mm"]
        assert (x, y, z) == pytest.approx((-right / 10, up / 10, away / 10), abs=1e-3)
        found = about("y", -yaw) @ about("x", pitch) @ about("z", roll)
        np.testing.assert_allclose(found, logged_rotation(face), atol=1e-4)
