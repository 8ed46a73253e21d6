"""Animated heads, read by pygltflib and trimesh."""

from dataclasses import replace

import numpy as np
import pygltflib
import pytest
import trimesh

from facet.render.geometry import geometry_of
from facet.render.sinks import animation
from facet.render.sinks.animation import GONE_S, AnimationExport
from facet.tracker.errors import RenderError, SinkError
from facet.tracker.morphable import load_face_model
from facet.tracker.types import Frame
from facet.tracker.weights import ROOT
from tests.arkit import ARKIT
from tests.render.heads import place
from tests.tracker.outputs.clip import about

MODEL = load_face_model(ROOT / "weights" / "face_model.npz")
GEOMETRY = geometry_of(MODEL)
IMAGE = np.full((120, 160, 3), 90, np.uint8)
ONE_SIDED = ("browInnerUp", "cheekPuff")


@pytest.fixture(scope="module")
def head():
    return animation.head_of(IMAGE, face(0), GEOMETRY)


@pytest.fixture(autouse=True)
def quick(monkeypatch, head):
    """A texture takes seconds, and other tests judge it."""
    monkeypatch.setattr(animation, "head_of", lambda *_: head)


def frame(k, fps=30.0):
    return Frame(k, k / fps, IMAGE, source="/videos/a clip.mp4")


def face(k, identity=1, yaw=None):
    """A face that turns and talks; wide turns come after narrow ones."""
    yaw = 3 * np.sin(k) if yaw is None else yaw
    track = place(MODEL, yaw, 5 * np.cos(k), 2 * k, scale=0.4, at=(80, 60))
    weights = np.abs(np.sin(0.3 * k + np.arange(MODEL.expression_count))).astype(np.float32)
    place_mm = np.float32([k, 2 * k, 500 + 3 * k])
    return replace(
        track, id=identity, shape=np.zeros(MODEL.shape_count, np.float32), expression=weights, translation_mm=place_mm
    )


def numbers(gltf, index):
    """An accessor of floats, (count, width), by the layout of the format."""
    accessor = gltf.accessors[index]
    view = gltf.bufferViews[accessor.bufferView]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor.type]
    assert accessor.componentType == pygltflib.FLOAT and view.byteStride is None and view.byteOffset % 4 == 0
    assert view.byteLength == 4 * width * accessor.count
    data = gltf.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    return np.frombuffer(data, "<f4").reshape(-1, width)


def read(path):
    """Times and, by what they move, the keys of a file's only animation; the names of its weights."""
    gltf = pygltflib.GLTF2().load(str(path))
    (moving,) = gltf.animations
    keys = {}
    for channel in moving.channels:
        sampler = moving.samplers[channel.sampler]
        assert channel.target.node == 0 and sampler.interpolation in (None, "LINEAR")
        times = numbers(gltf, sampler.input)[:, 0]
        accessor = gltf.accessors[sampler.input]
        assert (accessor.min, accessor.max) == ([times[0]], [times[-1]]) and (np.diff(times) > 0).all()
        keys[channel.target.path] = numbers(gltf, sampler.output)
    assert set(keys) == {"translation", "rotation", "weights"}
    names = gltf.meshes[gltf.nodes[0].mesh].extras["targetNames"]
    keys["weights"] = keys["weights"].reshape(len(times), len(names))
    return times, keys, names


def turned(quaternions):
    """The rotations of unit quaternions x, y, z, w: (K, 3, 3)."""
    axes, w = quaternions[:, :3].astype(float), quaternions[:, 3:].astype(float)
    columns = [v + 2 * np.cross(axes, np.cross(axes, v) + w * v) for v in np.eye(3)]
    return np.stack(columns, axis=-1)


def export(folder, frames):
    export = AnimationExport(folder, GEOMETRY)
    for one, faces in frames:
        export.write(one, faces)
    export.close()
    return export


def test_a_head_moves_as_its_face_did(tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "KEPT_KEYS", 7)
    done = export(tmp_path / "heads", [(frame(k), (face(k),) if k != 11 else ()) for k in range(40)])
    assert done.heads == 1 and [path.name for path in (tmp_path / "heads").iterdir()] == ["a_clip_1.glb"]
    times, keys, names = read(tmp_path / "heads" / "a_clip_1.glb")
    seen = np.array([k for k in range(40) if k != 11])
    np.testing.assert_allclose(times, seen / 30, atol=1e-6)
    tracks = [face(k) for k in seen]
    behind = [(track.landmarks[17:, 2].mean() - track.pose.translation_px[2]) / 0.4 for track in tracks]
    places = np.stack([seen, 2 * seen, -500 - 3 * seen - np.array(behind)], axis=1) / 1000
    np.testing.assert_allclose(keys["translation"], places, atol=1e-6)
    expected = [about("z", 2 * k) @ about("y", -3 * np.sin(k)) @ about("x", 5 * np.cos(k)) for k in seen]
    np.testing.assert_allclose(turned(keys["rotation"]), expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(keys["rotation"], axis=1), 1, atol=1e-6)
    assert (keys["rotation"][1:] * keys["rotation"][:-1]).sum(axis=1).min() > 0  # each the near one of both
    assert set(names) == ARKIT - {"tongueOut"}
    by_name = dict(zip(names, keys["weights"].T, strict=True))
    for name in names:
        theirs = name.replace("Left", "_L").replace("Right", "_R")
        if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            theirs = name
        of = [f"{name}_L", f"{name}_R"] if name in ONE_SIDED else [theirs]
        columns = [MODEL.expression_names.index(n if n in MODEL.expression_names else name) for n in of]
        logged = np.mean([np.abs(np.sin(0.3 * seen + column)) for column in columns], axis=0)
        np.testing.assert_allclose(by_name[name], logged, atol=1e-5, err_msg=name)


