"""The strict walk by columns: all records of a chunk at once, one field after the other.

``borders.py`` walks one body in Python. Here the same walk is done in numpy for thousands of bodies lying one behind
the other in one buffer: each step reads one field of every record, from the position where the record's last field
ended. Nothing is decoded on the way; what is found are the borders of every field, and which records are *plain*.

Plain is narrower than legal. A record that is legal in a rare form (a map in several blocks, a varint of nine bytes)
is not plain, and is left to the strict path; a record that is not legal is never plain. Every position is computed
from the record's own bytes and checked against its own end, so no record, however hostile, moves a border of its
neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_Words = npt.NDArray[np.uint64]

PAD = bytes(32)
"""In front of and behind the records, so that the words before and behind any position of any record can be read."""

DIMENSIONS_PLAIN_MAX = 32
"""A map with more items is not plain: each item costs a step over the whole chunk."""

_CONTINUES = np.uint64(0x8080808080808080)
_GROUPS = np.uint64(0x7F7F7F7F7F7F7F7F)
_KEEP = np.array([0] + [(2**64 - 1) << (64 - 8 * n) & (2**64 - 1) for n in range(1, 9)], np.uint64)
"""By number of bytes: the mask that keeps so many leading bytes of a big-endian word."""


_ALL = slice(None)


class Span(NamedTuple):
    """Where the content of a string, of bytes or of a map lies in the buffer, per record: [start, end)."""

    start: Ints
    end: Ints

    def of(self, records: Ints | slice) -> Span:
        return Span(self.start[records], self.end[records])

    def behind(self, count: int) -> Span:
        return Span(self.start + count, self.end)


class Chunk:
    """Record values in one buffer.

    ``rows``: the index of each record in the list it came from; None values have none.
    """

    def __init__(self, values: Sequence[bytes | None]) -> None:
        self.values_count = len(values)
        present: Sequence[Any] = values
        self.rows = np.arange(len(values), dtype=np.int64)
        if None in values:
            self.rows = np.array([row for row, value in enumerate(values) if value is not None], np.int64)
            present = [values[row] for row in self.rows.tolist()]
        lengths = np.fromiter(map(len, present), np.int64, len(present))
        self.buffer = b"".join([PAD, *present, PAD])
        self.ends: Ints = np.cumsum(lengths) + len(PAD)
        self.starts: Ints = self.ends - lengths
        self.bytes = np.frombuffer(self.buffer, np.uint8)
        self.words: _Words = np.ndarray((len(self.buffer) - 7,), "<u8", self.buffer, 0, (1,))
        """The 8 bytes from each position on, as a little-endian word."""

    def has_prefix(self, prefix: bytes) -> Mask:
        """Which records begin with these bytes."""
        matches = self.ends - self.starts >= len(prefix)
        for at in range(0, len(prefix), 8):
            part = prefix[at : at + 8]
            mask = np.uint64((1 << 8 * len(part)) - 1)
            matches &= (self.words[self.starts + at] & mask) == np.uint64(int.from_bytes(part, "little"))
        return matches

    def big_endian(self, starts: Ints) -> _Words:
        """The 8 bytes from each position on, as a number that compares as the bytes do."""
        return self.words[starts].byteswap()


class ColumnWalk:
    """A walk in progress: ``at`` is where each record's next field begins, ``plain`` which records are plain so far."""

    def __init__(self, chunk: Chunk, prefixes: Sequence[bytes]) -> None:
        """Begin behind one of these prefixes; a record with none of them is not plain."""
        self.chunk = chunk
        self.ends = chunk.ends
        self.at = chunk.starts
        self.plain: Mask = np.zeros(len(chunk.starts), np.bool_)
        for prefix in prefixes:
            begins = chunk.has_prefix(prefix)
            self.plain = self.plain | begins
            self.at = np.where(begins, chunk.starts + len(prefix), self.at)

    def long(self) -> Ints:
        """Read a long of every record."""
        values, self.at, plain = _longs(self.chunk, self.at)
        self.require(plain)
        return values

    def int32(self) -> Ints:
        values = self.long()
        self.require(values == values.astype(np.int32))
        return values

    def boolean(self) -> Mask:
        values = self.chunk.bytes[self.at]
        self.at = self.at + 1
        self.require(values <= 1)
        return values.view(np.bool_)

    def span(self) -> Span:
        """Read a string or bytes of every record; the content is not looked at."""
        span, inside = _spans(self.chunk, self.at, self.ends)
        self.at = span.end
        self.require(inside)
        return span

    def decimal(self, words: int, digits: int) -> Ints:
        """Read a decimal of every record, as rows of so many 64-bit words, the lowest first.

        One with more than ``digits`` digits is not plain, and one very close to that is left out with it. Longer than
        16 bytes are plain only at their full width.
        """
        span = self.span()
        size = span.end - span.start
        self.require((size >= 1) & (size <= 16) if words == 2 else size == 8 * words)
        # The bytes that end where the value ends. Where it is shorter, what belongs to other fields is shifted out
        # and the sign shifted in.
        columns = [self.chunk.big_endian(span.end - 8 * (word + 1)).view(np.int64) for word in range(words)]
        if words == 2:
            low, high = columns
            low_shift = np.clip(64 - 8 * size, 0, 56)
            high_shift = np.clip(128 - 8 * size, 0, 56)
            low = (low << low_shift) >> low_shift
            columns = [low, np.where(size > 8, (high << high_shift) >> high_shift, low >> 63)]
        bound = 10**digits >> 64 * (words - 1)
        self.require((columns[-1] < bound) & (columns[-1] > -bound))
        return np.stack(columns, axis=1)

    def optional(self, read: Callable[[ColumnWalk], Any]) -> tuple[Mask, Any]:
        """Read a union of null and something: which records have it, and what ``read`` gives, of use for these only.

        The span of a record that has none is empty.
        """
        branch = self.chunk.bytes[self.at]
        self.at = self.at + 1
        self.require((branch == 0) | (branch == 2))
        present: Mask = branch == 2
        before_at, before_plain = self.at, self.plain
        column = read(self)
        self.at = np.where(present, self.at, before_at)
        self.plain = np.where(present, self.plain, before_plain)
        if isinstance(column, Span):
            column = Span(np.where(present, column.start, before_at), np.where(present, column.end, before_at))
        return present, column

    def dimensions(self) -> tuple[Span, Mask]:
        """Read a map<string> of every record: its bytes, and whether they are canonical beyond doubt.

        Where they are not, the keys are in another order, twice the same, or a length takes more than one byte: the
        strict path can say which, from these bytes alone.
        """
        start = self.at
        count = self.long()
        self.require((count >= 0) & (count <= DIMENSIONS_PLAIN_MAX))
        count = np.where(self.plain, count, 0)
        canonical = np.ones(len(start), np.bool_)
        before: Span | None = None
        for item in range(int(count.max(initial=0))):
            have_it = count > item
            # Most often every map has as many items, and then nothing has to be picked out and put back.
            records = _ALL if have_it.all() else np.flatnonzero(have_it)
            before = self._dimension(records, before, canonical)
        some = count > 0
        # The block after the items must be the empty one that ends the map.
        self.require(~some | (self.chunk.bytes[self.at] == 0))
        self.at = self.at + some
        return Span(start, self.at), canonical

    def _dimension(self, records: Ints | slice, before: Span | None, canonical: Mask) -> Span:
        """Read the next item of the maps of ``records``; returns the keys by record, ``before`` are the ones before."""
        at, ends = self.at[records], self.ends[records]
        key, key_inside = _spans(self.chunk, at, ends)
        value, value_inside = _spans(self.chunk, key.end, ends)
        # With one-byte lengths (below 64) the whole map is valid UTF-8 exactly if all of its strings are.
        undoubted = (key.end - at <= 64) & (value.end - key.end <= 64)
        if before is not None:
            undoubted &= _less(self.chunk, before.of(records), key)
        canonical[records] &= undoubted
        self.plain[records] &= key_inside & value_inside
        if isinstance(records, slice):
            self.at = value.end
            return key
        self.at = self.at.copy()
        self.at[records] = value.end
        keys = Span(np.zeros_like(self.at), np.zeros_like(self.at))
        keys.start[records], keys.end[records] = key
        return keys

    def finish(self) -> Mask:
        """Which records were plain and ended where their value ends."""
        self.require(self.at == self.ends)
        return self.plain

    def require(self, holds: Mask) -> None:
        """Drop the records for which this does not hold, and those whose last field went beyond their end.

        They stay at a position that can be read: the walk goes on for all.
        """
        self.plain = self.plain & holds & (self.at <= self.ends)
        self.at = np.minimum(self.at, self.ends)


