"""Where tests find the imported files of FaceBoxes and 3DDFA_V2."""

from pathlib import Path

import pytest

from tests.conftest import ROOT, material


def upstream_weights(name: str) -> Path:
    """A file in weights/upstream; skips the test where it was not imported, saying how to."""
    material("upstream")
    path = ROOT / "weights" / "upstream" / name
    if not path.exists():
        pytest.skip("upstream weights absent: python -m tools.import_3ddfa")
    return path
