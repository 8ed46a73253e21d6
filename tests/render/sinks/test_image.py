"""Pictures written: names, depth maps, and what is refused."""

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from facet.render.sinks.image import ImageSink, folder_targets, frame_targets
from facet.tracker.errors import SinkError
from facet.tracker.types import Frame

PICTURE = np.full((4, 6, 3), (10, 120, 240), np.uint8)


def frame(source="", index=0):
    return Frame(index, 0.0, PICTURE, source=str(source), first=True)


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.JPEG"])
def test_one_picture(tmp_path, name):
    with ImageSink(tmp_path / name) as sink:
        assert sink.write(PICTURE, frame("in.jpg")) == tmp_path / name
    read = cv2.imread(str(tmp_path / name))
    assert np.abs(read.astype(int) - PICTURE).max() <= 3
    assert os.listdir(tmp_path) == [name] and sink.frames == 1


@pytest.mark.parametrize("name", ["out.png", "out.jpg"])
def test_a_depth_map_stands_beside(tmp_path, name):
    depth = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2700
    with ImageSink(tmp_path / name) as sink:
        sink.write(PICTURE, frame(), depth)
    assert sorted(os.listdir(tmp_path)) == sorted([name, "out_depth.png"])
    assert np.array_equal(cv2.imread(str(tmp_path / "out_depth.png"), cv2.IMREAD_UNCHANGED), depth)


def test_a_folder_is_made_and_names_do_not_collide(tmp_path):
    sources = ["x/a.jpg", "x/a.png", "y/a.png", "x/A.PNG", "x/b.webp", "x/b_depth.png", "http://host/c.jpg", "d"]
    folder = tmp_path / "new" / "folder"
    with ImageSink(folder) as sink:
        names = [sink.write(PICTURE, frame(source), np.zeros((4, 6), np.uint16)).name for source in sources]
    assert names == ["a.jpg", "a-2.png", "a-3.png", "A-4.png", "b.png", "b_depth-2.png", "c.jpg", "d.png"]
    assert len({name.lower() for name in os.listdir(folder)}) == 2 * len(names)


def test_names_without_depth_maps(tmp_path):
    with ImageSink(tmp_path) as sink:
        names = [sink.write(PICTURE, frame(source)).name for source in ("x/a.jpg", "x/a.png", "y/a.bmp", "x/A.PNG")]
    assert names == ["a.jpg", "a.png", "a-2.png", "A-3.png"]


def test_no_file_of_a_folder_is_replaced(tmp_path):
    mine = {name: name.encode() for name in ("a.png", "a-2.png", "b_depth.png", "clip_000000.png")}
    for name, data in mine.items():
        (tmp_path / name).write_bytes(data)
    depth = np.zeros((4, 6), np.uint16)
    with ImageSink(tmp_path) as sink:
        names = [sink.write(PICTURE, frame("x/a.png")).name, sink.write(PICTURE, frame("x/b.png"), depth).name]
    with ImageSink(tmp_path, numbered=True) as sink:
        names.append(sink.write(PICTURE, frame("clip.mp4")).name)
    assert names == ["a-3.png", "b-2.png", "clip_000000-2.png"]
    assert sorted(os.listdir(tmp_path)) == sorted([*mine, *names, "b-2_depth.png"])
    assert all((tmp_path / name).read_bytes() == data for name, data in mine.items())


def test_the_depth_map_of_a_named_file_is_replaced_as_that_is(tmp_path):
    for value in (1, 2):
        with ImageSink(tmp_path / "out.png") as sink:
            sink.write(PICTURE, frame(), np.full((4, 6), value, np.uint16))
        assert (cv2.imread(str(tmp_path / "out_depth.png"), cv2.IMREAD_UNCHANGED) == value).all()
    assert sorted(os.listdir(tmp_path)) == ["out.png", "out_depth.png"]


def test_a_depth_map_does_not_replace_the_input(tmp_path):
    (tmp_path / "out_depth.png").write_bytes(b"mine")
    source = str(tmp_path / "out_depth.png")
    with ImageSink(tmp_path / "out.png") as sink, pytest.raises(SinkError, match="would replace the input"):
        sink.write(PICTURE, frame(source), np.zeros((4, 6), np.uint16))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out_depth.png": b"mine"}


def test_two_runs_into_one_folder(tmp_path, monkeypatch):
    """A file that another program makes between the choice of a name and the end is not replaced."""
    known = os.path.lexists
    with ImageSink(tmp_path) as sink:
        (tmp_path / "a.png").write_bytes(b"theirs")
        monkeypatch.setattr(os.path, "lexists", lambda path: str(path) != str(tmp_path / "a.png") and known(path))
        assert sink.write(PICTURE, frame("a.png")).name == "a-2.png"
    assert (tmp_path / "a.png").read_bytes() == b"theirs"
    assert sorted(os.listdir(tmp_path)) == ["a-2.png", "a.png"]


