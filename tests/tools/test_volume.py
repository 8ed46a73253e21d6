"""The volume network: solids and their voxels, samples, networks, training, export, and the tool."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import trimesh

torch = pytest.importorskip("torch")
from scipy.spatial import cKDTree

from facet.render.bust import bust as mesh_of
from facet.tracker.errors import ConfigError, SourceError
from facet.tracker.morphable import load_face_model
from facet.tracker.pose import pose_from_camera
from facet.tracker.runtime import open_session
from facet.tracker.types import FaceTrack, TrackState
from facet.tracker.volume import MIDDLE_MM, Volume, VolumeNet, grid_from_model
from facet.tracker.weights import ROOT
from tests.program import run
from tests.tools import training_data
from tools.solids import ellipsoid
from tools.training import TrainingError, checkpoint, loop
from tools.training.recipe import Schedule, load_recipe
from tools.volume import __main__ as tool
from tools.volume import busts, data, export, losses, raw
from tools.volume.model import AncestorNet, Net, build, columns, enlarged
from tools.volume.solids import (
    COVERED,
    HeadShell,
    Solid,
    SolidError,
    border_loops,
    bust,
    check_solid,
    fill,
    fill_columns,
    join,
    slab,
    volume_of,
)

SMALL = Net(width=16, stacks=2, depth=1, size_px=32, slices=12)
GREY = np.full((50, 50, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def model():
    return load_face_model(ROOT / "weights" / "face_model.npz")


@pytest.fixture(scope="module")
def people():
    return list(busts.people(4, 3, lambda rng: GREY))


# Solids and their voxels


def box(low, high):
    mesh = trimesh.creation.box(bounds=[low, high])
    return np.array(mesh.vertices), np.array(mesh.faces)


def on_screen(points):
    """Points of a right-handed space, y up, in a grid of 40."""
    return points * (1, -1, 1) + 20


def filled(*solids, samples=1, size=40):
    starts = np.cumsum([0, *(len(points) for points, _ in solids)])
    points = np.concatenate([points for points, _ in solids])
    triangles = np.concatenate([triangles + start for (_, triangles), start in zip(solids, starts, strict=False)])
    return fill(on_screen(points), triangles, (size, size, size), samples)


@pytest.mark.parametrize(
    ("solids", "volume"),
    [
        ([ellipsoid((0.3, -0.2, 0.1), (12, 12, 12), 96)], 4 / 3 * np.pi * 12**3),
        (
            [(lambda m: (np.array(m.vertices), np.array(m.faces)))(trimesh.creation.torus(10, 4, 96, 48))],
            2 * np.pi**2 * 160,
        ),
        ([box((-8, -7, -9), (4, 6, 5)), box((-2.5, -3, 0), (9, 9, 9))], 12 * 13 * 14 + 11.5 * 12 * 9 - 6.5 * 9 * 5),
    ],
    ids=["ball", "ring", "two overlapping boxes"],
)
def test_solids_fill_their_volume(solids, volume):
    for points, triangles in solids:
        check_solid(points, triangles)
    assert filled(*solids, samples=2).sum() / COVERED == pytest.approx(volume, rel=0.01)


def test_the_surface_covers_voxels_in_part():
    cover = filled(box((-5, -5, -3.25), (5, 5, 4.5)))
    column = cover[:, 20, 20] / COVERED

    assert column[16] == pytest.approx(0.25, abs=0.01) and column[24] == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(column[17:24], 1)


def test_axes_are_depth_row_column_and_the_front_is_the_last_slice():
    """A box that is wide, a ball at its right, high and near end."""
    cover = filled(box((-15, -2, -2), (15, 2, 2)), ellipsoid((12, 9, 10), (4, 4, 4)))
    z, y, x = (np.argwhere(cover > COVERED / 2) + 0.5).T
    assert np.ptp(x) > np.ptp(y) and x[y < 14].mean() > 30 and z[y < 14].mean() > 28


def test_wrong_winding_is_caught():
    points, triangles = ellipsoid((0, 0, 0), (10, 10, 10))
    check_solid(points, triangles)
    with pytest.raises(SolidError, match="counter-clockwise"):
        check_solid(points, triangles[:, ::-1])
    some = triangles.copy()
    some[100] = some[100, ::-1]
    with pytest.raises(SolidError, match="wound alike"):
        check_solid(points, some)
    with pytest.raises(SolidError, match="closed"):
        check_solid(points, np.delete(triangles, 100, axis=0))


def test_a_grid_that_ends_within_a_solid_is_filled_to_its_end():
    cover = filled(box((-30, -30, -30), (30, 30, 30)), size=20)
    assert cover.min() == COVERED


def test_some_columns_are_those_of_all():
    points, triangles = ellipsoid((1, 2, 3), (11, 9, 12))
    whole = fill(on_screen(points), triangles, (40, 40, 40))
    cells = np.random.default_rng(0).choice(1600, 200, replace=False)
    some = fill_columns(on_screen(points), triangles, (40, 40, 40), cells)
    np.testing.assert_array_equal(some.cover, whole.reshape(40, -1).T[cells])
    there = some.owner >= 0
    depth = (some.cover.astype(float) / COVERED).sum(axis=1)
    np.testing.assert_allclose(depth[there], (some.front - some.behind)[there], atol=0.1)


def test_the_head_is_closed_with_any_face(model, people):
    shell = HeadShell(model)
    assert len(border_loops(model.triangles)) > 1
    for person in people:
        solids = bust(model, shell, person.shape, person.expression, person.hair, person.glasses)
        for solid in solids:
            check_solid(solid.points, solid.triangles)
        head = solids[0]
        assert 3e6 < volume_of(head.points, head.triangles) < 6e6  # mm3
    none = np.zeros(model.shape_count, np.float32), np.zeros(model.expression_count, np.float32)
    with_glasses = bust(model, shell, *none, np.full((1, 2, 3), np.nan), 2)
    assert sorted({solid.part for solid in with_glasses}) == ["cloth", "glasses", "head", "neck"]
    for solid in with_glasses:
        check_solid(solid.points, solid.triangles)


def test_a_slab_has_the_area_times_the_thickness():
    points = np.array([[0, 0, 0], [10, 0, 0], [10, 6, 0], [0, 6, 0]], float)
    solid = slab(points, np.array([[0, 1, 2], [0, 2, 3]]), 1.5)
    check_solid(*solid)
    assert volume_of(*solid) == pytest.approx(10 * 6 * 3)


def distances(points, vertices, triangles):
    """From points (n, 3) to a mesh: to the plane of the triangle whose middle is nearest."""
    corners = vertices[triangles].astype(float)
    middles = corners.mean(axis=1)
    _, nearest = cKDTree(middles).query(points)
    normal = np.cross(corners[nearest, 1] - corners[nearest, 0], corners[nearest, 2] - corners[nearest, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return np.abs(((points - middles[nearest]) * normal).sum(axis=1))


def grid_of(person, model, shape, samples=2):
    """The voxels of a bust, and the map (3, 4) from model mm to them."""
    size = shape[1]
    camera = data.moved(person.camera, data.placement(size))
    grid = grid_from_model(camera, size, shape[0])
    solids = bust(model, HeadShell(model), person.shape, person.expression, person.hair, person.glasses)
    points, triangles = join(solids)
    return fill(points @ grid[:, :3].T + grid[:, 3], triangles, shape, samples), grid


def test_truth_comes_back_from_the_grid(model, people):
    """The face, which nothing hides, through 112 x 112 x 128 voxels and back: within 0.008 of the eyes' distance."""
    for person in people[:2]:
        bald = dataclasses.replace(person, hair=person.hair * np.nan, glasses=0)
        cover, grid = grid_of(bald, model, (128, 112, 112))
        turn = np.linalg.inv(grid[:, :3])
        volume = Volume(cover / np.float32(COVERED), np.column_stack([turn, -turn @ grid[:, 3]]), np.eye(3, 4))
        mesh = mesh_of(volume, np.zeros((4, 4, 3), np.uint8))
        shell = HeadShell(model)
        truth = Solid(shell.points(model.vertices(person.shape, person.expression)), shell.triangles, "head")
        face = (mesh.vertices[:, 2] > 60) & (np.abs(mesh.vertices[:, 0]) < 45)
        away = distances(mesh.vertices[face], truth.points, truth.triangles)
        eyes = model.landmarks(np.eye(3, 4, dtype=np.float32), person.shape, person.expression)[[36, 45]]
        assert away.mean() / np.linalg.norm(eyes[0] - eyes[1]) < 0.008


