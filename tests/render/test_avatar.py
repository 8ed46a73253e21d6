"""Avatars: files of heads are read, or refused in one line; they move by blendshapes and pose."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest

from facet.render.avatar import OWN, AvatarConfig, load_avatar
from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from facet.render.glb import read_head
from facet.render.sinks.mesh_files import Head, glb
from facet.tracker.arkit import NAMES
from facet.tracker.errors import RenderError
from tests.render.heads import egg, noise, place

HEAD = egg()
GEOMETRY = geometry_of(HEAD)
FRONT = np.flatnonzero(HEAD.mean[:, 2] > 60)
EYES = [FRONT[np.abs(HEAD.mean[FRONT] - (x, 20, 80)).sum(axis=1) < 40] for x in (32, -32)]
CHIN = np.flatnonzero((HEAD.mean[:, 1] < -70) & (HEAD.mean[:, 2] > 0))


def head_file(names=("eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthPucker", *NAMES[20:27])) -> bytes:
    """The egg as a binary glTF file, with one or two regions that its shapes move."""
    shapes = {}
    for name in names:
        at = EYES[0] if name.endswith("Left") else EYES[1] if name.endswith("Right") else CHIN
        shapes[name] = 0.0, np.sort(at), np.tile(np.float32([0, -12, 0]), (len(at), 1))
    mean = HEAD.mean.astype(np.float32)
    normals = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    grey = np.full((len(mean), 3), 200, np.uint8)
    plain = np.zeros(len(HEAD.triangles), bool)
    return glb(
        Head(mean, normals, mean, normals, grey, HEAD.triangles, plain, np.zeros((0, 2), "f4"), None, shapes), "a"
    )


def parts(data: bytes) -> tuple[dict, bytes]:
    """The JSON and the binary part of a file."""
    (length,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + length]), data[20 + length + 8 :]


def joined(scene: dict, binary: bytes) -> bytes:
    text = json.dumps(scene).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def changed(change) -> bytes:
    scene, binary = parts(head_file())
    change(scene)
    return joined(scene, binary)


def write(tmp_path, data: bytes):
    path = tmp_path / "head.glb"
    path.write_bytes(data)
    return path


def test_what_was_written_is_read(tmp_path):
    mesh = read_head(write(tmp_path, head_file()))
    assert len(mesh.triangles) == len(HEAD.triangles)
    corners = np.sort(mesh.vertices[mesh.triangles].reshape(-1, 3), axis=0)
    np.testing.assert_allclose(corners, np.sort(HEAD.mean[HEAD.triangles].reshape(-1, 3) / 1000, axis=0), atol=1e-6)
    at, by = mesh.morphs["jawOpen"]
    np.testing.assert_allclose(by, np.tile([0, -0.012, 0], (len(at), 1)), atol=1e-6)
    assert (mesh.vertices[at, 1] < -0.07).all()
    np.testing.assert_allclose(mesh.colours, 200 / 255, atol=0.01)


def test_our_own_head_has_all_shapes_and_is_what_the_tool_makes():
    from facet.tracker.morphable import load_face_model
    from tools.avatar import build

    own = read_head(OWN)
    assert set(own.morphs) == set(NAMES) - {"tongueOut"}
    built = build(load_face_model(OWN.parent / "face_model.npz"))
    assert len(built.triangles) == len(own.triangles)


@pytest.mark.parametrize(
    "written, read",
    [
        ("eyeBlink_L", "eyeBlinkLeft"),
        ("EyeBlinkRight", "eyeBlinkRight"),
        ("face_mesh.jawOpen", "jawOpen"),
        ("mouthSmile_R", "mouthSmileRight"),
    ],
)
def test_names_of_shapes_as_programs_write_them(tmp_path, written, read):
    def change(scene):
        scene["meshes"][0]["extras"]["targetNames"][3] = written

    assert read in read_head(write(tmp_path, changed(change))).morphs


def test_a_body_gives_its_head_and_vrm_0_looks_along_minus_z(tmp_path):
    """Two joints, the upper one of the head; the expressions are VRM's presets."""

    def change(scene):
        nodes = scene["nodes"]
        nodes[0]["skin"] = 0
        nodes += [{"name": "hips", "children": [2]}, {"name": "neck", "translation": [0, -0.06, 0]}]
        scene["skins"] = [{"joints": [1, 2]}]
        binds = [{"mesh": 0, "index": k, "weight": 100} for k in range(3)]
        groups = [
            {"presetName": name, "binds": [bind]} for name, bind in zip(("blink_l", "blink_r", "a"), binds, strict=True)
        ]
        bones = [{"bone": "head", "node": 2}]
        scene["extensions"] = {
            "VRM": {"humanoid": {"humanBones": bones}, "blendShapeMaster": {"blendShapeGroups": groups}}
        }
        scene["meshes"][0]["extras"]["targetNames"] = [f"Fcl_{k}" for k in range(11)]
        primitive = scene["meshes"][0]["primitives"][0]
        count = scene["accessors"][primitive["attributes"]["POSITION"]]["count"]
        upper = (HEAD.mean[:, 1] > -90).astype(np.uint8)
        joints = np.zeros((count, 4), np.uint8)
        joints[:, 0] = upper
        weights = np.zeros((count, 4), np.uint8)
        weights[:, 0] = 255
        for name, values, more in (("JOINTS_0", joints, {}), ("WEIGHTS_0", weights, {"normalized": True})):
            scene["bufferViews"].append({"buffer": 0, "byteOffset": len(extra), "byteLength": values.size})
            view = len(scene["bufferViews"]) - 1
            scene["accessors"].append(
                {"bufferView": view, "componentType": 5121, "count": count, "type": "VEC4"} | more
            )
            primitive["attributes"][name] = len(scene["accessors"]) - 1
            extra.extend(values.tobytes())
        # the rest pose: joints move their vertices by nothing
        scene["skins"][0]["inverseBindMatrices"] = len(scene["accessors"])
        back = np.tile(np.eye(4, dtype="<f4"), (2, 1, 1))
        back[1, 3, 1] = 0.06
        scene["bufferViews"].append({"buffer": 0, "byteOffset": len(extra), "byteLength": back.nbytes})
        scene["accessors"].append(
            {"bufferView": len(scene["bufferViews"]) - 1, "componentType": 5126, "count": 2, "type": "MAT4"}
        )
        extra.extend(back.tobytes())
        scene["buffers"][0]["byteLength"] = len(extra)

    scene, binary = parts(head_file())
    extra = bytearray(binary)
    change(scene)
    path = write(tmp_path, joined(scene, bytes(extra)))
    mesh = read_head(path)
    assert set(mesh.morphs) == {"blinkLeft", "blinkRight", "aa"}
    assert -0.0905 < mesh.vertices[:, 1].min() < -0.08 and mesh.vertices[:, 1].max() == pytest.approx(0.11, abs=1e-3)
    opened = load_avatar(str(path)).posed({"jawOpen": 1.0})
    assert opened.shape == mesh.vertices.shape


