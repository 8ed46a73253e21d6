"""The losses of the regressor: named functions of a batch of `Faces`. A term runs when a recipe names it.

Lengths are shares of the crop's side.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from facet.tracker.blendshapes import TOGETHER
from facet.tracker.weights import ROOT
from tools.data import fit, labels
from tools.data.augment import FACE, NO_FACE, Crops
from tools.data.crops import SIZE_PX
from tools.regressor import parameters
from tools.regressor.data import MADE, Labels, Recipe, held_out_rows, validation_crops
from tools.regressor.model import EXPRESSIONS, SHAPES
from tools.regressor.parameters import PointModel, point_distance
from tools.regressor.teacher import mirrored_landmarks, teacher_landmarks
from tools.training import TrainingError
from tools.training.checkpoint import open_network
from tools.training.terms import registry, weighted_mean

EXPRESSION_STD, EXPRESSION_BETA = 0.25, 0.3
SHOWN_WEIGHT = 5.0
SHUT_SHOWN_WEIGHT = 2.0  # the same of shut eyes of photographs
NOT_LIDS = [k for k in range(68) if k not in np.array(labels.EYES_68)]  # labels know more of lids than a teacher

LOSSES: dict[str, Callable[[Faces], torch.Tensor]] = {}
loss = registry(LOSSES)


class Faces:
    """What the network predicts of a batch and what is true of it; each part is computed when a loss asks for it.

    Attributes
    ----------
    output : heads by name, (B, n)
    face, flip, affine : (B,) rows of the labels, (B,) whether mirrored, (B, 2, 3) cut px -> crop px
    real : (B,) 1 where the crop holds a face
    """

    def __init__(self, judge: Judge, output: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]):
        self.judge, self.labels, self.output = judge, judge.labels, output
        self.face, self.flip, self.affine = batch["face"], batch["flip"].long(), batch["affine"]
        self.size, self.kind = judge.recipe.net.size_px, batch["kind"]
        self.real = (self.kind != NO_FACE).float()
        self.zoom = self.affine[:, :, 0].norm(dim=1)

    def shown(self, points: torch.Tensor) -> torch.Tensor:
        """Points (B, K, 2) in cut px as shares of the crop's side."""
        return placed(points, self.affine) / self.size

    @cached_property
    def decoded(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rotation, camera and coefficients; see `Judge.decode`."""
        return self.judge.decode(self.output)

    @property
    def coefficients(self) -> torch.Tensor:
        """(B, Ks + Ke)"""
        return self.decoded[2]

    @property
    def expression(self) -> torch.Tensor:
        """(B, Ke)"""
        return self.coefficients[:, SHAPES:]

    @cached_property
    def projected(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Landmarks (B, 68, 3) and cloud (B, C, 3)."""
        return self.judge.project(*self.decoded)

    @cached_property
    def points(self) -> torch.Tensor:
        """The 68 points, (B, 68, 2), from a head of their own or through the face model."""
        if "points" in self.output:
            return self.output["points"].reshape(-1, 68, 2) + 0.5
        return self.projected[0][..., :2]

    @cached_property
    def labelled(self) -> torch.Tensor:
        """The labellers' points, (B, 68, 2)."""
        return self.shown(self.labels.points[self.face, self.flip])

    @cached_property
    def annotated(self) -> torch.Tensor:
        """The annotators' points, (B, 68, 2), the labellers' where there are none."""
        annotated = self.shown(self.labels.annotated[self.face, self.flip])
        return torch.where(annotated[:, :1, :1].isnan(), self.labelled, annotated)

    @cached_property
    def fitted(self) -> torch.Tensor:
        """(B,) how far the fitted parameters can be trusted, 0 to 1."""
        return self.real * self.labels.fit_weight[self.face, self.flip]

    @cached_property
    def exact(self) -> torch.Tensor:
        """(B,) 1 where the parameters are known."""
        return self.real * self.labels.exact[self.face]

    @cached_property
    def true_coefficients(self) -> torch.Tensor:
        """(B, Ks + Ke)"""
        return self.labels.coefficients[self.face, self.flip]

    @cached_property
    def true_camera(self) -> torch.Tensor:
        """(B, 3, 4)"""
        lift = torch.zeros(len(self.face), 3, 3, device=self.affine.device)
        lift[:, :2, :2] = self.affine[:, :, :2]
        lift[:, 2, 2] = self.zoom
        camera = lift @ self.labels.camera[self.face, self.flip] / self.size
        camera[:, :2, 3] += self.affine[:, :, 2] / self.size
        return camera

    @cached_property
    def eyes_seen(self) -> torch.Tensor:
        """(B,) how far what the labels say of lids can be trusted."""
        known = ~self.labels.blink[self.face, 0, 0].isnan()
        return self.real * self.labels.eye_weight[self.face] * known

    @cached_property
    def gaze_seen(self) -> torch.Tensor:
        """(B,) the same of irises."""
        return self.eyes_seen * ~self.labels.gaze[self.face, 0, 0].isnan()

    @cached_property
    def scored(self) -> torch.Tensor:
        """(B,) 1 where it is clear whether the crop is a face's."""
        return ((self.kind == FACE) | (self.kind == NO_FACE)).float()

    def parameter_cost(self, cost: Callable) -> torch.Tensor:
        """The value of `cost(output, target)` of whitened parameters, over faces with a good fit."""
        good, std = self.fitted > 0, self.judge.point_model.param_std
        _, camera, coefficients = self.decoded
        if not good.any():
            return coefficients.sum() * 0
        output = torch.cat([camera.flatten(1), coefficients], 1)[good] / std
        return cost(output, torch.cat([self.true_camera.flatten(1), self.true_coefficients], 1)[good] / std)


@loss
def points(faces: Faces) -> torch.Tensor:
    """Distance of the 68 points, half from the labellers', half from the annotators'."""
    found = faces.points
    distance = 0.5 * point_distance(found, faces.labelled) + 0.5 * point_distance(found, faces.annotated)
    return weighted_mean(distance.mean(1), faces.real)


@loss
def lids(faces: Faces) -> torch.Tensor:
    """Error of the gaps of lids and lips."""
    return weighted_mean((gaps(faces.points) - gaps(faces.labelled)).abs().mean(1), faces.real)


@loss
def teacher(faces: Faces) -> torch.Tensor:
    """Distance of the landmarks but the lids' from a teacher's, in 3D, over photographs."""
    taught = faces.face < len(faces.judge.taught)
    face, flip, affine = faces.face[taught], faces.flip[taught], faces.affine[taught]
    known = faces.judge.taught[face, flip]
    depth = known[..., 2:] * faces.zoom[taught, None, None] / faces.size
    known = torch.cat([placed(known[..., :2], affine) / faces.size, depth], 2)
    distance = point_distance(faces.projected[0][taught], known)[:, NOT_LIDS].mean(1)
    return weighted_mean(distance, faces.real[taught])


@loss
def cloud(faces: Faces) -> torch.Tensor:
    """Distance of 200 points over the face and of the irises from the fit's, in 3D."""
    model = faces.judge.model
    with torch.no_grad():
        spots = fit.model_points(model, faces.true_coefficients)
        spots = torch.cat([spots[:, model.cloud], spots[:, model.irises]], 1)
        spots = spots @ faces.true_camera[:, :, :3].transpose(1, 2) + faces.true_camera[:, None, :, 3]
    return weighted_mean(point_distance(faces.projected[1], spots).mean(1), faces.fitted)


@loss
def shape(faces: Faces) -> torch.Tensor:
    """Absolute error of the shape coefficients."""
    error = (faces.coefficients - faces.true_coefficients).abs()
    return weighted_mean(error[:, :SHAPES].mean(1), faces.fitted)


@loss
def expression(faces: Faces) -> torch.Tensor:
    """Error of the expression coefficients that points show, squared where small: most faces hardly show most of
    them, and the median of nearly nothing is nothing."""
    error = F.smooth_l1_loss(faces.coefficients, faces.true_coefficients, reduction="none", beta=EXPRESSION_BETA)
    return weighted_mean((error[:, SHAPES:] * faces.judge.fits_show).mean(1), faces.fitted)


@loss
def exact_shape(faces: Faces) -> torch.Tensor:
    """Squared error of rendered people's shape, in parts of guessing the mean; each mode by how far it moves a face."""
    error = faces.judge.exact_error(faces)[:, :SHAPES] * faces.judge.shape_shown
    return weighted_mean(error.mean(1), faces.exact)


@loss
def exact_expression(faces: Faces) -> torch.Tensor:
    """Squared error of rendered people's expression, in parts of guessing the mean."""
    return weighted_mean(faces.judge.exact_error(faces)[:, SHAPES:].mean(1), faces.exact)


@loss
def exact_sides(faces: Faces) -> torch.Tensor:
    """Squared error of left less right of rendered people's expression, in parts of guessing the mean."""
    judge, truth = faces.judge, faces.true_coefficients[:, SHAPES:]
    found, truth = sides_apart(faces.expression, judge.sides), sides_apart(truth, judge.sides)
    error = ((found - truth) / judge.side_spread).square() * shown_weight(truth)
    return weighted_mean(error.mean(1), faces.exact)


@loss
def blink(faces: Faces) -> torch.Tensor:
    """Error of the two blink coefficients against how far lids are shut, the more the farther."""
    shut = faces.labels.blink[faces.face, faces.flip].nan_to_num()
    error = (faces.expression[:, faces.judge.eyes] - shut).abs() * (1 + SHUT_SHOWN_WEIGHT * shut)
    return weighted_mean(error.mean(1), faces.eyes_seen)


@loss
def gaze(faces: Faces) -> torch.Tensor:
    """Squared error of the coefficients that turn the eyes, over faces whose irises were seen.

    It is signed, so that looking to one side is more than not looking to the other.
    """
    error = (faces.coefficients - faces.true_coefficients)[:, SHAPES:]
    one_way, other_way = faces.judge.eye_turns
    error = (error[:, one_way] - error[:, other_way]).square().mean(1)
    return weighted_mean(error, faces.gaze_seen * faces.fitted)


@loss
def score(faces: Faces) -> torch.Tensor:
    """Cross entropy of the probability that the crop is a face's."""
    truth = (faces.kind == FACE).float()
    error = F.binary_cross_entropy_with_logits(faces.output["score"][:, 0], truth, reduction="none")
    return weighted_mean(error, faces.scored)


@loss
def steady(faces: Faces) -> torch.Tensor:
    """How far the points of a face differ between two views of it, moved back."""
    return steadiness(faces.points, faces.affine, faces.real, faces.judge.recipe.crops)


@loss
def mesh(faces: Faces) -> torch.Tensor:
    """Distance of the head `mesh` from MediaPipe's points, of unflipped crops."""
    truth = faces.shown(faces.labels.mesh[faces.face])
    known = faces.real * (1 - faces.flip) * ~truth[:, 0, 0].isnan()
    distance = point_distance(faces.output["mesh"].reshape(truth.shape) + 0.5, truth.nan_to_num())
    return weighted_mean(distance.mean(1), known)


@loss
def head_blink(faces: Faces) -> torch.Tensor:
    """Error of the head `blink`."""
    error = (faces.output["blink"] - faces.labels.blink[faces.face, faces.flip].nan_to_num()).abs()
    return weighted_mean(error.mean(1), faces.gaze_seen)


@loss
def head_gaze(faces: Faces) -> torch.Tensor:
    """Error of the head `gaze`."""
    error = (faces.output["gaze"] - faces.labels.gaze[faces.face, faces.flip].nan_to_num()).abs()
    return weighted_mean(error.mean(1), faces.gaze_seen)


@loss
def pdc(faces: Faces) -> torch.Tensor:
    """3DDFA's parameter distance cost."""
    return faces.parameter_cost(parameters.pdc)


@loss
def vdc(faces: Faces) -> torch.Tensor:
    """3DDFA's vertex distance cost."""
    return faces.parameter_cost(lambda *pair: parameters.vdc(*pair, faces.judge.point_model))


@loss
def wpdc(faces: Faces) -> torch.Tensor:
    """3DDFA's weighted parameter distance cost."""
    judge = faces.judge
    return faces.parameter_cost(
        lambda *pair: parameters.wpdc(*pair, judge.point_model, scale=judge.recipe.net.base_scale)
    )


class Judge:
    """Compares a network's output with the labels, and validates it.

    Attributes
    ----------
    model : the face model's points that are compared
    taught : (n, 2, 68, 3) the teacher's landmarks of the photographs and of their mirror images, cut px; or None
    """

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device, teacher: Path | None = None):
        self.recipe, self.folder, self.device = recipe, folder, device
        self.labels = Labels(folder, device)
        self.model = fit.load_points(ROOT / "weights" / "face_model.npz").to(device)
        assert (self.model.shape_count, len(self.model.names)) == (SHAPES, EXPRESSIONS)
        index = self.model.index
        left = [name for name in self.model.names if name.endswith("_L")]
        self.sides = [[index(name) for name in names] for names in (left, map(partner, left))]
        self.eyes = [index("eyeBlink_R"), index("eyeBlink_L")]
        one_way, other_way = ("In_L", "In_R", "Up_L", "Up_R"), ("Out_L", "Out_R", "Down_L", "Down_R")
        self.eye_turns = [[index(f"eyeLook{way}") for way in ways] for ways in (one_way, other_way)]
        # the points of a photograph hardly distinguish these from the shape, so its fit says nothing of them
        clear = [not name.startswith(fit.VAGUE) for name in self.model.names]
        self.fits_show = torch.tensor(clear, dtype=torch.float32, device=device)
        self.taught = None
        if teacher is not None:
            self.taught = self._taught(teacher)

    def compare(self, output: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> Faces:
        """What the losses take."""
        return Faces(self, output, batch)

    def decode(self, output: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rotation (B, 3, 3) and affine camera (B, 3, 4) in shares of the crop's side, coefficients (B, Ks + Ke)."""
        pose = output["pose"]
        scale = self.recipe.net.base_scale * pose[:, 0].exp()
        rotation = fit.rotation_of(pose[:, 1:7])
        down = torch.tensor([1.0, -1.0, 1.0], device=pose.device)
        camera = torch.cat(
            [rotation * scale[:, None, None] * down[:, None], torch.zeros_like(pose[:, :3, None])], dim=2
        )
        camera = camera + F.pad(0.5 + pose[:, 7:9], (0, 1))[:, :, None] * torch.tensor(
            [0.0, 0, 0, 1], device=pose.device
        )
        return rotation, camera, torch.cat([output["shape"], output["expression"]], 1)

    def project(self, rotation, camera, coefficients) -> tuple[torch.Tensor, torch.Tensor]:
        """Landmarks (B, 68, 3) and cloud (B, C, 3) in shares of the crop's side."""
        # the runtime clips expressions; the gradient goes through, so that none gets stuck outside
        expression = coefficients[:, SHAPES:]
        expression = expression + (expression.clamp(0, 1) - expression).detach()
        points = fit.model_points(self.model, torch.cat([coefficients[:, :SHAPES], expression], 1))
        pick = fit.contour_pick(self.model, points @ rotation.transpose(1, 2), rotation)
        shown = points @ camera[:, :, :3].transpose(1, 2) + camera[:, None, :, 3]
        cloud = torch.cat([shown[:, self.model.cloud], shown[:, self.model.irises]], 1)
        return fit.landmarks_of(self.model, shown, pick), cloud

    def exact_error(self, faces: Faces) -> torch.Tensor:
        """(B, Ks + Ke) squared errors in parts of what guessing the mean of rendered people costs."""
        truth = faces.true_coefficients
        return ((faces.coefficients - truth) / self.spread).square() * shown_weight(truth, SHAPES)

    @cached_property
    def _rendered(self) -> torch.Tensor:
        """(n, Ks + Ke) coefficients of the rendered people."""
        return self.labels.coefficients[self.labels.exact > 0, 0]

    @cached_property
    def spread(self) -> torch.Tensor:
        """(Ks + Ke,) the error of guessing the mean."""
        if not len(self._rendered):
            return torch.ones(SHAPES + EXPRESSIONS, device=self.device)
        return spread(self._rendered, shown_weight(self._rendered, SHAPES))

    @cached_property
    def side_spread(self) -> torch.Tensor:
        """(pairs,) the same of left less right."""
        if not len(self._rendered):
            return torch.ones(len(self.sides[0]), device=self.device)
        apart = sides_apart(self._rendered[:, SHAPES:], self.sides)
        return spread(apart, shown_weight(apart))

    @cached_property
    def shape_shown(self) -> torch.Tensor:
        """(Ks,); see the function."""
        return shape_shown(self.model)

    @cached_property
    def point_model(self) -> PointModel:
        """The points by which PDC, VDC and WPDC judge: landmarks 17-67 and points over the face."""
        rows = torch.cat([torch.arange(len(self.model.mean))[part] for part in (self.model.fixed, self.model.cloud)])
        rows = rows.to(self.device)
        std = [*[self.recipe.net.base_scale] * 3, 0.1] * 3 + [1.0] * SHAPES + [EXPRESSION_STD] * EXPRESSIONS
        std = torch.tensor(std, device=self.device)
        return PointModel(self.model.mean[rows], self.model.basis[:, rows], torch.zeros_like(std), std)

    def _taught(self, path: Path) -> torch.Tensor:
        recipe, net = open_network(path, self.device)
        for section, name in (("net", "size_px"), ("net", "base_scale"), ("data", "landmark_scale")):
            own, other = (getattr(getattr(which, section), name) for which in (self.recipe, recipe))
            if own != other:
                raise TrainingError(f"{path}: expected a teacher of {name} {own}, found {other}; choose another")

        def landmarks_of(crops: torch.Tensor) -> torch.Tensor:
            return self.project(*self.decode(net(crops.to(self.device))))[0]

        table = self.labels.table
        photographs = ~np.isin(table["group"], MADE)
        taught = teacher_landmarks(landmarks_of, self.folder, table["points"][photographs], self.recipe.crops)
        taught = torch.from_numpy(taught).to(self.device) / SIZE_PX
        return SIZE_PX * torch.stack([taught, mirrored_landmarks(taught)], 1)

    @torch.no_grad()
    def validate(self, net: torch.nn.Module) -> dict[str, float]:
        """Errors on held-out annotated faces, in crops like those of tracking."""
        table, size = self.labels.table, self.recipe.net.size_px
        crops, truth = validation_crops(self.folder, table, self.recipe.crops)
        output = [net(torch.from_numpy(part).to(self.device)) for part in np.array_split(crops, -(-len(crops) // 128))]
        output = {name: torch.cat([part[name] for part in output]) for name in output[0]}
        if "points" in output:
            return landmark_errors((output["points"].reshape(-1, 68, 2) + 0.5).cpu().numpy() * size, truth)
        landmarks, _ = self.project(*self.decode(output))
        blinks = output["expression"][:, self.eyes].cpu().numpy()
        known = table["blink"][held_out_rows(table)]
        error = float(np.nanmean(np.abs(blinks - known)))
        return landmark_errors(landmarks[..., :2].cpu().numpy() * size, truth) | {"blink": round(error, 4)}


def placed(points: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Cut px -> crop px; (B, K, 2) and (B, 2, 3)."""
    return points @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]


def partner(left: str) -> str:
    """What the right half of a face does when the left one does `left`: eyes look together, the rest is mirrored."""
    return TOGETHER.get(left, left.removesuffix("L") + "R")


def sides_apart(expression: torch.Tensor, sides: list[list[int]]) -> torch.Tensor:
    """Left less right, (n, pairs), of weights (n, Ke).

    They are learnt by themselves: most faces are alike on both sides, and of one raised corner of the mouth the safe
    prediction is both, by half.
    """
    return expression[:, sides[0]] - expression[:, sides[1]]


def shown_weight(exact: torch.Tensor, shape_count: int = 0) -> torch.Tensor:
    """How much each of the coefficients (n, Ks + Ke) is learnt, (n, Ks + Ke).

    Most faces do not show most expressions. Weighed alike, "hardly" would be the safe prediction for those that do,
    too; so an expression weighs more the more of it is shown.
    """
    shown = exact.abs()
    shown[:, :shape_count] = 0
    return 1 + SHOWN_WEIGHT * shown


def shape_shown(model: fit.FacePoints) -> torch.Tensor:
    """How much each mode of the shape moves the face, squared, (Ks,), mean 1; what pose and size do is not counted."""
    points = model.mean[model.cloud] - model.mean[model.cloud].mean(0)
    axes = torch.eye(3, device=points.device)
    shifts = [axis.expand_as(points) for axis in axes]
    turns = [torch.linalg.cross(shift, points) for shift in shifts]
    pose = torch.linalg.qr(torch.stack([move.flatten() for move in (*shifts, *turns, points)], dim=1))[0]
    modes = model.basis[: model.shape_count, model.cloud].flatten(1)
    size = (modes - modes @ pose @ pose.T).square().sum(1)
    return size / size.mean()


def spread(exact: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The error of guessing the mean of each column of (n, K), (K,), as `weight` (n, K) weighs it."""
    mean = (weight * exact).sum(0) / weight.sum(0)
    return (weight * (exact - mean).square()).mean(0).sqrt().clamp(min=0.05)


def gaps(points: torch.Tensor) -> torch.Tensor:
    """(B, 6) gaps: two of each eye, then lips."""
    upper, lower = [37, 38, 43, 44, 62, 51], [41, 40, 47, 46, 66, 57]
    return (points[:, upper] - points[:, lower]).norm(dim=2)


def steadiness(points: torch.Tensor, affine: torch.Tensor, real: torch.Tensor, spec: Crops) -> torch.Tensor:
    """How much the points of a face differ between two views of it, moved back; shares of the crop's side."""
    pairs = int(len(points) * spec.pair_share)
    if not pairs:
        return points.sum() * 0
    size = spec.size_px

    def uncropped(p, place):  # crop -> cut px
        return torch.linalg.solve(place[:, :, :2], (p * size - place[:, None, :, 2]).transpose(1, 2)).transpose(1, 2)

    ok = real[:pairs]
    safe = torch.where(ok[:, None, None] > 0, affine[:pairs], torch.eye(2, 3, device=points.device))
    safe_twin = torch.where(ok[:, None, None] > 0, affine[-pairs:], torch.eye(2, 3, device=points.device))
    zoom = safe[:, :, 0].norm(dim=1)
    apart = (uncropped(points[:pairs], safe) - uncropped(points[-pairs:], safe_twin)) * zoom[:, None, None] / size
    return ((apart.square().sum(2) + 1e-8).sqrt().mean(1) * ok).sum() / ok.sum().clamp(min=1)


def landmark_errors(points: np.ndarray, truth: np.ndarray) -> dict:
    """NME by box and of the inner points by outer eye distance, and the mean offset, all in %."""
    distance = np.linalg.norm(points - truth, axis=2)
    box = np.sqrt(np.prod(np.ptp(truth, axis=1), axis=1))
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
    offset = ((points - truth).mean(axis=1) / box[:, None]).mean(axis=0)
    return {
        "nme": round(100 * float((distance.mean(1) / box).mean()), 4),
        "inner": round(100 * float((distance[:, 17:].mean(1) / eyes).mean()), 4),
        "offset": round(100 * float(np.abs(offset).max()), 4),
    }
