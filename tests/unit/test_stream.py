"""From what a broker answers to columns: the same records that aiokafka reads from the same bytes, one by one.

The bytes are real record batches of Kafka's format: compressed or not, with holes where compaction was, transactional,
aborted, with the markers that end transactions, stamped by the broker or by producers.
"""

from __future__ import annotations

import asyncio
import gc
import struct
import weakref
from random import Random
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.batch import RecordBatch
from pipeline.stream.fetched import drain

TP = TopicPartition("journal", 3)
T0 = 1_700_000_000_000
NO_PRODUCER = -1
# Where these stand in a record batch, version 2.
CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT, MAX_TIMESTAMP_AT = 17, 21, 23, 35
LOG_APPEND, CONTROL = 0x08, 0x20
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"


class NotText(str):
    """The name of a header whose bytes are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe"


HEADERS: list[tuple[str, bytes | None]] = [("trace", b"1"), (NotText("?"), b""), ("trace", None), ("", b"x" * 70_000)]

Row = tuple[int, int, bytes | None, bytes | None]


def record_batch(
    base: int,
    rows: list[Row],
    *,
    producer: int = NO_PRODUCER,
    codec: int = 0,
    flags: int = 0,
    last_delta: int | None = None,
    headers: list[tuple[str, bytes | None]] | None = None,
) -> bytes:
    """A broker batch. ``rows`` are (offset, timestamp, key, value); the broker's own stamp is the last one's."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, int(producer != NO_PRODUCER), producer, 0, 0, 1 << 20)
    for offset, timestamp, key, value in rows:
        builder.append(offset - base, timestamp, key, value, headers or [])
    packed = bytearray(builder.build())
    packed[:8] = struct.pack(">q", base)
    (attributes,) = struct.unpack_from(">h", packed, ATTRIBUTES_AT)
    struct.pack_into(">h", packed, ATTRIBUTES_AT, attributes | flags)
    if last_delta is not None:
        struct.pack_into(">i", packed, LAST_DELTA_AT, last_delta)
    struct.pack_into(">q", packed, MAX_TIMESTAMP_AT, max(row[1] for row in rows))
    struct.pack_into(">I", packed, CRC_AT, calc_crc32c(packed[ATTRIBUTES_AT:]))
    return bytes(packed)


class Log:
    """A random piece of a partition, as a fetch returns it."""

    def __init__(self, seed: int, headers: list[tuple[str, bytes | None]] | None = None) -> None:
        self.random = random = Random(seed)
        self.headers = headers
        self.offset = random.choice([0, 100])
        self.batches: list[bytes] = []
        self.aborted: list[tuple[int, int]] = []
        self.firsts: list[int] = []
        stamps = random.choice([0, LOG_APPEND])
        open_since: dict[int, int] = {}
        for _ in range(random.randrange(1, 9)):
            producer = random.choice([NO_PRODUCER, NO_PRODUCER, 7, 8])
            if producer != NO_PRODUCER and producer in open_since and random.random() < 0.5:
                marker = random.choice([ABORT, COMMIT])
                first = open_since.pop(producer)
                if marker == ABORT:
                    self.aborted.append((producer, first))
                self._append([(self.offset, T0, marker, b"")], producer=producer, flags=CONTROL)
                continue
            if producer != NO_PRODUCER:
                open_since.setdefault(producer, self.offset)
            self._append(self._rows(), producer=producer, codec=random.choice([0, 1, 3]), flags=stamps)
        self.end = self.offset

    def _rows(self) -> list[Row]:
        random, rows, offset = self.random, [], self.offset
        holes = random.choice([[1], [1, 1, 4]])
        for _ in range(random.randrange(1, 6)):
            rows.append(
                (
                    offset,
                    T0 + random.randrange(1000),
                    random.choice([None, b"", b"k"]),
                    random.choice([None, b"", b"value"]),
                )
            )
            offset += random.choice(holes)
        return rows

    def _append(self, rows: list[Row], **more: Any) -> None:
        last_delta = rows[-1][0] - self.offset + self.random.choice([0, 0, 2])  # compaction may take the last ones, too
        self.firsts.append(self.offset)
        headers = None if more.get("flags") == CONTROL or rows[0][0] % 3 == 0 else self.headers
        self.batches.append(record_batch(self.offset, rows, last_delta=last_delta, headers=headers, **more))
        self.offset += last_delta + 1

    def records(self, position: int, isolation: int) -> PartitionRecords:
        """What a fetch at this position returns: everything from the batch on that holds it."""
        first = max((number for number, first in enumerate(self.firsts) if first <= position), default=0)
        whole = fetcher.MemoryRecords(b"".join(self.batches[first:]))
        return PartitionRecords(TP, whole, list(self.aborted), position, None, None, True, isolation)


