"""Meter events are encoded by hand; the bytes are those that fastavro would write."""

from __future__ import annotations

from io import BytesIO

from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from pipeline.codec.records import Codec, decimal_bytes
from pipeline.codec.schemas import newest
from pipeline.domain.events import MeterEvent

CODEC = Codec()
longs = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=130)
events = st.builds(
    MeterEvent,
    texts,
    texts,
    texts,
    st.integers(-(10**38), 10**38) | st.integers(-300, 300),
    longs,
    st.dictionaries(texts, texts, max_size=20).map(lambda found: tuple(found.items())),
    st.booleans(),
)


@given(events)
def test_an_event_is_written_as_its_schema_says(event: MeterEvent) -> None:
    out = BytesIO()
    fields = {
        "identifier": event.identifier,
        "event_name": event.event_name,
        "customer": event.customer,
        "value": decimal_bytes(event.value),
        "timestamp": event.timestamp_ms,
        "dimensions": dict(sorted(event.dimensions)),
        "livemode": event.livemode,
    }
    schemaless_writer(out, newest("MeterEvent").physical, fields)
    assert CODEC.encode_event(event) == CODEC.frame_of("MeterEvent") + out.getvalue()


def test_a_key_that_stands_twice_is_written_once() -> None:
    twice = MeterEvent("i", "e", "c", 1, 2, (("a", "1"), ("b", "2"), ("a", "3")), True)
    assert CODEC.encode_event(twice) == CODEC.encode_event(twice._replace(dimensions=(("a", "3"), ("b", "2"))))
