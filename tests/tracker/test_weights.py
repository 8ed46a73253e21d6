import hashlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from facet.detect import open_detector
from facet.tracker import FaceTracker, appearance
from facet.tracker.errors import WeightsError
from facet.tracker.loop import RegressorConfig
from facet.tracker.weights import KINDS, check_sha256, find_entry, load_arrays, load_manifest
from tests.conftest import ROOT
from tests.program import assert_one_line

TABLE = {"file": "net.onnx", "kind": "regressor", "sha256": "", "licence": "MIT", "provenance": "a test"}


def write(folder, content=b"weights", **values):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.onnx").write_bytes(content)
    table = TABLE | {"sha256": hashlib.sha256(content).hexdigest()} | values
    lines = "".join(f"{key} = {value!r}\n" for key, value in table.items() if value is not None)
    (folder / "manifest.toml").write_text("[net]\n" + lines)
    return folder / "net.onnx"


def test_an_entry_is_found_by_its_file(tmp_path):
    path = write(tmp_path, size_px=112)
    entry = find_entry(path, "regressor")
    assert (entry.name, entry.path, entry.kind, entry.licence) == ("net", path, "regressor", "MIT")
    assert entry.get("size_px", int) == 112
    assert entry.get("size_px", float) == 112.0
    assert entry.get("absent", str, "default") == "default"


def test_names_and_tables(tmp_path):
    write(tmp_path)
    assert list(load_manifest(tmp_path / "manifest.toml")) == ["net"]


@pytest.mark.parametrize("kind", [str, bool, list])
def test_a_value_of_another_type(tmp_path, kind):
    with pytest.raises(WeightsError, match="size_px"):
        find_entry(write(tmp_path, size_px=112)).get("size_px", kind)


def test_an_absent_value(tmp_path):
    with pytest.raises(WeightsError, match=r"format.*found nothing"):
        find_entry(write(tmp_path)).get("format", str)


def test_a_damaged_file(tmp_path):
    path = write(tmp_path)
    path.write_bytes(b"weightz")
    with pytest.raises(WeightsError, match="SHA-256"):
        find_entry(path)


def test_a_file_that_changes_is_read_again(tmp_path):
    path = write(tmp_path)
    find_entry(path)
    path.write_bytes(b"something longer")
    with pytest.raises(WeightsError, match="SHA-256"):
        find_entry(path)
    write(tmp_path, b"something longer")
    find_entry(path)


def test_a_missing_upstream_file_names_the_command(tmp_path):
    with pytest.raises(WeightsError, match=r"python -m tools\.import_3ddfa"):
        find_entry(tmp_path / "upstream" / "net.onnx")


def test_a_missing_own_file(tmp_path):
    with pytest.raises(WeightsError, match="git checkout"):
        find_entry(tmp_path / "weights" / "net.onnx")


def test_a_file_without_an_entry(tmp_path):
    write(tmp_path)
    (tmp_path / "other.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match="entry"):
        find_entry(tmp_path / "other.onnx")


def test_a_file_of_another_kind(tmp_path):
    with pytest.raises(WeightsError, match="expected a detector, found a regressor"):
        find_entry(write(tmp_path), "detector")


@pytest.mark.parametrize("values", [{"kind": "toaster"}, {"sha256": None}, {"licence": None}, {"provenance": 3}])
def test_a_bad_table(tmp_path, values):
    with pytest.raises(WeightsError, match=r"manifest\.toml"):
        find_entry(write(tmp_path, **values))


@pytest.mark.parametrize("text", ["file = 3\n", "[net", "\xff"])
def test_a_bad_manifest(tmp_path, text):
    path = write(tmp_path)
    (tmp_path / "manifest.toml").write_text(text, encoding="latin-1")
    with pytest.raises(WeightsError, match=r"manifest\.toml") as caught:
        find_entry(path)
    assert "\n" not in str(caught.value)


def test_no_manifest(tmp_path):
    path = write(tmp_path)
    (tmp_path / "manifest.toml").unlink()
    with pytest.raises(WeightsError, match="manifest"):
        find_entry(path)


def test_relative_paths_are_the_projects_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=str(ROOT)):
        find_entry("weights/no_such_file.onnx")
    write(tmp_path / "weights")
    assert find_entry("weights/net.onnx").name == "net"


