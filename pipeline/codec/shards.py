"""Summary shards as bytes, many at once; equal to ``Codec.encode_shard`` byte for byte.

A shard is a head that never changes (its tally's key and its partition) and numbers that do. The head is encoded once
per tally, by ``shard_head``; the numbers are encoded by columns: a matrix with one row per shard and room for every
field at its widest, then only the bytes that are in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.codec.dimensions import long_bytes, string_bytes
from pipeline.codec.records import SUM_BYTES, VALUE_BYTES

NUMBERS: tuple[tuple[str, int], ...] = (
    ("version", 0),
    ("count", 0),
    ("sum", SUM_BYTES),
    ("min", VALUE_BYTES),
    ("max", VALUE_BYTES),
    ("last_value", VALUE_BYTES),
    ("last_timestamp", 0),
    ("last_appended_at", 0),
    ("last_offset", 0),
    ("latest_value", VALUE_BYTES),
    ("latest_appended_at", 0),
    ("latest_offset", 0),
)
"""The fields behind the head in the order of the schema, with the bytes of a decimal; 0: a long."""

_NAMES = [name for name, _ in NUMBERS]
_SIZES = [long_bytes(size) if size else b"" for _, size in NUMBERS]
FEW = 32
"""As many shards are encoded sooner one by one."""


def shard_head(
    frame: bytes,
    livemode: bool,
    event_name: str,
    customer: str,
    window_start_ms: int,
    dimensions: bytes,
    shard: int,
) -> bytes:
    """Everything in front of a shard's numbers.

    ``frame``: ``Codec.frame_of("SummaryShard")``; ``dimensions``: canonical, see dimensions.py; ``shard``: the journal
    partition.
    """
    return b"".join(
        (
            frame,
            b"\x01" if livemode else b"\x00",
            string_bytes(event_name),
            string_bytes(customer),
            long_bytes(window_start_ms),
            dimensions,
            long_bytes(shard),
        )
    )


def encode_shards(heads: Sequence[bytes], numbers: npt.NDArray[Any]) -> list[bytes]:
    """The record values of many shards.

    ``numbers``: a structured array, one row per head, with a field for each name in NUMBERS, in any order: longs as
    64-bit integers of either byte order; decimals as ``V32`` (sum) and ``V16``, two's complement, big-endian. All
    fields of a shard whose count is 0 are 0, but for its version.
    """
    assert len(numbers) == len(heads), "one row of numbers per head"
    if len(heads) <= FEW:
        return [head + _one(row) for head, row in zip(heads, numbers[_NAMES].tolist(), strict=True)]
    longs = {name: _groups(numbers[name].astype(np.int64)) for name, size in NUMBERS if not size}
    columns = sum(size + 1 if size else len(longs[name]) for name, size in NUMBERS)
    matrix = np.empty((len(heads), columns), np.uint8)
    used = np.ones(matrix.shape, np.bool_)
    sizes = np.full(len(heads), columns, np.int64)
    at = 0
    for name, size in NUMBERS:
        if size:
            matrix[:, at] = 2 * size
            matrix[:, at + 1 : at + 1 + size] = np.ascontiguousarray(numbers[name]).view(np.uint8).reshape(-1, size)
            at += 1 + size
            continue
        left = longs[name]
        for place, group in enumerate(left):
            low = group.astype(np.uint8)
            if place:
                used[:, at] = here = group != 0  # the first byte of a varint is always there
                sizes -= ~here
            if place + 1 < len(left):
                more = left[place + 1] != 0
                matrix[:, at] = low & 0x7F | more.view(np.uint8) << 7
            else:
                matrix[:, at] = low
            at += 1
    packed = matrix[used].tobytes()
    ends = np.cumsum(sizes).tolist()
    return [head + packed[start:end] for head, start, end in zip(heads, [0, *ends], ends, strict=False)]


def _one(row: tuple[Any, ...]) -> bytes:
    return b"".join([size + field if size else long_bytes(field) for size, field in zip(_SIZES, row, strict=True)])


def _groups(values: npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint64]]:
    """What is left of each zigzag number at each byte of its varint, for as many bytes as the widest one takes."""
    bits = ((values << 1) ^ (values >> 63)).view(np.uint64)
    width = max(1, -(-int(bits.max(initial=0)).bit_length() // 7))
    return [bits >> np.uint64(7 * place) for place in range(width)]
