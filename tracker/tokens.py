"""Secrets that are kept for the user: a file each in the folder for settings, which only the user can read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from facet.tracker.files import discard


def config_folder() -> Path:
    """Where programs keep what belongs to the user."""
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "facet"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "facet"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "facet"


def read_token(path: Path) -> str:
    """The token that was kept, or none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def write_token(path: Path, token: str) -> None:
    """Keep a token where only the user reads it. Where that fails, a new one is needed the next time."""
    partial = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
            file.write(token)
        os.replace(partial, path)
    except (OSError, ValueError):
        discard(partial)
