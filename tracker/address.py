"""Addresses of servers as they may be shown: passwords and tokens never reach a log, a file name or the screen."""

from __future__ import annotations

import re


def redacted(address: str) -> str:
    """An address without user, password, query and fragment, any of which may hold a secret; a path as it is.

    Also of an address that no library accepts: a password with a slash or a hash sign in it is cut all the same.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in host:
        rest = rest[host.rindex("@") + 1 :]
    elif "@" in rest and not re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d*)?", host):  # no host: the start of a password
        rest = rest[rest.rindex("@") + 1 :]
    return scheme + separator + re.split(r"[?#]", rest, maxsplit=1)[0]


def redacted_text(text: str, address: str = "") -> str:
    """A message of a library with every address in it redacted, `address` even where it holds spaces."""
    if address:
        text = text.replace(address, redacted(address))
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+", lambda found: redacted(found[0]), text)
