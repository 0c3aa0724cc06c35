"""Shards and dispositions as Arrow tables are what the strict codec reads, hostile bytes included."""

from __future__ import annotations

import decimal

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.codec.columns import MOMENT_PLAIN_MAX_MS, MOMENT_PLAIN_MIN_MS, decode_table
from pipeline.codec.dimensions import long_bytes
from pipeline.codec.records import Codec
from pipeline.domain.events import Disposition, Last, Latest, MeterEvent, SummaryShard, TallyKey
from pipeline.errors import UndecodableRecord

CODEC = Codec()
EXACT = decimal.Context(prec=100)

short = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
text = st.one_of(short, short, st.builds(lambda part, times: part * times, short, st.integers(8, 40)))
moment = st.integers(MOMENT_PLAIN_MIN_MS, MOMENT_PLAIN_MAX_MS)
any_moment = st.one_of(moment, moment, st.integers(-(2**63), 2**63 - 1))
whole = st.integers(0, 2**50)
value = st.one_of(st.integers(-(10**38) + 1, 10**38 - 1), st.integers(-300, 300), st.sampled_from([10**38, -(10**38)]))
total = st.one_of(st.integers(-(10**76) + 1, 10**76 - 1), st.sampled_from([10**76, 2**255 - 1, -(2**255)]))
dimensions = st.dictionaries(text, text, max_size=4).map(lambda pairs: tuple(sorted(pairs.items())))
small = st.integers(0, 2**31 - 1)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.none(), strategy)


key = st.builds(TallyKey, st.booleans(), text, text, any_moment, dimensions)
last = st.builds(Last, any_moment, moment, whole, value)
latest = st.builds(Latest, moment, whole, value)
counted = st.builds(SummaryShard, key, small, whole, st.integers(1, 2**50), total, value, value, last, latest)
emptied = st.builds(SummaryShard, key, small, whole, *(st.just(one) for one in (0, 0, None, None, None, None)))
shard = st.one_of(counted, counted, emptied)
disposition = st.builds(
    Disposition,
    small, whole, whole, text, text, maybe(text), maybe(st.booleans()), maybe(text), maybe(text), maybe(text),
    maybe(value), maybe(any_moment), maybe(any_moment), maybe(text), maybe(whole), maybe(whole),
)  # fmt: skip
event = st.builds(MeterEvent, text, text, text, value, any_moment, dimensions, st.booleans())


def shard_row(one: SummaryShard) -> dict:
    return {
        **one.key._asdict(), "shard": one.shard, "version": one.version, "count": one.count, "sum": one.sum,
        "min": one.min or 0, "max": one.max or 0,
        **{f"last_{name}": number for name, number in (one.last or Last(0, 0, 0, 0))._asdict().items()},
        **{f"latest_{name}": number for name, number in (one.latest or Latest(0, 0, 0))._asdict().items()},
    }  # fmt: skip


SUBSTANTIAL = (*TallyKey._fields, "shard", "version", "count", "sum")

KINDS: dict[str, tuple] = {
    "SummaryShard": (CODEC.encode_shard, CODEC.decode_shard, shard_row, shard),
    "Disposition": (CODEC.encode_disposition, CODEC.decode_disposition, Disposition._asdict, disposition),
    "MeterEvent": (CODEC.encode_event, CODEC.decode_journal, MeterEvent._asdict, event),
}


@st.composite
def harmed(draw: st.DrawFn, encoded: bytes) -> bytes:
    at = draw(st.integers(0, len(encoded) - 1))
    match draw(st.integers(0, 7)):
        case 0:
            return encoded[:at]
        case 1:
            return encoded[:at] + bytes([draw(st.integers(0, 255))]) + encoded[at + 1 :]
        case 2:
            return encoded[:at] + long_bytes(draw(st.integers(-(2**63), 2**63 - 1))) + encoded[at:]
        case 3:
            return encoded + b"\0"
        case _:
            return encoded


@st.composite
def chunk(draw: st.DrawFn) -> tuple[str, list[bytes | None]]:
    name = draw(st.sampled_from(sorted(KINDS)))
    encode, _, _, strategy = KINDS[name]
    values: list[bytes | None] = [draw(harmed(encode(one))) for one in draw(st.lists(strategy, max_size=8))]
    if draw(st.booleans()):
        values.append(None)
    if len(values) > 1 and values[-1] and draw(st.booleans()):  # a border moved between two neighbours
        by = draw(st.integers(1, 4))
        values[-2:] = [(values[-2] or b"") + values[-1][:by], values[-1][by:]]
    return name, values


def units(table: pa.Table) -> list[dict]:
    """The rows with numbers as the domain has them: decimals scaled to ints, times to milliseconds."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(place, field.name.removesuffix("_ms") + "_ms", table[field.name].cast(pa.int64()))
    rows = table.to_pylist()
    for row in rows:
        for name, content in row.items():
            if isinstance(content, decimal.Decimal):
                row[name] = int(content.scaleb(12, EXACT))
            if isinstance(content, list):
                row[name] = tuple(content)
    return rows


@settings(max_examples=300, deadline=None)
@given(chunk())
def test_what_stands_in_a_table_is_what_the_strict_codec_reads(made: tuple[str, list[bytes | None]]) -> None:
    name, values = made
    _, decode, row_of, _ = KINDS[name]
    columns = decode_table(name, values)
    assert sorted([*columns.rows.tolist(), *columns.rest.tolist()]) == list(range(len(values)))
    columns.table.validate(full=True)
    for index, row in zip(columns.rows.tolist(), units(columns.table), strict=True):
        try:
            read = decode(values[index])
        except UndecodableRecord as error:
            raise AssertionError(f"the strict codec does not take {values[index]!r}") from error
        emptied = name == "SummaryShard" and read.count == 0  # the rest means nothing then, by the schema
        fields = SUBSTANTIAL if emptied else tuple(row)
        assert {field: row[field] for field in fields} == {field: row_of(read)[field] for field in fields}
        assert set(row) == set(row_of(read))


@given(st.data())
def test_every_ordinary_record_goes_by_columns(data: st.DataObject) -> None:
    moments = st.integers(0, 2**41)
    amount = st.integers(-(10**37), 10**37)
    ordinary = {
        "SummaryShard": st.builds(
            SummaryShard, st.builds(TallyKey, st.booleans(), text, text, moments, dimensions), small, whole,
            st.integers(1, 2**50), st.integers(-(10**75), 10**75), amount, amount,
            st.builds(Last, moments, moments, whole, amount), st.builds(Latest, moments, whole, amount),
        ),
        "Disposition": st.builds(
            Disposition, small, whole, whole, text, text, maybe(text), maybe(st.booleans()), maybe(text), maybe(text),
            maybe(text), maybe(amount), maybe(moments), maybe(moments), maybe(text), maybe(whole), maybe(whole),
        ),
    }  # fmt: skip
    name = data.draw(st.sampled_from(sorted(ordinary)))
    values = [KINDS[name][0](one) for one in data.draw(st.lists(ordinary[name], max_size=10))]
    assert decode_table(name, values).rest.tolist() == []
