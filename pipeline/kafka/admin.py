"""Creating, describing and checking the topics of a namespace.

Functions take the librdkafka configuration that says how to connect. They raise Unavailable when Kafka does not
answer.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.offsets import committed
from pipeline.kafka.topics import GROUPS, TABLE, Topic, Topics, topic_config

TIMEOUT_S = 30.0
_RETRY_S = 0.05
_LOG_LEVEL = 2
"""syslog's "critical": what fails is raised, and need not be printed by a background thread as well."""

_T = TypeVar("_T")


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


def _answer(future: Future[_T]) -> _T:
    """A future's result, with Kafka's transport errors as Unavailable."""
    try:
        return future.result(TIMEOUT_S + 5)
    except TimeoutError as error:
        raise Unavailable(f"Kafka did not answer in {TIMEOUT_S:.0f} s") from error
    except KafkaException as error:
        raise _translated(error) from error


class _NotYet(Unavailable):
    """The cluster or the topic is too young to answer this."""


_YOUNG = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
"""The admin client does not call these retriable."""


def _patiently(ask: Callable[[], _T]) -> _T:
    """The answer, asked for again while the cluster is too young to give it."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except _NotYet:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)


def _translated(error: KafkaException) -> Exception:
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


def describe(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, TopicState]:
    """The topics of these names that exist."""
    client = admin_client(config)
    futures = client.describe_topics(TopicCollection(list(names)), request_timeout=TIMEOUT_S)
    found: dict[str, Any] = {}
    for name, future in futures.items():
        try:
            found[name] = future.result(TIMEOUT_S + 5)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise _translated(error) from error
    configs = _configs(client, found)
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


def _configs(client: AdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    answers = client.describe_configs(resources, request_timeout=TIMEOUT_S)
    return {
        resource.name: {key: entry.value for key, entry in _answer(future).items()}
        for resource, future in answers.items()
    }


def create(config: Mapping[str, Any], namespace: str, partitions: int, replication: int) -> list[str]:
    """Create every topic that is missing and give the groups their start offsets; returns the names created.

    Does nothing to what exists: ``check`` says what differs. Waits until every new partition has a leader.
    """
    topics = Topics(namespace)
    client = admin_client(config)
    present = describe(config, [topics.name(topic) for topic in TABLE])
    missing = [topic for topic in TABLE if topics.name(topic) not in present]
    requests = [_new_topic(topics, topic, partitions, replication) for topic in missing]
    created = []
    for name, future in (client.create_topics(requests, request_timeout=TIMEOUT_S) if requests else {}).items():
        try:
            future.result(TIMEOUT_S + 5)
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # someone else creates them too
                raise _translated(error) from error
    _await_leaders(client, [topics.name(topic) for topic in TABLE])
    for group, wanting in missing_start_offsets(config, namespace).items():
        _commit_start_offsets(client, group, wanting)
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
        time.sleep(_RETRY_S)


def _all_led(client: AdminClient, names: list[str]) -> bool:
    known = _topics(client)
    return all(name in known and _led(known[name]) for name in names)


def _topics(client: AdminClient) -> dict[str, Any]:
    try:
        return client.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise _translated(error) from error


def _led(topic: Any) -> bool:
    return bool(topic.partitions) and all(partition.leader >= 0 for partition in topic.partitions.values())


def missing_start_offsets(config: Mapping[str, Any], namespace: str) -> dict[str, list[tuple[str, int]]]:
    """By consumer group, the (topic, partition) pairs it reads and has no committed offset for.

    Faust leaves a partition without a committed offset where the consumer happens to stand when it rewinds.
    """
    topics = Topics(namespace)
    client = admin_client(config)
    known = _topics(client)
    wanting: dict[str, list[tuple[str, int]]] = {}
    for role in GROUPS:
        names = [topics.name(topic) for topic in TABLE if role in topic.read_by]
        pairs = [(name, number) for name in names if name in known for number in sorted(known[name].partitions)]
        have = committed(config, topics.group(role), pairs)
        lacking = [pair for pair in pairs if pair not in have]
        if lacking:
            wanting[topics.group(role)] = lacking
    return wanting


def _only(futures: dict[Any, Future[_T]]) -> _T:
    (future,) = futures.values()
    return _answer(future)


def _start_offsets(client: AdminClient, pairs: list[tuple[str, int]]) -> list[TopicPartition]:
    """The first offset of each partition that still exists: 0, unless retention has moved the start."""
    earliest = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

    def ask() -> list[TopicPartition]:
        answers = client.list_offsets({TopicPartition(*pair): earliest for pair in pairs}, request_timeout=TIMEOUT_S)
        return [TopicPartition(key.topic, key.partition, _answer(future).offset) for key, future in answers.items()]

    return _patiently(ask)


def _commit_start_offsets(client: AdminClient, group: str, wanting: list[tuple[str, int]]) -> None:
    starts = _start_offsets(client, wanting)
    request = ConsumerGroupTopicPartitions(group, starts)

    def alter() -> None:
        answer = _only(client.alter_consumer_group_offsets([request], request_timeout=TIMEOUT_S))
        for partition in answer.topic_partitions or ():
            if partition.error is not None:  # the call as a whole succeeds all the same
                raise _translated(KafkaException(partition.error))

    try:
        _patiently(alter)
    except Refusal as error:
        raise Refusal(
            f"group {group} has no start offset on {len(starts)} partitions and cannot be given one while its "
            f"processes run; stop them, then run: meterline topics create ({error})"
        ) from error


def check(config: Mapping[str, Any], namespace: str, partitions: int, replication: int) -> list[Difference]:
    """Every difference between the table and the cluster, each with what mends it; none when all is well."""
    topics = Topics(namespace)
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
        for group, wanting in missing_start_offsets(config, namespace).items()
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
