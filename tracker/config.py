"""Settings: TOML files and `a.b=value` overrides into nested frozen dataclasses.

Each part of the program owns a frozen dataclass of settings with defaults; this module fills them. A setting is
declared with its meaning and unit, `fov_deg: Annotated[float, "field of view, degrees"] = 60.0`. A table that holds
an unknown key, a wrong type or a value out of range raises a ConfigError that names where it stands.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable
from pathlib import Path

from facet.tracker.errors import ConfigError

T = typing.TypeVar("T")
LARGEST_FILE = 1_000_000  # bytes; a file of settings has a few thousand
LARGEST = 1e9  # no setting is larger; what is computed from settings then stays finite
PYTHON_WORDS = {"True": True, "False": False}


def load_config(cls: type[T], path: Path | str | None = None, overrides: Iterable[str] = ()) -> T:
    """Read settings: the defaults of `cls`, below a TOML file, below `a.b=value` overrides.

    Parameters
    ----------
    cls : a dataclass, possibly with dataclasses as fields
    path : TOML file, or None
    overrides : "a.b=value" each; the value is read as TOML, and as plain text where it is none

    Raises
    ------
    ConfigError
        For a file that is missing or no TOML, an unknown key, a wrong type, a value out of range.
    """
    try:
        table = {} if path is None else _parse_toml(_read(Path(path)), str(path))
        config = _build(cls, table, str(path))
        for override in overrides:
            keys, value = _parse_override(override)
            table = _with_value(table, keys, value, override)
            config = _build(cls, table, f"--set {override}")
    except RecursionError as error:
        raise ConfigError("settings: expected tables and lists of few levels, found too many") from error
    return config


def _read(path: Path) -> str:
    """The text of a file of settings."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe might never end
            raise ConfigError(f"{path}: expected a file of settings, found a folder or device; give a TOML file")
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error}); give an existing TOML file") from error
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{path}: expected at most {LARGEST_FILE} bytes of settings, found more; give a TOML file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _parse_toml(text: str, where: str) -> dict:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also of a number with more digits than Python converts
        raise ConfigError(f"{where}: not valid TOML: {error}") from error


def to_toml(config) -> str:
    """Write settings as TOML text that `load_config` reads back, each with its meaning as a comment.

    Fields that are None, which TOML cannot express, are comments as a whole.
    """
    lines: list[str] = []

    def visit(node, prefix: str) -> None:
        nested = []
        hints = typing.get_type_hints(type(node), include_extras=True)
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if dataclasses.is_dataclass(value):
                nested.append((field.name, value))
                continue
            if isinstance(value, dict) and all(map(dataclasses.is_dataclass, value.values())):
                nested += [(f"{field.name}.{key}", entry) for key, entry in value.items()]
                continue
            text = f"# {field.name} = (not set)" if value is None else f"{field.name} = {_toml_value(value)}"
            meaning = getattr(hints[field.name], "__metadata__", ())
            lines.append("  # ".join((text, *meaning)))
        for name, value in nested:
            lines.append(f"\n[{prefix}{name}]")
            visit(value, f"{prefix}{name}.")

    visit(config, "")
    return "\n".join(lines).strip() + "\n"


def _toml_value(value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in escaped) + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value)


def _parse_override(override: str) -> tuple[list[str], object]:
    key, equals, text = override.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: expected a.b=value, for example detector.min_score=0.6")
    try:
        return keys, _parse_toml(f"value = {text}", "")["value"]
    except ConfigError:
        return keys, PYTHON_WORDS.get(text.strip(), text.strip())


def _with_value(table: dict, keys: list[str], value, override: str) -> dict:
    """A copy of the nested table with one value replaced."""
    head, *rest = keys
    if not rest:
        return {**table, head: value}
    below = table.get(head, {})
    if not isinstance(below, dict):
        raise ConfigError(f"--set {override}: {head} is a value, not a table")
    return {**table, head: _with_value(below, rest, value, override)}


def _build(cls, table: dict, where: str):
    """Make a `cls` of a table; `where` names the file and table for the messages."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    values = {}
    for key, value in table.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
            raise ConfigError(f"{where}: unknown key {key}; {hint}")
        kind = hints[key]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: {key} is a table, got {_shown(value)}")
            values[key] = _build(kind, value, f"{where} [{key}]")
        else:
            values[key] = _convert(kind, value, f"{where}: {key}")
    for field in dataclasses.fields(cls):
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: expected a value for {field.name}, found none; set it")
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _shown(value) -> str:
    """A value in a message."""
    try:
        return repr(value)
    except ValueError:  # more digits than Python converts
        return "a number of too many digits"


def _convert(kind, value, where: str):
    """The value as `kind`; bool is no int, int is a float, an array is a tuple, a table may be a dict."""
    if isinstance(kind, types.UnionType):
        choices = [choice for choice in kind.__args__ if choice is not type(None)]
        return _convert(choices[0], value, where)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, got {_shown(value)}")
        return tuple(_convert(item, entry, where) for entry in value)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a table, got {_shown(value)}")
        return {key: _convert(typing.get_args(kind)[1], entry, f"{where}.{key}") for key, entry in value.items()}
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a table, got {_shown(value)}")
        return _build(kind, value, where)
    if type(value) in (int, float) and not abs(value) <= LARGEST:  # nor is nan
        raise ConfigError(f"{where} must be a number between -{LARGEST:.0e} and {LARGEST:.0e}, got another")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        expected = "true or false" if kind is bool else f"of type {kind.__name__}"
        raise ConfigError(f"{where} must be {expected}, got {_shown(value)}")
    return value
