"""Digests of summary shards: one number that says whether two sets of shards are equal, in whatever order they come.

The hash of a shard has two lanes of 64 bits. In each, the halves of 32 bits of the shard's key and of its numbers are
multiplied by fixed odd coefficients of 64 bits and added up; the sum is then mixed by steps that can all be undone.
What that is worth:

- Any change of one half changes both lanes. Any change of two halves, so also of a whole 64-bit word, changes at least
  one lane. Both are certain: a test looks at every pair of coefficients.
- A change of more goes unseen only where it meets the coefficients by chance, which were drawn without regard to usage:
  2^-126 where any half changes by an odd number, 2^-64 at worst, where halves change by nothing but their highest bit.
  (Whole words would have no such bound: whatever odd number multiplies a word's highest bit, it stays what it was.)
- A key of more than KEY_BYTES_MAX bytes is seen through its SHA-256.

The digest of a set is the sum of its hashes modulo 2^64 in each lane: it can be kept up to date shard by shard, taken
apart by day or by partition, and computed in SQL (clickhouse/digests.py). So the above holds of one shard among any; of
several that change at once, the mixed sums cancel each other by chance, 2^-128. It finds errors, not forgers who
compute collisions. It is plain arithmetic on columns, because the worker does it for every tally that it publishes.

The coefficients and steps are state: digests that were written down are compared with digests of other processes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.codec.dimensions import dimensions_bytes, dimensions_of
from pipeline.domain.events import Last, Latest, SummaryShard, TallyKey
from pipeline.domain.tally import Tally

DIGEST_VERSION = 2
"""Raised whenever the arithmetic changes; stands beside a digest that is written down. Until 1, words were whole."""

Hashes = npt.NDArray[np.uint64]
"""(n, 2): the lanes of each hash."""

WORDS: tuple[tuple[str, int], ...] = (
    ("version", 1),
    ("count", 1),
    ("sum", 4),
    ("min", 2),
    ("max", 2),
    ("last_timestamp", 1),
    ("last_appended_at", 1),
    ("last_offset", 1),
    ("last_value", 2),
    ("latest_appended_at", 1),
    ("latest_offset", 1),
    ("latest_value", 2),
)
"""The numbers of a shard in the order of a packed row, with their 64-bit words, big-endian, the highest first."""

_ROW = struct.Struct(">qq32s16s16sqqq16sqq16s")
ROW_BYTES = _ROW.size
assert 8 * sum(words for _, words in WORDS) == ROW_BYTES

ROW_HALVES = ROW_BYTES // 4

KEY_BYTES_MAX = 128
"""A longer key is hashed by its SHA-256 instead; its length tells the two apart."""
KEY_HALVES = KEY_BYTES_MAX // 4
"""The key's bytes as little-endian numbers of 32 bits, the last one filled up with zeros."""

_LANES = 2


def _coefficients(lane: int) -> tuple[int, ...]:
    seeds = (f"meterline shard digest {lane} {place}" for place in range(ROW_HALVES + 2 + KEY_HALVES))
    return tuple(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big") | 1 for seed in seeds)


COEFFICIENTS = tuple(_coefficients(lane) for lane in range(_LANES))
"""By lane: one odd number for each half of a row, the higher one of a word first, for the shard's number (the journal
partition), for the length of the key, and for each half of the key."""
MIX_SHIFT = 33
MIX_FACTORS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)
"""The last steps of each lane: fold the high half into the low one, multiply, twice, and fold once more."""

_MATRIX = np.array(COEFFICIENTS, np.uint64).T.copy()
_OF_ROW, _OF_SHARD, _OF_LENGTH, _OF_KEY = np.split(_MATRIX, [ROW_HALVES, ROW_HALVES + 1, ROW_HALVES + 2])
_SHIFT = np.uint64(MIX_SHIFT)
_NO_HASHES = np.empty((0, _LANES), np.uint64)
_FACTORS = tuple(np.uint64(factor) for factor in MIX_FACTORS)


