"""A scripted clip through the whole program: cuts, an exit, an occlusion, faces that cross; nobody is seen."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from facet.render.privacy import COVER_COLOUR
from tests.conftest import ROOT
from tests.program import assert_one_line, run

SIZE_WH = (480, 240)
PART = 14  # frames of each part of the clip
FOREHEAD = 0.4  # of the height from brows to chin, above the brows


def truth():
    """Frames of the sample, which is rendered, with the landmarks that it was rendered by."""
    lines = (ROOT / "samples" / "demo_truth.jsonl").read_text().splitlines()
    capture = cv2.VideoCapture(str(ROOT / "samples" / "demo.mp4"))
    for line in lines:
        ok, image = capture.read()
        assert ok
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        yield image, np.array(json.loads(line)["landmarks"])[:, :2] / 2


def face_mask(points: np.ndarray) -> np.ndarray:
    """(H, W) uint8, 1 where the face is."""
    brows = points[17:27]
    outline = cv2.convexHull(np.concatenate([points, brows + (brows.mean(axis=0) - points[8]) * FOREHEAD]).astype("f4"))
    mask = np.zeros(SIZE_WH[::-1], np.uint8)
    cv2.fillConvexPoly(mask, np.rint(outline - 0.5).astype(np.int32), 1)
    return mask


def laid(scene: np.ndarray, image: np.ndarray, points: np.ndarray, x: int) -> np.ndarray:
    """Lay the part of a sample's frame around the head into a scene, `x` px from its place; the mask of the face."""
    middle, reach = points.mean(axis=0), 0.95 * np.ptp(points[:, 1])
    yy, xx = np.mgrid[: image.shape[0], : image.shape[1]]
    head = np.hypot((xx - middle[0]) / 0.8, yy - middle[1] + 0.2 * reach) < reach
    left, right = max(x, 0), min(x + image.shape[1], SIZE_WH[0])
    if left < right:
        part, cut = scene[:, left:right], slice(left - x, right - x)
        np.copyto(part, image[:, cut], where=head[:, cut, None])
    return face_mask(points + np.array([x, 0]))


def script():
    """(frame, mask of the faces that show) one after the other."""
    sample = truth()
    rng = np.random.default_rng(5)
    rooms = [
        cv2.resize(rng.integers(60, 190, (5, 9, 3), np.uint8), SIZE_WH, interpolation=cv2.INTER_CUBIC) for _ in range(3)
    ]
    for t in range(5 * PART):
        image, points = next(sample)
        part, step = divmod(t, PART)
        scene = rooms[(0, 1, 0, 2, 2)[part]].copy()
        if part == 0:  # there at once
            mask = laid(scene, image, points, 75)
        elif part == 1:  # after a cut: elsewhere; something passes in front
            mask = laid(scene, image, points, 200)
            bar = slice(170 + 18 * step, 240 + 18 * step)
            scene[:, bar], mask[:, bar] = 90, 0
        elif part == 2:  # leaves to the left
            mask = laid(scene, image, points, 50 - 19 * step)
        elif part == 3:  # nobody
            mask = np.zeros(SIZE_WH[::-1], np.uint8)
        else:  # comes in from the right, and from the left behind it another
            behind = laid(scene, image[:, ::-1], points * (-1, 1) + (image.shape[1], 0), -210 + 19 * step)
            mask = laid(scene, image, points, 390 - 19 * step) | behind
        yield scene, mask


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The clip without loss, and the masks."""
    folder = tmp_path_factory.mktemp("clip")
    path = folder / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 30, SIZE_WH)
    masks = []
    for image, mask in script():
        writer.write(image)
        masks.append(mask)
    writer.release()
    return path, masks


def test_no_face_is_seen_in_any_frame(clip, tmp_path, networks):
    path, masks = clip
    log = tmp_path / "log.jsonl"
    done = run("-f", path, "-o", tmp_path / "out", "--view", "cover", "--log", log, "--renderer", "cpu", *networks)
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == len(masks) == len(log.read_text().splitlines())
    seen = []
    for file, mask in zip(files, masks, strict=True):
        image = cv2.imread(str(file))
        seen.append(int(((image != COVER_COLOUR).any(axis=2) & (mask > 0)).sum()))
    assert seen == [0] * len(masks)
    # and not by covering all: the rooms stay
    covered = [(cv2.imread(str(file)) == COVER_COLOUR).all(axis=2).mean() for file in files]
    assert max(covered) < 0.95 and min(covered) == 0 and np.mean(covered) < 0.5


def test_exported_meshes_hold_no_face(tmp_path, networks):
    """The texture is taken of what the view leaves."""
    options = ["-f", ROOT / "samples" / "demo.mp4", "--at", "3", "--max-frames", "4", "--view", "cover"]
    done = run(*options, "--export", tmp_path / "heads", *networks)
    assert done.returncode == 0, done.stderr
    (texture,) = (tmp_path / "heads").glob("*.png")
    colours = cv2.imread(str(texture)).reshape(-1, 3)
    assert (np.abs(colours.astype(int) - COVER_COLOUR) <= 3).all()


@pytest.mark.parametrize(
    "setting", ["privacy.lost_frames=-1", "privacy.padding=9", "privacy.detect_every=0", "privacy.strength=2"]
)
def test_wrong_settings(setting):
    done = run("-f", ROOT / "samples" / "demo.mp4", "-o", "x.mp4", "--view", "blur", "--set", setting)
    assert_one_line(done, 2, "privacy")
