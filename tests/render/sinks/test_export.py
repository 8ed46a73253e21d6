"""Faces as meshes: what was seen is on them, and programs that are not ours read the files."""

import errno
import json
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from facet.render.geometry import geometry_of
from facet.render.sinks.export import MeshExport, export_targets, head_of
from facet.render.unwrap import SIDE_PX, seen_share
from facet.tracker.errors import RenderError, SinkError
from facet.tracker.morphable import load_face_model, project
from facet.tracker.types import Frame
from facet.tracker.weights import ROOT
from tests.arkit import ARKIT
from tests.render.heads import place

MODEL = load_face_model(ROOT / "weights" / "face_model.npz")
GEOMETRY = geometry_of(MODEL)
SIZE = 400


def cross(u, v):
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def a_face(yaw_deg=0.0, pitch_deg=0.0, **expression):
    """Our model's mean face in the middle of a picture of SIZE px, with expressions."""
    track = place(MODEL, yaw_deg, pitch_deg, scale=1.5, at=(SIZE / 2, SIZE / 2))
    weights = np.zeros(MODEL.expression_count, np.float32)
    for name, weight in expression.items():
        weights[MODEL.expression_names.index(name)] = weight
    return replace(track, shape=np.zeros(MODEL.shape_count, np.float32), expression=weights, vertices=None)


