"""The two commands of the README."""

from __future__ import annotations

import shutil
import subprocess

import pytest

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