def _longs(chunk: Chunk, at: Ints) -> tuple[Ints, Ints, Mask]:
    """Zigzag varints of up to 8 bytes at these positions: values, ends, and which are that and minimal."""
    first = chunk.bytes[at]
    if not (first & 0x80).any():
        bits = first.astype(np.int64)
        return (bits >> 1) ^ -(bits & 1), at + 1, np.ones(len(at), np.bool_)
    words = chunk.words[at]
    stops = ~words & _CONTINUES
    within = stops ^ (stops - np.uint64(1))  # all bits up to the one that ends the varint; all bits if none does
    lengths = np.bitwise_count(within).astype(np.int64) >> 3
    groups = words & within & _GROUPS
    groups = (groups & np.uint64(0x007F007F007F007F)) | ((groups & np.uint64(0x7F007F007F007F00)) >> np.uint64(1))
    groups = (groups & np.uint64(0x00003FFF00003FFF)) | ((groups & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2))
    bits = ((groups & np.uint64(0x0FFFFFFF)) | ((groups >> np.uint64(4)) & np.uint64(0x00FFFFFFF0000000))).view(
        np.int64
    )
    minimal = (lengths == 1) | (bits >> (7 * (lengths - 1)) != 0)
    return (bits >> 1) ^ -(bits & 1), at + lengths, minimal & (stops != 0)


