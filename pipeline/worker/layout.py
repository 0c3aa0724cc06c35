"""How a partition's state lies in its store: the only place that knows keys and bytes.

These names are state: changing one loses what was written under the old one, so a golden test holds them.

| key | value |
| --- | --- |
| ``m`` | JSON: cursor, clock, accounts, and whose state this is |
| ``l`` identity | a ledger entry: counted, cancelled or awaited |
| ``t`` tally key | a tally's numbers, then its newest entries, packed |
| ``i`` tally key, first offset | a full page of older entries of a tally |
| ``b`` page number | the bodies of 64 journal offsets, as they came |
| ``a`` ledger key | nothing: marks the awaited ones, so that a start need not read the whole ledger |
| ``r`` adjustment id | the clock when a range was applied |

An identity's key is its raw text, not a hash: exactness is not a probability, and all that is known about an
identifier lies together. NUL separates the parts, which no accepted text contains.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from pipeline.domain.events import Identity, Last, Latest
from pipeline.domain.ledger import Awaited, Waiting
from pipeline.domain.tally import Entry, Tally

META = b"m"
LEDGER = b"l"
TALLY = b"t"
INDEX = b"i"
BODIES = b"b"
RANGE = b"r"
AWAITING = b"a"

COUNTED = 0x43
CANCELLED = 0x58
AWAITED = 0x41

BODIES_PER_PAGE = 64
ENTRIES_PER_PAGE = 128
VALUE_BYTES = 16
SUM_BYTES = 32

_COUNTED = struct.Struct(">BQqq")
_WAITING = struct.Struct(">QqH")
_ENTRY = struct.Struct(">Qqq16s")
_TALLY = struct.Struct(">QQ32s16s16sqqQ16sqQ16s")
_U64 = struct.Struct(">Q")
_BODY = struct.Struct(">BI")
_BODY_ROW = np.dtype([("slot", "u1"), ("size", ">u4")])
TALLY_ROW = np.dtype(
    [
        ("version", ">i8"),
        ("count", ">i8"),
        ("sum", "V32"),
        ("min", "V16"),
        ("max", "V16"),
        ("last_timestamp", ">i8"),
        ("last_appended_at", ">i8"),
        ("last_offset", ">i8"),
        ("last_value", "V16"),
        ("latest_appended_at", ">i8"),
        ("latest_offset", ">i8"),
        ("latest_value", "V16"),
    ]
)
"""A packed tally as a numpy row; also what ``encode_shards`` takes."""

ENTRY_BYTES = _ENTRY.size
ENTRY_PAGE_BYTES = ENTRIES_PER_PAGE * ENTRY_BYTES
TALLY_BYTES = _TALLY.size
assert TALLY_ROW.itemsize == TALLY_BYTES


def ledger_key(identity: Identity) -> bytes:
    mode = "1" if identity.livemode else "0"
    return LEDGER + f"{identity.identifier}\0{identity.event_name}\0{mode}".encode()


def identity_of(key: bytes) -> Identity:
    identifier, _, names = key[1:].partition(b"\0")
    return Identity(*ledger_names(names), identifier.decode())


def ledger_names(packed: bytes) -> tuple[bool, str]:
    """(livemode, event name) of what stands behind the identifier in a ledger key."""
    event_name, _, mode = packed.decode().partition("\0")
    return mode == "1", event_name


def tally_prefix(livemode: bool, event_name: str, customer: str | None) -> bytes:
    """What all keys of an event name's tallies begin with, or of one customer's among them."""
    prefix = TALLY + (b"1" if livemode else b"0") + event_name.encode() + b"\0"
    return prefix if customer is None else prefix + customer.encode() + b"\0"


def store_tally_key(livemode: bool, event_name: str, customer: str, window_start_ms: int, dimensions: bytes) -> bytes:
    """``dimensions`` in canonical Avro map bytes, which end themselves: no key is the beginning of another."""
    return tally_prefix(livemode, event_name, customer) + window_start_ms.to_bytes(8, "big", signed=True) + dimensions


def tally_key_parts(key: bytes) -> tuple[bool, str, str, int, bytes]:
    """(livemode, event_name, customer, window_start_ms, canonical dimensions) of a tally's store key."""
    event_name, _, rest = key[2:].partition(b"\0")
    customer, _, rest = rest.partition(b"\0")
    return (
        key[1:2] == b"1",
        event_name.decode(),
        customer.decode(),
        int.from_bytes(rest[:8], "big", signed=True),
        rest[8:],
    )


def index_key(tally_key: bytes, first_offset: int) -> bytes:
    return INDEX + tally_key[1:] + _U64.pack(first_offset)


