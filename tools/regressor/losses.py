"""What a training run wants of its network: heads, losses against the table of labels, and validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tools.data import fit, labels
from tools.data.augment import FACE, NO_FACE, Recipe, open_images, tracking_crop
from tools.data.crops import SIZE_PX, mirrored_68
from tools.regressor.parameters import PointModel, pdc, point_distance, vdc, wpdc
from tools.regressor.teacher import mirrored_landmarks, open_teacher, told_landmarks
from tracker.blendshapes import TOGETHER
from tracker.mirror import Mirror, mirrored_camera
from tracker.morphable import load_face_model
from tracker.weights import ROOT

# how often the photographs of a group are shown, by their number
GROUP_WEIGHT = {"keypoints": 1.0, "unmasked": 0.8, "masked": 0.5, "portraits": 1.2, "street": 0.8, "crowds": 0.2}
MADE = ("turned", "rendered")  # by profiles.py and rendered.py, in this order after the photographs
GROUP_WEIGHT |= {"turned": 0.25, "rendered": 0.05}  # a recipe's [groups] may say otherwise
ANNOTATED_WEIGHT = 2.0
SHUT_WEIGHT, WINK_WEIGHT = 1.5, 2.0  # more often the more an eye is shut, and the more one than the other
MADE_PX = 300.0  # what made faces count as, where the size tells how sure labels are
EXPRESSION_STD, EXPRESSION_BETA = 0.25, 0.3
SHOWN_WEIGHT = 5.0
SHUT_SHOWN_WEIGHT = 2.0  # the same of shut eyes of photographs
NOT_LIDS = [k for k in range(68) if k not in np.array(labels.EYES_68)]  # of lids labels know more than a teacher
MESH_EVERY = 4  # every n-th of MediaPipe's points is learnt


def load_table(data: Path) -> dict:
    """The labels of the cut faces, then of those that were turned in 3D and rendered, where there are some; see Labels.

    `points_mirrored` are the points of the flipped cuts.
    """
    with np.load(data / "faces.npz") as file:
        table = {name: file[name] for name in file.files}
    table["points_mirrored"] = mirrored_68(table["points"])
    for group, made in made_labels(data).items():
        count = len(made["yaw_deg"])
        made["points_mirrored"], made["points"] = made["points"][:, 1], made["points"][:, 0]
        made["group"] = np.array([group] * count)
        made["held_out"] = np.zeros(count, bool)
        made["roi"] = np.tile(np.float32([0, 0, MADE_PX, 0]), (count, 1))
        for name, known in table.items():
            if name not in made:
                blank = np.full((count, *known.shape[1:]), np.nan) if known.dtype.kind == "f" else np.zeros(count)
                made[name] = blank.astype(known.dtype)
            table[name] = np.concatenate([known, made[name]])
    return table


def made_labels(data: Path) -> dict[str, dict]:
    """What `tools.data.build` knows of made faces, by group; two sides of each, the flipped one second."""
    result = {}
    for group in MADE:
        if (data / f"{group}.npz").exists():
            with np.load(data / f"{group}.npz") as file:
                result[group] = {name: file[name] for name in file.files}
    if "rendered" in result:
        made = result["rendered"]
        model = load_face_model(ROOT / "weights" / "face_model.npz")
        halves = np.split(made["coefficients"], [model.shape_count], axis=1)
        shape, expression = Mirror.of(model).coefficients(*halves)
        camera = mirrored_camera(made["camera"], SIZE_PX)
        mirrored = {
            "camera": camera,
            "coefficients": np.concatenate([shape, expression], axis=1),
            "points": [model.landmarks(*face)[:, :2] for face in zip(camera, shape, expression, strict=True)],
        }
        made |= {name: np.stack([made[name], other], axis=1) for name, other in mirrored.items()}
    return result


def training_rows(data: Path, groups: dict[str, float] | None = None) -> tuple[dict, np.ndarray, np.ndarray]:
    """The table of faces, the rows that may be trained on, and how often each is drawn.

    `groups` : weights of groups where they are not GROUP_WEIGHT's
    """
    table = load_table(data)
    rows = np.flatnonzero(~table["held_out"])
    shares = GROUP_WEIGHT | (groups or {})
    weight = np.array([shares[group] for group in table["group"]])
    weight = weight * np.where(np.isnan(table["annotated"][:, 0, 0]), 1.0, ANNOTATED_WEIGHT)
    photographed = ~np.isin(table["group"], MADE)
    shut = np.nan_to_num(table["blink"])
    weight = weight * (1 + photographed * (SHUT_WEIGHT * shut.max(axis=1) + WINK_WEIGHT * np.ptp(shut, axis=1)))
    weight = weight * (1 + 2 * (photographed & (np.abs(table["yaw_deg"]) > 35)))
    return table, rows, weight[rows]


def recipe_of(config: dict) -> dict:
    """The values of a recipe's [crops] that the training needs; the others are for the runtime."""
    return {name: value for name, value in config["crops"].items() if not name.startswith("runtime_")}


