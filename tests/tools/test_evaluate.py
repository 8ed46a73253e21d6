"""The evaluation from end to end, on made data in the forms that users have."""

import json
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
from scipy.io import savemat

from app import main as run_app
from facet.tracker.sources import open_source
from tests.clips import ffmpeg
from tests.conftest import ROOT
from tools import gallery
from tools.evaluation import blendshapes, blink, common, lag, landmarks, people, photographs, table

HALF_PX = np.array([[0.5], [0.5], [0.0]])  # where others count pixel centres from 1


@pytest.fixture(scope="module")
def shots():
    return list(people.portraits(3, yaw_deg=25.0, seed=4))


@pytest.fixture
def settings(tmp_path):
    """Options that name a file of settings in which nothing differs from the defaults."""
    path = tmp_path / "ours.toml"
    path.write_text("")
    return ["--config", str(path)]


def write_pictures(folder, shots):
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"image{i:05}.png" for i in range(len(shots))]
    for file, shot in zip(files, shots, strict=True):
        cv2.imwrite(str(file), shot.picture)
    return files


def as_mat(folder, shots):
    for file, shot in zip(write_pictures(folder, shots), shots, strict=True):
        from_one = shot.landmarks.T + HALF_PX
        pose = np.radians([[0, shot.angles_deg[0], 0, 0, 0, 0, 1]])
        savemat(file.with_suffix(".mat"), {"pt3d_68": from_one, "Pose_Para": pose})


def as_npy(folder, shots):
    write_pictures(folder, shots)
    from_one = np.stack([shot.landmarks.T + HALF_PX for shot in shots]).astype(np.float32)
    np.save(folder / "AFLW2000-3D.pts68.npy", from_one)
    np.save(folder / "AFLW2000-3D.pose.npy", np.array([shot.angles_deg[0] for shot in shots]))


def as_pts(folder, shots):
    for file, shot in zip(write_pictures(folder / "indoor", shots), shots, strict=True):
        rows = "\n".join(f"{x} {y}" for x, y in shot.landmarks[:, :2] + 0.5)
        file.with_suffix(".pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")


def as_crops(folder, shots):
    """AFLW as 3DDFA has it: crops of 120 px, and labels in px of pictures in which the crops were four times as large.

    3DDFA maps px of the crop, counted from 1, to the picture by * scale + corner of the box.
    """
    names, points, fitted = [f"face_{i}.png" for i in range(len(shots))], [], []
    (folder / "test.data" / "AFLW_GT_crop").mkdir(parents=True)
    (folder / "test.configs").mkdir()
    for name, shot in zip(names, shots, strict=True):
        small = cv2.resize(shot.picture[60:300, 60:300], (120, 120), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / "test.data" / "AFLW_GT_crop" / name), small)
        from_one = (shot.landmarks[:, :2] - 60) / 2 + 0.5
        fitted.append((from_one * 4 + (100, 40)).T)
        points.append(landmarks.like_aflw(fitted[-1].T).T)
        points[-1][:, 5] = -1
    (folder / "test.data" / "AFLW_GT_crop.list").write_text("\n".join(names) + "\n")
    labels = {
        "crop_roi_box": np.tile(np.uint16([100, 40, 580, 520]), (len(shots), 1)),
        "crop_yaws": np.array([shot.angles_deg[0] for shot in shots]),
        "pts21": np.array(points),
        "pts68": np.array(fitted),
    }
    for name, rows in labels.items():
        np.save(folder / "test.configs" / f"AFLW_GT_{name}.npy", rows)


@pytest.mark.parametrize(("name", "write"), [("aflw2000", as_mat), ("aflw2000", as_npy), ("300w", as_pts)])
def test_copies_are_read_in_our_convention(tmp_path, shots, name, write):
    write(tmp_path, shots)
    samples = list(photographs.SETS[name](tmp_path))
    assert len(samples) == len(shots)
    for sample, shot in zip(samples, shots, strict=True):
        np.testing.assert_array_equal(sample.image, shot.picture)
        depth = sample.truth.shape[1]
        assert depth == (2 if name == "300w" else 3)
        np.testing.assert_allclose(sample.truth, shot.landmarks[:, :depth], atol=1e-4)
        assert sample.yaw_deg == pytest.approx(shot.angles_deg[0]) or (name == "300w" and math.isnan(sample.yaw_deg))
        assert sample.box_px == pytest.approx(photographs.sqrt_wh(shot.landmarks), rel=1e-5)


