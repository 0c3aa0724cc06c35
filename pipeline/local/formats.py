"""What the endpoint knows of ClickHouse's formats. Pure functions."""

from __future__ import annotations

# chDB formats every block of a streamed result by itself: only with these formats, which have neither head nor foot,
# are the blocks, one after the other, the result.
STREAMED = frozenset(
    {"native", "rowbinary", "tabseparated", "tsv", "tabseparatedraw", "tsvraw", "csv"}
    | {"jsoneachrow", "jsonlines", "ndjson", "jsoncompacteachrow"}
)


def native_head(names_and_types: bytes) -> bytes:
    """A Native block of no rows, from an empty RowBinaryWithNamesAndTypes: count, names, types."""
    columns, at = _varint(names_and_types, 0)
    count, texts = names_and_types[:at], []
    for _ in range(2 * columns):
        length, begin = _varint(names_and_types, at)
        texts.append(names_and_types[at : begin + length])
        at = begin + length
    pairs = zip(texts[:columns], texts[columns:], strict=True)
    return count + b"\x00" + b"".join(name + type_ for name, type_ in pairs)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
