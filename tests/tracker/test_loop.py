"""A track's life, frame by frame, with a detector and a regressor that cannot be wrong about where a disc is."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from facet.tracker import observing, publishing
from facet.tracker.crop import cut_batch
from facet.tracker.errors import ConfigError, ImageError
from facet.tracker.loop import FaceTracker
from facet.tracker.smoothing import SmoothingConfig
from facet.tracker.tracks import TrackerConfig
from facet.tracker.types import Box, FaceParams, TrackState
from tests.tracker.fakes import BLUE, RED, YELLOW, DiscDetector, DiscRegressor, RingModel, frame

RAW = SmoothingConfig(enabled=False)


def make_tracker(detect=None, regressor=None, smoothing=RAW, **settings):
    detect = detect or DiscDetector()
    regressor = regressor or DiscRegressor()
    tracker = FaceTracker(detect, regressor, RingModel(), config=TrackerConfig(**settings), smoothing=smoothing)
    return tracker, detect, regressor


def centre(face):
    return face.landmarks[:, :2].mean(axis=0)


def test_nothing_there_is_an_empty_tuple_for_ever():
    tracker, detect, regressor = make_tracker()
    for index in range(100):
        assert tracker.step(frame(index)) == ()
    assert detect.calls == 100
    assert regressor.runs == []


def test_detector_rests_while_a_face_is_tracked():
    tracker, detect, _ = make_tracker(redetect_s=100.0)
    for index in range(20):
        faces = tracker.step(frame(index, (100, 100, 30, RED)))
        assert len(faces) == 1
    assert detect.calls == 1


def test_detector_rests_when_there_is_no_room():
    tracker, detect, _ = make_tracker(max_faces=1, redetect_s=0.1)
    for index in range(60):
        tracker.step(frame(index, (100, 100, 30, RED), (230, 100, 30, BLUE)))
    assert detect.calls == 1


def test_a_face_is_drawn_from_its_first_frame_and_confirmed_later():
    tracker, _, regressor = make_tracker(confirm_frames=3)
    states = []
    for index in range(4):
        (face,) = tracker.step(frame(index, (100, 100, 30, RED)))
        states.append(face.state)
        assert face.detected == (index == 0)
    assert states == [TrackState.TENTATIVE, TrackState.TENTATIVE, TrackState.TRACKED, TrackState.TRACKED]
    assert regressor.runs == [1, 4, 1, 1, 1], "a new box gets two passes, the second at two zooms, mirrored, too"


def test_landmarks_sit_on_the_disc_wherever_it_goes():
    tracker, _, _ = make_tracker()
    for index in range(60):
        x, y = 100 + 2 * index, 120 + 30 * np.sin(index / 8)
        (face,) = tracker.step(frame(index, (x, y, 30, RED)))
        np.testing.assert_allclose(centre(face), [x, y], atol=0.6)
        assert face.id == 1


def test_a_crop_is_where_the_face_will_be():
    tracker, _, _ = make_tracker(redetect_s=100.0)
    for index in range(25):
        x = 60 + 8 * index
        (face,) = tracker.step(frame(index, (x, 120, 30, RED)))
        if index >= 3:
            assert face.roi.centre == pytest.approx((x, 120), abs=1.5)


def test_faces_share_one_network_run():
    tracker, _, regressor = make_tracker(redetect_s=100.0)
    for index in range(3):
        tracker.step(frame(index, (60, 100, 25, RED), (160, 100, 25, BLUE), (260, 100, 25, YELLOW)))
    assert regressor.runs == [3, 12, 3, 3]


def test_a_new_face_is_seen_in_the_mirror_too():
    """A network that sees all faces too far right is right on average, once, and then has its way."""

    class Leaning(DiscRegressor):
        def _regress(self, crop):
            face = super()._regress(crop)
            face.camera[0, 3] += 3.0  # px of the crop
            return face

    tracker, _, regressor = make_tracker(regressor=Leaning(), smoothing=RAW, start_fit=0.0)
    (first,) = tracker.step(frame(0, (100, 100, 30, RED)))
    (second,) = tracker.step(frame(1, (100, 100, 30, RED)))
    np.testing.assert_allclose(centre(first), (100, 100), atol=0.3)
    assert centre(second)[0] - 100 == pytest.approx(3.0 * second.roi.size / regressor.size, abs=0.3)


@pytest.mark.parametrize("zooms", [observing.CLOSE_ZOOMS, (0.8,), (0.8, 0.9)])
def test_new_faces_lie_where_they_are_at_whatever_zoom_they_are_seen(zooms, monkeypatch):
    monkeypatch.setattr(observing, "CLOSE_ZOOMS", zooms)
    tracker, _, regressor = make_tracker()
    left, right = tracker.step(frame(0, (80, 100, 20, RED), (220, 110, 40, BLUE)))
    assert regressor.runs == [2, 4 * len(zooms)]
    for face, centre_px, radius_px in ((left, (80, 100), 20), (right, (220, 110), 40)):
        np.testing.assert_allclose(centre(face), centre_px, atol=0.4)
        assert np.ptp(face.landmarks[:, 0]) == pytest.approx(2 * radius_px, rel=0.03)
        assert face.roi.centre == pytest.approx(centre_px, abs=0.6)
        assert face.roi.size == pytest.approx(3 * radius_px, rel=0.03)  # whatever the zooms


@pytest.mark.parametrize(("allowed", "left_out"), [(1, True), (2, True), (3, False), (4, False)])
def test_faces_that_are_left_out_are_noticed(allowed, left_out):
    tracker, _, _ = make_tracker(max_faces=allowed)
    discs = (50, 60, 20, RED), (160, 60, 20, BLUE), (260, 60, 20, YELLOW)
    assert not tracker.left_out
    for index in range(5):
        assert len(tracker.step(frame(index, *discs))) == min(allowed, 3)
        assert tracker.left_out == left_out


def test_a_face_in_a_photograph_is_tracked_at_once():
    tracker, _, _ = make_tracker()
    for index in range(2):
        (face,) = tracker.step(replace(frame(index, (100, 100, 30, RED), first=True), still=True))
        assert face.state is TrackState.TRACKED


def test_at_most_max_faces():
    tracker, _, _ = make_tracker(max_faces=2)
    faces = tracker.step(frame(0, (60, 100, 25, RED), (160, 100, 25, BLUE), (260, 100, 25, YELLOW)))
    assert [face.id for face in faces] == [1, 2]


def test_a_newcomer_is_found_at_the_slow_cadence():
    tracker, detect, _ = make_tracker(redetect_s=0.5)
    for index in range(10):
        assert len(tracker.step(frame(index, (80, 100, 25, RED)))) == 1
    seen = [len(tracker.step(frame(index, (80, 100, 25, RED), (240, 120, 25, BLUE)))) for index in range(10, 30)]
    assert seen == sorted(seen)
    assert seen[-1] == 2
    assert detect.calls <= 3


@pytest.mark.parametrize("with_score", [True, False])
def test_a_face_that_vanishes_is_lost_at_once_and_found_again_with_its_id(with_score):
    tracker, _, _ = make_tracker(regressor=DiscRegressor(with_score), verify_s=0.1)
    disc = (100, 100, 30, RED)
    for index in range(10):
        tracker.step(frame(index, disc))
    gone = [len(tracker.step(frame(index))) for index in range(10, 40)]
    assert gone == [0] * 30
    (face,) = tracker.step(frame(40, disc))
    assert face.id == 1
    assert face.detected


def test_after_the_memory_time_a_face_is_a_new_one():
    tracker, _, _ = make_tracker(memory_s=1.0)
    for index in range(10):
        tracker.step(frame(index, (100, 100, 30, RED)))
    for index in range(10, 60):
        tracker.step(frame(index))
    (face,) = tracker.step(frame(60, (100, 100, 30, RED)))
    assert face.id == 2


def test_another_face_does_not_inherit_the_id():
    tracker, _, _ = make_tracker()
    for index in range(10):
        tracker.step(frame(index, (100, 100, 30, RED)))
    for index in range(10, 20):
        tracker.step(frame(index))
    (face,) = tracker.step(frame(20, (220, 120, 30, BLUE)))
    assert face.id == 2
    ids = {face.id for face in tracker.step(frame(51, (220, 120, 30, BLUE), (100, 100, 30, RED)))}
    assert ids == {1, 2}


def test_two_faces_keep_two_ids_side_by_side():
    tracker, _, _ = make_tracker()
    for index in range(90):
        wave = 15 * np.sin(index / 7)
        faces = tracker.step(frame(index, (90 + wave, 110, 28, RED), (230 - wave, 110, 28, BLUE)))
        where = {face.id: centre(face)[0] for face in faces}
        assert set(where) == {1, 2}
        assert where[1] < 160 < where[2]


def test_live_newcomers_are_looked_for_beside_the_loop():
    class SlowDetector(DiscDetector):
        def __init__(self):
            super().__init__()
            self.may_finish = threading.Event()
            self.threads = set()

        def __call__(self, image):
            self.threads.add(threading.current_thread())
            if self.calls:
                assert self.may_finish.wait(10)
            return super().__call__(image)

    detect = SlowDetector()
    tracker = FaceTracker(
        detect, DiscRegressor(), RingModel(), config=TrackerConfig(redetect_s=0.2), smoothing=RAW, live=True
    )
    discs = [(80, 100, 25, RED)]
    for index in range(7):
        assert len(tracker.step(frame(index, *discs))) == 1
    discs.append((240, 120, 25, BLUE))
    for index in range(7, 20):
        assert len(tracker.step(frame(index, *discs))) == 1, "the search is under way and nobody waits for it"
    detect.may_finish.set()
    index, faces = 20, ()
    while len(faces) < 2 and index < 1000:
        faces = tracker.step(frame(index, *discs))
        index += 1
        time.sleep(0.001)
    assert {face.id for face in faces} == {1, 2}
    tracker.close()
    assert all(not thread.is_alive() for thread in detect.threads - {threading.current_thread()})


def test_a_cut_detects_at_once_and_tells_people_apart():
    tracker, _, _ = make_tracker(redetect_s=100.0)
    for index in range(10):
        tracker.step(frame(index, (100, 100, 40, RED)))
    ids = []
    for index in range(10, 20):
        (face,) = tracker.step(frame(index, (220, 140, 60, BLUE), background=200))
        ids.append(face.id)
    assert ids == [2] * 10
    (face,) = tracker.step(frame(20, (100, 100, 40, RED)))
    assert face.id == 1


def test_a_face_that_leaves_the_picture_is_given_up():
    tracker, _, _ = make_tracker()
    visible = []
    for index in range(40):
        visible.append(len(tracker.step(frame(index, (250 + 4 * index, 120, 30, RED)))))
    assert visible[0] == 1
    assert visible[-10:] == [0] * 10


def test_two_tracks_never_sit_on_one_face():
    class DoubleDetector(DiscDetector):
        def __call__(self, image):
            boxes = super().__call__(image)
            return tuple(
                Box(b.x_min + d, b.y_min, b.x_max + d, b.y_max, b.score - abs(d) / 100) for b in boxes for d in (0, 9)
            )

    tracker, _, _ = make_tracker(DoubleDetector())
    for index in range(5):
        assert len(tracker.step(frame(index, (100, 100, 30, RED)))) == 1


def test_a_still_begins_anew():
    tracker, _, _ = make_tracker()
    for index in range(3):
        (face,) = tracker.step(frame(index, (100, 100, 30, RED), first=True))
        assert face.id == 1
        assert face.state is TrackState.TENTATIVE


def test_redetect_on_request():
    tracker, detect, _ = make_tracker(redetect_s=100.0)
    for index in range(5):
        tracker.step(frame(index, (100, 100, 30, RED)))
    tracker.redetect()
    (face,) = tracker.step(frame(5, (100, 100, 30, RED)))
    assert detect.calls == 2
    assert face.id == 1


def test_the_detector_finds_a_wall_and_the_score_denies_it():
    tracker, _, _ = make_tracker(lambda image: (Box(10, 10, 60, 60, 0.99),))
    for index in range(10):
        assert tracker.step(frame(index)) == ()


def test_a_replayed_track_is_the_same():
    def track():
        tracker, _, _ = make_tracker(smoothing=SmoothingConfig())
        return [tracker.step(frame(i, (100 + 3 * i, 100, 30, RED)))[0].landmarks for i in range(20)]

    np.testing.assert_array_equal(track(), track())


class RollingHead(DiscRegressor):
    """A head whose roll is known; its camera holds what the turned crop has not taken away."""

    crop_spec = replace(DiscRegressor.crop_spec, upright=True)
    roll_deg = 0.0
    crop_roll_deg = 0.0

    def _regress(self, crop):
        face = super()._regress(crop)
        angle = np.radians(self.roll_deg - self.crop_roll_deg)
        turn = np.float32([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        face.camera[:, :3] = turn @ face.camera[:, :3]
        return face


def test_the_next_crop_turns_half_way_after_the_head(monkeypatch):
    head = RollingHead()

    def reported(image, rois, *rest):
        head.crop_roll_deg = rois[0].roll_deg
        return cut_batch(image, rois, *rest)

    monkeypatch.setattr(observing, "cut_batch", reported)
    tracker, _, _ = make_tracker(regressor=head, redetect_s=100.0)
    left = []
    for index, head.roll_deg in enumerate([170.0, 170.0] + 5 * [190.0]):
        (face,) = tracker.step(frame(index, (100, 100, 30, RED)))
        assert np.cos(np.radians(face.pose.roll_deg - head.roll_deg)) == pytest.approx(1), "the answer is the head's"
        left.append((190.0 - face.roi.roll_deg) % 360)
    # a new face's crop has all of the roll at once; a turn by way of 180 degrees is the short way round
    assert left == pytest.approx([20, 20, 20, 10, 5, 2.5, 1.25], abs=0.01)


WAY = [(100 + 30 * np.sin(i / 5), 100 + 12 * np.cos(i / 4), 30, RED) for i in range(40)]


def run_through(tracker, frames):
    pairs = [pair for f in frames for pair in tracker.push(f)]
    return pairs + tracker.flush()


@pytest.mark.parametrize("lookahead", [0, 1, 6, 100])
def test_looking_ahead_keeps_every_frame_in_order_with_its_own_faces(lookahead):
    tracker, _, _ = make_tracker(smoothing=SmoothingConfig(lookahead=lookahead))
    frames = [frame(i, *([disc] if i != 20 else [])) for i, disc in enumerate(WAY)]
    ready = [len(tracker.push(f)) for f in frames]
    assert ready == [int(i >= lookahead) for i in range(40)]
    tracker.flush()
    pairs = run_through(tracker, [frame(i, *([disc] if i != 20 else []), first=i == 0) for i, disc in enumerate(WAY)])
    assert [f.index for f, _ in pairs] == list(range(40))
    for f, faces in pairs:
        assert len(faces) == int(f.index != 20)
        for face in faces:
            assert face.detected == (f.index in (0, 21))
            np.testing.assert_allclose(centre(face), WAY[f.index][:2], atol=2.5)
    assert tracker.flush() == []


def test_looking_ahead_is_nearer_than_looking_back():
    errors = {}
    for lookahead in (0, 8):
        tracker, _, _ = make_tracker(
            smoothing=SmoothingConfig(lookahead=lookahead, position_cutoff_hz=1.0, position_beta=0.0)
        )
        pairs = run_through(tracker, [frame(i, disc) for i, disc in enumerate(WAY)])
        errors[lookahead] = np.mean([np.linalg.norm(centre(faces[0]) - WAY[f.index][:2]) for f, faces in pairs[10:]])
    assert errors[8] < 0.5 * errors[0]


def test_looking_ahead_stops_at_a_cut():
    """The last frame before and the first after it are where their faces are, whatever lies beyond."""
    tracker, _, _ = make_tracker(smoothing=SmoothingConfig(lookahead=5), redetect_s=100.0)
    frames = [frame(i, (100, 100, 40, RED)) for i in range(12)]
    frames += [frame(i, (220, 140, 60, BLUE), background=200) for i in range(12, 24)]
    pairs = run_through(tracker, frames)
    for f, (face,) in pairs:
        np.testing.assert_allclose(centre(face), (100, 100) if f.index < 12 else (220, 140), atol=0.6)


def test_live_never_looks_ahead():
    with pytest.raises(ConfigError, match=r"lookahead=4.*live"):
        FaceTracker(DiscDetector(), DiscRegressor(), RingModel(), smoothing=SmoothingConfig(lookahead=4), live=True)


class CountingReader:
    """Reports a face how often it has been read, in hundredths; what it is given it keeps."""

    def __init__(self):
        self.given = []

    def start(self):
        count = 0

        def read(answer):
            nonlocal count
            count += 1
            self.given.append(answer)
            return np.float32([count / 100])

        return read


def test_blendshapes_are_read_once_a_frame_by_a_reading_that_stays_with_the_face():
    reader = CountingReader()
    tracker = FaceTracker(DiscDetector(), DiscRegressor(), RingModel(), reader=reader, smoothing=RAW)
    red, blue = (100, 100, 30, RED), (230, 100, 30, BLUE)
    for index in range(10):
        (face,) = tracker.step(frame(index, red))
    assert face.blendshapes == {"jawOpen": pytest.approx(0.10)}
    np.testing.assert_array_equal(face.expression, reader.given[-1])  # the mesh is drawn as the network says
    for index in range(10, 20):
        tracker.step(frame(index))
    reported = {face.id: face.blendshapes["jawOpen"] for face in tracker.step(frame(20, red, blue))}
    assert reported == {1: pytest.approx(0.11), 2: pytest.approx(0.01)}
    tracker.reset()
    (face,) = tracker.step(frame(21, red))
    assert face.blendshapes == {"jawOpen": pytest.approx(0.01)}


def test_looking_ahead_reads_blendshapes_in_the_order_of_the_frames():
    tracker = FaceTracker(
        DiscDetector(), DiscRegressor(), RingModel(), reader=CountingReader(), smoothing=SmoothingConfig(lookahead=3)
    )
    done = [pair for index in range(12) for pair in tracker.push(frame(index, (100, 100, 30, RED)))] + tracker.flush()
    assert [faces[0].blendshapes["jawOpen"] for _, faces in done] == pytest.approx([k / 100 for k in range(1, 13)])


def test_no_reader_is_asked_where_another_model_is_drawn(monkeypatch):
    class Fitted(RingModel):
        sparse = SimpleNamespace(mean=RingModel.mean, basis=RingModel.sparse.basis, lines=np.zeros(68))

    params = FaceParams(np.eye(3, 4, dtype=np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32), None)
    monkeypatch.setattr(publishing, "LandmarkFitter", lambda model, jaw_slides: lambda landmarks: params)
    reader = CountingReader()
    tracker = FaceTracker(DiscDetector(), DiscRegressor(), Fitted(), RingModel(), reader, smoothing=RAW)
    assert tracker.step(frame(0, (100, 100, 30, RED))) and not reader.given


def test_vertices_only_when_asked_for():
    tracker, _, _ = make_tracker()
    assert tracker.step(frame(0, (100, 100, 30, RED)))[0].vertices is None
    tracker.with_vertices = True
    (face,) = tracker.step(frame(1, (100, 100, 30, RED)))
    np.testing.assert_allclose(face.vertices, face.landmarks, atol=1e-4)


@pytest.mark.parametrize("size_wh", [(1, 1), (2000, 3), (3, 900)])
def test_odd_pictures(size_wh):
    from facet.tracker.types import Frame

    tracker, _, _ = make_tracker()
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for index in range(3):
        assert tracker.step(Frame(index, index / 30, image)) == ()


class ContraryRegressor(DiscRegressor):
    """Reports a face that looks too small in its crop to be smaller still, and the other way round."""

    def _regress(self, crop):
        face = super()._regress(crop)
        usual = self.size / (2 * self.crop_spec.landmark_scale)
        face.camera[:, :3] *= (50 * face.camera[0, 0] / usual) ** 1.2
        return face


def test_the_crop_does_not_swing_with_a_network_that_answers_to_it():
    tracker, _, _ = make_tracker(regressor=ContraryRegressor(), start_fit=0.0)
    sizes = [tracker.step(frame(k, (160, 120, 40, RED), first=k == 0))[0].roi.size for k in range(20)]
    assert np.ptp(sizes[-5:]) < 0.01 * sizes[-1], "followed all the way, it would grow and shrink by turns"
    assert sizes[-1] == pytest.approx(1.5 * 80, rel=0.1)


@pytest.mark.parametrize(("way_px", "followed_px"), [(4, 2), (-4, -2), (0, 0), (6, 3), (100, 97), (-100, -97)])
def test_small_ways_are_followed_in_part_and_all_beyond_at_once(way_px, followed_px):
    assert observing.followed(way_px, gain=0.5, calm_px=6) == followed_px


def test_an_array_is_tracked_as_a_photograph_or_a_frame():
    tracker, detect, _ = make_tracker(redetect_s=100.0)
    image = frame(0, (100, 100, 30, RED)).image
    for _ in range(2):
        (face,) = tracker.track(image)
        assert face.state is TrackState.TRACKED and face.detected
    ids = [tracker.track(image, time_s=k / 30)[0].id for k in range(5)]
    assert len(set(ids)) == 1
    assert detect.calls == 2, "two photographs were searched; the frames after them followed the face"


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (None, "cv2.imread"),
        ([[1, 2, 3]], "list"),
        (np.zeros((4, 4), np.uint8), r"uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
    ],
)
def test_what_is_no_image_is_an_error_that_says_what_is_expected(image, found):
    tracker, _, _ = make_tracker()
    with pytest.raises(ImageError, match=rf"expected an image as an array \(H, W, 3\) of uint8, BGR, found .*{found}"):
        tracker.track(image)


def test_step_takes_frames_and_names_what_takes_arrays():
    tracker, _, _ = make_tracker()
    with pytest.raises(ImageError, match=r"arrays go to track\(\)"):
        tracker.step(np.zeros((4, 4, 3), np.uint8))