def test_the_longest_names(tmp_path):
    source = "x/" + "n" * 251 + ".png"
    with ImageSink(tmp_path) as sink:
        for _ in range(2):
            sink.write(PICTURE, frame(source), np.zeros((4, 6), np.uint16))
    with ImageSink(tmp_path, numbered=True) as sink:
        sink.write(PICTURE, frame(source, 7))
    ends = {name.lstrip("n"): len(name) for name in os.listdir(tmp_path)}
    assert ends == dict.fromkeys([".png", "_depth.png", "-2.png", "-2_depth.png", "_000007.png"], 255)


def test_files_that_a_folder_will_hold(tmp_path):
    sources = ["x/a.jpg", "x/a.png", "y/a.png", "z/b.webp"]
    for with_depth in (False, True):
        folder = tmp_path / str(with_depth)
        with ImageSink(folder) as sink:
            for source in sources:
                sink.write(PICTURE, frame(source), np.zeros((4, 6), np.uint16) if with_depth else None)
        assert sorted(folder_targets(folder, sources, with_depth)) == sorted(folder.iterdir())
    folder = tmp_path / "frames"
    assert frame_targets(folder, "a [1].mp4") == []
    with ImageSink(folder, numbered=True) as sink:
        for index in (0, 1234567):
            sink.write(PICTURE, frame("a [1].mp4", index))
    frames = sorted(folder.iterdir())
    for name in ("a [1].png", "a [1]_12.png", "b [1]_000000.png", "a [1]_000000.jpg", "a 1_000000.png"):
        (folder / name).write_bytes(b"")
    assert sorted(frame_targets(folder, "a [1].mp4")) == frames

def test_frames_of_a_video_are_numbered(tmp_path):
    with ImageSink(tmp_path, numbered=True) as sink:
        for index in range(3):
            sink.write(PICTURE, frame("clip.mp4", index))
    assert sorted(os.listdir(tmp_path)) == ["clip_000000.png", "clip_000001.png", "clip_000002.png"]


def test_an_input_is_never_replaced(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    before = (tmp_path / "a.png").read_bytes()
    for target in (tmp_path / "a.png", tmp_path):
        with ImageSink(target) as sink, pytest.raises(SinkError, match="would replace the input"):
            sink.write(PICTURE, frame(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_second_picture_under_one_name(tmp_path):
    with ImageSink(tmp_path / "out.png") as sink:
        sink.write(PICTURE, frame("a.png"))
        with pytest.raises(SinkError, match="name a folder"):
            sink.write(PICTURE, frame("b.png", 1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.gif", r"expected a name ending in .* found \.gif"),
        ("missing/out.png", "make the folder first"),
        ("file/x", "cannot be written"),
        ("file", "expected a folder, .* found a file"),
        ("folder.png/x.png", "make the folder first"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(tmp_path, name, message):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SinkError, match=message):
        ImageSink(tmp_path / name)


def test_a_full_disk(tmp_path, monkeypatch):
    def write(path, data, known=Path.write_bytes):
        known(path, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write)
    with ImageSink(tmp_path / "out.png") as sink, pytest.raises(SinkError, match="No space left on device"):
        sink.write(PICTURE, frame())
    assert os.listdir(tmp_path) == []


def test_a_picture_too_large_for_jpeg_is_refused(tmp_path):
    line = r"at most 65500 px each way for this format, found 65501 x 1; write a \.png"
    with ImageSink(tmp_path / "wide.jpg") as sink, pytest.raises(SinkError, match=line):
        sink.write(np.zeros((1, 65_501, 3), np.uint8), frame())
    with ImageSink(tmp_path / "wide.png") as sink:
        sink.write(np.zeros((1, 65_501, 3), np.uint8), frame())
    assert os.listdir(tmp_path) == ["wide.png"]


@pytest.mark.parametrize("size_wh", [(1_000_001, 1), (1, 1_000_001)])
def test_a_picture_too_large_for_png_is_one_line(tmp_path, size_wh):
    with ImageSink(tmp_path / "long.png") as sink, pytest.raises(SinkError, match="at most 1000000 px"):
        sink.write(np.zeros((size_wh[1], size_wh[0], 3), np.uint8), frame())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["large.png", "large.jpg", os.fsdecode(b"caf\xe9.png")])
def test_a_large_picture_is_encoded_on_its_way_to_the_disk(tmp_path, monkeypatch, name):
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    with ImageSink(tmp_path / "small") as sink:
        expected = sink.write(picture, frame(name)).read_bytes()
    monkeypatch.setattr("facet.render.sinks.image.LARGE_BYTES", 0)
    with ImageSink(tmp_path / "large") as sink:
        assert sink.write(picture, frame(name)).read_bytes() == expected
