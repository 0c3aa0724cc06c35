"""What lies in a store, byte by byte. These names are state: whoever changes one loses what stands under the old one.

A test here that fails is no reason to change the bytes in it, but to raise the fold's version, or to leave them alone.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.codec.dimensions import dimensions_bytes
from pipeline.domain.events import Identity, Last, Latest
from pipeline.domain.ledger import Awaited, Waiting
from pipeline.domain.limits import VALUE_BOUND
from pipeline.domain.tally import Tally
from pipeline.worker import layout

AT_MS = 0x0000018B_CFE56800
"""2023-11-14T22:13:20Z"""
TALLY_KEY = layout.store_tally_key(True, "calls", "ü", AT_MS, dimensions_bytes((("k", "v"),)))

GOLDEN = {
    "meta": (layout.META, "6d"),
    "identity": (layout.ledger_key(Identity(True, "calls", "é")), "6c c3a9 00 63616c6c73 00 31"),
    "identity in test mode": (layout.ledger_key(Identity(False, "calls", "a")), "6c 61 00 63616c6c73 00 30"),
    "counted": (
        layout.pack_counted(258, AT_MS, AT_MS + 1, None),
        "43 0000000000000102 0000018bcfe56800 0000018bcfe56801",
    ),
    "cancelled": (
        layout.pack_counted(258, AT_MS, AT_MS + 1, "x"),
        "58 0000000000000102 0000018bcfe56800 0000018bcfe56801 78",
    ),
    "awaited": (
        layout.pack_awaited(Awaited((Waiting("x", 258, AT_MS), Waiting("yé", 259, AT_MS + 1)))),
        "41 0000000000000102 0000018bcfe56800 0001 78 0000000000000103 0000018bcfe56801 0003 79c3a9",
    ),
    "marker of an awaited one": (layout.AWAITING + layout.ledger_key(Identity(True, "n", "a")), "61 6c 61 00 6e 00 31"),
    "range": (layout.RANGE + b"x", "72 78"),
    "tally key": (TALLY_KEY, "74 31 63616c6c73 00 c3bc 00 0000018bcfe56800 02 02 6b 02 76 00"),
    "tallies of an event name": (layout.tally_prefix(False, "calls", None), "74 30 63616c6c73 00"),
    "tallies of a customer": (layout.tally_prefix(True, "calls", "ü"), "74 31 63616c6c73 00 c3bc 00"),
    "page of entries": (
        layout.index_key(TALLY_KEY, 258),
        "69 31 63616c6c73 00 c3bc 00 0000018bcfe56800 02 02 6b 02 76 00 0000000000000102",
    ),
    "entry": (
        layout.pack_entry((258, AT_MS, AT_MS - 1, -2)),
        "0000000000000102 0000018bcfe56800 0000018bcfe567ff fffffffffffffffffffffffffffffffe",
    ),
    "tally": (
        layout.pack_tally(Tally(259, 2, -3, -5, 2, Last(AT_MS, AT_MS + 1, 258, -5), Latest(AT_MS + 2, 259, 2))),
        (
            "0000000000000103 0000000000000002"
            "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffd"
            "fffffffffffffffffffffffffffffffb 00000000000000000000000000000002"
            "0000018bcfe56800 0000018bcfe56801 0000000000000102 fffffffffffffffffffffffffffffffb"
            "0000018bcfe56802 0000000000000103 00000000000000000000000000000002"
        ),
    ),
    "page number of bodies": (layout.bodies_key(129), "62 0000000000000002"),
    "page of bodies": (
        layout.pack_bodies([129, 131], [b"one", b""])[0][1],
        "02 01 00000003 03 00000000 6f6e65",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_are_as_they_have_always_been(name: str) -> None:
    written, golden = GOLDEN[name]
    assert written.hex() == golden.replace(" ", "")


def test_the_first_bytes_tell_keys_apart() -> None:
    first = [layout.META, layout.LEDGER, layout.TALLY, layout.INDEX, layout.BODIES, layout.RANGE, layout.AWAITING]
    assert sorted(first) == [b"a", b"b", b"i", b"l", b"m", b"r", b"t"]


TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=5)
VALUES = st.integers(1 - VALUE_BOUND, VALUE_BOUND - 1)
OFFSETS = st.integers(0, 2**63 - 1)
TIMES = st.integers(-(2**63), 2**63 - 1)


@given(st.booleans(), TEXT, TEXT)
def test_identities_come_back(livemode: bool, event_name: str, identifier: str) -> None:
    identity = Identity(livemode, event_name, identifier)
    assert layout.identity_of(layout.ledger_key(identity)) == identity


@given(st.booleans(), TEXT, TEXT, TIMES, st.dictionaries(TEXT, st.text("a\0", max_size=3), max_size=3))
def test_tally_keys_come_back(livemode: bool, name: str, customer: str, at_ms: int, dimensions: dict[str, str]) -> None:
    packed = dimensions_bytes(tuple(sorted(dimensions.items())))
    key = layout.store_tally_key(livemode, name, customer, at_ms, packed)
    assert layout.tally_key_parts(key) == (livemode, name, customer, at_ms, packed)
    assert key.startswith(layout.tally_prefix(livemode, name, customer))
    assert not key.startswith(layout.tally_prefix(livemode, name + "x", None))


@given(OFFSETS, TIMES, TIMES, st.none() | TEXT)
def test_ledger_entries_come_back(offset: int, appended_at_ms: int, clock_ms: int, cancelled_by: str | None) -> None:
    packed = layout.pack_counted(offset, appended_at_ms, clock_ms, cancelled_by)
    assert layout.unpack_counted(packed) == (offset, appended_at_ms, clock_ms, cancelled_by)


@given(st.lists(st.builds(Waiting, TEXT, OFFSETS, TIMES), min_size=1, max_size=4))
def test_awaited_ones_come_back(waiting: list[Waiting]) -> None:
    assert layout.unpack_awaited(layout.pack_awaited(Awaited(tuple(waiting)))) == Awaited(tuple(waiting))


@given(st.lists(st.tuples(OFFSETS, TIMES, TIMES, VALUES), max_size=5, unique_by=lambda entry: entry[0]))
def test_entries_come_back_and_leave_one_by_one(entries: list[tuple[int, int, int, int]]) -> None:
    packed = b"".join(map(layout.pack_entry, entries))
    assert list(layout.unpack_entries(packed)) == entries
    assert len(packed) == len(entries) * layout.ENTRY_BYTES
    for one in entries:
        left = layout.without_entry(packed, one[0])
        assert left is not None
        assert list(layout.unpack_entries(left)) == [entry for entry in entries if entry != one]
        assert layout.without_entry(left, one[0]) is None


@given(st.lists(st.tuples(OFFSETS, TIMES, TIMES, VALUES), max_size=4), st.integers(0, 2**63 - 1))
def test_tallies_come_back(entries: list[tuple[int, int, int, int]], version: int) -> None:
    tally = Tally(version)
    for entry in entries:
        tally.add(entry)
    assert layout.unpack_tally(layout.pack_tally(tally)) == tally


@given(st.dictionaries(st.integers(0, 400), st.binary(max_size=9), min_size=1))
def test_bodies_come_back_by_page(bodies: dict[int, bytes]) -> None:
    offsets = sorted(bodies)
    pages = layout.pack_bodies(offsets, [bodies[offset] for offset in offsets])
    found = {}
    for key, page in pages:
        assert page is not None
        start = int.from_bytes(key[1:], "big") * layout.BODIES_PER_PAGE
        found |= dict(layout.unpack_bodies(start, page))
    assert found == bodies
    assert [key for key, _ in pages] == sorted({layout.bodies_key(offset) for offset in offsets})
