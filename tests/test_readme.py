"""What the README and the pages of docs/ show works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from facet.tracker.outputs.senders import SCHEMES
from tests.conftest import ROOT

FILES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in FILES}
NAMES = ("usage", "formats", "avatars", "research", "vfx", "viewer", "controls", "privacy-views")
PROGRAM_PAGES = ("README.md", *(f"docs/{name}.md" for name in NAMES))
ABOUT_THE_PROGRAM = [PAGES[Path(page)] for page in PROGRAM_PAGES]
EXAMPLES = [(page, code) for page, text in PAGES.items() for code in re.findall(r"```python\n(.*?)```", text, re.S)]
LINKS = {(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(((?!http)[^)]+)\)", text)}


@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=lambda value: str(value)[:20])
def test_the_examples_run(page, code):
    if not (ROOT / "weights" / "regressor.onnx").exists() or not (ROOT / "samples" / "demo.mp4").exists():
        pytest.skip("the project's own weights and clip are not there yet")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_pages_have_examples():
    assert len(EXAMPLES) >= 3


def options():
    """Each option on the pages, with the program that its line runs: app.py where it names none."""
    for line in (line for text in ABOUT_THE_PROGRAM for line in text.splitlines()):
        if "pytest" in line:
            continue
        tool = re.search(r"python -m (tools[.\w]*)", line)
        path = (tool.group(1).replace(".", "/") if tool else "facet/options") + ".py"
        own, _, passed_on = line.partition(" -- ")
        for part, program in ((own, path), (passed_on, "facet/options.py")):
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", part):
                if option != "--help":
                    yield option, program


@pytest.mark.parametrize(("option", "path"), sorted(set(options())))
def test_options_named_in_the_readme_exist(option, path):
    assert f'"{option}"' in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "link"), sorted(LINKS))
def test_links_lead_somewhere(page, link):
    path, _, heading = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if heading:
        titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
        assert heading in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_of_send_are_listed(name):
    assert f"| `{name}://host:{SCHEMES[name].port}` |" in PAGES[Path("docs/usage.md")]
