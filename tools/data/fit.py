"""Our face model fitted to all labelled faces at once: their pose, shape and expression.

The model's points are compared with the 68 labels and the irises in mm; 3DDFA's depth keeps the pose from tipping, the
blink labels say how shut the eyes are. Photographs of one person share most of their shape. A face and its mirror image
are fitted apart: the model's modes are not symmetric.
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from facet.tracker.mirror import MIRROR_68
from facet.tracker.morphable import CONTOUR_SOFTNESS_MM, load_face_model
from tools.data import labels
from tools.data.crops import SIZE_PX, mirrored_68

# jaw, brows, nose, eyes, lips: the jaw line is vague, lids and lips are exact and small
POINT_WEIGHT = np.repeat(np.float32([0.35, 0.8, 1.0, 1.5, 1.2]), [17, 10, 9, 12, 20])
# against mm^2 summed over points
SHAPE_WEIGHT, PERSON_WEIGHT, EXPRESSION_WEIGHT, EXPRESSION_SPARSE = 8.0, 16.0, 2.0, 3.0
# 68 points hardly distinguish these from the shape: they must earn it
VAGUE = ("cheekPuff", "cheekSquint", "jawForward", "mouthShrug", "mouthPress", "mouthRoll", "mouthLeft", "mouthRight")
VAGUE_FACTOR = 3.0
PIECE = 512
# nobody does both at once
EXCLUSIVE = (
    ("mouthLeft", "mouthRight"),
    ("jawLeft", "jawRight"),
    ("eyeLookIn_L", "eyeLookOut_L"),
    ("eyeLookIn_R", "eyeLookOut_R"),
)
EXCLUSIVE_WEIGHT = 200.0
DEPTH_WEIGHT, IRIS_WEIGHT, BLINK_WEIGHT = 0.15, 1.0, 100.0


@dataclass(frozen=True, slots=True, eq=False)
class FacePoints:
    """What the training needs of the face model, as tensors in mm."""

    mean: torch.Tensor  # (P, 3)
    basis: torch.Tensor  # (Ks + Ke, P, 3): shape, then expression
    shape_count: int
    names: tuple[str, ...]  # of the expressions
    fixed: slice  # rows of landmarks 17-67
    irises: slice  # rows of the two irises' middles, subject's right first
    contour: slice  # rows of 17 x C candidates
    cloud: slice  # rows of vertices spread over the face
    outward: torch.Tensor  # (17, 2), as in tracker.morphable.SparseRows

    def to(self, device) -> FacePoints:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return FacePoints(**{k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in values.items()})

    def index(self, name: str) -> int:
        """Column of an expression among the expressions."""
        return self.names.index(name)


def load_points(path: Path, cloud_count: int = 200) -> FacePoints:
    """Rows of the face model that are compared with labels."""
    model = load_face_model(path)
    sparse = model.sparse
    flat = np.concatenate([sparse.mean.reshape(1, -1), sparse.basis])
    rows = flat.reshape(len(flat), -1, 3)  # (1 + K, 68 + 17 C, 3)
    names = list(model.region_names)
    disc = np.isin(model.region, [names.index("iris"), names.index("pupil")])
    right, left = disc & (model.mean[:, 0] < 0), disc & (model.mean[:, 0] > 0)
    face = np.flatnonzero((model.region == names.index("face")) & (model.mean[:, 2] > 20))
    chosen = face[_spread(model.mean[face], cloud_count)]
    more = np.zeros((len(rows), 2 + cloud_count, 3), np.float32)
    more[0] = np.concatenate([[model.mean[right].mean(0), model.mean[left].mean(0)], model.mean[chosen]])
    for k in range(model.shape_count + model.expression_count):
        delta = np.zeros_like(model.mean)
        if k < model.shape_count:
            delta = model.shape_basis[k]
        else:
            span = slice(*model.expression_start[k - model.shape_count : k - model.shape_count + 2])
            delta[model.expression_vertex[span]] = model.expression_delta[span]
        more[1 + k] = np.concatenate([[delta[right].mean(0), delta[left].mean(0)], delta[chosen]])
    rows = torch.from_numpy(np.concatenate([rows, more], axis=1).astype(np.float32))
    end = len(sparse.mean)
    return FacePoints(
        mean=rows[0],
        basis=rows[1:],
        shape_count=model.shape_count,
        names=model.expression_names,
        fixed=slice(17, 68),
        contour=slice(68, end),
        irises=slice(end, end + 2),
        cloud=slice(end + 2, end + 2 + cloud_count),
        outward=torch.from_numpy(sparse.outward),
    )


def _spread(points: np.ndarray, count: int) -> np.ndarray:
    """Farthest-point sampling; indices (count,)."""
    chosen = [int(np.argmax(points[:, 2]))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


def model_points(face: FacePoints, coefficients: torch.Tensor) -> torch.Tensor:
    """(B, P, 3) mm of (B, Ks + Ke) coefficients."""
    count = len(face.mean)
    return face.mean + (coefficients @ face.basis.reshape(len(face.basis), -1)).reshape(-1, count, 3)


def rotation_of(six: torch.Tensor) -> torch.Tensor:
    """(B, 3, 3) by Gram-Schmidt of the first two rows (B, 6)."""
    x = torch.nn.functional.normalize(six[:, :3], dim=1, eps=1e-8)
    y = six[:, 3:] - (six[:, 3:] * x).sum(1, keepdim=True) * x
    y = torch.nn.functional.normalize(y, dim=1, eps=1e-8)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=1)


def contour_pick(face: FacePoints, turned: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """`tracker.morphable.contour_weights` for a batch, (B, 17, C); no gradient.

    Parameters
    ----------
    turned : (B, P, 3) points after the rotation, mm, y up
    rotation : (B, 3, 3)
    """
    with torch.no_grad():
        lines = turned[:, face.contour].reshape(len(turned), 17, -1, 3)[..., :2]
        direction = torch.einsum("bij,kj->bki", rotation[:, :2, :2], face.outward)
        direction = torch.nn.functional.normalize(direction, dim=2, eps=1e-9)
        return torch.softmax((lines * direction[:, :, None]).sum(-1) / CONTOUR_SOFTNESS_MM, dim=2)


def landmarks_of(face: FacePoints, points: torch.Tensor, pick: torch.Tensor) -> torch.Tensor:
    """68 of (B, P, n) points."""
    lines = points[:, face.contour].reshape(len(points), 17, -1, points.shape[-1])
    return torch.cat([(lines * pick[..., None]).sum(2), points[:, face.fixed]], dim=1)


def fit(face: FacePoints, table: dict, steps: int = 240) -> dict[str, np.ndarray]:
    """Fit every face of the table and its mirror image.

    Returns
    -------
    camera (n, 2, 3, 4) float32, model mm -> cut px; coefficients (n, 2, Ks + Ke) float32; error (n, 2) float32, mean
    distance of the 68 points / sqrt(wh); second axis: as it is, and mirrored
    """
    blink, gaze_seen = table["blink"], ~np.isnan(table["gaze"][:, 0, 0])
    target = labels.wanted_points(table)
    irises = table["mesh"][:, labels.IRISES, :2]
    flip, offset = np.float32([-1, 1]), np.float32([SIZE_PX, 0])
    target = np.concatenate([target, mirrored_68(target)])
    irises = np.concatenate([irises, (irises * flip + offset)[:, ::-1]])
    depth = np.concatenate([table["depth"], table["depth"][:, MIRROR_68]])[:, 17:]
    blink = np.concatenate([blink, blink[:, ::-1]])
    yaw = np.radians(np.concatenate([table["yaw_deg"], -table["yaw_deg"]]))
    # irises of small, shut or far turned eyes are guesses
    iris_weight = np.clip(table["roi"][:, 2] / 250 - 0.3, 0, 1) * (np.abs(table["yaw_deg"]) < 40) * gaze_seen
    iris_weight = np.concatenate([iris_weight, iris_weight])[:, None] * (np.nan_to_num(blink) < 0.5)
    people = table["identity"]
    people = np.concatenate([people, np.char.add(people, np.where(people == "", "", "~"))])

    def tensor(array):
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))

    target, irises, depth, blink = tensor(target), tensor(np.nan_to_num(irises)), tensor(depth), tensor(blink)
    iris_weight = tensor(iris_weight)
    data = {"target": target, "irises": irises, "depth": depth, "blink": blink, "yaw": tensor(yaw)}
    none = torch.zeros_like(iris_weight)
    result = _in_pieces(face, data | {"iris_weight": none}, 2 * steps // 3)
    # people look at the camera more often than not: what the irises are off by in the middle of all is convention
    looking = (iris_weight.min(1).values > 0.3) & (tensor(yaw).abs() < 0.3)
    off = torch.zeros(2, 2)
    if looking.any():
        off = _iris_offset(face, result, irises)[looking].median(dim=0).values
    data["iris_offset"] = off.expand(len(target), 2, 2)
    data["iris_weight"] = iris_weight
    result = _in_pieces(face, data | result, steps)
    shape = result["coefficients"][:, : face.shape_count].numpy()
    centre = np.zeros_like(shape)
    for person in set(people) - {""}:
        centre[people == person] = shape[people == person].mean(axis=0)
    known = tensor(people != "")[:, None]
    result = _in_pieces(face, data | result | {"centre": tensor(centre), "known": known}, steps // 2)
    count = len(target) // 2
    return {name: value.numpy().reshape(2, count, *value.shape[1:]).swapaxes(0, 1) for name, value in result.items()}


def _in_pieces(face: FacePoints, data: dict, steps: int) -> dict[str, torch.Tensor]:
    """`_descend` for so many faces at a time as the cache holds."""
    names = set(inspect.signature(_descend).parameters) & set(data)
    pieces = []
    for i in range(0, len(data["target"]), PIECE):
        pieces.append(_descend(face, **{name: data[name][i : i + PIECE] for name in names}, steps=steps))
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def _iris_offset(face, result, irises):
    """Labelled irises minus the model's, (B, 2, 2) mm, turned, y up."""
    pose = result["pose"]
    scale, rotation = pose[:, 0].exp(), rotation_of(pose[:, 1:7])
    turned = model_points(face, result["coefficients"]) @ rotation.transpose(1, 2)
    labelled = (irises - pose[:, None, 7:9] * SIZE_PX) / scale[:, None, None] * torch.tensor([1.0, -1.0])
    return labelled - turned[:, face.irises, :2]


