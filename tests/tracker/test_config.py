"""Settings: what is accepted, and how mistakes are told."""

from dataclasses import dataclass, field

import pytest

from tracker.config import load_config, to_toml
from tracker.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    count: int = 3
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")
    size: str | None = None
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


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("inner.cont=1", "did you mean count"),
        ("zzz=1", "known: inner, title"),
        ("inner.count=1.5", "must be of type int"),
        ("inner.count=true", "must be of type int"),
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
def test_mistakes_are_told(override, told):
    with pytest.raises(ConfigError, match=told):
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
