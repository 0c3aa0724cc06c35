"""Summary shards read by columns, as packed rows: the other way round from shards.py. What is in doubt goes down the
strict path (records.py), which defines what is right.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.codec import digests
from pipeline.codec.chunk import Chunk, ColumnWalk
from pipeline.codec.records import Codec
from pipeline.codec.shards import NUMBERS
from pipeline.domain.limits import VALUE_PRECISION
from pipeline.errors import UndecodableRecord


class PackedShard(NamedTuple):
    """A shard as digests take it."""

    key: bytes
    """``digests.key_bytes``"""
    shard: int
    row: bytes
    """``digests.row_bytes``"""


def decode_shards(codec: Codec, values: Sequence[bytes | None]) -> list[PackedShard | UndecodableRecord]:
    """The shard of each value, or why there is none."""
    found: list[PackedShard | UndecodableRecord | None] = [None] * len(values)
    for place, shard in _plain(values, codec.prefixes("SummaryShard")):
        found[place] = shard
    return [one or _strict(codec, value) for one, value in zip(found, values, strict=True)]


def _strict(codec: Codec, value: bytes | None) -> PackedShard | UndecodableRecord:
    try:
        one = codec.decode_shard(value)
        return PackedShard(digests.key_bytes(one.key), one.shard, digests.row_bytes(one))
    except UndecodableRecord as error:
        return error
    except (OverflowError, struct.error):
        return UndecodableRecord("out_of_range", "a number of more digits than any shard has")


def _plain(values: Sequence[bytes | None], prefixes: Sequence[bytes]) -> list[tuple[int, PackedShard]]:
    """(place, shard) of the records that are as the worker writes them."""
    chunk = Chunk(values)
    if not len(chunk.rows):
        return []
    walk = ColumnWalk(chunk, prefixes)
    modes, event_names, customers = walk.boolean(), walk.span(), walk.span()
    minutes = walk.long().astype(">i8").tobytes()
    dimensions, canonical = walk.dimensions()
    shards = walk.int32().tolist()
    words = {
        name: walk.decimal(size // 8, VALUE_PRECISION * size // 16)[:, ::-1] if size else walk.long()[:, None]
        for name, size in NUMBERS
    }
    matrix: npt.NDArray[np.int64] = np.concatenate([words[name] for name, _ in digests.WORDS], axis=1)
    # Where nothing counts the rest means nothing, and the strict path says so.
    plain = walk.finish() & canonical & ((matrix[:, 1] != 0) | ~matrix[:, 2:].any(axis=1))
    rows, buffer = matrix.astype(">i8").tobytes(), chunk.buffer
    size = digests.ROW_BYTES
    spans = [ends.tolist() for span in (event_names, customers, dimensions) for ends in span]
    found = []
    for at, (place, ok, mode, shard, *ends) in enumerate(
        zip(chunk.rows.tolist(), plain.tolist(), modes.tolist(), shards, *spans, strict=True)
    ):
        if ok:
            name_start, name_end, customer_start, customer_end, start, end = ends
            names = b"%b\0%b\0" % (buffer[name_start:name_end], buffer[customer_start:customer_end])
            pairs = buffer[start:end]
            if not (_is_text(names) and _is_text(pairs)):
                continue
            key = b"%b%b%b%b" % (b"1" if mode else b"0", names, minutes[at * 8 : at * 8 + 8], pairs)
            found.append((place, PackedShard(key, shard, rows[at * size : at * size + size])))
    return found


def _is_text(encoded: bytes) -> bool:
    """Whether this is UTF-8."""
    if encoded.isascii():
        return True
    try:
        encoded.decode()
    except UnicodeDecodeError:
        return False
    return True