def bodies_key(offset: int) -> bytes:
    """The page that holds an offset's body."""
    return BODIES + _U64.pack(offset // BODIES_PER_PAGE)


def page_start_of(key: bytes) -> int:
    """The first offset of a page of bodies."""
    return int.from_bytes(key[1:], "big") * BODIES_PER_PAGE


def pack_counted(offset: int, appended_at_ms: int, clock_ms: int, cancelled_by: str | None) -> bytes:
    if cancelled_by is None:
        return _COUNTED.pack(COUNTED, offset, appended_at_ms, clock_ms)
    return _COUNTED.pack(CANCELLED, offset, appended_at_ms, clock_ms) + cancelled_by.encode()


def unpack_counted(packed: bytes) -> tuple[int, int, int, str | None]:
    """(offset, appended_at_ms, clock_ms, cancelled_by)"""
    kind, offset, appended_at_ms, clock_ms = _COUNTED.unpack_from(packed)
    return offset, appended_at_ms, clock_ms, packed[_COUNTED.size :].decode() if kind == CANCELLED else None


def is_counted_at(packed: bytes, offset: int) -> bool:
    """Whether a ledger entry is that of the event at ``offset``."""
    return packed[0] != AWAITED and unpack_counted(packed)[0] == offset


def pack_awaited(awaited: Awaited) -> bytes:
    parts = [bytes([AWAITED])]
    for one in awaited.waiting:
        name = one.adjustment_id.encode()
        parts += [_WAITING.pack(one.offset, one.clock_ms, len(name)), name]
    return b"".join(parts)


def unpack_awaited(packed: bytes) -> Awaited:
    waiting, place = [], 1
    while place < len(packed):
        offset, clock_ms, length = _WAITING.unpack_from(packed, place)
        place += _WAITING.size
        waiting.append(Waiting(packed[place : place + length].decode(), offset, clock_ms))
        place += length
    return Awaited(tuple(waiting))


def _value(value: int, length: int = VALUE_BYTES) -> bytes:
    return value.to_bytes(length, "big", signed=True)


def _int(packed: bytes) -> int:
    return int.from_bytes(packed, "big", signed=True)


def pack_entry(entry: Entry) -> bytes:
    return _ENTRY.pack(entry[0], entry[1], entry[2], _value(entry[3]))


def unpack_entries(packed: bytes) -> Iterator[Entry]:
    for offset, appended_at_ms, timestamp_ms, value in _ENTRY.iter_unpack(packed):
        yield offset, appended_at_ms, timestamp_ms, _int(value)


def without_entry(packed: bytes, offset: int) -> bytes | None:
    """The packed entries without the one at ``offset``; None when it is not among them."""
    wanted = _U64.pack(offset)
    place = packed.find(wanted)
    while place % ENTRY_BYTES and place >= 0:  # the same bytes within another entry
        place = packed.find(wanted, place + 1)
    return None if place < 0 else packed[:place] + packed[place + ENTRY_BYTES :]


def pack_tally(tally: Tally) -> bytes:
    last, latest = tally.last or Last(0, 0, 0, 0), tally.latest or Latest(0, 0, 0)
    return _TALLY.pack(
        tally.version,
        tally.count,
        _value(tally.sum, SUM_BYTES),
        _value(tally.min or 0),
        _value(tally.max or 0),
        last.timestamp_ms,
        last.appended_at_ms,
        last.offset,
        _value(last.value),
        latest.appended_at_ms,
        latest.offset,
        _value(latest.value),
    )


def unpack_tally(packed: bytes) -> Tally:
    version, count, total, low, high, last_at, last_app, last_off, last_val, app, off, val = _TALLY.unpack_from(packed)
    if count == 0:
        return Tally(version)
    return Tally(
        version,
        count,
        _int(total),
        _int(low),
        _int(high),
        Last(last_at, last_app, last_off, _int(last_val)),
        Latest(app, off, _int(val)),
    )


def pack_bodies(offsets: list[int], bodies: list[bytes]) -> list[tuple[bytes, bytes | None]]:
    """(key, page) of every page that these bodies fill; offsets ascend."""
    places = np.array(offsets, np.int64)
    heads = np.empty(len(bodies), _BODY_ROW)
    heads["slot"] = places % BODIES_PER_PAGE
    heads["size"] = np.fromiter(map(len, bodies), np.int64, len(bodies))
    joined, size = heads.tobytes(), _BODY.size
    numbers = places // BODIES_PER_PAGE
    starts = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()]
    return [
        (
            BODIES + _U64.pack(number),
            bytes([end - start]) + joined[start * size : end * size] + b"".join(bodies[start:end]),
        )
        for start, end, number in zip(starts, [*starts[1:], len(bodies)], numbers[starts].tolist(), strict=True)
    ]


def unpack_bodies(page_start: int, packed: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, body) pairs of the page whose first offset is ``page_start``."""
    slots, sizes = _page_heads(packed)
    place = 1 + len(slots) * _BODY.size
    for slot, size in zip(slots, sizes, strict=True):
        yield page_start + slot, packed[place : place + size]
        place += size


def body_in(packed: bytes, offset: int) -> bytes:
    """The body of one offset in its page."""
    slots, sizes = _page_heads(packed)
    number = slots.index(offset % BODIES_PER_PAGE)
    place = 1 + len(slots) * _BODY.size + sum(sizes[:number])
    return packed[place : place + sizes[number]]


def _page_heads(packed: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(slots, sizes) of the bodies of a page."""
    heads = struct.unpack_from(">" + "BI" * packed[0], packed, 1)
    return heads[0::2], heads[1::2]
