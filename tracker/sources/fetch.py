"""GET requests to http servers: with a deadline for the whole of them, and given up from another thread at any time.

Imported where an address is opened only: urllib takes 10 ms of the start.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable
from typing import Any

from facet.tracker.address import redacted, redacted_text
from facet.tracker.errors import SourceError
from facet.tracker.sources.base import Broken

AS_THEY_ARE = "/?%:@!$&'()*+,;=~-._[]|"  # characters of an address that stay; others are written as %XX


class Request:
    """A GET request, read as a file that cannot be searched.

    Attributes
    ----------
    name : the address as it may be shown
    headers : of the response, once it is open
    ending : why the body ended before it was complete; None before its end, and where it was complete
    """

    def __init__(self, url: str, timeout_s: float):
        """Check the address; `timeout_s` holds for each wait, and `within` bounds the whole.

        Raises
        ------
        SourceError
            Where it is no valid address.
        """
        self.name = redacted(url)
        self._url, self._login = _taken_apart(url)
        self._timeout_s = timeout_s
        self._aborted = False
        self._sockets: list[socket.socket] = []
        self._left: int | None = None  # bytes of the body, None where the server does not say
        self.ending: Broken | None = None

    def open(self) -> Request:
        """Send the request, follow redirections, log in where asked to; SourceError where there is no such thing."""
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if self._login is not None:
            passwords.add_password(None, self._url, *self._login)
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            _opens("http", http.client.HTTPConnection, self._watch),
            _opens("https", http.client.HTTPSConnection, self._watch),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPDigestAuthHandler(passwords),
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.UnknownHandler(),
        ):
            opener.add_handler(handler)
        request = urllib.request.Request(self._url, headers={"User-Agent": "facet"})
        try:
            # longer, because those who wait for a picture or for the whole notice first, and say it better
            with warnings.catch_warnings(action="ignore"):  # urllib's, of how a server asks for a password
                self._reply = opener.open(request, timeout=self._timeout_s + 1.0)
        except urllib.error.HTTPError as error:
            error.close()
            reason = redacted_text(" ".join(f"{error.code} {error.reason}".split()), self._url)
            remedy = "give them: http://USER:PASSWORD@HOST/..." if error.code == 401 else "check the address"
            if error.code == 401 and self._login is not None:
                remedy = "check user and password"
            raise SourceError(f"{self.name}: the server answered {reason}; {remedy}") from None
        except TimeoutError:
            raise self.late() from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceError(f"{self.name}: no connection ({_reason(error, self._url)}); check the address") from None
        self.headers = self._reply.headers
        self._left = self._reply.length
        return self

    def read(self, size: int) -> bytes:
        """Bytes of the body as they come, at most `size`; b"" at its end, however it came: see `ending`."""
        try:
            data = self._reply.read1(size)
        except TimeoutError:
            self.ending = Broken(f"{self.name}: the connection stalled", "check it, or raise source.stall_s")
            return b""
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            self.ending = self._broken(_reason(error, self._url))
            return b""
        if self._left is not None:
            self._left -= len(data)
        if not data:
            if self._left:
                self.ending = self._broken(f"the server closed it {self._left} bytes before the end")
            elif self._left is None and not self._reply.chunked:
                self.ending = self._broken("the server closed it", in_order=True)
        return data

    def read_all(self, limit: int) -> bytes:
        """The whole body; SourceError where it breaks off or is longer than `limit` bytes."""
        parts, size = [], 0
        while data := self.read(1 << 16):
            parts.append(data)
            size += len(data)
            if size > limit:
                raise SourceError(f"{self.name}: expected at most {limit >> 20} MB, found more; download it first")
        if self.ending is not None and not self.ending.in_order:
            raise self.ending
        return b"".join(parts)

    def abort(self) -> None:
        """Make a wait in another thread return, now and later."""
        self._aborted = True
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def within(self, timeout_s: float, action: Callable):
        """The value of `action()`, which runs in a thread and is aborted when the time is up.

        Raises
        ------
        SourceError
            When the time is up; and whatever `action` raises.
        """
        outcome: list[tuple[Any, BaseException | None]] = []

        def run() -> None:
            try:
                outcome.append((action(), None))
            except BaseException as error:  # raised where the caller can see it
                outcome.append((None, error))

        thread = threading.Thread(target=run, name=f"request {self.name}", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if not outcome:
            self.abort()
            raise self.late(timeout_s)
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    def late(self, timeout_s: float | None = None) -> SourceError:
        waited_s = timeout_s or self._timeout_s
        return SourceError(f"{self.name}: the server did not answer for {waited_s:g} s; check the address")

    def _broken(self, reason: str, in_order: bool = False) -> Broken:
        return Broken(f"{self.name}: the connection was lost ({reason})", "check it and the server", in_order)

    def _watch(self, connection: socket.socket) -> None:
        self._sockets.append(connection)
        if self._aborted:
            self.abort()


def _opens(scheme: str, kind: type, watch: Callable):
    """A handler of urllib for one scheme that hands each socket to `watch`."""

    class Connection(kind):
        def connect(self):
            super().connect()
            watch(self.sock)

    class Handler(urllib.request.AbstractHTTPHandler):
        pass

    setattr(Handler, f"{scheme}_open", lambda self, request: self.do_open(Connection, request))
    setattr(Handler, f"{scheme}_request", lambda self, request: self.do_request_(request))
    return Handler()


def check_address(url: str) -> urllib.parse.SplitResult:
    """The parts of a URL; SourceError where it is not valid."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        valid = bool(host) and parts.port != 0 and url.isprintable() and bool(host.encode("idna"))
    except ValueError:  # its text may hold a part of a password
        valid = False
    if not valid:
        raise SourceError(f"{redacted(url)}: no valid address; expected SCHEME://HOST:PORT/PATH, ports up to 65535")
    return parts


def _taken_apart(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without login, in ASCII, and the login (user, password), or None."""
    parts = check_address(url)
    login = None
    if parts.username is not None:
        login = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
    path, query = (urllib.parse.quote(part, safe=AS_THEY_ARE) for part in (parts.path, parts.query))
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, "")), login


def _reason(error: Exception, url: str) -> str:
    """Why a connection failed, in a few words on one line, without secrets."""
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return redacted_text(" ".join(str(text).split()), url)[:200]
