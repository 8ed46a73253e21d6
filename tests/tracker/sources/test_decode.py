"""Kinds of video files, each held against what ffmpeg's own program makes of it, or against how the file was made."""

import itertools
import os
from fractions import Fraction

import numpy as np
import pytest

from facet.tracker.errors import SourceError
from facet.tracker.sources import open_source
from tests.clips import HEIGHT, WIDTH, ffmpeg, make_clip, number_of
from tests.conftest import material

long = pytest.mark.long  # members of a kind of which another one is always tested
MOVING = "testsrc2=s={size}:r=50:d=0.4"  # two fields of one frame differ


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def clip(clips):
    return make_clip(clips / "clip.mp4", 40)


def read(path, **options):
    with open_source(str(path), **options) as source:
        return source, list(source)


def times(frames):
    return [frame.time_s for frame in frames]


def numbers(frames):
    return [number_of(frame.image) for frame in frames]


def by_ffmpeg(path, size_wh, *options):
    """(n, H, W, 3) uint8, BGR: the frames as ffmpeg's program gives them."""
    exact = ["-sws_flags", "bicubic", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "bgr24", "-"]
    data = ffmpeg("-i", path, *options, "-map", "0:v:0", *exact).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, size_wh[1], size_wh[0], 3)


def apart(images, others):
    """Mean absolute difference of two sets of images, of 255."""
    assert len(images) == len(others)
    return np.abs(np.stack(images).astype(int) - others).mean()


def images_of(frames):
    return [frame.image for frame in frames]


# Orientation and shape of the pixels


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [(), ("-display_hflip",), ("-display_vflip",)])
@pytest.mark.parametrize("suffix", [".mp4", pytest.param(".mov", marks=long), ".mkv"])
def test_display_matrix(clip, clips, turn_deg, flip, suffix):
    if suffix == ".mkv" and flip:
        pytest.skip("Matroska holds no mirroring")
    path = clips / f"turned{turn_deg}{''.join(flip)}{suffix}"
    ffmpeg("-display_rotation", turn_deg, *flip, "-i", clip, "-c", "copy", path)
    source, frames = read(path, max_frames=2)
    assert source.size_wh == ((HEIGHT, WIDTH) if turn_deg in (90, 270) else (WIDTH, HEIGHT))
    assert apart(images_of(frames), by_ffmpeg(path, source.size_wh, "-frames:v", 2)) < 0.5


def test_a_mirrored_video():
    path = material("cases", "mirrored.mp4")
    source, frames = read(path)
    assert len(frames) == 32
    assert apart(images_of(frames), by_ffmpeg(path, source.size_wh)) < 0.5


@pytest.mark.parametrize(
    ("aspect", "width"), [("4/3", 171), ("8/9", 114), ("1/1", 128), ("16/15", 137), ("0/1", 128), ("1/1000", 128)]
)
@pytest.mark.parametrize("suffix", [".mp4", *(pytest.param(suffix, marks=long) for suffix in (".mkv", ".ts"))])
def test_pixels_become_square(clip, clips, aspect, width, suffix):
    path = clips / f"aspect{aspect.replace('/', '-')}{suffix}"
    ffmpeg("-i", clip, "-vf", f"setsar={aspect}", "-c:v", "libx264", path)
    source, frames = read(path)
    assert source.size_wh == (width, HEIGHT) and len(frames) == 40
    scaled = by_ffmpeg(path, source.size_wh, "-vf", f"scale={width}:{HEIGHT}")
    assert apart(images_of(frames), scaled) < 3
    if suffix == ".mp4":
        turned = clips / f"turned-{path.name}"
        ffmpeg("-display_rotation", 90, "-i", path, "-c", "copy", turned)
        assert read(turned)[0].size_wh == (HEIGHT, width)


# Interlaced video

