"""A new journal with another number of partitions, and the world that follows from it.

An identifier's partition depends on how many there are, so a journal's count can't be changed: another journal is made,
everything is copied (copying.py), a generation is built from the copy, and everybody moves over. Writers are stopped by
the brokers themselves (kafka/fence.py), so it makes no difference who they are:

    1. copy behind   all but the last moments, while everything goes on; a crew folds the copy
    2. close         adjustments take no more; once the last one is in the journal, so does the journal
    3. settle        the live generation folds what came last, and its tables show it
    4. copy the rest, fold it, compare
    5. write down    live. Writers that were refused look there, and write to the new journal from now on
    6. switch over   as after a rebuild; the old journal stays as it is, closed for good

Between 2 and 5 nothing can be written: writers wait, or are told to try again. If anything fails there, the old journal
is opened again and nothing has happened. Killed there, the same command goes on.

What a crew has folded after a rebuild, nobody has acted upon: regular workers must have taken over first. Only they
send strays on to their partition, and those are left out of the copy.

A stray that came in the last moments cannot be sent to its partition any more, and stops the live worker there. What
comes behind it in its partition is not compared but copied all the same, the stray to where it belongs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from confluent_kafka import IsolationLevel

from pipeline.codec.records import Codec
from pipeline.domain.generations import BUILDING, Generation
from pipeline.errors import MeterlineError, Refusal, Unavailable
from pipeline.kafka import fence
from pipeline.kafka.admin import describe
from pipeline.kafka.asking import patiently
from pipeline.kafka.bounds import LATEST, newest_ms, offsets
from pipeline.kafka.offsets import committed
from pipeline.replay.copying import Copier, Cursors
from pipeline.replay.coverage import LOOK_EVERY_S, Coverage
from pipeline.replay.crew import Crew
from pipeline.replay.ground import Ground
from pipeline.replay.merged import compare_merged
from pipeline.replay.placing import Journal
from pipeline.replay.rebuild import Watch, switch

MARGIN_MS: Final = 60_000
"""How far brokers' clocks may differ, at most: what is younger is copied only when nothing more can come."""
SMALL_ROUND: Final = 20_000
"""When a round copies no more than this, the rest can wait for the moment in which nobody writes."""
STUCK_S: Final = 15.0
ROUTED_WITHIN_S: Final = 60.0
TAKEN_OVER_WITHIN_S: Final = 60.0
SETTLED_WITHIN_S: Final = 120.0
"""A transaction of somebody else's may be open for as long; see transaction.timeout.ms."""


class Move(NamedTuple):
    """From the live generation to the one that is being built."""

    old: Generation
    new: Generation


def begin(ground: Ground, fold: str, partitions: int, watch: Watch) -> Move:
    """What to do, or to go on with. Raises Refusal when there is nothing to do, or something else is under way."""
    known = ground.known(fold)
    live = known.live
    if known.building is None:
        if live.partitions == partitions:
            raise Refusal(f"the journal has {partitions} partitions already")
        journal = 1 + max(one.journal for one in known.by_number.values())
        known = ground.ledger.append(known.next_number, BUILDING, journal, partitions, live.fold)
    new = known.building
    assert new is not None
    if new.journal == live.journal:
        raise Refusal(
            f"generation {new.number} is being rebuilt: finish that with `meterline rebuild`, or throw it away with"
            f" `meterline generations drop {new.number}`"
        )
    if new.partitions != partitions:
        raise Refusal(
            f"a journal of {new.partitions} partitions is being made: go on with `--partitions {new.partitions}`, or"
            f" throw it away with `meterline generations drop {new.number}`"
        )
    with watch.step(f"generation {new.number}: its journal, topics and tables"):
        ground.prepare(new)
    return Move(live, new)


def repartition(ground: Ground, codec: Codec, move: Move, crew: Crew, watch: Watch, margin_ms: int) -> None:
    """All of it. Raises Refusal when the generations differ; the old journal is open again then."""
    if not _complete(ground, move.new):
        fence.stamp_by_producer(ground.kafka, ground.topics(move.new).journal)
        _Moving(ground, codec, move, crew, watch).run(margin_ms)
    switch(ground, move.new, crew, watch)


def _complete(ground: Ground, new: Generation) -> bool:
    """Whether everything is copied, compared, and only the word is missing."""
    topic = ground.topics(new).journal
    stamp = describe(ground.kafka, [topic])[topic].config["message.timestamp.type"]
    return stamp == "LogAppendTime" and fence.is_closed(ground.kafka, topic)


