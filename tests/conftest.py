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