def _descend(
    face,
    target,
    irises,
    iris_weight,
    depth,
    blink,
    yaw,
    steps,
    pose=None,
    coefficients=None,
    iris_offset=0.0,
    centre=None,
    known=None,
):
    """Adam on all faces at once, the expression kept within [0, 1]."""
    count, shapes = len(target), face.shape_count
    low, high = target.min(1).values, target.max(1).values
    size = (high - low).max(1).values
    if pose is None:
        zero, one = torch.zeros(count), torch.ones(count)
        rotation = torch.stack(
            [torch.cos(-yaw), zero, torch.sin(-yaw), zero, one, zero], 1
        )  # first two rows of a turn by -yaw about y
        pose = torch.cat([torch.log(size / 140.0)[:, None], rotation, (low + high) / 2 / SIZE_PX], 1)
        coefficients = torch.zeros(count, len(face.basis))
    pose, coefficients = pose.clone().requires_grad_(), coefficients.clone().requires_grad_()
    optimiser = torch.optim.Adam([{"params": [pose], "lr": 0.02}, {"params": [coefficients], "lr": 0.05}])
    weight = torch.from_numpy(POINT_WEIGHT)
    eyes = [face.index("eyeBlink_R"), face.index("eyeBlink_L")]
    sparse = torch.tensor([VAGUE_FACTOR if name.startswith(VAGUE) else 1.0 for name in face.names]) * EXPRESSION_SPARSE
    exclusive = [[face.index(name) for name in pair] for pair in EXCLUSIVE]
    # lids do not show where eyes look to the side
    aside = [shapes + k for k, name in enumerate(face.names) if name.startswith(("eyeLookIn", "eyeLookOut"))]
    basis = face.basis.clone()
    for k in aside:
        basis[k, : face.irises.start] = 0
    face = dataclasses.replace(face, basis=basis)
    blink_known = ~blink.isnan()
    blink = blink.nan_to_num()
    for step in range(steps):
        for group, rate in zip(optimiser.param_groups, (0.02, 0.05), strict=True):
            group["lr"] = rate * (1 - 0.95 * step / steps)
        scale, rotation = pose[:, 0].exp(), rotation_of(pose[:, 1:7])
        turned = model_points(face, coefficients) @ rotation.transpose(1, 2)
        pick = contour_pick(face, turned, rotation)
        landmarks = landmarks_of(face, turned, pick)
        flip = torch.tensor([1.0, -1.0])
        want = ((target - pose[:, None, 7:9] * SIZE_PX) / scale[:, None, None]) * flip  # mm, y up, turned
        error = ((landmarks[..., :2] - want).square().sum(2) * weight).sum(1)
        z = landmarks[:, 17:, 2]
        error = error + DEPTH_WEIGHT * (
            (z - z.mean(1, keepdim=True)) - (depth - depth.mean(1, keepdim=True)) / scale[:, None]
        ).square().sum(1)
        want = ((irises - pose[:, None, 7:9] * SIZE_PX) / scale[:, None, None]) * flip - iris_offset
        error = error + IRIS_WEIGHT * ((turned[:, face.irises, :2] - want).square().sum(2) * iris_weight).sum(1)
        shape, expression = coefficients[:, :shapes], coefficients[:, shapes:]
        if centre is None:
            error = error + SHAPE_WEIGHT * shape.square().sum(1)
        else:
            pull = SHAPE_WEIGHT * (1 - known) + PERSON_WEIGHT * known
            error = error + (pull * (shape - centre * known).square()).sum(1)
        error = error + EXPRESSION_WEIGHT * expression.square().sum(1) + expression @ sparse
        for one, other in exclusive:
            error = error + EXCLUSIVE_WEIGHT * expression[:, one] * expression[:, other]
        shut = expression[:, eyes] - blink
        error = error + BLINK_WEIGHT * (shut.square() * blink_known).sum(1)
        optimiser.zero_grad()
        error.sum().backward()
        optimiser.step()
        with torch.no_grad():
            coefficients[:, shapes:].clamp_(0, 1)
            coefficients[:, :shapes].clamp_(-3, 3)
    with torch.no_grad():
        scale, rotation = pose[:, 0].exp(), rotation_of(pose[:, 1:7])
        turned = model_points(face, coefficients) @ rotation.transpose(1, 2)
        landmarks = landmarks_of(face, turned, contour_pick(face, turned, rotation))
        shown = landmarks[..., :2] * torch.tensor([1.0, -1.0]) * scale[:, None, None] + pose[:, None, 7:9] * SIZE_PX
        camera = torch.zeros(count, 3, 4)
        camera[:, :, :3] = rotation * scale[:, None, None] * torch.tensor([1.0, -1.0, 1.0])[:, None]
        camera[:, :2, 3] = pose[:, 7:9] * SIZE_PX
        error = (shown - target).norm(dim=2).mean(1) / (high - low).prod(1).sqrt()
    return {
        "camera": camera,
        "coefficients": coefficients.detach(),
        "error": error,
        "pose": pose.detach(),
        "landmarks": shown,
    }
