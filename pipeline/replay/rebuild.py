"""Building a generation beside the live one, and switching over.

Each step looks at what stands and does what is missing, so that a command that was killed anywhere is simply given
again. What is decided is decided by one record in the ledger:

    1. write down   building                     the number is taken
    2. build        topics, groups, tables; a crew folds the journal from its start and copies into the tables
    3. compare      key by key, as of a common offset of each partition (comparison.py)
    4. write down   live                         the decision. Regular workers and sinks see it, leave the former
                                                 generation in peace and begin again in this one
    5. wait         until no sink copies into the former tables any more: readers see them stand still for a moment.
                    Then until the new tables say all that the former ones can say, so that no number steps back
    6. show         the views are replaced
    7. leave        the crew goes once the regular processes have taken over

The switch of a rollback is the same, from 4 on, after the former generation has caught up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from pipeline.domain.generations import BUILDING, LIVE, Generation
from pipeline.errors import MeterlineError, Refusal, Unavailable
from pipeline.replay.comparison import Comparison, compare
from pipeline.replay.coverage import LOOK_EVERY_S
from pipeline.replay.crew import Crew
from pipeline.replay.ground import Ground
from pipeline.replay.wholeness import check_whole

NEAR_S = 5.0
"""When all that had been appended is done this soon after, the head is caught up with."""
TAKEN_OVER_WITHIN_S = 90.0
LEFT_WITHIN_S = 120.0

Muster = Callable[[Generation], Crew]
"""Makes the crew of a generation."""


class Watch(Protocol):
    """Somebody who looks on."""

    def step(self, description: str, measured: bool = False) -> AbstractContextManager[Callable[[int, int, str], None]]:
        """A step begins; what it gives is told (done, total, note), with total 0 where nothing can be measured."""

    def go_without(self, error: MeterlineError) -> bool:
        """Whether to switch over although the generations cannot be compared."""

    def agree(self, comparison: Comparison) -> bool:
        """Whether to switch over to a generation that compares like this."""


class Before(NamedTuple):
    """Regular processes of the former generation, as they were before the switch."""

    workers: int
    sinks: int


def begin(ground: Ground, fold: str, watch: Watch, *, accept: bool) -> Generation:
    """The generation to build: the one that is being built, else the next.

    Raises Refusal when that one has other rules, and when the journal is not what it was.
    """
    check_whole(ground, ground.ledger.read().live, accept=accept)
    known = ground.known(fold)
    if known.building is None:
        live = known.live
        known = ground.ledger.append(known.next_number, BUILDING, live.journal, live.partitions, fold)
    one = known.building
    assert one is not None
    if one.journal != known.live.journal:
        raise Refusal(
            f"a journal of {one.partitions} partitions is being made: finish that with `meterline journal repartition"
            f" --partitions {one.partitions}`, or throw it away with `meterline generations drop {one.number}`"
        )
    if one.fold != fold:
        raise Refusal(
            f"generation {one.number} is being built with the rules {one.fold}, and the settings say {fold}: set them"
            f" back to go on with it, or throw it away with `meterline generations drop {one.number}`"
        )
    with watch.step(f"generation {one.number}: its topics and tables"):
        ground.prepare(one)
    return one


def build(ground: Ground, one: Generation, crew: Crew, watch: Watch) -> None:
    """Fold, compare, and switch over. Raises Refusal when the generations differ and nobody agrees to that."""
    catch_up(ground, one, crew, watch)
    try:
        agreed = watch.agree(compared(ground, one, crew, watch))
    except (Refusal, Unavailable) as error:
        agreed = watch.go_without(error)
    if not agreed:
        raise Refusal(
            f"generation {one.number} is built and differs from the live one, or could not be compared: nothing was"
            " switched over. `meterline rebuild --accept-differences` does;"
            f" `meterline generations drop {one.number}` throws it away"
        )
    switch(ground, one, crew, watch)


def unfinished(ground: Ground) -> Generation | None:
    """A generation that is live and not shown, or not by every view: a switch that was killed on the way."""
    known = ground.ledger.read()
    shown = ground.shown()
    return known.live if known.live.fold and shown is not None and shown != known.live.number else None


def former(ground: Ground) -> Generation:
    """What a rollback goes back to. Raises Refusal when there is none, or it reads another journal."""
    known = ground.ledger.read()
    if known.former is None:
        raise Refusal("there is no generation to go back to: `meterline generations list` shows all")
    if known.former.journal != known.live.journal:
        raise Refusal(
            f"generation {known.former.number} is built from journal {known.former.journal}, and what is sent now"
            f" stands in journal {known.live.journal}: it would never catch up. `meterline rebuild` makes a new one"
        )
    ground.prepare(known.former)
    return known.former


def catch_up(ground: Ground, one: Generation, crew: Crew, watch: Watch) -> None:
    """Wait until the crew has folded and copied all but what came in the last moments."""
    coverage = ground.coverage(one)
    with watch.step("folding the journal", measured=True) as tell:
        first, started_s = sum(coverage.folded().values()), time.monotonic()
        goal, since_s = coverage.journal_ends(), time.monotonic()
        while True:
            crew.tend()
            folded = coverage.folded()
            done, now_s = sum(folded.values()), time.monotonic()
            tell(done, sum(goal.values()), f"{(done - first) / max(0.1, now_s - started_s):,.0f} records/s")
            if all(folded[number] >= end for number, end in goal.items()):
                if now_s - since_s < NEAR_S:
                    break
                goal, since_s = coverage.journal_ends(), now_s
            time.sleep(LOOK_EVERY_S)
    with watch.step("into ClickHouse", measured=True) as tell:
        most = 0
        while left := coverage.uncopied():
            crew.tend()
            most = max(most, left)
            tell(most - left, most, "")
            if left < most // 100 + 1_000:
                break
            time.sleep(LOOK_EVERY_S)


def compared(ground: Ground, one: Generation, crew: Crew, watch: Watch) -> Comparison:
    """The generation beside the live one."""
    live = ground.ledger.read().live
    sides = (ground.coverage(live), ground.coverage(one))
    with watch.step(f"comparing with generation {live.number}") as tell:
        return compare(ground.beside(live, one), live, one, sides, crew.tend, lambda left: tell(0, 0, f"{left:,} left"))


def switch(ground: Ground, one: Generation, crew: Crew, watch: Watch) -> None:
    """Make a generation live that has caught up, and show it. Goes on where an earlier switch was killed."""
    known = ground.ledger.read()
    former = known.live if known.live.number != one.number else known.former
    before = _regulars(ground, former) if former is not None and known.live.number != one.number else Before(0, 0)
    coverage = ground.coverage(one)
    if known.live.number != one.number:
        with watch.step("copying its state for the regular workers"):
            crew.keep_state(coverage.folded())
        ground.ledger.append(one.number, LIVE, one.journal, one.partitions, one.fold)
    topics = ground.topics(one)
    for topic in (topics.journal, topics.adjustments):
        ground.reopen(topic)  # they are closed when the generation has a journal of its own
    while former is not None:
        with watch.step(f"leaving generation {former.number}") as tell:
            _await_left(ground, former, crew, tell)
        with watch.step(f"generation {one.number} to the head"):
            coverage.await_tables(crew.tend, coverage.journal_ends())
        if not ground.members(ground.topics(former).sink_group):
            break  # else one came that had read the ledger before the decision, and copied on
    ground.show(one)
    with watch.step("regular processes take over"):
        _await_taken_over(ground, one, before, crew)
        crew.leave()


def _regulars(ground: Ground, one: Generation) -> Before:
    topics = ground.topics(one)
    return Before(ground.members(topics.worker_group), ground.members(topics.sink_group))


def _await_left(ground: Ground, former: Generation, crew: Crew, tell: Callable[[int, int, str], None]) -> None:
    group, deadline = ground.topics(former).sink_group, time.monotonic() + LEFT_WITHIN_S
    while left := ground.members(group):
        crew.tend()
        tell(0, 0, f"{left} sinks of it still run")
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{left} sinks of group {group} do not leave generation {former.number}: stop them, then `meterline"
                " rebuild` goes on. Until then the views show what it had when it was left"
            )
        time.sleep(LOOK_EVERY_S)


def _await_taken_over(ground: Ground, one: Generation, before: Before, crew: Crew) -> None:
    deadline = time.monotonic() + TAKEN_OVER_WITHIN_S
    while time.monotonic() < deadline:
        crew.tend()
        workers, sinks = _regulars(ground, one)
        if workers >= before.workers + crew.size and sinks >= before.sinks + 1:
            return
        time.sleep(LOOK_EVERY_S)
