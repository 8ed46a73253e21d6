"""What a user is shown during a run: lines on stderr, text in the window."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import app
from facet import keys, pacing
from facet.render.views import VIEWS
from facet.tracker.controls import COMMANDS
from facet.tracker.errors import SinkError
from facet.tracker.stages import Stages
from facet.tracker.types import Frame

FRAME = Frame(7, 0.25, np.zeros((4, 4, 3), np.uint8), source="clip.mp4")


class Clock:
    def __init__(self):
        self.now_s = 50.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("app.time.monotonic", clock)
    return clock


def notices(senders=(), enabled=True, max_faces=4):
    tracker = SimpleNamespace(left_out=False)
    print_line = app.report if enabled else lambda line: None
    return tracker, app.Notices(tracker, max_faces, senders, print_line)


def test_faces_that_are_left_out_are_reported_once(clock, capsys):
    tracker, notice = notices(max_faces=3)
    notice()
    assert capsys.readouterr().err == ""
    tracker.left_out = True
    for _ in range(3):
        notice()
    reported = capsys.readouterr()
    assert reported.out == "" and reported.err.count("\n") == 1
    assert "at most 3" in reported.err and "--faces N" in reported.err


def test_where_datagrams_go_is_reported_once_after_five_seconds(clock, capsys):
    senders = [SimpleNamespace(status=f"--send {url}: 7 datagrams sent") for url in ("osc://a:1", "osf://b:2")]
    _, notice = notices(senders)
    for _ in range(100):
        notice()
        clock.now_s += 0.049
    assert capsys.readouterr().err == ""
    for _ in range(100):
        notice()
        clock.now_s += 0.2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["--send osc://a:1", "--send osf://b:2"]


def test_quiet_prints_no_notice(clock, capsys):
    tracker, notice = notices([SimpleNamespace(status="sent")], enabled=False)
    tracker.left_out = True
    clock.now_s += 10
    notice()
    assert capsys.readouterr().err == ""


def test_the_help_names_every_view_and_command_with_its_key():
    lines = "   ".join(keys.KEYS_HELP).split("   ")
    for name, entry in [*VIEWS.items(), *COMMANDS.items()]:
        assert f"{entry.key} {name}" in lines or not entry.key
    taken = ["q", "s", "r", "h", *(entry.key for entry in [*VIEWS.values(), *COMMANDS.values()] if entry.key)]
    assert len(set(taken)) == len(taken)


def test_latency_of_a_live_frame_counts_from_its_capture(clock):
    stages, tracker = Stages(), SimpleNamespace(detected=False)
    stages.add("draw", 0, 4_000_000)
    live = Frame(0, 0.0, FRAME.image, captured_s=clock.now_s - 0.030)
    assert pacing.latency_ms(live, tracker, stages) == pytest.approx(34)


def test_latency_of_a_file_does_not_hold_its_pacing():
    stages = Stages()
    stages.add("frame", 0, 33_000_000)  # with the wait for the time of the frame
    stages.add("step", 0, 2_000_000)
    stages.add("step_detect", 0, 9_000_000)
    stages.add("draw", 0, 4_000_000)
    assert pacing.latency_ms(FRAME, SimpleNamespace(detected=False), stages) == pytest.approx(6)
    assert pacing.latency_ms(FRAME, SimpleNamespace(detected=True), stages) == pytest.approx(13)


class Window:
    """Takes keys from a list, and notes what it shows whenever it is drawn."""

    closed = False

    def __init__(self, *turns):
        self.turns, self.status, self.shown, self.notes = list(turns), "", [], []

    def keys(self):
        return self.turns.pop(0)

    def redraw(self):
        self.shown.append(self.status)

    def note(self, text):
        self.notes.append(text)

    def snapshot(self):
        return FRAME.image


def source(still=False):
    return SimpleNamespace(still=still, stopped=False)


def test_a_pause_is_shown_until_it_ends(monkeypatch):
    monkeypatch.setattr("facet.keys.time.sleep", lambda seconds: None)
    window = Window(["space"], [], ["space"])
    assert keys.handle_keys(window, None, None, source(), FRAME)
    assert window.shown == ["paused, space: go on"] * 2 and window.status == ""


def test_an_image_says_how_to_go_on(monkeypatch):
    monkeypatch.setattr("facet.keys.time.sleep", lambda seconds: None)
    window = Window([], ["space"])
    assert keys.handle_keys(window, None, None, source(still=True), FRAME)
    assert window.shown == ["space: next image"] and window.status == ""


class Renderer:
    """Keeps the views that are on."""

    def __init__(self):
        self.views, self.needs_vertices, self.needs_light = ("mesh",), True, False

    def set_views(self, views):
        self.views = views


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.key])
def test_the_key_of_a_command_posts_it(name):
    posted = []
    controls = SimpleNamespace(post=posted.append, notes=deque(["done"]))
    window = Window([COMMANDS[name].key])
    assert keys.handle_keys(window, None, None, source(), FRAME, controls=controls)
    assert posted == [name] and window.notes == ["done"]


@pytest.mark.parametrize("name", VIEWS)
def test_the_key_of_a_view_switches_it_for_the_renderer_and_what_covers_heads(name):
    renderer, privacy, tracker = Renderer(), SimpleNamespace(views=()), SimpleNamespace()
    keys.handle_keys(Window([VIEWS[name].key]), tracker, renderer, source(), FRAME, privacy=privacy)
    assert (name in renderer.views) == (name != "mesh") and privacy.views == renderer.views


def test_commands_are_obeyed_in_a_pause_and_views_that_cover_heads_change_the_image_shown(monkeypatch):
    monkeypatch.setattr("facet.keys.time.sleep", lambda seconds: None)
    called, shown = [], []
    controls = SimpleNamespace(post=called.append, notes=deque(), drain=lambda: called.append("drain"))
    privacy = SimpleNamespace(views=(), again=lambda frame, faces: replace(frame, image=255 - frame.image))
    window = Window(["space"], [COMMANDS["centre"].key, VIEWS["blur"].key], ["space"])
    window.show_again = lambda changed: shown.append(changed(FRAME.image, ()))
    keys.handle_keys(window, SimpleNamespace(), Renderer(), source(), FRAME, controls=controls, privacy=privacy)
    assert called[:3] == ["drain", "centre", "drain"]
    np.testing.assert_array_equal(shown, [255 - FRAME.image])


def test_a_snapshot_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    window = Window(["s"])
    keys.handle_keys(window, None, None, source(), FRAME)
    (path,) = tmp_path.iterdir()
    assert window.notes == [f"saved {path.name}"]


def test_a_snapshot_that_fails_is_shown(monkeypatch):
    def full(*_, **__):
        raise SinkError("facet.png: cannot be written (No space left on device)")

    monkeypatch.setattr("facet.keys.write_image", full)
    window = Window(["s"])
    lines = []
    assert keys.handle_keys(window, None, None, source(), FRAME, lines.append)
    assert window.notes == ["the snapshot could not be written"]
    assert len(lines) == 1 and "No space left" in lines[0]


@pytest.mark.parametrize(("compiling", "watched"), [(True, True), (True, False), (False, True)])
def test_compiling_is_reported_to_who_watches(compiling, watched, monkeypatch, capsys):
    loaded = threading.Event()
    monkeypatch.setattr("app.COMPILING_S", 0.05 if compiling else 60)
    monkeypatch.setattr("app.load_kernels", lambda **_: loaded.wait(0.5))
    app.load_kernels_patiently(watched)
    reported = capsys.readouterr().err
    assert ("compiling the kernels" in reported) == (compiling and watched)
