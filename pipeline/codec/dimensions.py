"""Dimensions as bytes: the canonical form of an Avro map<string>.

One positive block, keys ascending by their UTF-8 bytes, shortest varints, a terminating 0; no dimensions are a single
0. Equal dimensions are equal bytes, so tallies are keyed by these bytes and shards carry them as they are.
"""

from __future__ import annotations

from pipeline.codec.borders import check, read_long, walk_of
from pipeline.domain.events import Dimensions

_WALK = walk_of({"type": "map", "values": "string"})

NO_DIMENSIONS = b"\x00"


def long_bytes(value: int) -> bytes:
    """An Avro long or int: zigzag, then base 128, lowest first. Exact for any value of 64 bits."""
    bits = value << 1 if value >= 0 else (~value << 1) | 1
    if bits < 0x80:
        return bytes((bits,))
    out = bytearray()
    while bits >= 0x80:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


def string_bytes(text: str) -> bytes:
    """An Avro string. UnicodeEncodeError for a lone surrogate."""
    encoded = text.encode()
    return long_bytes(len(encoded)) + encoded


def dimensions_bytes(dimensions: Dimensions) -> bytes:
    """The canonical form. The keys must be distinct; they need not be sorted yet."""
    if not dimensions:
        return NO_DIMENSIONS
    # Code points and UTF-8 bytes sort alike, so the order of str is the order that the canonical form asks for.
    parts = [long_bytes(len(dimensions))]
    for key, value in sorted(dimensions):
        parts += (string_bytes(key), string_bytes(value))
    parts.append(NO_DIMENSIONS)
    return b"".join(parts)


def dimensions_of(encoded: bytes) -> Dimensions:
    """The dimensions in any legal Avro map<string>, sorted by key. Raises UndecodableRecord for anything else."""
    check(_WALK, encoded)
    pairs: list[tuple[str, str]] = []
    count, start = read_long(encoded, 0)
    while count:
        if count < 0:
            _, start = read_long(encoded, start)
        for _ in range(abs(count)):
            length, start = read_long(encoded, start)
            key = encoded[start : start + length].decode()
            start += length
            length, start = read_long(encoded, start)
            pairs.append((key, encoded[start : start + length].decode()))
            start += length
        count, start = read_long(encoded, start)
    pairs.sort()
    return tuple(pairs)
