"""A Faust transport that hands an agent one message per chunk of a partition instead of one per record.

Stock Faust spends four asyncio tasks on every message. With a chunk as the message everything else stays Faust's own
(conductor, agents, streams, flow control, rebalancing, acknowledgements) and its cost is shared by thousands of
records. Reaches below the public face of faust-streaming 0.15.3 and aiokafka 0.14.0, whose versions are pinned.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any

import aiokafka
import faust
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.tables import TableManager
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from pipeline.errors import Unavailable
from pipeline.stream.batch import RecordBatch
from pipeline.stream.ending import end_process
from pipeline.stream.fetched import drain
from pipeline.stream.joining import join_by_name
from pipeline.stream.knowing import share_out_what_is_known
from pipeline.stream.positions import assert_reach, seek, seek_to_committed

SEEK_WITHIN_S = 60.0
"""Less than ``broker_request_timeout``, which is Faust's own patience with a seek."""

AGAIN_S = 1.0


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches by column, and sees committed transactions only."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = 100
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        share_out_what_is_known(self._ensure_consumer())
        app: Any = self.consumer.app
        if app.place is not None:
            join_by_name(self._ensure_consumer(), app.place, end_process)

    def give_up_place(self) -> None:
        consumer: Any = self._ensure_consumer()
        consumer._coordinator._group_instance_id = None

    async def committed(self, partitions: set[TP]) -> dict[TP, int]:
        """The group's committed offsets; partitions without one are left out."""
        offsets: dict[TP, int] = await self.call_thread(self._committed, partitions)
        return offsets

    async def _committed(self, partitions: set[TP]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        offsets = {tp: await consumer.committed(tp) for tp in partitions}
        return {tp: offset for tp, offset in offsets.items() if offset is not None}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        offsets: Mapping[TP, int] = await self.call_thread(seek_to_committed, self._ensure_consumer())
        return offsets

    async def seek_in_thread(self, tp: TP, offset: int) -> None:
        """Where the fetching goes on. Stock Faust seeks from its main thread, in the middle of a fetch."""
        await self.call_thread(seek, self._ensure_consumer(), driver.ensure_aiokafka_TP(tp), offset)

    async def look_who_leads(self) -> None:
        await self.call_thread(self._ensure_consumer()._client.force_metadata_update)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Whether it worked. Partitions that were taken away meanwhile are left out.

        Stock Faust ends the process when a commit fails. But it is only a hint for whoever comes next: what is read
        again is known to be done already.
        """
        consumer = self._ensure_consumer()
        assigned = self.assignment()
        app: Any = self.consumer.app
        # With its end marked: confluent-kafka 2.16.1 reads a note beyond its length, up to the next zero byte.
        note = f"{app.offset_note}\0" if app.offset_note else ""
        ours = {
            driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, note)
            for tp, offset in offsets.items()
            if tp in assigned
        }
        if not ours:
            return False
        try:
            await consumer.commit(ours)
        except KafkaError as error:
            self.log.warning("offsets are not committed, they will be with the next ones: %r", error)
            return False
        return True

    async def _fetch_records(  # type: ignore[override]  # a batch in place of a list of records
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> dict[TP, RecordBatch]:
        if not self.consumer.flow_active:
            return {}
        if consumer._closed or consumer._fetcher._closed:
            raise ConsumerStoppedError
        with consumer._fetcher._subscriptions.fetch_context():
            return await _fetched_batches(consumer._fetcher, active_partitions, timeout or 0.0, max_records or 20_000)


async def _fetched_batches(
    fetcher: Any, partitions: set[TP], timeout_s: float, records_max: int
) -> dict[TP, RecordBatch]:
    """aiokafka's ``Fetcher.fetched_records`` with a batch per partition in place of a list of records.

    What is taken out of ``_records`` here may have left it already: a stop or a rebalance clears it.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        batches: dict[TP, RecordBatch] = {}
        for tp in list(fetcher._records):
            if partitions and tp not in partitions:
                if not fetcher._subscriptions.is_assigned(tp):
                    fetcher._records.pop(tp, None)
                continue
            fetched = fetcher._records[tp]
            if type(fetched) is not FetchResult:
                if batches:
                    return batches  # the error is raised by the next call
                fetcher._records.pop(tp, None)
                fetcher._notify(fetcher._wait_consume_future)
                fetched.check_raise()
                continue
            batch = drain(fetched, records_max)
            if not fetched.has_more():
                fetcher._records.pop(tp, None)
                fetcher._notify(fetcher._wait_consume_future)
            if batch is not None and batch.next_offset > batch.start:
                batches[ensure_TP(tp)] = batch
        wait_s = deadline - time.monotonic()
        if batches or wait_s <= 0:
            return batches
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=wait_s)
        if not done or fetcher._closed:
            waiter.cancel()
            return {}
        waiter.result()  # raises what the broker refused


