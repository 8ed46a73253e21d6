"""Which renderer is opened."""

import json

import numpy as np
import pytest

from facet.render import renderer as choice
from facet.render.cpu.renderer import CpuRenderer
from facet.tracker.errors import RenderError
from tests.render.heads import egg, noise, place

HEAD = egg(10, 12)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache folder of our own."""
    monkeypatch.setattr(choice, "cache_file", lambda: tmp_path / "cache" / "renderer.json")
    return tmp_path / "cache" / "renderer.json"


class FakeGl(CpuRenderer):
    """Stands for a GL renderer."""

    def __init__(self, geometry, views, name="gl (fake, 4.5)"):
        super().__init__(geometry, views)
        self.name, self.closed = name, False

    def close(self):
        self.closed = True


@pytest.fixture
def machine(monkeypatch):
    """A machine with a GL; what it measures can be set."""
    state = {"cpu": 5.0, "gl": 1.0, "opened": [], "measured": 0, "name": "gl (fake, 4.5)"}

    def open_gl(geometry, views):
        if state["gl"] is None:
            raise RenderError("expected OpenGL 3.3, found none")
        state["opened"].append(FakeGl(geometry, views, state["name"]))
        return state["opened"][-1]

    def measure(renderer):
        state["measured"] += 1
        return state["gl" if isinstance(renderer, FakeGl) else "cpu"]

    monkeypatch.setattr(choice, "_open_gl", open_gl)
    monkeypatch.setattr(choice, "measure_ms", measure)
    return state


def test_auto_takes_the_faster_and_says_so(machine):
    with choice.open_renderer("auto", HEAD, ("mesh",)) as renderer:
        assert renderer.name == "gl (fake, 4.5), the faster here: 1.0 ms a frame, cpu 5.0 ms"
        assert renderer.views == ("mesh",)


def test_auto_takes_the_cpu_where_gl_is_slower_and_closes_gl(machine):
    machine["gl"] = 30.0
    with choice.open_renderer("auto", HEAD, ("mesh",)) as renderer:
        assert renderer.name == "cpu, the faster here: 5.0 ms a frame, gl (fake, 4.5) 30.0 ms"
    assert machine["opened"][0].closed


@pytest.mark.parametrize("gl_ms", [1.0, 30.0, None])
def test_auto_measures_once(machine, gl_ms):
    machine["gl"] = gl_ms
    names = {choice.open_renderer("auto", HEAD, ("mesh",)).name for _ in range(3)}
    assert len(names) == 1
    assert machine["measured"] == (0 if gl_ms is None else 2)
    assert len(machine["opened"]) == {1.0: 3, 30.0: 1, None: 0}[gl_ms]  # a context only where it draws


def test_another_driver_is_measured_anew(machine):
    choice.open_renderer("auto", HEAD, ("mesh",))
    machine["name"] = "gl (fake, 4.6)"
    choice.open_renderer("auto", HEAD, ("mesh",))
    assert machine["measured"] == 4


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"date": "2026-01-01"}', '{"machine": 1, "gl": "x", "date": 5}', "\x00\xff"],
)
def test_a_corrupted_cache_is_ignored_and_replaced(machine, own_cache, text):
    own_cache.parent.mkdir()
    own_cache.write_text(text, encoding="latin-1")
    assert choice.open_renderer("auto", HEAD, ("mesh",)).name.startswith("gl (fake, 4.5)")
    assert json.loads(own_cache.read_text())["gl_ms"] == 1.0


@pytest.mark.parametrize(("key", "value"), [("machine", "another"), ("date", "2001-01-01"), ("date", "2999-01-01")])
def test_a_measurement_of_another_machine_or_time_is_not_believed(machine, own_cache, key, value):
    choice.open_renderer("auto", HEAD, ("mesh",))
    own_cache.write_text(json.dumps({**json.loads(own_cache.read_text()), key: value}))
    choice.open_renderer("auto", HEAD, ("mesh",))
    assert machine["measured"] == 4


def test_a_cache_that_cannot_be_written_is_no_failure(machine, own_cache):
    own_cache.parent.write_text("a file where the folder should be")
    assert choice.open_renderer("auto", HEAD, ("mesh",)).name.startswith("gl")


def test_auto_falls_back_to_the_cpu_where_gl_does_not_load(monkeypatch):
    from facet.render.gl import context

    def fail(in_window=False):
        raise RenderError("expected OpenGL 3.3, found none (libEGL.so.1 is missing); use --renderer cpu")

    monkeypatch.setattr(context, "make_context", fail)
    with choice.open_renderer("auto", HEAD, ("mesh",)) as renderer:
        assert renderer.name == "cpu"
        assert renderer.draw(noise(50, 50), (place(HEAD, scale=0.1, at=(25, 25)),)).shape == (50, 50, 3)
    with pytest.raises(RenderError, match=r"expected OpenGL 3\.3, found none .*use --renderer cpu"):
        choice.open_renderer("gl", HEAD, ("mesh",))


@pytest.mark.parametrize(
    "error", [OSError("libGL.so: no such file"), ImportError("no moderngl"), Exception("two\nlines")]
)
def test_every_failure_of_a_driver_is_one_line(monkeypatch, error):
    import moderngl

    from facet.render.gl.context import make_context

    def fail(**options):
        raise error

    monkeypatch.setattr(moderngl, "create_context", fail)
    with pytest.raises(RenderError) as caught:
        make_context()
    assert "\n" not in str(caught.value) and "use --renderer cpu" in str(caught.value)


def test_an_unknown_choice_is_refused():
    with pytest.raises(RenderError, match="found vulkan"):
        choice.open_renderer("vulkan", HEAD, ("mesh",))


@pytest.mark.gl
def test_the_measurement_itself(gl_works):
    if gl_works:
        pytest.skip(gl_works)
    with choice.open_renderer("auto", HEAD, ("axes",)) as renderer:
        assert "the faster here" in renderer.name and renderer.views == ("axes",)


def test_measuring_leaves_the_views_as_they_were():
    with choice.open_renderer("cpu", HEAD, ("axes", "box")) as renderer:
        assert 0 < choice.measure_ms(renderer) < 1e4
        assert renderer.views == ("axes", "box")
        assert np.isfinite(choice.measure_ms(renderer))