def placed(points: torch.Tensor, affine: torch.Tensor) -> torch.Tensor:
    """Cut px -> crop px; (B, K, 2) and (B, 2, 3)."""
    return points @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]


class PointsGoal:
    """Points straight from the features: it needs no face model, and gives the backbone what it has to see."""

    def __init__(self, data: Path, recipe: Recipe, config: dict, device: torch.device):
        table, _, _ = training_rows(data)
        self.recipe, self.data, self.table = recipe, data, table
        self.weights = config["losses"]

        def both(plain, flipped):
            return torch.from_numpy(np.stack([plain, flipped], 1).astype(np.float32)).to(device)

        self.points = both(table["points"], table["points_mirrored"])  # (n, 2, 68, 2)
        self.annotated = both(table["annotated"], mirrored_68(table["annotated"]))
        # without a list of the mesh's mirror pairs its points are learnt on unflipped samples only
        self.mesh = torch.from_numpy(table["mesh"][:, ::MESH_EVERY, :2]).to(device)
        self.blink = both(table["blink"], table["blink"][:, ::-1])
        gaze = table["gaze"]
        self.gaze = both(gaze.reshape(-1, 4), (gaze[:, ::-1] * (-1, 1)).reshape(-1, 4))
        # blinks and irises of small faces are guesses
        self.eye_weight = torch.from_numpy(np.clip(table["roi"][:, 2] / 250 - 0.3, 0, 1).astype(np.float32)).to(device)
        self.heads = {"points": 136, "mesh": 2 * self.mesh.shape[1], "blink": 2, "gaze": 4, "score": 1}

    def start(self, net: torch.nn.Module) -> None:
        """Set what a new network should begin with."""

    def losses(self, out: dict, sample: dict) -> dict:
        """Terms of the loss, weighted as the recipe says; lengths in shares of the crop's side."""
        size = self.recipe.size_px
        face, flip, affine = sample["face"], sample["flip"].long(), sample["affine"]
        real = (sample["kind"] != NO_FACE).float()
        scored = (sample["kind"] == FACE) | (sample["kind"] == NO_FACE)
        points = out["points"].reshape(-1, 68, 2) + 0.5
        taught = placed(self.points[face, flip], affine) / size
        people = placed(self.annotated[face, flip], affine) / size
        known = ~people[:, 0, 0].isnan()
        people = torch.where(known[:, None, None], people, taught)
        count = real.sum()
        terms = {}
        distance = 0.5 * point_distance(points, taught) + 0.5 * point_distance(points, people)
        terms["points"] = (distance.mean(1) * real).sum() / count
        gap = lids(points) - lids(taught)
        terms["lids"] = (gap.abs().mean(1) * real).sum() / count
        mesh = placed(self.mesh[face], affine) / size
        meshed = real * (1 - flip) * ~mesh[:, 0, 0].isnan()
        distance = point_distance(out["mesh"].reshape(mesh.shape) + 0.5, mesh.nan_to_num())
        terms["mesh"] = (distance.mean(1) * meshed).sum() / meshed.sum().clamp(min=1)
        eye = real * self.eye_weight[face] * ~self.blink[face, 0, 0].isnan() * ~self.gaze[face, 0, 0].isnan()
        error = (out["blink"] - self.blink[face, flip].nan_to_num()).abs().mean(1)
        terms["blink"] = (error * eye).sum() / eye.sum().clamp(min=1)
        error = (out["gaze"] - self.gaze[face, flip].nan_to_num()).abs().mean(1)
        terms["gaze"] = (error * eye).sum() / eye.sum().clamp(min=1)
        score = torch.nn.functional.binary_cross_entropy_with_logits(
            out["score"][:, 0], (sample["kind"] == FACE).float(), reduction="none"
        )
        terms["score"] = (score * scored).sum() / scored.sum()
        terms["steady"] = steadiness(points, sample, real, self.recipe)
        return {name: self.weights[name] * term for name, term in terms.items()}

    @torch.no_grad()
    def validate(self, net: torch.nn.Module) -> dict:
        """NME on held-out people whom people annotated, in crops like those of tracking."""
        crops, truth = validation_crops(self.data, self.table, self.recipe)
        points = np.concatenate(
            [
                net(torch.from_numpy(crops[i : i + 128]).to(next(net.parameters()).device))["points"].cpu().numpy()
                for i in range(0, len(crops), 128)
            ]
        )
        return landmark_errors((points.reshape(-1, 68, 2) + 0.5) * self.recipe.size_px, truth)