def test_the_nose_is_nearest_the_viewer(model, people):
    person = min(people, key=lambda each: abs(each.yaw_deg))
    cover, grid = grid_of(person, model, (128, 112, 112), samples=1)
    tip = model.landmarks(np.eye(3, 4, dtype=np.float32), person.shape, person.expression)[30]
    x, y, z = grid[:, :3] @ tip + grid[:, 3]
    column = cover[:, int(y), int(x)]
    assert 128 - np.argmax(column[::-1] > COVERED / 2) == pytest.approx(z, abs=3)


# Networks


def test_the_ancestor_has_its_number_of_parameters():
    recipe = load_recipe("volume_ancestor")
    with torch.device("meta"):
        net = build(recipe)
        found = net(torch.zeros(1, 192, 192, 3, dtype=torch.uint8))["logits"]
        whole = enlarged(found[:, -1])
    assert isinstance(net, AncestorNet)
    assert sum(p.numel() for p in net.parameters()) == 19_184_968
    assert whole.shape == (1, 200, 192, 192)


@pytest.mark.parametrize(
    "net",
    [
        SMALL,
        dataclasses.replace(SMALL, guided=True),
        dataclasses.replace(SMALL, landmarks=True),
        dataclasses.replace(SMALL, family="vrn"),
        dataclasses.replace(SMALL, family="vrn", landmarks=True, guided=True),
    ],
    ids=["unguided", "guided", "multitask", "vrn", "vrn guided multitask"],
)
def test_every_variant_learns_and_exports(net, tmp_path):
    torch.manual_seed(0)
    recipe = recipe_of(net)
    module = build(recipe)
    crops = np.random.default_rng(0).integers(0, 256, (2, 32, 32, net.channels), np.uint8)
    output = module(torch.from_numpy(crops))
    assert ("points" in output) == net.landmarks
    sum(value.square().mean() for value in output.values()).backward()
    used = [p for name, p in module.named_parameters() if p.grad is not None]
    assert len(used) == len(list(module.parameters())) and all(p.grad.isfinite().all() for p in used)
    export.write_graph(module.eval(), tmp_path / "net.onnx", crops)
    inside, *points = open_session(tmp_path / "net.onnx").run(crops=crops[:1])
    assert [found.shape for found in points] == [(1, 68, 2)] * net.landmarks
    assert inside.shape == (1, 12, 32, 32) and inside.min() >= 0 and inside.max() <= 1


