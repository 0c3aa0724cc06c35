"""The strict walk over one Avro body: where it ends, and that nothing in it could be read in two ways.

fastavro reads what is plausible: it takes an overlong varint, a boolean of 7, a negative length, a map with a key
twice. Two readers that disagree about such a record would give two answers for the same journal, so a body is walked
first, and only what passes is decoded. The walk takes every form that the specification allows a writer: maps in
several blocks, blocks with negative counts and their size in bytes, keys in any order.

No length is believed before it is compared with the bytes that are there, and every item of an array takes at least
one byte, of a map two, so a record costs time and memory in proportion to its own size, whatever it claims.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.errors import UndecodableRecord

DECIMAL_BYTES_MAX = 64
"""Longest decimal that is decoded: far more than any that passes the checks, and no burden to hold as an int."""

Walk = Callable[[bytes, int], int]
"""(body, start of a value) -> its end. Raises UndecodableRecord, or IndexError where the body ends early."""


def _malformed(what: str) -> UndecodableRecord:
    return UndecodableRecord("malformed", what)


def read_long(body: bytes, start: int) -> tuple[int, int]:
    """A zigzag varint of at most 64 bits in its shortest form, and where it ends."""
    byte = body[start]
    bits = byte & 0x7F
    end = start + 1
    shift = 7
    while byte & 0x80:
        byte = body[end]
        bits |= (byte & 0x7F) << shift
        shift += 7
        end += 1
        if shift > 70:
            raise _malformed("a varint of more than ten bytes")
    if byte == 0 and end - start > 1:
        raise _malformed("an overlong varint")
    if bits >> 64:
        raise _malformed("a varint of more than 64 bits")
    return (bits >> 1) ^ -(bits & 1), end


def _walk_long(body: bytes, start: int) -> int:
    return read_long(body, start)[1]


def _walk_int(body: bytes, start: int) -> int:
    value, end = read_long(body, start)
    if not -(1 << 31) <= value < 1 << 31:
        raise _malformed("an int of more than 32 bits")
    return end


def _walk_boolean(body: bytes, start: int) -> int:
    if body[start] > 1:
        raise _malformed("a boolean that is neither 0 nor 1")
    return start + 1


def _walk_null(body: bytes, start: int) -> int:
    return start


def _span(body: bytes, start: int) -> tuple[int, int]:
    """Start and end of the content of a string or of bytes."""
    length, start = read_long(body, start)
    end = start + length
    if length < 0 or end > len(body):
        raise _malformed("a length beyond the end")
    return start, end


def _walk_bytes(body: bytes, start: int) -> int:
    start, end = _span(body, start)
    if not 1 <= end - start <= DECIMAL_BYTES_MAX:
        raise _malformed(f"a decimal of {end - start} bytes")
    return end


def _walk_string(body: bytes, start: int) -> int:
    start, end = _span(body, start)
    body[start:end].decode()
    return end


def _blocks(body: bytes, start: int, item_bytes_min: int, walk_item: Walk) -> int:
    """Walk the blocks of a map or an array."""
    count, start = read_long(body, start)
    while count:
        block_end = -1
        if count < 0:
            size, start = read_long(body, start)
            block_end = start + size
            count = -count
        if count * item_bytes_min > len(body) - start:
            raise _malformed("more items than bytes")
        for _ in range(count):
            start = walk_item(body, start)
        if block_end not in (-1, start):
            raise _malformed("a block of another size than it says")
        count, start = read_long(body, start)
    return start


def _array_of(walk_item: Walk) -> Walk:
    return lambda body, start: _blocks(body, start, 1, walk_item)


def _map_of(walk_value: Walk) -> Walk:
    def walk(body: bytes, start: int) -> int:
        keys: set[bytes] = set()

        def walk_item(body: bytes, start: int) -> int:
            key_start, key_end = _span(body, start)
            key = body[key_start:key_end]
            key.decode()
            if key in keys:
                raise _malformed("a map key twice")
            keys.add(key)
            return walk_value(body, key_end)

        return _blocks(body, start, 2, walk_item)

    return walk


def _union_of(branches: list[Walk]) -> Walk:
    def walk(body: bytes, start: int) -> int:
        index, start = read_long(body, start)
        if not 0 <= index < len(branches):
            raise _malformed("a union branch that does not exist")
        return branches[index](body, start)

    return walk


def _record_of(fields: list[Walk]) -> Walk:
    def walk(body: bytes, start: int) -> int:
        for walk_field in fields:
            start = walk_field(body, start)
        return start

    return walk


_PRIMITIVES: dict[str, Walk] = {
    "null": _walk_null,
    "boolean": _walk_boolean,
    "int": _walk_int,
    "long": _walk_long,
    "bytes": _walk_bytes,
    "string": _walk_string,
}


def walk_of(physical: Any) -> Walk:
    """The walk of a physical schema. KeyError for a kind of schema that no topic of ours uses."""
    if isinstance(physical, list):
        return _union_of([walk_of(branch) for branch in physical])
    if isinstance(physical, str):
        return _PRIMITIVES[physical]
    if physical["type"] == "record":
        return _record_of([walk_of(field["type"]) for field in physical["fields"]])
    if physical["type"] == "map":
        return _map_of(walk_of(physical["values"]))
    if physical["type"] == "array":
        return _array_of(walk_of(physical["items"]))
    return walk_of(physical["type"])


def check(walk: Walk, body: bytes) -> None:
    """Walk a whole body. Raises UndecodableRecord with reason ``malformed`` or ``trailing_bytes``."""
    try:
        end = walk(body, 0)
    except IndexError:
        raise _malformed("ends early") from None
    except UnicodeDecodeError:
        raise _malformed("a string that is not UTF-8") from None
    if end != len(body):
        raise UndecodableRecord("trailing_bytes", f"{len(body) - end} bytes after the record")
