"""Opens what frames come from: a camera, a video, images, a network stream, raw frames on stdin.

What a URL is gets decided by what the server says before the body: a picture is an image, something of known length
is a video file, everything else (multipart MJPEG, rtsp, an endless body) is a live stream. A playlist (.m3u8) is a
file when it says that it has an end.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable

import numpy as np

from facet.tracker.address import redacted
from facet.tracker.errors import SourceError
from facet.tracker.sources.base import Picture, Source, SourceConfig, refuse_start
from facet.tracker.sources.images import ImageFiles, decode_image, is_image_file, is_image_name, open_images
from facet.tracker.sources.live import Camera, list_cameras, open_camera, open_raw

__all__ = ["Camera", "Source", "SourceConfig", "list_cameras", "open_source"]

MOTION_JPEG = (".mjpeg", ".mjpg")  # begins as an image does
LARGEST_IMAGE, LARGEST_PLAYLIST = 1 << 28, 1 << 24  # bytes of what is read whole


def open_source(
    spec: str | int,
    config: SourceConfig = SourceConfig(),
    *,
    start_s: float = 0.0,
    max_frames: int | None = None,
    live: bool | None = None,
    capture_factory: Callable | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Source:
    """Open a source of frames and read its first one.

    Parameters
    ----------
    spec : camera index, path of a video or image, folder or glob of images, glob of one video, URL, or "-" for raw BGR
        on stdin; the name of a file or folder that exists is not taken for a glob
    config : settings of the source
    start_s : a video begins with the first frame at or after this time
    max_frames : no more frames than this
    live : of a URL: whether to keep the newest frame only; None decides by what the server says
    capture_factory : what opens a camera, cv2.VideoCapture unless given; takes the index
    notify : gets one line when a camera or stream was lost and is tried again; may be called from another thread

    Returns
    -------
    Source
        An iterator of `tracker.types.Frame` and a context manager.

    Raises
    ------
    SourceError
        Where nothing can be read from it; one line that says why.
    """
    if isinstance(spec, int):
        refuse_start(start_s, f"camera {spec}")
        return open_camera(spec, config, max_frames, capture_factory, notify)
    if spec.startswith("/dev/") and (device := re.fullmatch(r"/dev/video(\d+)", os.path.realpath(spec))):
        refuse_start(start_s, spec)
        return open_camera(int(device[1]), config, max_frames, capture_factory, notify)
    if spec == "-":
        return open_raw(config, start_s, max_frames)
    scheme, separator, _ = spec.partition("://")
    if separator:
        return _open_url(spec, scheme.lower(), config, start_s, max_frames, live, notify)
    if os.path.isdir(spec):
        return open_images(spec, start_s, max_frames, config)
    if os.path.isfile(spec):
        if not os.access(spec, os.R_OK):
            raise SourceError(f"{spec}: cannot be read (permission denied)")
        if os.path.getsize(spec) == 0:
            raise SourceError(f"{spec}: expected a video or an image, found an empty file")
        if is_image_name(spec) or (is_image_file(spec) and not spec.lower().endswith(MOTION_JPEG)):
            return open_images(spec, start_s, max_frames, config)
        return _open_video(spec, start_s, max_frames)
    if glob.has_magic(spec):
        found = sorted(filter(os.path.isfile, glob.glob(spec, recursive=True)))
        if found and not any(map(is_image_name, found)):
            if len(found) > 1:
                raise SourceError(
                    f"{spec}: expected images or one video, found {len(found)} other files;"
                    f" track many videos by python -m tools.batch '{spec}' -o DIR"
                )
            return open_source(found[0], config, start_s=start_s, max_frames=max_frames)
        return open_images(spec, start_s, max_frames, config)
    if os.path.exists(spec):
        raise SourceError(f"{spec}: expected a file or folder, found something else; raw frames go to stdin, with -f -")
    raise SourceError(f"{spec}: expected a file, a folder or a URL, found none; check the name and the working folder")


def _open_url(url: str, scheme: str, config: SourceConfig, start_s, max_frames, live: bool | None, notify) -> Source:
    if scheme not in ("http", "https", "rtsp", "rtsps"):
        raise SourceError(f"{redacted(url)}: expected http, https or rtsp, found {scheme}")
    # Here, because they take 70 ms of the start and few sources are addresses.
    from facet.tracker.sources.fetch import Request
    from facet.tracker.sources.stream import open_stream

    url = scheme + url[len(scheme) :]
    what, request = "stream", None
    if scheme in ("http", "https"):
        request = Request(url, config.stall_s)
        what, data = _probe(request, url, config.stall_s)
        if what == "image":
            refuse_start(start_s, request.name)
            notes: list[str] = []
            image = decode_image(data, request.name, config.max_megapixels, notes)
            return _RemoteImage(url, image, notes, max_frames)
        if what.startswith("file") and live is not True:
            request.abort()
            try:
                return _open_video(url, start_s, max_frames, config.stall_s)
            except SourceError as error:
                if what == "file":
                    raise
                # An index at the end of the file cannot be reached then.
                remedy = "the server sends files from their beginning only; download it first"
                raise SourceError(f"{error} Or {remedy}") from error
    refuse_start(start_s, redacted(url))
    playlist = what == "playlist"
    return open_stream(url, config, max_frames, live is not False, None if playlist else request, playlist, notify)


def _open_video(*arguments) -> Source:
    from facet.tracker.sources.video import VideoFile  # here, because its library takes 50 ms to load

    return VideoFile(*arguments)


class _RemoteImage(ImageFiles):
    """One image that was fetched from a server."""

    def __init__(self, url: str, image: np.ndarray, notes: list[str], max_frames: int | None):
        super().__init__(url, [], max_frames)
        self.notes = notes
        self.frame_count_hint = 1
        self.size_wh = image.shape[1], image.shape[0]
        self._ahead = Picture(image, 0.0, self.name, first=True)


def _probe(request, url: str, timeout_s: float) -> tuple[str, bytes]:
    """Ask a server what it has: "file", "file from its beginning", "stream", "playlist", or "image" and its bytes."""

    def ask() -> tuple[str, bytes]:
        headers = request.open().headers
        kind = headers.get_content_type()
        if kind.startswith("image/"):
            return "image", request.read_all(LARGEST_IMAGE)
        if "mpegurl" in kind or url.partition("?")[0].endswith(".m3u8"):
            text = request.read_all(LARGEST_PLAYLIST)
            # A master playlist only names others, as films and broadcasts both do: taken for a broadcast.
            return ("file" if b"#EXT-X-ENDLIST" in text else "playlist"), b""
        if headers.get("Content-Length") is None or kind.startswith("multipart/"):
            return "stream", b""
        parts = headers.get("Accept-Ranges") == "bytes"
        return ("file" if parts else "file from its beginning"), b""

    try:
        return request.within(timeout_s, ask)
    except BaseException:
        request.abort()
        raise