def test_sampled_columns_are_those_of_the_whole_volume():
    logits = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    cells = torch.stack([torch.randperm(1024)[:100] for _ in range(2)])
    whole = enlarged(logits).flatten(2).transpose(1, 2)
    found = columns(logits, cells, 32)
    for k in range(2):
        torch.testing.assert_close(found[k], whole[k][cells[k]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"family": "unet"}, {"width": 15}, {"stacks": 0}, {"size_px": 30}, {"slices": 0}])
def test_impossible_networks_are_refused(wrong):
    with pytest.raises(ValueError, match=r"unknown|must be"):
        dataclasses.replace(SMALL, **wrong)


# Samples, losses, training


def recipe_of(net=SMALL, shares=None, **train):
    train = {"samples": 16, "batch": 4, "lr": 1e-3, "warmup": 4, "ema": 0.9} | train
    terms = {"cover": 1.0} | ({"points": 1.0} if net.landmarks else {})
    shares = data.Data(shares=shares or {"rendered": 0.6, "photographs": 0.4})
    return data.Recipe(network="volume", net=net, data=shares, train=Schedule(**train), losses=terms)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, people):
    """A folder as `tools.data.build` writes it, with some people as if they were photographs."""
    folder = training_data.write(tmp_path_factory.mktemp("data"))
    table = busts.table_of(people)
    np.savez(folder / "busts.npz", **table)
    np.stack([person.image for person in people]).tofile(folder / "busts.u8")
    photographs = {name: table[name] for name in ("camera", "shape", "expression", "yaw_deg")}
    held_out = np.arange(len(people)) < 1
    np.savez(folder / "bust_photographs.npz", held_out=held_out, **photographs)
    np.stack([person.image for person in people]).tofile(folder / "bust_photographs.u8")
    return folder