def _spans(chunk: Chunk, at: Ints, ends: Ints) -> tuple[Span, Mask]:
    """Length-prefixed contents at these positions, and which of them lie inside; the others are empty."""
    lengths, starts, plain = _longs(chunk, at)
    inside = plain & (lengths >= 0) & (lengths <= ends - starts)
    starts = np.minimum(starts, ends)
    return Span(starts, np.where(inside, starts + lengths, starts)), inside


def _less(chunk: Chunk, left: Span, right: Span) -> Mask:
    """Which contents on the left are smaller than those on the right, byte by byte."""
    first, second = chunk.big_endian(left.start), chunk.big_endian(right.start)
    left_size, right_size = left.end - left.start, right.end - right.start
    first = first & _KEEP[np.minimum(left_size, 8)]
    second = second & _KEEP[np.minimum(right_size, 8)]
    less: Mask = first < second
    tie = np.flatnonzero(first == second)
    if len(tie):
        # The first 8 bytes are equal, zeros behind the end included: where one has no more, the shorter is smaller.
        left_size, right_size = left_size[tie], right_size[tie]
        ended = (left_size <= 8) | (right_size <= 8)
        less[tie] = ended & (left_size < right_size)
        go_on = tie[~ended]
        less[go_on] = _less(chunk, left.of(go_on).behind(8), right.of(go_on).behind(8))
    return less


def items_of(chunk: Chunk) -> tuple[Ints, Span, Span]:
    """The items of canonical maps, one map per record: how many each has, then all keys and all values, in order."""
    counts, at, _ = _longs(chunk, chunk.starts)
    firsts = np.cumsum(counts) - counts
    total = int(counts.sum())
    keys, values = (Span(np.empty(total, np.int64), np.empty(total, np.int64)) for _ in range(2))
    for item in range(int(counts.max(initial=0))):
        records = np.flatnonzero(counts > item)
        places = firsts[records] + item
        key, _ = _spans(chunk, at[records], chunk.ends[records])
        value, _ = _spans(chunk, key.end, chunk.ends[records])
        keys.start[places], keys.end[places] = key
        values.start[places], values.end[places] = value
        at[records] = value.end
    return counts, keys, values
