"""The ledger of generations: whatever is written down in whatever order, one is live, and everybody agrees which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clickhouse.generations import _statements
from pipeline.domain.generations import (
    BUILDING,
    DROPPED,
    LIVE,
    RETIRED,
    STATES,
    Generation,
    Generations,
    generations_of,
)
from pipeline.domain.limits import FoldRules
from pipeline.errors import Refusal

FOLD = FoldRules().version


def step(number: int, state: str, journal: int = 1) -> Generation:
    return Generation(number, state, journal, 8, FOLD, 1)


def states(*steps: Generation) -> dict[int, str]:
    return {number: one.state for number, one in generations_of(steps).by_number.items()}


def test_without_any_step_the_first_generation_is_live() -> None:
    found = Generations()
    assert (found.live.number, found.building, found.former, found.next_number) == (1, None, None, 2)


def test_a_generation_is_built_made_live_and_the_former_one_dropped() -> None:
    log = [step(1, LIVE), step(2, BUILDING), step(2, LIVE), step(1, DROPPED)]
    assert states(*log[:1]) == {1: LIVE}
    assert states(*log[:2]) == {1: LIVE, 2: BUILDING}
    assert states(*log[:3]) == {1: RETIRED, 2: LIVE}
    assert states(*log) == {1: DROPPED, 2: LIVE}


def test_the_first_step_may_write_the_first_ones_rules_down_once() -> None:
    assert generations_of([step(1, LIVE)]).live.fold == FOLD
    other = step(1, LIVE)._replace(fold="fold-1;past=1;ahead=0;cancel=1")
    assert generations_of([step(1, LIVE), other]).live.fold == FOLD


def test_of_two_that_want_to_build_at_once_the_first_wins() -> None:
    first, second = step(2, BUILDING), step(2, BUILDING)._replace(at_ms=9)
    assert generations_of([first, second]).building == first


def test_what_is_live_cannot_be_dropped_and_what_is_dropped_cannot_live() -> None:
    assert states(step(1, DROPPED)) == {1: LIVE}
    assert states(step(2, BUILDING), step(2, DROPPED), step(2, LIVE)) == {1: LIVE, 2: DROPPED}


def test_numbers_are_never_used_again() -> None:
    found = generations_of([step(2, BUILDING), step(2, DROPPED), step(2, BUILDING), step(3, BUILDING)])
    assert found.building == step(3, BUILDING)
    assert found.next_number == 4


def test_a_rollback_goes_to_the_one_that_was_live_last_and_is_still_there() -> None:
    log = [step(2, BUILDING), step(2, LIVE), step(3, BUILDING), step(3, LIVE)]
    assert generations_of(log).former == step(2, LIVE)._replace(state=RETIRED)
    back = generations_of([*log, step(2, LIVE)])
    assert (back.live.number, back.former.number if back.former else 0) == (2, 3)
    found = generations_of([*log, step(2, DROPPED)])
    assert found.former is not None
    assert found.former.number == 1


STEPS = st.builds(step, st.integers(1, 5), st.sampled_from(STATES))


@given(st.lists(STEPS, max_size=30))
def test_there_is_always_exactly_one_live_generation(log: list[Generation]) -> None:
    found = generations_of(log)
    assert [one.number for one in found.by_number.values() if one.state == LIVE] == [found.live.number]
    assert sum(one.state == BUILDING for one in found.by_number.values()) <= 1
    assert set(found.by_number) == set(range(1, found.next_number))


@given(st.lists(STEPS, max_size=20), STEPS)
def test_a_void_step_changes_nothing(log: list[Generation], last: Generation) -> None:
    found = generations_of(log)
    assert (found.after(last) == found) == (not found.allows(last))


@given(st.lists(STEPS, max_size=20))
def test_nothing_comes_back_from_being_dropped(log: list[Generation]) -> None:
    dropped: set[int] = set()
    found = Generations()
    for one in log:
        found = found.after(one)
        assert all(found.by_number[number].state == DROPPED for number in dropped)
        dropped |= {number for number, known in found.by_number.items() if known.state == DROPPED}


def test_a_folds_version_gives_its_rules_back() -> None:
    for rules in (FoldRules(), FoldRules(1000, 0, 7), FoldRules(cancel_window_ms=5)):
        assert FoldRules.of_version(rules.version).version == rules.version


def test_another_codes_fold_is_refused() -> None:
    for version in ("fold-2;past=1;ahead=1;cancel=1", "", "fold-1"):
        with pytest.raises(Refusal, match="meterline rebuild"):
            FoldRules.of_version(version)


def test_the_sql_of_a_generation_is_that_of_the_first_under_another_number() -> None:
    text = "\n".join(_statements(7, 1))
    assert "CREATE TABLE IF NOT EXISTS summary_shards_g7\n" in text
    assert "CREATE TABLE IF NOT EXISTS dispositions_g7\n" in text
    assert "CREATE OR REPLACE VIEW summary_shards AS SELECT * FROM summary_shards_g7 FINAL" in text
    assert "CREATE OR REPLACE VIEW dispositions AS SELECT * FROM dispositions_g7 FINAL" in text
    assert "_g1\n" not in text
    assert "_g1 " not in text.replace("The suffix _g1 is", "")