def test_a_number_makes_the_same_batch(folder):
    feed = data.Feed(recipe_of(), folder)
    one, other = feed(3), data.Feed(recipe_of(), folder)(3)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])
    assert one["images"].shape == (4, 32, 32, 3) and one["cover"].shape == (4, data.COLUMNS, 12)


def test_photographs_say_nothing_beside_and_behind_the_face(folder):
    batch = data.Feed(recipe_of(shares={"photographs": 1.0}), folder)(0)
    cover = batch["cover"]
    known = cover != data.UNKNOWN
    assert known[..., -1].all()  # nothing lies before the face
    assert (~known).any(axis=2).mean() > 0.5 and (cover[..., 0][known[..., 0]] > 0).all()  # nobody knows the back
    assert (np.diff(known.astype(int), axis=2) >= 0).all()  # all in front of what is unknown is known
    assert (batch["cover"][known] > 0).any()


def test_mirrored_samples_mirror_their_columns(folder, monkeypatch):
    """Of every sample both ways: where the head covers a column, its mirror image does so in the mirrored column."""
    recipe = recipe_of(shares={"rendered": 1.0})
    sampler = data.VolumeSampler(folder, recipe)
    monkeypatch.setattr(sampler, "_spoil", lambda crop, look: crop)
    pairs = {}
    for seed in range(60):
        sampler.rng = np.random.default_rng(seed)
        sample = sampler._sample()
        covered = sample["cover"].any(axis=1)
        image = sample["images"].reshape(-1, 3)[sample["cells"]].astype(int)
        pairs[seed] = np.abs(image - 128).max(axis=1)[covered].mean() - np.abs(image - 128).max(axis=1)[~covered].mean()
    assert np.mean([difference > 10 for difference in pairs.values()]) > 0.9  # the head, not the grey ground


def test_a_perfect_prediction_costs_nothing():
    cells = torch.arange(64)[None]
    logits = torch.full((1, 1, 6, 2, 2), -20.0)
    logits[:, :, 2:4] = 20.0
    cover = torch.zeros(1, 64, 6, dtype=torch.uint8)
    cover[:, :, 2:4] = COVERED
    compared = losses.Compared({"logits": logits}, {"cells": cells, "cover": cover}, 8)
    assert losses.cover(compared).item() == pytest.approx(0, abs=1e-6)
    cover[:, :, 2:4] = data.UNKNOWN
    logits[:, :, 2:4] = -20.0
    assert losses.cover(compared).item() == pytest.approx(0, abs=1e-6)
    logits[:, :, 0] = 20.0
    assert losses.cover(compared).item() == pytest.approx(5, rel=1e-3)  # one of the four that are known, by 20


@pytest.mark.parametrize("net", [SMALL, dataclasses.replace(SMALL, guided=True, landmarks=True)])
def test_training_resumes_and_its_result_is_written_and_read(folder, net, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "Feeder", training_data.FeederHere)
    recipe = recipe_of(net)
    loop.train(recipe, tmp_path, folder, stop=8)
    result = loop.train(recipe, tmp_path, folder)
    found, module = checkpoint.open_network(result)
    assert found.net == net
    table = export.write(module, recipe, tmp_path / "volume.onnx", folder)
    assert table["slices"] == 12 and table["guided"] == net.guided
    again = build(recipe)
    export.read(again, tmp_path / "volume.onnx")
    crops = torch.from_numpy(export.some_crops(recipe, folder))
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(crops)["logits"], module(crops)["logits"], rtol=1e-4, atol=1e-4)


