"""Nothing leaves the machine: no dependency opens a socket or leaves a file that nobody asked for."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys

import pytest

from tests.clips import ffmpeg
from tests.conftest import ROOT
from tests.program import APP

PLAIN = "import onnxruntime"
IMPORTS = "from facet.detect import open_detector; from facet.tracker import FaceTracker"
LIBRARY = f"{IMPORTS}; FaceTracker.open(open_detector())"
AFTER_THE_HOST = "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; import onnxruntime; import facet.tracker"


def files_at_home(command, home, *, trace=None, options=()):
    """The files that a program leaves in an empty home; its system calls go to `trace`."""
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_", "DISPLAY", "WAYLAND"))}
    environment |= {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home)}
    if trace:
        strace = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=socket,openat,open,creat,mkdir,mkdirat"]
        command = [*strace, *command]
    done = subprocess.run(
        list(map(str, [*command, *options])),
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("code", ["import facet.tracker", "import facet.detect", LIBRARY, AFTER_THE_HOST])
def test_no_telemetry_in_library_use(networks, code, tmp_path):
    assert not files_at_home([sys.executable, "-c", code], tmp_path / "home")


def test_this_shows_telemetry_where_it_is_on(tmp_path):
    found = files_at_home([sys.executable, "-c", PLAIN], tmp_path / "home")
    if not found:
        pytest.skip("this build of ONNX Runtime has no telemetry")
    assert any("onnxruntime" in name for name in found)


def test_no_socket_and_no_file_in_a_run(networks, tmp_path):
    """The whole program: decoding, networks, drawing, encoding with sound, a log, settings."""
    if not can_trace():
        pytest.skip("strace is missing, or may not trace here")
    clip, trace = tmp_path / "clip.mp4", tmp_path / "trace.txt"
    ffmpeg(
        *("-i", ROOT / "samples" / "demo.mp4", "-f", "lavfi", "-i", "sine=d=1", "-t", "0.6"),
        *("-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", clip),
    )
    options = ["-f", clip, "-o", tmp_path / "out.mp4", "--log", tmp_path / "log.csv", *networks]
    found = files_at_home(APP, tmp_path / "home", trace=trace, options=options)
    calls = trace.read_text(errors="replace").splitlines()
    assert any(f"{tmp_path}/" in call and ".mp4" in call and "O_CREAT" in call for call in calls)  # the encoder
    assert not [call for call in calls if "socket(" in call and "AF_UNIX" not in call]
    assert not [call for call in calls if "onnxruntime.db" in call or "deviceid" in call.lower()]
    assert not [name for name in found if not name.startswith(".cache/facet/")]


def can_trace() -> bool:
    """Whether strace is here and allowed."""
    return bool(shutil.which("strace")) and subprocess.run(["strace", "-qq", "-o", os.devnull, "true"]).returncode == 0


def test_onnx_runtime_is_loaded_in_one_place():
    """`tracker.runtime` switches the telemetry off before it loads the library; the others take it from there."""
    found = set()
    packages = [path for name in ("tracker", "detect", "render", "tools") for path in (ROOT / name).rglob("*.py")]
    for path in [ROOT / "app.py", *packages]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {path.relative_to(ROOT).as_posix() for name in names if name.split(".")[0] == "onnxruntime"}
    assert found == {"tracker/runtime.py"}
