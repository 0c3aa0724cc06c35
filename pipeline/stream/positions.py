"""Where a consumer reads on. By itself it never chooses another place: records would be passed over in silence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import aiokafka
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import IllegalStateError, KafkaError, OffsetOutOfRangeError
from faust.types import TP

from pipeline.errors import Unavailable
from pipeline.stream.ending import end_process

StartOffsets = Callable[[set[TP]], Awaitable[dict[TP, int]]]
"""Where to read on from, asked after every rebalance; partitions left out start at their committed offset, and 0 is
where a log begins, wherever that is by now."""

CheckReach = Callable[[str, int, int], None]
"""Asked, in a thread, when a broker says that a (topic, partition) has no such offset to read on at.

Raises Refusal when that is so, and Unavailable. Returns when that broker was mistaken, as one that has been frozen is
for a moment: it does not know yet that another one leads.
"""


async def assert_reach(error: KafkaError, check: CheckReach) -> None:
    """End the process if a log does not hold the place that ``error`` names."""
    if not isinstance(error, OffsetOutOfRangeError):
        raise error
    for tp, offset in error.args[0].items():
        try:
            with contextlib.suppress(Unavailable):  # then the same fetch is refused once more
                await asyncio.to_thread(check, tp.topic, tp.partition, offset)
        except Exception as refusal:
            end_process(refusal)


async def seek_to_committed(consumer: aiokafka.AIOKafkaConsumer) -> dict[Any, int | None]:
    """Read all assigned partitions on from where the group stands; returns that.

    aiokafka's own leaves out partitions of which nothing is done yet. What was fetched of them and thrown away, since
    a rebalance was on, would never be read again.
    """
    stands_at: dict[Any, int | None] = {}
    for tp in consumer.assignment():
        stands_at[tp] = offset = await consumer.committed(tp)
        if offset is None:
            _seek_to_first(consumer, tp)
        else:
            consumer.seek(tp, offset)
    return stands_at


async def seek(consumer: aiokafka.AIOKafkaConsumer, tp: Any, offset: int) -> None:
    """Read a partition on from ``offset``, as ``StartOffsets`` means it."""
    if offset:
        consumer.seek(tp, offset)
    else:
        _seek_to_first(consumer, tp)


def _seek_to_first(consumer: aiokafka.AIOKafkaConsumer, tp: Any) -> None:
    """aiokafka's own waits until somebody has said where the log begins."""
    if tp not in consumer.assignment():
        raise IllegalStateError(f"no current assignment for partition {tp}")
    consumer._fetcher.request_offset_reset([tp], OffsetResetStrategy.EARLIEST)