def test_missing_data_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"build busts"):
        data.sources(tmp_path, ("rendered",))


def test_the_recipes_are_right():
    assert load_recipe("volume").net == Net()
    assert load_recipe("volume_guided").net.guided and load_recipe("volume_multitask").net.landmarks
    with pytest.raises(ConfigError, match="unknown source"):
        load_recipe("volume", ("data.shares={drawn=1.0}",))


# The runtime and the tool


def face_of(person, model):
    """A rendered person as a tracker has them."""
    camera = person.camera.astype(np.float32)
    camera[2, 3] = 0
    landmarks = model.landmarks(camera, person.shape, person.expression)
    return FaceTrack(
        1,
        TrackState.TRACKED,
        0.9,
        False,
        None,
        camera,
        person.shape,
        person.expression,
        pose_from_camera(camera),
        landmarks,
    )


class Truth:
    """A network that knows the people that it sees."""

    def __init__(self, cover):
        self.cover = cover

    def run(self, crops):
        return ((self.cover / np.float32(COVERED))[None],)


def test_the_volume_of_a_face_lies_on_the_face(model, people):
    """Through the runtime: the mesh of the truth lies on the face in model space, its colours come from the image."""
    person = min(people, key=lambda each: abs(each.yaw_deg))
    face = face_of(person, model)
    roi_camera = data.moved(person.camera, data.placement(112))
    assert np.allclose(roi_camera[:2, :3] @ MIDDLE_MM + roi_camera[:2, 3], 56)
    cover, _ = grid_of(dataclasses.replace(person, camera=upright(person, face)), model, (128, 112, 112), samples=1)
    net = VolumeNet(Truth(cover), 112, 128, False)
    volume = net(person.image, face)
    head = mesh_of(volume, person.image)
    mesh = trimesh.Trimesh(head.vertices, head.triangles, process=False)
    assert mesh.is_watertight and mesh.body_count == 1 and mesh.volume > 0
    tip = model.landmarks(np.eye(3, 4, dtype=np.float32), person.shape, person.expression)[30]
    assert distances(tip[None], head.vertices, head.triangles)[0] < 4
    shown = volume.to_image @ np.append(np.linalg.inv(volume.to_model[:, :3]) @ (tip - volume.to_model[:, 3]), 1)
    np.testing.assert_allclose(shown[:2], face.landmarks[30, :2], atol=0.5)
    assert shown[2] == pytest.approx(face.landmarks[30, 2], abs=0.5)


