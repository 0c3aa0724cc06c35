"""What the strict codec takes, what it refuses, and with which reason."""

from __future__ import annotations

import json
import shutil
import time
import tracemalloc

import pytest

from pipeline.codec import columns, records, schemas
from pipeline.codec.columns import decode_events
from pipeline.codec.dimensions import dimensions_bytes, dimensions_of, long_bytes
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
PREFIX = newest("MeterEvent").prefix
EVENT = MeterEvent("id-1", "miles", "UA", -5 * 10**12, 1_700_000_000_000, (("dest", "LAX"), ("origin", "EWR")), True)
KEY = TallyKey(True, "miles", "UA", 1_700_000_040_000, EVENT.dimensions)
RANGE = CancellationRange(None, -1, 2**40)

ROUND_TRIPS = [
    (CODEC.encode_event, CODEC.decode_journal, EVENT),
    (CODEC.encode_event, CODEC.decode_journal, MeterEvent("", "", "", 0, -(2**63), (), False)),
    (CODEC.encode_event, CODEC.decode_journal, EVENT._replace(value=10**60, identifier="é✈" * 5000)),
    (CODEC.encode_cancellation, CODEC.decode_journal, Cancellation("a", "miles", True, "id-1", None, 9)),
    (CODEC.encode_cancellation, CODEC.decode_journal, Cancellation("a", "miles", False, None, RANGE, 9)),
    (CODEC.encode_adjustment, CODEC.decode_adjustment, Adjustment("a", "miles", True, "id-1", None)),
    (CODEC.encode_adjustment, CODEC.decode_adjustment, Adjustment("a", "m", True, None, RANGE._replace(customer="c"))),
    (CODEC.encode_adjustment, CODEC.decode_adjustment, Adjustment("a", "m", True, None, None)),
    (
        CODEC.encode_shard,
        CODEC.decode_shard,
        SummaryShard(KEY, 3, 9, 2, -7, -9, 2, Last(1, 2, 3, 4), Latest(1, 2, 3)),
    ),
    (CODEC.encode_shard, CODEC.decode_shard, SummaryShard(KEY, 3, 9, 0, 0, None, None, None, None)),
    (CODEC.encode_disposition, CODEC.decode_disposition, Disposition(1, 2, 3, "event", "rejected", "why", value=-3)),
    (
        CODEC.encode_disposition,
        CODEC.decode_disposition,
        Disposition(0, 0, 0, "unknown", "undecodable", "malformed", appended_at_ms=5, events_cancelled=0),
    ),
]


@pytest.mark.parametrize(("encode", "decode", "content"), ROUND_TRIPS)
def test_a_record_comes_back_as_it_was(encode, decode, content):
    assert decode(encode(content)) == content


def test_shards_are_written_at_full_width():
    zero = CODEC.encode_shard(SummaryShard(KEY, 3, 9, 0, 0, None, None, None, None))
    most = CODEC.encode_shard(
        SummaryShard(KEY, 3, 9, 1, -(2**255), -(2**127), 2**127 - 1, Last(0, 0, 0, -1), Latest(0, 0, 1))
    )
    assert len(zero) == len(most)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (-1, "ff"),
        (127, "7f"),
        (128, "0080"),
        (-128, "80"),
        (-129, "ff7f"),
        (2**63, "008000000000000000"),
    ],
)
def test_a_decimal_is_as_short_as_possible(value, encoded):
    assert decimal_bytes(value).hex() == encoded
    assert decimal_of(bytes.fromhex(encoded)) == value


@pytest.mark.parametrize("padding", [1, 10, 63])
def test_a_decimal_of_any_length_is_read(padding):
    encoded = hand_made(value=avro(b"\xff" * padding + b"\x05"))
    assert CODEC.decode_journal(encoded).value == -251


# Hostile and odd bytes. An event by hand, with one part replaced.


def avro(content: bytes) -> bytes:
    return long_bytes(len(content)) + content


def hand_made(prefix=PREFIX, behind=b"", **parts: bytes) -> bytes:
    body = {
        "identifier": avro(b"id-1"),
        "event_name": avro(b"miles"),
        "customer": avro(b"UA"),
        "value": avro(b"\x05"),
        "timestamp": long_bytes(1_700_000_000_000),
        "dimensions": b"\0",
        "livemode": b"\1",
    }
    assert set(parts) <= set(body)
    return prefix + b"".join((body | parts).values()) + behind


