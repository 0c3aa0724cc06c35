"""How Kafka's admin client is asked: one client kept, young clusters waited for, errors by who is to blame."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.errors import Refusal, Unavailable

TIMEOUT_S = 30.0
RETRY_S = 0.05
ATTEMPT_S = 2.0
INSIST_S = 120.0
_LOG_LEVEL = 2
"""syslog's "critical": what fails is raised, and need not be printed by a background thread as well."""

log = logging.getLogger("meterline.kafka")

_T = TypeVar("_T")


def answer_of(future: Future[_T]) -> _T:
    """A future's result, with Kafka's transport errors as Unavailable."""
    try:
        return future.result(TIMEOUT_S + 5)
    except TimeoutError as error:
        raise Unavailable(f"Kafka did not answer in {TIMEOUT_S:.0f} s") from error
    except KafkaException as error:
        raise translated(error) from error


class _NotYet(Unavailable):
    """The cluster or the topic is too young to answer this, or has just got another leader."""


_UNSETTLED = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.NOT_CONTROLLER,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
    }
)
"""What passes by itself. The admin client calls none of these retriable."""


def patiently(ask: Callable[[], _T]) -> _T:
    """The answer, asked for again while the cluster is too young to give it."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except _NotYet:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


_LEADER_GONE = _UNSETTLED | {
    KafkaError._TIMED_OUT,  # noqa: SLF001  # librdkafka's own codes begin like this
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._DESTROY_BROKER,  # noqa: SLF001  # it has just heard of other brokers, and given up this one
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._NOENT,  # noqa: SLF001  # no partition has a leader
}


def known_offset(answer: Any) -> int:
    """The offset in an answer of ``list_offsets``, asked by earliest or latest.

    While a partition has no leader that could know, librdkafka says -1001 and no error. Raises Unavailable then.
    """
    if answer.offset < 0:
        raise _NotYet("Kafka: no leader says where a partition begins and ends")
    return int(answer.offset)


def of_leaders(ask: Callable[[float], _T], look_again: Callable[[], Any], timeout_s: float) -> _T:
    """What partitions' leaders answer to ``ask``, which is told how long it may take.

    librdkafka puts its question to the leader that it knows until the time is up, whether that one still lives or not.
    So the time is cut into attempts, and ``look_again`` asks who leads now before another. Raises KafkaException, and
    Unavailable when the answers know nothing.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return ask(ATTEMPT_S)
        except _NotYet:
            if time.monotonic() > deadline:
                raise
        except KafkaException as error:
            if error.args[0].code() not in _LEADER_GONE or time.monotonic() > deadline:
                raise
        with contextlib.suppress(KafkaException):
            look_again()
        time.sleep(RETRY_S)


def watermarks(consumer: Consumer, place: TopicPartition, timeout_s: float) -> tuple[int, int]:
    """First offset and end of a partition, as its leader says. Raises KafkaException."""
    first, end = of_leaders(
        lambda attempt_s: consumer.get_watermark_offsets(place, timeout=attempt_s),
        lambda: consumer.list_topics(place.topic, timeout=ATTEMPT_S),
        timeout_s,
    )
    return int(first), int(end)


def insistently(ask: Callable[[], _T]) -> _T:
    """The answer, asked for again while Kafka is away, for INSIST_S: for commands that run for hours, and for processes
    whose next start would only ask the same.
    """
    deadline, said = time.monotonic() + INSIST_S, False
    while True:
        try:
            return patiently(ask)
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            if not said:
                log.info("no answer from Kafka, asking on: %s", error)
                said = True
            time.sleep(10 * RETRY_S)


def translated(error: KafkaException) -> Exception:
    cause: KafkaError = error.args[0]
    if cause.code() in _UNSETTLED:
        return _NotYet(f"Kafka: {cause.str()}")
    if cause.retriable() or cause.code() < 0:  # negative codes are librdkafka's own: transport, timeouts, no broker
        return Unavailable(f"Kafka: {cause.str()}")
    return Refusal(f"Kafka: {cause.str()}")


def admin_client(config: Mapping[str, Any]) -> AdminClient:
    """The client for this configuration, kept for as long as the process lives."""
    return _kept_client(tuple(sorted(config.items())))


@functools.lru_cache(maxsize=8)
def _kept_client(config: tuple[tuple[str, Any], ...]) -> AdminClient:
    """One client for all calls. Closing it right after an answer races with its own background thread, which is still
    giving that answer: librdkafka says so in a log line, and once in a while the process dies of it.
    """
    return AdminClient({**dict(config), "log_level": _LOG_LEVEL})


def topics_of(client: AdminClient) -> dict[str, Any]:
    try:
        return client.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise translated(error) from error
