"""The options of the command line."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from facet.render.views import VIEWS
from facet.tracker import __version__
from facet.tracker.errors import ConfigError
from facet.tracker.outputs.logs import LOGS

EXAMPLES = """examples:
  app.py --webcam                            live window; h lists its keys
  app.py -f video.mp4 -o out.mp4             a drawn video
  app.py -f video.mp4 --log faces.csv        data only
  app.py -f photos/ -o drawn/ --view mesh    every image of a folder
  app.py --webcam --send osc://127.0.0.1:39540
  app.py --webcam --serve 8000               a page in the browser
"""


def path_option(text: str) -> Path:
    """A path that was given; an empty one comes of a shell variable that was not set."""
    if not text:
        raise argparse.ArgumentTypeError("expected a name, found an empty one")
    return Path(text)


def whole_number(text: str) -> int:
    """The value of an option that counts, within what libraries can hold."""
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or abs(number) > 1e9:
        raise argparse.ArgumentTypeError(f"expected a whole number of at most 1e9, found {text[:40]!r}")
    return number


def seconds(text: str) -> float:
    """The value of an option that is a time."""
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected seconds, found {text!r}") from error


class OptionParser(argparse.ArgumentParser):
    """Raises ConfigError for a wrong option."""

    def error(self, message: str):
        raise ConfigError(message)

    def unknown(self, word: str):
        """Report an argument that is no option, or no known one."""
        if not word.startswith("-"):
            self.error(f"{word}: expected an option; to read a file, name it after -f: app.py -f {word}")
        known = [name for action in self._actions for name in action.option_strings]
        near = difflib.get_close_matches(word.partition("=")[0], known, n=1, cutoff=0.7)
        self.error(f"{word}: no such option; {f'did you mean {near[0]}?' if near else '--help lists all'}")


def epilog() -> str:
    """The end of the help, for which alone all schemes of `--send` are loaded."""
    from facet.tracker.outputs.senders import scheme_table

    return "\n  ".join([f"{EXAMPLES}\nschemes of --send, with their usual ports:", *scheme_table()])


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked; `--faces` becomes a setting.

    Raises
    ------
    ConfigError
        For what is no option, or no value of one.
    """
    parser = OptionParser(
        prog="app.py",
        usage="app.py -f SOURCE [options]\n       app.py --webcam [N] [options]",
        description="Real-time 3D face tracking: a video, images, a stream or a webcam in; drawn frames and data out.",
        epilog=epilog() if {"-h", "--help"} & set(sys.argv[1:] if argv is None else argv) else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"facet {__version__}")
    source = parser.add_argument_group("input: -f or --webcam")
    source.add_argument(
        "-f",
        "--file",
        metavar="SOURCE",
        help="video, image, folder or glob of images, URL (http, rtsp), or '-' for raw BGR frames on stdin",
    )
    source.add_argument("--webcam", nargs="?", const=0, type=whole_number, metavar="N", help="camera N, default 0")
    source.add_argument("--list-cameras", action="store_true", help="list the cameras and exit")
    source.add_argument("--no-mirror", action="store_true", help="show the webcam as it is, not as a mirror")
    source.add_argument("--start", type=seconds, default=0.0, metavar="S", help="skip the first S seconds")
    source.add_argument("--max-frames", type=whole_number, metavar="N", help="stop after N frames")
    source.add_argument("--faces", type=whole_number, metavar="N", help="track at most N faces, default 4")
    output = parser.add_argument_group("output: a window, where none of -o, --log, --export, --send, --serve is given")
    output.add_argument(
        "-o",
        "--output",
        type=path_option,
        metavar="OUT",
        help="drawn frames: a .mp4, .mkv or .mov with the sound, a .jpg or .png, or a folder for many images",
    )
    output.add_argument(
        "--view", default="mesh,axes", metavar="LIST", help=f"default mesh,axes; of {', '.join(VIEWS)}, or none"
    )
    output.add_argument(
        "--renderer", choices=("auto", "gl", "cpu"), default="auto", help="default auto: the faster one on this machine"
    )
    output.add_argument(
        "--log", type=path_option, metavar="PATH", help=f"data of every frame: {', '.join(LOGS)}"
    )
    output.add_argument(
        "--export",
        type=path_option,
        metavar="DIR",
        help="meshes of every face, .obj, .ply and .glb; of a video an animated .glb a face, or with --at one frame",
    )
    output.add_argument("--at", type=whole_number, metavar="N", help="with --export: one frame of a video, from 0")
    output.add_argument(
        "--send",
        action="append",
        default=[],
        metavar="URL",
        help="faces to another program, by one of the schemes below; may be repeated",
    )
    output.add_argument(
        "--control",
        action="append",
        default=[],
        metavar="URL",
        help="receive commands of other programs, osc://[host]:port or http://[host]:port; host 127.0.0.1 unless given",
    )
    output.add_argument(
        "--serve",
        metavar="[HOST:]PORT",
        help="a page for browsers with live video, mesh and curves; default host 127.0.0.1: this machine alone",
    )
    output.add_argument("--virtual-camera", action="store_true", help="drawn frames as a camera for other programs")
    output.add_argument("--sync", action="store_true", help="live input: show all frames with the same delay")
    output.add_argument("--no-window", action="store_true", help="show no window")
    output.add_argument(
        "--profile", nargs="?", const="", metavar="PATH", help="print latencies by stage; .json: write a Chrome trace"
    )
    output.add_argument("--quiet", action="store_true", help="print errors only")
    config = parser.add_argument_group("settings")
    config.add_argument(
        "--config", type=path_option, metavar="PATH", help="TOML file with settings that replace the defaults"
    )
    config.add_argument(
        "--calibration",
        type=path_option,
        metavar="PATH",
        help="TOML file with gain, offset and limits of blendshapes and a centre, for every output",
    )
    config.add_argument(
        "--set", action="append", default=[], metavar="A.B=VALUE", help="one setting; may be repeated"
    )
    config.add_argument("--print-config", action="store_true", help="print all settings with their meaning and exit")
    args, rest = parser.parse_known_args(argv)
    if rest:
        parser.unknown(rest[0])
    if args.faces is not None:
        args.set.append(f"tracker.max_faces={args.faces}")
    if not (args.list_cameras or args.print_config):
        if args.file is None and args.webcam is None:
            parser.error("expected an input: -f SOURCE, for example app.py -f video.mp4 -o out.mp4, or --webcam")
        if args.file is not None and args.webcam is not None:
            parser.error("expected one input, found -f and --webcam; leave one of them out")
        if args.webcam is not None and args.webcam < 0:
            parser.error(f"--webcam must be at least 0, got {args.webcam}; --list-cameras lists those found")
        if args.faces is not None and args.faces < 1:
            parser.error(f"--faces must be at least 1, got {args.faces}")
        if args.max_frames is not None and args.max_frames < 1:
            parser.error(f"--max-frames must be at least 1, got {args.max_frames}")
        if args.at is not None and args.export is None:
            parser.error("--at names the frame that --export DIR writes, found no --export; add it")
        if args.at is not None and not 0 <= args.at < (args.max_frames or args.at + 1):
            parser.error(f"--at must be at least 0 and below --max-frames, got {args.at}")
        if not 0 <= args.start <= 1e9:
            parser.error(f"--start must be at least 0 and at most 1e9, got {args.start}")
    return args


def parse_views(text: str) -> tuple[str, ...]:
    """The views of `--view`, in order; "none" is none."""
    views = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in views:
        if name not in (*VIEWS, "none"):
            raise ConfigError(f"--view {text}: unknown view {name}; known: {', '.join(VIEWS)}, none")
    return tuple(name for name in dict.fromkeys(views) if name != "none")
