"""Writing the manifests that `tracker.weights` reads.

    from tools.manifest import describe, update_manifest
    update_manifest("weights/manifest.toml", {"regressor": describe(path, kind="regressor", licence="MIT", ...)})
"""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from facet.tracker.files import new_file

HEADER = "# One table a model file; written by the tools, read by tracker/weights.py.\n"


def describe(path: Path, **values) -> dict:
    """The table of a model file: its name, its SHA-256, and what else is said of it."""
    path = Path(path)
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **values}


def update_manifest(path: Path | str, tables: dict[str, dict]) -> None:
    """Add or replace tables of a manifest; the others stay."""
    path = Path(path)
    known = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known.update(tables)
    text = HEADER + "".join(
        f"\n[{name}]\n" + "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items())
        for name, table in sorted(known.items())
    )
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _toml_value(value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value)
