"""Reading a topic outside any consumer group: for people who want to look, never for processing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping
from operator import methodcaller
from typing import Any, Literal, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.errors import Refusal, Unavailable, UsageError
from pipeline.kafka.asking import admin_client

ANSWER_TIMEOUT_S = 5.0
POLL_S = 0.2
NO_WAIT_MS = 10
"""Brokers hold an answer that has nothing new for half a second; whoever asks for the end of a log waits for that."""

_ENDING = (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTO_OFFSET_RESET)  # noqa: SLF001  # librdkafka's own codes
"""The second one comes to who reads ``exactly``."""

Start = Literal["beginning", "end"] | int
"""Where to begin in each partition; a number is an offset."""


Headers = tuple[tuple[str, str | bytes | None], ...]

UNREADABLE: Headers = (("", None),)
"""In place of all headers of a record when the name of one is not UTF-8."""

_headers_of: Callable[[Message], Headers | list[tuple[str, str | bytes | None]] | dict[str, str | bytes | None] | None]
_headers_of = methodcaller("headers")
"""Of such a record confluent-kafka returns broken tuples and leaves an exception behind. ``message.headers()`` in a hot
loop of CPython does not look for that, and the process dies later, anywhere; a call by way of C does."""


class Record(NamedTuple):
    """A record as it stands in the log."""

    partition: int
    offset: int
    appended_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    """In their order; a name may stand there twice. ``UNREADABLE`` where a name is not UTF-8."""


def record_of(message: Message) -> Record:
    try:
        headers = _headers_of(message) or ()
    except SystemError:
        headers = UNREADABLE
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple(headers.items() if isinstance(headers, dict) else headers),
    )


def read(
    config: Mapping[str, Any],
    topic: str,
    start: Start,
    *,
    partition: int | None = None,
    follow: bool = False,
    exactly: bool = False,
    upto: int | None = None,
) -> Generator[Record, None, None]:
    """The committed records of a topic, each partition in its order.

    ``follow`` waits for more at the end of the log; else the end is the end. ``exactly`` begins nowhere else: without
    it, a log that holds ``start`` no more is read from its beginning. ``upto``: below this offset nothing is the end,
    whatever a leader says that has just thawed, or has not heard of all yet. Raises Refusal when there is no such
    topic, UsageError when it has no such partition, Unavailable when Kafka does not answer, or has no such offset.
    """
    partitions = _partitions(config, topic, partition)
    consumer = Consumer(
        {
            **config,
            "group.id": "meterline-reading",  # the client asks for one; nothing is ever committed to it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": not follow,
            "auto.offset.reset": "error" if exactly else "earliest",
            "isolation.level": "read_committed",
            **({} if follow else {"fetch.wait.max.ms": NO_WAIT_MS}),
        }
    )
    try:
        # Told of a partition whose leader it does not know yet, the client looks again only after half a second.
        with contextlib.suppress(KafkaException):
            consumer.list_topics(topic, timeout=ANSWER_TIMEOUT_S)
        offset = {"beginning": OFFSET_BEGINNING, "end": OFFSET_END}.get(str(start), start)
        consumer.assign([TopicPartition(topic, number, int(offset)) for number in partitions])
        yield from _records(consumer, open_ends=set(partitions), upto=upto)
    finally:
        consumer.close()


def await_answer(config: Mapping[str, Any], topic: str | None = None) -> Any:
    """What the cluster says of its topics, or of one. Raises Unavailable when it says nothing."""
    client = admin_client(config)
    try:
        return (
            client.list_topics(topic, timeout=ANSWER_TIMEOUT_S)
            if topic
            else client.list_topics(timeout=ANSWER_TIMEOUT_S)
        )
    except KafkaException as error:
        servers = config.get("bootstrap.servers")
        raise Unavailable(f"Kafka at {servers} does not answer within {ANSWER_TIMEOUT_S:g} s") from error


def partitions_of(config: Mapping[str, Any], topic: str) -> list[int]:
    """The numbers of a topic's partitions. Raises Refusal when there is no such topic, Unavailable without answer."""
    known = await_answer(config, topic).topics[topic]
    if known.error is not None or not known.partitions:
        raise Refusal(f"there is no topic {topic} yet: run `meterline topics create`")
    return sorted(known.partitions)


def _partitions(config: Mapping[str, Any], topic: str, only: int | None) -> list[int]:
    numbers = partitions_of(config, topic)
    if only is None:
        return numbers
    if only not in numbers:
        raise UsageError(f"{topic} has partitions 0 to {numbers[-1]}, not {only}")
    return [only]


def _records(consumer: Consumer, open_ends: set[int], upto: int | None) -> Generator[Record, None, None]:
    heard = time.monotonic()
    while open_ends:
        message = consumer.poll(POLL_S)
        if message is None:
            if upto is not None and time.monotonic() > heard + ANSWER_TIMEOUT_S:
                raise Unavailable(f"Kafka: the log goes up to offset {upto}, and nothing more of it came")
            continue
        error = message.error()
        if error is None:
            yield record_of(message)
            heard = time.monotonic()
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # librdkafka's own codes begin like this
            if upto is None or (message.offset() or 0) >= upto:
                open_ends.discard(message.partition() or 0)
        elif error.code() in _ENDING or (error.code() > 0 and not error.retriable()):
            raise Unavailable(f"Kafka: {error.str()}")
