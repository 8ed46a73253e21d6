"""How often a face is found and fitted in a still: by size, roll, cut, overlap, blur, darkness and compression.

    python -m tools.evaluate acquisition [--config PATH] [--set A.B=VALUE] [--only CASE] [--photos N] [--json PATH]

Each case changes photographs of people that nobody trained on: delineated portraits (1024 px) and video frames (up to
448 px). A face counts as missed where no reported face has its landmarks within 10 % (68 points / sqrt(wh)) of
MediaPipe's points of the unchanged photograph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from tools.data import material
from tools.data.split import gives_offsets, held_out
from tools.evaluation.common import open_trackers, options, report, still

GOOD_NME = 0.10
VIDEO_SIZE_WH = (1280, 720)
ROLLS_DEG = range(-165, 181, 15)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A photograph after one change, and the 68 points of each face in it."""

    image: np.ndarray  # (H, W, 3) uint8, BGR
    faces: tuple[np.ndarray, ...]  # each (68, 2) float32, image px


def photographs(count: int) -> Iterator[View]:
    """Held-out portraits and video frames with one face, half of each, evenly spread over the people."""
    portraits = material.delineated()
    rows = [k for k, name in enumerate(portraits.identity) if not gives_offsets(name)]
    views = [(portraits.file[k], portraits.mesh[k]) for k in _spread(rows, count // 2)]
    photos = material.photos()
    of_row = dict(zip(*material.mesh_478(), strict=True))
    rows = [
        k for k, photo in enumerate(photos)
        if photo.group == "keypoints" and held_out(photo.identity, photo.file) and k in of_row
    ]  # fmt: skip
    views += [(photos[k].file, of_row[k]) for k in _spread(rows, count - count // 2)]
    for file, mesh in views:
        image = cv2.imread(str(material.folder() / "faces" / file))
        yield View(image, (mesh[material.MESH_TO_68, :2],))


def _spread(rows: list[int], count: int) -> list[int]:
    return [rows[int(k)] for k in np.linspace(0, len(rows) - 1, min(count, len(rows)))]


def moved(view: View, map_: np.ndarray, size_wh: tuple[int, int], fill: int | None = None) -> View:
    """The view under an affine map, (2, 3), px to px; what lies outside repeats the border or has one grey."""
    pixels = map_.copy()  # OpenCV counts pixel centres from 0
    pixels[:, 2] += map_[:, :2] @ (0.5, 0.5) - 0.5
    shrinks = np.linalg.norm(map_[:, 0]) < 1
    border = cv2.BORDER_REPLICATE if fill is None else cv2.BORDER_CONSTANT
    image = view.image
    if shrinks:  # without aliasing
        scale = float(np.linalg.norm(map_[:, 0]))
        image = cv2.GaussianBlur(image, (0, 0), 0.45 / scale)
    flags = cv2.INTER_LINEAR if shrinks else cv2.INTER_CUBIC
    image = cv2.warpAffine(image, pixels, size_wh, flags=flags, borderMode=border, borderValue=(fill or 0,) * 3)
    return View(image, tuple(points @ map_[:, :2].T + map_[:, 2] for points in view.faces))


def extent(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the face's rectangle, from the brows to the chin and half as much above, px."""
    low, high = points.min(axis=0), points.max(axis=0)
    return low - (0, 0.35 * (high[1] - low[1])), high


def rolled(view: View, roll_deg: float) -> View:
    """The photograph turned counter-clockwise, with the face in the middle of a frame of 720p."""
    low, high = extent(view.faces[0])
    zoom = 300 / (high[1] - low[1])
    map_ = cv2.getRotationMatrix2D(tuple(map(float, (low + high) / 2)), roll_deg, zoom)
    map_[:, 2] += np.array(VIDEO_SIZE_WH) / 2 - (low + high) / 2
    return moved(view, map_, VIDEO_SIZE_WH)


def sized(view: View, face_px: float, size_wh: tuple[int, int]) -> View:
    """The face so many px high in the middle of an image."""
    low, high = extent(view.faces[0])
    zoom = face_px / (high[1] - low[1])
    shift = np.array(size_wh) / 2 - zoom * (low + high) / 2
    return moved(view, np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]]), size_wh)


def cut_off(view: View, side: str, share: float) -> View:
    """The frame of 720p ends so that a share of the face is outside."""
    view = sized(view, 320, VIDEO_SIZE_WH)
    low, high = extent(view.faces[0])
    size = high - low
    x, y = {
        "top": (0, -(low[1] + share * size[1])),
        "bottom": (0, VIDEO_SIZE_WH[1] - high[1] + share * size[1]),
        "left": (-(low[0] + share * size[0]), 0),
        "right": (VIDEO_SIZE_WH[0] - high[0] + share * size[0], 0),
    }[side]
    return moved(view, np.array([[1.0, 0, x], [0, 1.0, y]]), VIDEO_SIZE_WH)


def overlapping(view: View, other: View, share: float) -> View:
    """Two faces of one size, the second hiding a share of the first's width."""
    first, second = sized(view, 260, VIDEO_SIZE_WH), sized(other, 260, VIDEO_SIZE_WH)
    low, high = extent(first.faces[0])
    apart = (high[0] - low[0]) * (1 - share)
    first = moved(first, np.array([[1.0, 0, -apart / 2], [0, 1.0, 0]]), VIDEO_SIZE_WH)
    second = moved(second, np.array([[1.0, 0, apart / 2], [0, 1.0, 0]]), VIDEO_SIZE_WH)
    low, high = extent(second.faces[0])
    mask = np.zeros(VIDEO_SIZE_WH[::-1], np.uint8)
    centre, axes = (low + high) / 2, (high - low) / 2 * (1.12, 1.08)
    cv2.ellipse(mask, tuple(map(int, centre)), tuple(map(int, axes)), 0, 0, 360, 255, -1)
    soft = cv2.GaussianBlur(mask, (0, 0), 3).astype(np.float32)[..., None] / 255
    image = first.image + soft * (second.image.astype(np.float32) - first.image)
    return View(image.astype(np.uint8), first.faces + second.faces)


def blurred(view: View, sigma_px: float) -> View:
    view = sized(view, 200, VIDEO_SIZE_WH)
    return View(cv2.GaussianBlur(view.image, (0, 0), sigma_px), view.faces)


def darkened(view: View, gain: float) -> View:
    view = sized(view, 200, VIDEO_SIZE_WH)
    noise = np.random.default_rng(0).normal(0, 1.0, view.image.shape)
    return View(np.clip(view.image * gain + noise, 0, 255).astype(np.uint8), view.faces)


def compressed(view: View, quality: int) -> View:
    view = sized(view, 200, VIDEO_SIZE_WH)
    _, data = cv2.imencode(".jpg", view.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return View(cv2.imdecode(data, cv2.IMREAD_COLOR), view.faces)


def cases(views: list[View]) -> dict[str, dict[str, Callable[[], list[View]]]]:
    """The views of every case, made when they are asked for."""

    def each(change: Callable[..., View], *args) -> Callable[[], list[View]]:
        return lambda: [change(view, *args) for view in views]

    def pairs(share: float) -> list[View]:
        return [overlapping(view, other, share) for view, other in zip(views, views[1:] + views[:1], strict=True)]

    return {
        "roll": {f"{deg}": each(rolled, deg) for deg in ROLLS_DEG},
        "size": {
            **{f"{px} px": each(sized, px, (640, 480)) for px in (24, 32, 40, 64, 120, 240, 400)},
            **{
                f"{share:.0%} of 2560x1440": each(sized, share * 1440, (2560, 1440)) for share in (0.2, 0.45, 0.7, 0.95)
            },
            "45% of width, 2560": each(sized, 0.45 * 2560 * 1.35, (2560, 1600)),
            "1800 px in 3200x2400": each(sized, 1800, (3200, 2400)),
            "3000 px in 4000x4000": each(sized, 3000, (4000, 4000)),
        },
        "cut": {
            f"{side} {share:.0%}": each(cut_off, side, share)
            for side, share in (("top", 0.25), ("bottom", 0.25), ("left", 0.5), ("right", 0.5), ("left", 0.25))
        },
        "overlap": {f"{share:.0%}": partial(pairs, share) for share in (0.15, 0.3)},
        "quality": {
            "blur 4 px": each(blurred, 4.0),
            "light x0.03": each(darkened, 0.03),
            "JPEG 10": each(compressed, 10),
        },
    }


def nme(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of the 68 points / sqrt(width * height) of the true ones."""
    width, height = np.ptp(truth, axis=0)
    return float(np.linalg.norm(found - truth, axis=1).mean() / np.sqrt(width * height))


def judge(tracker, views: list[View]) -> dict:
    """Shares of the faces missed, and of the reported ones that lie on none, with the median of their scores."""
    missed = faces = wrong = 0
    scores = []
    for view in views:
        found = still(tracker, view.image)
        distances = np.array([[nme(f.landmarks[:, :2], truth) for truth in view.faces] for f in found])
        distances = distances.reshape(len(found), len(view.faces))
        faces += len(view.faces)
        missed += int((distances.min(axis=0, initial=np.inf) > GOOD_NME).sum())
        off = distances.min(axis=1, initial=np.inf) > GOOD_NME
        wrong += int(off.sum())
        scores += [f.score for f, is_off in zip(found, off, strict=True) if is_off and f.score is not None]
    return {
        "faces": faces,
        "missed": missed / faces,
        "wrong": wrong / faces,
        "score of wrong": float(np.median(scores)) if scores else float("nan"),
    }


def main(arguments: list[str]) -> int:
    parser = options("acquisition", __doc__)
    parser.add_argument("--only", action="append", metavar="CASE", help="roll, size, cut, overlap, quality")
    parser.add_argument("--photos", type=int, default=80, metavar="N", help="how many photographs (default 80)")
    args = parser.parse_args(arguments)
    views = list(photographs(args.photos))
    trackers = open_trackers(args.config, args.set)
    results = {name: {} for name in trackers}
    for case, variants in cases(views).items():
        if args.only and case not in args.only:
            continue
        for variant, make in variants.items():
            changed = make()
            for name, tracker in trackers.items():
                results[name].setdefault(case, {})[variant] = judge(tracker, changed)
    return report(results, args)
