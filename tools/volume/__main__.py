"""Heads as solids: python -m tools.volume SOURCE -o DIR [--at N] [--raw] [--sheet] [--config PATH] [--set A.B=VALUE]

SOURCE is an image, a folder or glob of images, or a video, of which frame N is taken. Every face gives
DIR/NAME_ID_bust.obj (with .mtl), .ply, .glb and .stl: a closed mesh in millimetres with hair, neck and glasses, and the
parts that the image does not show as the network guesses them. --raw adds the volume in VRN's format, 200 x 192 x 192
bytes; --sheet an image of the head from four sides. A SOURCE that ends in .raw is such a volume, and gives its mesh.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from app import write_line
from facet.assembly import build_tracker
from facet.render.sinks.export import closed_mesh, stems, write_new
from facet.render.sinks.image import write_image
from facet.render.sinks.mesh_files import BUST, bust_names
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.errors import ConfigError, FaceTrackError, SinkError
from facet.tracker.morphable import MorphableModel
from facet.tracker.sources import open_source
from facet.tracker.stages import Stages
from facet.tracker.types import FaceTrack, Frame
from facet.tracker.volume import VolumeNet
from facet.tracker.weights import find_entry
from tools.volume.raw import raw_head, read_raw, resampled, write_raw
from tools.volume.sheet import sheet


class Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, without the list of all options."""

    def error(self, message: str):
        write_line(f"tools.volume: {message}", sys.stderr)
        sys.exit(2)


def convert(source: str, folder: Path, config: AppConfig, at: int | None, raw: bool, with_sheet: bool) -> list[Path]:
    """Write the busts of a source; returns their paths without the endings.

    Raises
    ------
    FaceTrackError
        Where nothing can be read or written, no face is found, or a head has no surface.
    """
    net = VolumeNet.open(find_entry(config.export.weights, "volume"), config.runtime)
    written: list[Path] = []
    tracker = build_tracker(config, Stages(), live=False)
    with contextlib.closing(tracker), open_source(source, config.source) as opened:
        if at is not None and opened.still:
            raise ConfigError(f"--at {at}: only for a video; of images all are taken, leave --at out")
        wanted = None if opened.still else at or 0
        for frame in opened:
            faces = tracker.step(frame)
            if wanted is None or frame.index == wanted:
                written += write_faces(frame, faces, net, tracker.mesh_model, folder, wanted, raw, with_sheet)
            if wanted is not None and frame.index >= wanted:
                break
    if not written:
        where = "" if wanted is None else f" in frame {wanted}"
        raise SinkError(f"{source}: found no face{where}; nothing is written")
    return written


def write_faces(
    frame: Frame,
    faces: tuple[FaceTrack, ...],
    net: VolumeNet,
    model: MorphableModel,
    folder: Path,
    at: int | None,
    raw: bool,
    sides: bool,
) -> list[Path]:
    """Write the busts of a frame."""
    if not faces:
        return []
    heads = []
    for face in faces:
        volume = net(frame.image, face)
        heads.append((face, volume, closed_mesh(volume, frame, face, model)))
    make(folder)
    written = []
    stem = free_stem(folder, frame.source, at, [face.id for face in faces])
    for face, volume, head in heads:
        name = f"{stem}_{face.id}{BUST}"
        write_new(head, folder, name, closed=True)
        if raw:
            write_raw(folder / f"{name}.raw", resampled(volume, face.landmarks))
        if sides:
            write_image(folder / f"{name}.jpg", sheet(head, frame.image, face), replace=False)
        written.append(folder / name)
    return written


def free_stem(folder: Path, source: str, at: int | None, ids: list[int]) -> str:
    """A name after the source of which no file exists."""
    for stem in stems(source, at):
        heads = [f"{stem}_{number}" for number in ids]
        names = [
            name for head in heads for name in (*bust_names(head).values(), f"{head}{BUST}.raw", f"{head}{BUST}.jpg")
        ]
        if not any(os.path.lexists(folder / name) for name in names):
            return stem
    raise AssertionError("there is always another number")


def convert_raw(source: str, folder: Path) -> list[Path]:
    """Write the mesh of a volume in VRN's format, in px of its crop."""
    head = raw_head(read_raw(Path(source)))
    if head is None:
        raise SinkError(f"{source}: expected a head, found no surface; nothing is written")
    make(folder)
    stem = free_stem(folder, source, None, [0])
    name = f"{stem}_0{BUST}"
    write_new(head, folder, name, closed=True)
    return [folder / name]


def make(folder: Path) -> None:
    """Make the folder of the output where it is absent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"-o {folder}: cannot be made ({error.strerror or error}); name another folder") from error


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m tools.volume", description=__doc__.split("\n")[0])
    parser.add_argument("source", metavar="SOURCE", help="image, folder or glob of images, video, or a .raw volume")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="made where absent")
    parser.add_argument("--at", type=int, metavar="N", help="the frame of a video, from 0 (default: 0)")
    parser.add_argument("--raw", action="store_true", help="the volume in VRN's format, too")
    parser.add_argument("--sheet", action="store_true", help="an image of the head from four sides, too")
    parser.add_argument("--config", type=Path, metavar="PATH", help="settings of the tracker, TOML")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="one setting; may be repeated")
    args = parser.parse_args(arguments)
    try:
        if args.at is not None and args.at < 0:
            raise ConfigError(f"--at must be at least 0, got {args.at}")
        if args.source.lower().endswith(".raw"):
            written = convert_raw(args.source, args.output)
        else:
            config = load_config(AppConfig, args.config, args.set)
            written = convert(args.source, args.output, config, args.at, args.raw, args.sheet)
    except FaceTrackError as error:
        write_line(f"tools.volume: {error}", sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        write_line("interrupted", sys.stderr)
        return 130
    for path in written:
        write_line(f"{path}.obj .ply .glb .stl", sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
