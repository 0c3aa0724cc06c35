"""The worker's core alone: what it tells the group when it takes partitions over."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.admin import TopicState
from pipeline.kafka.topics import Topics
from pipeline.stream import insisting
from pipeline.worker import opening as worker_opening
from pipeline.worker.app import Worker
from pipeline.worker.core import AHEAD_MAX, CoreLimits, WorkerCore


class Group:
    """One member that has all partitions of ``committed``."""

    def __init__(self, committed: dict[int, int]) -> None:
        self._committed = committed
        self.done: dict[int, int] = {}

    def assigned(self) -> set[int]:
        return set(self._committed)

    async def committed(self, partitions: set[int]) -> dict[int, int]:
        return {number: self._committed[number] for number in partitions}

    def note_done(self, partition: int, next_offset: int) -> None:
        self.done[partition] = next_offset


class Opening:
    """Finds stores at these cursors."""

    def __init__(self, cursors: dict[int, int]) -> None:
        self._cursors = cursors

    def topic(self) -> None:
        """All is as it was."""

    def check_place(self, number: int, next_offset: int) -> None:
        """Nothing was deleted."""

    def open(self, number: int, committed: int) -> Any:
        cursor = self._cursors[number]
        stands = {"cursor": cursor, "next_offset": cursor, "silent_below": committed, "records_held": 0}
        return SimpleNamespace(**stands, origin=None, store=None)


EMPTY: Any = SimpleNamespace(flush=lambda timeout_s: None)
"""An outlet without anything in it."""


def test_a_store_that_is_older_than_the_groups_offset_takes_no_commit_back() -> None:
    group = Group({0: 25, 1: 7})
    cursors: Any = Opening({0: 21, 1: 9})
    nothing: Any = None
    core = WorkerCore(CoreLimits(100, 100, 100), nothing, nothing, EMPTY, cursors, nothing)
    asyncio.run(core.take_over(group))
    assert group.done == {1: 9}


def test_a_batch_of_before_a_rebalance_is_no_gap_in_the_journal() -> None:
    """The partition left and came back, from its store, while the agent had a batch in its hands."""
    stale = SimpleNamespace(value=SimpleNamespace(partition=0, start=9, next_offset=12))
    cursors: Any = Opening({0: 3})
    nothing: Any = None
    core = WorkerCore(CoreLimits(100, 100, 100), nothing, nothing, EMPTY, cursors, nothing)

    async def batches() -> Any:
        yield stale

    async def run() -> None:
        await core.take_over(Group({0: 3}))
        await core.fold_all(batches())

    asyncio.run(run())
    assert core.held == []


def test_a_journal_that_holds_a_folds_place_no_more_ends_the_worker_when_it_is_seen_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once is what a leader says, too, that was frozen and does not know yet that another one leads; and where the fold
    has gone on in between, nothing was lost.
    """
    monkeypatch.setattr("pipeline.worker.core.JOURNAL_LOOK_EVERY_S", 0.0)
    looks = iter([{0: 3}, {1: 9}, {}, {1: 8}, {1: 9}, {0: 3, 1: 9}])
    checked: list[tuple[int, int]] = []

    class Cut(Opening):
        def cut_off(self, next_offsets: dict[int, int]) -> dict[int, int]:
            assert next_offsets == {0: 3, 1: 9}
            return next(looks)

        def check_place(self, number: int, next_offset: int) -> None:
            checked.append((number, next_offset))
            raise Refusal("it lost its newest records")

    cursors: Any = Cut({0: 3, 1: 9})
    nothing: Any = None
    core = WorkerCore(CoreLimits(100, 100, 100), nothing, nothing, EMPTY, cursors, nothing)

    async def run() -> None:
        await core.take_over(Group({0: 3, 1: 9}))
        await core.watch_journal()

    with pytest.raises(Refusal):
        asyncio.run(run())
    assert (checked, list(looks)) == ([(1, 9)], [])


@pytest.mark.parametrize(
    ("first", "end", "words"), [(0, 9, None), (9, 9, None), (10, 12, "begins at offset 10"), (0, 8, "ends at offset 8")]
)
def test_a_fold_goes_on_only_with_a_journal_that_reaches_to_where_it_stands(
    first: int, end: int, words: str | None
) -> None:
    state = TopicState("journal", "id", 1, 1, {})
    cluster: Any = SimpleNamespace(
        describe=lambda names: dict.fromkeys(names, state),
        offsets=lambda topic, number: (first, end),
        firsts=lambda topic, numbers: dict.fromkeys(numbers, first),
        ends=lambda topic, numbers: dict.fromkeys(numbers, end),
    )
    nothing: Any = None
    opening = worker_opening.Opening(cluster, nothing, Topics("n"), nothing, nothing, stamped=False)
    assert opening.cut_off({0: 9}) == ({0: 9} if words else {})
    with pytest.raises(Refusal, match=words) if words else contextlib.nullcontext():
        opening.check_place(0, 9)


