"""The digest of a set of shards: equal sets, equal digests; and any change of one number is seen (invariant 7)."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.codec import digests
from pipeline.codec.digests import Digest, hash_shards
from pipeline.codec.records import Codec
from pipeline.codec.shard_columns import PackedShard, decode_shards
from pipeline.domain.events import Last, Latest, SummaryShard, TallyKey
from pipeline.domain.limits import MINUTE_MS, VALUE_BOUND
from pipeline.errors import UndecodableRecord

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=100)
values = st.integers(1 - VALUE_BOUND, VALUE_BOUND - 1)
moments = st.integers(-(2**50), 2**50)
offsets = st.integers(0, 2**60)
keys = st.builds(
    TallyKey,
    st.booleans(),
    texts,
    texts,
    st.integers(-(10**9), 10**9).map(lambda minute: minute * MINUTE_MS),
    st.dictionaries(texts, st.text(max_size=100), max_size=4).map(lambda pairs: tuple(sorted(pairs.items()))),
)


@st.composite
def shards(draw: Any) -> SummaryShard:
    key, shard, version = draw(keys), draw(st.integers(0, 999)), draw(offsets)
    if draw(st.integers(0, 5)) == 0:
        return SummaryShard(key, shard, version, 0, 0, None, None, None, None)
    last = Last(draw(moments), draw(moments), draw(offsets), draw(values))
    latest = Latest(draw(moments), draw(offsets), draw(values))
    count, total = draw(st.integers(1, 2**40)), draw(st.integers(1 - VALUE_BOUND**2, VALUE_BOUND**2 - 1))
    return SummaryShard(key, shard, version, count, total, draw(values), draw(values), last, latest)


def hashed(one: SummaryShard) -> digests.Hashes:
    return hash_shards([digests.key_bytes(one.key)], digests.row_bytes(one), one.shard)


@settings(max_examples=60, deadline=None)
@given(st.lists(shards(), max_size=12), st.randoms())
def test_order_and_cuts_do_not_matter(some: list[SummaryShard], random: Any) -> None:
    whole = Digest()
    for one in some:
        whole = whole.plus(hashed(one))
    shuffled = random.sample(some, len(some))
    place = random.randint(0, len(some))
    parts = [Digest(), Digest()]
    for at, one in enumerate(shuffled):
        parts[at < place] = parts[at < place].plus(hashed(one))
    assert digests.added(parts) == whole
    assert Digest.read(str(whole)) == whole
    for one in some:
        whole = whole.minus(hashed(one))
    assert whole == Digest()


def changed_by(one: SummaryShard, *changes: tuple[int, int]) -> digests.Hashes:
    """The hash of a shard of which some 64-bit words, by their places, have other bits."""
    row = np.frombuffer(digests.row_bytes(one), ">u8").copy()
    for place, bits in changes:
        row[place] ^= np.uint64(bits)
    return hash_shards([digests.key_bytes(one.key)], row.tobytes(), one.shard)


places = st.integers(0, digests.ROW_BYTES // 8 - 1)
bits = st.integers(1, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(shards(), places, bits)
def test_any_other_word_is_another_digest(one: SummaryShard, place: int, change: int) -> None:
    """For certain: no probability is involved when one 64-bit word differs."""
    assert (changed_by(one, (place, change)) != hashed(one)).any()


@settings(max_examples=200, deadline=None)
@given(shards(), st.tuples(places, bits), st.tuples(places, bits))
def test_any_two_other_words_are_another_digest(
    one: SummaryShard, first: tuple[int, int], second: tuple[int, int]
) -> None:
    assert first == second or (changed_by(one, first, second) != hashed(one)).any()


def test_the_highest_bits_of_two_words_are_not_the_same_to_a_digest() -> None:
    """Multiplied by whatever is odd, the highest bit of a word stays what it was, and two of them add up to nothing."""
    one = SummaryShard(TallyKey(True, "n", "c", 0, ()), 0, 0, 0, 0, None, None, None, None)
    before = hashed(one)
    for first, second in itertools.combinations(range(digests.ROW_BYTES // 8), 2):
        for bit, other in itertools.product((63, 62, 61, 60, 32, 31, 30), repeat=2):
            assert (changed_by(one, (first, 1 << bit), (second, 1 << other)) != before).any(), (first, bit, second)


def test_a_change_of_two_halves_is_seen_for_certain() -> None:
    """What the module says, of these coefficients: with other ones it may not be so.

    Changes c and d of the halves i and j, below 2^32 both, go unseen if a_i c + a_j d = 0 modulo 2^64 in both lanes.
    Then the determinant of the four coefficients times c is 0, too; where 2^33 does not divide it, c is, and so is d.
    """
    first, second = digests.COEFFICIENTS
    for i, j in itertools.combinations(range(len(first)), 2):
        assert (first[i] * second[j] - first[j] * second[i]) % 2**33
    assert all(one % 2 for one in (*first, *second))


@settings(max_examples=60, deadline=None)
@given(shards())
def test_key_and_partition_are_part_of_it(one: SummaryShard) -> None:
    assert (hashed(one._replace(shard=one.shard + 1)) != hashed(one)).all()
    longer = one._replace(key=one.key._replace(customer=one.key.customer + "x"))
    assert (hashed(longer) != hashed(one)).all()
    other_mode = one._replace(key=one.key._replace(livemode=not one.key.livemode))
    assert (hashed(other_mode) != hashed(one)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(shards(), max_size=6))
def test_hashes_are_the_same_alone_and_together(some: list[SummaryShard]) -> None:
    """Long keys beside short ones: how wide the columns are plays no part."""
    some = [one._replace(shard=7) for one in some]
    rows = b"".join(digests.row_bytes(one) for one in some)
    together = hash_shards([digests.key_bytes(one.key) for one in some], rows, 7)
    assert [tuple(pair) for pair in together] == [tuple(hashed(one)[0]) for one in some]


@settings(max_examples=60, deadline=None)
@given(shards())
def test_keys_and_rows_can_be_read_back(one: SummaryShard) -> None:
    assert digests.key_of(digests.key_bytes(one.key)) == one.key
    row = digests.row_bytes(one)
    assert digests.version_of(row) == one.version
    numbers = digests.numbers_of(row)
    assert (numbers["count"], numbers["sum"], numbers["min"]) == (one.count, one.sum, one.min or 0)


def strictly(codec: Codec, value: bytes | None) -> PackedShard | str:
    try:
        one = codec.decode_shard(value)
        return PackedShard(digests.key_bytes(one.key), one.shard, digests.row_bytes(one))
    except UndecodableRecord as error:
        return error.reason
    except (OverflowError, struct.error):
        return "out_of_range"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(shards(), st.binary(max_size=40), st.none()), max_size=8), st.data())
def test_shards_by_columns_are_those_of_the_strict_path(some: list[Any], data: Any) -> None:
    codec = Codec()
    recorded = [codec.encode_shard(one) if isinstance(one, SummaryShard) else one for one in some]
    for place, value in enumerate(recorded):
        if value and data.draw(st.integers(0, 3)) == 0:
            at = data.draw(st.integers(0, len(value) - 1))
            recorded[place] = value[:at] + bytes([data.draw(st.integers(0, 255))]) + value[at + 1 :]
    for value, found in zip(recorded, decode_shards(codec, recorded), strict=True):
        assert (found.reason if isinstance(found, UndecodableRecord) else found) == strictly(codec, value)


def test_digests_that_were_written_down_stay_what_they_are() -> None:
    """Golden: stores hold digests, and another arithmetic is another version of it."""
    assert digests.DIGEST_VERSION == 2
    key = TallyKey(True, "calls", "customer é", 1_700_000_040_000, (("region", "eu"),))
    last, latest = Last(1_700_000_041_000, 1_700_000_042_000, 17, -5), Latest(1_700_000_042_000, 17, -5)
    one = SummaryShard(key, 3, 17, 2, 10**40, -5, 10**30, last, latest)
    assert str(Digest().plus(hashed(one))) == "ac354e1642073e536527e7a81f826f12"
    empty = one._replace(count=0, sum=0, min=None, max=None, last=None, latest=None)
    long = empty._replace(key=key._replace(customer="c" * 100, event_name="n" * 100))
    assert str(Digest().plus(hashed(long))) == "13f2e93a71d8a31483c02186a1570c05"