def entries(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"".join(avro(key) + avro(value) for key, value in pairs)


AB = entries((b"a", b"1"), (b"b", b"2"))
BA = entries((b"b", b"2"), (b"a", b"1"))

LEGAL_MAPS = {
    "one block": b"\x04" + AB + b"\0",
    "another order": b"\x04" + BA + b"\0",
    "two blocks": b"\x02" + entries((b"b", b"2")) + b"\x02" + entries((b"a", b"1")) + b"\0",
    "a negative count with its size": b"\x03" + long_bytes(len(AB)) + AB + b"\0",
    "both kinds": b"\x01" + long_bytes(4) + entries((b"b", b"2")) + b"\x02" + entries((b"a", b"1")) + b"\0",
}


@pytest.mark.parametrize("form", LEGAL_MAPS)
def test_every_legal_form_of_a_map_is_read_and_becomes_canonical(form):
    dimensions = (("a", "1"), ("b", "2"))
    assert CODEC.decode_journal(hand_made(dimensions=LEGAL_MAPS[form])).dimensions == dimensions
    assert dimensions_of(LEGAL_MAPS[form]) == dimensions
    assert dimensions_bytes(dimensions_of(LEGAL_MAPS[form])) == LEGAL_MAPS["one block"]


HUGE = 2**62
MALFORMED = {
    "an overlong length": hand_made(identifier=b"\x88\x00id-1"),
    "an overlong zero": hand_made(identifier=b"\x80\x80\x00"),
    "a varint of eleven bytes": hand_made(timestamp=b"\x80" * 10 + b"\x01"),
    "a varint of 70 bits": hand_made(timestamp=b"\xff" * 9 + b"\x7f"),
    "an overlong timestamp": hand_made(timestamp=b"\x82\x00"),
    "a boolean of 2": hand_made(livemode=b"\2"),
    "a boolean of 7": hand_made(livemode=b"\7"),
    "a negative length": hand_made(event_name=long_bytes(-1)),
    "a length of 2^62": hand_made(customer=long_bytes(HUGE) + b"UA"),
    "a length one too long": hand_made(livemode=b"")[:-2] + avro(b"x")[:1],
    "a value of no bytes": hand_made(value=b"\0"),
    "a value of 65 bytes": hand_made(value=avro(bytes(65))),
    "an identifier that is not UTF-8": hand_made(identifier=avro(b"\xff")),
    "a lone surrogate": hand_made(customer=avro("\ud800".encode("utf-8", "surrogatepass"))),
    "an overlong UTF-8 slash": hand_made(customer=avro(b"\xc0\xaf")),
    "a dimension key that is not UTF-8": hand_made(dimensions=b"\x02" + entries((b"\xff", b"1")) + b"\0"),
    "a dimension value that is not UTF-8": hand_made(dimensions=b"\x02" + entries((b"a", b"\xff")) + b"\0"),
    "a key twice": hand_made(dimensions=b"\x04" + entries((b"a", b"1"), (b"a", b"2")) + b"\0"),
    "a key twice in two blocks": hand_made(dimensions=(b"\x02" + entries((b"a", b"1"))) * 2 + b"\0"),
    "2^62 map items": hand_made(dimensions=long_bytes(HUGE) + AB),
    "-2^63 map items": hand_made(dimensions=long_bytes(-(2**63)) + b"\0" + AB),
    "a block size too small": hand_made(dimensions=b"\x03" + long_bytes(len(AB) - 1) + AB + b"\0"),
    "a block size too large": hand_made(dimensions=b"\x03" + long_bytes(len(AB) + 1) + AB + b"\0"),
    "a map without its end": hand_made(dimensions=b"\x04" + AB, livemode=b""),
    "a map that goes on instead of ending": hand_made(dimensions=b"\x04" + AB + b"\x02"),
    "nothing behind the prefix": PREFIX,
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_what_can_be_read_in_two_ways_is_refused(fault):
    with pytest.raises(UndecodableRecord) as refused:
        CODEC.decode_journal(MALFORMED[fault])
    assert refused.value.reason == "malformed"
    assert decode_events([MALFORMED[fault]]).rest.tolist() == [0]


def test_an_event_cut_anywhere_is_refused():
    whole = CODEC.encode_event(EVENT)
    for end in range(len(whole)):
        with pytest.raises(UndecodableRecord):
            CODEC.decode_journal(whole[:end])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no_value"),
        (b"", "no_value"),
        (b"{}", "unknown_framing"),
        (b"\xc3", "unknown_framing"),
        (PREFIX[:9], "unknown_framing"),
        (b"\0\0\0", "unknown_framing"),
        (b"\0\0\0\0\1" + b"x", "no_schema_registry"),
        (b"\xc3\x01" + bytes(8), "unknown_schema"),
        (CODEC.encode_adjustment(Adjustment("a", "m", True, "i", None)), "wrong_type"),
        (hand_made(behind=b"\0"), "trailing_bytes"),
        (hand_made() * 2, "trailing_bytes"),
    ],
)
def test_the_reason_says_what_is_wrong(value, reason):
    with pytest.raises(UndecodableRecord) as refused:
        CODEC.decode_journal(value)
    assert refused.value.reason == reason


def test_each_topic_takes_its_own_records_only():
    event = CODEC.encode_event(EVENT)
    for decode in (CODEC.decode_adjustment, CODEC.decode_shard, CODEC.decode_disposition, CODEC.decode_catalog):
        with pytest.raises(UndecodableRecord, match="wrong_type"):
            decode(event)


