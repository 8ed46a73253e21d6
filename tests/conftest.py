"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def material(*parts: str) -> Path:
    """Path of a piece of the test material; skips the test where it is absent."""
    path = Path(os.environ.get("FACET_MATERIAL", ROOT.parent / "shared")).joinpath(*parts)
    if not path.exists():
        pytest.skip("material absent (FACET_MATERIAL)")
    return path


@pytest.fixture(scope="session")
def networks() -> list:
    """Options of app.py that name networks which are there: the project's own, else the imported ones."""
    if (ROOT / "weights" / "regressor.onnx").exists() and (ROOT / "weights" / "detector.onnx").exists():
        return []
    if (ROOT / "weights" / "upstream" / "mb05_120x120.onnx").exists():
        return ["--config", ROOT / "configs" / "3ddfa_v2.toml"]
    pytest.skip("no networks: run python -m tools.import_3ddfa")
