"""Many record values as columns: the fast path of the codec.

Two steps: the walk of ``chunk.py`` finds the borders of every field and which records are plain; those are cut out by
Arrow, a column at a time. All others are ``rest``: they go through ``records.Codec`` one by one, which defines what is
right. Of every record in the columns the Codec would have said the same (tested with hostile bytes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from pipeline.codec.chunk import Chunk, ColumnWalk, Ints
from pipeline.codec.cut import Cut, decimal_words
from pipeline.codec.schemas import newest
from pipeline.domain.limits import VALUE_BOUND

_HIGH_WORD_BOUND = VALUE_BOUND >> 64
"""A value whose upper 64 bits reach this may have more digits than the column's type."""


class EventColumns(NamedTuple):
    """Meter events by column, and what could not be read that way."""

    frame: pl.DataFrame
    """One row per event: identifier, event_name, customer: String; value: Decimal(38, 12); timestamp_ms: Int64;
    dimensions: Binary (canonical, see dimensions.py); livemode: Boolean."""
    rows: Ints
    """Index into the values of each row of the frame; ascending."""
    rest: Ints
    """Indices of all other values; ascending."""


class TableColumns(NamedTuple):
    """Records by column as an Arrow table, and what could not be read that way."""

    table: pa.Table
    rows: Ints
    """Index into the values of each row of the table; ascending."""
    rest: Ints
    """Indices of all other values; ascending."""


def decode_events(values: Sequence[bytes | None], prefixes: Sequence[bytes] | None = None) -> EventColumns:
    """The meter events among journal values, by column.

    ``prefixes``: what stands in front of a MeterEvent of the newest version; see ``Codec.prefixes``. The default is
    single-object encoding alone. Records in another framing, of another version or another type are rest.
    """
    walk = ColumnWalk(Chunk(values), prefixes or (newest("MeterEvent").prefix,))
    identifier, event_name, customer, value = (walk.span() for _ in range(4))
    timestamp_ms = walk.long()
    dimensions, canonical = walk.dimensions()
    livemode = walk.boolean()
    low, high = decimal_words(walk, value)
    cut = Cut(walk, walk.finish() & (high < _HIGH_WORD_BOUND) & (high > -_HIGH_WORD_BOUND))
    texts, packed = cut.texts_and_dimensions([identifier, event_name, customer], dimensions, canonical)
    frame = pl.DataFrame(
        [
            *(
                pl.Series(name, text)
                for name, text in zip(("identifier", "event_name", "customer"), texts, strict=True)
            ),
            pl.Series("value", cut.decimals(low, high)),
            pl.Series("timestamp_ms", timestamp_ms[cut.records]),
            pl.Series("dimensions", packed),
            pl.Series("livemode", livemode[cut.records]),
        ]
    )
    return EventColumns(frame, cut.rows, cut.rest)
