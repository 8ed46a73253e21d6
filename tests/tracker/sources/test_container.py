"""Whole files and cut ones, in the containers that videos come in."""

import pytest

from facet.tracker.sources.container import ends_early
from tests.clips import ffmpeg, make_clip

OPTIONS = {
    "mp4": (), "faststart.mp4": ("-movflags", "+faststart"), "fragments.mp4": ("-movflags", "frag_keyframe+empty_moov"),
    "mov": (), "mkv": (), "webm": ("-c:v", "libvpx", "-b:v", "200k"), "avi": ("-c:v", "mjpeg"),
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 40)


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_cut_file_differs_from_a_whole_one(clip, tmp_path, kind):
    path = tmp_path / f"clip.{kind}"
    ffmpeg("-i", clip, *(OPTIONS[kind] or ("-c", "copy")), path)
    assert not ends_early(path)
    data = path.read_bytes()
    for share in (0.5, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        # what is left may end with a whole fragment; then nothing shows it
        assert ends_early(path) or kind == "fragments.mp4"
    path.write_bytes(data + bytes(100))
    assert not ends_early(path)


def test_a_trimmed_file_is_whole(clip, tmp_path):
    """Players skip most of its frames: they are there for the first one that is shown."""
    path = tmp_path / "trimmed.mp4"
    ffmpeg("-ss", "0.7", "-i", clip, "-c", "copy", path)
    assert not ends_early(path)


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"\x1aE\xdf\xa3", b"\x1aE\xdf\xa3\x00", b"no video at all", b"\x00" * 80]
)
def test_what_is_no_container_ends_where_it_ends(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert not ends_early(path)


def test_a_stream_whose_length_nobody_knew_is_whole(clip, tmp_path):
    data = ffmpeg("-i", clip, "-c", "copy", "-f", "matroska", "-").stdout
    path = tmp_path / "live.mkv"
    path.write_bytes(data[: len(data) * 2 // 3])
    assert not ends_early(path)


def test_a_file_that_is_not_there_is_not_judged(tmp_path):
    assert not ends_early(tmp_path / "nowhere.mp4") and not ends_early("http://localhost/video.mp4")
