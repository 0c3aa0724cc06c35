"""The paths by columns say of every record what the strict codec says, or leave it to it. Hostile bytes included."""

from __future__ import annotations

import decimal
import io

import polars as pl
from fastavro import schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.codec.columns import decode_events
from pipeline.codec.dimensions import dimensions_bytes, long_bytes
from pipeline.codec.records import Codec
from pipeline.codec.schemas import newest
from pipeline.domain.events import Cancellation, MeterEvent
from pipeline.errors import UndecodableRecord

CODEC = Codec()
EXACT = decimal.Context(prec=60)
PREFIX = newest("MeterEvent").prefix

short = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
long_text = st.builds(lambda part, times: part * times, short, st.integers(8, 40))
text = st.one_of(short, short, long_text)
key = st.one_of(
    short, st.sampled_from(["customer_id", "customer_region", "customer", "a", "a\0", "", "z" * 63, "é" * 32]), text
)
value = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.integers(-300, 300),
    st.sampled_from([10**38, -(10**38), 2**63, -(2**63), 2**64 - 1, -(2**64), 2**127 - 1, -(2**127), 2**127, 10**60]),
)
timestamp = st.one_of(
    st.integers(1_600_000_000_000, 1_900_000_000_000), st.integers(-(2**63), 2**63 - 1), st.integers(-200, 200)
)
dimensions = st.dictionaries(key, st.one_of(short, text), max_size=5).map(lambda pairs: tuple(sorted(pairs.items())))
event = st.builds(MeterEvent, text, text, short, value, timestamp, dimensions, st.booleans())
cancellation = st.just(Cancellation("a", "e", True, "x", None, 5))


def avro_string(content: bytes) -> bytes:
    return long_bytes(len(content)) + content


@st.composite
def overlong(draw: st.DrawFn, number: int) -> bytes:
    """A varint, sometimes with groups too many."""
    plain = long_bytes(number)
    extra = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 4]))
    if not extra:
        return plain
    return plain[:-1] + bytes([plain[-1] | 0x80]) + b"\x80" * (extra - 1) + b"\x00"


@st.composite
def rough_map(draw: st.DrawFn) -> bytes:
    """A map in any form, legal and not: several blocks, negative counts, sizes that lie, keys twice, in any order."""
    out = b""
    for _ in range(draw(st.integers(0, 2))):
        items = [
            draw(st.tuples(st.sampled_from([b"a", b"b", b"c", b"\xff", b"k" * 70]), st.binary(max_size=3)))
            for _ in range(draw(st.integers(1, 3)))
        ]
        body = b"".join(draw(overlong(len(k))) + k + avro_string(v) for k, v in items)
        if draw(st.booleans()):
            out += long_bytes(-len(items)) + long_bytes(len(body) + draw(st.sampled_from([0, 0, 0, 1, -1]))) + body
        else:
            out += draw(overlong(len(items))) + body
    return out + draw(st.sampled_from([b"\0", b"\0", b"\0", b"\2", b"", b"\x80\x00"]))


