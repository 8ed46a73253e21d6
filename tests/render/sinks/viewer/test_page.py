"""The page in a real browser: Chromium without a screen, driven by Playwright."""

import contextlib
import os
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from facet.render.renderer import open_renderer
from facet.tracker.controls import Controls
from facet.tracker.morphable import project
from tests.conftest import ROOT
from tests.render.sinks.viewer.client import MODEL, SIZE_WH, face_at, fed, frame_at, port_of, viewer
from tests.render.sinks.viewer.test_replay import write_log
from tests.waiting import wait_until

pytestmark = pytest.mark.long  # a browser that draws on the CPU
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# GL on the CPU, as nothing else is sure to be there
OPTIONS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
REFUSED = "net::ERR_CONNECTION_REFUSED"  # what Chromium writes to the console while nobody listens
TIMEOUT_MS = 60_000  # software GL on a busy machine is slow


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
    found = os.environ.get("FACET_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=OPTIONS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(chromium, url, size=DESKTOP, scheme="light", allowed=None):
    """A page, and at the end the proof that its console holds no error but allowed ones."""
    context = chromium.new_context(viewport=size, color_scheme=scheme, accept_downloads=True)
    context.set_default_timeout(TIMEOUT_MS)
    page, wrong = context.new_page(), []
    page.on("console", lambda line: line.type in ("error", "warning") and wrong.append(line.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    here = (url.partition("?")[0], "blob:", "data:")
    page.on("request", lambda request: request.url.startswith(here) or wrong.append(f"request of {request.url}"))
    try:
        page.goto(url)
        yield page
        assert not [line for line in wrong if allowed is None or allowed not in line]
    finally:
        context.close()


def until(page, expression, value=None):
    """Wait until something is so in the page, whose own rules forbid Playwright's way to wait for it."""
    wait_until(lambda: page.evaluate(expression, value) or page.wait_for_timeout(50), TIMEOUT_MS / 1000)


def text_of(selector):
    return f"document.querySelector('{selector}').textContent"


def shows_frames(page):
    """Wait until a frame is shown, with all that belongs to it."""
    until(page, f"{text_of('#fps')}.endsWith('fps')")


def shows_mesh(page):
    """Wait until the face model is there and drawn."""
    wait_until(lambda: pixels(page, "#head canvas")[..., :3].std() > 15, TIMEOUT_MS / 1000)


def pixels(page, selector):
    """A part of the page as it looks, (H, W, 4) uint8 BGRA."""
    data = page.locator(selector).screenshot(omit_background=True)
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_shows_a_face(chromium, tmp_path, size, scheme):
    with (
        viewer(folder=tmp_path, name="clip.mp4") as shown, fed(shown, fps=5),
        opened(chromium, shown.url, size, scheme) as page,
    ):
        shows_frames(page)
        assert page.title() == "facet \u2013 clip.mp4" and page.inner_text("#link") == "live"
        assert page.inner_text("#state") == "tracked" and page.inner_text("#faces button") == "face 1"
        assert [page.inner_text(f"#{name}").count("°") for name in ("pose", "gaze")] == [3, 2]
        assert page.locator(".bar").count() == 51 and page.locator("#curves canvas").count() == 2
        until(page, "[...document.querySelectorAll('.bar b')].some((e) => Number(e.textContent) > 0.1)")
        video = pixels(page, "#video canvas")[20:-20, 20:-20, :3]
        assert np.ptp(video.astype(int), axis=2).max() < 12 and 40 <= np.median(video) <= 200  # grey, as sent
        shows_mesh(page)
        # nothing is wider than the screen
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, back[4:-1].split(","))) < 200) == (scheme == "dark")


def test_the_mesh_lies_where_the_renderer_draws_it(chromium, tmp_path):
    """`?overlay=1` is transparent but for the mesh, which the vertex shader places."""
    face = face_at(4)
    vertices = project(MODEL.vertices(face.shape, face.expression), face.model_to_image)
    with open_renderer("cpu", MODEL, ("depth",)) as renderer:
        renderer.draw(frame_at(0).image, (replace(face, vertices=vertices),))
        drawn = renderer.depth_map() > 0
    size = {"width": 2 * SIZE_WH[0], "height": 2 * SIZE_WH[1] + 100}  # the image lies in the middle
    with (
        viewer(folder=tmp_path) as shown, fed(shown, fps=4, faces=lambda k: (face,)),
        opened(chromium, f"{shown.url}?overlay=1", size) as page,
    ):
        found = np.zeros((1, 1, 4), np.uint8)

        def looked():
            nonlocal found
            found = pixels(page, "#head canvas")
            return found[..., 3].max() > 150

        wait_until(looked, 60)
        assert not shown.wants_image  # it costs no image
    alpha = cv2.resize(found[50:-50, :, 3], SIZE_WH, interpolation=cv2.INTER_AREA)
    assert (found[:40, :, 3] == 0).all() and (found[-40:, :, 3] == 0).all()
    inside = cv2.erode(drawn.astype(np.uint8), np.ones((31, 31))) > 0  # the border fades
    assert inside.sum() > 2000 and (alpha[inside] > 100).mean() > 0.97
    assert (alpha[~(cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5))) > 0)] < 20).mean() > 0.999