def ramp():
    """A picture whose colours encode the place: B grows with x, G with y."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    return np.stack([255 * x / SIZE, 255 * y / SIZE, np.full_like(x, 90)], axis=-1).astype(np.uint8)


def placed(face):
    vertices = MODEL.vertices(face.shape, face.expression)
    return project(vertices, face.model_to_image)


def on_texture(texture, vertices):
    """Colours of a texture at the UV of vertices, by the nearest texel."""
    column, row = (MODEL.uv[vertices] * (1, -1) + (0, 1)).T * SIDE_PX
    return texture[np.clip(row, 0, SIDE_PX - 1).astype(int), np.clip(column, 0, SIDE_PX - 1).astype(int)].astype(float)


@pytest.mark.parametrize("pose", [(0, 0), (30, -10), (-55, 10)])
def test_what_the_camera_sees_is_on_the_texture_and_at_the_vertices(pose):
    image, face = ramp(), a_face(*pose)
    head, points = head_of(image, face, GEOMETRY), placed(face)
    seen = seen_share(points, GEOMETRY.triangles, 1.5)
    squarely = np.flatnonzero((seen == 1) & MODEL.uv.any(axis=1))
    assert len(squarely) > 1500
    expected = np.column_stack([255 * points[squarely, :2] / SIZE, np.full(len(squarely), 90)])
    assert np.percentile(np.abs(on_texture(head.texture, squarely) - expected).max(axis=1), 98) < 4
    assert np.abs(head.colours[squarely] - expected).max() < 2


def test_what_the_camera_does_not_see_comes_from_the_other_side():
    # half the face is green, and the half that cannot be seen would be the background's red
    image, face = np.zeros((SIZE, SIZE, 3), np.uint8), a_face(-60)
    image[:] = (0, 0, 255)
    points = placed(face)
    hull = cv2.convexHull(points[:, :2].astype(np.float32)).astype(int)
    cv2.fillConvexPoly(image, hull, (0, 255, 0))
    head = head_of(image, face, GEOMETRY)
    hidden = (seen_share(points, GEOMETRY.triangles, 1.5) == 0) & (MODEL.region == 0)
    assert hidden.sum() > 1000
    assert (on_texture(head.texture, np.flatnonzero(hidden))[:, 1] > 230).mean() > 0.95


def test_what_is_behind_the_nose_is_not_seen():
    points = placed(a_face(50)).astype(float)
    seen = seen_share(points.astype(np.float32), GEOMETRY.triangles, 1.5)
    a, b, c = (points[GEOMETRY.triangles[:, k]] for k in range(3))
    area = cross(b[:, :2] - a[:, :2], c[:, :2] - a[:, :2])
    hidden, chosen = [], np.arange(0, len(points), 9)
    for x, y, z in points[chosen]:  # slowly: by how much the nearest triangle in front of it is nearer
        u = cross(c[:, :2] - b[:, :2], (x, y) - b[:, :2]) / area
        v = cross(a[:, :2] - c[:, :2], (x, y) - c[:, :2]) / area
        over = (u >= 0) & (v >= 0) & (u + v <= 1)
        depth = u * a[:, 2] + v * b[:, 2] + (1 - u - v) * c[:, 2]
        hidden.append((depth[over].max(initial=z) - z) / 1.5)
    hidden = np.array(hidden)
    assert (hidden > 8).sum() > 30 and seen[chosen][hidden > 8].max() == 0
    assert (seen[chosen] == 1).sum() > 200 and hidden[seen[chosen] == 1].max() < 5


def test_a_face_partly_outside_the_picture_has_all_its_texture():
    face = a_face()
    face.model_to_image[0, 3] = 0
    head = head_of(np.full((SIZE, SIZE, 3), (40, 80, 120), np.uint8), face, GEOMETRY)
    skin = np.flatnonzero(MODEL.uv.any(axis=1))
    assert np.abs(on_texture(head.texture, skin) - (40, 80, 120)).max() <= 2


def read_glb(path):
    """The scene and the buffer of a binary glTF file."""
    data = path.read_bytes()
    magic, version, size = struct.unpack("<4sII", data[:12])
    assert (magic, version, size) == (b"glTF", 2, len(data))
    length, kind = struct.unpack("<II", data[12:20])
    assert kind == 0x4E4F534A and length % 4 == 0
    scene, rest = json.loads(data[20 : 20 + length]), data[20 + length :]
    length, kind = struct.unpack("<II", rest[:8])
    assert kind == 0x004E4942 and len(rest) == 8 + length == 8 + scene["buffers"][0]["byteLength"]
    return scene, rest[8:]


def numbers(scene, buffer, view, kind, columns):
    view = scene["bufferViews"][view]
    assert view["byteOffset"] % 4 == 0
    return np.frombuffer(buffer, kind, view["byteLength"] // np.dtype(kind).itemsize, view["byteOffset"]).reshape(
        -1, columns
    )


@pytest.fixture
def exported(tmp_path):
    face = a_face(20, jawOpen=0.7, mouthSmile_L=0.4, browInnerUp_L=0.5, browInnerUp_R=0.5)
    export = MeshExport(tmp_path / "heads", GEOMETRY, None)
    export.write(Frame(0, 0.0, ramp(), source="some/where.jpg"), (face, replace(face, id=2)))
    assert export.heads == 2 and not export.done
    return face, tmp_path / "heads" / "where_1"


def test_the_files_of_every_face(exported):
    _, stem = exported
    names = sorted(path.name for path in stem.parent.iterdir())
    assert names == sorted(f"where_{k}.{kind}" for k in (1, 2) for kind in ("glb", "mtl", "obj", "ply", "png"))


def test_the_glb_is_the_neutral_face_with_its_blendshapes(exported):
    face, stem = exported
    scene, buffer = read_glb(stem.with_suffix(".glb"))
    mesh = scene["meshes"][0]
    weights = dict(zip(mesh["extras"]["targetNames"], mesh["weights"], strict=True))
    assert set(weights) == ARKIT - {"tongueOut"}
    assert {name: weight for name, weight in weights.items() if weight} == pytest.approx(
        {"jawOpen": 0.7, "mouthSmileLeft": 0.4, "browInnerUp": 0.5}, abs=1e-4
    )
    skin, inside = mesh["primitives"]
    position = scene["accessors"][skin["attributes"]["POSITION"]]
    base = numbers(scene, buffer, position["bufferView"], "<f4", 3)
    np.testing.assert_allclose(base, MODEL.bake(face.shape) / 1000, atol=1e-6)
    np.testing.assert_allclose(position["min"], base.min(axis=0), atol=1e-6)
    built = base.astype(float)
    for weight, target in zip(mesh["weights"], skin["targets"], strict=True):
        accessor = scene["accessors"][target["POSITION"]]
        sparse = accessor["sparse"]
        at = numbers(scene, buffer, sparse["indices"]["bufferView"], "<u4", 1)[:, 0]
        by = numbers(scene, buffer, sparse["values"]["bufferView"], "<f4", 3)
        assert accessor["count"] == len(base) and len(at) == sparse["count"] and (np.diff(at.astype(int)) > 0).all()
        np.testing.assert_allclose(accessor["max"], np.maximum(by.max(axis=0), 0), atol=1e-7)
        built[at] += weight * by
    np.testing.assert_allclose(1000 * built, MODEL.vertices(face.shape, face.expression), atol=0.02)
    corners = [numbers(scene, buffer, scene["accessors"][p["indices"]]["bufferView"], "<u4", 3) for p in (skin, inside)]
    assert sum(map(len, corners)) == len(MODEL.triangles)
    image = scene["bufferViews"][scene["images"][0]["bufferView"]]
    # the picture's first row is v = 0 in glTF
    uv = numbers(scene, buffer, scene["accessors"][skin["attributes"]["TEXCOORD_0"]]["bufferView"], "<f4", 2)
    np.testing.assert_allclose(uv, np.column_stack([MODEL.uv[:, 0], 1 - MODEL.uv[:, 1]]), atol=1e-6)
    normals = numbers(scene, buffer, scene["accessors"][skin["attributes"]["NORMAL"]]["bufferView"], "<f4", 3)
    assert normals[MODEL.landmark_vertices[30], 2] > 0.5 and normals[MODEL.landmark_vertices[8], 1] < 0
    colours = numbers(scene, buffer, scene["accessors"][inside["attributes"]["COLOR_0"]]["bufferView"], np.uint8, 4)
    srgb = head_of(ramp(), face, GEOMETRY).colours[:, ::-1] / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(colours[:, :3], 255 * linear, atol=0.51)
    png = np.frombuffer(buffer[image["byteOffset"] : image["byteOffset"] + image["byteLength"]], np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.imread(str(stem.with_suffix(".png"))))


def test_the_obj_names_its_texture_and_says_where_it_lies(exported):
    face, stem = exported
    lines = stem.with_suffix(".obj").read_text().splitlines()
    assert f"mtllib {stem.name}.mtl" in lines
    assert f"map_Kd {stem.name}.png" in stem.with_suffix(".mtl").read_text().splitlines()
    head = head_of(ramp(), face, GEOMETRY)
    for kind, wanted in (("v", head.vertices), ("vt", MODEL.uv), ("vn", head.normals)):
        found = np.array([line.split()[1:] for line in lines if line.startswith(f"{kind} ")], float)
        np.testing.assert_allclose(found[:, : wanted.shape[1]], wanted, atol=1e-4)
    assert head.normals[MODEL.landmark_vertices[30], 2] > 0.5 and head.normals[MODEL.landmark_vertices[8], 1] < 0


@pytest.mark.parametrize("kind", ["obj", "ply", "glb"])
def test_another_program_reads_the_mesh(exported, kind):
    trimesh = pytest.importorskip("trimesh")
    face, stem = exported
    found = trimesh.load(stem.with_suffix(f".{kind}"), process=False)
    parts = list(found.geometry.values()) if hasattr(found, "geometry") else [found]
    assert sum(len(part.faces) for part in parts) == len(MODEL.triangles)
    if kind == "glb":
        return  # its vertices are the neutral face's
    wanted = MODEL.vertices(face.shape, face.expression)
    points = np.vstack([part.vertices for part in parts])
    for end in (np.min, np.max):
        np.testing.assert_allclose(end(points, axis=0), end(wanted, axis=0), atol=0.01)
    if kind == "ply":
        np.testing.assert_allclose(points, wanted, atol=1e-3)
        np.testing.assert_array_equal(found.visual.vertex_colors[:, 2::-1], head_of(ramp(), face, GEOMETRY).colours)
        normals = found.vertex_normals
        nose = MODEL.landmark_vertices[30]
        assert normals[nose, 2] > 0.5 and (np.linalg.norm(normals, axis=1) > 0.99).mean() > 0.99


def test_one_frame_of_a_video(tmp_path):
    export = MeshExport(tmp_path, GEOMETRY, 3)
    for index in range(5):
        export.write(Frame(index, index / 30, ramp(), source="clip.mp4"), (a_face(),))
        assert export.done == (index >= 3)
    assert export.heads == 1 and (tmp_path / "clip_000003_1.glb").exists()


def test_pictures_of_one_name_do_not_overwrite_each_other(tmp_path):
    export = MeshExport(tmp_path, GEOMETRY, None)
    for source, count in (("a/face.jpg", 1), ("b/face.png", 2), ("c/FACE.jpg", 1)):
        faces = [replace(a_face(), id=k + 1) for k in range(count)]
        export.write(Frame(0, 0.0, ramp(), source=source), tuple(faces))
    assert {path.stem for path in tmp_path.glob("*.glb")} == {"face_1", "face-2_1", "face-2_2", "FACE-3_1"}


@pytest.mark.parametrize(
    ("source", "stem"), [("my old  photo.jpg", "my_old_photo"), ("-", "picture"), ("camera 0", "camera_0")]
)
def test_names_that_obj_files_can_hold_and_that_are_never_replaced(tmp_path, source, stem):
    found = {}
    for names in ({f"{stem}_1"}, {f"{stem}_1", f"{stem}-2_1"}):
        export = MeshExport(tmp_path, GEOMETRY, None)
        export.write(Frame(0, 0.0, ramp(), source=source), (a_face(),))
        assert {path.stem for path in tmp_path.iterdir()} == names
        assert all((tmp_path / name).read_bytes() == data for name, data in found.items())
        found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert b"mtllib " + f"{stem}-2_1.mtl".encode() in found[f"{stem}-2_1.obj"]


@pytest.mark.parametrize("end", ["obj", "mtl", "png", "ply", "glb"])
def test_a_file_of_any_kind_keeps_its_name(tmp_path, end):
    (tmp_path / f"me_1.{end}").write_bytes(b"mine")
    export = MeshExport(tmp_path, GEOMETRY, None)
    export.write(Frame(0, 0.0, ramp(), source="x/me.jpg"), (a_face(),))
    assert (tmp_path / f"me_1.{end}").read_bytes() == b"mine"
    assert {path.stem for path in tmp_path.iterdir()} == {"me_1", "me-2_1"}
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("frame_index", [None, 4])
def test_files_that_an_export_would_replace(tmp_path, frame_index):
    assert export_targets(tmp_path / "none", ["me.jpg"], frame_index) == []
    export = MeshExport(tmp_path, GEOMETRY, frame_index)
    for source in ("x/me.jpg", "y/Me.png", "x/" + "n" * 251 + ".png"):
        export.write(Frame(4, 0.0, ramp(), source=source), (a_face(), replace(a_face(), id=12)))
    written = sorted(tmp_path.iterdir())
    assert len(written) == 30
    assert max(len(path.name) for path in written) <= 255
    for name in ("me_01.png", "me.png", "you_1.png", "me_1.jpg", "me_1.txt", "me_x.obj"):
        (tmp_path / name).write_bytes(b"")
    sources = ["x/me.jpg", "y/Me.png", "x/" + "n" * 251 + ".png"]
    assert sorted(export_targets(tmp_path, sources, frame_index)) == written


def test_a_picture_wider_than_remapping_can_address(tmp_path):
    image = np.zeros((SIZE, 40_000, 3), np.uint8)
    image[:, 39_000 : 39_000 + SIZE] = ramp()
    face, shifted = a_face(20), a_face(20)
    shifted.model_to_image[0, 3] += 39_000
    near, far = (head_of(picture, one, GEOMETRY) for picture, one in ((ramp(), face), (image, shifted)))
    assert np.abs(near.texture.astype(int) - far.texture).mean() < 1
    assert np.abs(near.colours.astype(int) - far.colours).mean() < 1


def test_a_full_disk_leaves_no_half_head(tmp_path, monkeypatch):
    def write(path, data, known=Path.write_bytes):
        if path.name.endswith(".partial.obj"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return known(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    export = MeshExport(tmp_path / "heads", GEOMETRY, None)
    with pytest.raises(SinkError, match=r"me_1\.obj: cannot be written \(No space left"):
        export.write(Frame(0, 0.0, ramp(), source="me.jpg"), (a_face(),))
    assert not list((tmp_path / "heads").iterdir())
    export.close()
    assert not (tmp_path / "heads").exists()


def test_an_export_never_replaces_its_source(tmp_path):
    source = tmp_path / "me_1.png"
    cv2.imwrite(str(source), ramp())
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "me.png").symlink_to(source)
    export = MeshExport(tmp_path, GEOMETRY, None)
    with pytest.raises(SinkError, match="would replace the input"):
        export.write(Frame(0, 0.0, ramp(), source=str(tmp_path / "link" / "me.png")), (a_face(),))
    np.testing.assert_array_equal(cv2.imread(str(source)), ramp())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be made"):
        MeshExport(tmp_path / "file", GEOMETRY, None)


def test_a_model_of_points_has_no_mesh(tmp_path):
    with pytest.raises(RenderError, match="expected a face model with triangles"):
        MeshExport(tmp_path / "none", replace(GEOMETRY, triangles=np.zeros((0, 3), np.int32)), None)
    assert not Path(tmp_path / "none").exists()