def test_where_to_read_on_is_asked_of_the_fold_when_kafka_has_answered() -> None:
    """A partition left and came back from an earlier place while the group's notes were read."""
    core: Any = SimpleNamespace(start_offset=lambda number: 100)

    def below(places: Any) -> dict[Any, int]:
        core.start_offset = lambda number: 80
        return {}

    worker: Any = SimpleNamespace(
        core=core,
        topics=SimpleNamespace(journal="journal", adjustments="adjustments"),
        acts=SimpleNamespace(below=below),
        app=SimpleNamespace(consumer=None),
    )
    place = TP("journal", 0)
    assert asyncio.run(Worker._start_offsets(worker, {place})) == {place: 80}


def test_batches_that_stay_ahead_of_the_fold_end_the_worker() -> None:
    """Passing them over would be all that it does from then on, and nobody would hear of it."""
    cursors: Any = Opening({0: 3})
    nothing: Any = None
    core = WorkerCore(CoreLimits(100, 100, 100), nothing, nothing, EMPTY, cursors, nothing)

    async def batches() -> Any:
        for start in range(9, 9 + 10 * AHEAD_MAX, 10):
            yield SimpleNamespace(value=SimpleNamespace(partition=0, start=start, next_offset=start + 10))

    async def run() -> None:
        await core.take_over(Group({0: 3}))
        await core.fold_all(batches())

    with pytest.raises(AssertionError, match=r"partition 0 is read at offset \d+, but the fold stands at 3"):
        asyncio.run(run())


def test_kafka_may_be_away_while_partitions_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker asks on until it has them, and does not end."""
    monkeypatch.setattr(insisting, "AGAIN_S", 0.0)
    group, opening = Group({0: 3}), Opening({0: 3})
    answers: dict[str, int] = dict.fromkeys(("topic", "open"), 2)
    nothing: Any = None

    def away(name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*arguments: int) -> Any:
            answers[name] -= 1
            if answers[name] >= 0:
                raise Unavailable("Kafka: no answer")
            return ask(*arguments)

        return asked

    flaky: Any = SimpleNamespace(topic=away("topic", opening.topic), open=away("open", opening.open))
    core = WorkerCore(CoreLimits(100, 100, 100), nothing, nothing, EMPTY, flaky, nothing)
    asyncio.run(core.take_over(group))
    assert list(core.partitions) == [0]
    assert answers == {"topic": -1, "open": -1}


def test_kafka_may_be_away_while_what_former_workers_did_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there was ever another generation: their notes, and the journal from there on."""
    monkeypatch.setattr(insisting, "AGAIN_S", 0.0)
    answers = iter([Unavailable("Kafka: no answer"), Unavailable("Kafka: no answer"), None])
    told: list[int] = []

    def on_open(partition: Any, committed: int) -> None:
        told.append(committed)
        if error := next(answers):
            raise error

    cursors: Any = Opening({0: 3})
    nothing: Any = None
    core = WorkerCore(CoreLimits(100, 100, 100), nothing, nothing, EMPTY, cursors, nothing, on_open)
    asyncio.run(core.take_over(Group({0: 3})))
    assert list(core.partitions) == [0]
    assert told == [3, 3, 3]


def test_a_snapshot_that_failed_is_made_again_though_nothing_has_changed() -> None:
    """Of one that was made there is nothing to do until something changes."""
    cursors: Any = Opening({0: 3})
    kept: list[int] = []
    answers, twice = iter([False, True]), threading.Event()

    class Stores:
        def checkpoint(self, store: Any) -> Any:
            return store

        def keep(self, origin: Any, cursor: int, checkpoint: Any) -> bool:
            kept.append(cursor)
            if len(kept) == 2:
                twice.set()
            return next(answers)

    nothing: Any = None
    stores: Any = Stores()
    core = WorkerCore(CoreLimits(100, 100, 1), nothing, nothing, EMPTY, cursors, stores)

    async def run() -> None:
        await core.take_over(Group({0: 3}))
        task = asyncio.create_task(core.snapshot_forever())
        await asyncio.to_thread(twice.wait, 30.0)
        for _ in range(10):
            core.snapshot_due.set()
            await asyncio.sleep(0.005)
        assert not task.done(), "a third snapshot has no answer, and would end it"
        task.cancel()

    asyncio.run(run())
    assert kept == [3, 3]
