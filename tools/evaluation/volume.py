"""Heads as solids: how far predicted surfaces are from true ones, and how much of a head is inside.

    python -m tools.evaluate volume [--people 100] [--photographs 60] [--weights weights/volume.onnx] [--data runs/data]

Rendered people of seeds that no training uses, yaw to 80 degrees: the distance from the true surface of the face, after
a similarity that aligns by nearest points, divided by the true distance of the outer corners of the eyes; seen (nothing
before it) and hidden apart. The tracker's mesh and the mean face are measured alike. IoU of the whole bust, and of what
is no head, neck or chest (hair and glasses). Photographs that no training used: IoU of the silhouette of the face's
part with that of its fit, of `tools.data.build fits` and `busts`; left out where these are absent.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from facet.assembly import build_tracker
from facet.render.bust import bust_of, on_face
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.stages import Stages
from facet.tracker.types import FaceTrack
from facet.tracker.volume import Volume, VolumeNet
from facet.tracker.weights import find_entry
from tools.evaluation import common
from tools.volume import busts
from tools.volume.data import People, sources
from tools.volume.solids import COVERED, Solid, bust, fill, fill_columns, join

SEED = 70001  # of the people, which no training draws
GROUND = 96, 160  # grey levels before which they stand
MOST_YAW = 80.0
FACE_MM = (-85.0, -70.0, 35.0), (85.0, 75.0, 150.0)  # of the head's axes: what of it is compared on photographs
SURFACE = 2500  # points of a face that are compared
ICP_STEPS, KEPT = 12, 0.9  # of the points, the nearest
# vertex distance after alignment / outer eye distance on AFLW2000-3D, as published: other data than ours
PUBLISHED = {"vrn": 0.0676, "vrn multitask": 0.0698, "vrn guided": 0.0637, "3ddfa": 0.1012}


def on_rendered(net: VolumeNet, track: Callable, people: People, count: int) -> dict:
    """Figures on rendered people: means over those that the tracker finds."""
    rows: list[dict] = []
    rng = np.random.default_rng(SEED)
    ground = rng.integers(*GROUND, (64, 64, 3)).astype(np.uint8)
    for person in busts.people(count, SEED, lambda _: ground, MOST_YAW):
        image = cv2.resize(person.image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        camera = 2.0 * person.camera
        landmarks = people.model.landmarks(camera.astype(np.float32), person.shape, person.expression)
        face = common.nearest(track(image), landmarks[:, :2])
        if face is not None:
            rows.append(of_person(net, people, person, camera, image, face))
    means = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]} if rows else {}
    return {"people": count, "found": len(rows)} | means


def of_person(net: VolumeNet, people: People, person: busts.Bust, camera, image, face: FaceTrack) -> dict[str, float]:
    """Figures of one person."""
    model, shell = people.model, people.shell
    solids = bust(model, shell, person.shape, person.expression, person.hair, person.glasses)
    volume = net(image, face)
    truth, bare = ((true_voxels(parts, camera, volume) > COVERED / 2) for parts in (solids, solids[:3]))
    inside = volume.inside > 0.5
    hair, found = truth & ~bare, inside & ~bare
    points, seen = surface(people, solids, camera)
    eyes = model.landmarks(np.eye(3, 4, dtype=np.float32), person.shape, person.expression)[[36, 45]]
    unit = float(np.linalg.norm(eyes[0] - eyes[1]))
    figures = {"bust_iou": iou(inside, truth), "hair_iou": iou(found, hair) if hair.sum() > 100 else np.nan}
    mesh = bust_of(volume.inside, volume.to_model)
    fused = bust_of(on_face(volume, face, model).inside, volume.to_model)
    exact = bust_of(true_voxels(solids, camera, volume, samples=2) / np.float32(COVERED), volume.to_model)
    tracked = model.vertices(face.shape, face.expression)
    wanted = {
        "network": None if mesh is None else (mesh.vertices, mesh.triangles),
        "on the face": None if fused is None else (fused.vertices, fused.triangles),
        "tracker": (shell.points(tracked), shell.triangles),
        "mean": (shell.points(model.mean), shell.triangles),
        "truth in voxels": (exact.vertices, exact.triangles),
    }
    for name, surface_of in wanted.items():
        away = np.full(len(points), np.nan) if surface_of is None else aligned_distances(points, *surface_of) / unit
        figures |= {f"{name} seen": float(away[seen].mean()), f"{name} hidden": float(away[~seen].mean())}
    return figures


def true_voxels(solids: list[Solid], camera: np.ndarray, volume: Volume, samples: int = 1) -> np.ndarray:
    """The voxels of the true solids in the grid of a predicted volume, uint8."""
    points, triangles = join(solids)
    placed = points @ camera[:, :3].T + camera[:, 3]
    placed[:, 2] -= camera[2, 3]  # the zero of depth is the model's origin
    back = np.linalg.inv(volume.to_image[:, :3])
    return fill((placed - volume.to_image[:, 3]) @ back.T, triangles, volume.inside.shape, samples)


def surface(people: People, solids: list[Solid], camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the true face that bound the bust, (n, 3) mm, and which of them nothing hides, (n,) bool."""
    head = solids[0]
    triangles = head.triangles[people.bare]
    corners = head.points[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(triangles), SURFACE, p=area / area.sum())
    points = corners[chosen].mean(axis=1)
    normal = normal[chosen] / area[chosen, None]
    joined, all_triangles = join(solids)
    outside = ~inside_of(points + 1.5 * normal, joined, all_triangles, np.eye(3))  # lids, lips and what hair covers
    points, normal = points[outside], normal[outside]
    turn = camera[:, :3] / np.linalg.norm(camera[0, :3]) * [[1], [-1], [1]]
    front = front_of(points, joined, all_triangles, turn)
    return points, ((points @ turn.T)[:, 2] > front - 2.0) & ((normal @ turn.T)[:, 2] > 0)


