import hashlib

import pytest

from tests.conftest import ROOT
from tracker.errors import WeightsError
from tracker.weights import KINDS, find_entry, load_manifest

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
    with pytest.raises(WeightsError, match=r"dialect.*found nothing"):
        find_entry(write(tmp_path)).get("dialect", str)


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
