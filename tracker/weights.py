"""Model files and the manifests that describe them.

Beside every folder of model files lies a `manifest.toml` with one table a file: `file`, `kind`, `sha256`, `licence`,
`provenance`, and what the code that runs the file must know (format, sizes, crop constants). Nothing here downloads.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from facet.tracker.errors import WeightsError

ROOT = Path(__file__).resolve().parent.parent
MANIFEST_NAME = "manifest.toml"
KINDS = (
    "regressor", "detector", "face_model", "model_points", "skin", "appearance", "answers", "aligner", "autoencoder",
    "points", "volume",
)  # fmt: skip
IMPORT_COMMAND = "python -m tools.import_3ddfa"


@dataclass(frozen=True, slots=True, eq=False)
class WeightsEntry:
    """One model file of a manifest."""

    name: str
    path: Path
    kind: str  # one of KINDS
    sha256: str
    licence: str
    provenance: str
    table: Mapping  # all of its table: what the code that runs the file must know

    def get(self, key: str, kind: type, default=None):
        """A value of the table, of the type `kind`.

        Raises
        ------
        WeightsError
            If it has another type, or is absent while `default` is None.
        """
        value = self.table.get(key, default)
        if kind is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if type(value) is not kind:
            found = "nothing" if value is None else f"a value of type {type(value).__name__}"
            raise WeightsError(
                f"{self.path.parent / MANIFEST_NAME} [{self.name}]: expected {key} of type {kind.__name__}, "
                f"found {found}; write the manifest anew with the tool that made {self.path.name}"
            )
        return value

    def sibling(self, file: str) -> WeightsEntry:
        """The entry of another file in the same manifest."""
        return find_entry(self.path.parent / file)


def load_manifest(path: Path | str) -> dict[str, WeightsEntry]:
    """Read a manifest.

    Parameters
    ----------
    path : a TOML file; its `file` values are relative to its folder

    Returns
    -------
    entries by the name of their table

    Raises
    ------
    WeightsError
        If it is missing, no TOML, or a table lacks one of the values that every file has.
    """
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: expected a manifest of model files, found none; {_remedy(path)}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: expected TOML, found a mistake: {error}; {_remedy(path)}") from error
    entries = {}
    for name, table in tables.items():
        where = f"{path} [{name}]"
        if not isinstance(table, dict):
            raise WeightsError(f"{path}: expected one table a file, found the bare value {name}; {_remedy(path)}")
        for key in ("file", "kind", "sha256", "licence", "provenance"):
            if type(table.get(key)) is not str:
                raise WeightsError(f"{where}: expected {key} as text, found another value or none; {_remedy(path)}")
        if table["kind"] not in KINDS:
            kinds = ", ".join(KINDS)
            raise WeightsError(f"{where}: expected kind to be one of {kinds}, found {table['kind']}; {_remedy(path)}")
        entries[name] = WeightsEntry(
            name=name,
            path=path.parent / table["file"],
            kind=table["kind"],
            sha256=table["sha256"],
            licence=table["licence"],
            provenance=table["provenance"],
            table=table,
        )
    return entries


def find_entry(path: Path | str, kind: str | None = None) -> WeightsEntry:
    """The manifest entry of a model file, which is checked for damage.

    Parameters
    ----------
    path : the model file; a relative one that does not exist here is looked for in the project's folder
    kind : what it must be, one of KINDS, or None

    Raises
    ------
    WeightsError
        If the file is missing, unknown to the manifest beside it, of another kind, or its SHA-256 differs.
    """
    path = _located(path)
    if not path.is_file():
        raise WeightsError(f"{path}: expected a model file, found none; {_remedy(path)}")
    manifest = path.parent / MANIFEST_NAME
    for entry in load_manifest(manifest).values():
        if entry.path.name == path.name:
            break
    else:
        raise WeightsError(f"{path}: expected an entry in {manifest}, found none; {_remedy(path)}")
    if kind is not None and entry.kind != kind:
        raise WeightsError(f"{path}: expected a {kind}, found a {entry.kind}; name another file")
    check_sha256(entry)
    return entry


def model_files(path: Path | str) -> list[Path]:
    """A model file, the manifest beside it and the files that this names, whether they exist or not."""
    path = _located(path)
    manifest = path.parent / MANIFEST_NAME
    try:
        return [path, manifest, *(entry.path for entry in load_manifest(manifest).values())]
    except WeightsError:
        return [path, manifest]


def _located(path: Path | str) -> Path:
    path = Path(path)
    return path if path.is_absolute() or path.exists() else ROOT / path


def check_sha256(entry: WeightsEntry) -> None:
    """Raise WeightsError where the file is missing or is not the one that the manifest describes."""
    try:
        stat = entry.path.stat()
        found = _sha256(entry.path, stat.st_size, stat.st_mtime_ns)
    except (OSError, ValueError) as error:  # a name with a zero byte
        raise WeightsError(f"{entry.path}: expected a model file, found none; {_remedy(entry.path)}") from error
    if found != entry.sha256:
        raise WeightsError(
            f"{entry.path}: expected SHA-256 {entry.sha256[:16]}..., found {found[:16]}...: the file is damaged or "
            f"was replaced; {_remedy(entry.path)}"
        )


def load_arrays(path: Path | str, what: str = "arrays in an .npz file", remedy: str = "") -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name; nothing in it is run.

    Parameters
    ----------
    what : it is, for the message
    remedy : what to do about a damaged file, where that is not to restore it

    Raises
    ------
    WeightsError
        If it cannot be read as one.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            return dict(data)
    except Exception as error:  # damaged archives raise whatever their garbage happens to say
        reason, remedy = " ".join(str(error).split()) or type(error).__name__, remedy or _remedy(Path(path))
        raise WeightsError(f"{path}: expected {what}, found: {reason}; {remedy}") from error


@cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Hex digest; size and time are there so that a file that changes is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remedy(path: Path) -> str:
    if "upstream" in path.parts:
        return f"import the upstream files with `{IMPORT_COMMAND}`"
    return f"restore it with `git checkout -- {path.parent.name}`"
