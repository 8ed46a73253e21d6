"""How near the neutral shape of rendered people is found, from one photograph and from several together.

    python -m tools.evaluate shape [--people N] [--views N]

Mean distance of the face's vertices in mm after a similarity transform: of the mean face, of the network, of
`tools.reconstruct`, and of that by points alone, without colours. The people are made of the face model itself, which
flatters all but the mean face.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from facet.settings import AppConfig
from facet.tracker.config import load_config
from tools.data import rendered
from tools.evaluation.common import report
from tools.evaluation.people import cast
from tools.reconstruct import Studio

YAW_DEG, PITCH_DEG = 35.0, 12.0


def distance_mm(found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of (N, 3) points from (N, 3) after the best similarity transform."""
    a, b = found - found.mean(axis=0), true - true.mean(axis=0)
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation, scale = (u * sign) @ vt, (s * sign).sum() / (a**2).sum()
    return float(np.linalg.norm(scale * a @ rotation - b, axis=1).mean())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate shape", description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=40, metavar="N")
    parser.add_argument("--views", type=int, default=8, metavar="N", help="photographs of each person")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.set_defaults(plots=None)
    args = parser.parse_args(arguments)
    studio = Studio(load_config(AppConfig))
    model, people = cast(args.people)
    rng = np.random.default_rng(7)
    face = model.region == model.region_names.index("face")
    errors: dict[str, list[float]] = {}

    def note(name: str, shape: np.ndarray, true: np.ndarray) -> None:
        found = model.bake(np.asarray(shape, np.float32))[face]
        errors.setdefault(name, []).append(distance_mm(found, true))

    for person in people:
        true = model.bake(person.shape)[face]
        images, faces = [], []
        for _ in range(args.views):
            angles = rng.uniform(-YAW_DEG, YAW_DEG), rng.uniform(-PITCH_DEG, PITCH_DEG), rng.uniform(-8, 8)
            shot = person.shot(*angles, rendered.random_expression(rng, list(model.expression_names)))
            tracked = studio.tracker.track(shot.picture)
            if tracked:
                images.append(shot.picture)
                faces.append(tracked[0])
        if not faces:
            continue
        note("mean_face_mm", np.zeros(model.shape_count), true)
        note("network_one_mm", faces[0].shape, true)
        note("network_mean_mm", np.mean([f.shape for f in faces], axis=0), true)
        for end, colours in (("", True), ("_by_points", False)):
            note(f"one{end}_mm", studio.reconstruct(images[:1], faces[:1], colours)[0].face.shape, true)
            if len(faces) > 1:
                note(f"together{end}_mm", studio.reconstruct(images, faces, colours)[0].face.shape, true)
    result = {name: float(np.mean(values)) for name, values in errors.items()}
    return report({"people": len(errors.get("one_mm", ())), **result}, args)
