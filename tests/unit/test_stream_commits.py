"""No commit goes back: what is acknowledged late waits until it is known where the group stands."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    CommitFailedError,
    GroupCoordinatorNotAvailableError,
    IllegalStateError,
    KafkaError,
    NotCoordinatorForGroupError,
    RequestTimedOutError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from pipeline.errors import Unavailable
from pipeline.stream import positions, transport
from pipeline.stream.transport import BatchConsumer, BatchConsumerThread

PLACE = TP("journal", 2)


class Consumer(BatchConsumer):
    """Ours, without Faust's service around it and without a broker."""

    def __init__(self, group_stands_at: int) -> None:
        self._acked: Any = defaultdict(list)
        self._acked_index: Any = defaultdict(set)
        self._committed_offset: Any = defaultdict(lambda: None)
        self._read_offset: Any = {}
        self.app: Any = SimpleNamespace(consumer_generation_id=5, start_offsets=None)
        self.group_stands_at = group_stands_at
        self.rebalanced_meanwhile = False

    def assignment(self) -> set[TP]:
        return {PLACE}

    async def seek_to_committed(self) -> dict[TP, int]:
        if self.rebalanced_meanwhile:
            self.app.consumer_generation_id += 1
        return {PLACE: self.group_stands_at}

    def to_commit(self) -> dict[TP, int]:
        return dict(self._filter_committable_offsets({PLACE}))


def test_what_an_earlier_generation_did_is_not_committed_before_it_is_known_where_the_group_stands() -> None:
    consumer = Consumer(group_stands_at=12)
    consumer.note_done(PLACE, 11)
    assert consumer.to_commit() == {}
    asyncio.run(consumer.perform_seek())
    assert consumer.to_commit() == {}, "the group is beyond it"


def test_what_is_new_waits_for_the_seek_and_is_committed_then() -> None:
    consumer = Consumer(group_stands_at=12)
    consumer.note_done(PLACE, 20)
    assert consumer.to_commit() == {}
    asyncio.run(consumer.perform_seek())
    assert consumer.to_commit() == {PLACE: 20}


def test_a_rebalance_during_the_seek_makes_it_worthless() -> None:
    consumer = Consumer(group_stands_at=12)
    consumer.rebalanced_meanwhile = True
    consumer.note_done(PLACE, 20)
    asyncio.run(consumer.perform_seek())
    assert consumer.to_commit() == {}


def test_a_commit_of_an_earlier_generation_that_failed_is_not_tried_again_in_the_next() -> None:
    consumer = Consumer(group_stands_at=12)
    asyncio.run(consumer.perform_seek())
    consumer._committed_offset[PLACE] = 3  # Faust notes what it tried, whenever the answer comes
    consumer.note_done(PLACE, 3)
    assert consumer.to_commit() == {}
    consumer.note_done(PLACE, 13)
    assert consumer.to_commit() == {PLACE: 13}


class Committing(BatchConsumerThread):
    """The consumer's thread, called in place; a commit fails for each of ``failures``."""

    def __init__(self, *failures: KafkaError) -> None:
        self.failures = list(failures)
        self.committed_at_last: Any = None
        self.warned: list[str] = []
        self.log: Any = SimpleNamespace(warning=lambda text, *_: self.warned.append(text))
        self.consumer: Any = SimpleNamespace(app=SimpleNamespace(offset_note="generation 1"))

    def assignment(self) -> set[TP]:
        return {PLACE}

    def _ensure_consumer(self) -> Any:
        return SimpleNamespace(commit=self.asked_of_the_coordinator)

    async def call_thread(self, call: Any, *arguments: Any) -> Any:  # type: ignore[override]
        return await call(*arguments)

    async def asked_of_the_coordinator(self, offsets: Any) -> None:
        if self.failures:
            raise self.failures.pop()
        self.committed_at_last = offsets


async def committed_by_faust(consumer: Consumer) -> bool:
    """What Faust's ``commit`` does: it notes what it tried as committed, whatever the answer."""
    offsets = consumer.to_commit()
    committed = await consumer._commit(offsets)
    consumer._committed_offset.update(offsets)
    return committed