def test_another_library_reads_the_mesh(tmp_path):
    export(tmp_path, [(frame(k), (face(k),)) for k in range(3)])
    scene = trimesh.load(tmp_path / "a_clip_1.glb")
    points = np.concatenate([mesh.vertices for mesh in scene.geometry.values()])
    height = np.ptp(points[:, 1])
    assert 0.15 < height < 0.4  # metres


def test_faces_have_a_file_each(tmp_path):
    frames = [(frame(k), (face(k), *([face(k, 2)] if k > 4 else []))) for k in range(8)]
    assert export(tmp_path, frames).heads == 2
    assert len(read(tmp_path / "a_clip_1.glb")[0]) == 8
    assert read(tmp_path / "a_clip_2.glb")[0][0] == pytest.approx(5 / 30)


def test_memory_does_not_grow_with_the_length(tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "KEPT_KEYS", 4)
    export = AnimationExport(tmp_path, GEOMETRY)
    for k in range(30):
        export.write(frame(k), (face(k),))
        assert len(export._takes[1].keys) < 4
    export.close()
    assert len(read(tmp_path / "a_clip_1.glb")[0]) == 30


def test_a_face_that_left_is_written_and_forgotten(tmp_path):
    export = AnimationExport(tmp_path, GEOMETRY)
    export.write(frame(0), (face(0), face(0, 2)))
    export.write(Frame(1, GONE_S - 0.1, IMAGE, source="a clip.mp4"), (face(1),))
    assert len(export._takes) == 2
    export.write(Frame(2, GONE_S + 0.1, IMAGE, source="a clip.mp4"), (face(2),))
    assert list(export._takes) == [1] and len(read(tmp_path / "a_clip_2.glb")[0]) == 1
    export.close()
    assert export.heads == 2 and len(list(tmp_path.iterdir())) == 2


def test_the_mesh_is_of_the_most_frontal_frame(tmp_path, monkeypatch, head):
    """It gets the part of that frame that the face covers, and the face where it is there."""
    seen = []
    monkeypatch.setattr(animation, "head_of", lambda image, face, _: seen.append((image, face)) or head)
    export = AnimationExport(tmp_path, GEOMETRY)
    rng = np.random.default_rng(0)
    frames = []
    for k, yaw in enumerate([40, 38, 60, 10, 20]):
        frames.append((rng.integers(0, 255, IMAGE.shape, np.uint8), face(0, yaw=yaw)))
        export.write(Frame(k, k / 30, frames[-1][0], source="a clip.mp4"), (frames[-1][1],))
    export.close()
    ((part, placed),), (image, track) = seen, frames[3]
    camera, original = placed.model_to_image, track.model_to_image
    np.testing.assert_allclose(camera[:, :3], original[:, :3])
    left, top = np.rint(original[:2, 3] - camera[:2, 3]).astype(int)
    assert camera[2, 3] == pytest.approx(original[2, 3])
    height, width = part.shape[:2]
    np.testing.assert_array_equal(part, image[top : top + height, left : left + width])
    assert height * width < image.shape[0] * image.shape[1]


def test_times_that_go_back_are_left_out(tmp_path):
    export(tmp_path, [(frame(k), (face(k),)) for k in (0, 1, 1, 0, 2)])
    assert len(read(tmp_path / "a_clip_1.glb")[0]) == 3


def test_a_place_that_is_unknown_is_the_origin(tmp_path):
    export(tmp_path, [(frame(0), (replace(face(0), translation_mm=None),))])
    assert read(tmp_path / "a_clip_1.glb")[1]["translation"].tolist() == [[0, 0, 0]]


def test_no_file_is_replaced(tmp_path):
    (tmp_path / "a_clip_1.glb").write_bytes(b"mine")
    export(tmp_path, [(frame(0), (face(0),))])
    assert (tmp_path / "a_clip_1.glb").read_bytes() == b"mine"
    assert len(read(tmp_path / "a_clip-2_1.glb")[0]) == 1 and len(list(tmp_path.iterdir())) == 2


def test_without_a_face_there_is_no_folder(tmp_path):
    assert export(tmp_path / "heads", [(frame(0), ())]).heads == 0
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    export = AnimationExport(tmp_path, GEOMETRY)
    export.write(frame(0), (face(0), face(0, 2)))
    monkeypatch.setattr(animation, "write_animated_glb", full)
    with pytest.raises(SinkError, match="No space left"):
        export.close()
    assert not list(tmp_path.iterdir())


def test_a_model_of_points_is_refused(tmp_path):
    with pytest.raises(RenderError, match="triangles"):
        AnimationExport(tmp_path, replace(GEOMETRY, triangles=GEOMETRY.triangles[:0]))
