"""Foreign pickles: arrays of numbers come in, nothing else does, and nothing of it is run."""

import collections
import pickle
import struct

import numpy as np
import pytest

from tests.conftest import material
from tools.arrays import ImportFailure, load_arrays

PLAIN = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "truth": np.array([True, False]),
    "complex": np.ones((1, 2), np.complex64),
    "empty": np.zeros((0, 4)),
    "scalar": np.array(3, np.uint8),
    "nested": [np.zeros(2), (np.ones(1), "text", 3, None, 2.5)],
}


def write(tmp_path, data: bytes):
    path = tmp_path / "foreign.pkl"
    path.write_bytes(data)
    return path


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, (list, tuple)):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and found.flags.f_contiguous == expected.flags.f_contiguous
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_numbers_are_read(protocol, tmp_path):
    assert_same(load_arrays(write(tmp_path, pickle.dumps(PLAIN, protocol))), PLAIN)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def state_of(shape=(2,), dtype=np.dtype("f8"), data=bytes(16), fortran=False):
    """An array from `_reconstruct` and a state."""
    return Call(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, shape, dtype, fortran, data))


FROM_BUFFER = np._core.numeric._frombuffer
RECORD = np.dtype([("a", "f8"), ("b", "O")])
HURTFUL = {
    "an object array of raw bytes": Call(np.ndarray, (4,), "O", b"A" * 32),
    "an array of raw bytes": Call(np.ndarray, (4,), "f8", b"A" * 32),
    "an array with strides": Call(np.ndarray, (4,), "f8", b"A" * 32, 0, (-800,)),
    "objects": np.array([{}, 1], object),
    "objects in a record": np.zeros(2, RECORD),
    "objects in nested records": np.zeros(2, [("x", [("y", RECORD, (2,))])]),
    "a record": np.zeros(2, [("a", "f8")]),
    "texts": np.array(["a", "b"]),
    "times": np.array(["2020-01-01"], "M8[D]"),
    "raw": np.zeros(2, "V8"),
    "an object type": state_of(dtype=np.dtype("O")),
    "an object type in a buffer": Call(FROM_BUFFER, b"A" * 16, np.dtype("O"), (2,), "C"),
    "a type by name": state_of(dtype=Call(np.dtype, "O8", False, True)),
    "a type that becomes objects": state_of(
        dtype=Call(np.dtype, "f8", False, True, state=(3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 8, 27))
    ),
    "a subarray type": state_of(
        dtype=Call(np.dtype, "f8", False, True, state=(3, "<", ("O", (1,)), None, None, 8, 8, 0))
    ),
    "no type": state_of(dtype="f8"),
    "a negative shape": state_of(shape=(-2, -1)),
    "a shape beyond memory": state_of(shape=(2**62, 4)),
    "a shape whose product wraps": state_of(shape=(2**33, 2**31)),
    "a shape of floats": state_of(shape=(2.0,)),
    "a shape of truth": state_of(shape=(True, 2)),
    "many axes": state_of(shape=(1,) * 1000 + (2,)),
    "a shape that is no tuple": state_of(shape=2),
    "too short": state_of(data=bytes(15)),
    "too long": state_of(data=bytes(17)),
    "a text for bytes": state_of(data="A" * 16),
    "a list for bytes": state_of(data=[1, 2]),
    "a buffer that is too short": Call(FROM_BUFFER, b"A" * 15, np.dtype("f8"), (2,), "C"),
    "an odd order": Call(FROM_BUFFER, b"A" * 16, np.dtype("f8"), (2,), "K"),
    "no state": Call(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b"),
    "a state that is no tuple": Call(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state={"shape": 3}),
    "a function": np._core.multiarray._reconstruct,
    "a function with a state": Call(FROM_BUFFER, b"A" * 16, np.dtype("f8"), (2,), "C", state=({}, {"_call": print})),
    "a type": np.dtype("f8"),
    "another class": collections.OrderedDict(a=1),
    "another function": Call(print, "run"),
    "a codec": Call(__import__("codecs").encode, b"A" * 9, "zlib"),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("what", HURTFUL)
def test_nothing_else_is(what, protocol, tmp_path, capfd):
    for inside in (HURTFUL[what], [{"mean": HURTFUL[what]}]):
        path = write(tmp_path, pickle.dumps(inside, protocol))
        with pytest.raises(ImportFailure, match=r"foreign\.pkl") as caught:
            load_arrays(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x63.",
        b"cbuiltins\nexec\n(S'1'\ntR.",
        b"r" + struct.pack("<I", 2**31) + b".",
        b"N" + b"r" + struct.pack("<I", 2**31 - 1) + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**62),
        b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        b"\x80\x02\x82\x01.",
        b"Pid\n.",
    ],
)
def test_streams_that_are_no_pickle(data, tmp_path):
    with pytest.raises(ImportFailure, match=r"foreign\.pkl"):
        load_arrays(write(tmp_path, data))


def test_the_reported_file():
    with pytest.raises(ImportFailure, match="checked form"):
        load_arrays(material("cases", "objbuf.pkl"))


def test_a_pickle_that_is_cut_or_changed(tmp_path):
    whole, rng = pickle.dumps(PLAIN), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(0, 256)
        try:
            load_arrays(write(tmp_path, bytes(data[: rng.integers(1, len(data) + 1)])))
        except ImportFailure:
            pass
