"""Words that the texts of this project do without: each has a plain one that says which of several things is meant."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.conftest import ROOT

# a network predicts, a log reports or writes, a message says; what separates two things distinguishes them
WORDS = r"\b(tell|tells|told|telling|newcomers?|dialects?|nearness|capsules?)\b"


def texts():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no checkout of git")
    for name in done.stdout.splitlines():
        if name.endswith((".py", ".md", ".glsl", ".toml")) and name != "tests/test_language.py":
            yield ROOT / name


def test_plain_words():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in re.finditer(WORDS, line, re.IGNORECASE)
    ]
    assert not found
