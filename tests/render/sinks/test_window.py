"""The live window, on an X server of our own, driven with keys."""

import os
import shutil
import subprocess
import time

import cv2
import numpy as np
import pytest

from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from facet.render.hud import FrameRate, hud_line, lay_over, text_picture
from facet.render.sinks.window import NOTE_S, CvWindow, GlWindow, open_window
from facet.tracker.errors import RenderError
from tests.conftest import ROOT
from tests.program import camera_command, playable_frames, records
from tests.render.heads import egg, place
from tests.render.x_window import ask_to_close, press, screenshot, show_again

HEAD = egg(20, 24)
GEOMETRY = geometry_of(HEAD)
TITLE = "facet under test"
HELP = ("q, Esc  quit", "h  this help")


def halves() -> np.ndarray:
    """Left half blue, right half green."""
    image = np.zeros((240, 320, 3), np.uint8)
    image[:, :160, 0] = image[:, 160:, 1] = 255
    return image


def wait_for(window, screen, condition):
    """The screen, once the condition holds of it; four seconds at most."""
    for turn in range(80):
        shot = screenshot(screen)
        if condition(shot):
            return shot
        if turn == 40:
            show_again(TITLE)
        window.redraw()
        window.keys()
        time.sleep(0.05)
    return screenshot(screen)


def share(shot, colour) -> float:
    return float((np.abs(shot.astype(int) - colour).max(axis=2) < 30).sum()) / (320 * 240)


@pytest.fixture(params=[pytest.param("gl", marks=[pytest.mark.gl]), "cpu"])
def opened(request, x_server):
    """A window of each kind and its screen; not mirrored."""
    renderer = CpuRenderer(GEOMETRY, ())
    if request.param == "gl":
        renderer = request.getfixturevalue("open_gl")(GEOMETRY, ())
    elif os.environ.get("QT_QPA_PLATFORM"):
        pytest.skip("Qt is set to draw elsewhere")
    with open_window(TITLE, renderer, HELP) as window:
        assert type(window) is (GlWindow if request.param == "gl" else CvWindow)
        yield window, renderer, x_server


@pytest.mark.display
def test_the_window_shows_the_picture_the_right_way_round(opened):
    window, _, screen = opened
    window.show(halves(), ())
    shot = wait_for(window, screen, lambda shot: share(shot, (255, 0, 0)) > 0.3)
    assert share(shot, (255, 0, 0)) == pytest.approx(share(shot, (0, 255, 0)), rel=0.2)
    blue, green = ((np.abs(shot.astype(int) - c).max(axis=2) < 30).nonzero() for c in ((255, 0, 0), (0, 255, 0)))
    assert blue[1].max() <= green[1].min()  # blue on the left
    assert abs(float(blue[0].mean()) - float(green[0].mean())) < 15


@pytest.mark.display
def test_the_window_draws_the_faces(opened):
    window, renderer, screen = opened
    track = place(HEAD, scale=0.8, at=(160, 120))
    black = np.zeros((240, 320, 3), np.uint8)
    window.show(black, ())
    renderer.set_views(("depth",))
    window.show(black, (track,))
    shot = wait_for(window, screen, lambda shot: (shot.min(axis=2) > 100).mean() > 0.01)
    # light where the head is
    assert (shot.min(axis=2) > 100).mean() > 0.01
    renderer.set_views(())
    window.redraw()
    shot = wait_for(window, screen, lambda shot: (shot.min(axis=2) > 100).mean() < 0.005)
    assert (shot.min(axis=2) > 100).mean() < 0.005


@pytest.mark.display
def test_keys_arrive(opened):
    window, _, _ = opened
    for _ in range(5):
        window.show(halves(), ())
        window.keys()
        time.sleep(0.05)
    seen = []
    for key in ("h", "space", "3", "Escape", "q"):
        press(TITLE, key)
        for _ in range(20):
            pressed = window.keys()
            seen += pressed
            if pressed:
                break
            time.sleep(0.05)
    assert seen == ["h", "space", "3", "esc", "q"]
    assert window.keys() == []