async def fetched(records: PartitionRecords) -> tuple[FetchResult, Any]:
    """As aiokafka's fetcher holds it, and where the consumer stands."""
    subscription = SubscriptionState()
    subscription.assign_from_user([TP])
    assignment = subscription.subscription.assignment
    state = assignment.state_value(TP)
    state.reset_to(records.next_fetch_offset)
    return FetchResult(TP, assignment=assignment, partition_records=records, backoff=0), state


async def drained(records: PartitionRecords, records_max: int) -> list[RecordBatch]:
    result, state = await fetched(records)
    batches = []
    while result.has_more():
        batch = drain(result, records_max)
        assert batch is not None
        assert state.position == batch.next_offset
        batches.append(batch)
    return batches


def rows_of(batches: list[RecordBatch]) -> list[Row]:
    return [
        row
        for batch in batches
        for row in zip(batch.offsets.tolist(), batch.appended_at_ms.tolist(), batch.keys, batch.values, strict=True)
    ]


@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([READ_COMMITTED, READ_UNCOMMITTED]))
def test_columns_hold_what_aiokafka_reads_record_by_record(seed: int, records_max: int, isolation: int) -> None:
    log = Log(seed)
    position = log.random.choice([log.firsts[0], log.random.randrange(log.firsts[0], log.end)])
    one_by_one = log.records(position, isolation)
    theirs = [(one.offset, one.timestamp, one.key, one.value) for one in one_by_one]
    batches = asyncio.run(drained(log.records(position, isolation), records_max))
    assert rows_of(batches) == theirs
    assert one_by_one.next_fetch_offset > position
    starts = [position, *(batch.next_offset for batch in batches)]
    assert starts == [*(batch.start for batch in batches), one_by_one.next_fetch_offset], (
        "no offset is skipped or read twice"
    )
    assert all((batch.topic, batch.partition) == (TP.topic, TP.partition) for batch in batches)


@given(st.integers(0, 2**32))
def test_headers_that_are_no_text_change_nothing(seed: int) -> None:
    """aiokafka cannot read such a batch, and any producer may write one: it would come again at every start (F8)."""
    log, odd = Log(seed), Log(seed, HEADERS)
    position = log.random.randrange(log.firsts[0], log.end)
    plain = asyncio.run(drained(log.records(position, READ_COMMITTED), 10_000))
    assert rows_of(asyncio.run(drained(odd.records(position, READ_COMMITTED), 10_000))) == rows_of(plain)


def test_a_stamp_of_the_broker_holds_for_the_whole_batch() -> None:
    log = Log(0)
    log.firsts, log.batches, log.aborted = (
        [0],
        [record_batch(0, [(0, 5, None, b"a"), (1, 9, None, b"b")], flags=LOG_APPEND)],
        [],
    )
    (batch,) = asyncio.run(drained(log.records(0, READ_COMMITTED), 10))
    assert batch.appended_at_ms.tolist() == [9, 9]


def test_only_aborted_records_move_the_position_and_give_an_empty_batch() -> None:
    log = Log(0)
    log.batches = [
        record_batch(0, [(0, T0, None, b"a")], producer=7),
        record_batch(1, [(1, T0, ABORT, b"")], producer=7, flags=CONTROL),
    ]
    log.firsts, log.aborted = [0, 1], [(7, 0)]
    (batch,) = asyncio.run(drained(log.records(0, READ_COMMITTED), 10))
    assert (len(batch), batch.start, batch.next_offset) == (0, 0, 2)


def test_bytes_that_changed_on_their_way_are_never_read() -> None:
    log = Log(0)
    broken = bytearray(record_batch(0, [(0, T0, None, b"aaaa")]))
    broken[-2] ^= 1
    log.firsts, log.batches, log.aborted = [0], [bytes(broken)], []
    with pytest.raises(CorruptRecordException):
        asyncio.run(drained(log.records(0, READ_COMMITTED), 10))


def test_what_was_fetched_goes_as_soon_as_it_is_drained() -> None:
    """Without the cycle collector, which a worker runs once in hours."""
    log = Log(1)
    gc.disable()
    try:
        records = log.records(0, READ_COMMITTED)
        alive = weakref.ref(records)
        asyncio.run(drained(records, 10_000))
        del records
        assert alive() is None
    finally:
        gc.enable()


def test_nothing_is_read_of_a_partition_that_moved_or_was_paused() -> None:
    async def moved_and_paused() -> tuple[RecordBatch | None, RecordBatch | None]:
        log = Log(1)
        result, state = await fetched(log.records(log.firsts[0], READ_COMMITTED))
        state.seek(log.end + 5)
        paused, its_state = await fetched(log.records(log.firsts[0], READ_COMMITTED))
        its_state.pause()
        return drain(result, 10), drain(paused, 10)

    assert asyncio.run(moved_and_paused()) == (None, None)
