"""The way of an adjustment into the journal: next to its event, or into every partition for a range."""

from __future__ import annotations

from pipeline.codec.records import Codec
from pipeline.domain.checks import check_cancellation
from pipeline.domain.events import Adjustment, Cancellation
from pipeline.domain.partitioning import partition_of
from pipeline.errors import UndecodableRecord
from pipeline.kafka.outlet import Outlet
from pipeline.kafka.topics import Topics
from pipeline.stream.batch import RecordBatch
from pipeline.worker.dead_letters import bury


def route(batch: RecordBatch, codec: Codec, outlet: Outlet, topics: Topics, partitions: int) -> None:
    """Publish the cancellations of a batch of adjustments; unusable ones become dead letters.

    Routing the same adjustment twice is harmless: the fold knows its id.
    """
    for place, value in enumerate(batch.values):
        try:
            adjustment = codec.decode_adjustment(value)
        except UndecodableRecord as error:
            _bury(batch, place, error.reason, outlet, topics)
            continue
        reason = check_cancellation(adjustment, adjustment.id)
        if reason is not None:
            _bury(batch, place, reason, outlet, topics)
            continue
        body = codec.encode_cancellation(_cancellation(adjustment, int(batch.appended_at_ms[place])))
        if adjustment.identifier is not None:
            home = partition_of(adjustment.identifier, partitions)
            outlet.publish(topics.journal, adjustment.identifier.encode(), body, partition=home)
        else:
            for partition in range(partitions):
                outlet.publish(topics.journal, adjustment.id.encode(), body, partition=partition)


def _cancellation(adjustment: Adjustment, requested_at_ms: int) -> Cancellation:
    return Cancellation(
        adjustment.id,
        adjustment.event_name,
        adjustment.livemode,
        adjustment.identifier,
        adjustment.range,
        requested_at_ms,
    )


def _bury(batch: RecordBatch, row: int, reason: str, outlet: Outlet, topics: Topics) -> None:
    place = batch.topic, batch.partition, int(batch.offsets[row])
    bury(outlet, topics, place, batch.keys[row], batch.values[row], reason)
