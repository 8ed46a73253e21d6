"""Wrong names and addresses are refused before anything is opened or written."""

from __future__ import annotations

import argparse
from pathlib import Path

from facet.render.sinks.image import SUFFIXES as IMAGE_SUFFIXES
from facet.render.sinks.image import depth_path, folder_targets, frame_targets
from facet.render.sinks.video import SUFFIXES as VIDEO_SUFFIXES
from facet.settings import AppConfig
from facet.tracker.calibration import load_calibration
from facet.tracker.errors import ConfigError
from facet.tracker.files import check_targets
from facet.tracker.outputs.logs import log_format
from facet.tracker.sources.base import Source
from facet.tracker.weights import model_files


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse wrong endings and addresses before anything is opened."""
    if args.send:
        from facet.tracker.outputs.senders import parse_receiver

        for url in args.send:
            parse_receiver(url)
    if args.control:
        from facet.tracker.remote import parse_address

        for url in args.control:
            parse_address(url)
    if args.calibration:
        load_calibration(args.calibration)
    if args.serve:
        from facet.render.sinks.viewer import address

        address.parse_address(args.serve)
    if args.log:
        log_format(args.log)
    if args.profile and not args.profile.lower().endswith(".json"):
        raise ConfigError(f"--profile {args.profile}: expected a name that ends in .json")
    if args.output and args.output.suffix and not args.output.is_dir():
        if args.output.suffix.lower() not in VIDEO_SUFFIXES + IMAGE_SUFFIXES:
            videos, images = ", ".join(VIDEO_SUFFIXES), ", ".join(IMAGE_SUFFIXES)
            raise ConfigError(f"-o {args.output}: expected a name that ends in {videos}, {images}, or a folder")


def check_files(args: argparse.Namespace, config: AppConfig, source: Source, views: tuple[str, ...]) -> None:
    """Refuse outputs that would replace an input or a file that the user did not name, before anything is written."""
    named = {option: Path(path) for option, path in (("--log", args.log), ("--profile", args.profile)) if path}
    unnamed: list[Path] = []
    sources, with_depth = source.files or (source.name,), source.still and "depth" in views
    if args.output and args.output.suffix and not args.output.is_dir():
        named["-o"] = args.output
        if len(source.files) > 1 and args.max_frames != 1:
            raise ConfigError(f"-o {args.output}: expected a folder for {len(source.files)} images, found a file name")
        if with_depth:
            named["-o, depth map"] = depth_path(args.output)
    elif args.output and source.still:
        unnamed += folder_targets(args.output, sources, with_depth)
    elif args.output:
        unnamed += frame_targets(args.output, source.name)
    if args.export:
        from facet.render.sinks.export import export_targets

        unnamed += export_targets(args.export, sources, args.at)
    inputs = input_files(args.file, source, config)
    check_targets(named, unnamed, [*inputs, *(path for path in (args.config, args.calibration) if path)])


def input_files(spec: str | None, source: Source, config: AppConfig) -> list[Path | str | int]:
    """The files that a run reads, those of the networks among them; 0 for stdin."""
    models = [config.detector.weights, config.regressor.weights, config.regressor.mesh]
    models += [config.export.weights] * config.export.volume
    files: list[Path | str | int] = [*source.files, *(path for name in models for path in model_files(name))]
    return files if spec is None else [0 if spec == "-" else spec, *files]
