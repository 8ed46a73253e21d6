"""Writes pictures: one file for a still, a folder for many."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import cv2
import numpy as np

from tracker.errors import SinkError
from tracker.types import Frame

SUFFIXES = (".jpg", ".jpeg", ".png")
JPEG_QUALITY = 95


class ImageSink:
    """Pictures on disk; a context manager. Each gets its name only when it is complete.

    `path` with an image's ending is one file. Without, it is a folder, made where absent, and every picture is named
    after the image it was drawn from: .jpg for a JPEG, .png for all others; a name taken in this run gets a number.
    With `numbered`, for the frames of a video, the frame's index goes with the name. A depth map stands beside its
    picture, as name_depth.png.

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
        folder = self.path if self._is_folder else self.path.parent
        try:
            if self._is_folder:
                folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".facet-{os.getpid()}.partial"
            probe.open("wb").close()
            probe.unlink()
        except OSError as error:
            remedy = "" if folder.is_dir() else "; make the folder first"
            raise SinkError(f"{folder}: cannot be written ({error.strerror or error}){remedy}") from error

    def __enter__(self) -> ImageSink:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def write(self, image: np.ndarray, frame: Frame, depth: np.ndarray | None = None) -> Path:
        """Write a picture, and its depth map where there is one; returns the picture's path.

        Parameters
        ----------
        image : (H, W, 3) uint8, BGR
        frame : what the picture was drawn from; tells the name within a folder
        depth : (H, W) uint16

        Raises
        ------
        SinkError
            Where the file would replace its own source, is the second under one name, or cannot be written.
        """
        if self.frames and not self._is_folder:
            raise SinkError(f"{self.path}: expected one picture, found several; name a folder to write them into")
        path = self._path_in_folder(frame) if self._is_folder else self.path
        targets = [(path, image)]
        if depth is not None:
            targets.append((path.with_name(f"{path.stem}_depth.png"), depth))
        for target, pixels in targets:
            with contextlib.suppress(OSError):
                if os.path.samefile(target, frame.source):
                    raise SinkError(f"{target}: the output would replace the input; choose another place")
            write_image(target, pixels)
        self.frames += 1
        return path

    def close(self) -> None:
        """Nothing is left to do; every picture is complete when `write` returns."""

    def _path_in_folder(self, frame: Frame) -> Path:
        source = Path(frame.source.rstrip("/"))
        suffix = ".jpg" if source.suffix.lower() in (".jpg", ".jpeg") else ".png"
        stem = source.stem or "picture"
        if self._numbered:
            stem = f"{stem}_{frame.index:06d}"
        name, number = f"{stem}{suffix}", 1
        while name.lower() in self._taken:  # file systems may take a.png and A.png for one
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken |= {name.lower(), f"{Path(name).stem}_depth.png".lower()}
        return self.path / name


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a picture, (H, W, 3) uint8 BGR or (H, W) uint16, under a temporary name and rename it.

    Raises
    ------
    SinkError
        Where the file cannot be written: no such folder, no permission, a full disk.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() != ".png" else []
    _, data = cv2.imencode(path.suffix, image, options)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)
