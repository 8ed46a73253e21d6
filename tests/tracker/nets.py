"""Networks of a few nodes, written as ONNX without the package that writes ONNX: what the tests of the plain suite run.

The format is protocol buffers: each field is (number << 3 | kind), then a varint or a length and bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facet.tracker.heads import POSE_COUNT, Head, consecutive

FLOAT, UINT8, INT64 = 1, 2, 7  # TensorProto.DataType
TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.uint8): UINT8, np.dtype(np.int64): INT64}


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def tensor(name: str, array: np.ndarray) -> bytes:
    """A constant."""
    fields = [_field(1, n) for n in array.shape] + [_field(2, TYPES[array.dtype]), _field(8, name)]
    return b"".join(fields) + _field(9, array.tobytes())


def value(name: str, kind: int, shape: tuple) -> bytes:
    """An input or output; dimensions are numbers, or names where they are free."""
    dimensions = b"".join(_field(1, _field(1 if isinstance(n, int) else 2, n)) for n in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dimensions)))


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: int | list[int]) -> bytes:
    """An operation with whole numbers for attributes."""
    fields = [_field(1, i) for i in inputs] + [_field(2, o) for o in outputs] + [_field(4, kind)]
    for name, number in attributes.items():
        if isinstance(number, int):
            fields.append(_field(5, _field(1, name) + _field(3, number) + _field(20, 2)))
        else:
            fields.append(_field(5, _field(1, name) + b"".join(_field(8, n) for n in number) + _field(20, 7)))
    return b"".join(fields)


def write_network(path: Path, nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> None:
    """An ONNX file of opset 17."""
    graph = b"".join(_field(1, n) for n in nodes) + _field(2, "test")
    graph += b"".join(_field(5, tensor(name, array)) for name, array in constants.items())
    graph += b"".join(_field(11, i) for i in inputs) + b"".join(_field(12, o) for o in outputs)
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 17)))


def constant_regressor(path: Path, size: int, answer: np.ndarray) -> None:
    """(B, size, size, 3) uint8 -> (B, N): the mean of each crop times answer[0] plus answer[1]."""
    write_network(
        path,
        [
            node("Cast", ["crops"], ["float"], to=FLOAT),
            node("ReduceMean", ["float"], ["mean"], axes=[1, 2, 3], keepdims=0),
            node("Unsqueeze", ["mean", "one"], ["column"]),
            node("Mul", ["column", "factor"], ["scaled"]),
            node("Add", ["scaled", "offset"], ["params"]),
        ],
        [value("crops", UINT8, ("B", size, size, 3))],
        [value("params", FLOAT, ("B", answer.shape[1]))],
        {
            "one": np.array([1], np.int64),
            "factor": answer[:1].astype(np.float32),
            "offset": answer[1:].astype(np.float32),
        },
    )


def facet_heads(shapes: int, expressions: int) -> dict[str, Head]:
    """The heads of this project's networks."""
    parts = {"pose": (POSE_COUNT, "pose"), "shape": (shapes, "linear"), "expression": (expressions, "clip")}
    return consecutive(parts | {"score": (1, "sigmoid")})
