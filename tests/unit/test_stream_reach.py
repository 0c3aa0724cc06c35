"""A log that does not hold the place where it is to be read on: no consumer of ours chooses another by itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.types import TP

from pipeline.errors import Refusal, Unavailable
from pipeline.stream import positions, transport
from pipeline.stream.transport import BatchConsumer

PLACE = TP("journal", 2)


class Fetching(BatchConsumer):
    """Ours, without Faust's service around it, whose next fetch is refused."""

    should_stop = False

    def __init__(self, refused: Exception) -> None:
        self._refused = refused
        self.app: Any = SimpleNamespace(consumer_generation_id=5, start_offsets=None, check_reach=self._check)
        self._thread: Any = self
        self.rebalanced_meanwhile = False
        self.asked: list[tuple[str, int, int]] = []
        self.found: Exception | None = None

    async def _wait_next_records(self, timeout: float) -> Any:
        self.app.consumer_generation_id += self.rebalanced_meanwhile
        raise self._refused

    def _check(self, topic: str, partition: int, offset: int) -> None:
        self.asked.append((topic, partition, offset))
        if self.found is not None:
            raise self.found

    async def look_who_leads(self) -> None:
        """There are no brokers."""

    def fetch(self) -> None:
        async def fetched() -> list[Any]:
            return [one async for one in self.getmany(0.1)]

        assert asyncio.run(fetched()) == []


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    errors: list[BaseException] = []
    monkeypatch.setattr(positions, "end_process", errors.append)
    monkeypatch.setattr(transport, "AGAIN_S", 0.0)
    return errors


@pytest.mark.parametrize(
    ("found", "ends"), [(Refusal("it was cut"), True), (None, False), (Unavailable("Kafka: no answer"), False)]
)
def test_who_is_refused_an_offset_ends_if_the_log_does_not_hold_it(
    ended: list[BaseException], found: Exception | None, ends: bool
) -> None:
    consumer = Fetching(OffsetOutOfRangeError({PLACE: 9}))
    consumer.found = found
    consumer.fetch()
    assert consumer.asked == [("journal", 2, 9)]
    assert ended == ([found] if ends else [])


@pytest.mark.parametrize("error", [OffsetOutOfRangeError({PLACE: 9}), NoOffsetForPartitionError(PLACE)])
def test_a_place_of_before_a_rebalance_does_not_matter(ended: list[BaseException], error: Exception) -> None:
    """Another one may be sought when it is over: a fold may stand far beyond its group's offset."""
    consumer = Fetching(error)
    consumer.rebalanced_meanwhile = True
    consumer.fetch()
    assert (consumer.asked, ended) == ([], [])


def test_a_place_that_was_never_sought_is_a_bug() -> None:
    with pytest.raises(NoOffsetForPartitionError):
        Fetching(NoOffsetForPartitionError(PLACE)).fetch()
