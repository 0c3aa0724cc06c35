"""Closing a topic to everybody who writes, so that its end is its end.

A closed topic takes no batch above CLOSED_BYTES, and no record of ours is that small; what a transaction
needs to end (78 bytes) is. So writers get an error and no acknowledgement, whoever they are and in whatever language,
and nothing that was acknowledged is lost. A broker says so of a partition only when it leads it and has the setting;
another that leads it later has read the same setting before, because both come in one log. So one refusal from each
partition proves that it is closed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from pipeline.errors import Unavailable
from pipeline.kafka.admin import describe
from pipeline.kafka.asking import TIMEOUT_S, admin_client, answer_of
from pipeline.kafka.reading import partitions_of

CLOSED_BYTES: Final = 80
"""A batch of one record has 69 bytes beside key and value, and the smallest event at least 15: 84 with no key."""

LARGEST_BYTES: Final = 64 * 2**20
"""What a topic takes while it is a copy in the making."""

_LIMIT = "max.message.bytes"
_STAMP = "message.timestamp.type"
_PROBE = bytes(200)
"""Sent in a transaction that is aborted: taken or refused, nobody ever reads it."""
_AGAIN_S = 0.1


def is_closed(config: Mapping[str, Any], topic: str) -> bool:
    """Whether a topic is closed, or about to be. Raises Unavailable."""
    found = describe(config, [topic]).get(topic)
    return found is not None and int(found.config[_LIMIT]) <= CLOSED_BYTES


def close(config: Mapping[str, Any], topic: str, **others: str) -> None:
    """Return when every partition refuses what is sent to it. ``others``: entries to set with it, dots as ``__``.

    Raises Unavailable when a partition has no leader for too long.
    """
    entries = {_LIMIT: str(CLOSED_BYTES)} | {name.replace("__", "."): text for name, text in others.items()}
    alter(config, topic, entries)
    probes = Producer({**config, "log_level": 0, "transactional.id": f"{topic}-closing"})
    probes.init_transactions(TIMEOUT_S)
    for partition in partitions_of(config, topic):
        _await_refusal(probes, topic, partition)


def reopen(config: Mapping[str, Any], topic: str) -> None:
    """Let everybody write again. Does nothing where the topic is open."""
    if is_closed(config, topic):
        alter(config, topic, {_LIMIT: None})


def stamp_by_producer(config: Mapping[str, Any], topic: str) -> None:
    """Keep the times that records bring along, whatever their size: for a copy, before anybody else writes."""
    alter(config, topic, {_STAMP: "CreateTime", _LIMIT: str(LARGEST_BYTES)})


def stamp_by_broker(config: Mapping[str, Any], topic: str) -> None:
    """Return when every partition stamps what is appended with the broker's clock; the topic is closed then.

    Both settings travel together, so a broker that refuses by the one has the other.
    """
    close(config, topic, message__timestamp__type="LogAppendTime")


def alter(config: Mapping[str, Any], topic: str, entries: Mapping[str, str | None]) -> None:
    """Set entries of a topic's configuration; None puts one back to the broker's default."""
    changes = [
        ConfigEntry(name, text or "", incremental_operation=AlterConfigOpType.SET if text else AlterConfigOpType.DELETE)
        for name, text in entries.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
    for future in admin_client(config).incremental_alter_configs([resource], request_timeout=TIMEOUT_S).values():
        answer_of(future)


def _await_refusal(probes: Producer, topic: str, partition: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        said: list[KafkaError | None] = []

        def hear(error: KafkaError | None, _: object, said: list[KafkaError | None] = said) -> None:
            said.append(error)

        probes.begin_transaction()
        probes.produce(topic, _PROBE, None, partition, on_delivery=hear)
        probes.flush(TIMEOUT_S)
        probes.abort_transaction(TIMEOUT_S)
        if said and said[0] is not None and said[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"partition {partition} of {topic} cannot be closed: {said[0] if said else 'no answer'}")
        time.sleep(_AGAIN_S)
