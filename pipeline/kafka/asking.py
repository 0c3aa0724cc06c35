"""How Kafka's admin client is asked: one client kept, young clusters waited for, errors by who is to blame."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.errors import Refusal, Unavailable

TIMEOUT_S = 30.0
RETRY_S = 0.05
INSIST_S = 120.0
_LOG_LEVEL = 2
"""syslog's "critical": what fails is raised, and need not be printed by a background thread as well."""

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
    """The cluster or the topic is too young to answer this."""


_YOUNG = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
"""The admin client does not call these retriable."""


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


def insistently(ask: Callable[[], _T]) -> _T:
    """The answer, asked for again while Kafka is away, for INSIST_S: for commands that run for hours."""
    deadline = time.monotonic() + INSIST_S
    while True:
        try:
            return patiently(ask)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(10 * RETRY_S)


def translated(error: KafkaException) -> Exception:
    cause: KafkaError = error.args[0]
    if cause.code() in _YOUNG:
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