class _Moving:
    """One run from the first copy to the last."""

    def __init__(self, ground: Ground, codec: Codec, move: Move, crew: Crew, watch: Watch) -> None:
        self._ground, self._move, self._crew, self._watch = ground, move, crew, watch
        self._kafka = ground.kafka
        old, new = ground.topics(move.old), ground.topics(move.new)
        self._old, self._new = old, new
        self._before = Coverage(ground.kafka, old, move.old.partitions)
        self._after = Coverage(ground.kafka, new, move.new.partitions)
        journals = Journal(old.journal, move.old.partitions), Journal(new.journal, move.new.partitions)
        self._copier = Copier(ground.kafka, f"{ground.namespace}-copying-j{move.new.journal}", codec, *journals)

    def run(self, margin_ms: int) -> None:
        try:
            try:
                with self._watch.step(f"regular workers of generation {self._move.old.number}"):
                    self._await_acted(self._before.folded(), TAKEN_OVER_WITHIN_S)
                self._copy_behind(margin_ms)
                self._move_over()
            except (MeterlineError, KeyboardInterrupt):
                fence.reopen(self._kafka, self._old.journal)
                fence.reopen(self._kafka, self._old.adjustments)
                raise
            fence.stamp_by_broker(self._kafka, self._new.journal)
        finally:
            self._copier.close()

    def _await_acted(self, folded: Cursors, within_s: float) -> None:
        """Wait until all strays of what was folded are sent on. Raises Refusal when nobody does that."""
        deadline = time.monotonic() + within_s
        while self._acted(folded) != folded:
            if time.monotonic() > deadline:
                raise Refusal(
                    f"no worker of generation {self._move.old.number} has taken over from the command that built it:"
                    " records that came to a wrong partition are not sent on yet, and would be left out of the new"
                    " journal. Start a worker, then try again; this journal is open"
                )
            self._crew.tend()
            time.sleep(LOOK_EVERY_S)

    def _acted(self, folded: Cursors) -> Cursors:
        """The part of it upon which regular workers have acted."""
        acted = self._ground.acted(self._move.old)
        return {number: min(offset, acted[number]) for number, offset in folded.items()}

    def _copy_behind(self, margin_ms: int) -> None:
        with self._watch.step("copying the journal", measured=True) as tell:
            done, copied, began_s = sum(self._copier.position.values()), SMALL_ROUND + 1, time.monotonic()
            first = done
            while copied > SMALL_ROUND:
                limits = self._acted(self._before.folded())
                copied = 0

                def told(records: int, goal: int = sum(limits.values())) -> None:
                    nonlocal copied, done
                    copied, done = copied + records, done + records
                    tell(done, goal, f"{(done - first) / max(0.1, time.monotonic() - began_s):,.0f} records/s")
                    self._crew.tend()

                horizon_ms = self._newest_ms() - margin_ms
                self._copier.copy_behind(limits, self._before.journal_ends(), horizon_ms, told)
        with self._watch.step("folding the copy", measured=True) as tell:
            self._await_folded(tell)

    def _await_folded(self, tell: object = None) -> None:
        ends = self._after.journal_ends()
        while left := sum(max(0, ends[number] - offset) for number, offset in self._after.folded().items()):
            self._crew.tend()
            if callable(tell):
                tell(sum(ends.values()) - left, sum(ends.values()), "")
            time.sleep(LOOK_EVERY_S)

    def _move_over(self) -> None:
        """From the first closed topic to the last copy: nobody can write meanwhile."""
        with self._watch.step("closing the journal"):
            fence.close(self._kafka, self._old.adjustments)
            self._await_routed()
            fence.close(self._kafka, self._old.journal)
            ends = self._settled_ends()
        with self._watch.step(f"generation {self._move.old.number} to its end"):
            cut = self._await_settled(ends)
            self._await_acted(cut, 0.0)  # a crew of before may have gone on where regular workers ended
        with self._watch.step("copying the rest"):
            self._copier.copy_rest(cut, cut, lambda _: self._crew.tend())
            self._after.await_tables(self._crew.tend, self._after.journal_ends())
        with self._watch.step(f"comparing with generation {self._move.old.number}"):
            found = compare_merged(self._ground.server, self._move.old, self._move.new, self._crew.tend)
        if not self._watch.agree(found):
            raise Refusal(
                f"generation {self._move.new.number} differs: nothing was switched over, and the journal is open again."
                f" `meterline generations drop {self._move.new.number}` throws the copy away"
            )
        with self._watch.step("copying the last records"):
            self._copier.copy_rest(ends, cut, lambda _: self._crew.tend(), in_order=False)

    def _await_routed(self) -> None:
        """Wait until every adjustment is in the journal."""
        places = [(self._old.adjustments, number) for number in self._partitions(self._old.adjustments)]
        deadline = time.monotonic() + ROUTED_WITHIN_S
        while True:
            ends = self._ends(places)
            come = committed(self._kafka, self._old.worker_group, places)
            if all(come.get(place, 0) >= end for place, end in ends.items()):
                return
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the workers of group {self._old.worker_group} do not bring the last adjustments into the journal:"
                    " do they run? The journal stays open"
                )
            time.sleep(LOOK_EVERY_S)

    def _settled_ends(self) -> Cursors:
        """Where the closed journal ends, once no transaction is open any more."""
        places = [(self._old.journal, number) for number in range(self._move.old.partitions)]
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while True:
            ends = self._ends(places)
            if self._ends(places, IsolationLevel.READ_COMMITTED) == ends:
                return {number: end for (_, number), end in ends.items()}
            if time.monotonic() > deadline:
                raise Unavailable(f"a transaction into {self._old.journal} does not end: end it, then try again")
            time.sleep(LOOK_EVERY_S)

    def _await_settled(self, ends: Cursors) -> Cursors:
        """How far the live generation comes: to the end, or to a stray that it can't send on any more."""
        cut, since_s = self._before.folded(), time.monotonic()
        while any(cut[number] < end for number, end in ends.items()):
            if time.monotonic() - since_s > STUCK_S:
                break
            time.sleep(LOOK_EVERY_S)
            now = self._before.folded()
            if now != cut:
                cut, since_s = now, time.monotonic()
        return self._before.await_tables(self._crew.tend, cut)

    def _newest_ms(self) -> int:
        """The append time of the newest record."""
        places = [(self._old.journal, number) for number in range(self._move.old.partitions)]
        return max(patiently(lambda: newest_ms(self._kafka, places)).values())

    def _partitions(self, topic: str) -> range:
        return range(describe(self._kafka, [topic])[topic].partitions)

    def _ends(
        self, places: list[tuple[str, int]], isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> Mapping[tuple[str, int], int]:
        return patiently(lambda: offsets(self._kafka, places, LATEST, isolation=isolation))
