"""What goes to other programs, read back the way they read it."""

import math
import socket
import struct
import time
from dataclasses import replace

import numpy as np
import pytest
from pythonosc.osc_bundle import OscBundle

from facet.tracker.arkit import ArkitBlendshapes
from facet.tracker.errors import ConfigError, SinkError
from facet.tracker.morphable import load_face_model
from facet.tracker.outputs.avatar import KEPT_S, Numbers, gaze_deg, quaternion
from facet.tracker.outputs.openseeface import features, openseeface_packets
from facet.tracker.outputs.osc import BUNDLE_BYTES, osc_message
from facet.tracker.outputs.receiver import Scheme
from facet.tracker.outputs.senders import SCHEMES, open_sender, parse_receiver, scheme_table
from facet.tracker.outputs.udp import REFUSED_S, udp
from facet.tracker.outputs.vmc import vmc_packets
from facet.tracker.pose import rotation_from_angles
from facet.tracker.types import Frame
from facet.tracker.weights import ROOT
from tests.render.heads import egg, place

HEAD = egg()
ANGLES = [(0, 0, 0), (30, 0, 0), (-60, 10, 5), (20, -30, 40), (0, 45, -170), (85, 5, 60)]


@pytest.fixture(scope="module")
def names():
    return tuple(load_face_model(ROOT / "weights" / "face_model.npz").expression_names)


def frame(index=3):
    return Frame(index, index / 30, np.zeros((480, 640, 3), np.uint8), source="clip.mp4")


def matrix(quaternion):
    """The rotation that a unit quaternion (x, y, z, w) does to column vectors, by Hamilton's products."""
    axis, w = np.array(quaternion[:3], float), float(quaternion[3])
    return np.array([v + 2 * np.cross(axis, np.cross(axis, v) + w * v) for v in np.eye(3)]).T


def face(yaw=0.0, pitch=0.0, roll=0.0, **weights):
    return replace(place(HEAD, yaw, pitch, roll, scale=0.7, at=(300, 200)), blendshapes=weights)


# Names, angles


def test_eyes_turn_as_far_as_the_mesh_says(names):
    model = load_face_model(ROOT / "weights" / "face_model.npz")
    regions = np.load(ROOT / "weights" / "face_model.npz")
    of_eye = np.isin(regions["region"], [list(regions["region_names"]).index(n) for n in ("iris", "pupil")])
    rest = model.vertices(np.zeros(48, np.float32), np.zeros(len(names), np.float32))
    for side, sign in (("L", 1), ("R", -1)):
        pupil = of_eye & (sign * rest[:, 0] > 0)
        middle = rest[pupil].mean(axis=0) - (0, 0, 14.3)
        for look in ("Up", "Down", "In", "Out"):
            weights = np.array([float(name == f"eyeLook{look}_{side}") for name in names], np.float32)
            x, y, z = model.vertices(np.zeros(48, np.float32), weights)[pupil].mean(axis=0) - middle
            long = {"L": "Left", "R": "Right"}[side]
            yaw, pitch = gaze_deg({f"eyeLook{look}{long}": 1.0}, long)
            assert np.degrees(np.arctan2(-x, z)) == pytest.approx(yaw, abs=3)
            assert np.degrees(np.arctan2(-y, np.hypot(x, z))) == pytest.approx(pitch, abs=3)


@pytest.mark.parametrize("angles", ANGLES)
def test_quaternions_turn_as_their_rotations(angles):
    rotation = rotation_from_angles(*angles)
    found = quaternion(rotation)
    assert np.linalg.norm(found) == pytest.approx(1) and found[3] >= 0
    np.testing.assert_allclose(matrix(found), rotation, atol=1e-6)


# VMC


def messages(packets):
    return [message for packet in packets for message in OscBundle(packet)]


def test_vmc_as_another_library_reads_it(names):
    weights = ArkitBlendshapes(names)(np.arange(53) / 100)
    packets = list(vmc_packets(0.1, face(20, -10, 5, **weights)))
    assert all(len(packet) <= BUNDLE_BYTES for packet in packets)
    found = messages(packets)
    assert [m.address for m in found[:3]] == ["/VMC/Ext/OK", "/VMC/Ext/T", "/VMC/Ext/Bone/Pos"]
    assert found[0].params == [1] and found[1].params == [pytest.approx(0.1)]
    assert found[2].params[0] == "Head"
    assert found[-1].address == "/VMC/Ext/Blend/Apply"
    reported = {m.params[0]: m.params[1] for m in found if m.address == "/VMC/Ext/Blend/Val"}
    assert len(reported) == 52  # what receivers of "perfect sync" know
    assert reported == pytest.approx(weights | {"tongueOut": 0.0})