@pytest.mark.parametrize("fitted", [True, False])
def test_crops_of_aflw_are_read_in_px_of_the_crop(tmp_path, shots, fitted):
    as_crops(tmp_path, shots)
    if not fitted:
        (tmp_path / "test.configs" / "AFLW_GT_pts68.npy").unlink()
    for sample, shot in zip(photographs.aflw(tmp_path), shots, strict=True):
        assert sample.image.shape == (120, 120, 3)
        expected = landmarks.like_aflw((shot.landmarks[:, :2] - 60) / 2)
        expected[5] = np.nan
        np.testing.assert_allclose(sample.truth, expected, atol=1e-6)
        known = shot.landmarks / 2 if fitted else expected
        assert sample.box_px == pytest.approx(photographs.sqrt_wh(known))


def test_a_copy_is_judged_and_drawn(tmp_path, shots, networks, settings, capsys):
    as_pts(tmp_path / "copy", shots)
    options = ["--json", str(tmp_path / "figures" / "a.json"), "--plots", str(tmp_path / "plots")]
    assert landmarks.main(["--data", "300w", str(tmp_path / "copy"), *settings, *options]) == 0
    (systems,) = json.loads((tmp_path / "figures" / "a.json").read_text()).values()
    assert systems["ours"]["pictures"] == 3 and systems["ours"]["missed"] == 0 and systems["ours"]["nme"] < 6
    assert cv2.imread(str(tmp_path / "plots" / "landmarks.png")) is not None
    assert "300w ours" in capsys.readouterr().out


def test_what_is_wrong_with_a_copy_is_said(tmp_path, shots):
    with pytest.raises(SystemExit, match="expected pictures"):
        list(photographs.aflw2000(tmp_path))
    as_npy(tmp_path, shots)
    np.save(tmp_path / "AFLW2000-3D.pose.npy", np.zeros(7))
    with pytest.raises(SystemExit, match="each of 3 pictures, found 7"):
        list(photographs.aflw2000(tmp_path))
    with pytest.raises(SystemExit):
        landmarks.main(["--data", "faces", str(tmp_path)])
    (tmp_path / "image00001.png").write_text("no picture")
    np.save(tmp_path / "AFLW2000-3D.pose.npy", np.zeros(3))
    with pytest.raises(SystemExit, match=r"image00001\.png: expected a picture"):
        list(photographs.aflw2000(tmp_path))


def test_absent_material_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setenv("FACET_MATERIAL", str(tmp_path))
    for samples in (photographs.validation(), blink.meshed_photographs()):
        with pytest.raises(SystemExit, match="FACET_MATERIAL"):
            next(samples)


def test_the_trackers_are_those_of_the_program(tmp_path, networks):
    """What is judged through the library is what `app.py` reports of the same clip."""
    clip, log = str(ROOT / "samples" / "demo.mp4"), tmp_path / "log.jsonl"
    options = ["--log", str(log), "--no-window", "--quiet", "--max-frames", "12"]
    assert run_app(["-f", clip, *options, *map(str, networks)]) == 0
    tracker = next(iter(common.open_trackers(networks[1:] or None, ()).values()))
    with open_source(clip, max_frames=12) as source:
        for record, frame in zip(map(json.loads, log.read_text().splitlines()), source, strict=True):
            (reported,), (face,) = record["faces"], tracker.step(frame)
            np.testing.assert_allclose(reported["landmarks"], face.landmarks, atol=2e-3)
            assert reported["blendshapes"] == pytest.approx(face.blendshapes, abs=2e-3)


