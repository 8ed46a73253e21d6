"""The rules of the layout: who may import whom, who may print."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {"tracker": set(), "detect": {"tracker"}, "render": {"tracker"}}
PROGRAM = {path.stem for path in (ROOT / "facet").glob("*.py")} - {"__init__"}  # options, settings, a run
FINAL = ("print", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write")
FORBIDDEN = {"torch", "scipy", "onnx", "tools", "app", "tests"}


def imported(path: Path):
    """Top level names of the modules that a file imports; of `facet.tracker.types`, `tracker`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, *rest = name.split(".")
            assert top not in ALLOWED, f"{path}:{node.lineno}: as facet.{name}"
            yield rest[0] if top == "facet" else top


def sources(package: str):
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, package
    return paths


@pytest.mark.parametrize("package", ALLOWED)
def test_runtime_packages_import_only_downwards(package):
    barred = (set(ALLOWED) | PROGRAM | FORBIDDEN) - ALLOWED[package] - {package}
    for path in sources(package):
        assert not barred & set(imported(path)), path


def test_app_needs_no_tool():
    for path in (ROOT / "app.py", *sources("facet")):
        assert not FORBIDDEN & set(imported(path)), path


@pytest.mark.parametrize("package", [*ALLOWED, "facet"])
def test_only_the_app_prints_or_exits(package):
    for path in sources(package):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in FINAL, f"{path}:{node.lineno}"


def test_the_core_never_reads_the_clock_for_filters():
    for name in ("smoothing", "tracks", "cuts", "appearance", "loop", "upstream/fitting", "morphable"):
        assert "time" not in set(imported(ROOT / "tracker" / f"{name}.py")), name