def upright(person, face):
    """The camera of a person after the roll of the head is taken back, about the middle of the cut."""
    angle = np.radians(face.pose.roll_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.full(2, busts.CUT_PX / 2)
    return data.moved(person.camera, np.column_stack([turn, middle - turn @ middle]))


def test_raw_volumes_are_written_and_read(tmp_path, model, people):
    person = min(people, key=lambda each: abs(each.yaw_deg))
    face = face_of(person, model)
    cover, _ = grid_of(dataclasses.replace(person, camera=upright(person, face)), model, (128, 112, 112), samples=1)
    volume = VolumeNet(Truth(cover), 112, 128, False)(person.image, face)
    values = raw.resampled(volume, face.landmarks)
    raw.write_raw(tmp_path / "a.raw", values)
    assert (tmp_path / "a.raw").stat().st_size == 200 * 192 * 192
    np.testing.assert_array_equal(raw.read_raw(tmp_path / "a.raw"), values)
    to_image = raw.raw_to_image(face.landmarks)
    tip = np.linalg.inv(to_image[:, :3]) @ (face.landmarks[30] - to_image[:, 3])
    column = values[:, int(tip[1]), int(tip[0])]
    assert 200 - np.argmax(column[::-1] > 127) == pytest.approx(tip[2], abs=8)
    head = raw.raw_head(values)
    assert trimesh.Trimesh(head.vertices, head.triangles, process=False).is_watertight
    (tmp_path / "b.raw").write_bytes(b"short")
    with pytest.raises(SourceError, match="expected a volume of 200 x 192 x 192 bytes, found 5"):
        raw.read_raw(tmp_path / "b.raw")


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A frame of the demo clip."""
    path = tmp_path_factory.mktemp("image") / "a face.png"
    reader = cv2.VideoCapture(str(ROOT / "samples" / "demo.mp4"))
    cv2.imwrite(str(path), reader.read()[1])
    return path


def test_the_tool_writes_a_closed_head_of_every_face(photograph, tmp_path):
    assert tool.main([str(photograph), "-o", str(tmp_path / "out"), "--raw", "--sheet"]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"a_face_1_bust.{kind}" for kind in ("obj", "mtl", "ply", "glb", "stl", "raw", "jpg")}
    sizes = set()
    for kind in ("obj", "ply", "glb", "stl"):
        mesh = trimesh.load(tmp_path / "out" / f"a_face_1_bust.{kind}", force="mesh")
        mesh.merge_vertices(merge_norm=True, merge_tex=True)
        assert mesh.is_watertight and mesh.body_count == 1 and np.isfinite(mesh.vertices).all() and mesh.volume > 0
        sizes.add(round(float(np.ptp(mesh.vertices, axis=0).max()) * (1000 if kind == "glb" else 1)))
    assert len(sizes) == 1 and 200 < sizes.pop() < 300  # mm in all of them
    colours = trimesh.load(tmp_path / "out" / "a_face_1_bust.ply").visual.vertex_colors[:, :3]
    assert colours.std() > 20
    assert cv2.imread(str(tmp_path / "out" / "a_face_1_bust.jpg")).shape == (720, 1800, 3)
    assert tool.main([str(tmp_path / "out" / "a_face_1_bust.raw"), "-o", str(tmp_path / "again")]) == 0
    assert trimesh.load(tmp_path / "again" / "a_face_1_bust_0_bust.stl").is_watertight


def test_the_program_writes_it_beside_the_face(photograph, tmp_path):
    done = run("-f", photograph, "--export", tmp_path / "out", "--set", "export.volume=true", "--quiet")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"a_face_1.glb", "a_face_1_bust.glb", "a_face_1_bust.stl"} <= names


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["nowhere.png"], 1, "nowhere.png"),
        (["{blank}"], 1, "found no face"),
        (["{face}", "--at", "1"], 2, "only for a video"),
        (["{face}", "--set", "export.weights=weights/detector.onnx"], 1, "expected a volume"),
        (["{short}"], 1, "expected a volume of 200 x 192 x 192 bytes"),
        (["{empty}"], 1, "found no surface"),
    ],
)
def test_what_cannot_be_is_reported_in_a_line(options, status, words, photograph, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((80, 80, 3), 90, np.uint8))
    (tmp_path / "short.raw").write_bytes(b"1")
    (tmp_path / "empty.raw").write_bytes(bytes(200 * 192 * 192))
    places = {name: tmp_path / f"{name}.{end}" for name, end in (("blank", "png"), ("short", "raw"), ("empty", "raw"))}
    options = [option.format(face=photograph, **places) for option in options]
    assert tool.main([*options, "-o", str(tmp_path / "out")]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and words in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_head_without_a_surface_is_reported(photograph, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(VolumeNet, "__call__", lambda *_: Volume(np.zeros((4, 4, 4)), np.eye(3, 4), np.eye(3, 4)))
    assert tool.main([str(photograph), "-o", str(tmp_path / "out")]) == 1
    assert "found no surface" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_face_at_the_border_is_capped(photograph, tmp_path):
    image = cv2.imread(str(photograph))
    path = tmp_path / "cut.png"
    cv2.imwrite(str(path), image[: int(0.62 * len(image))])
    if tool.main([str(path), "-o", str(tmp_path)]) == 0:
        assert trimesh.load(tmp_path / "cut_1_bust.stl").is_watertight
