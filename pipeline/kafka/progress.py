"""How far one member of a consumer group has come with the partitions that are its own."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec

from pipeline.errors import Unavailable
from pipeline.kafka.asking import admin_client, known_offset
from pipeline.kafka.offsets import committed

TIMEOUT_S = 5.0


class Progress(NamedTuple):
    """Of one member, in records, all its partitions together."""

    partitions: tuple[str, ...]
    """Its partitions, ``topic:number``, in order."""
    done: int
    """The sum of their committed offsets."""
    behind: int
    """Records that were appended and are not done."""


def own_progress(config: Mapping[str, Any], group: str) -> Progress | None:
    """The progress of the member that runs at this network address; None while it is no settled member of the group.

    Raises Unavailable when Kafka does not answer.
    """
    address = _own_address(config["bootstrap.servers"])
    client = admin_client(config)
    try:
        found = client.describe_consumer_groups([group], request_timeout=TIMEOUT_S)[group].result(2 * TIMEOUT_S)
        if found.state != ConsumerGroupState.STABLE:
            return None
        mine = [member for member in found.members if member.host.lstrip("/") == address]
        if not mine:
            return None
        places = sorted(
            (place.topic, place.partition) for member in mine for place in member.assignment.topic_partitions
        )
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(*place): latest for place in places}
        answers = client.list_offsets(asked, request_timeout=TIMEOUT_S) if asked else {}
        ends = {(place.topic, place.partition): known_offset(future.result()) for place, future in answers.items()}
    except KafkaException as error:
        raise Unavailable(f"Kafka: {error.args[0].str()}") from error
    stands = committed(config, group, places)
    done = {place: stands.get(place, 0) for place in places}
    return Progress(
        tuple(f"{topic}:{number}" for topic, number in places),
        sum(done.values()),
        sum(max(0, ends[place] - done[place]) for place in places),
    )


def _own_address(servers: str) -> str:
    """The address from which this machine reaches the brokers, as they see it where nothing translates addresses."""
    host, _, port = servers.split(",", maxsplit=1)[0].rpartition(":")
    try:
        (kind, *_, target), *_ = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # sends nothing: a datagram socket only looks up its route
            return str(probe.getsockname()[0])
    except OSError as error:
        raise Unavailable(f"Kafka at {servers} cannot be found: {error.strerror}") from error