@st.composite
def rough_event(draw: st.DrawFn) -> bytes:
    """An event put together by hand, with every liberty that bytes allow."""
    strings = [draw(st.one_of(st.binary(max_size=4), short.map(str.encode))) for _ in range(3)]
    amount = draw(st.binary(max_size=18))
    parts = [draw(overlong(len(content))) + content for content in strings]
    parts.append(draw(overlong(len(amount))) + amount)
    parts.append(draw(overlong(draw(timestamp))))
    parts.append(draw(st.one_of(rough_map(), dimensions.map(dimensions_bytes))))
    parts.append(draw(st.sampled_from([b"\1", b"\1", b"\0", b"\2", b"\7", b"\x81", b""])))
    return PREFIX + b"".join(parts)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good event, cut, prolonged, with a byte changed or with a length of any size put in."""
    whole = CODEC.encode_event(draw(event))
    at = draw(st.integers(0, len(whole) - 1))
    match draw(st.integers(0, 3)):
        case 0:
            return whole[:at]
        case 1:
            return whole + draw(st.binary(min_size=1, max_size=4))
        case 2:
            return whole[:at] + bytes([draw(st.integers(0, 255))]) + whole[at + 1 :]
        case _:
            return whole[:at] + long_bytes(draw(st.integers(-(2**63), 2**63 - 1))) + whole[at:]


@st.composite
def borrowed(draw: st.DrawFn) -> list[bytes]:
    """Two good neighbours with the border between them moved: joined, they still read as two good events."""
    one, two = (CODEC.encode_event(draw(event)) for _ in range(2))
    by = draw(st.integers(-12, 12))
    both = one + two
    return [both[: len(one) + by], both[len(one) + by :]]


chunk = st.lists(
    st.one_of(
        event.map(CODEC.encode_event).map(lambda one: [one]),
        rough_event().map(lambda one: [one]),
        damaged().map(lambda one: [one]),
        borrowed(),
        st.sampled_from([None, b"", b"\0\0\0\0\1x", PREFIX, PREFIX[:7]]).map(lambda one: [one]),
        st.binary(max_size=30).map(lambda one: [PREFIX + one]),
        cancellation.map(CODEC.encode_cancellation).map(lambda one: [one]),
    ),
    max_size=12,
).map(lambda groups: [one for group in groups for one in group])


def strictly(encoded: bytes | None) -> MeterEvent | Cancellation | None:
    try:
        return CODEC.decode_journal(encoded)
    except UndecodableRecord:
        return None


def rows_of(frame: pl.DataFrame) -> list[tuple]:
    return [(*row[:3], int(row[3].scaleb(12, EXACT)), *row[4:]) for row in frame.iter_rows()]


@settings(max_examples=400, deadline=None)
@given(chunk)
def test_what_stands_in_the_columns_is_what_the_strict_codec_reads(values: list[bytes | None]) -> None:
    columns = decode_events(values)
    assert sorted([*columns.rows.tolist(), *columns.rest.tolist()]) == list(range(len(values)))
    assert columns.rows.tolist() == sorted(columns.rows.tolist())
    for index, row in zip(columns.rows.tolist(), rows_of(columns.frame), strict=True):
        read = strictly(values[index])
        assert isinstance(read, MeterEvent), f"the strict codec does not take {values[index]!r}"
        assert row == (*read[:5], dimensions_bytes(read.dimensions), read.livemode)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            MeterEvent,
            text,
            text,
            short,
            st.integers(-(10**37), 10**37),
            st.integers(0, 2**42),
            dimensions,
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_every_ordinary_event_goes_by_columns(events: list[MeterEvent]) -> None:
    assert decode_events([CODEC.encode_event(one) for one in events]).rest.tolist() == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(key, short, max_size=5), min_size=1, max_size=5), st.randoms())
def test_maps_in_any_order_of_keys_go_by_columns_and_come_out_canonical(maps: list[dict], random) -> None:
    values = []
    for pairs in maps:
        shuffled = list(pairs.items())
        random.shuffle(shuffled)
        out = io.BytesIO()
        record = {
            "identifier": "i",
            "event_name": "e",
            "customer": "c",
            "value": b"\1",
            "timestamp": 1,
            "livemode": True,
        }
        schemaless_writer(out, newest("MeterEvent").physical, record | {"dimensions": dict(shuffled)})
        values.append(PREFIX + out.getvalue())
    columns = decode_events(values)
    assert columns.rest.tolist() == []
    assert columns.frame["dimensions"].to_list() == [dimensions_bytes(tuple(pairs.items())) for pairs in maps]


@given(st.lists(event, max_size=3), st.lists(event, max_size=3))
def test_another_prefix_is_read_where_it_is_given(one: list[MeterEvent], two: list[MeterEvent]) -> None:
    """Confluent framing: five bytes in front instead of ten, both in one chunk."""
    confluent = b"\0\0\0\0\x2a"
    plain = [CODEC.encode_event(each) for each in one]
    framed = [confluent + CODEC.encode_event(each)[10:] for each in two]
    both = decode_events(plain + framed, (PREFIX, confluent))
    same = decode_events(plain + [CODEC.encode_event(each) for each in two])
    assert both.frame.equals(same.frame)
    assert both.rest.tolist() == same.rest.tolist()
