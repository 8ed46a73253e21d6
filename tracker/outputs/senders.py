"""`--send`: the schemes of its URLs. Another protocol is one more file and one more line of SCHEMES."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from facet.tracker.errors import ConfigError
from facet.tracker.outputs.ifacialmocap import IFacialMocap
from facet.tracker.outputs.livelink import LiveLink
from facet.tracker.outputs.openseeface import OpenSeeFace
from facet.tracker.outputs.opentrack import OpenTrack
from facet.tracker.outputs.receiver import Receiver, Scheme, Sender
from facet.tracker.outputs.udp import udp
from facet.tracker.outputs.vmc import BONES, NAMES, Vmc
from facet.tracker.outputs.vrchat import VrChat
from facet.tracker.outputs.vts import VTubeStudio

SCHEMES = {
    "osc": Scheme("VMC", 39540, "VSeeFace, Warudo, VNyan, EVMC4U", udp(Vmc), {"names": NAMES, "bones": BONES}),
    "osf": Scheme("OpenSeeFace", 11573, "VSeeFace, Godot and Unity plug-ins", udp(OpenSeeFace)),
    "livelink": Scheme("Live Link Face", 11111, "Unreal, VRCFaceTracking, Blender, Godot", udp(LiveLink)),
    "ifacialmocap": Scheme("iFacialMocap", 49983, "VSeeFace, VNyan, VMagicMirror, Warudo", udp(IFacialMocap)),
    "vts": Scheme("VTube Studio API", 8001, "VTube Studio (Live2D), as a plug-in", VTubeStudio),
    "vrchat": Scheme("VRChat OSC", 9000, "VRChat: eyes, and avatars with v2 parameters", udp(VrChat)),
    "opentrack": Scheme("opentrack UDP", 4242, "opentrack: games that follow the head", udp(OpenTrack)),
}


def parse_receiver(url: str) -> Receiver:
    """The parts of the URL of `--send`.

    Raises
    ------
    ConfigError
        Where the scheme, the host or the port is missing or unknown, or an option is.
    """
    expected = f"expected SCHEME://host:port, where SCHEME is one of {', '.join(SCHEMES)}"
    try:
        parts = urlsplit(url)
        name, host, port = parts.scheme, parts.hostname, parts.port
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:  # a port or a query that is none
        raise ConfigError(f"--send {url}: {expected}; {error}") from error
    more = parts.path.strip("/") or parts.fragment or "@" in parts.netloc
    if name not in SCHEMES or not host or not port or more:
        raise ConfigError(f"--send {url}: {expected}")
    known = SCHEMES[name].options
    options = {option: values[0] for option, values in known.items()}
    for option, value in given:
        if value not in known.get(option, ()):
            choices = " and ".join(f"{option}={'|'.join(values)}" for option, values in known.items()) or "no option"
            raise ConfigError(f"--send {url}: expected {choices} after the port, found {option}={value}")
        options[option] = value
    return Receiver(url, name, host, port, options)


def open_sender(url: str) -> Sender:
    """The sender of a URL.

    Raises
    ------
    ConfigError
        Where the URL names no receiver, or a library for its scheme is missing.
    SinkError
        Where its host is not known.
    """
    receiver = parse_receiver(url)
    return SCHEMES[receiver.scheme].open(receiver)


def scheme_table() -> list[str]:
    """The schemes as aligned lines of text: URL with the usual port, protocol, programs, options."""
    urls = {name: f"{name}://host:{scheme.port}" for name, scheme in SCHEMES.items()}
    widths = max(map(len, urls.values())), max(len(scheme.protocol) for scheme in SCHEMES.values())
    lines = []
    for name, scheme in SCHEMES.items():
        lines.append(f"{urls[name]:<{widths[0]}}  {scheme.protocol:<{widths[1]}}  {scheme.programs}")
        lines += [f"{'':<{widths[0]}}  ?{option}={'|'.join(values)}" for option, values in scheme.options.items()]
    return lines
