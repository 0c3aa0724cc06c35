"""The hash of a summary shard (codec/digests.py) as SQL over a row of ``summary_shards``.

Both are held together by a test: a difference of a digest is then a difference of a row, never one of arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.codec.digests import COEFFICIENTS, KEY_BYTES_MAX, KEY_HALVES, MIX_FACTORS, MIX_SHIFT, WORDS

_WIDE = {1: "", 2: "UInt128", 4: "UInt256"}
_MOMENTS = frozenset({"last_timestamp", "last_appended_at", "latest_appended_at"})


def _size(text: str) -> str:
    """An Avro length, which is below 2^13 for every text that is accepted."""
    return (
        f"if(length({text}) < 64, char(2 * length({text})),"
        f" char(128 + (2 * length({text})) % 128, intDiv(2 * length({text}), 128)))"
    )


KEY = f"""concat(
    if(livemode, '1', '0'), event_name, char(0), customer, char(0),
    reverse(reinterpret(toUnixTimestamp64Milli(window_start), 'FixedString(8)')),
    if(empty(dimensions), '', char(2 * length(dimensions))),
    arrayStringConcat(arrayMap(
        (name, value) -> concat({_size("name")}, name, {_size("value")}, value),
        mapKeys(dimensions), mapValues(dimensions))),
    char(0))"""
"""``codec.digests.key_bytes`` of a row."""


def _words() -> Iterator[str]:
    """The words of a row and of its key, the highest of a number first."""
    for name, words in WORDS:
        if name in _MOMENTS:
            yield f"toUInt64(toUnixTimestamp64Milli({name}))"
        elif words == 1:
            yield name
        else:
            wide = f"reinterpret({name}, '{_WIDE[words]}')"
            for place in range(words - 1, -1, -1):
                yield f"toUInt64(bitShiftRight({wide}, {64 * place}))" if place else f"toUInt64({wide})"
    for place in range(KEY_HALVES // 2):
        yield f"reinterpretAsUInt64(substring(short_key, {8 * place + 1}, 8))"


_WORDS = tuple(_words())
_ROW_WORDS = sum(words for _, words in WORDS)


def _halves() -> Iterator[str]:
    """What is multiplied, in the order of the coefficients."""
    for number in range(len(_WORDS)):
        high, low = f"bitShiftRight(word_{number}, 32)", f"bitAnd(word_{number}, {2**32 - 1})"
        if number == _ROW_WORDS:
            yield from ("toUInt64(shard)", "length(key)")
        yield from (high, low) if number < _ROW_WORDS else (low, high)


def _lane(number: int) -> str:
    sums = "\n        + ".join(
        f"{half} * toUInt64({factor})" for half, factor in zip(_halves(), COEFFICIENTS[number], strict=True)
    )
    name = f"lane_{number}"
    lines = [f"{sums} AS {name}_sum"]
    before = f"{name}_sum"
    for step, factor in enumerate(MIX_FACTORS):
        lines.append(f"bitXor({before}, bitShiftRight({before}, {MIX_SHIFT})) * toUInt64({factor}) AS {name}_{step}")
        before = f"{name}_{step}"
    lines.append(f"bitXor({before}, bitShiftRight({before}, {MIX_SHIFT})) AS {name}")
    return ",\n    ".join(lines)


_NAMED = ",\n    ".join(f"{word} AS word_{number}" for number, word in enumerate(_WORDS))

HASH = f"""{KEY} AS key,
    if(length(key) > {KEY_BYTES_MAX}, concat(SHA256(key), ''), key) AS short_key,
    {_NAMED},
    {_lane(0)},
    {_lane(1)}"""
"""For a WITH clause: ``lane_0`` and ``lane_1`` of the row's hash."""
