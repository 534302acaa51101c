"""ONNX files made by hand, so that tests of the bench need no package to write them.

Only what is used: one float input and output, nodes in a row, weights as raw floats.
Field numbers are those of onnx.proto (IR 8, opset 13).
"""

import struct
from pathlib import Path

import numpy as np


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def _bytes(field: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _value(name: str, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(_bytes(1, _int(1, d) if isinstance(d, int) else _bytes(2, d)) for d in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _int(1, 1) + _bytes(2, dims)))


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    body = b"".join(_bytes(1, name) for name in inputs)
    return body + _bytes(2, output) + _bytes(3, f"{kind}_{output}") + _bytes(4, kind)


def chain(
    path: Path, links: int, size: int = 64, shape: tuple[int | str, ...] | None = None
) -> Path:
    """A model `x -> MatMul, Tanh, MatMul, Tanh ... -> y` of so many links."""
    weight = (np.random.default_rng(1).standard_normal((size, size)) / size**0.5).astype("<f4")
    nodes, last = b"", "x"
    for link in range(links):
        after = "y" if link == links - 1 else f"t{link}"
        nodes += _bytes(1, _node("MatMul", [last, "w"], f"m{link}"))
        nodes += _bytes(1, _node("Tanh", [f"m{link}"], after))
        last = after
    tensor = (
        _int(1, size) + _int(1, size) + _int(2, 1) + _bytes(8, "w") + _bytes(9, weight.tobytes())
    )
    ends = shape or (size, size)
    graph = nodes + _bytes(2, "chain") + _bytes(5, tensor)
    graph += _bytes(11, _value("x", ends)) + _bytes(12, _value("y", ends))
    opset = _bytes(1, "") + _int(2, 13)
    path.write_bytes(_int(1, 8) + _bytes(7, graph) + _bytes(8, opset))
    return path


assert struct.calcsize("f") == 4