BAD = {
    "nothing": lambda: b"",
    "text": lambda: b"no glTF at all, only words",
    "cut off": lambda: head_file()[:-100],
    "cut off early": lambda: head_file()[:300],
    "version 1": lambda: head_file()[:4] + struct.pack("<I", 1) + head_file()[8:],
    "no JSON": lambda: joined({}, b""),
    "broken JSON": lambda: head_file()[:24] + b'"""' + head_file()[27:],
    "compressed": lambda: changed(lambda s: s.update(extensionsRequired=["KHR_draco_mesh_compression"])),
    "no shapes": lambda: changed(lambda s: s["meshes"][0]["extras"].update(targetNames=["a"] * 11)),
    "no eyes": lambda: head_file(("jawOpen", *NAMES[14:26])),
    "a ring": lambda: changed(lambda s: s["nodes"][0].update(children=[0])),
    "no mesh": lambda: changed(lambda s: s["nodes"][0].pop("mesh")),
    "far index": lambda: changed(lambda s: s["meshes"][0]["primitives"][0].update(indices=999)),
    "far accessor": lambda: changed(lambda s: s["accessors"][0].update(count=10**6)),
    "huge accessor": lambda: changed(lambda s: s["accessors"][0].update(count=10**12)),
    "negative offset": lambda: changed(lambda s: s["bufferViews"][0].update(byteOffset=-4)),
    "overlap": lambda: changed(lambda s: s["bufferViews"][0].update(byteStride=1)),
    "data beside": lambda: changed(lambda s: s["buffers"][0].update(uri="head.bin")),
    "lines": lambda: changed(lambda s: s["meshes"][0]["primitives"][0].update(mode=1)),
    "wrong types": lambda: changed(lambda s: s.update(nodes="none")),
    "no numbers": lambda: head_file().replace(struct.pack("<f", float(np.float32(0.11))), struct.pack("<f", np.nan)),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_damaged_and_foreign_files_are_reported(tmp_path, make):
    path = write(tmp_path, make())
    with pytest.raises(RenderError, match="ARKit") as found:
        load_avatar(str(path))
    assert str(path) in str(found.value)


def test_files_with_flipped_bytes_never_end_the_program(tmp_path):
    """Each either loads or is reported."""
    data, rng = head_file(), np.random.default_rng(7)
    loaded = 0
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(12, min(len(data), 6000), 4):
            damaged[at] = rng.integers(256)
        try:
            read_head(write(tmp_path, bytes(damaged)))
            loaded += 1
        except RenderError:
            pass
    assert loaded < 60


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(RenderError, match="found none"):
        load_avatar(str(tmp_path / "none.vrm"))


def test_the_avatar_lies_on_the_face_and_follows_it():
    image = np.full((400, 400, 3), 60, np.uint8)
    for at, scale in (((200, 200), 0.8), ((120, 260), 0.5)):
        track = place(HEAD, scale=scale, at=at)
        drawn = CpuRenderer(GEOMETRY, ("avatar",)).draw(image, (track,))
        y, x = np.nonzero((drawn != image).any(axis=2))
        eyes = track.landmarks[36:48].mean(axis=0)
        # 165 x 218 mm, the eyes a little above the middle
        assert (x.min() + x.max()) / 2 == pytest.approx(eyes[0], abs=3)
        assert np.ptp(y) == pytest.approx(218 * scale, rel=0.05) and np.ptp(x) == pytest.approx(165 * scale, rel=0.05)


def test_a_turned_head_shows_its_other_side():
    """At 180 degrees of yaw there is hair where the face was, and the image is that of the mirrored outline."""
    image = np.zeros((300, 300, 3), np.uint8)
    front, back = (
        CpuRenderer(GEOMETRY, ("avatar",)).draw(image, (place(HEAD, yaw, at=(150, 150)),)) for yaw in (0, 180)
    )
    eyes = place(HEAD, at=(150, 150)).landmarks[36:48, :2].mean(axis=0).astype(int)
    assert front[eyes[1] + 40, eyes[0], 2] > 1.3 * front[eyes[1] + 40, eyes[0], 0]  # skin: red over blue
    assert back.any()


def test_shapes_move_it_by_their_weights():
    avatar = load_avatar("")
    still, half, whole = (avatar.posed({"jawOpen": weight}) for weight in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half - still, (whole - still) / 2, atol=1e-3)
    assert (still - whole)[:, 1].max() > 15
    np.testing.assert_array_equal(avatar.posed({"tongueOut": 1.0}), still)


def test_beside_the_face_where_there_is_room():
    image = np.full((300, 600, 3), 60, np.uint8)
    for x, side in ((150, 1), (450, -1)):
        renderer = CpuRenderer(GEOMETRY, ())
        renderer.avatar = AvatarConfig(place="beside")
        renderer.set_views(("avatar",))
        drawn = renderer.draw(image, (place(HEAD, scale=0.6, at=(x, 150)),))
        columns = np.nonzero((drawn != image).any(axis=(0, 2)))[0]
        assert (columns.mean() - x) * side > 80


@pytest.mark.gl
def test_the_renderers_agree(open_gl):
    tracks = (
        replace(place(HEAD, 20, scale=0.5, at=(100, 120)), blendshapes={"jawOpen": 0.6}),
        place(HEAD, -30, scale=0.4, at=(310, 100)),
    )
    image = noise(400, 240)
    pictures = [r.draw(image, tracks) for r in (CpuRenderer(GEOMETRY, ("avatar",)), open_gl(GEOMETRY, ("avatar",)))]
    np.testing.assert_array_equal(*pictures)


def test_textures_are_drawn(tmp_path):
    """A head whose left half is red and whose right half is blue by its texture."""
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:, :32], texture[:, 32:] = (0, 0, 255), (255, 0, 0)
    mean = HEAD.mean.astype(np.float32)
    uv = np.column_stack([np.where(mean[:, 0] < 0, 0.25, 0.75), np.full(len(mean), 0.5)]).astype(np.float32)
    shapes = {
        name: (0.0, np.sort(at), np.tile(np.float32([0, -9, 0]), (len(at), 1)))
        for name, at in (("eyeBlinkLeft", EYES[0]), ("eyeBlinkRight", EYES[1]), ("jawOpen", CHIN))
    }
    normals = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    grey, skin = np.full((len(mean), 3), 200, np.uint8), np.ones(len(HEAD.triangles), bool)
    path = write(
        tmp_path, glb(Head(mean, normals, mean, normals, grey, HEAD.triangles, skin, uv, texture, shapes), "a")
    )
    image = np.zeros((300, 300, 3), np.uint8)
    load_avatar(str(path)).draw(image, place(HEAD, at=(150, 150)), "over")
    drawn = np.nonzero(image.any(axis=2))
    middle = (drawn[1].min() + drawn[1].max()) // 2
    row = (drawn[0].min() + drawn[0].max()) // 2
    assert image[row, middle - 30, 2] > 80 and image[row, middle - 30, 0] == 0
    assert image[row, middle + 30, 0] > 80 and image[row, middle + 30, 2] == 0


def test_edges_are_smooth():
    image = np.zeros((300, 300, 3), np.uint8)
    load_avatar("").draw(image, place(HEAD, scale=0.7, at=(150, 150)), "over")
    outline = cv2.morphologyEx(image.any(axis=2).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    levels = np.unique(image[outline].max(axis=1) // 16)
    assert len(levels) >= 4
