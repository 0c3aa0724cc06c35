"""Publishing for those who wait: a call returns when all of its records are acknowledged, and many calls share batches.

Theory of operation. ``publish`` hands all records of one call to librdkafka in one go, without an await in between: a
caller that is cancelled half-way has handed over everything or nothing. Every record reports its delivery to the call
it belongs to; the last report wakes the caller. Reports are heard on the event loop itself, by a timer that runs only
while something is under way: there is nothing to lock, and it is as quick as a thread of its own (measured).

Memory is bounded before librdkafka's own bounds can refuse the second half of a call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer

from pipeline.errors import Closed, Overloaded, Unavailable
from pipeline.kafka.clock import BrokersClock, here_ms
from pipeline.kafka.producer import safe_config

RECORDS_MAX: Final = 100_000
BYTES_MAX: Final = 64 * 2**20

CONFIG: Final[dict[str, Any]] = {
    "compression.type": "lz4",
    # Somebody waits for the answer; at a thousand calls a second two milliseconds still make good batches.
    "linger.ms": 2,
    # A client's own patience is longer than this, so it hears from us and not from its time-out.
    "message.timeout.ms": 10_000,
    # A broker that has gone silent is given up, and its successor asked, within that time: by default it would be
    # waited for for a minute, and a question about who leads now may have been put to none other than it.
    "socket.timeout.ms": 4_000,
    "socket.connection.setup.timeout.ms": 4_000,
    # One that comes back is wanted at once.
    "reconnect.backoff.max.ms": 1_000,
    # Never the first to be full: see ``publish``.
    "queue.buffering.max.messages": 2 * RECORDS_MAX,
    "queue.buffering.max.kbytes": 2 * BYTES_MAX // 1024,
    "log_level": 2,
}
"""May be overridden by the configuration that is passed in, but for SAFETY."""

_HEAR_EVERY_S = 0.001
_RECORD_OVERHEAD_BYTES = 100
_RETRY_AFTER_S = 1.0
_RETRY_AFTER_FAILURE_S = 2.0

_log = logging.getLogger(__name__)


class Outgoing(NamedTuple):
    """A record to be written. A ``partition`` of -1 means the one that murmur2 finds for the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        return len(self.key or b"") + len(self.value or b"") + _RECORD_OVERHEAD_BYTES


class Appended(NamedTuple):
    """When the records of a call were appended, by the brokers' clocks: the first of them, and the last."""

    first_ms: int
    last_ms: int


class _Call:
    """One ``publish`` that waits for its reports."""

    __slots__ = ("appended", "appended_ms", "error", "handed_over_ms", "left", "size", "told")

    def __init__(self, left: int, size: int, told: asyncio.Future[None]) -> None:
        self.left = left
        self.size = size
        self.told = told
        self.error: KafkaError | None = None
        self.handed_over_ms = here_ms()
        self.appended_ms: list[int] = []
        self.appended: Appended | None = None


