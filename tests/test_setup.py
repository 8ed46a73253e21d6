"""The two commands of the README, and what they install."""

from __future__ import annotations

import shutil
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT


def planned(target, venv):
    """The commands that make would run for a target with an environment that is not there yet."""
    if shutil.which("make") is None:
        pytest.skip("no make")
    done = subprocess.run(["make", "-n", f"VENV={venv}", target], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.splitlines()


def test_the_demo_installs_only_what_facet_needs(tmp_path):
    commands = planned("demo", tmp_path / "venv")
    assert f"sh tools/setup.sh {tmp_path}/venv requirements.txt" in commands
    assert not [line for line in commands if "tests/" in line]


def test_the_tests_install_what_they_need_too(tmp_path):
    commands = planned("test", tmp_path / "venv")
    setup = [line for line in commands if "setup.sh" in line]
    assert [line.split()[-1] for line in setup] == ["requirements.txt", "tests/requirements.txt"]


def requirements(*lines):
    """Name -> Requirement of lines of a requirements file, or of pyproject.toml."""
    texts = (line.split("#")[0].strip() for line in lines)
    found = [Requirement(text) for text in texts if text]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_the_tested_versions_lie_within_the_ranges_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = requirements(*project["dependencies"])
    pins = requirements(*(ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    assert set(pins) == set(ranges)
    optional = requirements(*(line for lines in project["optional-dependencies"].values() for line in lines))
    pins |= requirements(*(ROOT / "tests" / "requirements.txt").read_text(encoding="utf-8").splitlines())
    for name, pin in pins.items():
        (exact,) = pin.specifier
        assert exact.operator == "=="
        allowed = (ranges | optional).get(name)
        assert allowed is None or exact.version in allowed.specifier, f"{pin} is not in {allowed}"
