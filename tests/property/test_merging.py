"""Invariant 7 for packed tallies: merging by columns is merging tally by tally."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.limits import VALUE_BOUND
from pipeline.domain.tally import Tally, merge_tally
from pipeline.worker import layout
from pipeline.worker.merging import merge_rows

values = st.one_of(
    st.integers(-5, 5), st.sampled_from([2**62, 2**62 - 1, -(2**62), 2**63 - 1, -(2**63), 2**63, VALUE_BOUND - 1])
)
entries = st.lists(
    st.tuples(st.integers(0, 2**40), st.integers(0, 3), st.integers(0, 3), values),
    min_size=1,
    max_size=4,
    unique_by=lambda entry: entry[0],
)


def tally_of(made_of: list[tuple[int, int, int, int]], side: int) -> Tally:
    """``side``: 0 or 1. No offset is on both: a record is folded once."""
    tally = Tally()
    for offset, *rest in made_of:
        tally.add((2 * offset + side, *rest))
    return tally


def packed(tallies: list[Tally]) -> np.ndarray:
    return np.frombuffer(b"".join(map(layout.pack_tally, tallies)), layout.TALLY_ROW)


@given(st.lists(st.tuples(entries, entries, st.booleans()), min_size=1, max_size=6))
def test_invariant_7_rows_merge_as_tallies_do(
    pairs: list[tuple[list[tuple[int, int, int, int]], list[tuple[int, int, int, int]], bool]],
) -> None:
    before = [Tally(version=2 * made_of[0][0]) if emptied else tally_of(made_of, 0) for made_of, _, emptied in pairs]
    more = [tally_of(made_of, 1) for _, made_of, _ in pairs]
    merged, right = merge_rows(packed(before), packed(more))
    for place, (tally, other) in enumerate(zip(before, more, strict=True)):
        narrow = all(abs(number) < 2**62 for one in (tally, other) for number in (one.sum, one.min or 0, one.max or 0))
        assert right[place] or not narrow, "small numbers are never left to the slow way"
        if right[place]:
            merge_tally(tally, other)
            assert merged[place].tobytes() == layout.pack_tally(tally)