@pytest.mark.display
def test_help_comes_and_goes(opened):
    window, _, screen = opened

    def light(shot):
        return int((shot.min(axis=2) > 200).sum())

    black = np.zeros((480, 640, 3), np.uint8)
    window.show(black, ())
    before = light(wait_for(window, screen, lambda shot: light(shot) > 20))
    window.toggle_help()
    during = light(wait_for(window, screen, lambda shot: light(shot) > 1.5 * before))
    window.toggle_help()
    after = light(wait_for(window, screen, lambda shot: light(shot) < 1.2 * before))
    assert before > 20 and during > 1.5 * before and after < 1.2 * before


@pytest.mark.display
def test_a_status_stays_and_a_note_goes(opened, monkeypatch):
    window, _, screen = opened
    now_s = [100.0]
    monkeypatch.setattr("facet.render.sinks.window.time.monotonic", lambda: now_s[0])
    before = [0]

    def settled(low, high=np.inf):
        """How many pixels are light, once they are more than `low` and the same twice: a screen may be half drawn."""

        def condition(shot):
            before[:] = [*before[-1:], int((shot.min(axis=2) > 200).sum())]
            return low < before[-1] < high and before[0] == before[-1]

        wait_for(window, screen, condition)
        return before[-1]

    window.show(np.zeros((480, 640, 3), np.uint8), ())
    plain = settled(20)
    window.status = "paused, space: go on"
    window.redraw()
    paused = settled(1.3 * plain)
    window.note("saved facet-20260101-120000-1.png")
    noted = settled(1.3 * paused)
    now_s[0] += NOTE_S + 0.1
    window.redraw()
    assert plain > 20 and paused > 1.3 * plain and noted > 1.3 * paused and settled(plain, 1.1 * paused) == paused


@pytest.mark.display
def test_the_snapshot_is_the_picture_without_words(opened):
    window, renderer, _ = opened
    with pytest.raises(RenderError, match="snapshot"):
        window.snapshot()
    image = halves()
    window.show(image, ())
    np.testing.assert_array_equal(window.snapshot(), image)
    renderer.set_views(("mesh",))
    window.show(image, (place(HEAD, scale=0.8, at=(160, 120)),))
    assert (window.snapshot() != image).any()
    np.testing.assert_array_equal(window.snapshot()[:20, :20], image[:20, :20])


@pytest.mark.display
@pytest.mark.parametrize("kind", [pytest.param("gl", marks=pytest.mark.gl), "cpu"])
def test_a_mirror_turns_the_picture_but_not_the_words(request, x_server, kind):
    renderer = CpuRenderer(GEOMETRY, ()) if kind == "cpu" else request.getfixturevalue("open_gl")(GEOMETRY, ())
    with open_window(TITLE, renderer, HELP, mirror=True) as window:
        window.show(halves(), ())
        shot = wait_for(window, x_server, lambda shot: share(shot, (255, 0, 0)) > 0.3)
        blue = (np.abs(shot.astype(int) - (255, 0, 0)).max(axis=2) < 30).nonzero()
        green = (np.abs(shot.astype(int) - (0, 255, 0)).max(axis=2) < 30).nonzero()
        assert blue[1].min() >= green[1].max()
        light = (shot[:30, :320].min(axis=2) > 200).nonzero()
        assert len(light[1]) and light[1].mean() < 160  # the words stay at the left
        np.testing.assert_array_equal(window.snapshot(), halves()[:, ::-1])


@pytest.mark.display
def test_pictures_may_change_their_size_and_the_window_may_be_closed_twice(opened):
    window, _, _ = opened
    for width, height in ((320, 240), (101, 333), (1, 1), (1920, 1080)):
        window.show(np.zeros((height, width, 3), np.uint8), ())
        assert window.snapshot().shape == (height, width, 3)
    assert not window.closed
    window.close()
    assert window.closed and window.keys() == []
    window.redraw()
    window.close()