@pytest.mark.parametrize(
    "failure",
    [
        NotCoordinatorForGroupError(),
        GroupCoordinatorNotAvailableError(),
        RequestTimedOutError(),
        UnknownMemberIdError(),
        CommitFailedError(),
        IllegalStateError(),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_c8_a_commit_that_failed_is_offered_again_and_ends_nobody(failure: KafkaError) -> None:
    """The coordinator dies in the middle of it: the group hears of the offset from the next one."""
    consumer, thread = Consumer(group_stands_at=12), Committing(failure)
    consumer._thread = thread
    asyncio.run(consumer.perform_seek())
    consumer.note_done(PLACE, 20)
    assert asyncio.run(committed_by_faust(consumer)) is False
    assert (thread.committed_at_last, len(thread.warned)) == (None, 1)
    assert asyncio.run(committed_by_faust(consumer)) is True
    assert thread.committed_at_last == {tuple(PLACE): OffsetAndMetadata(20, "generation 1\0")}
    assert consumer.to_commit() == {}, "once is enough"


def test_c8_what_is_done_meanwhile_goes_with_what_failed() -> None:
    consumer = Consumer(group_stands_at=12)
    consumer._thread = Committing(NotCoordinatorForGroupError())
    asyncio.run(consumer.perform_seek())
    consumer.note_done(PLACE, 20)
    asyncio.run(committed_by_faust(consumer))
    consumer.note_done(PLACE, 25)
    assert consumer.to_commit() == {PLACE: 25}


@pytest.mark.parametrize("rebalance", [{"consumer_generation_id": 6}, {"flow_active": False}], ids=["over", "begins"])
def test_b4_nothing_of_an_earlier_generation_is_handed_on(rebalance: dict[str, Any]) -> None:
    """A rebalance between two partitions of one fetch: the rest is read again from where the new generation starts."""
    places = [TP("journal", number) for number in range(4)]

    class Fetching(Consumer):
        should_stop = False

        @property
        def flow_active(self) -> bool:  # type: ignore[override]
            return self.app.flow_active

        async def _wait_next_records(self, timeout: float) -> Any:
            batches = {tp: SimpleNamespace(topic=tp.topic, partition=tp.partition, next_offset=9) for tp in places}
            return batches, set(places)

    async def handed_on(until_rebalance: int) -> list[TP]:
        consumer, found = Fetching(group_stands_at=0), []
        consumer.app.flow_active = True
        async for tp, message in consumer.getmany(0.1):
            assert (message.tp, message.offset, message.generation_id) == (tp, 8, 5)
            found.append(tp)
            if len(found) == until_rebalance:
                vars(consumer.app).update(rebalance)
        return found

    for count in range(1, len(places) + 1):
        assert asyncio.run(handed_on(count)) == places[:count]


def test_partitions_that_are_taken_away_during_the_seek_end_nobody() -> None:
    """The fetcher seeks while a rebalance is on; the rebalance itself seeks again when it is over."""

    class Losing(Consumer):
        flow_active = False
        should_stop = False

        async def _wait_next_records(self, timeout: float) -> Any:
            return {}, None

        async def seek_to_committed(self) -> dict[TP, int]:
            raise IllegalStateError(f"No current assignment for partition {PLACE}")

    async def fetched(consumer: Consumer) -> list[Any]:
        return [one async for one in consumer.getmany(0.1)]

    consumer = Losing(group_stands_at=12)
    assert asyncio.run(fetched(consumer)) == []
    consumer.note_done(PLACE, 20)
    assert consumer.to_commit() == {}, "where the group stands is not known"


def test_a_position_is_moved_only_where_the_fetching_is_done() -> None:
    """In another thread it would be moved in the middle of a fetch, which then moves it on."""
    queued: list[Any] = []

    class Fetching(BatchConsumerThread):
        def __init__(self) -> None:
            """Without a broker."""

        def _ensure_consumer(self) -> Any:
            return "aiokafka's"

        async def call_thread(self, *call: Any) -> None:  # type: ignore[override]
            queued.append(call)

    consumer = Consumer(group_stands_at=12)
    consumer._thread = Fetching()
    asyncio.run(consumer._seek(PLACE, 7))
    assert queued == [(positions.seek, "aiokafka's", (PLACE.topic, PLACE.partition), 7)]


def test_where_to_read_on_is_worthless_after_a_rebalance_that_came_meanwhile() -> None:
    """A partition may have left and come back, and been sought at an earlier place by then."""
    sought: list[tuple[TP, int]] = []

    class Seeking(Consumer):
        async def seek(self, partition: TP, offset: int) -> None:
            sought.append((partition, offset))

    async def run(rebalanced: bool) -> None:
        consumer = Seeking(group_stands_at=12)

        async def start_offsets(assigned: set[TP]) -> dict[TP, int]:
            consumer.app.consumer_generation_id += rebalanced
            return {PLACE: 100}

        consumer.app.start_offsets = start_offsets
        await consumer.perform_seek()

    asyncio.run(run(rebalanced=True))
    assert sought == []
    asyncio.run(run(rebalanced=False))
    assert sought == [(PLACE, 100)]


def test_a_seek_that_nobody_answers_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust would take its own time-out for a stop, and never resume the flow."""

    class Unanswered(Consumer):
        async def seek_to_committed(self) -> dict[TP, int]:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

    ended: list[BaseException] = []
    monkeypatch.setattr(transport, "end_process", ended.append)
    monkeypatch.setattr(transport, "SEEK_WITHIN_S", 0.01)
    asyncio.run(Unanswered(group_stands_at=12).perform_seek())
    (error,) = ended
    assert isinstance(error, Unavailable)
    assert "where its group stands" in str(error)
