"""How well skin and light are reported: held-out photographs, and rendered people whose light is known.

    python -m tools.evaluate appearance [--cut runs/data] [--photos N] [--people N] [--points]

Photographs: mean absolute colour difference between photograph and reconstruction over visible skin; distance of the
albedos of one person and of different people, level divided out. Rendered people: direction of the main light, shading.
`--points` places meshes by points alone, without colours, which is quicker.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.lighting import fitted_light, lamp, sphere
from tools.appearance.reconstruction import Reconstruction, Reconstructor
from tools.data import material
from tools.data.crops import SIZE_PX
from tools.evaluation.common import report
from tools.evaluation.people import cast
from tools.reconstruct import Studio, drawn, relit

MAX_YAW_DEG = 40.0
PHOTOS_EACH = 4
RELIT = 10  # faces that are lit anew


def colour_difference(found: Reconstruction, studio: Studio) -> tuple[float, np.ndarray]:
    """Mean absolute difference in levels over visible skin, and the mean colour there, B, G, R."""
    seen = drawn(found, studio.geometry)
    light = found.face.appearance.light
    shading = light.shading(seen.normals.reshape(-1, 3)).reshape(found.image.shape)[..., ::-1]
    shown = np.clip(255 * seen.albedo * shading, 0, 255)
    skin = (seen.share > 0.5) & seen.uv.any(axis=2) & (found.mask > 0.7)
    return float(np.abs(shown - found.image)[skin].mean()), found.image[skin].mean(axis=0)


def tone_of(albedo: np.ndarray) -> float:
    """Individual typology angle of an sRGB colour (3,) in [0, 1]: above 41 light, below 10 dark skin, degrees."""
    lab = cv2.cvtColor(albedo.reshape(1, 1, 3).astype(np.float32), cv2.COLOR_RGB2LAB)[0, 0]
    return float(np.degrees(np.arctan2(lab[0] - 50, max(lab[2], 1e-3))))


def photographs(studio: Studio, cut: Path, count: int, colours: bool) -> dict:
    """Figures on held-out bare faces."""
    with np.load(cut / "faces.npz") as file:
        kept = {name: file[name] for name in ("group", "held_out", "yaw_deg", "identity", "photo")}
    images = np.memmap(cut / "faces.u8", np.uint8, "r").reshape(-1, SIZE_PX, SIZE_PX, 3)
    good = np.isin(kept["group"], material.BARE_FACES) & kept["held_out"] & (np.abs(kept["yaw_deg"]) < MAX_YAW_DEG)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(good))
    each: dict[str, int] = {}
    chosen = []
    for row in rows:
        person = str(kept["identity"][row]) or f"photo {kept['photo'][row]}"
        each[person] = each.get(person, 0) + 1
        if each[person] <= PHOTOS_EACH:
            chosen.append((row, person))
    # people with several photographs first: they give both figures
    chosen.sort(key=lambda item: -min(each[item[1]], PHOTOS_EACH) + item[1].startswith("photo"))
    chosen = [*chosen[: count // 2], *[c for c in chosen[count // 2 :] if c[1].startswith("photo")]][:count]
    differences, tones, people, albedos, shapes, seconds, unknown = [], [], [], [], [], [], 0
    for row, person in chosen:
        image = np.ascontiguousarray(images[row])
        faces = studio.tracker.track(image)
        if not faces:
            continue
        started = time.process_time()
        found = studio.reconstruct([image], [faces[0]], colours)[0]
        seconds.append(time.process_time() - started)
        if found.face.appearance.light is None:
            unknown += 1
            continue
        differences.append(colour_difference(found, studio)[0])
        albedo = albedo_at_points(studio.reconstruct, found.face.appearance.skin)
        tones.append(tone_of(albedo.mean(axis=0)))
        people.append(person)
        albedos.append(np.log(albedo))
        shapes.append(found.face.shape)
    tones, differences = np.array(tones), np.array(differences)
    thirds = np.array_split(np.argsort(tones), 3)
    result = {
        "faces": len(differences),
        "unknown": unknown,
        "difference_levels": float(np.median(differences)),
        "fit_cpu_s": float(np.median(seconds)),
        **{
            f"difference_{name}_skin": float(np.median(differences[third]))
            for name, third in zip(("darker", "middle", "lighter"), thirds, strict=True)
        },
    }
    named = np.array([not person.startswith("photo") for person in people])
    patterns = np.array(albedos)
    patterns = patterns - patterns.mean(axis=(1, 2), keepdims=True)  # the level is not known
    flat = patterns.reshape(len(patterns), -1)[named]
    within, between = distances(flat, np.array(people)[named])
    result |= {"albedo_within": within, "albedo_between": between, "albedo_ratio": within / between}
    result["shape_variance_ratio"] = variance_ratio(np.array(shapes)[named], np.array(people)[named])
    return result


def albedo_at_points(reconstruct: Reconstructor, skin: np.ndarray) -> np.ndarray:
    """(P, 3) R, G, B."""
    return np.clip(reconstruct.estimator.mean + reconstruct.estimator.modes @ skin, 0.02, 1)


def distances(rows: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """Median root mean square difference of two rows of one person, and of two people."""
    apart = np.sqrt(((rows[:, None] - rows[None]) ** 2).mean(axis=2))
    same = people[:, None] == people[None]
    upper = np.triu(np.ones_like(same), 1)
    return float(np.median(apart[same & upper])), float(np.median(apart[~same & upper]))


def variance_ratio(rows: np.ndarray, people: np.ndarray) -> float:
    """Variance of (n, K) rows within people / between them."""
    names = [name for name in np.unique(people) if (people == name).sum() > 1]
    within = np.mean([rows[people == name].var(axis=0, ddof=1).sum() for name in names])
    means = np.array([rows[people == name].mean(axis=0) for name in names])
    counts = np.array([(people == name).sum() for name in names])
    between = means.var(axis=0, ddof=1).sum() - within * np.mean(1 / counts)
    return float(within / max(between, 1e-9))


def rendered_people(studio: Studio, count: int, colours: bool) -> dict:
    """Figures on people who do not exist, lit by lamps that are known."""
    model, people = cast(count)
    rng = np.random.default_rng(3)
    still = np.zeros(model.expression_count, np.float32)
    normals = sphere(400)
    front = normals[normals[:, 2] > 0.3]
    angles, errors, again, own_light = [], [], [], []
    for k, person in enumerate(people):
        shot = person.shot(rng.uniform(-25, 25), rng.uniform(-10, 10), 0.0, still)
        faces = studio.tracker.track(shot.picture)
        if not faces:
            continue
        found = studio.reconstruct([shot.picture], [faces[0]], colours)[0]
        light = found.face.appearance.light
        if light is None:
            continue
        true_shading = person.shading(front)
        whole = fitted_light(normals, person.shading(normals))
        angles.append(angle_deg(light.direction, whole.direction))
        reported = light.shading(front)
        # the level is the skin's as much as the light's
        reported = reported * (true_shading * reported).sum() / (reported**2).sum()
        errors.append(np.sqrt(((reported - true_shading) ** 2).mean()) / true_shading.mean())
        if k < RELIT:
            seen = drawn(found, studio.geometry)
            same = relit(found, light, seen)
            own_light.append(np.abs(same.astype(int) - found.image).max())
            other = lamp((rng.uniform(-1, 1), rng.uniform(0, 0.8), 0.7), 0.8, 0.3)
            lit = relit(found, other, seen)
            new = studio.reconstruct([lit], [found.face], colours)[0].face.appearance.light
            if new is not None:
                again.append(angle_deg(new.direction, other.direction))
    return {
        "people": len(angles),
        "direction_deg": float(np.median(angles)),
        "shading_error": float(np.median(errors)),
        "relit_own_levels": float(np.max(own_light)),
        "relit_again_deg": float(np.median(again)),
    }


def angle_deg(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip(one @ other, -1, 1))))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate appearance", description=__doc__.splitlines()[0])
    parser.add_argument("--cut", type=Path, default=Path("runs/data"), help="what `tools.data.build faces` wrote")
    parser.add_argument("--photos", type=int, default=200, metavar="N", help="held-out photographs; 0: none")
    parser.add_argument("--people", type=int, default=60, metavar="N", help="rendered people; 0: none")
    parser.add_argument("--points", action="store_true", help="meshes by points alone")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.set_defaults(plots=None)
    args = parser.parse_args(arguments)
    studio = Studio(load_config(AppConfig))
    results = {}
    if args.photos:
        if not (args.cut / "faces.npz").exists():
            parser.error(f"--cut: expected {args.cut / 'faces.npz'}, found none; run python -m tools.data.build faces")
        results["photographs"] = photographs(studio, args.cut, args.photos, not args.points)
    if args.people:
        results["rendered"] = rendered_people(studio, args.people, not args.points)
    return report(results, args)

