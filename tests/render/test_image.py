"""Pictures written: names, depth maps, and what is refused."""

import os

import cv2
import numpy as np
import pytest

from render.image import ImageSink
from tracker.errors import SinkError
from tracker.types import Frame

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
    assert names == ["a.jpg", "a.png", "a-2.png", "A-3.png", "b.png", "b_depth-2.png", "c.jpg", "d.png"]
    assert len({name.lower() for name in os.listdir(folder)}) == len(os.listdir(folder))


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
    ],
)
def test_what_cannot_be_written_is_refused_at_once(tmp_path, name, message):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SinkError, match=message):
        ImageSink(tmp_path / name)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(tmp_path):
    (tmp_path / "out.partial.png").symlink_to("/dev/full")
    with ImageSink(tmp_path / "out.png") as sink, pytest.raises(SinkError, match="No space left on device"):
        sink.write(PICTURE, frame())
    assert os.listdir(tmp_path) == []