def test_keys_and_buttons_move_the_controls(chromium, tmp_path):
    controls = Controls(model=MODEL)
    with (
        viewer(folder=tmp_path, controls=controls) as shown,
        fed(shown, fps=5, faces=lambda k: controls((face_at(k), face_at(k, 2)), k / 30)),
        opened(chromium, shown.url) as page,
    ):
        shows_frames(page)
        page.keyboard.press("f")
        page.wait_for_selector("button.command[aria-pressed=true] >> text=freeze")
        page.click("text=freeze")
        page.wait_for_selector("button.command[aria-pressed=false] >> text=freeze")
        page.click("text=centre")
        wait_until(lambda: page.wait_for_timeout(50) or controls.state()["centred"])
        page.keyboard.press("n")
        page.wait_for_selector("#faces button[aria-pressed=true] >> text=face 2")
        page.click(".bar >> text=mouthFunnel")
        page.wait_for_selector(".bar[aria-pressed=true] >> text=mouthFunnel")
        assert "mouthFunnel" in page.inner_text("#weights .u-legend")
        shows_mesh(page)
        page.keyboard.press("f")  # what moves from now on moves by the keys
        page.wait_for_selector("button.command[aria-pressed=true] >> text=freeze")
        before = pixels(page, "#head canvas")
        page.focus("#head canvas")
        for _ in range(12):
            page.keyboard.press("ArrowLeft")
        wait_until(lambda: (pixels(page, "#head canvas") != before).mean() > 0.05, TIMEOUT_MS / 1000)


def test_a_recording_is_downloaded(chromium, tmp_path):
    with viewer(folder=tmp_path, name="clip.mp4") as shown, fed(shown, fps=8), opened(chromium, shown.url) as page:
        shows_frames(page)
        page.keyboard.press("r")
        page.wait_for_selector("#record[aria-pressed=true]")
        page.wait_for_timeout(1500)
        page.click("#record")
        page.wait_for_selector("#recordings >> text=clip_1.glb")
        for name in ("log.jsonl", "clip_1.glb"):
            with page.expect_download() as waiting:
                page.click(f"#recordings >> text={name}")
            (original,) = tmp_path.glob(f"facet-*/{name}")
            assert waiting.value.suggested_filename == f"{original.parent.name}_{name}"
            assert open(waiting.value.path(), "rb").read() == original.read_bytes()


def test_a_log_is_scrubbed_against_its_video(chromium, tmp_path):
    log = tmp_path / "faces.jsonl"
    write_log(log, ROOT / "samples" / "demo.mp4")
    with (
        viewer(folder=tmp_path, logs={"faces.jsonl": lambda: log}) as shown,
        opened(chromium, f"{shown.url}?replay=faces.jsonl") as page,
    ):
        page.wait_for_selector("#scrub")
        for place, pose in ((31, 31), (5, 5)):
            page.fill("#place", str(place))
            page.keyboard.press(".")
            until(page, f"{text_of('#time')}.includes('frame {place + 1} of 40')")
            yaw = face_at(pose + 1).pose.yaw_deg
            until(page, f"{text_of('#pose')}.startsWith('{yaw:.1f}°')")
        assert pixels(page, "#video canvas")[..., :3].std() > 20
        page.keyboard.press("End")
        page.keyboard.press(" ")  # from the beginning
        page.wait_for_selector("#play >> text=pause")
        page.wait_for_selector("#play >> text=play")
        assert "frame 39 of 40" in page.inner_text("#time")


def test_a_log_that_is_not_served_is_reported(chromium, tmp_path):
    with viewer(folder=tmp_path) as shown, opened(chromium, f"{shown.url}?replay=../x.jsonl", allowed="404") as page:
        page.wait_for_selector("#link >> text=Not Found")


def test_the_page_comes_back_after_the_tracker(chromium, tmp_path):
    with viewer(folder=tmp_path) as shown, opened(chromium, shown.url, allowed=REFUSED) as page:
        port = port_of(shown)
        with fed(shown, fps=5):
            shows_frames(page)
        shown.close()
        page.wait_for_selector("#link >> text=connecting")
        with viewer(folder=tmp_path, port=port, name="again.mp4") as again, fed(again, fps=5):
            page.wait_for_selector("#link >> text=live")
            page.wait_for_selector("#source >> text=again.mp4")
            before = page.inner_text("#pose")
            until(page, f"(old) => {text_of('#pose')} !== old", before)


def test_a_page_of_another_site_gets_nothing(chromium, tmp_path):
    """The browser sends its Origin; the other site is a second viewer, on another port."""
    with viewer(folder=tmp_path) as shown, viewer(folder=tmp_path, port=0) as other, fed(shown, fps=5):
        context = chromium.new_context()
        try:
            page = context.new_page()
            page.goto(other.url)
            connect = """(port) => new Promise((done) => {
                const socket = new WebSocket(`ws://127.0.0.1:${port}/live`);
                socket.onopen = () => done("open");
                socket.onerror = () => done("refused");
            })"""
            assert page.evaluate(connect, port_of(other)) == "open"
            assert page.evaluate(connect, port_of(shown)) == "refused"
        finally:
            context.close()


def test_a_mirror_is_shown_as_one(chromium, tmp_path):
    with viewer(folder=tmp_path, mirror=True) as shown, fed(shown, fps=5), opened(chromium, shown.url) as page:
        shows_frames(page)
        style = page.evaluate("getComputedStyle(document.querySelector('#video canvas')).transform")
        assert style.startswith("matrix(-1")