class ParamsGoal(PointsGoal):
    """The parameters of the face model, judged mostly by where they put its points."""

    def __init__(self, data: Path, recipe: Recipe, config: dict, device: torch.device):
        super().__init__(data, recipe, config, device)
        self.model = fit.load_points(ROOT / "weights" / "face_model.npz").to(device)
        self.base_scale = config["train"]["base_scale"]
        self.judged = self._judged_points()
        with np.load(data / "fits.npz") as file:
            camera, coefficients = file["camera"], file["coefficients"]
            # a bad fit is no truth
            good = np.clip(2 - file["error"] / np.median(file["error"]), 0, 1)
        for made in made_labels(data).values():
            camera = np.concatenate([camera, made["camera"]])
            coefficients = np.concatenate([coefficients, made["coefficients"]])
            good = np.concatenate([good, np.ones((len(made["camera"]), 2))])
        self.camera = torch.from_numpy(camera).to(device)
        self.coefficients = torch.from_numpy(coefficients).to(device)
        self.fit_weight = torch.from_numpy(good.astype(np.float32)).to(device)
        # of these the coefficients are known, not fitted
        rendered = self.table["group"] == "rendered"
        self.exact = torch.from_numpy(rendered.astype(np.float32)).to(device)
        left = [name for name in self.model.names if name.endswith("_L")]
        self.sides = [[self.model.index(name) for name in names] for names in (left, map(partner, left))]
        self.spread = torch.ones(coefficients.shape[2], device=device)
        self.side_spread = torch.ones(len(left), device=device)
        if rendered.any():
            exact, shapes = torch.from_numpy(coefficients[rendered, 0]), self.model.shape_count
            self.spread = spread(exact, shown_weight(exact, shapes)).to(device)
            aside = apart_of(exact[:, shapes:], self.sides)
            self.side_spread = spread(aside, shown_weight(aside)).to(device)
        self.shown_by_shape = shape_shown(self.model)
        # the points of a photograph hardly tell these from the shape, so its fit says nothing of them
        clear = [not name.startswith(fit.VAGUE) for name in self.model.names]
        self.fits_tell = torch.tensor(clear, dtype=torch.float32, device=device)
        self.eyes = [self.model.index("eyeBlink_R"), self.model.index("eyeBlink_L")]
        one_way, other_way = ("In_L", "In_R", "Up_L", "Up_R"), ("Out_L", "Out_R", "Down_L", "Down_R")
        self.looks = [[self.model.index(f"eyeLook{way}") for way in ways] for ways in (one_way, other_way)]
        self.heads = {"params": 9 + len(self.model.basis) + 1}
        self.told = None  # by the teacher, of photographs: (n, 2, 68, 3) cut px
        if "teacher" in config:
            teacher = open_teacher(Path(config["teacher"]["checkpoint"]), config, device)

            def landmarks_of(crops: torch.Tensor) -> torch.Tensor:
                return self.project(*self.decode(teacher(crops.to(device))["params"]))[0]

            photographs = ~np.isin(self.table["group"], MADE)
            told = told_landmarks(landmarks_of, data, self.table["points"][photographs], recipe)
            told = torch.from_numpy(told).to(device) / SIZE_PX
            self.told = SIZE_PX * torch.stack([told, mirrored_landmarks(told)], 1)

    def start(self, net: torch.nn.Module) -> None:
        """Begin with an upright face in the middle of the crop."""
        with torch.no_grad():
            net.heads["params"].bias[[1, 5]] = 1.0

    def decode(self, params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rotation (B, 3, 3) and affine camera (B, 3, 4) in shares of the crop's side, coefficients (B, Ks + Ke)."""
        scale = self.base_scale * params[:, 0].exp()
        rotation = fit.rotation_of(params[:, 1:7])
        down = torch.tensor([1.0, -1.0, 1.0], device=params.device)
        camera = torch.cat(
            [rotation * scale[:, None, None] * down[:, None], torch.zeros_like(params[:, :3, None])], dim=2
        )
        camera = camera + torch.nn.functional.pad(0.5 + params[:, 7:9], (0, 1))[:, :, None] * torch.tensor(
            [0.0, 0, 0, 1], device=params.device
        )
        return rotation, camera, params[:, 9:-1]

    def project(self, rotation, camera, coefficients) -> tuple[torch.Tensor, torch.Tensor]:
        """Landmarks (B, 68, 3) and cloud (B, C, 3) in shares of the crop's side."""
        shapes = self.model.shape_count
        # the runtime clips expressions; the gradient goes through, so that none gets stuck outside
        expression = coefficients[:, shapes:]
        expression = expression + (expression.clamp(0, 1) - expression).detach()
        points = fit.model_points(self.model, torch.cat([coefficients[:, :shapes], expression], 1))
        pick = fit.contour_pick(self.model, points @ rotation.transpose(1, 2), rotation)
        shown = points @ camera[:, :, :3].transpose(1, 2) + camera[:, None, :, 3]
        cloud = torch.cat([shown[:, self.model.cloud], shown[:, self.model.irises]], 1)
        return fit.landmarks_of(self.model, shown, pick), cloud

    def losses(self, out: dict, sample: dict) -> dict:
        """Terms of the loss, weighted as the recipe says; lengths in shares of the crop's side."""
        size, shapes = self.recipe.size_px, self.model.shape_count
        face, flip, affine = sample["face"], sample["flip"].long(), sample["affine"]
        real = (sample["kind"] != NO_FACE).float()
        scored = (sample["kind"] == FACE) | (sample["kind"] == NO_FACE)
        count = real.sum()
        rotation, camera, coefficients = self.decode(out["params"])
        landmarks, cloud = self.project(rotation, camera, coefficients)
        points = landmarks[..., :2]
        taught = placed(self.points[face, flip], affine) / size
        people = placed(self.annotated[face, flip], affine) / size
        people = torch.where(people[:, :1, :1].isnan(), taught, people)
        terms = {}
        distance = 0.5 * point_distance(points, taught) + 0.5 * point_distance(points, people)
        terms["points"] = (distance.mean(1) * real).sum() / count
        terms["lids"] = ((lids(points) - lids(taught)).abs().mean(1) * real).sum() / count
        zoom = affine[:, :, 0].norm(dim=1)
        if self.told is not None:
            asked = face < len(self.told)
            told = self.told[face[asked], flip[asked]]
            depth = told[..., 2:] * zoom[asked, None, None] / size
            told = torch.cat([placed(told[..., :2], affine[asked]) / size, depth], 2)
            distance = point_distance(landmarks[asked], told)[:, NOT_LIDS].mean(1)
            terms["teacher"] = (distance * real[asked]).sum() / real[asked].sum().clamp(min=1)

        fitted = real * self.fit_weight[face, flip]
        truth = self.coefficients[face, flip]
        lift = torch.zeros(len(face), 3, 3, device=points.device)
        lift[:, :2, :2] = affine[:, :, :2]
        lift[:, 2, 2] = zoom
        true_camera = lift @ self.camera[face, flip] / size
        true_camera[:, :2, 3] += affine[:, :, 2] / size
        with torch.no_grad():
            spots = fit.model_points(self.model, truth)
            spots = torch.cat([spots[:, self.model.cloud], spots[:, self.model.irises]], 1)
            spots = spots @ true_camera[:, :, :3].transpose(1, 2) + true_camera[:, None, :, 3]
        distance = point_distance(cloud, spots).mean(1)
        terms["cloud"] = (distance * fitted).sum() / fitted.sum().clamp(min=1)
        apart = (coefficients - truth).abs()
        terms["shape"] = (apart[:, :shapes].mean(1) * fitted).sum() / fitted.sum().clamp(min=1)
        # squared where small: most faces do not show most expressions, and the median of nearly nothing is nothing
        apart = torch.nn.functional.smooth_l1_loss(coefficients, truth, reduction="none", beta=EXPRESSION_BETA)
        apart = (apart[:, shapes:] * self.fits_tell).mean(1)
        terms["expression"] = (apart * fitted).sum() / fitted.sum().clamp(min=1)
        # as shares of what guessing the mean would be off by
        exact = real * self.exact[face]
        apart = ((coefficients - truth) / self.spread).square() * shown_weight(truth, shapes)
        shape_apart = (apart[:, :shapes] * self.shown_by_shape).mean(1)
        terms["exact_shape"] = (shape_apart * exact).sum() / exact.sum().clamp(min=1)
        terms["exact_expression"] = (apart[:, shapes:].mean(1) * exact).sum() / exact.sum().clamp(min=1)
        aside, true_aside = (apart_of(values[:, shapes:], self.sides) for values in (coefficients, truth))
        apart = ((aside - true_aside) / self.side_spread).square() * shown_weight(true_aside)
        terms["exact_sides"] = (apart.mean(1) * exact).sum() / exact.sum().clamp(min=1)
        eye = real * self.eye_weight[face] * ~self.blink[face, 0, 0].isnan()
        shut = self.blink[face, flip].nan_to_num()
        apart = ((coefficients[:, shapes:][:, self.eyes] - shut).abs() * (1 + SHUT_SHOWN_WEIGHT * shut)).mean(1)
        terms["blink"] = (apart * eye).sum() / eye.sum().clamp(min=1)
        # signed, so that looking to one side is more than not looking to the other
        turn = (coefficients - truth)[:, shapes:]
        turn = (turn[:, self.looks[0]] - turn[:, self.looks[1]]).square().mean(1)
        eye = eye * fitted * ~self.gaze[face, 0, 0].isnan()
        terms["gaze"] = (turn * eye).sum() / eye.sum().clamp(min=1)
        score = torch.nn.functional.binary_cross_entropy_with_logits(
            out["params"][:, -1], (sample["kind"] == FACE).float(), reduction="none"
        )
        terms["score"] = (score * scored).sum() / scored.sum()
        terms["steady"] = steadiness(points, sample, real, self.recipe)
        terms |= self._parameter_losses(camera, coefficients, true_camera, truth, fitted > 0)
        return {name: self.weights[name] * term for name, term in terms.items()}

    def _judged_points(self) -> PointModel:
        """What PDC, VDC and WPDC of this project's parameters judge by: landmarks 17-67 and points over the face."""
        rows = torch.cat([torch.arange(len(self.model.mean))[part] for part in (self.model.fixed, self.model.cloud)])
        rows = rows.to(self.model.mean.device)
        shapes, expressions = self.model.shape_count, len(self.model.names)
        std = [*[self.base_scale] * 3, 0.1] * 3 + [1.0] * shapes + [EXPRESSION_STD] * expressions
        std = torch.tensor(std, device=rows.device)
        return PointModel(self.model.mean[rows], self.model.basis[:, rows], torch.zeros_like(std), std)

    def _parameter_losses(self, camera, coefficients, true_camera, truth, good) -> dict:
        """Those of PDC, VDC and WPDC that the recipe asks for, over faces with a good fit."""
        asked = [name for name in ("pdc", "vdc", "wpdc") if self.weights.get(name)]
        if not asked or not good.any():
            return {}
        std = self.judged.param_std
        output = torch.cat([camera.flatten(1), coefficients], 1)[good] / std
        target = torch.cat([true_camera.flatten(1), truth], 1)[good] / std
        known = {
            "pdc": lambda: pdc(output, target),
            "vdc": lambda: vdc(output, target, self.judged),
            "wpdc": lambda: wpdc(output, target, self.judged, self.base_scale),
        }
        return {name: known[name]() for name in asked}

    @torch.no_grad()
    def validate(self, net: torch.nn.Module) -> dict:
        """As for points; and how well blinks are told."""
        crops, truth = validation_crops(self.data, self.table, self.recipe)
        device = next(net.parameters()).device
        params = torch.cat([net(torch.from_numpy(c).to(device))["params"] for c in np.array_split(crops, 8)])
        landmarks, _ = self.project(*self.decode(params))
        points = landmarks[..., :2].cpu().numpy() * self.recipe.size_px
        rows = np.flatnonzero(self.table["held_out"] & ~np.isnan(self.table["annotated"][:, 0, 0]))
        told = params[:, 9:-1][:, self.model.shape_count :][:, self.eyes].cpu().numpy()
        known = ~np.isnan(self.table["blink"][rows, 0])
        blink = float(np.abs(told[known] - self.table["blink"][rows][known]).mean())
        return landmark_errors(points, truth) | {"blink": round(blink, 4)}


def partner(left: str) -> str:
    """What the right half of a face does when the left one does `left`: eyes look together, the rest is mirrored."""
    return TOGETHER.get(left, left.removesuffix("L") + "R")


def apart_of(expression: torch.Tensor, sides: list[list[int]]) -> torch.Tensor:
    """Left less right, (n, pairs), of weights (n, Ke).

    They are learnt by themselves: most faces are alike on both sides, and the safe answer to one raised corner of the
    mouth is both, by half.
    """
    return expression[:, sides[0]] - expression[:, sides[1]]


def shown_weight(exact: torch.Tensor, shape_count: int = 0) -> torch.Tensor:
    """How much each of the coefficients (n, Ks + Ke) is learnt, (n, Ks + Ke).

    Most faces do not show most expressions. Learnt alike, "hardly" would be the safe answer for those that do, too; so
    there an expression weighs more the more of it is shown.
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
    """By what guessing the mean of each column of (n, K) would be off, (K,), as `weight` (n, K) weighs it."""
    mean = (weight * exact).sum(0) / weight.sum(0)
    return (weight * (exact - mean).square()).mean(0).sqrt().clamp(min=0.05)


def lids(points: torch.Tensor) -> torch.Tensor:
    """(B, 6) gaps: two of each eye, then lips."""
    upper, lower = [37, 38, 43, 44, 62, 51], [41, 40, 47, 46, 66, 57]
    return (points[:, upper] - points[:, lower]).norm(dim=2)


def steadiness(points: torch.Tensor, sample: dict, real: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """How much the points of a face differ between two views of it, moved back; shares of the crop's side."""
    pairs = int(len(points) * recipe.pair_share)
    if not pairs:
        return points.sum() * 0
    size = recipe.size_px

    def uncropped(p, affine):  # crop -> cut px
        return torch.linalg.solve(affine[:, :, :2], (p * size - affine[:, None, :, 2]).transpose(1, 2)).transpose(1, 2)

    affine = sample["affine"]
    ok = real[:pairs]
    safe = torch.where(ok[:, None, None] > 0, affine[:pairs], torch.eye(2, 3, device=points.device))
    safe_twin = torch.where(ok[:, None, None] > 0, affine[-pairs:], torch.eye(2, 3, device=points.device))
    zoom = safe[:, :, 0].norm(dim=1)
    apart = (uncropped(points[:pairs], safe) - uncropped(points[-pairs:], safe_twin)) * zoom[:, None, None] / size
    return ((apart.square().sum(2) + 1e-8).sqrt().mean(1) * ok).sum() / ok.sum().clamp(min=1)


def validation_crops(data: Path, table: dict, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Crops (n, S, S, 3) of held-out annotated faces, placed as tracking would with a little error; their points."""
    rows = np.flatnonzero(table["held_out"] & ~np.isnan(table["annotated"][:, 0, 0]))
    images = open_images(data)[0]
    rng = np.random.default_rng(5)
    size = recipe.size_px
    crops, truth = np.empty((len(rows), size, size, 3), np.uint8), np.empty((len(rows), 68, 2), np.float32)
    for k, row in enumerate(rows):
        crops[k], affine = tracking_crop(images[row], table["points"][row], recipe, rng)
        truth[k] = table["annotated"][row] @ affine[:, :2].T + affine[:, 2]
    return crops, truth


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


GOALS = {"points": PointsGoal, "params": ParamsGoal}
