"""From the catalog's log to the topic of events: every change that stands becomes the event that tells of it.

The consumer group `{namespace}-catalog-events` sees to it that one gateway does it at a time. It reads the log from its
first record, to know what stands, and is silent up to the group's offset. The offset moves when an event is
acknowledged. A gateway that dies in between leaves its work to the next one, which makes the same event again, under
the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.codec.records import Codec
from pipeline.domain.catalog_log import Applied, Catalog
from pipeline.errors import PublishFailed, Unavailable, UndecodableRecord
from pipeline.gateway.snapshots import event_of
from pipeline.kafka.producer import Publisher
from pipeline.kafka.topics import Topics

_log = logging.getLogger(__name__)

POLL_S: Final = 0.1
FLUSH_TIMEOUT_S: Final = 30.0
GATHERED_MAX: Final = 500
AGAIN_AFTER_S: Final = 1.0
STOP_PATIENCE_S: Final = 10.0

GROUP_CONFIG: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 2_000,
    "fetch.wait.max.ms": 100,
    "log_level": 0,
}
"""How the gateway's consumer groups read."""


class Relay:
    """A Service (parts.py). ``config`` is librdkafka's: how to connect."""

    name = "events of the catalog"

    def __init__(self, config: Mapping[str, Any], topics: Topics, codec: Codec) -> None:
        self._config, self._topics, self._codec = config, topics, codec
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._catalog = Catalog()
        self._told_up_to = 0
        self._untold: int | None = None
        self._gathered = 0

    async def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.to_thread(self._thread.join, STOP_PATIENCE_S)

    def not_ready(self) -> str | None:
        """Nothing waits for it: what is not told now is told later."""
        return None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._relay()
            except (KafkaException, Unavailable, PublishFailed) as error:
                _log.warning("events of the catalog wait, trying on: %s", error)
            except Exception:
                _log.exception("events of the catalog wait, trying on")
            self._stopping.wait(AGAIN_AFTER_S)

    def _relay(self) -> None:
        publisher = Publisher(self._config)
        consumer = Consumer({**self._config, **GROUP_CONFIG, "group.id": self._topics.catalog_events_group})
        try:
            consumer.subscribe([self._topics.catalog], on_assign=self._assigned)
            while not self._stopping.is_set():
                message = consumer.poll(POLL_S)
                if message is not None:
                    self._take(message, publisher)
                if self._untold is not None and (message is None or self._gathered >= GATHERED_MAX):
                    self._settle(consumer, publisher)
        finally:
            consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin at the first record, whatever the group's offset."""
        if not partitions:
            return
        self._catalog, self._untold, self._gathered = Catalog(), None, 0
        committed = consumer.committed(partitions, timeout=FLUSH_TIMEOUT_S)
        self._told_up_to = max(0, committed[0].offset)
        consumer.assign([TopicPartition(place.topic, place.partition, 0) for place in partitions])

    def _take(self, message: Message, publisher: Publisher) -> None:
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF and not error.retriable():  # noqa: SLF001
                raise KafkaException(error)
            return
        offset = message.offset() or 0
        with contextlib.suppress(UndecodableRecord):
            outcome = self._catalog.apply(self._codec.decode_catalog(message.value()))
            event = event_of(outcome, self._catalog.plans_of) if isinstance(outcome, Applied) else None
            if event is not None and offset >= self._told_up_to:
                publisher.publish(self._topics.core_events, event.id.encode(), self._codec.encode_core_event(event))
                self._gathered += 1
        if offset >= self._told_up_to:
            self._untold = offset + 1

    def _settle(self, consumer: Consumer, publisher: Publisher) -> None:
        """The offset moves when every event below it is acknowledged."""
        assert self._untold is not None
        publisher.flush(FLUSH_TIMEOUT_S)
        consumer.commit(offsets=[TopicPartition(self._topics.catalog, 0, self._untold)], asynchronous=False)
        self._told_up_to, self._untold, self._gathered = self._untold, None, 0
