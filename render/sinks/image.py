"""Writes pictures: one file for a still, a folder for many."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.errors import SinkError
from facet.tracker.files import discard, file_name, make_partial, new_file, numbered_ends, same_file
from facet.tracker.types import Frame

SUFFIXES = (".jpg", ".jpeg", ".png")
JPEG_QUALITY = 95
MAX_PX = {".jpg": 65_500, ".jpeg": 65_500, ".png": 1_000_000}  # libjpeg's and libpng's limits, each way
LARGE_BYTES = 1 << 27  # of the pixels of a picture that is encoded on its way to the disk


class ImageSink:
    """Pictures on disk; a context manager. Each gets its name only when it is complete.

    `path` with an image's ending is one file, which replaces one that exists. Without, it is a folder, made where
    absent, and every picture is named after the image it was drawn from: .jpg for a JPEG, .png for all others. Nothing
    in a folder is replaced: a name that is taken, in this run or by a file that exists, gets a number. With `numbered`,
    for the frames of a video, the frame's index goes with the name. A depth map stands beside its picture, as
    name_depth.png; beside the one file it is replaced as that is.

    Attributes
    ----------
    path : file or folder
    frames : how many pictures were written
    """

    def __init__(self, path: Path, numbered: bool = False):
        self.path = Path(path)
        self._numbered = numbered
        self.frames = 0
        self._taken: set[str] = set()
        suffix = self.path.suffix.lower()
        self._is_folder = self.path.is_dir() or suffix == ""
        if not self._is_folder and suffix not in SUFFIXES:
            raise SinkError(f"{path}: expected a name ending in {', '.join(SUFFIXES)}, or a folder, found {suffix}")
        if self._is_folder and self.path.exists() and not self.path.is_dir():
            raise SinkError(f"{path}: expected a folder, or a name ending in {', '.join(SUFFIXES)}, found a file")
        try:
            if self._is_folder:
                self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{path}: the folder cannot be written ({error.strerror or error})") from error
        discard(make_partial(self.path / "picture.png" if self._is_folder else self.path))  # as a trial

    def __enter__(self) -> ImageSink:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def write(self, image: np.ndarray, frame: Frame, depth: np.ndarray | None = None) -> Path:
        """Write a picture, and its depth map where there is one; returns the picture's path.

        Parameters
        ----------
        image : (H, W, 3) uint8, BGR
        frame : what the picture was drawn from; its source gives the name within a folder
        depth : (H, W) uint16

        Raises
        ------
        SinkError
            Where the file would replace its own source, is the second under one name, or cannot be written.
        """
        if not self._is_folder:
            if self.frames:
                raise SinkError(f"{self.path}: expected one picture, found several; name a folder to write them into")
            beside = depth_path(self.path)
            if same_file(self.path, frame.source) or (depth is not None and same_file(beside, frame.source)):
                raise SinkError(f"{self.path}: the output would replace the input; choose another place")
            if depth is not None:
                write_image(beside, depth)
            write_image(self.path, image)
            self.frames += 1
            return self.path
        index = frame.index if self._numbered else None
        for name, depth_name in _names(frame.source, index):
            path, beside = self.path / name, self.path / depth_name
            if same_file(path, frame.source) or same_file(beside, frame.source):
                raise SinkError(f"{path}: the output would replace the input; choose another place")
            wanted = [path] if depth is None else [path, beside]
            # file systems may take a.png and A.png for one
            if any(one.name.lower() in self._taken or os.path.lexists(one) for one in wanted):
                continue
            try:
                if depth is not None:
                    write_image(beside, depth, replace=False)
                write_image(path, image, replace=False)
                break
            except FileExistsError:  # another program was faster
                continue
        self._taken |= {name.lower(), depth_name.lower()}
        self.frames += 1
        return path

    def close(self) -> None:
        """Nothing is left to do; every picture is complete when `write` returns."""


def depth_path(path: Path) -> Path:
    """Where the depth map of a picture that is one file goes."""
    return path.with_name(file_name(path.stem, "_depth.png"))


def _names(source: str, index: int | None) -> Iterator[tuple[str, str]]:
    """Names for a picture and its depth map in a folder: the best one, then numbered ones."""
    path = Path(source.rstrip("/"))
    suffix = ".jpg" if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    frame = "" if index is None else f"_{index:06d}"
    stem = path.stem or "picture"
    for end in numbered_ends():
        yield file_name(stem, f"{frame}{end}{suffix}"), file_name(stem, f"{frame}{end}_depth.png")


def folder_targets(folder: Path, sources: Iterable[str], with_depth: bool) -> list[Path]:
    """All files that an `ImageSink` of a folder writes for these images where the folder is empty."""
    taken: set[str] = set()
    targets = []
    for source in sources:
        for name, depth_name in _names(source, None):
            wanted = [name, depth_name] if with_depth else [name]
            if not any(one.lower() in taken for one in wanted):
                break
        taken |= {name.lower(), depth_name.lower()}
        targets += [folder / one for one in wanted]
    return targets


def frame_targets(folder: Path, source: str) -> list[Path]:
    """The files that exist in a folder under a name that an `ImageSink` gives to a frame of this video."""
    first, _ = next(_names(source, 0))
    stem, end = first.rsplit("_", 1)
    frame = re.compile(re.escape(stem) + r"_\d{6,}" + re.escape(Path(end).suffix), re.IGNORECASE)
    return sorted(path for path in folder.iterdir() if frame.fullmatch(path.name)) if folder.is_dir() else []


def write_image(path: Path, image: np.ndarray, replace: bool = True) -> None:
    """Write a picture, (H, W, 3) uint8 BGR or (H, W) uint16, under a temporary name and rename it.

    Raises
    ------
    SinkError
        Where the file cannot be written: no such folder, no permission, a full disk.
    FileExistsError
        Without `replace`, where the file exists.
    """
    check_size(path, image.shape[1::-1])
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() != ".png" else []
    with new_file(path, replace=replace) as partial:
        try:
            # by OpenCV where it can open the name: the encoded picture need not lie in memory then
            if image.nbytes > LARGE_BYTES and os.name == "posix" and _is_utf8(partial):
                complete = cv2.imwrite(str(partial), image, options)
                complete = complete and _last_bytes(partial, 8).endswith((b"IEND\xaeB`\x82", b"\xff\xd9"))
            else:
                complete, data = cv2.imencode(path.suffix, image, options)
                if complete:
                    partial.write_bytes(data.data)
        except cv2.error as error:
            raise SinkError(f"{path}: cannot hold {image.shape[1]} x {image.shape[0]} px; shrink the image") from error
        if not complete:
            raise SinkError(f"{path}: cannot be written; is the disk full?")


def check_size(path: Path, size_wh: tuple[int, int]) -> None:
    """Raise SinkError where a picture is too large for the format that the name ends in."""
    limit = MAX_PX.get(path.suffix.lower(), max(size_wh))
    if max(size_wh) > limit:
        remedy = "shrink the image" if path.suffix.lower() == ".png" else "write a .png, or shrink the image"
        raise SinkError(
            f"{path}: expected at most {limit} px each way for this format, found {size_wh[0]} x {size_wh[1]}; {remedy}"
        )


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _last_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - count))
        return file.read()