def _columns(points: np.ndarray, joined: np.ndarray, triangles: np.ndarray, turn: np.ndarray):
    """The columns of 1 mm through points, after a rotation; x, y and z of the points in the grid."""
    flip = np.array([1, -1, 1])
    low = (joined @ turn.T * flip).min(axis=0) - 2
    grid = joined @ turn.T * flip - low
    size = np.ceil(grid.max(axis=0)).astype(int) + 2
    places = points @ turn.T * flip - low
    column, row = places[:, 0].astype(int), places[:, 1].astype(int)
    cells, which = np.unique(row * size[0] + column, return_inverse=True)
    return fill_columns(grid, triangles, tuple(size[::-1]), cells), which, places[:, 2], low[2]


def inside_of(points: np.ndarray, joined: np.ndarray, triangles: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Which points (n, 3) lie in the solids, to about a millimetre."""
    filled, which, z, _ = _columns(points, joined, triangles, turn)
    return filled.cover[which, np.clip(z.astype(int), 0, filled.cover.shape[1] - 1)] > COVERED / 2


def front_of(points: np.ndarray, joined: np.ndarray, triangles: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Where the surface nearest the viewer lies in the columns of points (n, 3), mm along z after the rotation."""
    filled, which, _, low = _columns(points, joined, triangles, turn)
    return filled.front[which] + low


def aligned_distances(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Distances (n,) of points from a surface after a similarity that aligns by nearest points."""
    corners = np.asarray(vertices, np.float64)[triangles]
    middles = corners.mean(axis=1)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    tree = cKDTree(middles)
    moved = points.astype(float)
    for _ in range(ICP_STEPS):
        away, near = tree.query(moved)
        kept = away <= np.quantile(away, KEPT)
        # the nearest point of the plane of the nearest triangle
        target = moved - ((moved - middles[near]) * normal[near]).sum(axis=1, keepdims=True) * normal[near]
        scale, turn, shift = similarity(moved[kept], target[kept])
        moved = scale * moved @ turn.T + shift
    _, near = tree.query(moved)
    return np.abs(((moved - middles[near]) * normal[near]).sum(axis=1))


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation (3, 3) and shift (3,) that bring points (n, 3) nearest to others (Umeyama)."""
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, s, vt = np.linalg.svd((target - b).T @ (source - a))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = (u * sign) @ vt
    scale = float((s * sign).sum() / ((source - a) ** 2).sum())
    return scale, turn, b - scale * turn @ a


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two sets of voxels or pixels."""
    return float((one & other).sum() / max((one | other).sum(), 1))


def on_photographs(net: VolumeNet, track: Callable, people: People, folder: Path, count: int) -> dict:
    """Silhouettes of the faces of held-out photographs, the volume's against the fit's."""
    if not (folder / "bust_photographs.npz").exists():
        return {}
    source = sources(folder, ("photographs",))["photographs"]
    rows = np.setdiff1d(np.arange(len(source.images)), source.rows)[:count]
    figures, size = [], busts.CUT_PX * 2
    for row in rows:
        image = cv2.resize(source.images[row], (size, size), interpolation=cv2.INTER_CUBIC)
        camera = 2.0 * source.table["camera"][row]
        face = common.nearest(track(image), people.landmarks(source, row, camera))
        if face is None:
            continue
        volume = net(image, face)
        head = people.solids(source, row)[0]
        fitted = silhouette(head.points, head.triangles, camera, size)
        mesh = bust_of(volume.inside, volume.to_model)
        if mesh is None:
            figures.append(0.0)
            continue
        to_image = volume.to_image[:, :3] @ np.linalg.inv(volume.to_model[:, :3])
        placed = (mesh.vertices - volume.to_model[:, 3]) @ to_image.T + volume.to_image[:, 3]
        placed[:, 2] += camera[2, 3]
        in_fit = (placed - camera[:, 3]) @ np.linalg.inv(camera[:, :3]).T  # mm of the fit's head
        figures.append(iou(silhouette(in_fit, mesh.triangles, camera, size), fitted))
    return {"photographs": len(rows), "found": len(figures), "face_silhouette_iou": float(np.mean(figures))}


def silhouette(vertices: np.ndarray, triangles: np.ndarray, camera: np.ndarray, size: int) -> np.ndarray:
    """Where the part of a head between FACE_MM covers an image, (size, size) bool; vertices (N, 3) mm."""
    low, high = FACE_MM
    kept = ((vertices > low) & (vertices < high)).all(axis=1)[triangles].all(axis=1)
    mask = np.zeros((size, size), np.uint8)
    placed = vertices @ camera[:2, :3].T + camera[:2, 3]
    for corners in np.round(placed[triangles[kept]] * 16 - 8).astype(np.int32):
        cv2.fillConvexPoly(mask, corners, 1, shift=4)
    return mask > 0


def main(arguments: list[str] | None = None) -> int:
    parser = common.options("volume", __doc__)
    parser.add_argument("--people", type=int, default=100, help="rendered (default: 100)")
    parser.add_argument("--photographs", type=int, default=60, help="at most so many (default: 60)")
    parser.add_argument("--weights", default="weights/volume.onnx", help="the network (default: the shipped one)")
    parser.add_argument("--data", type=Path, default=Path("runs/data"), help="of python -m tools.data.build")
    args = parser.parse_args(arguments)
    config = load_config(AppConfig, args.config[0] if args.config else None, args.set)
    tracker = build_tracker(config, Stages(), live=False)
    net, people = VolumeNet.open(find_entry(args.weights, "volume")), People()

    def track(image):
        return common.followed(tracker, image)

    results = {"rendered": on_rendered(net, track, people, args.people)}
    results["held-out photographs"] = on_photographs(net, track, people, args.data, args.photographs)
    results["published, AFLW2000-3D"] = dict(PUBLISHED)
    return common.report(results, args)
