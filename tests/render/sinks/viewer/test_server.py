"""The server of the page, by clients that share no code with it: http.client and websockets."""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from facet.render.renderer import open_renderer
from facet.render.sinks.viewer import server
from facet.tracker.controls import Controls
from facet.tracker.morphable import project
from tests.render.sinks.viewer.client import (
    BLENDSHAPES,
    GEOMETRY,
    MODEL,
    SIZE_WH,
    Page,
    decoded,
    face_at,
    fed,
    frame_at,
    get,
    live,
    port_of,
    viewer,
)
from tests.waiting import wait_until

ESCAPES = (
    *("/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "/page//etc/passwd", "/page/"),
    *("/page/vendor/../../server.py", "/page/vendor", "/page/three.LICENSE", "/etc/passwd", "/..", "/replay/"),
    *("/recordings/../../etc/passwd", "/recordings/%2e%2e/passwd", "/replay/../../etc/passwd", "/replay//etc/passwd"),
    "/replay/%2e%2e%2fsecret.jsonl",
)
NONSENSE = ("", "x", "[]", "3", "{}", '{"command": 3}', '{"command": []}', '{"shown": []}', "[" * 9000)


@pytest.fixture
def shown(tmp_path):
    with viewer(folder=tmp_path, name="clip.mp4") as found:
        yield found


def hand_over(shown, k, faces=None):
    frame = frame_at(k)
    shown.write(frame, (face_at(k),) if faces is None else faces, frame.image if shown.wants_image else None)


def watched(shown, connection) -> Page:
    page = Page(connection)
    wait_until(lambda: shown.wants_image)
    return page


def test_the_page_and_its_parts_are_served(shown):
    status, headers, body = get(shown, "/")
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8" and b"<title>facet" in body
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    for name, kind in {"viewer.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}.items():
        status, headers, body = get(shown, f"/page/{name}")
        assert status == 200 and headers["content-type"].startswith(kind) and body
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"


def test_nothing_comes_from_elsewhere():
    """No address of another server in the page's own files; libraries name their licences' only."""
    own = [path for path in server.PAGE.glob("*") if path.suffix in (".html", ".js", ".css")]
    assert len(own) >= 7
    for path in own:
        assert "//" not in path.read_text(encoding="utf-8").replace("// ", "").replace("https:", "")


def test_the_libraries_are_there_with_their_licences():
    for name in ("three", "uPlot"):
        assert "MIT" in (server.PAGE / "vendor" / f"{name}.LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ESCAPES)
def test_no_other_file_is_served(shown, path):
    assert get(shown, path)[0] == 404


def test_a_foreign_site_is_refused(shown):
    assert get(shown, "/", Origin="http://evil.example")[0] == 403
    assert get(shown, "/model", Host="evil.example")[0] == 403
    with pytest.raises(InvalidStatus) as error, live(shown, origin="http://evil.example"):
        pass
    assert error.value.response.status_code == 403
    with live(shown, origin=f"http://127.0.0.1:{port_of(shown)}") as connection:
        assert Page(connection).hello["source"] == "clip.mp4"


def test_another_host_needs_the_token(tmp_path):
    with viewer("0.0.0.0", "secret", folder=tmp_path) as shown:
        assert shown.url.endswith("/?token=secret")
        for path in ("/", "/?token=", "/?token=wrong", "/model?token=wrong", "/live", "/replay/x?token=wrong"):
            assert get(shown, path)[0] == 403, path
        for query in ("", "?token=wrong"):
            with pytest.raises(InvalidStatus) as error, live(shown, query):
                pass
            assert error.value.response.status_code == 403
        assert get(shown, "/?token=secret")[0] == 200
        assert get(shown, "/page/viewer.js")[0] == 200
        with live(shown, "?token=secret") as connection:
            assert Page(connection).hello["version"]


def test_a_frame_arrives_as_it_was_handed_over(shown):
    with live(shown) as connection:
        page = watched(shown, connection)
        assert page.hello["blendshapes"] == list(BLENDSHAPES.names)
        faces = face_at(7), face_at(8, 2)
        hand_over(shown, 7, faces)
        header, numbers, jpeg = page.frame()
    assert (header["frame"], header["width"], header["height"]) == (7, *SIZE_WH)
    assert header["time_s"] == pytest.approx(7 / 30, abs=1e-6)
    assert np.abs(decoded(jpeg).astype(int) - 47).max() <= 2
    for face, head, found in zip(faces, header["faces"], numbers, strict=True):
        assert (head["id"], head["state"], head["score"]) == (face.id, "tracked", 0.97)
        pose = face.pose
        assert head["pose_deg"] == pytest.approx([pose.yaw_deg, pose.pitch_deg, pose.roll_deg], abs=1e-3)
        assert head["translation_mm"] == pytest.approx(face.translation_mm, abs=1e-3)
        assert found["model_to_image"] == pytest.approx(face.model_to_image.ravel())
        assert found["coefficients"] == pytest.approx(np.concatenate([face.shape, face.expression]))
        assert found["blendshapes"] == pytest.approx(list(face.blendshapes.values()))
        assert found["landmarks"] == pytest.approx(face.landmarks.ravel())
        assert np.isnan(found["irises"]).all()


def test_the_face_model_gives_the_vertices(shown):
    """What the page's vertex shader adds up, in numpy."""
    status, _, data = get(shown, "/model")
    assert status == 200
    length = int.from_bytes(data[:4], "little")
    arrays, place = {}, 4 + length
    kinds = {"mean": "<f4", "albedo": "<f4", "opacity": "<f4", "triangles": "<u4", "basis": "<f2"}
    for name, shape in json.loads(data[4:place]).items():
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(data, kinds[name], count, place).reshape(shape)
        place += count * arrays[name].itemsize
    assert place == len(data)
    face = face_at(11)
    basis = arrays["basis"].astype(np.float32).reshape(len(arrays["basis"]), -1, 4)[:, : len(MODEL.mean), :3]
    found = arrays["mean"] + np.einsum("k,kvc->vc", np.concatenate([face.shape, face.expression]), basis)
    assert np.abs(found - MODEL.vertices(face.shape, face.expression)).max() < 0.05  # mm
    assert (arrays["triangles"] == GEOMETRY.triangles).all()


def test_a_large_image_is_sent_smaller(shown):
    with live(shown) as connection:
        page = watched(shown, connection)
        frame = frame_at(0)
        shown.write(frame, (), np.zeros((1080, 1920, 3), np.uint8))
        header, _, jpeg = page.frame()
    assert decoded(jpeg).shape == (720, 1280, 3)
    assert (header["width"], header["height"]) == SIZE_WH


def test_a_page_that_confirms_nothing_gets_the_newest_frame_later(shown):
    with live(shown) as connection:
        page = watched(shown, connection)
        for k in range(30):
            hand_over(shown, k)
            if k < 2:
                assert page.frame()[0]["frame"] == k
        assert not shown.wants_image  # nobody has room for one
        page.ask(shown=1)
        wait_until(lambda: shown.wants_image)
        hand_over(shown, 30)
        assert page.frame()[0]["frame"] == 30
        with pytest.raises(TimeoutError):
            page.connection.recv(0.3)


def test_a_slow_page_holds_up_no_other(shown):
    with live(shown) as slow, live(shown) as quick:
        watched(shown, slow)
        page = watched(shown, quick)
        for k in range(40):
            hand_over(shown, k)
            assert page.frame()[0]["frame"] == k
            page.ask(shown=1)
            wait_until(lambda: shown.wants_image)


def test_a_frame_is_encoded_once_and_only_for_who_watches(shown, monkeypatch):
    calls, encoded = [], server.encoded
    monkeypatch.setattr(server, "encoded", lambda image: calls.append(1) or encoded(image))
    hand_over(shown, 0)
    assert not shown.wants_image
    with live(shown, "?image=0") as connection:
        page = Page(connection)
        hand_over(shown, 1)
        header, numbers, jpeg = page.frame()
        assert header["frame"] == 1 and len(numbers) == 1 and jpeg == b""
        assert not shown.wants_image and not calls
        with live(shown) as a, live(shown) as b, live(shown) as c:
            pages = [watched(shown, one) for one in (a, b, c)]
            hand_over(shown, 2)
            assert len({page.frame()[2] for page in pages}) == 1
            assert len(calls) == 1
    wait_until(lambda: not shown.wants_image)


def test_too_many_pages_are_turned_away(shown, monkeypatch):
    monkeypatch.setattr(server, "MOST_PAGES", 1)
    with live(shown) as connection:
        Page(connection)
        with pytest.raises(InvalidStatus) as error, live(shown):
            pass
        assert error.value.response.status_code == 503
    wait_until(lambda: not shown.wants_image)
    with live(shown) as connection:
        Page(connection)


@pytest.mark.parametrize("text", NONSENSE)
def test_requests_that_make_no_sense_are_left_out(shown, text):
    with live(shown) as connection:
        page = watched(shown, connection)
        connection.send(text)
        page.ask(ping=1.5)
        while "pong" not in (reply := json.loads(connection.recv(10))):
            pass
        assert reply == {"pong": 1.5}


def test_commands_reach_the_controls(tmp_path):
    controls = Controls(model=MODEL)
    with viewer(folder=tmp_path, controls=controls) as shown, live(shown) as connection:
        page = watched(shown, connection)
        assert page.hello["controls"] and page.state["controls"]["frozen"] is False
        page.ask(command=["freeze"])
        page.ask(command=["shape", "jawOpen", "gain", 1.5])
        with fed(shown, faces=lambda k: controls((face_at(k),), k / 30)):
            page.until(lambda: page.state["controls"]["frozen"])
            page.until(lambda: page.state["controls"]["shapes"].get("jawOpen", {}).get("gain") == 1.5)
            shown.note(controls.notes.popleft())
            page.until(lambda: "frozen" in page.notes)
            for wrong in (["dance"], ["shape", "jawOpen"], ["freeze", 1, 2]):
                before = len(page.notes)
                page.ask(command=wrong)
                page.until(lambda before=before: len(page.notes) > before)


def test_without_controls_a_command_is_refused(shown):
    with live(shown) as connection:
        page = watched(shown, connection)
        assert page.state["controls"] is None
        page.ask(command=["centre"])
        page.until(lambda: page.notes)


def test_the_overlay_of_the_renderer_is_what_is_sent(shown):
    """With the views that the user chose: what they hide stays hidden in the page."""
    with open_renderer("cpu", MODEL, ("mesh",)) as renderer, live(shown) as connection:
        page = watched(shown, connection)
        frame, face = frame_at(0), face_at(0)
        vertices = project(MODEL.vertices(face.shape, face.expression), face.model_to_image)
        face = replace(face, vertices=vertices)
        drawn = renderer.draw(frame.image, (face,))
        shown.write(frame, (face,), drawn)
        jpeg = page.frame()[2]
    difference = np.abs(decoded(jpeg).astype(int) - drawn).mean()
    assert difference < 3 < np.abs(drawn.astype(int) - frame.image).mean()


def test_closing_ends_connections_and_threads(tmp_path):
    with viewer(folder=tmp_path) as shown, live(shown) as connection:
        page, port = watched(shown, connection), port_of(shown)
        hand_over(shown, 0)
        page.frame()
        shown.close()
        with pytest.raises(ConnectionClosed) as error:
            page.connection.recv(5)
        assert error.value.rcvd.code == 1001
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("facet-viewer")]
        hand_over(shown, 1)  # whoever still writes is not held up
        assert not shown.wants_image
    with viewer(port=port, folder=tmp_path) as again:  # the port is free at once
        assert get(again, "/")[0] == 200
