"""The one way out to Kafka: an idempotent producer that waits for all replicas and never grows without bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.errors import PublishFailed, Unavailable

SAFETY = {
    # A retry never makes a second copy, and order within a partition stays as sent.
    "enable.idempotence": True,
    "acks": "all",
    # Java's partitioner: every producer of a journal must find the same partition for an identifier.
    "partitioner": "murmur2_random",
    # Successes are counted by the library; only failures come back to Python.
    "delivery.report.only.error": True,
}
"""Not to be overridden: the invariants stand on them."""

DEFAULTS = {
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 131_072,
    "message.timeout.ms": 120_000,
    # A broker that has gone silent keeps nobody waiting for longer than its successor takes to be elected.
    "socket.timeout.ms": 10_000,
    "socket.connection.setup.timeout.ms": 5_000,
    "reconnect.backoff.max.ms": 1_000,
    "log_level": 2,
}
"""May be overridden by the configuration that is passed in."""

_OF_TOPICS = "default.topic.config"


def safe_config(defaults: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` over ``defaults``, and SAFETY over both.

    Also over what stands below ``default.topic.config``, which librdkafka would prefer.
    """
    flat = {**defaults, **config.get(_OF_TOPICS, {}), **config, **SAFETY}
    flat.pop(_OF_TOPICS, None)
    return flat


_POLL_EVERY = 1_000
"""Delivery reports wait in memory until they are polled for, so this bounds them between two looks."""
_WAIT_S = 0.05


class DeliveryError(NamedTuple):
    """One record that Kafka did not take."""

    topic: str
    partition: int
    """-1 if it failed before a partition was chosen."""
    key: bytes | None
    code: str
    """librdkafka's name of the error, for example MSG_SIZE_TOO_LARGE or _MSG_TIMED_OUT."""
    message: str

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}] key {self.key!r}: {self.message} ({self.code})"


OnError = Callable[[DeliveryError], None]
OnRefused = Callable[[Message], bool]
"""Told of a record that the broker found too large; True when that is dealt with."""