def test_a_followed_face_is_that_of_a_still_video(shots, tmp_path):
    """The last of the frames as app.py reports them of a video of one picture; not the first, which is seen twice."""
    picture, clip, log = shots[0].picture, tmp_path / "still.mkv", tmp_path / "log.jsonl"
    (file,) = write_pictures(tmp_path / "frames", shots[:1])
    exact = ("-c:v", "ffv1", "-pix_fmt", "bgr0")
    ffmpeg("-loop", 1, "-i", file, "-frames:v", common.FOLLOWED_FRAMES, "-r", 30, *exact, clip)
    assert run_app(["-f", str(clip), "--log", str(log), "--no-window", "--quiet"]) == 0
    reported = [json.loads(line)["faces"][0]["landmarks"] for line in log.read_text().splitlines()]
    tracker = next(iter(common.open_trackers(None, ()).values()))
    (face,), (alone,) = common.followed(tracker, picture), common.still(tracker, picture)
    np.testing.assert_allclose(face.landmarks, reported[-1], atol=0.05)
    np.testing.assert_allclose(alone.landmarks, reported[0], atol=0.05)
    assert np.abs(np.subtract(reported[0], reported[-1])).max() > 0.1


def test_unknown_figures_become_null(tmp_path):
    args = SimpleNamespace(json=tmp_path / "a.json", plots=None)
    figures = {"a": {"b": np.float32(0.5), "c": float("nan"), "d": np.int64(3)}, "e": np.array([1.0, np.inf])}
    common.report(figures, args)
    assert json.loads(args.json.read_text()) == {"a": {"b": 0.5, "c": None, "d": 3}, "e": [1.0, None]}


def test_the_scripts_truth_answers_perfectly():
    model, _ = people.cast(0)
    truth = blendshapes.script(model)[None]
    rows = blendshapes.figures(truth, model.expression_names)
    assert all(row["correlation"] > 0.999 and row["slope"] == pytest.approx(1, abs=1e-5) for row in rows.values())
    assert max(row["leak"] for row in rows.values()) == 0
    assert blendshapes.exceptions(rows, list(model.expression_names)) == []


def test_weak_mixed_up_and_lost_blendshapes_are_reported():
    model, _ = people.cast(0)
    names = list(model.expression_names)
    smile, pucker, jaw = (names.index(name) for name in ("mouthSmile_L", "mouthPucker", "jawOpen"))
    reported = np.repeat(blendshapes.script(model)[None].astype(float), 2, axis=0)
    reported[0, :, smile] = 0.3 + 0.4 * reported[0, :, smile]  # somebody's own rest does not count
    reported[1, :, smile] *= 0.4
    reported[..., names.index("mouthFunnel")] += 0.6 * reported[..., pucker]
    reported[:, blendshapes.window(jaw)] = np.nan
    rows = blendshapes.figures(reported, model.expression_names)
    assert rows["mouthSmile_L"]["slope"] == pytest.approx(0.4) and rows["mouthSmile_L"]["correlation"] > 0.999
    assert rows["mouthSmile_L"]["rest"] == pytest.approx(0.15)
    assert (rows["mouthPucker"]["leak_to"], rows["mouthPucker"]["leak"]) == ("mouthFunnel", pytest.approx(0.6))
    assert set(blendshapes.exceptions(rows, names)) == {"mouthSmile_L", "jawOpen"}
    assert blendshapes.summary(rows, names)["good"] == len(names) - 2


def test_cross_talk_is_a_table_of_what_else_rises(tmp_path):
    model, _ = people.cast(0)
    names = model.expression_names
    reported = np.repeat(blendshapes.script(model)[None].astype(float), 2, axis=0)
    pucker, funnel = names.index("mouthPucker"), names.index("mouthFunnel")
    reported[0, :, funnel] += 0.6 * reported[0, :, pucker]
    reported[..., funnel] += 0.1  # at rest, too
    rises = blendshapes.cross_talk(reported)
    assert rises[pucker, funnel] == pytest.approx(0.3) and rises[funnel, pucker] == 0
    np.testing.assert_allclose(np.diag(rises), 1)
    blendshapes.write_table(tmp_path / "x.csv", names, rises)
    rows = [line.split(",") for line in (tmp_path / "x.csv").read_text().splitlines()]
    assert rows[0] == ["raised", *names] and len(rows) == len(names) + 1
    assert rows[1 + pucker][0] == "mouthPucker" and rows[1 + pucker][1 + funnel] == "0.30"
    assert rows[1 + funnel][1 + pucker] == ""
    figures = blendshapes.figures(reported, names)
    assert blendshapes.summary(figures, ["mouthPucker", "jawOpen"])["cross_talk"] == pytest.approx(0.15)


