"""No commit goes back: what is acknowledged late waits until it is known where the group stands."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.types import TP

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
            return SimpleNamespace(seek="the consumer's own")

        async def call_thread(self, *call: Any) -> None:  # type: ignore[override]
            queued.append(call)

    consumer = Consumer(group_stands_at=12)
    consumer._thread = Fetching()
    asyncio.run(consumer._seek(PLACE, 7))
    assert queued == [("the consumer's own", (PLACE.topic, PLACE.partition), 7)]
