"""The plain records of a walk, cut out of their buffer as Arrow arrays.

An Arrow array of strings is one buffer and the offsets between its elements. The chunk is such a buffer already: with
the start and the end of a field as offsets, every second element is that field and the elements between are whatever
lies between. So a column is cut by choosing every second element, without looking at a byte in Python.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.codec.chunk import ColumnWalk, Ints, Mask, Span
from pipeline.codec.dimensions import dimensions_bytes, dimensions_of
from pipeline.domain.limits import VALUE_PRECISION, VALUE_SCALE
from pipeline.errors import UndecodableRecord

DECIMAL = pa.decimal128(VALUE_PRECISION, VALUE_SCALE)
_OFFSET_MAX = 2**31 - 1


class Cut:
    """The records of a walk that are kept. Cutting texts may drop some, so texts are cut first."""

    def __init__(self, walk: ColumnWalk, plain: Mask) -> None:
        self._chunk = walk.chunk
        self._buffer = pa.py_buffer(self._chunk.buffer)
        if len(self._chunk.buffer) > _OFFSET_MAX:  # beyond Arrow's offsets; no fetch is ever so large
            plain = np.zeros_like(plain)
        self.records: Ints = np.flatnonzero(plain)
        """Which records of the chunk are kept; ascending."""

    @property
    def rows(self) -> Ints:
        """The kept records' indices in the list of values."""
        return self._chunk.rows[self.records]

    @property
    def rest(self) -> Ints:
        """All other indices in the list of values."""
        others = np.ones(self._chunk.values_count, np.bool_)
        others[self.rows] = False
        return np.flatnonzero(others)

    def binary(self, span: Span) -> pa.Array:
        """The contents as they are."""
        count = len(self.records)
        offsets = np.empty(2 * count + 1, np.int32)
        offsets[0:-1:2] = span.start[self.records]
        offsets[1::2] = span.end[self.records]
        offsets[-1] = len(self._chunk.buffer)
        pieces = pa.Array.from_buffers(pa.binary(), 2 * count, [None, pa.py_buffer(offsets), self._buffer])
        return pieces.take(pa.array(np.arange(0, 2 * count, 2)))

    def texts(self, spans: Sequence[Span]) -> list[pa.Array]:
        """The contents as strings. Drops the records in which one of them is not UTF-8."""
        try:
            return [self.binary(span).cast(pa.string()) for span in spans]
        except pa.ArrowInvalid:
            self.records = np.array([record for record in self.records if self._is_text(record, spans)], np.int64)
            return [self.binary(span).cast(pa.string()) for span in spans]

    def _is_text(self, record: int, spans: Sequence[Span]) -> bool:
        try:
            for span in spans:
                self._chunk.buffer[span.start[record] : span.end[record]].decode()
        except UnicodeDecodeError:
            return False
        return True

    def texts_and_dimensions(
        self, spans: Sequence[Span], dimensions: Span, canonical: Mask
    ) -> tuple[list[pa.Array], pa.Array]:
        """The contents as strings and the dimensions as canonical bytes. Drops the records in which one is invalid.

        Dimensions that are not ``canonical`` beyond doubt are read one by one, each distinct one once.
        """
        mended = self._mended(dimensions, canonical)
        # Those are checked, so they take no part in the check of all the others: their span is made empty.
        undoubted = Span(dimensions.start, np.where(canonical, dimensions.end, dimensions.start))
        *texts, packed = self.texts([*spans, undoubted])
        packed = packed.cast(pa.binary())
        if mended:
            doubted = ~canonical[self.records]
            replacements = pa.array([mended[record] for record in self.records[doubted].tolist()], pa.binary())
            packed = pc.replace_with_mask(packed, pa.array(doubted), replacements)
        return texts, packed

    def _mended(self, dimensions: Span, canonical: Mask) -> dict[int, bytes]:
        """By record: the canonical form of the dimensions in doubt. Drops the records whose dimensions are none."""
        known: dict[bytes, bytes | None] = {}
        mended: dict[int, bytes] = {}
        dropped: list[int] = []
        for record in self.records[~canonical[self.records]].tolist():
            raw = self._chunk.buffer[dimensions.start[record] : dimensions.end[record]]
            if raw not in known:
                known[raw] = _canonical(raw)
            packed = known[raw]
            if packed is None:
                dropped.append(record)
            else:
                mended[record] = packed
        if dropped:
            self.records = np.setdiff1d(self.records, np.array(dropped), assume_unique=True)
        return mended

    def decimals(self, low: Ints, high: Ints) -> pa.Array:
        """Decimal(38, 12) from the two halves of each value."""
        words = np.empty((len(self.records), 2), np.int64)
        words[:, 0] = low[self.records]
        words[:, 1] = high[self.records]
        return pa.Array.from_buffers(DECIMAL, len(words), [None, pa.py_buffer(words)])


def _canonical(raw: bytes) -> bytes | None:
    try:
        return dimensions_bytes(dimensions_of(raw))
    except UndecodableRecord:
        return None


def decimal_words(walk: ColumnWalk, span: Span) -> tuple[Ints, Ints]:
    """The lower and the upper 64 bits of big-endian decimals of 1 to 16 bytes; others are not plain."""
    size = span.end - span.start
    walk.require((size >= 1) & (size <= 16))
    chunk = walk.chunk
    # The 16 bytes that end where the value ends; what belongs to other fields is shifted out, and the sign shifted in.
    low = chunk.big_endian(span.end - 8).view(np.int64)
    high = chunk.big_endian(span.end - 16).view(np.int64)
    low_shift = np.clip(64 - 8 * size, 0, 56)
    high_shift = np.clip(128 - 8 * size, 0, 56)
    low = (low << low_shift) >> low_shift
    return low, np.where(size > 8, (high << high_shift) >> high_shift, low >> 63)
