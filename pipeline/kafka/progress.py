"""How far the members of a consumer group on one machine have come with the partitions that are their own."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from confluent_kafka import ConsumerGroupState, KafkaException

from pipeline.errors import Unavailable
from pipeline.kafka.asking import admin_client
from pipeline.kafka.bounds import LATEST, offsets
from pipeline.kafka.offsets import committed

TIMEOUT_S = 5.0


class Progress(NamedTuple):
    """Of the members on one machine, in records, all their partitions together."""

    partitions: tuple[str, ...]
    """Their partitions, ``topic:number``, in order."""
    done: int
    """The sum of their committed offsets."""
    behind: int
    """Records that were appended and are not done."""


def own_progress(config: Mapping[str, Any], group: str, names: Collection[str] = ()) -> Progress | None:
    """The progress of the members that run on this machine; None while there is no settled one in the group.

    ``names``: theirs, where they have any. Kafka goes on calling a member that has taken a place over by the name of
    the client before, which may have run elsewhere. Raises Unavailable when Kafka does not answer.
    """
    client = admin_client(config)
    try:
        found = client.describe_consumer_groups([group], request_timeout=TIMEOUT_S)[group].result(2 * TIMEOUT_S)
        if found.state != ConsumerGroupState.STABLE:
            return None
        mine = [
            member
            for member in found.members
            if (member.group_instance_id in names if names else member.client_id == own_client_id())
        ]
        if not mine:
            return None
        places = sorted(
            (place.topic, place.partition) for member in mine for place in member.assignment.topic_partitions
        )
    except KafkaException as error:
        raise Unavailable(f"Kafka: {error.args[0].str()}") from error
    ends = offsets(config, places, LATEST, within_s=TIMEOUT_S)
    stands = committed(config, group, places)
    done = {place: stands.get(place, 0) for place in places}
    return Progress(
        tuple(f"{topic}:{number}" for topic, number in places),
        sum(done.values()),
        sum(max(0, ends[place] - done[place]) for place in places),
    )


def own_client_id() -> str:
    """The client's name of a member, by which it is found on its own machine or in its own container.

    Not the network address: brokers see another one where addresses are translated on the way to them.
    """
    return f"meterline-{socket.gethostname()}"
