"""Creating, describing and checking the topics of a namespace.

Functions take the librdkafka configuration that says how to connect. They raise Unavailable when Kafka does not
answer.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from pipeline.domain.generations import Generation
from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.asking import RETRY_S, TIMEOUT_S, admin_client, answer_of, topics_of, translated
from pipeline.kafka.start_offsets import commit_start_offsets, missing_start_offsets
from pipeline.kafka.topics import TABLE, Topic, Topics, topic_config, topics_of_generation


@dataclasses.dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster has it."""

    name: str
    topic_id: str
    """Kafka's own id: another one under the same name is another topic."""
    partitions: int
    replication: int
    """Replicas of the partition that has fewest."""
    config: dict[str, str]
    """All entries in force, the broker's defaults included."""


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One point in which the cluster is not as the table says, and what mends it."""

    subject: str
    """A topic, or a consumer group on a topic."""
    what: str
    expected: str
    found: str
    mend: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.what} is {self.found}, expected {self.expected}; {self.mend}"


def describe(config: Mapping[str, Any], names: Iterable[str], within_s: float = TIMEOUT_S) -> dict[str, TopicState]:
    """The topics of these names that exist. Raises Unavailable when a broker does not answer ``within_s``."""
    client = admin_client(config)
    futures = client.describe_topics(TopicCollection(list(names)), request_timeout=within_s)
    found: dict[str, Any] = {}
    for name, future in futures.items():
        try:
            found[name] = future.result(within_s + 5)
        except TimeoutError as error:
            raise Unavailable(f"Kafka did not answer in {within_s:.0f} s") from error
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise translated(error) from error
    configs = _configs(client, found, within_s)
    return {
        name: TopicState(
            name=name,
            topic_id=str(topic.topic_id),
            partitions=len(topic.partitions),
            replication=min((len(partition.replicas) for partition in topic.partitions), default=0),
            config=configs[name],
        )
        for name, topic in found.items()
    }


def _configs(client: AdminClient, names: Iterable[str], within_s: float) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    answers = client.describe_configs(resources, request_timeout=within_s)
    return {
        resource.name: {key: entry.value for key, entry in answer_of(future).items()}
        for resource, future in answers.items()
    }


def create(
    config: Mapping[str, Any], namespace: str, partitions: int, replication: int, generation: Generation | None = None
) -> list[str]:
    """Create every topic that is missing and give the groups their start offsets; returns the names created.

    ``generation``: whose topics and groups, in place of the first one's. Does nothing to what exists: ``check`` says
    what differs. Waits until every new partition has a leader.
    """
    topics = topics_of_generation(namespace, generation)
    created = create_topics(config, topics, TABLE, partitions, replication)
    for group, wanting in missing_start_offsets(config, topics).items():
        commit_start_offsets(config, group, wanting)
    return created


def create_topics(
    config: Mapping[str, Any], topics: Topics, wanted: Sequence[Topic], partitions: int, replication: int
) -> list[str]:
    """Create those of ``wanted`` that are missing, as ``create`` does; returns the names created."""
    client = admin_client(config)
    present = describe(config, [topics.name(topic) for topic in wanted])
    missing = [topic for topic in wanted if topics.name(topic) not in present]
    requests = [_new_topic(topics, topic, partitions, replication) for topic in missing]
    created = []
    for name, future in (client.create_topics(requests, request_timeout=TIMEOUT_S) if requests else {}).items():
        try:
            future.result(TIMEOUT_S + 5)
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # someone else creates them too
                raise translated(error) from error
    _await_leaders(client, [topics.name(topic) for topic in wanted])
    return created


def _new_topic(topics: Topics, topic: Topic, partitions: int, replication: int) -> NewTopic:
    return NewTopic(
        topics.name(topic),
        num_partitions=topic.partition_count(partitions),
        replication_factor=replication,
        config=topic_config(topic, replication),
    )


def _await_leaders(client: AdminClient, names: list[str]) -> None:
    """A new topic is answered before its partitions have leaders, and whoever asks in between gets an error."""
    deadline = time.monotonic() + TIMEOUT_S
    while not _all_led(client, names):
        if time.monotonic() > deadline:
            raise Unavailable("Kafka has created the topics but found no leaders for all their partitions")
        time.sleep(RETRY_S)


def _all_led(client: AdminClient, names: list[str]) -> bool:
    known = topics_of(client)
    return all(name in known and _led(known[name]) for name in names)


def _led(topic: Any) -> bool:
    return bool(topic.partitions) and all(partition.leader >= 0 for partition in topic.partitions.values())


def delete(config: Mapping[str, Any], names: Iterable[str], groups: Iterable[str]) -> list[str]:
    """Delete those of these topics and consumer groups that exist; returns the topics.

    Raises Refusal when a group still has members.
    """
    client = admin_client(config)
    wanted = list(groups)
    for group, future in (client.delete_consumer_groups(wanted, request_timeout=TIMEOUT_S) if wanted else {}).items():
        try:
            future.result(TIMEOUT_S + 5)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.NON_EMPTY_GROUP:
                raise Refusal(f"processes still run in group {group}: stop them first") from error
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise translated(error) from error
    present = [name for name in names if name in topics_of(client)]
    for future in (client.delete_topics(present, request_timeout=TIMEOUT_S) if present else {}).values():
        answer_of(future)
    return present


def check(
    config: Mapping[str, Any], namespace: str, partitions: int, replication: int, generation: Generation | None = None
) -> list[Difference]:
    """Every difference between the table and the cluster, each with what mends it; none when all is well."""
    topics = topics_of_generation(namespace, generation)
    present = describe(config, [topics.name(topic) for topic in TABLE])
    differences: list[Difference] = []
    for topic in TABLE:
        name = topics.name(topic)
        if name not in present:
            differences.append(Difference(name, "the topic", "there", "missing", "run: meterline topics create"))
        else:
            differences += _compared(topic, present[name], partitions, replication)
    differences += [
        Difference(
            f"group {group} on {name}-{partition}",
            "its start offset",
            "committed",
            "missing",
            "run: meterline topics create",
        )
        for group, wanting in missing_start_offsets(config, topics).items()
        for name, partition in wanting
    ]
    return differences


def _compared(topic: Topic, state: TopicState, partitions: int, replication: int) -> list[Difference]:
    differences = []
    expected = topic.partition_count(partitions)
    if state.partitions != expected:
        mend = (
            f"the journal's count is fixed when it is created: set METERLINE_PARTITIONS={state.partitions}, "
            "or begin a new namespace"
            if topic.partitions == "journal"
            else f"kafka-topics --alter --topic {state.name} --partitions {expected}"
        )
        differences.append(Difference(state.name, "partitions", str(expected), str(state.partitions), mend))
    if state.replication < replication:
        mend = "kafka-reassign-partitions with a plan of that many replicas"
        differences.append(Difference(state.name, "replication", str(replication), str(state.replication), mend))
    differences += [
        Difference(
            state.name,
            key,
            text,
            state.config.get(key, "unset"),
            f"kafka-configs --alter --topic {state.name} --add-config {key}={text}",
        )
        for key, text in topic_config(topic, replication).items()
        if state.config.get(key) != text
    ]
    return differences
