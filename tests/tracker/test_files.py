"""Output files: temporary names, final names, and outputs that are refused."""

import errno
import os
import stat
import sys

import pytest

from facet.tracker.errors import ConfigError, SinkError
from facet.tracker.files import check_targets, discard, file_name, make_partial, new_file, publish, same_file

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")


@pytest.mark.parametrize("name", ["out.mp4", "o" * 251 + ".mp4", "é" * 125 + ".mp4", "a.b.jsonl", "-o.png", "none"])
def test_a_temporary_file_is_new_hidden_and_short(tmp_path, name):
    target = tmp_path / name
    first, second = make_partial(target), make_partial(target)
    assert first != second and first.parent == tmp_path
    for path in (first, second):
        assert path.name.startswith(".facet-") and path.name.endswith(f".partial{target.suffix}")
        assert len(os.fsencode(path.name)) < 40
        assert path.read_bytes() == b""
    first.write_bytes(b"complete")
    publish(first, target)
    discard(second)
    assert os.listdir(tmp_path) == [name]
    assert target.read_bytes() == b"complete"


def test_a_name_that_is_taken_is_not_opened(tmp_path, monkeypatch):
    """Neither a file nor a symbolic link of the random name: the next one is tried."""
    numbers = iter([b"\0" * 6, b"\1" * 6, b"\2" * 6])
    monkeypatch.setattr(os, "urandom", lambda count: next(numbers))
    (tmp_path / ".facet-000000000000.partial.mp4").write_bytes(b"mine")
    links = sys.platform != "win32"
    if links:
        (tmp_path / ".facet-010101010101.partial.mp4").symlink_to(tmp_path / "elsewhere")
    partial = make_partial(tmp_path / "x.mp4")
    assert partial.name == f".facet-{'020202020202' if links else '010101010101'}.partial.mp4"
    assert (tmp_path / ".facet-000000000000.partial.mp4").read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        with new_file(tmp_path / "out.txt") as partial:
            partial.write_bytes(b"x")
        (tmp_path / "plain.txt").write_bytes(b"x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out.txt", "plain.txt")]
    assert modes == [0o666 & ~mask] * 2


def test_what_cannot_be_made_is_an_error_at_once(tmp_path):
    with pytest.raises(SinkError, match="make the folder first"):
        make_partial(tmp_path / "none" / "x.mp4")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError, match="cannot be written"):
        make_partial(tmp_path / "file" / "x.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(SinkError, match="found a folder"):
        make_partial(tmp_path / "folder.mp4")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.mp4"]


@posix
def test_pipes_and_devices_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "null.mp4").symlink_to(os.devnull)
    for name in ("pipe.mp4", "null.mp4"):
        with pytest.raises(SinkError, match="a device or a pipe"):
            make_partial(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["null.mp4", "pipe.mp4"]


def test_a_file_that_cannot_get_its_name_is_kept_and_named(tmp_path):
    target = tmp_path / "out.mp4"
    partial = make_partial(target)
    partial.write_bytes(b"hours of work")
    target.mkdir()  # stands in the way
    with pytest.raises(SinkError, match="holds the complete file") as error:
        publish(partial, target)
    assert str(partial) in str(error.value)
    assert partial.read_bytes() == b"hours of work"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.EBUSY, errno.EXDEV])
@pytest.mark.parametrize("replace", [True, False])
def test_every_reason_of_a_rename_keeps_the_file(tmp_path, monkeypatch, code, replace):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", fail)
    target = tmp_path / "out.mp4"
    with pytest.raises(SinkError, match="holds the complete file"), new_file(target, replace=replace) as partial:
        partial.write_bytes(b"work")
    assert os.listdir(tmp_path) == [partial.name]
    assert partial.read_bytes() == b"work"


def test_a_file_that_is_not_to_be_replaced(tmp_path):
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError), new_file(tmp_path / "a.png", replace=False) as partial:
        partial.write_bytes(b"new")
    if sys.platform != "win32":
        (tmp_path / "b.png").symlink_to(tmp_path / "nowhere")
        with pytest.raises(FileExistsError), new_file(tmp_path / "b.png", replace=False):
            pass
        assert os.readlink(tmp_path / "b.png") == str(tmp_path / "nowhere")
        (tmp_path / "b.png").unlink()
    with new_file(tmp_path / "c.png", replace=False) as partial:
        partial.write_bytes(b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.png": b"mine", "c.png": b"new"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()])
def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path, error):
    (tmp_path / "a.json").write_bytes(b"old")
    kind = SinkError if isinstance(error, OSError) else type(error)
    with pytest.raises(kind), new_file(tmp_path / "a.json") as partial:
        partial.write_bytes(b"half")
        raise error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.json": b"old"}


@pytest.mark.parametrize(
    ("stem", "ending", "expected"),
    [
        ("a", ".png", "a.png"),
        ("a" * 251, ".png", "a" * 251 + ".png"),
        ("a" * 252, ".png", "a" * 251 + ".png"),
        ("é" * 126, ".png", "é" * 125 + ".png"),
        ("a" * 251, "_depth.png", "a" * 245 + "_depth.png"),
    ],
)
def test_names_that_file_systems_take(stem, ending, expected):
    assert file_name(stem, ending) == expected


def test_inputs_are_never_replaced(tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"film")
    os.link(clip, tmp_path / "hard.mp4")
    names = [clip, tmp_path / "hard.mp4", tmp_path / "." / "clip.mp4"]
    if sys.platform != "win32":
        (tmp_path / "soft.mp4").symlink_to(clip)
        names.append(tmp_path / "soft.mp4")
    for name in names:
        assert same_file(name, clip)
        with pytest.raises(ConfigError, match=r"would replace the input .*clip\.mp4"):
            check_targets({"-o": name}, inputs=["camera 0", str(clip)])
        with pytest.raises(ConfigError, match=r"would replace the input .*clip\.mp4"):
            check_targets({}, [tmp_path / "new.png", name], inputs=[clip])
    with clip.open("rb") as file, pytest.raises(ConfigError, match="would replace the input"):
        check_targets({"-o": clip}, inputs=[file.fileno()])
    check_targets({"-o": tmp_path / "other.mp4"}, [tmp_path / "new.png"], inputs=[clip, "http://host/\0", -1])
    assert not same_file(tmp_path / "none", tmp_path / "none")


def test_two_outputs_are_two_files(tmp_path):
    (tmp_path / "a.json").write_bytes(b"")
    os.link(tmp_path / "a.json", tmp_path / "b.jsonl")
    for second in ("a.json", "A.json", "b.jsonl"):
        with pytest.raises(ConfigError, match=r"--log .* is the file of --profile"):
            check_targets({"--profile": tmp_path / "a.json", "--log": tmp_path / second})
    check_targets({"--profile": tmp_path / "a.json", "--log": tmp_path / "c.json"})


def test_files_that_nobody_named_are_never_replaced(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"a\.png and 1 more outputs exist .*; name another folder, or delete"):
        check_targets({}, [tmp_path / name for name in ("a.png", "b.png", "c.png")])
    check_targets({}, [tmp_path / "c.png"])