INTERLACED = {
    "mpeg2.ts": ("720x576", "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", 2),
    "mpeg2.vob": ("720x576", "-f", "vob", "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", 2),
    "h264.mp4": ("320x240", "-c:v", "libx264", "-flags", "+ildct+ilme", "-qp", 10),
    "h264.ts": ("320x240", "-c:v", "libx264", "-flags", "+ildct+ilme", "-qp", 10),
    "dv.dv": ("720x576", "-c:v", "dvvideo", "-pix_fmt", "yuv420p"),
    "dv.avi": ("720x576", "-c:v", "dvvideo", "-pix_fmt", "yuv420p"),
    "prores.mov": ("320x240", "-c:v", "prores_ks", "-flags", "+ildct+ilme", "-pix_fmt", "yuv422p10le"),
    "mpeg4.avi": ("320x240", "-c:v", "mpeg4", "-flags", "+ildct+ilme", "-q:v", 2),
    "ffv1.mkv": ("320x240", "-c:v", "ffv1", "-flags", "+ildct"),
}


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_video_is_deinterlaced(clips, name):
    """As ffmpeg does it where the frames are flagged; never black, none lost."""
    size, *options = INTERLACED[name]
    path = clips / name
    fields = "tinterlace=interleave_top,fieldorder=bff,setfield=bff" if "dv" in name else "tinterlace=interleave_top"
    ffmpeg("-f", "lavfi", "-i", MOVING.format(size=size), "-vf", f"{fields},format=yuv420p", "-r", 25, *options, path)
    source, frames = read(path)
    square = f"scale={source.size_wh[0]}:{source.size_wh[1]}"
    expected = by_ffmpeg(path, source.size_wh, "-vf", f"bwdif=send_frame:deint=interlaced,{square}")
    combed = by_ffmpeg(path, source.size_wh, "-vf", square)
    assert source.fps == 25
    assert len(frames) == 10 and times(frames) == pytest.approx([n / 25 for n in range(10)], abs=1e-3)
    assert apart(images_of(frames), expected) < 2
    if apart(expected, combed) > 3:  # else the format holds no flag
        assert apart(images_of(frames), combed) > 3


def test_a_video_that_is_merely_flagged_interlaced():
    path = material("cases", "interlaced.mp4")
    source, frames = read(path)
    expected = by_ffmpeg(path, source.size_wh, "-vf", "bwdif=send_frame")
    assert len(frames) == 50 and apart(images_of(frames), expected) < 1 and expected.mean() > 50


# Which stream, which format


def test_the_default_video_of_several(clip, clips):
    path = clips / "several.mkv"
    other = ["-f", "lavfi", "-i", "color=red:s=64x64:r=30:d=1"]
    default = ["-disposition:v:0", "0", "-disposition:v:1", "default"]
    ffmpeg(*other, "-i", clip, "-map", "0:v", "-map", "1:v", "-c:v", "libx264", *default, path)
    source, frames = read(path)
    assert source.size_wh == (WIDTH, HEIGHT) and numbers(frames) == list(range(40))


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".flac", ".mka"])
def test_a_cover_is_no_video(clips, suffix):
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", 1, clips / "cover.png")
    path = clips / f"song{suffix}"
    sound = ["-f", "lavfi", "-i", "sine=d=1"]
    if suffix == ".mka":
        ffmpeg(*sound, "-attach", clips / "cover.png", "-metadata:s:t", "mimetype=image/png", path)
    else:
        cover = ["-i", clips / "cover.png", "-map", 0, "-map", 1, "-c:v", "png", "-disposition:v:0", "attached_pic"]
        ffmpeg(*sound, *cover, path)
    with pytest.raises(SourceError, match=r"found only sound: the file has no video"):
        open_source(str(path))


@pytest.mark.parametrize("encoder", ["libsvtav1", "libx265", "libvpx-vp9", "mpeg4", "mjpeg", "prores_ks", "ffv1"])
def test_codecs(clip, clips, encoder):
    path = clips / f"{encoder}.mkv"
    ffmpeg("-i", clip, "-c:v", encoder, *(["-preset", 12] if encoder == "libsvtav1" else []), "-an", path)
    assert numbers(read(path)[1]) == list(range(40))


@pytest.mark.parametrize(
    ("pixels", "encoder"),
    [
        *[(name, "ffv1") for name in ("yuv420p", "yuv422p10le", "yuv444p", "yuv444p12le", "yuva420p", "bgra", "gbrp")],
        *[(name, "ffv1") for name in ("gbrp10le", "yuva444p10le", "bgr0")],
        *[("yuva444p10le", "prores_ks"), ("argb", "qtrle"), ("yuv420p10le", "libx265"), ("rgb24", "rawvideo")],
        *[("yuyv422", "rawvideo"), ("uyvy422", "rawvideo"), ("yuv410p", "rawvideo")],
    ],
)
def test_formats_of_pixels(clips, pixels, encoder):
    path = clips / f"{pixels}-{encoder}.{'nut' if encoder == 'rawvideo' else 'mov' if encoder == 'qtrle' else 'mkv'}"
    ffmpeg("-f", "lavfi", "-i", "color=0x3060C0:s=64x48:d=0.1", "-pix_fmt", pixels, "-c:v", encoder, path)
    _, frames = read(path)
    assert np.abs(frames[0].image.reshape(-1, 3).astype(int) - (0xC0, 0x60, 0x30)).max() <= 4


