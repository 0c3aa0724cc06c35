"""Dispositions are encoded by hand; the bytes are those that fastavro would write."""

from __future__ import annotations

from io import BytesIO

from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from pipeline.codec.records import Codec, decimal_bytes
from pipeline.codec.schemas import newest
from pipeline.domain.events import Disposition

CODEC = Codec()
longs = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
maybe_longs, maybe_texts = st.none() | longs, st.none() | texts
dispositions = st.builds(
    Disposition,
    st.integers(0, 2**31 - 1),
    longs,
    longs,
    texts,
    texts,
    maybe_texts,
    st.none() | st.booleans(),
    maybe_texts,
    maybe_texts,
    maybe_texts,
    st.none() | st.integers(-(10**38), 10**38),
    maybe_longs,
    maybe_longs,
    maybe_texts,
    maybe_longs,
    maybe_longs,
)


@given(dispositions)
def test_a_disposition_is_written_as_its_schema_says(disposition: Disposition) -> None:
    fields = disposition._asdict()
    fields["timestamp"], fields["appended_at"] = fields.pop("timestamp_ms"), fields.pop("appended_at_ms")
    if disposition.value is not None:
        fields["value"] = decimal_bytes(disposition.value)
    out = BytesIO()
    schemaless_writer(out, newest("Disposition").physical, fields)
    assert CODEC.encode_disposition(disposition) == CODEC.frame_of("Disposition") + out.getvalue()
    assert CODEC.decode_disposition(CODEC.encode_disposition(disposition)) == disposition
