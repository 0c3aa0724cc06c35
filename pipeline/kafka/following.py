"""Following a topic of one partition into memory: a thread of its own, from where it is told, for ever.

Outside any consumer group: everybody who follows sees everything.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.asking import watermarks
from pipeline.kafka.reading import Record, partitions_of, record_of

_log = logging.getLogger(__name__)

POLL_S = 0.2
AGAIN_AFTER_S = 1.0
ANSWER_TIMEOUT_S = 5.0
STOP_PATIENCE_S = 10.0


class Follower:
    """Hands every committed record of partition 0 to ``take``, in order, each until it is taken.

    ``take`` runs on the follower's thread. When it raises Unavailable it has done nothing, and the same record is
    handed over again; whatever else it raises ends the following, for good, because to go on would leave a record out.
    ``newest``: begin that many records before the end; None: begin at the very first, and refuse a topic whose first
    records were deleted.
    """

    def __init__(
        self, config: Mapping[str, Any], topic: str, take: Callable[[Record], None], *, newest: int | None = None
    ) -> None:
        self.topic = topic
        self._config = {
            **config,
            "group.id": "meterline-following",  # the client asks for one; nothing is ever committed to it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 100,
            "log_level": 0,
        }
        self._take = take
        self._newest = newest
        self._next: int | None = None
        self._caught_up = threading.Event()
        self._stopping = threading.Event()
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._follow, name=f"follows {topic}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when the thread has ended."""
        self._stopping.set()
        self._thread.join(STOP_PATIENCE_S)

    def not_ready(self) -> str | None:
        """None once the topic was read to its end; else what it waits for, or what ended it."""
        if self._fault is not None:
            return self._fault
        return None if self._caught_up.is_set() else f"reading {self.topic}"

    def await_end(self, timeout_s: float) -> None:
        """Return when the topic was read to its end once. Raises Unavailable after ``timeout_s``."""
        self._caught_up.wait(timeout_s)
        if said := self.not_ready():
            raise Unavailable(said)

    def _follow(self) -> None:
        said: str | None = None
        while not self._stopping.is_set():
            try:
                self._read_on()
            except (KafkaException, Unavailable) as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("%s cannot be read, trying on: %s", self.topic, said)
                self._stopping.wait(AGAIN_AFTER_S)
            except Exception as error:
                self._fault = f"{self.topic} is not followed any more: {error}"
                _log.critical("%s", self._fault, exc_info=not isinstance(error, Refusal))
                return

    def _read_on(self) -> None:
        try:
            partitions_of(self._config, self.topic)
        except Refusal as error:  # a broker that has just started may not know its topics yet
            raise Unavailable(str(error)) from error
        consumer = Consumer(self._config)
        try:
            self._next = self._start(consumer) if self._next is None else self._next
            consumer.assign([TopicPartition(self.topic, 0, self._next)])
            while not self._stopping.is_set():
                message = consumer.poll(POLL_S)
                if message is not None:
                    self._hear(message)
        finally:
            consumer.close()

    def _start(self, consumer: Consumer) -> int:
        first, end = watermarks(consumer, TopicPartition(self.topic, 0), ANSWER_TIMEOUT_S)
        if self._newest is not None:
            return max(first, end - self._newest)
        if first > 0:
            raise Refusal(f"the first {first} records of {self.topic} were deleted: restore the topic")
        return 0

    def _hear(self, message: Message) -> None:
        error = message.error()
        if error is None:
            record = record_of(message)
            self._take(record)
            self._next = record.offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # librdkafka's own codes begin like this
            self._caught_up.set()
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
            if self._newest is None:
                raise Refusal(f"records of {self.topic} that are needed were deleted: restore the topic")
            self._next = None  # the newest ones are wanted, whichever those are by now
            raise KafkaException(error)
        elif not error.retriable() and error.code() > 0:
            raise KafkaException(error)
