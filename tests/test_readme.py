"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs():
    if not (ROOT / "weights" / "regressor.onnx").exists() or not (ROOT / "samples" / "demo.mp4").exists():
        pytest.skip("the project's own weights and clip are not there yet")
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "face 1" in done.stdout


@pytest.mark.parametrize("option", sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))))
def test_options_named_in_the_readme_exist(option):
    text = (ROOT / "app.py").read_text(encoding="utf-8")
    assert f'"{option}"' in text or option in ("--ignore",)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()
