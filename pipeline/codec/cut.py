"""The plain records of a walk, cut out of their buffer as Arrow arrays.

An Arrow array of strings is one buffer and the offsets between its elements. The chunk is such a buffer already: with
the start and the end of a field as offsets, every second element is that field and the elements between are whatever
lies between. So a column is cut by taking every second element, without looking at a byte in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.codec.chunk import Chunk, ColumnWalk, Ints, Mask, Span, items_of
from pipeline.codec.dimensions import dimensions_bytes, dimensions_of
from pipeline.errors import UndecodableRecord

_OFFSET_MAX = 2**31 - 1

Dimensions = tuple[Span, Mask]
"""What ``ColumnWalk.dimensions`` reads: the maps' bytes, and which are canonical beyond doubt."""


class Cut:
    """The records of a walk that are kept: ``texts`` comes first, for it drops those whose texts are not UTF-8."""

    def __init__(self, walk: ColumnWalk, plain: Mask) -> None:
        self._chunk = walk.chunk
        self._buffer = pa.py_buffer(self._chunk.buffer)
        if len(self._chunk.buffer) > _OFFSET_MAX:  # beyond Arrow's offsets; no fetch is ever so large
            plain = np.zeros_like(plain)
        self.records: Ints = np.flatnonzero(plain)
        """Which records of the chunk are kept; ascending."""
        self._mended: dict[int, bytes] = {}

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

    def texts(self, spans: Sequence[Span], maps: Sequence[Dimensions]) -> list[pa.Array]:
        """The contents of ``spans`` as strings.

        Drops the records in which one of them, or a string in one of ``maps``, is not UTF-8, and those with a map
        that has a key twice.
        """
        for dimensions, canonical in maps:
            self._mend(dimensions, canonical)
        # The maps that were mended are good: their spans are made empty for this check.
        checked = [*spans, *(_only(dimensions, canonical) for dimensions, canonical in maps)]
        try:
            texts = self._strings(checked)
        except pa.ArrowInvalid:
            self.records = np.array([one for one in self.records.tolist() if self._is_text(one, checked)], np.int64)
            texts = self._strings(checked)
        return texts[: len(spans)]

    def _strings(self, spans: Sequence[Span]) -> list[pa.Array]:
        return [self._contents(span).cast(pa.string()) for span in spans]

    def _is_text(self, record: int, spans: Sequence[Span]) -> bool:
        try:
            for span in spans:
                self._chunk.buffer[span.start[record] : span.end[record]].decode()
        except UnicodeDecodeError:
            return False
        return True

    def _contents(self, span: Span) -> pa.Array:
        return contents(self._buffer, span.of(self.records))

    def _mend(self, dimensions: Span, canonical: Mask) -> None:
        """Bring maps in doubt into canonical form, each distinct one once; drop the records where that fails."""
        known: dict[bytes, bytes | None] = {}
        dropped: list[int] = []
        for record in self.records[~canonical[self.records]].tolist():
            raw = self._chunk.buffer[dimensions.start[record] : dimensions.end[record]]
            if raw not in known:
                known[raw] = _canonical(raw)
            packed = known[raw]
            if packed is None:
                dropped.append(record)
            else:
                self._mended[record] = packed
        if dropped:
            self.records = np.setdiff1d(self.records, np.array(dropped), assume_unique=True)

    def dimensions(self, dimensions: Span, canonical: Mask) -> pa.Array:
        """The maps' canonical bytes."""
        packed = self._contents(dimensions)
        doubted = ~canonical[self.records]
        if not doubted.any():
            return packed
        mended = [self._mended[record] for record in self.records[doubted].tolist()]
        return pc.replace_with_mask(packed, pa.array(doubted), pa.array(mended, pa.binary()))

    def numbers(self, kind: pa.DataType, values: npt.NDArray[Any]) -> pa.Array:
        """Booleans, ints, times; decimals as rows of 64-bit words, the lowest first."""
        kept = np.ascontiguousarray(values[self.records])
        if kept.ndim == 1:
            return pa.array(kept).cast(kind)
        return pa.Array.from_buffers(kind, len(kept), [None, pa.py_buffer(kept)])

    def nullable(self, column: pa.Array, present: Mask) -> pa.Array:
        return pc.if_else(pa.array(present[self.records]), column, pa.scalar(None, column.type))


def _only(dimensions: Span, canonical: Mask) -> Span:
    return Span(dimensions.start, np.where(canonical, dimensions.end, dimensions.start))


def _canonical(raw: bytes) -> bytes | None:
    try:
        return dimensions_bytes(dimensions_of(raw))
    except UndecodableRecord:
        return None


def contents(buffer: pa.Buffer, span: Span) -> pa.Array:
    """The contents of spans, ascending and apart, as an array of bytes."""
    count = len(span.start)
    offsets = np.empty(2 * count + 1, np.int32)
    offsets[0:-1:2] = span.start
    offsets[1::2] = span.end
    offsets[-1] = span.end[-1] if count else 0
    pieces = pa.Array.from_buffers(pa.binary(), 2 * count, [None, pa.py_buffer(offsets), buffer])
    return pieces.take(pa.array(np.arange(0, 2 * count, 2)))


def dimension_maps(packed: pa.Array) -> pa.Array:
    """Canonical dimensions as map<utf8, utf8>."""
    chunk = Chunk(packed.to_pylist())
    counts, keys, values = items_of(chunk)
    buffer = pa.py_buffer(chunk.buffer)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    texts = [contents(buffer, span).cast(pa.string()) for span in (keys, values)]
    return pa.MapArray.from_arrays(pa.array(offsets), *texts)