def test_a_wrong_fingerprint_does_not_swap_fields():
    """A cancellation under an event's fingerprint is not read as an event."""
    cancellation = CODEC.encode_cancellation(Cancellation("a", "miles", True, "id-1", None, 9))
    with pytest.raises(UndecodableRecord):
        CODEC.decode_journal(PREFIX + cancellation[10:])


@pytest.mark.parametrize(
    "bomb",
    [
        hand_made(dimensions=long_bytes(2**62) + b"\0" * 100_000),
        hand_made(dimensions=long_bytes(-(2**62)) + long_bytes(2**62) + b"\0" * 100_000),
        hand_made(identifier=long_bytes(2**31) + b"x" * 100_000),
        hand_made(dimensions=b"\x02\x00\x00" * 50_000),
        hand_made(timestamp=b"\xff" * 100_000),
    ],
)
def test_a_bomb_costs_no_more_than_its_own_size(bomb):
    for read in (CODEC.decode_journal, lambda value: decode_events([value])):
        tracemalloc.start()
        started = time.process_time()
        try:
            read(bomb)
        except UndecodableRecord:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 40 * len(bomb) + 1_000_000
        assert time.process_time() - started < 2


# Evolution: a version 2 as someone may add it, in a copy of schemas/.


@pytest.fixture
def with_version_2(tmp_path, monkeypatch):
    """A second version of MeterEvent: `livemode` is dropped, `source` is new."""
    copied = tmp_path / "schemas"
    shutil.copytree(schemas.schemas_directory(), copied)
    document = json.loads((copied / "meter-event" / "v1.avsc").read_text())
    document["fields"][-1] = {"name": "source", "type": "string", "default": "unknown", "doc": "Who sent it."}
    (copied / "meter-event" / "v2.avsc").write_text(json.dumps(document))
    caches = (schemas.versions, schemas.by_fingerprint, records._walk, columns._fields)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(schemas, "schemas_directory", lambda: copied)
    monkeypatch.setitem(schemas.SCHEMAS, "MeterEvent", ("meter-event", 2))
    yield schemas.versions("MeterEvent")
    for cache in caches:
        cache.cache_clear()


def test_a_record_of_an_older_version_is_read_with_defaults(with_version_2):
    old, new = with_version_2
    body = hand_made(prefix=b"")
    name, record = CODEC._decode(old.prefix + body, ("MeterEvent",))
    assert name == "MeterEvent"
    assert record["source"] == "unknown"
    assert "livemode" not in record
    assert CODEC._decode(new.prefix + body[:-1] + avro(b"gateway"), ("MeterEvent",))[1]["source"] == "gateway"


def test_columns_take_the_newest_version_and_leave_older_ones_to_the_strict_path(with_version_2):
    old, new = with_version_2
    body = hand_made(prefix=b"")
    read = columns.decode_table("MeterEvent", [old.prefix + body, new.prefix + body[:-1] + avro(b"gateway")])
    assert read.rest.tolist() == [0]
    assert read.table["source"].to_pylist() == ["gateway"]


# Bytes of one kind each, strictly and by columns.


@pytest.mark.parametrize("branch", [0, 1, 2, 3, 4, 0x80, 0xFF])
def test_a_union_has_its_two_branches_only(branch):
    """The last field of a disposition: null is branch 0, a number branch 1, which is written as 2."""
    whole = CODEC.encode_disposition(Disposition(1, 2, 3, "event", "duplicate", events_cancelled=5))
    assert whole[-2:] == b"\x02\x0a"
    changed = whole[:-2] + bytes([branch]) + (b"" if branch == 0 else whole[-1:])
    read = columns.decode_table("Disposition", [changed])
    if branch in (0, 2):
        expected = None if branch == 0 else 5
        assert CODEC.decode_disposition(changed).events_cancelled == expected
        assert read.table["events_cancelled"].to_pylist() == [expected]
        return
    for odd in (changed, changed[:-1]):
        with pytest.raises(UndecodableRecord, match="malformed"):
            CODEC.decode_disposition(odd)
        assert columns.decode_table("Disposition", [odd]).rest.tolist() == [0]


@pytest.mark.parametrize(
    ("number", "fits"), [(2**31 - 1, True), (-(2**31), True), (2**31, False), (-(2**31) - 1, False)]
)
def test_an_int_has_32_bits(number, fits):
    whole = CODEC.encode_disposition(Disposition(1, 2, 3, "event", "duplicate"))
    changed = whole[:10] + long_bytes(number) + whole[11:]
    assert (columns.decode_table("Disposition", [changed]).rest.tolist() == []) == fits
    if fits:
        assert CODEC.decode_disposition(changed).partition == number
        return
    with pytest.raises(UndecodableRecord, match="32 bits"):
        CODEC.decode_disposition(changed)
