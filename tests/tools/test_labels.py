"""Labels and the split: invariants, and values by hand."""

import numpy as np
import pytest

pytest.importorskip("torch")
from facet.tracker.crop import cut
from facet.tracker.types import Roi
from tests.conftest import material as need_material
from tools.data import crops, labels, material
from tools.data.split import HELD_OUT_SHARE, held_out


def face_68(yaw_deg=0.0):
    """A rough face: (68, 3), y down, larger z nearer."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-30, 30, (68, 3))
    points[0], points[16] = (-70, 0, -30), (70, 0, -30)
    points[36], points[39], points[42], points[45] = (-45, -20, 10), (-20, -20, 12), (20, -20, 12), (45, -20, 10)
    for k in (37, 38, 40, 41):
        points[k] = (-32 + (k in (38, 40)) * 8, -20 + (5 if k in (40, 41) else -5), 12)
    for k in (43, 44, 46, 47):
        points[k] = (24 + (k in (44, 46)) * 8, -20 + (5 if k in (46, 47) else -5), 12)
    points[48], points[54] = (-25, 40, 15), (25, 40, 15)
    angle = np.radians(-yaw_deg)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return points @ turn.T


def test_a_person_is_always_on_one_side_and_the_share_is_kept():
    people = [f"person{k}" for k in range(4000)]
    share = np.mean([held_out(person, "a.jpg") for person in people])
    assert abs(share - HELD_OUT_SHARE) < 0.02
    assert all(held_out(person, "a.jpg") == held_out(person, "b.jpg") for person in people[:50])
    assert len({held_out("", f"{k}.jpg") for k in range(100)}) == 2


@pytest.mark.parametrize("yaw_deg", [-60, -20, 0, 35, 80])
def test_rough_yaw_has_the_projects_sign(yaw_deg):
    assert labels.rough_yaw_deg(face_68(yaw_deg)[None])[0] == pytest.approx(yaw_deg, abs=2)


def test_blink_is_one_below_the_shut_gap_and_zero_above_the_open_one():
    gaps = np.array([0.0, labels.GAP_SHUT, (labels.GAP_SHUT + labels.GAP_OPEN) / 2, labels.GAP_OPEN, 0.4])
    np.testing.assert_allclose(labels.blink_of_gap(gaps), [1, 1, 0.5, 0, 0], atol=1e-9)


def test_closed_lids_meet_in_their_middle_and_unknown_blinks_change_nothing():
    points = face_68()[None, :, :2]
    shut = labels.close_lids(points, np.array([[1.0, np.nan]]))
    np.testing.assert_allclose(shut[0, 37], shut[0, 41])
    np.testing.assert_allclose(shut[0, 37], (points[0, 37] + points[0, 41]) / 2)
    np.testing.assert_array_equal(shut[0, 42:48], points[0, 42:48])
    half = labels.close_lids(points, np.array([[0.5, 0.0]]))
    # people have drawn them a tenth closer already
    want = np.linalg.norm(points[0, 37] - points[0, 41]) * 0.5 / (1 - labels.PEOPLE_CLOSE / 2)
    assert np.linalg.norm(half[0, 37] - half[0, 41]) == pytest.approx(want)


def test_lid_gaps_by_hand():
    mesh = np.zeros((1, 478, 3))
    for outer, inner, *pairs in labels.MESH_EYES:
        mesh[0, outer], mesh[0, inner] = (0, 0, 0), (10, 0, 0)
        for k, (upper, lower) in enumerate(pairs):
            mesh[0, upper], mesh[0, lower] = (5, -k, 3), (5, k, -3)
    np.testing.assert_allclose(labels.lid_gaps(mesh), [[0.2, 0.2]])


def test_nme_by_hand():
    truth = np.zeros((68, 2))
    truth[0], truth[1] = (0, 0), (40, 90)
    assert labels.nme(truth + np.array([3, 4]), truth) == pytest.approx(5 / 60)


def test_points_in_the_cut_are_where_the_picture_is():
    image = np.zeros((120, 160, 3), np.uint8)
    image[50:53, 80:83] = 255  # its middle is (81.5, 51.5)
    roi = Roi(60.0, 30.0, 50.0, 20.0)
    found = cut(image, roi, 100).sum(axis=2).astype(float)
    y, x = np.mgrid[:100, :100] + 0.5
    centre = np.array([(x * found).sum(), (y * found).sum()]) / found.sum()
    np.testing.assert_allclose(crops.to_crop(np.array([81.5, 51.5]), roi, 100), centre, atol=0.1)


def test_the_cut_stands_faces_upright():
    points = face_68()[:, :2] + 100
    angle = np.radians(25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilted = points @ turn.T
    upright = crops.to_crop(tilted, crops.upright_roi(tilted), 200)
    eyes = upright[42:48].mean(axis=0) - upright[36:42].mean(axis=0)
    assert abs(eyes[1]) < 1e-6 * eyes[0]


def test_the_people_speak_for_the_networks():
    """The regression beats both labellers on people that it has not seen."""
    need_material("faces", "annotated_68.npz")
    known = labels.build()
    seen = ~np.isnan(known.annotated[:, 0, 0]) & known.held_out & ~np.isnan(known.mesh[:, 0, 0])
    ours = np.mean([labels.nme(p, a) for p, a in zip(known.points[seen], known.annotated[seen], strict=True)])
    theirs = np.mean(
        [
            labels.nme(m[material.MESH_TO_68, :2], a)
            for m, a in zip(known.mesh[seen], known.annotated[seen], strict=True)
        ]
    )
    assert ours < 0.026 < 0.035 < theirs
    photos = material.photos()
    trained = {photos[row].identity for row in known.photo[~known.held_out]} - {""}
    assert not trained & {photos[row].identity for row in known.photo[known.held_out]}
