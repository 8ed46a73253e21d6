"""tools.asymmetry: exact on logs whose movements are known, and a clear line for each log that cannot be measured."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from facet.tracker.mirror import MIRROR_68
from facet.tracker.morphable import load_face_model
from facet.tracker.outputs.logs import open_log
from facet.tracker.pose import rotation_from_angles
from facet.tracker.weights import ROOT
from tools import asymmetry
from tools.face_logs import read_face

SCALE, FPS, FRAMES = 2.0, 30, 60
STILL = 20  # frames at rest
REGIONS = {"brow_inner": (20, 21, 22, 23), "mouth_corner": (48, 54), "nose_wing": (31, 35)}
LIDS = ((37, 38), (43, 44))


def rest_points() -> np.ndarray:
    """(68, 3) of a symmetric face at rest, mm."""
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    camera = np.eye(3, 4)
    points = model.landmarks(camera, np.zeros(model.shape_count), np.zeros(model.expression_count)).astype(float)
    return (points + points[MIRROR_68] * (-1, 1, 1)) / 2


def moving(left_share: float = 1.0) -> np.ndarray:
    """(FRAMES, 68, 3) mm: after a rest brows, nose wings and corners rise by up to 5 mm, corners go outwards by 3, eyes
    shut; the left side by a share of it."""
    points = np.tile(rest_points(), (FRAMES, 1, 1))
    rise = np.clip(np.arange(FRAMES) - STILL, 0, 20) / 20
    for side, share in ((-1, 1.0), (1, left_share)):
        for column in sum(REGIONS.values(), ()):
            if np.sign(points[0, column, 0]) == side:
                points[:, column, 1] += 5 * share * rise
        corner = 54 if side > 0 else 48
        points[:, corner, 0] += side * 3 * share * rise
        for column in LIDS[side > 0]:
            points[:, column, 1] -= 4 * share * rise
    return points


def record(frame: int, points, angles=(0.0, 0.0, 0.0), face_id=1, irises=True, **more) -> dict:
    """A record as app.py writes it, of a face whose points are in mm."""
    turned = points @ rotation_from_angles(*angles).T * SCALE * (1, -1, 1) + (320, 240, 0)
    pose = dict(zip(("yaw_deg", "pitch_deg", "roll_deg"), angles, strict=True))
    face = {"id": face_id, "state": "tracked", "score": 0.9, "box": [0.0, 0.0, 1.0, 1.0], "detected": False}
    face |= {"pose": pose | {"scale_px_per_mm": SCALE, "translation_px": [320.0, 240.0, 0.0]}}
    face |= {"translation_mm": [0.0, 0.0, 0.0], "landmarks": turned.tolist()}
    face |= {"irises": [[1.0, 2.0, 3.0]] * 2 if irises else None, "blendshapes": {"jawOpen": 0.0}}
    times = {"source": "a.mp4", "frame": frame, "time_s": frame / FPS, "width": 640, "height": 480} | more
    return times | {"faces": [face]}


def write(path, records) -> str:
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return str(path)


def measured(points, tmp_path, angles=(0.0, 0.0, 0.0), rest="0:0.6") -> dict:
    """The rows of the report on a face, by (region, measure, side)."""
    log = write(tmp_path / "log.jsonl", [record(k, each, angles) for k, each in enumerate(points)])
    assert asymmetry.main([log, "-o", str(tmp_path / "report.csv"), "--rest", rest]) == 0
    with (tmp_path / "report.csv").open(encoding="utf-8") as file:
        return {(row["region"], row["measure"], row["side"]): row for row in csv.DictReader(file)}


def test_a_symmetric_face_has_ratio_1_and_no_difference(tmp_path):
    rows = measured(moving(), tmp_path)
    differences = [row for (_, _, side), row in rows.items() if side == "difference"]
    assert len(differences) == 7
    for row in differences:
        for name in ("rest_mm", "highest_mm", "lowest_mm"):
            assert float(row[name]) == pytest.approx(0, abs=0.002), row
    for region, measure in (("brow_inner", "height"), ("mouth_corner", "height"), ("mouth_corner", "width")):
        assert float(rows[region, measure, "difference"]["highest_ratio"]) == pytest.approx(1, abs=0.001)
    assert float(rows["lids", "gap", "difference"]["lowest_ratio"]) == pytest.approx(1, abs=0.001)


def test_one_side_that_moves_less_is_reported_within_2_percent(tmp_path):
    rows = measured(moving(0.4), tmp_path)
    for region in ("brow_inner", "mouth_corner", "nose_wing"):
        assert float(rows[region, "height", "right"]["highest_mm"]) == pytest.approx(5, rel=0.02)
        assert float(rows[region, "height", "left"]["highest_mm"]) == pytest.approx(2, rel=0.02)
        assert float(rows[region, "height", "difference"]["highest_ratio"]) == pytest.approx(0.4, rel=0.02)
    assert float(rows["mouth_corner", "width", "right"]["highest_mm"]) == pytest.approx(3, rel=0.02)
    assert float(rows["mouth_corner", "width", "difference"]["highest_ratio"]) == pytest.approx(0.4, rel=0.02)
    assert float(rows["lids", "gap", "right"]["lowest_mm"]) == pytest.approx(-4, rel=0.02)
    assert float(rows["lids", "gap", "difference"]["lowest_ratio"]) == pytest.approx(0.4, rel=0.02)
    right = rows["brow_inner", "height", "right"]
    assert float(right["highest_s"]) == pytest.approx(40 / FPS, abs=1.5 / FPS)
    face = rest_points()
    eyes = np.linalg.norm(face[36] - face[45])
    assert float(right["highest_percent"]) == pytest.approx(100 * 5 / eyes, rel=0.02)


def test_in_a_mirror_the_sides_swap(tmp_path):
    points = moving(0.4)
    points[..., 62, 0] += 2  # the lips' midline
    rows = measured(points, tmp_path)
    mirrored = measured((points * (-1, 1, 1))[:, MIRROR_68], tmp_path)
    other = {"right": "left", "left": "right"}
    for (region, measure, side), row in rows.items():
        if side in other:
            for name in ("rest_mm", "highest_mm", "lowest_mm", "highest_s"):
                swapped = mirrored[region, measure, other[side]][name]
                assert float(swapped) == pytest.approx(float(row[name]), abs=0.002), (region, side, name)
    offset = ("lips_midline", "offset", "middle")
    assert float(rows[offset]["rest_mm"]) == pytest.approx(-float(mirrored[offset]["rest_mm"]), abs=0.002)
    assert float(rows[offset]["rest_mm"]) == pytest.approx(0.5, abs=0.01)  # to the subject's left


@pytest.mark.parametrize("angles", [(30.0, 0.0, 0.0), (-20.0, 15.0, 0.0), (10.0, -12.0, 25.0)])
def test_the_pose_leaves_the_figures_as_they_are(angles, tmp_path):
    upright, turned = measured(moving(0.4), tmp_path), measured(moving(0.4), tmp_path, angles)
    for key, row in upright.items():
        for name in ("rest_mm", "highest_mm", "lowest_mm"):
            assert float(turned[key][name]) == pytest.approx(float(row[name]), abs=0.01), (key, name)


def test_a_wrong_roll_leaves_the_figures_as_they_are(tmp_path):
    upright = measured(moving(0.4), tmp_path)
    records = [record(k, each) for k, each in enumerate(moving(0.4))]
    for each in records:
        each["faces"][0]["pose"]["roll_deg"] = 4.0
    write(tmp_path / "log.jsonl", records)
    rows = asymmetry.summary(asymmetry.report(read_face(tmp_path / "log.jsonl"), (0, 0.6)))
    for row in rows:
        known = upright[row["region"], row["measure"], row["side"]]
        assert row["highest_mm"] == pytest.approx(float(known["highest_mm"]), abs=0.002)


def test_it_does_not_divide_by_what_may_be_noise(tmp_path):
    points = np.tile(rest_points(), (FRAMES, 1, 1))
    points[:, [20, 21, 22, 23], 1] += np.random.default_rng(0).normal(0, 3, (FRAMES, 1))
    row = measured(points, tmp_path)["brow_inner", "height", "difference"]
    assert float(row["noise_mm"]) > 5 and row["highest_ratio"] == "" and row["lowest_ratio"] == ""
    still = measured(np.tile(rest_points(), (FRAMES, 1, 1)), tmp_path)
    assert {row["highest_ratio"] for row in still.values()} == {""}


def test_a_single_bad_frame_is_no_peak(tmp_path):
    points = moving()
    points[50, 20:24, 1] += 30
    row = measured(points, tmp_path)["brow_inner", "height", "right"]
    assert float(row["highest_mm"]) == pytest.approx(5, rel=0.02)


def test_frames_that_are_turned_too_far_stay_blank_and_are_counted(tmp_path, capsys):
    records = [record(k, each, (55.0 if 30 <= k < 35 else 0.0, 0.0, 0.0)) for k, each in enumerate(moving())]
    log = write(tmp_path / "log.jsonl", records)
    frames, chart = tmp_path / "frames.csv", tmp_path / "chart.png"
    options = ["--frames", str(frames), "--chart", str(chart), "--rest", "0:0.6"]
    assert asymmetry.main([log, "-o", str(tmp_path / "r.csv"), *options]) == 0
    out = capsys.readouterr().out
    assert "5 frames left blank" in out and "not a medical device" in out
    with frames.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    blank = [k for k, row in enumerate(rows) if row["brow_inner.height.right.mm"] == ""]
    assert blank == [30, 31, 32, 33, 34]
    assert float(rows[-1]["brow_inner.height.right.excursion_mm"]) == pytest.approx(5, abs=0.01)
    assert chart.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_give_what_the_json_lines_give(suffix, tmp_path):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    records = [record(k, each) for k, each in enumerate(moving(0.4))]
    records[3]["faces"] = []
    path = tmp_path / f"log{suffix}"
    with open_log(path, ("jawOpen",)) as log:
        for each in records:
            log.write(each)
    write(tmp_path / "log.jsonl", records)
    table, lines = read_face(path), read_face(tmp_path / "log.jsonl")
    for name in ("frame", "time_s", "landmarks", "angles_deg", "scale", "origin"):
        np.testing.assert_allclose(getattr(table, name), getattr(lines, name))
    assert (table.frames, table.precise, table.id) == (lines.frames, lines.precise, lines.id) == (FRAMES, True, 1)


def test_a_log_that_is_cut_short_is_used_and_reported(tmp_path, capsys):
    records = [record(k, each) for k, each in enumerate(moving())]
    whole = "".join(json.dumps(each) + "\n" for each in records)
    (tmp_path / "log.jsonl").write_text(whole[:-500])
    assert asymmetry.main([str(tmp_path / "log.jsonl"), "-o", str(tmp_path / "r.csv")]) == 0
    assert "cut short" in capsys.readouterr().out
    with open_log(tmp_path / "log.csv", ("jawOpen",)) as log:
        for each in records:
            log.write(each)
    text = (tmp_path / "log.csv").read_text()
    (tmp_path / "log.csv").write_text(text[:-500])
    assert read_face(tmp_path / "log.csv").cut_short and len(read_face(tmp_path / "log.csv").frame) == FRAMES - 1


def test_the_default_mode_is_named(tmp_path, capsys):
    log = write(tmp_path / "log.jsonl", [record(k, each, irises=False) for k, each in enumerate(moving())])
    assert asymmetry.main([log, "-o", str(tmp_path / "r.csv")]) == 0
    assert "configs/precise.toml" in capsys.readouterr().out


def two_faces(points):
    for k, each in enumerate(points):
        both = record(k, each)
        yield both | {"faces": both["faces"] + record(k, each, face_id=2)["faces"]}


FOREIGN = "timestamp,frame_id,brow\n0,1,2\n"
WRONG = [
    ("log.csv", FOREIGN, [], 1, "without the column frame"),
    ("log.csv", "", [], 1, "an empty file"),
    ("log.jsonl", "", [], 1, "an empty file"),
    ("log.jsonl", '{"pose": [1, 2]}\n', [], 1, "another record in line 1"),
    ("log.jsonl", "time;value\n1;2\n", [], 1, "line 1 that is no record"),
    ("log.jsonl", "[1]\n", [], 1, "another record in line 1"),
    ("log.parquet", "no parquet", [], 1, "found no Parquet file"),
    ("log.txt", FOREIGN, [], 1, "found another ending"),
    ("log.jsonl", None, [], 1, "No such file"),
    ("log.jsonl", [{**record(0, rest_points()), "faces": []}], [], 1, "expected a face, found none in 1 frames"),
    ("log.jsonl", list(two_faces(moving())), [], 2, "found 2: 1 (60 frames), 2 (60 frames); name one with --id"),
    ("log.jsonl", list(two_faces(moving())), ["--id", "7"], 2, "expected one of 1, 2"),
    ("log.jsonl", [record(k, p, (60.0, 0.0, 0.0)) for k, p in enumerate(moving())], [], 2, "yaw of at most 40"),
    ("log.jsonl", [record(k, p, time_s=0.0) for k, p in enumerate(moving())], [], 2, "60 still images"),
    ("log.jsonl", [record(k, p) for k, p in enumerate(moving())], ["--rest", "5:6"], 2, "from 0 to 1.96667 s"),
    ("log.jsonl", [record(k, p) for k, p in enumerate(moving())], ["--rest", "2"], 2, "two times in seconds"),
    ("log.jsonl", [record(k, p) for k, p in enumerate(moving())], ["--rest", "2:1"], 2, "a start before an end"),
    ("log.jsonl", [record(k, p) for k, p in enumerate(moving())], ["--chart", "x.pdf"], 2, "ends in .png"),
]  # fmt: skip


@pytest.mark.parametrize("name, content, options, status, message", WRONG, ids=[row[-1] for row in WRONG])
def test_what_cannot_be_measured_is_one_clear_line(name, content, options, status, message, tmp_path, capsys):
    if name == "log.parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        write(path, content)
    try:
        found = asymmetry.main([str(path), "-o", str(tmp_path / "report.csv"), *options])
    except SystemExit as error:
        found = error.code
    output = capsys.readouterr()
    assert found == status and message in output.err and output.err.count("\n") == 1 and not output.out
    assert not (tmp_path / "report.csv").exists()


def test_the_log_is_never_replaced(tmp_path, capsys):
    log = tmp_path / "log.csv"
    with open_log(log, ("jawOpen",)) as out:
        for k, each in enumerate(moving()):
            out.write(record(k, each))
    before = log.read_bytes()
    assert asymmetry.main([str(log), "-o", str(log)]) == 2
    assert "would replace the input" in capsys.readouterr().err and log.read_bytes() == before