class Acknowledged:
    """Belongs to one event loop. ``config`` is librdkafka's: how to connect, and any of CONFIG to override.

    After a delivery time-out the producer goes on: librdkafka begins a new epoch, and later records are as safe as
    before. After an error that librdkafka calls fatal the producer delivers nothing any more; it is replaced, and the
    calls that wait on it hear that their outcome is unknown.
    """

    def __init__(
        self, config: Mapping[str, Any], *, records_max: int = RECORDS_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        self._config = {**safe_config(CONFIG, config), "delivery.report.only.error": False}
        self._records_max, self._bytes_max = records_max, bytes_max
        self._records = self._bytes = 0
        self._failing = False
        self.clock = BrokersClock()
        self._hearing: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._fatal: str | None = None
        self._producer = self._new_producer()
        self._dying: list[Producer] = []

    @property
    def waiting(self) -> int:
        """Records that are handed over and not yet reported."""
        return self._records

    @property
    def failing(self) -> bool:
        """Whether the last delivery that was reported has failed."""
        return self._failing

    async def publish(self, records: Sequence[Outgoing]) -> Appended | None:
        """Return when every record is acknowledged by all in-sync replicas. None: no topic of theirs tells the time.

        Raises Overloaded before anything is handed over when there is no room for all of it. Raises Unavailable when
        a record failed or was not acknowledged within ``message.timeout.ms``: each record of the call may or may not
        be in its topic then, and only writing it again with the same identity makes sure. Raises Closed when the
        brokers refused some of it because the topic is on the move (kafka/fence.py). Cancelling the caller
        cancels nothing: what was handed over is delivered.
        """
        if not records:
            return None
        size = sum(record.size for record in records)
        if self._records + len(records) > self._records_max or self._bytes + size > self._bytes_max:
            raise Overloaded("too much is waiting for Kafka already", _RETRY_AFTER_S)
        if self._fatal is not None:
            self._replace_producer()
        call = _Call(len(records), size, asyncio.get_running_loop().create_future())
        self._records += len(records)
        self._bytes += size
        self._idle.clear()
        self._hand_over(records, call)
        if self._hearing is None:
            self._hear_later()
        await call.told
        if call.error is not None and call.error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            raise Closed("the topic is closed: it moves", _RETRY_AFTER_S)
        if call.error is not None:
            raise Unavailable(f"Kafka did not acknowledge in time: {call.error.name()}", _RETRY_AFTER_FAILURE_S)
        return call.appended

    async def close(self) -> None:
        """Return when nothing is under way any more: each record is delivered or given up."""
        if self._records:
            await self._idle.wait()
        if self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None

    def _hand_over(self, records: Sequence[Outgoing], call: _Call) -> None:
        """Each record ends in exactly one report: from librdkafka, or from here when it is refused at once."""

        def reported(error: KafkaError | None, message: Message) -> None:  # the hot loop
            kind, at_ms = message.timestamp()
            if kind == TIMESTAMP_LOG_APPEND_TIME:
                call.appended_ms.append(at_ms)
            self._settle(call, error)

        by_topic: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            if record.headers or record.partition >= 0:
                self._hand_over_one(record, call, reported)
            else:
                entry: dict[str, Any] = {"key": record.key, "value": record.value, "callback": reported}
                by_topic.setdefault(record.topic, []).append(entry)
        for topic, entries in by_topic.items():
            if self._producer.produce_batch(topic, entries) < len(entries):
                for refused in entries:
                    if "_error" in refused:
                        self._settle(call, refused["_error"])

    def _hand_over_one(self, record: Outgoing, call: _Call, reported: Any) -> None:
        extra: dict[str, Any] = {"headers": list(record.headers)} if record.headers else {}
        try:
            self._producer.produce(
                record.topic, record.value, record.key, record.partition, on_delivery=reported, **extra
            )
        except BufferError:
            self._settle(call, KafkaError(KafkaError._QUEUE_FULL))  # noqa: SLF001  # the library's name for it
        except KafkaException as error:
            self._settle(call, error.args[0])

    def _settle(self, call: _Call, error: KafkaError | None) -> None:
        self._records -= 1
        call.left -= 1
        if error is not None:
            call.error = error
        if call.left:
            return
        self._bytes -= call.size
        if call.appended_ms:
            call.appended = Appended(min(call.appended_ms), max(call.appended_ms))
            self.clock.heard(*call.appended, call.handed_over_ms)
        if self._failing != (call.error is not None):
            self._failing = call.error is not None
            _log.warning("Kafka does not acknowledge: %s", call.error) if self._failing else _log.info(
                "Kafka acknowledges again"
            )
        if not call.told.done():  # a caller that was cancelled waits no more
            call.told.set_result(None)

    def _hear_later(self) -> None:
        self._hearing = asyncio.get_running_loop().call_later(_HEAR_EVERY_S, self._hear)

    def _hear(self) -> None:
        self._hearing = None
        self._producer.poll(0)
        for producer in self._dying:
            producer.poll(0)
        self._dying = [producer for producer in self._dying if len(producer)]
        if self._records:
            self._hear_later()
        else:
            self._idle.set()

    def _new_producer(self) -> Producer:
        producer: Producer = Producer({**self._config, "error_cb": lambda error: self._told(producer, error)})
        return producer

    def _told(self, producer: Producer, error: KafkaError) -> None:
        """librdkafka's own troubles. Most pass; those of a dying producer are its own."""
        if error.fatal() and producer is self._producer:
            self._fatal = error.str()

    def _replace_producer(self) -> None:
        """The old one's records are given up; their reports are still heard."""
        _log.error("the producer has failed for good and is replaced: %s", self._fatal)
        self._producer.purge()
        self._dying.append(self._producer)
        self._fatal = None
        self._producer = self._new_producer()