def test_transparency_shows_white(clips):
    path = clips / "half.mov"
    ffmpeg("-f", "lavfi", "-i", "color=black@0.5:s=64x48:d=0.1,format=argb", "-c:v", "qtrle", path)
    assert np.abs(read(path)[1][0].image.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("height", [480, 720])
@pytest.mark.parametrize("tag", ["", "bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("span", ["tv", "pc"])
def test_matrix_and_range_of_colours(clips, height, tag, span):
    """Untagged video is BT.709 from 720 lines on, BT.601 below; a tag is followed."""
    path = clips / f"{height}{tag}{span}.mkv"
    matrix = tag or ("bt709" if height == 720 else "smpte170m")
    name = {"smpte170m": "bt601", "bt2020nc": "bt2020"}.get(matrix, matrix)
    made = f"scale=out_color_matrix={name}:out_range={span},format=yuv444p"
    tags = ["-colorspace", tag or "unknown", "-color_range", span]
    forget = ",setparams=colorspace=unknown" if not tag else ""
    source = f"color=0x2080E0:s=64x{height}:d=0.1,format=gbrp"
    ffmpeg("-f", "lavfi", "-i", source, "-vf", made + forget, "-c:v", "ffv1", *tags, path)
    image = read(path)[1][0].image
    assert np.abs(image.reshape(-1, 3).astype(int) - (0xE0, 0x80, 0x20)).max() <= 3


# Times


@pytest.mark.parametrize(
    ("name", "count", "fps"),
    [
        *[("joined.ts", 120, 30), ("midgop.ts", 60, 30), ("res_change.ts", 45, 30), ("raw30.h264", 60, 30)],
        *[("raw.mjpeg", 30, 25), ("slow500000.mp4", 30, 0.00006)],
    ],
)
def test_odd_clocks(name, count, fps):
    """The frames follow each other as they were filmed, where the clock is set anew and where there is none."""
    source, frames = read(material("cases", name))
    assert source.kind == "video" and len(frames) == count
    assert times(frames) == pytest.approx([n / fps for n in range(count)], rel=1e-6, abs=1e-3)
    assert {frame.image.shape[1::-1] for frame in frames} == {source.size_wh}


@pytest.mark.parametrize("start_s", [0.5, 2.5, 3.5])
def test_a_start_behind_the_place_where_the_clock_is_set_anew(start_s):
    path = material("cases", "joined.ts")
    everything = read(path)[1]
    _, frames = read(path, start_s=start_s)
    first = round(start_s * 30)
    assert times(frames) == times(everything[first:])
    assert np.array_equal(frames[0].image, everything[first].image)


@pytest.mark.parametrize("suffix", [".ts", ".mpg", ".m2ts"])
def test_parts_that_were_joined_byte_by_byte(clip, clips, suffix):
    codec = ["mpeg2video", "-q:v", 2] if suffix == ".mpg" else ["copy"]
    ffmpeg("-i", clip, "-c:v", *codec, clips / f"part{suffix}")
    path = clips / f"joined{suffix}"
    path.write_bytes((clips / f"part{suffix}").read_bytes() * 3)
    _, frames = read(path)
    assert numbers(frames) == list(range(40)) * 3
    assert times(frames) == pytest.approx([n / 30 for n in range(120)], abs=1e-3)


@pytest.mark.parametrize("start_s", [0.0, pytest.param(1.0, marks=long), 4.5])
@pytest.mark.parametrize("bframes", [0, 3])
@pytest.mark.parametrize("suffix", [".avi", ".flv", ".ts", ".mpg", ".mkv", ".mov", ".wmv"])
def test_start_in_every_container(clips, suffix, bframes, start_s):
    """A frame has the same time whether it is reached from the beginning or not."""
    path = clips / f"start{bframes}{suffix}"
    if not path.exists():
        codec = {".mpg": "mpeg2video", ".wmv": "wmv2"}.get(suffix, "libx264")
        options = ["-g", 10, *([] if codec == "wmv2" else ["-bf", bframes]), "-q:v", 2]
        ffmpeg("-i", make_clip(clips / "long.mp4", 180), "-c:v", codec, *options, path)
    _, frames = read(path, start_s=start_s, max_frames=5)
    first = round(start_s * 30)
    assert numbers(frames) == [*range(first, first + 5)]
    assert times(frames) == pytest.approx([n / 30 for n in range(first, first + 5)], abs=1.1e-3)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("fps", ["30", "24000/1001", "50"])
def test_bare_streams_have_their_own_rate(clips, codec, fps):
    path = clips / f"bare{fps.replace('/', '-')}.{'h264' if codec == 'libx264' else 'h265'}"
    ffmpeg("-i", make_clip(clips / "rate.mp4", 30, fps), "-c:v", codec, path)
    source, frames = read(path)
    assert source.fps == pytest.approx(float(Fraction(fps))) and numbers(frames) == list(range(30))
    assert times(frames) == pytest.approx([n / float(Fraction(fps)) for n in range(30)])


def test_moving_jpeg_by_its_name(clip, clips):
    for suffix in (".mjpeg", ".mjpg"):
        path = clips / f"moving{suffix}"
        ffmpeg("-i", clip, "-c:v", "mjpeg", "-q:v", 2, "-f", "mjpeg", path)
        source, frames = read(path)
        assert not source.still and numbers(frames) == list(range(40))


# Damage and odd names


@pytest.mark.parametrize("suffix", [".ts", ".flv", ".mkv", ".mp4", ".avi", ".webm", ".mpg"])
def test_damaged_packets_are_passed_over(clip, clips, suffix):
    """As many frames as ffmpeg's program decodes, their times in order."""
    path = clips / f"damaged{suffix}"
    codec = {".webm": "libvpx", ".mpg": "mpeg1video"}.get(suffix, "libx264")
    ffmpeg("-i", clip, "-vf", "noise=alls=30", "-c:v", codec, "-g", 10, path)
    data, random = bytearray(path.read_bytes()), np.random.default_rng(0)
    for place in (0.3, 0.5, 0.8):
        start = int(place * len(data))
        data[start : start + 200] = random.bytes(200)
    path.write_bytes(data)
    source, frames = read(path)
    assert len(frames) == len(by_ffmpeg(path, source.size_wh)) > 5
    assert all(later > earlier for earlier, later in itertools.pairwise(times(frames)))


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4", ".avi"])
@pytest.mark.parametrize("bframes", [0, 3])
def test_damage_at_the_end_hides_no_frame_before_it(clip, clips, suffix, bframes):
    path = clips / f"end{bframes}{suffix}"
    options = ["-c:v", "libx264", "-bf", bframes, "-g", 10, "-movflags", "+faststart"]
    ffmpeg("-i", clip, "-vf", "noise=alls=30", *options, path)
    data = bytearray(path.read_bytes())
    for cut in (1, 400):
        data = data[:-cut]
        path.write_bytes(data[:-600] + np.random.default_rng(0).bytes(600))
        source, frames = read(path)
        # the damaged frame itself may be among ffmpeg's
        assert len(by_ffmpeg(path, source.size_wh)) - len(frames) in (0, 1) and len(frames) > 5


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize("folder", [b"", b"d\xff"])
def test_names_that_are_no_utf8(clip, tmp_path, folder):
    (tmp_path / os.fsdecode(folder)).mkdir(exist_ok=True)
    path = tmp_path / os.fsdecode(folder) / os.fsdecode(b"caf\xe9 1:2 %d.mp4")
    path.write_bytes(clip.read_bytes())
    assert numbers(read(path)[1]) == list(range(40))
    path.write_bytes(b"no video")
    with pytest.raises(SourceError, match="nothing that can be decoded"):
        open_source(str(path))


def test_descriptions_that_are_no_utf8(clip, clips):
    path = clips / "title.avi"
    ffmpeg("-i", clip, "-c", "copy", "-metadata", "title=caffee", path)
    path.write_bytes(path.read_bytes().replace(b"caffee", b"caf\xe9\xff\xfe"))
    assert len(read(path)[1]) == 40


def test_a_playlist_opens_no_connection(clips):
    path = clips / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/clip.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError):
        open_source(str(path))
