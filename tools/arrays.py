"""Reading other people's pickles without running what is in them.

Nothing of numpy is called while a pickle is read: its own functions trust what they are given, and an array of Python
objects made of raw bytes ends the process. Stand-ins take the parts, and an array is made of them when all is checked.
"""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path

import numpy as np

MOST_AXES = 32


class ImportFailure(Exception):
    """A foreign file that is missing or not what it should be; one line."""


class _Dtype:
    """Stands for a numpy.dtype: numbers and truth values alone."""

    __slots__ = ("value",)
    __hash__ = None

    def __init__(self, code, *_):
        if not (type(code) is str and re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16)", code)):
            raise pickle.UnpicklingError(f"it has a type {str(code)[:40]!r}, and only numbers are let in")
        self.value = np.dtype(code)

    def __setstate__(self, state):
        _, order, *structure = state
        if order not in ("<", ">", "|", "=") or any(structure[:3]):
            raise pickle.UnpicklingError("it has a structured type, and only numbers are let in")
        self.value = self.value.newbyteorder(order)


class _Array:
    """Stands for a numpy.ndarray."""

    __slots__ = ("value",)
    __hash__ = None

    def __init__(self, *_):
        self.value = None

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, data = state
        self.value = _array(data, dtype, shape, "F" if is_fortran else "C")


class _Function:
    """Stands for a function of numpy, and lets nothing be changed in itself."""

    __slots__ = ("_call",)

    def __init__(self, call):
        self._call = call

    def __call__(self, *arguments):
        return self._call(*arguments)

    def __setstate__(self, state):
        raise pickle.UnpicklingError("it changes a function")


def _array(data, dtype, shape, order) -> np.ndarray:
    """An array of raw bytes, when they are as many as it needs."""
    if type(dtype) is not _Dtype or type(data) not in (bytes, bytearray) or order not in ("C", "F"):
        raise pickle.UnpicklingError("it has an array that is not made of numbers")
    if type(shape) is not tuple or len(shape) > MOST_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise pickle.UnpicklingError("it has an array of no valid shape")
    if math.prod(shape) * dtype.value.itemsize != len(data):
        raise pickle.UnpicklingError(f"it has an array of shape {str(shape)[:100]} with {len(data)} bytes")
    return np.frombuffer(data, dtype.value).reshape(shape, order=order).copy(order)


def _from_buffer(data, dtype, shape, order) -> _Array:
    made = _Array()
    made.value = _array(data, dtype, shape, order)
    return made


def _encode(text, encoding) -> bytes:
    """How Python 2 is given bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes(*arguments) -> bytes:
    """How Python 2 is given none."""
    if arguments:
        raise pickle.UnpicklingError("it makes bytes of something else")
    return b""


def _refuse(*_):
    raise pickle.UnpicklingError("it makes an array of no checked form")


# what a pickled numpy array asks for, in numpy 1 and 2, and in pickles that Python 2 can read
STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _refuse,  # only named, never called
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are let in")
        return _Function(STAND_INS[module, name])


def _made(value):
    """What was read, with arrays in place of their stand-ins."""
    if type(value) is _Array:
        if value.value is None:
            raise pickle.UnpicklingError("it has an array without numbers")
        return value.value
    if type(value) is dict:
        return {key: _made(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_made(item) for item in value)
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__.strip('_')}, and only numpy arrays are let in")


def load_arrays(path: Path):
    """Read a pickle that holds nothing but numpy arrays of numbers in plain containers.

    Raises
    ------
    ImportFailure
        If it cannot be read, holds anything else, or is damaged.
    """
    try:
        with Path(path).open("rb") as file:
            return _made(_ArrayUnpickler(file).load())
    except OSError as error:
        raise ImportFailure(f"{path}: cannot be read ({error.strerror}); name an existing file") from error
    except Exception as error:  # damaged pickles raise whatever their garbage happens to say
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImportFailure(f"{path}: expected a pickle of numpy arrays, found another: {reason}") from error
