"""From a fetched piece of a partition to columns, below aiokafka's record objects.

aiokafka turns every record into a Python object of eleven fields, which costs more than everything else that the
worker does with it. Here each broker batch becomes four columns at once. The rules are aiokafka's own
(``PartitionRecords``, pinned version): checksums verified, control batches and aborted transactions left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from pipeline.stream.batch import RecordBatch

LOG_APPEND_TIME = 1
_BEFORE_LENGTH = 8
_LOG_OVERHEAD = 12
"""Bytes before what a broker batch's length counts: its first offset, and the length."""


class _Fetched(MemoryRecords):  # type: ignore[misc]
    """What a broker sent of a partition; its bytes stay at hand, which aiokafka's class keeps to itself."""

    def __init__(self, sent: bytes) -> None:
        super().__init__(sent)
        self.sent = sent

    def batch_at(self, base_offset: int) -> bytes:
        at = 0
        while int.from_bytes(self.sent[at : at + _BEFORE_LENGTH]) != base_offset:
            at += _LOG_OVERHEAD + int.from_bytes(self.sent[at + _BEFORE_LENGTH : at + _LOG_OVERHEAD])
        return self.sent[at : at + _LOG_OVERHEAD + int.from_bytes(self.sent[at + _BEFORE_LENGTH : at + _LOG_OVERHEAD])]


fetcher.MemoryRecords = _Fetched


class _Record(NamedTuple):
    """What this module takes of aiokafka's record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def drain(fetched: Any, records_max: int) -> RecordBatch | None:
    """Take up to about ``records_max`` records (whole broker batches) out of an aiokafka ``FetchResult``.

    Returns None when its partition was revoked, paused or moved meanwhile. Advances the consumer's position.
    Raises CorruptRecordException when a checksum does not match.
    """
    tp = fetched._topic_partition
    if not fetched.check_assignment(tp) or not fetched.has_more():
        return None
    piece = fetched._partition_records
    # A generator that goes unused here. It and the piece refer to each other: the bytes of every fetch would stay until
    # the cycle collector comes, and a worker lets that come once in hours.
    piece._records_iterator = None
    start = piece.next_fetch_offset
    offsets: list[Any] = []
    times: list[Any] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    while piece._records.has_next() and len(values) < records_max:
        broker_batch = piece._records.next_batch()
        if _visible(piece, broker_batch, tp):
            records = _records(broker_batch, piece._records)
            _append(broker_batch, records, piece.next_fetch_offset, offsets, times, keys, values)
        piece.next_fetch_offset = max(piece.next_fetch_offset, broker_batch.next_offset)
    fetched._update_position()
    if not piece._records.has_next():
        fetched._partition_records = None
    return RecordBatch(
        tp.topic,
        tp.partition,
        start,
        piece.next_fetch_offset,
        np.concatenate(offsets) if offsets else np.empty(0, np.int64),
        np.concatenate(times) if times else np.empty(0, np.int64),
        keys,
        values,
    )


def _visible(piece: Any, broker_batch: Any, tp: Any) -> bool:
    """Whether a consumer may see this broker batch."""
    if piece._check_crcs and not broker_batch.validate_crc():
        raise CorruptRecordException(f"the checksum of a batch of {tp} does not match its bytes")
    if piece._isolation_level == READ_COMMITTED and broker_batch.producer_id is not None:
        piece._consume_aborted_up_to(broker_batch.base_offset)
        if broker_batch.is_control_batch:
            if piece._contains_abort_marker(broker_batch):
                piece._aborted_producers.discard(broker_batch.producer_id)
        elif broker_batch.is_transactional and broker_batch.producer_id in piece._aborted_producers:
            return False
    return not broker_batch.is_control_batch


def _records(broker_batch: Any, of: _Fetched) -> list[Any]:
    try:
        return list(broker_batch)
    except UnicodeDecodeError:  # the name of a header, which anybody may write as they like, and nobody here reads
        return _without_headers(_DefaultRecordBatchPy(of.batch_at(broker_batch.base_offset)))


def _without_headers(batch: Any) -> list[_Record]:
    """The records of a batch in Kafka's format 2 whose headers are passed over."""
    batch._maybe_uncompress()
    data, at = batch._buffer, batch._pos
    records = []
    for _ in range(batch._num_records):
        length, start = decode_varint(data, at)
        later_ms, after = decode_varint(data, start + 1)  # a byte of attributes, all unused
        delta, after = decode_varint(data, after)
        key, after = _bytes(data, after)
        value, after = _bytes(data, after)
        records.append(_Record(batch.base_offset + delta, batch.first_timestamp + later_ms, key, value))
        at = start + length
    return records


def _bytes(data: bytearray, at: int) -> tuple[bytes | None, int]:
    length, start = decode_varint(data, at)
    return (None, start) if length < 0 else (bytes(data[start : start + length]), start + length)


def _append(
    broker_batch: Any,
    records: list[Any],
    position: int,
    offsets: list[Any],
    times: list[Any],
    keys: list[bytes | None],
    values: list[bytes | None],
) -> None:
    if not records:
        return
    if records[0].offset < position:  # a fetch begins with the whole batch that holds its position
        records = [record for record in records if record.offset >= position]
        if not records:
            return
    first, last, count = records[0].offset, records[-1].offset, len(records)
    if last - first + 1 == count:
        offsets.append(np.arange(first, last + 1, dtype=np.int64))
    else:
        offsets.append(np.array([record.offset for record in records], dtype=np.int64))
    if broker_batch.timestamp_type == LOG_APPEND_TIME:
        times.append(np.full(count, broker_batch.max_timestamp, dtype=np.int64))
    else:
        times.append(np.array([record.timestamp for record in records], dtype=np.int64))
    keys += [record.key for record in records]
    values += [record.value for record in records]
