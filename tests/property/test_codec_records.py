"""The strict codec: what is written is read back, and what is read has one meaning only."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.codec.dimensions import dimensions_bytes, dimensions_of, long_bytes
from pipeline.codec.plain import plain_event
from pipeline.codec.records import Codec, decimal_bytes, decimal_of
from pipeline.codec.schemas import newest
from pipeline.domain.events import (
    Adjustment,
    Cancellation,
    CancellationRange,
    Disposition,
    Last,
    Latest,
    MeterEvent,
    SummaryShard,
    TallyKey,
)
from pipeline.errors import UndecodableRecord

CODEC = Codec()

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
long = st.integers(-(2**63), 2**63 - 1)
number = st.integers(0, 2**31 - 1)
value = st.integers(-(2**127), 2**127 - 1)
dimensions = st.dictionaries(text, text, max_size=5).map(lambda pairs: tuple(sorted(pairs.items())))
span = st.builds(CancellationRange, st.one_of(st.none(), text), long, long)
key = st.builds(TallyKey, st.booleans(), text, text, long, dimensions)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.none(), strategy)


event = st.builds(MeterEvent, text, text, text, st.integers(-(2**500), 2**500), long, dimensions, st.booleans())
RECORDS = {
    "event": (event, CODEC.encode_event, CODEC.decode_journal),
    "cancellation": (
        st.builds(Cancellation, text, text, st.booleans(), maybe(text), maybe(span), long),
        CODEC.encode_cancellation,
        CODEC.decode_journal,
    ),
    "adjustment": (
        st.builds(Adjustment, text, text, st.booleans(), maybe(text), maybe(span)),
        CODEC.encode_adjustment,
        CODEC.decode_adjustment,
    ),
    "shard": (
        st.builds(
            SummaryShard, key, number, long, long.filter(bool), st.integers(-(2**255), 2**255 - 1), value, value,
            st.builds(Last, long, long, long, value), st.builds(Latest, long, long, value),
        ),
        CODEC.encode_shard,
        CODEC.decode_shard,
    ),
    "disposition": (
        st.builds(
            Disposition, number, long, long, text, text, maybe(text), maybe(st.booleans()), maybe(text), maybe(text),
            maybe(text), maybe(value), maybe(long), maybe(long), maybe(text), maybe(long), maybe(long),
        ),
        CODEC.encode_disposition,
        CODEC.decode_disposition,
    ),
}  # fmt: skip


@given(st.sampled_from(sorted(RECORDS)), st.data())
def test_what_is_written_is_read_back(name: str, data: st.DataObject) -> None:
    strategy, encode, decode = RECORDS[name]
    content = data.draw(strategy)
    assert decode(encode(content)) == content


@settings(max_examples=300)
@given(st.sampled_from(sorted(RECORDS)), st.data())
def test_a_changed_byte_makes_another_record_or_none(name: str, data: st.DataObject) -> None:
    """No two values of one record differ in a byte, but for the forms that Avro leaves to the writer.

    With one block per map and the shortest decimals there is just one way to write a record, so a changed byte is
    either refused or means something else.
    """
    strategy, encode, decode = RECORDS[name]
    content = data.draw(strategy)
    whole = encode(content)
    at = data.draw(st.integers(10, len(whole) - 1))
    changed = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    assume(changed != whole)
    try:
        read = decode(changed)
    except UndecodableRecord:
        return
    assert read != content
    assert decode(encode(read)) == read


@given(dimensions, dimensions)
def test_dimensions_are_equal_exactly_if_their_bytes_are(one, two) -> None:
    assert dimensions_of(dimensions_bytes(one)) == one
    assert (dimensions_bytes(one) == dimensions_bytes(two)) == (one == two)


@given(st.dictionaries(text, text, min_size=2, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(pairs, random) -> None:
    shuffled = list(pairs.items())
    random.shuffle(shuffled)
    packed = dimensions_bytes(tuple(shuffled))
    assert packed == dimensions_bytes(tuple(pairs.items()))
    keys = [key.encode() for key, _ in dimensions_of(packed)]
    assert keys == sorted(keys)


@given(st.binary(max_size=60))
def test_bytes_that_are_dimensions_have_one_canonical_form(raw: bytes) -> None:
    try:
        found = dimensions_of(raw)
    except UndecodableRecord:
        return
    assert dimensions_of(dimensions_bytes(found)) == found
    assert len(dimensions_bytes(found)) <= len(raw)


@given(st.integers(-(2**511), 2**511 - 1))
def test_a_decimal_is_its_shortest_bytes(number: int) -> None:
    packed = decimal_bytes(number)
    assert decimal_of(packed) == number
    assert len(packed) == 1 or decimal_of(packed[1:]) != number


@given(long)
def test_a_long_is_as_fastavro_writes_it(number: int) -> None:
    from io import BytesIO

    from fastavro import schemaless_writer

    out = BytesIO()
    schemaless_writer(out, {"type": "long"}, number)
    assert long_bytes(number) == out.getvalue()


def strictly(encoded: bytes) -> MeterEvent | Cancellation | None:
    try:
        return CODEC.decode_journal_strictly(encoded)
    except UndecodableRecord:
        return None


@settings(max_examples=600)
@given(event, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3), st.integers(0, 3))
def test_the_quick_way_to_read_an_event_says_what_the_strict_way_says(
    one: MeterEvent, changes: list[tuple[int, int]], cut: int
) -> None:
    """Whatever somebody did to the bytes: it reads the same, or leaves it to the strict way."""
    encoded = bytearray(CODEC.encode_event(one))
    start = len(newest("MeterEvent").prefix)
    for place, byte in changes:
        encoded[start + place % (len(encoded) - start)] = byte
    whole = bytes(encoded[: len(encoded) - cut])
    quick = plain_event(whole)
    assert quick is None or quick == strictly(whole)
