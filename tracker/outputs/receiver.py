"""Where `--send` goes: the parts of a URL, and what a scheme is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from facet.tracker.types import FaceTrack, Frame


@dataclass(frozen=True, slots=True)
class Receiver:
    """A program that faces are sent to."""

    url: str
    scheme: str
    host: str
    port: int
    options: Mapping[str, str] = field(default_factory=dict)  # every option of the scheme, by name


class Sender(Protocol):
    """Sends faces to one receiver, without ever waiting for it; a context manager.

    Attributes
    ----------
    sent, dropped : how many packets went out, and how many could not
    status : one line: where packets go, and whether a program receives them, as far as that is known
    trouble : one line: what went wrong so far; empty where nothing did
    """

    sent: int
    dropped: int

    @property
    def status(self) -> str: ...

    @property
    def trouble(self) -> str: ...

    def send(self, frame: Frame, faces: tuple[FaceTrack, ...]) -> None: ...

    def __enter__(self) -> Sender: ...

    def __exit__(self, *error) -> None: ...


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to send, by the protocol that a group of programs receives."""

    protocol: str
    port: int  # the usual one
    programs: str  # that receive it
    open: Callable[[Receiver], Sender]
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name -> values, the default one first