@pytest.mark.display
@pytest.mark.gl
def test_the_user_closes_the_window(x_server, open_gl):
    import glfw

    with open_window(TITLE, open_gl(GEOMETRY, ()), HELP) as window:
        window.show(halves(), ())
        assert not window.closed
        glfw.set_window_should_close(window._window, True)
        assert window.closed


@pytest.mark.display
@pytest.mark.parametrize("kind", [pytest.param("gl", marks=pytest.mark.gl), "cpu"])
def test_a_live_run_ends_when_its_window_is_closed(x_server, kind, gl_works, networks, tmp_path):
    """What a window manager sends when its button is clicked reaches the program, which ends well."""
    if kind == "gl" and gl_works:
        pytest.skip(gl_works)
    if kind == "cpu" and os.environ.get("QT_QPA_PLATFORM"):
        pytest.skip("Qt is set to draw elsewhere")
    if not shutil.which("xdotool"):
        pytest.skip("no xdotool")
    out, log = tmp_path / "out.mp4", tmp_path / "log.jsonl"
    demo = ROOT / "samples" / "demo.mp4"
    process = subprocess.Popen(
        camera_command(demo, None, "-o", out, "--log", log, "--renderer", kind, *networks),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        found = subprocess.run(
            ["xdotool", "search", "--sync", "--onlyvisible", "--name", "^facet - "],
            stdout=subprocess.PIPE, text=True, check=True, timeout=60,
        )  # fmt: skip
        time.sleep(1.0)
        assert process.poll() is None
        ask_to_close(int(found.stdout.split()[0]))
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert 0 < playable_frames(out) == len(records(log))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "out.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="there is always a display")
def test_without_a_display_it_says_so(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":3917")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(RenderError, match=r"expected (a display|an OpenCV with windows)"):
        open_window(TITLE, CpuRenderer(GEOMETRY, ()), HELP)


def test_a_headless_opencv_is_reported(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(RenderError, match="pip install opencv-python"):
        open_window(TITLE, CpuRenderer(GEOMETRY, ()), HELP)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ((0.0, None, 0), "no face"),
        ((29.97, None, 1), "30 fps   1 face"),
        ((60.2, 8.26, 3), "60 fps   latency 8 ms   3 faces"),
    ],
)
def test_what_the_hud_says(values, line):
    assert hud_line(*values) == line


def test_frame_rate(monkeypatch):
    rate = FrameRate()
    assert rate.fps == 0
    times = iter(np.arange(100) / 25)
    monkeypatch.setattr("facet.render.hud.time.perf_counter", lambda: next(times))
    rate.tick()
    assert rate.fps == 0
    for _ in range(60):
        rate.tick()
    assert rate.fps == pytest.approx(25)


@pytest.mark.parametrize("scale", [0.6, 1.0, 3.0])
def test_words_are_white_with_a_dark_surround(scale):
    words = text_picture(("30 fps", "1 face"), scale)
    assert (words[..., :3] <= words[..., 3:]).all()
    assert words[..., 0].max() == 255 and ((words[..., 0] == 0) & (words[..., 3] > 60)).any()
    assert words[0].max() == 0 and words[:, 0].max() == 0


@pytest.mark.parametrize("value", [0, 128, 255])
def test_words_are_legible_on_any_picture(value):
    image = np.full((100, 300, 3), value, np.uint8)
    lay_over(image, text_picture(("30 fps",), 1.0))
    assert int(image.max()) - int(image.min()) > 100


def test_words_are_cut_off_by_a_small_picture():
    image = np.zeros((5, 7, 3), np.uint8)
    lay_over(image, text_picture(("a long line of words",), 1.0))
    assert image.shape == (5, 7, 3)