class Publisher:
    """Publishes records; may be used from several threads.

    ``config`` is librdkafka's: how to connect, and any of DEFAULTS to override. Buffered records are bounded by
    ``queue.buffering.max.messages`` and ``.kbytes``; ``publish`` waits while the buffer is full. A record that is
    still undelivered after ``message.timeout.ms`` is given up and reported.

    A record that fails is reported to ``on_error``, if there is one, from within a later call; then the failure is the
    caller's. Without ``on_error`` the next ``publish`` raises PublishFailed, and every ``flush`` from then on, whoever
    waits in it: a record that was handed over is missing for good. The worker stops on it, because nothing that
    depends on that record may be committed; who wants to go on does so with another publisher.
    """

    def __init__(
        self, config: Mapping[str, Any], on_error: OnError | None = None, on_refused: OnRefused | None = None
    ) -> None:
        self._on_error = on_error
        self._on_refused = on_refused
        self._first_failure: DeliveryError | None = None
        self._failed = 0
        """Records that were handed over and failed; it never goes down, as others may wait for the same ones."""
        self._told = 0
        """How many of them ``publish`` has nothing more to say of."""
        self._fatal: str | None = None
        self._unpolled = 0
        self._lock = threading.Lock()
        self._servers = config.get("bootstrap.servers", "")
        self._producer = Producer(
            {**safe_config(DEFAULTS, config), "on_delivery": self._delivered, "error_cb": self._library_error}
        )

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> None:
        """Hand one record over. Waits while the buffer is full; returns before Kafka has the record: see ``flush``.

        A ``partition`` of -1 means the one that murmur2 finds for the key. Raises PublishFailed for an earlier
        failure (see the class), or if Kafka's client can never take this record.
        """
        self._raise_failures()
        extra: dict[str, Any] = {"headers": list(headers)} if headers else {}
        while True:
            try:
                self._producer.produce(topic, value, key, partition, **extra)
                break
            except BufferError:
                self._wait()
            except KafkaException as error:  # this record itself is impossible: too large, no such topic or partition
                self._refuse(_failure(topic, partition, key, error.args[0]))
                break
        self._unpolled += 1
        if self._unpolled >= _POLL_EVERY:
            self._unpolled = 0
            self._producer.poll(0)
        if self._failed:
            self._raise_failures()

    def publish_batch(self, topic: str, partition: int, messages: Sequence[tuple[bytes, bytes]]) -> None:
        """Hand many (key, value) records to one partition, much faster than one by one.

        Their order is kept unless the buffer fills up on the way; a batch never mixes with the next one. Waits and
        raises as ``publish`` does.
        """
        self._raise_failures()
        left: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in messages]
        while left:
            queued = self._producer.produce_batch(topic, left, partition)
            self._producer.poll(0)
            if queued == len(left):
                break
            refused = [message for message in left if "_error" in message]
            left = []
            for message in refused:
                error = message.pop("_error")
                if error.code() == KafkaError._QUEUE_FULL:  # noqa: SLF001  # the library's name for it
                    left.append(message)
                else:
                    self._report(_failure(topic, partition, message["key"], error))
            self._wait()
        self._raise_failures()

    def flush(self, timeout_s: float) -> None:
        """Return when every record handed over before is acknowledged by all in-sync replicas.

        Raises Unavailable when that takes longer than ``timeout_s``; the records are still on their way then, and
        ``flush`` can be called again. Raises PublishFailed when some never will be (see the class).
        """
        self._settle(timeout_s)
        if self._failed:
            raise self._lost()

    def _settle(self, timeout_s: float) -> None:
        """Wait until nothing is on its way, with an eye on what ``publish`` would raise."""
        deadline = time.monotonic() + timeout_s
        while left := self._producer.flush(max(0.0, min(1.0, deadline - time.monotonic()))):
            self._raise_failures()
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"Kafka at {self._servers} has not acknowledged {left} records within {timeout_s:g} s"
                )
        self._raise_failures()

    def __len__(self) -> int:
        """Records handed over and not yet acknowledged."""
        self._producer.poll(0)  # what the library has to say is counted too, until it is heard
        return len(self._producer)

    def _wait(self) -> None:
        self._producer.poll(_WAIT_S)
        self._raise_failures()

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return
        too_large = error.code() == KafkaError.MSG_SIZE_TOO_LARGE
        if too_large and self._on_refused is not None and self._on_refused(message):
            return
        self._report(_failure(message.topic() or "", message.partition(), message.key(), error))

    def _refuse(self, failure: DeliveryError) -> None:
        """Of a record that was never handed over its own caller alone hears."""
        if self._on_error is None:
            raise PublishFailed(f"Kafka did not take {failure}")
        self._on_error(failure)

    def _report(self, failure: DeliveryError) -> None:
        if self._on_error is not None:
            self._on_error(failure)
            return
        with self._lock:
            self._failed += 1
            self._first_failure = self._first_failure or failure

    def _library_error(self, error: KafkaError) -> None:
        """librdkafka's own troubles. Most pass; after a fatal one this producer delivers nothing any more."""
        if error.fatal():
            self._fatal = error.str()

    def _raise_failures(self) -> None:
        if self._fatal is not None:
            raise PublishFailed(f"the producer has failed for good: {self._fatal}")
        if self._told < self._failed:
            raise self._lost()

    def _lost(self) -> PublishFailed:
        with self._lock:
            self._told = failed = self._failed
        more = f", and {failed - 1} more" if failed > 1 else ""
        return PublishFailed(f"Kafka did not take {self._first_failure}{more}")


def _failure(topic: str, partition: int | None, key: bytes | None, error: KafkaError) -> DeliveryError:
    return DeliveryError(topic, -1 if partition is None else partition, key, error.name(), error.str())
