"""Where the page of `--serve` is, and who may open it."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from facet.tracker.errors import ConfigError, SinkError

DEFAULT_HOST = "127.0.0.1"
EXPECTED = "expected [HOST:]PORT, as 8000 or 0.0.0.0:8000"


@dataclass(frozen=True, slots=True)
class Address:
    """What the server listens on."""

    host: str  # a name or an address; of IPv6 without brackets
    port: int  # 0: any that is free

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_local(self.host)


def is_local(host: str) -> bool:
    """Whether a host, of IPv6 without brackets, is this machine by its loopback."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(text: str) -> Address:
    """The parts of the value of `--serve`.

    Raises
    ------
    ConfigError
        Where it is no port, or no host and port.
    """
    found = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+):)?([0-9]{1,5})", text)
    if not found or int(found[2]) > 65535:
        raise ConfigError(f"--serve {text}: {EXPECTED}")
    return Address((found[1] or DEFAULT_HOST).strip("[]"), int(found[2]))


def listen(address: Address) -> socket.socket:
    """A socket that listens there.

    Raises
    ------
    ConfigError
        Where the host is not one of this machine.
    SinkError
        Where the port cannot be had.
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        # localhost is both; browsers try both
        family, *_, place = min(found, key=lambda one: one[0] != socket.AF_INET)
        with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
            probe.bind((place[0], 0, *place[2:]))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        raise ConfigError(
            f"--serve {address}: {address.host} is no address of this machine ({reason}); give one, or 0.0.0.0 for all"
        ) from error
    try:
        return socket.create_server(place[:2], family=family)
    except OSError as error:
        raise SinkError(f"--serve {address}: cannot listen ({error.strerror or error}); choose another port") from error


class Guard:
    """Decides which requests are served: a camera is behind it.

    Parameters
    ----------
    address : what the server listens on
    token : that a URL must hold; "" for none

    Convention
    ----------
    A page of another site that is open in the same browser is recognised by its Origin. One whose host name was made
    to lead to this machine (DNS rebinding) has a matching Origin; its Host is none of the loopback's names.
    """

    def __init__(self, address: Address, token: str = ""):
        self._local, self._token = address.local, token

    def refusal(self, host: str, origin: str | None, token: str | None) -> str:
        """Why a request is refused; "" where it is served.

        Parameters
        ----------
        host, origin : headers of the request; the Origin is None where it has none
        token : of the request's URL, "" where it has none; None for what is the same for everybody
        """
        if self._local and not is_local(_parts(f"//{host}").hostname or ""):
            return "This page is open to this machine alone, under its own name: use http://127.0.0.1."
        if origin is not None and _parts(origin).netloc.lower() != host.lower():
            return "Another site asked for this page; it is served to its own site alone."
        if token is not None and not hmac.compare_digest(token.encode(), self._token.encode()) and self._token:
            return "The token is missing or wrong: open the address that facet printed, with ?token=..."
        return ""


def _parts(url: str) -> SplitResult:
    """The parts of a URL; empty ones where it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