@pytest.mark.parametrize("angles", ANGLES)
def test_the_head_of_an_avatar_turns_as_the_face_does(angles):
    """Unity: y up, left-handed, the avatar looks along z, its right hand at positive x."""
    (head,) = [m for m in messages(vmc_packets(0.0, face(*angles))) if m.address.endswith("Bone/Pos")]
    assert head.params[:4] == ["Head", 0, 0, 0]
    ours = rotation_from_angles(*angles)
    unity = matrix(head.params[4:])
    mirror = np.diag([-1, 1, 1])
    for point in np.eye(3):
        np.testing.assert_allclose(unity @ (mirror @ point), mirror @ (ours @ point), atol=1e-5)


def test_vmc_goes_on_where_nobody_is():
    assert [(m.address, m.params) for m in messages(vmc_packets(2.5, None))] == [
        ("/VMC/Ext/OK", [0]),
        ("/VMC/Ext/T", [2.5]),
    ]


def test_osc_texts_are_padded_to_four_bytes():
    assert osc_message("/a", "bcd", 2) == b"/a\0\0,si\0bcd\0\0\0\0\2"
    assert osc_message("/abc") == b"/abc\0\0\0\0,\0\0\0"


# OpenSeeFace


def read_openseeface(data):
    """The fields of one face, by the layout of Unity/OpenSee.cs."""
    assert (
        len(data) == 8 + 4 + 2 * 4 + 2 * 4 + 1 + 4 + 3 * 4 + 3 * 4 + 4 * 4 + 4 * 68 + 4 * 2 * 68 + 4 * 3 * 70 + 4 * 14
    )
    offset = 0

    def take(form):
        nonlocal offset
        values = struct.unpack_from("<" + form, data, offset)
        offset += struct.calcsize("<" + form)
        return np.array(values) if len(values) > 1 else values[0]

    fields = {"time": take("d"), "id": take("i"), "resolution": take("2f"), "open_right": take("f")}
    fields |= {"open_left": take("f"), "got_3d": take("B"), "error": take("f"), "quaternion": take("4f")}
    fields |= {"euler": take("3f"), "translation": take("3f"), "confidence": take("68f")}
    fields |= {"points": take("136f").reshape(68, 2), "points_3d": take("210f").reshape(70, 3), "features": take("14f")}
    return fields


def from_opencv_angles(x_deg, y_deg, z_deg):
    """The rotation of the angles that cv2.RQDecomp3x3 reports, by its documentation: (Qx Qy Qz)^T."""
    (a, b, c), (s, t, u) = np.cos(np.radians([x_deg, y_deg, z_deg])), np.sin(np.radians([x_deg, y_deg, z_deg]))
    qx = np.array([[1, 0, 0], [0, a, s], [0, -s, a]])
    qy = np.array([[b, 0, -t], [0, 1, 0], [t, 0, b]])
    qz = np.array([[c, u, 0], [-u, c, 0], [0, 0, 1]])
    return (qx @ qy @ qz).T


def only(track):
    (packet,) = openseeface_packets(frame(), {0: track}, now_s=0.1)
    return read_openseeface(packet)


def test_openseeface_head_at_rest():
    fields = only(replace(face(eyeBlinkRight=0.75), score=0.5))
    assert (fields["time"], fields["id"], fields["got_3d"]) == (pytest.approx(0.1), 0, 1)
    assert fields["resolution"].tolist() == [640, 480]
    assert (fields["open_right"], fields["open_left"]) == (0.25, 1.0)
    assert set(fields["confidence"]) == {0.5}
    x, y, z = fields["euler"] * (1, -1, 1)
    # what OpenSee.cs makes of it is no rotation
    np.testing.assert_allclose([math.remainder(a, 360) for a in (-(x + 180), y, z - 90)], 0, atol=1e-3)


def test_openseeface_places_a_face_where_unity_wants_it():
    """OpenSee.cs: x to image right, y up, z away, as units of a head; the nose right of and above the middle."""
    track = replace(face(), landmarks=face().landmarks - face().landmarks[30] + (420, 100, 0))
    x, y, z = only(track)["translation"]
    unit_px = 0.7 * 140
    np.testing.assert_allclose((-y, x, -z), (100 / unit_px, 140 / unit_px, 640 / unit_px), rtol=1e-5)


