"""Which of many journal records are plain events, and where their fields lie: the audit's own way of reading.

A plain event is one of the form that nearly all have: every length below 64, the identifier visible ASCII, a time of
these decades, a value that cannot be too long. Of everything else nothing is said: ``domain/fold.py`` folds it record
by record. Nothing here is the worker's (``codec/chunk.py``, ``codec/murmur.py``): two who read alike are wrong alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.domain.fold import Journal

_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]

_PAD = bytes(64)
"""Behind the records, so that the words behind any position of any record can be read."""
_UNUSUAL_LENGTH = 0x81
"""Bits of a length that is negative, or of more than one byte."""
_VALUE_BYTES_MAX = 15
"""Less than 2^119 either way, and so of fewer digits than are too many."""
_MOMENT_BYTES = 6
_CONTINUES, _CONTINUED = 0x808080808080, 0x008080808080
"""The bits by which a varint of six bytes goes on and ends."""

_M = np.uint32(0x5BD1E995)
_SEED = np.uint32(0x9747B28C)


class PlainEvents(NamedTuple):
    """By record; where it is not plain, the rest means nothing. Positions are those in ``buffer``."""

    buffer: bytes
    plain: list[bool]
    identifier: list[int]
    names: list[int]
    """Where the identifier ends, and the event name and the customer begin, each with its length."""
    units: list[int]
    """Where these end, and the value begins: its length, then its bytes."""
    moment: list[int]
    """Where the value ends, and the timestamp begins."""
    tail: list[int]
    """Dimensions and mode."""
    end: list[int]
    timestamp_ms: list[int]


def plain_events(
    values: Sequence[bytes | None], clocks_ms: Sequence[int], prefixes: Sequence[bytes], journal: Journal
) -> PlainEvents:
    """``clocks_ms``: the fold's clock at each record. Also at home, and of an acceptable time, are all plain events."""
    buffer = b"".join([*(value or b"" for value in values), _PAD])
    text = np.frombuffer(buffer, np.uint8)
    words = np.ndarray((len(buffer) - 7,), "<u8", buffer, 0, (1,))
    sizes = np.fromiter((len(value or b"") for value in values), np.int64, len(values))
    ends = np.cumsum(sizes)
    at, plain = _behind_prefix(words, ends - sizes, ends, prefixes)

    def over_text(at: _Ints) -> tuple[_Ints, _Mask]:
        length = text[at]
        end = at + 1 + (length >> 1)
        return np.minimum(end, ends), ((length & _UNUSUAL_LENGTH) == 0) & (end <= ends)

    names, fits = over_text(at)
    plain &= fits & _is_visible(text, at + 1, names)
    customer, fits = over_text(names)
    plain &= fits
    units, fits = over_text(customer)
    plain &= fits
    moment, fits = over_text(units)
    plain &= fits & (moment > units + 1) & (moment - units - 1 <= _VALUE_BYTES_MAX)
    tail = np.minimum(moment + _MOMENT_BYTES, ends)
    timestamps_ms, fits = _moments(words[moment])
    clocks = np.array(clocks_ms, np.int64)
    plain &= fits & (tail < ends)
    plain &= (timestamps_ms >= clocks - journal.rules.max_past_ms) & (
        timestamps_ms <= clocks + journal.rules.max_ahead_ms
    )
    plain &= _homes(buffer, np.minimum(at + 1, names), names, journal.partitions) == journal.partition
    columns = (plain, at + 1, names, units, moment, tail, ends, timestamps_ms)
    return PlainEvents(buffer, *(column.tolist() for column in columns))


def _behind_prefix(
    words: npt.NDArray[np.uint64], starts: _Ints, ends: _Ints, prefixes: Sequence[bytes]
) -> tuple[_Ints, _Mask]:
    """Where each record's body begins, and which records have one of these prefixes."""
    at, plain = starts, np.zeros(len(starts), np.bool_)
    for prefix in prefixes:
        begins = ends - starts > len(prefix)
        for place in range(0, len(prefix), 8):
            part = prefix[place : place + 8]
            mask = np.uint64((1 << 8 * len(part)) - 1)
            begins &= (words[starts + place] & mask) == np.uint64(int.from_bytes(part, "little"))
        at, plain = np.where(begins, starts + len(prefix), at), plain | begins
    return at, plain


def _is_visible(text: npt.NDArray[np.uint8], starts: _Ints, ends: _Ints) -> _Mask:
    """Which stretches are one byte or more, each of them from a space to a tilde."""
    hidden = np.zeros(len(text) + 1, np.int32)
    np.cumsum((text < 0x20) | (text > 0x7E), out=hidden[1:])
    visible: _Mask = (starts < ends) & (hidden[ends] == hidden[np.minimum(starts, ends)])
    return visible


def _moments(words: npt.NDArray[np.uint64]) -> tuple[_Ints, _Mask]:
    """Times in milliseconds from varints of six bytes, and which of them are that, not negative, and no longer."""
    continues = (words & np.uint64(_CONTINUES)) == np.uint64(_CONTINUED)
    bits = np.zeros(len(words), np.uint64)
    for place in range(_MOMENT_BYTES):
        bits |= (words >> np.uint64(8 * place) & np.uint64(0x7F)) << np.uint64(7 * place)
    shortest = bits >> np.uint64(7 * (_MOMENT_BYTES - 1)) != 0
    return (bits >> np.uint64(1)).astype(np.int64), continues & shortest & (bits & np.uint64(1) == 0)


def _homes(buffer: bytes, starts: _Ints, ends: _Ints, partitions: int) -> _Ints:
    """The partition of each identifier: ``domain/partitioning.py``, a word of all of them at a time."""
    words = np.ndarray((len(buffer) - 3,), "<u4", buffer, 0, (1,))
    sizes = np.minimum(ends - starts, 63)
    whole = sizes >> 2
    hashes = _SEED ^ sizes.astype(np.uint32)
    for number in range(int(whole.max(initial=0))):
        word = words[starts + 4 * number] * _M
        mixed = hashes * _M ^ (word ^ word >> np.uint32(24)) * _M
        hashes = np.where(number < whole, mixed, hashes)
    left = (sizes & 3).astype(np.uint32)
    rest = words[starts + 4 * whole] & ((np.uint32(1) << np.uint32(8) * left) - np.uint32(1))
    hashes = np.where(left > 0, (hashes ^ rest) * _M, hashes)
    hashes = (hashes ^ hashes >> np.uint32(13)) * _M
    hashes ^= hashes >> np.uint32(15)
    homes: _Ints = ((hashes & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).astype(np.int64)
    return homes