def test_shipped_files_are_what_their_manifest_says():
    manifest = ROOT / "weights" / "manifest.toml"
    if not manifest.exists():
        pytest.skip("no weights are shipped yet")
    for entry in load_manifest(manifest).values():
        assert entry.kind in KINDS
        assert find_entry(entry.path).sha256 == entry.sha256
        assert entry.licence
    files = {path.name for path in manifest.parent.iterdir() if path.suffix in (".npz", ".onnx")}
    assert files <= {entry.path.name for entry in load_manifest(manifest).values()}, "each is in the manifest"


DAMAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-30],
    "half": lambda data: data[: len(data) // 2],
    "garbage": lambda data: bytes(range(256)) * 9,
    "zeros inside": lambda data: data[:200] + bytes(200) + data[400:],
    "no archive": lambda data: b"\x93NUMPY\x01\x00" + data,
    "a flipped byte": lambda data: data[:300] + bytes([data[300] ^ 255]) + data[301:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_archive(damage, tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, mean=np.arange(192, dtype=np.float32))
    assert load_arrays(path)["mean"][-1] == 191
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(WeightsError, match=r"arrays\.npz") as caught:
        load_arrays(path)
    assert "\n" not in str(caught.value)


def test_an_archive_of_objects(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, mean=np.array([{}], object))
    with pytest.raises(WeightsError, match=r"arrays\.npz"):
        load_arrays(path)


@pytest.mark.parametrize(
    "text", ["[" * 5000, "[net]\nfile = " + "9" * 5000, '[net]\nfile = "a\\u0000b"\nkind = "regressor"\nsha256 = ""\n']
)
def test_manifests_that_were_made_to_hurt(text, tmp_path):
    path = write(tmp_path)
    if "licence" not in text and "kind" in text:
        text += 'licence = ""\nprovenance = ""\n'
    (tmp_path / "manifest.toml").write_text(text)
    with pytest.raises(WeightsError):
        find_entry(path)
    with pytest.raises(WeightsError):
        for entry in load_manifest(tmp_path / "manifest.toml").values():
            check_sha256(entry)


@pytest.fixture
def project(tmp_path):
    """A copy of the program whose weights may be damaged."""
    for name in ("app.py", "facet", "tracker", "detect", "render"):
        (tmp_path / name).symlink_to(ROOT / name)
    if not (ROOT / "weights" / "manifest.toml").exists():
        pytest.skip("no weights are shipped yet")
    shutil.copytree(ROOT / "weights", tmp_path / "weights", ignore=shutil.ignore_patterns("upstream"))
    return tmp_path


@pytest.mark.parametrize(
    "name", ["appearance.npz", "face_model.npz", "regressor_answers.npz", "regressor.onnx", "detector.onnx"]
)
@pytest.mark.parametrize("damage", ["empty", "half", "a flipped byte"])
def test_every_file_that_is_loaded_is_checked(name, damage, project, monkeypatch):
    path = project / "weights" / name
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    monkeypatch.chdir(project)  # where relative names are looked for first
    monkeypatch.setattr(appearance, "MEAN_FILE", project / "weights" / "appearance.npz")
    appearance.mean_thumbnail.cache_clear()
    with pytest.raises(WeightsError, match=re.escape(name)):
        FaceTracker.open(open_detector())
    appearance.mean_thumbnail.cache_clear()


def test_a_networks_own_face_model_is_checked_where_another_is_drawn(project, monkeypatch):
    other = project / "other"
    other.mkdir()
    for name in ("face_model.npz", "manifest.toml"):
        shutil.copy(project / "weights" / name, other / name)
    path = project / "weights" / "face_model.npz"
    path.write_bytes(DAMAGE["a flipped byte"](path.read_bytes()))
    monkeypatch.chdir(project)
    with pytest.raises(WeightsError, match="SHA-256"):
        FaceTracker.open(open_detector(), RegressorConfig(mesh="other/face_model.npz"))


def test_a_damaged_file_is_one_line_of_the_program(tmp_path):
    """The threads that load it, too, are silent."""
    for name in ("app.py", "facet", "tracker", "detect", "render"):
        copy = shutil.copy if name == "app.py" else shutil.copytree
        copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "weights", tmp_path / "weights", ignore=shutil.ignore_patterns("upstream"))
    (tmp_path / "weights" / "appearance.npz").write_bytes(b"PK\x03\x04 no more")
    done = subprocess.run(
        [sys.executable, "app.py", "-f", ROOT / "samples" / "demo.mp4", "--log", "log.jsonl"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert_one_line(done, 1, "appearance.npz", "SHA-256")
    assert not (tmp_path / "log.jsonl").exists()
