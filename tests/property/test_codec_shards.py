"""Shards encoded by columns are the shards that the codec encodes one by one, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.codec import shards as shards_module
from pipeline.codec.dimensions import dimensions_bytes
from pipeline.codec.records import Codec
from pipeline.codec.shards import NUMBERS, encode_shards, shard_head
from pipeline.domain.events import Last, Latest, SummaryShard, TallyKey

CODEC = Codec()

short = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
text = st.one_of(short, short, st.builds(lambda part, times: part * times, short, st.integers(8, 40)))
long = st.one_of(st.integers(0, 2**40), st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 63, 64, 8191, 8192]))
ordinary = st.integers(0, 2**50)
value = st.one_of(st.integers(-(2**127), 2**127 - 1), st.integers(-(10**20), 10**20))
total = st.one_of(st.integers(-(2**255), 2**255 - 1), st.integers(-(10**30), 10**30))
dimensions = st.dictionaries(text, text, max_size=3).map(lambda pairs: tuple(sorted(pairs.items())))
tally_key = st.builds(TallyKey, st.booleans(), text, text, long, dimensions)
shard_number = st.integers(0, 2**31 - 1)


def shards(whole: st.SearchStrategy[int], amount: st.SearchStrategy[int], summed: st.SearchStrategy[int]):
    counted = st.builds(
        SummaryShard,
        tally_key if whole is long else st.builds(TallyKey, st.booleans(), text, text, whole, dimensions),
        shard_number,
        whole,
        whole.filter(bool),
        summed,
        amount,
        amount,
        st.builds(Last, whole, whole, whole, amount),
        st.builds(Latest, whole, whole, amount),
    )
    empty = st.builds(
        SummaryShard,
        counted.map(lambda one: one.key),
        shard_number,
        whole,
        *(st.just(x) for x in (0, 0, None, None, None, None)),
    )
    return st.lists(st.one_of(counted, counted, empty), max_size=8)


def numbers_of(records: list[SummaryShard], order: str) -> np.ndarray:
    """The structured array that a caller holds, in byte order ``order``."""
    kinds = [(name, f"V{size}" if size else f"{order}i8") for name, size in reversed(NUMBERS)]
    array = np.zeros(len(records), kinds)
    for row, one in enumerate(records):
        last, latest = one.last or Last(0, 0, 0, 0), one.latest or Latest(0, 0, 0)
        fields = {
            "version": one.version, "count": one.count, "sum": one.sum, "min": one.min or 0, "max": one.max or 0,
            "last_value": last.value, "last_timestamp": last.timestamp_ms, "last_appended_at": last.appended_at_ms,
            "last_offset": last.offset, "latest_value": latest.value, "latest_appended_at": latest.appended_at_ms,
            "latest_offset": latest.offset,
        }  # fmt: skip
        for name, size in NUMBERS:
            array[name][row] = fields[name].to_bytes(size, "big", signed=True) if size else fields[name]
    return array


def encoded(records: list[SummaryShard], order: str, few: int) -> list[bytes]:
    frame = CODEC.frame_of("SummaryShard")
    heads = [shard_head(frame, *one.key[:4], dimensions_bytes(one.key.dimensions), one.shard) for one in records]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module, "FEW", few)
        return encode_shards(heads, numbers_of(records, order))


@pytest.mark.parametrize("few", [0, 100], ids=["by columns", "one by one"])
@given(records=shards(long, value, total), order=st.sampled_from("<>"))
def test_many_shards_are_the_codecs_bytes(records: list[SummaryShard], order: str, few: int) -> None:
    assert encoded(records, order, few) == [CODEC.encode_shard(one) for one in records]
