"""TensorFlow checkpoints without TensorFlow: names and arrays are read, nothing in the file is executed.

A checkpoint is a table of names (`.index`, in the format of leveldb's sorted tables) and the numbers themselves
(`.data-00000-of-00001`). Of each name the table gives, as a protocol buffer, the type, the shape, and where its numbers
lie.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from ..._core.reading import reading
from ...errors import InputError

_MAGIC = 0xDB4775248B80FB57  # last eight bytes of a table
_FOOTER = 48  # bytes
LONGEST_NAME = 1000  # bytes
_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # of tensorflow.DataType; strings and others are skipped


def read_checkpoint(prefix: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by their names, such as "layer/kernel".

    Args:
        prefix: the path of the `.index` file without this ending.

    Raises:
        InputError: for files that are missing, truncated, or not of this format.
    """
    index, shard = Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")
    for file in (index, shard):
        if not file.is_file():
            raise InputError(f"no such file: {file} (a checkpoint consists of {index.name} and {shard.name})")
    with reading(index, "a complete TensorFlow checkpoint", "if it was downloaded, do so again"):
        table, data = index.read_bytes(), shard.read_bytes()
        if struct.unpack("<Q", table[-8:])[0] != _MAGIC:
            raise ValueError("no table of names")
        found = {}
        for name, value in _entries(table):
            array = _array(value, data) if name else None  # the entry without a name is the table's header
            if array is not None:
                found[name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")] = array
        return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits per byte, least significant first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number that does not end")


def _entries(table: bytes) -> list[tuple[str, bytes]]:
    """Names and values of all blocks that the table's own index block lists."""
    footer = table[-_FOOTER:]
    _, at = _varint(footer, 0)  # of the block of filters, which is not needed
    _, at = _varint(footer, at)
    offset, at = _varint(footer, at)
    size, _ = _varint(footer, at)
    found: list[tuple[str, bytes]] = []
    taken = 0
    for _, handle in _block(table, offset, size):
        start, at = _varint(handle, 0)
        length, _ = _varint(handle, at)
        taken += length
        if taken > len(table):
            raise ValueError("blocks that are listed twice")
        found += [(key.decode(), value) for key, value in _block(table, start, length)]
    return found


def _block(table: bytes, offset: int, size: int) -> list[tuple[bytes, bytes]]:
    """Keys and values of a block. Each key gives how many bytes it shares with the one before."""
    data = table[offset : offset + size]
    if len(data) != size or table[offset + size]:
        raise ValueError("a block that is cut off or compressed")
    end = size - 4 - 4 * struct.unpack("<I", data[-4:])[0]  # restart points follow
    found, key, at = [], b"", 0
    while at < end:
        shared, at = _varint(data, at)
        fresh, at = _varint(data, at)
        length, at = _varint(data, at)
        if shared + fresh > LONGEST_NAME:
            raise ValueError(f"a name of {shared + fresh} bytes")
        key = key[:shared] + data[at : at + fresh]
        at += fresh
        found.append((key, data[at : at + length]))
        at += length
    return found


def _fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a protocol buffer, by number."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            found.append((tag >> 3, value))
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            if kind != 2:
                raise ValueError(f"a field of type {kind}")
            length, at = _varint(message, at)
        found.append((tag >> 3, message[at : at + length]))
        at += length
    return found


def _numbers(message: bytes) -> dict[int, int]:
    """The fields of a protocol buffer that are single numbers."""
    return {number: value for number, value in _fields(message) if isinstance(value, int)}


def _messages(message: bytes) -> list[bytes]:
    """The second fields of a protocol buffer: the shape of an entry, the sizes of a shape."""
    return [value for number, value in _fields(message) if number == 2 and isinstance(value, bytes)]


def _array(value: bytes, data: bytes) -> np.ndarray | None:
    """The array of an entry: 1 type, 2 shape, 3 shard, 4 offset, 5 size. None for text."""
    entry = _numbers(value)
    kind = _TYPES.get(entry.get(1, 0))
    if kind is None:
        return None
    if entry.get(3, 0):
        raise ValueError("more than one file of numbers")
    shape = tuple(_numbers(size).get(1, 0) for sizes in _messages(value) for size in _messages(sizes))
    if len(shape) > 32:
        raise ValueError(f"an array of {len(shape)} dimensions")
    offset, size, dtype = entry.get(4, 0), entry.get(5, 0), np.dtype(kind)
    if size != dtype.itemsize * math.prod(shape) or offset + size > len(data):
        raise ValueError("fewer numbers than the table says")
    return np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape)
