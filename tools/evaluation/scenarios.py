"""What becomes of tracks when things happen: python -m tools.evaluate scenarios [--config PATH] [-o docs/scenarios.md]

Faces cut out of held-out photographs are moved over a room by a script, so that the truth is known; the profile is the
face model itself, turned. The tracker runs at its defaults. Counted a clip:

- lost: frames in which a face that can be seen is not tracked
- false: tracked faces where none is
- reacquire: most frames until a face that is back is tracked again (0: at once)
- switches: changes of a face's ID, and IDs that two faces had
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facet.assembly import build_tracker
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.stages import Stages
from facet.tracker.types import Frame
from facet.tracker.weights import find_entry, load_arrays
from tools.data import material
from tools.evaluation.photographs import held_out_photographs

SIZE_WH, FPS = (960, 540), 30
FACE_PX = 170.0  # longer side of the landmarks
PEOPLE = 3  # of a cast
CASTS = 4  # each scenario is played by so many, each in rooms of its own
SEEN, COVERED, ABSENT = 1, 0, -1  # what a script says of a face: must be tracked, may be, must not be
LIMITS = {"lost": 0, "false": 0, "reacquire": 2, "switches": 0}


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """A face with its hair, ready to be laid over a picture."""

    picture: np.ndarray  # (h, w, 3) float32 BGR
    mask: np.ndarray  # (h, w, 1) float32, 1 inside
    middle: np.ndarray  # (2,) of the landmarks, px of the picture
    points: np.ndarray | None = None  # (68, 2) landmarks, px of the picture


Shown = tuple[np.ndarray, dict[int, tuple[np.ndarray, int]]]  # picture; person -> (middle of the face, SEEN ...)


def cut_out(photo: np.ndarray, points: np.ndarray) -> Person:
    """The head of an annotated photograph, landmarks (68, 2), as large as all others."""
    zoom = FACE_PX / np.ptp(points, axis=0).max()
    photo = cv2.resize(photo, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC)
    points = points * zoom
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    mask = np.zeros(photo.shape[:2], np.float32)
    head = (float(middle[0]), float(middle[1] - 0.17 * FACE_PX)), (1.5 * FACE_PX, 1.85 * FACE_PX), 0.0
    cv2.ellipse(mask, head, 1.0, -1)
    mask[[0, -1], :] = mask[:, [0, -1]] = 0
    return Person(photo.astype(np.float32), cv2.GaussianBlur(mask, (0, 0), 6)[..., None], middle, points)


def lay(picture: np.ndarray, person: Person, middle) -> None:
    """Lay a head over a float32 picture, the middle of its face at `middle`."""
    size_wh = picture.shape[1::-1]
    shift = np.float32([[1, 0, middle[0] - person.middle[0]], [0, 1, middle[1] - person.middle[1]]])
    head = cv2.warpAffine(person.picture, shift, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(person.mask, shift, size_wh, flags=cv2.INTER_LINEAR)[..., None]
    picture += mask * (head - picture)


class Stage:
    """A room and people; the scripts are its methods, generators of what each frame shows."""

    def __init__(self, room: np.ndarray, other_room: np.ndarray, people: list[Person]):
        self.room, self.other_room, self.people = room, other_room, people

    def shot(self, *who: tuple[int, tuple[float, float], int], room: np.ndarray | None = None) -> Shown:
        """People (index, place, SEEN ...) in a room, the last one in front."""
        picture = (self.room if room is None else room).copy()
        for index, place, _ in who:
            lay(picture, self.people[index], place)
        return picture, {index: (np.array(place, float), state) for index, place, state in who}

    def hand_over_the_mouth(self) -> Iterator[Shown]:
        """A hand comes from below, rests on the mouth, and goes."""
        yield from self._hand(reach=0.12, state=SEEN)

    def hand_over_the_face(self) -> Iterator[Shown]:
        """The same hand, over all of the face for a second."""
        yield from self._hand(reach=-0.95, state=COVERED)

    def _hand(self, reach: float, state: int) -> Iterator[Shown]:
        x, y = 480, 250
        way = np.concatenate([np.ones(20), np.linspace(1, 0, 20), np.zeros(30), np.linspace(0, 1, 20), np.ones(20)])
        for up in way:
            covers = up < 0.98 and state == COVERED
            picture, faces = self.shot((0, (x, y), COVERED if covers else SEEN))
            top = y + FACE_PX * (reach + 2.2 * up)
            skin, shade = (132, 156, 206), (104, 126, 178)
            for finger in range(4):
                centre = (round(x - 66 + 44 * finger), round(top + 62 - 14 * (finger in (1, 2))))
                cv2.ellipse(picture, centre, (25, 66), 0, 0, 360, shade, -1, cv2.LINE_AA)
                cv2.ellipse(picture, centre, (21, 63), 0, 0, 360, skin, -1, cv2.LINE_AA)
            cv2.ellipse(picture, (x, round(top + 190)), (104, 140), 0, 0, 360, skin, -1, cv2.LINE_AA)
            yield picture, faces

    def out_of_the_picture_and_back(self) -> Iterator[Shown]:
        """A face leaves to the left, stays away for a second, and comes back."""
        out = -0.75 * FACE_PX
        way = np.concatenate([np.full(15, 300), np.linspace(300, out, 30), np.full(30, out), np.linspace(out, 300, 30), np.full(15, 300)])  # fmt: skip  # noqa: E501
        for x in way:
            inside = np.clip(x / FACE_PX + 0.5, 0, 1)
            yield self.shot((0, (x, 260), SEEN if inside > 0.8 else COVERED if inside > 0 else ABSENT))

    def gone_for_two_seconds(self) -> Iterator[Shown]:
        """A face is away for two seconds and comes back elsewhere."""
        for t in range(120):
            place, state = ((300, 260) if t < 30 else (650, 240)), (SEEN if t < 30 or t >= 90 else ABSENT)
            yield self.shot((0, place, state)) if state == SEEN else self.shot()

    def two_cross(self) -> Iterator[Shown]:
        """Two faces pass each other, one before the other."""
        for t in range(90):
            x = 220 + 520 * t / 89
            gap = abs(x - (960 - x)) / FACE_PX
            # heads are wider than faces: the one behind is clear where the heads no longer touch
            yield self.shot((1, (960 - x, 255), SEEN if gap > 1.6 else COVERED), (0, (x, 265), SEEN))

    def cut_to_another_and_back(self) -> Iterator[Shown]:
        """Three shots of a second each; the middle one shows somebody else in another room."""
        for t in range(90):
            other = 30 <= t < 60
            yield self.shot(
                (int(other), (560, 240) if other else (430, 270), SEEN), room=self.other_room if other else None
            )

    def fade_to_black_and_back(self) -> Iterator[Shown]:
        """Light goes within a second, is away for one, and comes back."""
        light = np.concatenate([np.ones(15), np.linspace(1, 0, 30), np.zeros(30), np.linspace(0, 1, 30), np.ones(15)])
        for share in light:
            state = SEEN if share > 0.3 else COVERED if share > 0 else ABSENT
            picture, faces = self.shot((0, (480, 260), state))
            yield picture * share, faces

    def freeze(self) -> Iterator[Shown]:
        """A moving face stands still for two seconds, as when a stream hangs, and jumps to where it is by then."""
        for t in range(120):
            seen = 30 if 30 <= t < 90 else t
            yield self.shot((0, (480 + 120 * np.sin(seen / 20), 260), SEEN))

    def darkness(self) -> Iterator[Shown]:
        """Lamps go out, one eighth of the light stays, and they go on again."""
        for t in range(90):
            picture, faces = self.shot((0, (480, 260), SEEN))
            yield picture * (0.125 if 30 <= t < 60 else 1.0), faces

    def before_a_poster(self) -> Iterator[Shown]:
        """A face hangs on the wall; somebody walks by before it and stands beside it."""
        for t in range(120):
            x = 160 + 8 * min(t, 80)
            gap = abs(x - 480) / FACE_PX
            yield self.shot((2, (480, 235), SEEN if gap > 1.6 else COVERED), (0, (x, 270), SEEN))

    def three_of_them(self) -> Iterator[Shown]:
        """Three faces, each on its own way."""
        for t in range(90):
            yield self.shot(*((i, (170 + 310 * i + 40 * np.sin(t / 9 + i), 260 + 30 * np.cos(t / 7 + 2 * i)), SEEN) for i in range(3)))  # fmt: skip  # noqa: E501

    def nobody(self) -> Iterator[Shown]:
        """Two empty rooms."""
        for t in range(60):
            yield self.shot(room=self.other_room if t >= 30 else None)

    def profile(self) -> Iterator[Shown]:
        """The face model turns its head by 85 degrees to one side, then to the other."""
        from facet.tracker.morphable import load_face_model
        from facet.tracker.pose import camera_from_pose, rotation_from_angles
        from facet.tracker.types import Pose
        from tools.actor import Actor, Look

        model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
        texture, rng = load_arrays(find_entry("weights/skin.npz", "skin").path), np.random.default_rng(4)
        shape = (0.7 * rng.normal(size=model.shape_count)).astype(np.float32)
        actor = Actor(model, texture, shape, Look(skin=0.5 * rng.normal(size=len(texture["modes"]))))
        still = np.zeros(len(model.expression_names), np.float32)
        for t in range(90):
            yaw = 85 * np.sin(2 * np.pi * max(0, t - 10) / 80)
            pose = Pose(rotation_from_angles(yaw, 3, 0), 1.3, np.array([480, 270, 0.0]), yaw, 3.0, 0.0)
            camera = camera_from_pose(pose)
            points = model.landmarks(camera, actor.shape, still)[:, :2]
            middle = (points.min(axis=0) + points.max(axis=0)) / 2
            yield actor.draw(self.room, camera, still), {0: (middle, SEEN)}


SCENARIOS = (
    "hand_over_the_mouth", "hand_over_the_face", "out_of_the_picture_and_back", "gone_for_two_seconds", "two_cross",
    "cut_to_another_and_back", "fade_to_black_and_back", "freeze", "darkness", "before_a_poster", "three_of_them",
    "nobody", "profile",
)  # fmt: skip


def judge(
    truth: list[dict[int, tuple[np.ndarray, int]]], found: list[list[tuple[int, np.ndarray, float]]]
) -> dict[str, int]:
    """The counts of a clip. `found`: each frame's faces as (ID, middle and longer side of the landmarks' box)."""
    lost = false = reacquire = 0
    ids: dict[int, list[int]] = {}
    waited: dict[int, int | None] = {}  # frames since a face is back; None: it has been tracked since
    for people, faces in zip(truth, found, strict=True):
        left = list(faces)
        for person in set(waited) - set(people):
            waited[person] = 0
        # who is seen first: a face that is covered has no claim on the face before it
        for person, (middle, state) in sorted(people.items(), key=lambda entry: -entry[1][1]):
            near = min(left, key=lambda face: np.linalg.norm(face[1] - middle), default=None)
            # of a face that is half covered, the half that shows counts
            if near is not None and np.linalg.norm(near[1] - middle) > (0.45 if state == SEEN else 0.75) * FACE_PX:
                near = None
            if state == SEEN and near is not None and not 1 / 1.5 < near[2] / FACE_PX < 1.5:
                near = None  # on a part of the face
            if near is not None and state != ABSENT:
                left = [face for face in left if face is not near]
            if state == SEEN:
                if near is None:
                    lost += 1
                    waited[person] = (waited.get(person) or 0) + 1
                    reacquire = max(reacquire, waited[person])
                else:
                    ids.setdefault(person, []).append(near[0])
                    waited[person] = 0
        false += len(left)
    switches = sum(int((np.diff(seen) != 0).sum()) for seen in ids.values())
    switches += sum(len(set(a) & set(b)) for p, a in ids.items() for q, b in ids.items() if p < q)
    return {"lost": lost, "false": false, "reacquire": reacquire, "switches": switches}


def follow(tracker, script: Iterator[Shown], rng: np.random.Generator, watch: Callable | None = None):
    """Track a script; returns the truth and what was found, for `judge`."""
    truth, found = [], []
    for t, (picture, people) in enumerate(script):
        noise = 2.0 * rng.standard_normal(picture.shape, np.float32)
        image = np.clip(picture + noise, 0, 255).astype(np.uint8)
        faces = tracker.step(Frame(t, t / FPS, image, first=t == 0))
        truth.append(people)
        boxes = [np.array(face.box).reshape(2, 2) for face in faces]
        found.append([(f.id, box.mean(axis=0), np.ptp(box, axis=0).max()) for f, box in zip(faces, boxes, strict=True)])
        if watch:
            watch(t, image, faces)
    return truth, found


def open_stages(count: int = CASTS) -> list[Stage]:
    """Rooms and people of the material; nobody plays twice."""

    def quality(points: np.ndarray) -> float:
        """Frontal and large: the nose between the eyes; small is good."""
        eyes = points[45] - points[36]
        nose = (points[30] - points[36]) @ eyes / (eyes @ eyes)
        return abs(nose - 0.5) + 20.0 / np.ptp(points, axis=0).max()

    best: dict[str, Person] = {}
    identities = {photo.file: photo.identity for photo in material.photos()}
    for name, image, points in sorted(held_out_photographs(), key=lambda entry: quality(entry[2])):
        if len(best) < count * PEOPLE and identities[name] not in best:
            best[identities[name]] = cut_out(image, points)
    actors = list(best.values())
    files = sorted((material.folder() / "faces" / "photos" / "backgrounds").iterdir())
    rooms = [
        cv2.GaussianBlur(cv2.resize(cv2.imread(str(files[40 + 25 * i])), SIZE_WH), (0, 0), 3).astype(np.float32)
        for i in range(2 * count)
    ]
    return [Stage(rooms[2 * i], rooms[2 * i + 1], actors[i::count]) for i in range(count)]


def table(results: dict[str, dict[str, int]], what: str) -> str:
    """As Markdown."""
    lines = [
        "# What becomes of tracks when things happen",
        "",
        "Made by `python -m tools.evaluate scenarios -o docs/scenarios.md`: faces cut out of photographs of people",
        "that nobody trained on are moved over a room by a script, so that the truth is known; the profile is the face",
        f"model itself, turned. Each is played by {CASTS} casts, in rooms of their own; the counts are sums, reacquire",
        f"the worst. {what}",
        "",
        "lost: frames in which a face that can be seen is not tracked. false: tracked faces where none is. reacquire:",
        "most frames until a face that is back is tracked again. switches: changes of a face's ID, and IDs that two",
        "faces had.",
        "",
        "| scenario | what happens | frames | lost | false | reacquire | switches |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        says = getattr(Stage, name).__doc__.strip()
        counts = " | ".join(str(result[key]) for key in ("frames", *LIMITS))
        lines.append(f"| {name.replace('_', ' ')} | {says} | {counts} |")
    return "\n".join(lines) + "\n"


def play(tracker, stage: Stage, name: str, video: Path | None) -> dict[str, int]:
    """The counts of one scenario with one cast."""
    watch = writer = None
    if video:
        video.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), FPS, SIZE_WH)

        def watch(t, image, faces):
            for face in faces:
                x0, y0, x1, y1 = (round(edge) for edge in face.box)
                cv2.rectangle(image, (x0, y0), (x1, y1), (0, 255, 0), 2)
                text = f"{face.id} {face.score or 0:.2f} {'detected' if face.detected else ''}"
                cv2.putText(image, text, (x0, y0 - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 255, 0), 2)
            cv2.putText(image, str(t), (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
            writer.write(image)

    truth, found = follow(tracker, getattr(stage, name)(), np.random.default_rng(3), watch)
    if writer:
        writer.release()
    return {"frames": len(truth), **judge(truth, found)}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.evaluate scenarios", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--casts", type=int, default=CASTS)
    parser.add_argument("--only", action="append", choices=SCENARIOS)
    parser.add_argument("-o", "--output", type=Path, help="write the table here")
    parser.add_argument("--video", type=Path, metavar="DIR", help="write what was tracked, to look at")
    args = parser.parse_args(arguments)
    config = load_config(AppConfig, args.config, args.set)
    tracker = build_tracker(config, Stages(), False)
    stages, results, met = open_stages(args.casts), {}, True
    for name in args.only or SCENARIOS:
        counts = [
            play(tracker, stage, name, args.video and args.video / f"{i}_{name}.mp4") for i, stage in enumerate(stages)
        ]
        results[name] = {key: (max if key == "reacquire" else sum)(c[key] for c in counts) for key in counts[0]}
        good = all(results[name][key] <= limit for key, limit in LIMITS.items() if key != "lost")
        met &= good
        print(f"{name:28} " + "  ".join(f"{k} {v}" for k, v in results[name].items()) + ("" if good else "  NOT MET"))
    if args.output:
        what = f"Networks: `{config.detector.weights}`, `{config.regressor.weights}`."
        args.output.parent.mkdir(exist_ok=True)
        args.output.write_text(table(results, what), encoding="utf-8")
    return 0 if met else 1