def test_eyes_apart():
    model, _ = people.cast(0)
    names = model.expression_names
    reported = blendshapes.script(model)[None].astype(float)
    assert blendshapes.eyes_apart(reported, names) == 0
    reported[..., names.index("eyeLookUp_L")] += 0.4
    reported[0, 0] = np.nan  # lost
    assert blendshapes.eyes_apart(reported, names) == pytest.approx(0.1)


def test_what_moves_along_the_view_does_not_show():
    model, _ = people.cast(0)
    hidden = {name for name, seen in zip(model.expression_names, blendshapes.shows(model), strict=True) if not seen}
    assert hidden == {"jawForward", "cheekPuff_L", "cheekPuff_R"}


def test_a_jaw_that_is_tracked_answers(networks):
    model, cast = people.cast(1)
    weights = blendshapes.script(model)
    jaw = blendshapes.window(model.expression_names.index("jawOpen"))
    rows = np.r_[0 : blendshapes.SETTLING, jaw]
    tracker = next(iter(common.open_trackers(networks[1:] or None, ()).values()))
    reported = blendshapes.play({"one": tracker}, model, next(cast), (8.0, 0.0, 0.0), weights[rows])
    opened = reported["one"][blendshapes.SETTLING :, model.expression_names.index("jawOpen")]
    assert common.correlation(opened, blendshapes.RAMP) > 0.85


def test_people_are_the_same_again_and_as_they_are_said_to_be(shots):
    again = next(people.portraits(1, yaw_deg=25.0, seed=4))
    np.testing.assert_array_equal(again.picture, shots[0].picture)
    assert not np.array_equal(shots[0].picture, shots[1].picture)
    assert np.ptp(shots[0].landmarks[:, :2], axis=0).max() == pytest.approx(people.FACE_PX, rel=0.25)


def test_a_delayed_sway_is_late():
    t = np.arange(120)
    truth = 100 * np.sin(2 * np.pi * t / 45)
    result = lag.figures(0.9 * 100 * np.sin(2 * np.pi * (t - 1.5) / 45), truth)
    assert result["lag_frames"] == pytest.approx(1.5, abs=0.11) and result["gain"] == pytest.approx(0.9, abs=0.01)
    assert lag.figures(truth + 7, truth)["error_px"] == pytest.approx(0, abs=1e-9)


def test_the_table_says_what_the_parts_found():
    ours, theirs = {"nme": 2.342, "missed": 0, "failures_10": 0.27}, {"nme": 3.3, "missed": None}
    parts = {
        "landmarks": {"photographs": {"facet": ours, "3ddfa_v2": theirs}},
        "score": {"all_wrong": {"auc": 0.99987}},
    }
    text = table.table(parts)
    assert "| 2.34 % | 3.30 % | `landmarks` |" in text
    assert "| 0; 0.3 % | - | `landmarks` |" in text
    assert "| 0.9999 | no score | `score` |" in text and "`pose`" not in text


def test_a_sheet_shows_each_frame_beside_its_source(tmp_path):
    """Every frame of the clip has a grey value of its own; the tracked clip is brighter by 100."""
    log, clips = tmp_path / "a.jsonl", (tmp_path / "a.mp4", tmp_path / "b.mp4")
    for path, more in zip(clips, (0, 100), strict=True):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (64, 64))
        for t in range(12):
            writer.write(np.full((64, 64, 3), 10 * t + more, np.uint8))
        writer.release()
    log.write_text("\n".join(json.dumps({"faces": []}) for _ in range(12)))
    sheet = gallery.contact_sheet(*clips, log, count=6, columns=3)
    half = gallery.CELL_PX // 2
    shown = sheet[half :: gallery.CELL_PX, half :: gallery.CELL_PX, 1].astype(int)
    assert shown.shape == (2, 6)
    np.testing.assert_allclose(shown[:, ::2].ravel(), [0, 20, 40, 70, 90, 110], atol=4)
    np.testing.assert_allclose(shown[:, 1::2] - shown[:, ::2], 100, atol=6)