class BatchConsumer(driver.Consumer):
    """One message per partition and fetch; its value is a RecordBatch, its offset the batch's last."""

    _thread: BatchConsumerThread
    _group_stood_at: Mapping[TP, int] = MappingProxyType({})
    """The committed offsets, read since the partitions were assigned. Nothing is committed for others, nor below:
    batches of an earlier generation may be acknowledged, and its commits may fail, when the group is far beyond."""

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        app: Any = self.app
        generation = app.consumer_generation_id
        try:
            batches, active = await self._wait_next_records(timeout)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
            if not self.flow_active or app.consumer_generation_id != generation:
                return  # a rebalance: it will seek, and what comes of the place before does not matter
            await assert_reach(error, app.check_reach)
            await self._thread.look_who_leads()
            await asyncio.sleep(AGAIN_S)
            return
        generation = app.consumer_generation_id
        if batches is None or self.should_stop:
            return
        if not self.flow_active:
            # A rebalance may take partitions away in the middle of this; it seeks by itself when it is over.
            with contextlib.suppress(IllegalStateError):
                await self._seek_to_starts()
            return
        for tp, batch in batches.items():
            if not self.flow_active or app.consumer_generation_id != generation:
                return  # a rebalance: what was fetched is read again from where the new generation starts
            if active is None or tp in active or tp in self._buffered_partitions:
                yield tp, self._batch_message(tp, batch)

    def _batch_message(self, tp: TP, batch: Any) -> ConsumerMessage:
        return ConsumerMessage(
            batch.topic,
            batch.partition,
            batch.next_offset - 1,
            time.time(),
            0,
            None,
            None,
            batch,
            None,
            -1,
            -1,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._group_stood_at = {}
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._group_stood_at = {}
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Faust's task that ends a rebalance waits for this. Its time-out looks to it like a stop: it would leave, and
        this process live on and read nothing, after any rebalance to come.
        """
        try:
            async with asyncio.timeout(SEEK_WITHIN_S):
                await self._seek_to_starts()
        except TimeoutError:
            end_process(
                Unavailable(
                    f"Kafka has not said within {SEEK_WITHIN_S:.0f} s where its group stands, so nobody knows where to"
                    " read on; the next start asks again"
                )
            )

    async def _seek_to_starts(self) -> None:
        app: Any = self.app
        generation, assigned = app.consumer_generation_id, frozenset(self.assignment())
        await super().perform_seek()
        if app.consumer_generation_id == generation:
            self._group_stood_at = {tp: self._committed_offset[tp] or 0 for tp in assigned}
        if app.start_offsets is not None:
            for tp, offset in (await app.start_offsets(set(self.assignment()))).items():
                if app.consumer_generation_id != generation:
                    return  # another rebalance, which seeks by itself; it may have done so already
                await self.seek(tp, offset)

    async def _seek(self, tp: TP, offset: int) -> None:
        await self._thread.seek_in_thread(tp, offset)

    def give_up_place(self) -> None:
        """Leave the group for good at the next stop, which a member with a name does not: it is expected back."""
        self._thread.give_up_place()

    def note_done(self, tp: TP, next_offset: int) -> None:
        """Have the group told, with its next commit, that everything below ``next_offset`` is done."""
        self._acked[tp].append(next_offset - 1)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        committed: bool = await super()._commit(offsets)
        if not committed:
            for tp in self.assignment() & offsets.keys():
                self.note_done(tp, offsets[tp])
        return committed

    def _should_commit(self, tp: TP, offset: int) -> bool:
        """Also what Faust takes for committed, because it has tried; never less than the group had."""
        return offset >= max(self._committed_offset[tp] or 0, self._group_stood_at[tp])

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Batches are contiguous by construction, so there is no gap to track."""

    def _new_offset(self, tp: TP) -> int | None:
        """One agent acknowledges the batches of a partition in order, so the last one covers all before it."""
        acked = self._acked[tp]
        if not acked or tp not in self._group_stood_at:
            return None
        last: int = max(acked)
        self._acked_index[tp].difference_update(acked)
        acked.clear()
        return last + 1


class Tableless(TableManager):
    """Faust waits a second at each start for tables to be declared. We have none."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class BatchTransport(driver.Transport):
    Consumer = BatchConsumer


class PassSchema(faust.Schema[Any, Any]):
    """Hands the batch on untouched: decoding is the agent's, which knows what to do with a bad record."""

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(message.key, message.value, None, message)

        return decode