@pytest.mark.parametrize("angles", ANGLES)
def test_openseeface_points_and_pose_agree(angles):
    """Its camera sees the points of the head, turned and moved as sent, where the points of the image are."""
    track = face(*angles)
    fields = only(track)
    order = [*range(48), *range(49, 54), *range(55, 60), 48, 61, 62, 63, 54, 65, 66, 67]
    np.testing.assert_allclose(fields["points"][:66], track.landmarks[order, :2] - 0.5, atol=1e-3)
    # its quaternions turn row vectors
    rotation = matrix(fields["quaternion"]).T
    np.testing.assert_allclose(from_opencv_angles(*fields["euler"]), rotation, atol=1e-3)
    assert abs(fields["euler"][1]) <= 90
    solid = fields["points_3d"] * (1, -1, -1)
    depth = fields["translation"][2]
    seen = (solid @ rotation.T + fields["translation"])[:, 1::-1] * (640 / depth) + (320, 240)
    # the face is 0.7 px/mm and its focal length the width: points that lie apart in depth are seen without perspective
    np.testing.assert_allclose(seen[:68] - 0.5, fields["points"], atol=0.05)


def test_openseeface_pupils_follow_the_gaze():
    gaze = dict.fromkeys(("eyeLookOutLeft", "eyeLookInRight", "eyeLookDownLeft", "eyeLookDownRight"), 1.0)
    ahead, aside = only(face()), only(face(**gaze))
    np.testing.assert_allclose(ahead["points_3d"][68:], aside["points_3d"][68:], atol=1e-6)
    moved = aside["points"][66:] - ahead["points"][66:]
    assert (moved[:, 0] > 1).all() and (moved[:, 1] > 1).all()  # to the subject's left: image right; and down