class Digest(NamedTuple):
    """Of a set of shards."""

    low: int = 0
    high: int = 0

    def plus(self, hashes: Hashes) -> Digest:
        if not len(hashes):
            return self
        return Digest(*(int(lane) for lane in (np.array(self, np.uint64) + hashes.sum(axis=0, dtype=np.uint64))))

    def minus(self, hashes: Hashes) -> Digest:
        if not len(hashes):
            return self
        return Digest(*(int(lane) for lane in (np.array(self, np.uint64) - hashes.sum(axis=0, dtype=np.uint64))))

    def __str__(self) -> str:
        return f"{self.low:016x}{self.high:016x}"

    @classmethod
    def read(cls, text: str) -> Digest:
        """What ``str`` wrote."""
        return cls(int(text[:16], 16), int(text[16:], 16))


def added(digests: Iterable[Digest]) -> Digest:
    """The digest of sets that have nothing in common, taken together."""
    low = high = 0
    for one in digests:
        low, high = low + one.low, high + one.high
    return Digest(low % 2**64, high % 2**64)


def hash_shards(keys: Sequence[bytes], rows: bytes, shard: int) -> Hashes:
    """The hashes of many shards of one partition. ``keys``: see ``key_bytes``; ``rows``: ``row_bytes``, joined."""
    if not keys:
        return _NO_HASHES
    halves = np.frombuffer(rows, ">u4").reshape(len(keys), ROW_HALVES).astype(np.uint64)
    mixed: Hashes = halves @ _OF_ROW + _hash_keys(keys) + np.uint64(shard) * _OF_SHARD
    for factor in _FACTORS:
        mixed ^= mixed >> _SHIFT
        mixed *= factor
    mixed ^= mixed >> _SHIFT
    return mixed


def _hash_keys(keys: Sequence[bytes]) -> Hashes:
    lengths = np.fromiter(map(len, keys), np.uint64, len(keys))
    longest = int(lengths.max(initial=1))
    if longest > KEY_BYTES_MAX:
        keys = [key if len(key) <= KEY_BYTES_MAX else hashlib.sha256(key).digest() for key in keys]
        longest = KEY_BYTES_MAX
    width = -(-longest // 4)
    halves = np.array(keys, f"S{4 * width}").view("<u4").reshape(len(keys), width).astype(np.uint64)
    hashes: Hashes = halves @ _OF_KEY[:width] + lengths[:, None] * _OF_LENGTH
    return hashes


def key_bytes(key: TallyKey) -> bytes:
    """A tally's key, as the summary topic has it in front of the partition."""
    return b"".join(
        (
            b"1" if key.livemode else b"0",
            key.event_name.encode(),
            b"\0",
            key.customer.encode(),
            b"\0",
            key.window_start_ms.to_bytes(8, "big", signed=True),
            dimensions_bytes(key.dimensions),
        )
    )


def key_of(packed: bytes) -> TallyKey:
    """What ``key_bytes`` wrote. ValueError or UndecodableRecord for anything else."""
    event_name, _, rest = packed[1:].partition(b"\0")
    customer, _, rest = rest.partition(b"\0")
    return TallyKey(
        packed[:1] == b"1",
        event_name.decode(),
        customer.decode(),
        int.from_bytes(rest[:8], "big", signed=True),
        dimensions_of(rest[8:]),
    )


def row_bytes(tally: Tally | SummaryShard) -> bytes:
    """A shard's numbers. Where nothing counts, all but the version are 0."""
    last, latest = tally.last or Last(0, 0, 0, 0), tally.latest or Latest(0, 0, 0)
    return _ROW.pack(
        tally.version,
        tally.count,
        tally.sum.to_bytes(32, "big", signed=True),
        (tally.min or 0).to_bytes(16, "big", signed=True),
        (tally.max or 0).to_bytes(16, "big", signed=True),
        last.timestamp_ms,
        last.appended_at_ms,
        last.offset,
        last.value.to_bytes(16, "big", signed=True),
        latest.appended_at_ms,
        latest.offset,
        latest.value.to_bytes(16, "big", signed=True),
    )


def version_of(row: bytes) -> int:
    return int.from_bytes(row[:8], "big", signed=True)


def numbers_of(row: bytes) -> dict[str, int]:
    """The numbers of a packed row by the names in WORDS."""
    found, at = {}, 0
    for name, words in WORDS:
        found[name] = int.from_bytes(row[at : at + 8 * words], "big", signed=True)
        at += 8 * words
    return found
