"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tracker.outputs.senders import SCHEMES

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("number", "printed"), [(0, "face 1"), (1, "(7869, 3)\n(15448, 3) (7869, 2)")])
def test_the_examples_run(number, printed):
    if not (ROOT / "weights" / "regressor.onnx").exists() or not (ROOT / "samples" / "demo.mp4").exists():
        pytest.skip("the project's own weights and clip are not there yet")
    example = re.findall(r"```python\n(.*?)```", README, re.S)[number]
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout


def options():
    """Each option in the README, with the program that its line runs: app.py where it names none."""
    for line in README.splitlines():
        if "pytest" in line:
            continue
        tool = re.search(r"python -m (tools[.\w]*)", line)
        path = (tool.group(1).replace(".", "/") if tool else "app") + ".py"
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
            yield option, path


@pytest.mark.parametrize(("option", "path"), sorted(set(options())))
def test_options_named_in_the_readme_exist(option, path):
    assert f'"{option}"' in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_of_send_are_listed(name):
    assert f"| `{name}://host:{SCHEMES[name].port}` |" in README