def test_features_are_shares_of_what_a_face_can_do(names):
    assert features({}).tolist() == [0.0] * 14
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert np.abs(features(ArkitBlendshapes(names)(rng.random(53)))).max() <= 1
    wink, smile = features({"eyeBlinkLeft": 1.0}), features({"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0})
    assert np.flatnonzero(wink).tolist() == [0] and wink[0] == -1
    assert features({"browInnerUp": 0.8})[[2, 3, 5, 6]].tolist() == pytest.approx([0.8, 0.4] * 2)  # both sides
    assert smile[[8, 9, 10, 11, 13]].tolist() == [-1, 1, -1, 1, 1]  # corners: up is less, out is more; wide


def test_openseeface_quaternions_do_not_jump():
    """The same rotation has two; receivers that learn from the numbers need the near one."""
    rng = np.random.default_rng(0)
    around = [only(face(*rng.uniform(-60, 60, 1), *rng.uniform(-40, 40, 2)))["quaternion"] for _ in range(200)]
    assert np.min(np.array(around) @ around[0]) > 0
    assert np.min(np.array(around) @ only(face())["quaternion"]) > 0


@pytest.mark.parametrize("count", [1, 5, 6, 12])
def test_openseeface_tells_all_faces_in_packets_that_every_system_sends(count):
    faces = {2 * k: replace(face(), landmarks=face().landmarks + k) for k in range(count)}
    packets = list(openseeface_packets(frame(), faces, now_s=1.0))
    assert max(map(len, packets)) < 9216
    data = b"".join(packets)
    found = [read_openseeface(data[start : start + 1785]) for start in range(0, len(data), 1785)]
    assert [one["id"] for one in found] == list(faces)
    assert np.diff([one["points"][0, 0] for one in found]) == pytest.approx(1)


# Numbers


def test_a_number_stays_with_its_face():
    numbers, one, two, three = Numbers(), *(replace(face(), id=k) for k in (4, 7, 9))
    assert numbers([two, one], 0.0) == {0: one, 1: two}
    assert numbers([two], 0.1) == {0: None, 1: two}
    assert numbers([two, one], 0.2) == {0: one, 1: two}
    assert numbers([two, three], 0.3) == {0: None, 1: two, 2: three}
    assert numbers([two], 0.2 + KEPT_S + 0.01) == {1: two, 2: None}
    four = replace(face(), id=11)
    assert numbers([two, four], 0.3 + KEPT_S + 0.1) == {0: four, 1: two}
    assert numbers([], 100.0) == {}


# Sending


def test_a_receiver_gets_what_was_tracked():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        before_s = time.time()
        for _ in range(2):  # a second run is later than the first, for receivers that take only what is new
            with open_sender(f"osf://localhost:{receiver.getsockname()[1]}") as sender:
                sender.send(frame(0), (face(),))
                sender.send(frame(1), ())
                sender.send(frame(2), (face(),))
                assert not sender.trouble
        times_s = [read_openseeface(receiver.recv(65535))["time"] for _ in range(4)]
        assert before_s <= times_s[0] < times_s[1] < times_s[2] < times_s[3] <= time.time()


def test_an_avatar_keeps_its_person():
    one, two = replace(face(), id=1), replace(face(30), id=2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)

        def reported(seconds, *faces):
            sender.send(Frame(0, seconds, frame().image), faces)
            ok, _, *rest = messages([receiver.recv(65535)])
            return rest[0].params[5] if ok.params == [1] else None  # y of the quaternion: yaw

        with open_sender(f"osc://127.0.0.1:{receiver.getsockname()[1]}") as sender:
            assert reported(0.0) is None
            assert reported(0.1, one, two) == pytest.approx(0)
            assert reported(0.2, two) is None  # the first may come back
            assert reported(4.0, two) > 0.2
            assert reported(4.1, two, replace(face(), id=3)) > 0.2


def test_localhost_is_the_address_that_receivers_listen_to(monkeypatch):
    real = socket.getaddrinfo
    ipv6 = (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 9, 0, 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [ipv6, *real("127.0.0.1", 9, **kwargs)])
    with open_sender("osc://localhost:9") as sender:
        assert sender._address == ("127.0.0.1", 9)


def test_nobody_who_listens_is_no_trouble():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with open_sender(f"osc://127.0.0.1:{port}") as sender:
        sender.send(frame(), (face(),))
        assert sender.status.endswith("UDP does not report whether a program receives them")
        assert f"sent to 127.0.0.1, port {port}" in sender.status
        for _ in range(5):
            sender.send(frame(), (face(),))
        assert not sender.trouble
        assert f"no program receives at 127.0.0.1, port {port}; start" in sender.status
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:  # it starts late
            receiver.bind(("127.0.0.1", port))
            receiver.settimeout(5)
            sender.send(frame(), (face(),))
            sender.send(frame(), (face(),))
            assert messages([receiver.recv(65535)])[0].address == "/VMC/Ext/OK"
            sender._refused_s -= REFUSED_S
            assert "datagrams sent to" in sender.status


def test_packets_that_cannot_go_out_are_counted_and_reported(monkeypatch):
    sender = open_sender("osf://127.0.0.1:9")
    sender.send(frame(), (face(),))

    class Down:
        def send(self, *_):
            raise OSError(101, "Network is unreachable")

    real, sender._socket = sender._socket, Down()
    sender.send(frame(), (face(),))
    real.close()
    assert sender.trouble.startswith(
        "--send osf://127.0.0.1:9: 1 of 2 packets could not be sent (Network is unreachable)"
    )


@pytest.mark.parametrize(
    "url",
    [
        "osc://127.0.0.1",
        "udp://127.0.0.1:1",
        "127.0.0.1:39539",
        "osc://:39539",
        "osc://a:99999",
        "osc://a:x",
        "osc://a:1/b",
        "osc://:pw@a:1",
        "osc://a:1#b",
        "",
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(ConfigError, match="SCHEME://host:port, where SCHEME is one of osc, osf"):
        parse_receiver(url)


@pytest.mark.parametrize(
    "query", ["names=vrm2", "names=", "names", "name=arkit", "names=arkit&bones=none", "bones=head&names=ARKIT"]
)
def test_options_that_are_none(query):
    with pytest.raises(ConfigError, match=r"expected names=arkit\|vrm0\|vrm1\|all and bones=head\|all|SCHEME://"):
        parse_receiver(f"osc://a:1?{query}")


def test_options_have_their_defaults():
    assert parse_receiver("osc://a:1").options == {"names": "arkit", "bones": "head"}
    assert parse_receiver("osc://a:1?bones=all").options == {"names": "arkit", "bones": "all"}
    with pytest.raises(ConfigError, match="expected no option after the port, found names=arkit"):
        parse_receiver("osf://a:1?names=arkit")


def test_another_protocol_is_one_line(monkeypatch):
    class Frames:
        def __init__(self, unit):
            self._unit = unit

        def __call__(self, frame, faces):
            yield f"{frame.index} {self._unit} {len(faces)}".encode()

    scheme = Scheme("frames", 4000, "nobody", udp(Frames), {"unit": ("frame", "image")})
    monkeypatch.setitem(SCHEMES, "frames", scheme)
    assert scheme_table()[-2].split() == ["frames://host:4000", "frames", "nobody"]
    assert scheme_table()[-1].split() == ["?unit=frame|image"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        with open_sender(f"frames://127.0.0.1:{receiver.getsockname()[1]}?unit=image") as sender:
            sender.send(frame(7), (face(),))
        assert receiver.recv(99) == b"7 image 1"


def test_addresses_with_numbers_in_brackets():
    receiver = parse_receiver("osf://[::1]:11573")
    assert (receiver.scheme, receiver.host, receiver.port) == ("osf", "::1", 11573)


@pytest.mark.parametrize("host", ["no-such-host.invalid", 70 * "a" + ".local"])
def test_a_host_that_does_not_exist(host):
    with pytest.raises(SinkError, match=host):
        open_sender(f"osc://{host}:39539")
