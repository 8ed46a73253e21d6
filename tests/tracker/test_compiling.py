"""The cache of compiled kernels: damaged, read-only or absent, a kernel runs all the same and nothing is printed."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from numba.core import config

from tests.conftest import ROOT

KERNEL = "from facet.tracker.compiling import njit\n\n\n@njit()\ndef twice(x):\n    return 2 * x\n"


def call(folder):
    """What the kernel returns, loaded as by a new process, and how often the cache had it."""
    spec = importlib.util.spec_from_file_location("doubling", folder / "doubling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twice(21), sum(module.twice.stats.cache_hits.values())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "doubling.py").write_text(KERNEL)
    return tmp_path


def flipped(data: bytes) -> bytes:
    """Another byte in the middle: of compiled code, most likely."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 255]) + data[len(data) // 2 + 1 :]


DAMAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-7],
    "half": lambda data: data[: len(data) // 2],
    "garbage": lambda data: bytes(range(256)) * 4,
    "another pickle": lambda data: b"I1\n.",
    "zeros": lambda data: data[:100] + bytes(len(data) - 100),
    "flipped": flipped,
}


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_written_again(damage, pattern, folder, capfd):
    assert call(folder) == (42, 0)
    assert call(folder) == (42, 1)
    (path,) = (folder / "__pycache__").glob(pattern)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert call(folder)[0] == 42
    assert call(folder) == (42, 1)
    assert capfd.readouterr() == ("", "")


def test_a_cache_whose_files_are_folders(folder):
    call(folder)
    for path in list((folder / "__pycache__").glob("*.nb?")):
        path.unlink()
        path.mkdir()
    assert call(folder) == (42, 0)


@pytest.mark.parametrize("home", ["below a file", "no folder"])
def test_nowhere_to_keep_kernels(home, folder, monkeypatch, capfd):
    """Places below a file cannot be written, by root neither; a home that is unknown is no folder named `~`."""
    below = str(folder / "doubling.py" / "below") if home == "below a file" else "~"
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, below)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(config, "CACHE_DIR", str(folder / "doubling.py" / "below"))
    (folder / "__pycache__").write_text("no folder")
    assert call(folder) == (42, 0)
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in folder.iterdir()) == ["__pycache__", "doubling.py"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs to become another user: run as root")
def test_an_installation_that_only_root_may_write():
    """A user without a home takes the kernels that lie beside the modules."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are for root alone
    try:
        folder.chmod(0o755)
        (folder / "doubling.py").write_text(KERNEL)
        assert call(folder) == (42, 0)
        code = (
            "import os, sys; from pathlib import Path; from tests.tracker.test_compiling import call;"
            "folder = Path(sys.argv[1]); call(folder);"  # loads all that the other user may not read
            "os.environ.pop('HOME', 0); os.environ.pop('XDG_CACHE_HOME', 0); os.setuid(54321); print(call(folder))"
        )
        done = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "(42, 1)\n", "")
    finally:
        shutil.rmtree(folder)


def test_kernels_are_compiled_in_one_place():
    found = set()
    for path in (path for name in ("tracker", "detect", "render", "tools") for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {path.relative_to(ROOT).as_posix() for name in names if name.split(".")[0] == "numba"}
    assert found == {"tracker/compiling.py"}


def test_a_kernel_is_compiled_again_when_one_that_it_calls_changes(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    caller = KERNEL.replace("\n\n\n", "\nfrom factors import factor\n\n\n", 1).replace("2 *", "factor() *")
    (folder / "doubling.py").write_text(caller)

    def times(factor):
        called = KERNEL.replace("twice(x)", "factor()").replace("2 * x", factor)
        (folder / "factors.py").write_text(called)
        sys.modules.pop("factors", None)
        importlib.invalidate_caches()
        return call(folder)

    assert times("2") == (42, 0)
    assert call(folder) == (42, 1)
    assert times("100") == (2100, 0)
    sys.modules.pop("factors")
