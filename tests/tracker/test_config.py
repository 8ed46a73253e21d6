"""Settings: what is accepted, and how mistakes are reported."""

import os
import re
from dataclasses import dataclass, field, is_dataclass
from typing import Annotated, get_type_hints

import pytest

from facet.settings import AppConfig
from facet.tracker.config import load_config, to_toml
from facet.tracker.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    count: Annotated[int, "how many, frames"] = 3
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")
    size: Annotated[str | None, "WxH"] = None
    on: bool = True

    def __post_init__(self):
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be in [0, 1], got {self.rate}")


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    title: str = "x"


def test_defaults_without_a_file():
    assert load_config(Outer) == Outer()


def test_file_below_overrides(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('title = "file"\n[inner]\ncount = 5\nrate = 1\n')
    config = load_config(Outer, path, ["inner.count=7", "inner.size=640x480", 'inner.names=["q"]', "inner.on=false"])
    assert config == Outer(Inner(count=7, rate=1.0, names=("q",), size="640x480", on=False), "file")


def test_written_settings_read_back(tmp_path):
    config = Outer(Inner(size='6"4\\', names=()), "ü")
    path = tmp_path / "c.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load_config(Outer, path) == config


def test_written_settings_have_their_meaning():
    text = """title = "x"

[inner]
count = 3  # how many, frames
rate = 0.5
names = ["a", "b"]
# size = (not set)  # WxH
on = true
"""
    assert to_toml(Outer()) == text


def settings(cls, path=""):
    """Every setting: its path, and what its declaration says of it."""
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if is_dataclass(hint):
            yield from settings(hint, f"{path}{name}.")
        else:
            yield f"{path}{name}", getattr(hint, "__metadata__", ())


@pytest.mark.parametrize(("path", "meaning"), list(settings(AppConfig)))
def test_every_setting_says_what_it_means(path, meaning):
    assert len(meaning) == 1 and len(meaning[0]) > 10
    name = path.split(".")[1]
    assert re.search(rf"(?m)^(# )?{name} = .+  # {re.escape(meaning[0])}$", to_toml(AppConfig()))
    units = {"s": "seconds", "hz": "Hz", "px": "px", "deg": "degrees"}
    unit = units.get(name.rsplit("_", 1)[-1])
    assert unit is None or unit in meaning[0]


@pytest.mark.parametrize(
    ("override", "reported"),
    [
        ("inner.cont=1", "did you mean count"),
        ("zzz=1", "known: inner, title"),
        ("inner.count=1.5", "must be of type int"),
        ("inner.count=true", "must be of type int"),
        ("inner.on=FALSE", "on must be true or false, got 'FALSE'"),
        ("inner.on=0", "on must be true or false, got 0"),
        ("inner.rate=2.0", r"rate must be in \[0, 1\], got 2.0"),
        ("inner=3", "inner is a table"),
        ("title.x=3", "must be of type str"),
        ("inner.names=3", "must be a list"),
        ("inner.names=[3]", "must be of type str"),
        ("inner.count", "expected a.b=value"),
        ("=3", "expected a.b=value"),
        ("inner..count=3", "expected a.b=value"),
    ],
)
def test_mistakes_are_reported(override, reported):
    with pytest.raises(ConfigError, match=reported):
        load_config(Outer, None, [override])


@pytest.mark.parametrize("content", [b"inner = [", b"\xff\xfe", b"inner = 3"])
def test_bad_files(tmp_path, content):
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.toml"):
        load_config(Outer, path)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(Outer, tmp_path / "none.toml")


@pytest.mark.parametrize(
    "value",
    ["9" * 400, "9" * 5000, "-" + "9" * 400, "0x" + "f" * 5000, str(2**63), "1e308", "1e999", "nan", "inf", "-inf"],
)
@pytest.mark.parametrize("key", ["inner.count", "inner.rate", "inner.names", "inner.size", "inner.on", "title"])
def test_numbers_beyond_all_bounds(key, value):
    if key in ("inner.size", "title") and value == "9" * 5000:
        return  # a text, as any other
    with pytest.raises(ConfigError):
        load_config(Outer, None, [f"{key}={value}"])
    for inside in (f"inner.names=[{value}]", f"inner={value}", f"{key}=[[{value}]]"):
        with pytest.raises(ConfigError):
            load_config(Outer, None, [inside])


@pytest.mark.parametrize(
    "override",
    [
        "inner.names=" + "[" * 5000,
        "inner.names=" + "[" * 300 + "]" * 300,
        "a." * 5000 + "b=1",
        "inner.count=" + "{a=" * 3000,
    ],
)
def test_settings_that_are_nested_deeply(override, tmp_path):
    with pytest.raises(ConfigError):
        load_config(Outer, None, [override])
    path = tmp_path / "c.toml"
    path.write_text(override)
    with pytest.raises(ConfigError):
        load_config(Outer, path)


@pytest.mark.parametrize(("text", "value"), [("True", True), ("False", False), (" False ", False), ("false", False)])
def test_pythons_spelling_of_truth(text, value):
    assert load_config(Outer, None, [f"inner.on={text}"]).inner.on is value


def test_a_text_with_controls_reads_back(tmp_path):
    config = Outer(title='line\n\x1b[31m\x7f"\\\u2028')
    path = tmp_path / "c.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert load_config(Outer, path) == config
    assert to_toml(config).count("\n") == to_toml(Outer()).count("\n")


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "large", "binary", "long name"])
def test_files_that_hold_no_settings(kind, tmp_path):
    path = tmp_path / "c.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "large":
        path.touch()
        os.truncate(path, 100_000_000)
    elif kind == "binary":
        path.write_bytes(bytes(range(256)))
    elif kind == "long name":
        path = tmp_path / ("c" * 300)
    with pytest.raises(ConfigError, match=path.name):
        load_config(Outer, path)
