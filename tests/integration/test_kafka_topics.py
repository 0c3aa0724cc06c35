"""Topics on a real broker: created once, checked against the table, with a start offset for every partition."""

from __future__ import annotations

import threading
import time

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from pipeline.errors import Refusal, Unavailable
from pipeline.kafka import admin, asking
from pipeline.kafka.topics import GROUPS, TABLE, Topics, topic_config

PARTITIONS = 6


@pytest.fixture
def config(stack):
    return {"bootstrap.servers": stack.kafka}


@pytest.fixture
def client(config):
    return AdminClient(config)


@pytest.fixture
def names(namespace):
    return Topics(namespace)


@pytest.fixture
def created(config, namespace):
    return admin.create(config, namespace, PARTITIONS, 1)


def wait(futures):
    for future in futures.values():
        future.result(30)


def until(holds):
    """A broker answers from what it has heard of the controller, a moment later."""
    deadline = time.monotonic() + 30
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come about within 30 s"
        time.sleep(0.05)
    return found


def committed(client, group):
    (future,) = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
    return {(one.topic, one.partition): one.offset for one in future.result(30).topic_partitions}


def test_every_topic_is_created_as_the_table_says(config, namespace, names, created):
    assert sorted(created) == sorted(names.name(topic) for topic in TABLE)
    states = admin.describe(config, created)
    for topic in TABLE:
        state = states[names.name(topic)]
        assert state.partitions == topic.partition_count(PARTITIONS)
        assert state.replication == 1
        assert topic_config(topic, 1).items() <= state.config.items()
    assert admin.check(config, namespace, PARTITIONS, 1) == []


def test_creating_again_changes_nothing(config, namespace, names, created):
    before = admin.describe(config, created)
    assert admin.create(config, namespace, PARTITIONS, 1) == []
    assert admin.describe(config, created) == before


def test_creating_what_is_missing_leaves_the_rest_alone(config, namespace, names, client):
    wait(client.create_topics([NewTopic(names.journal, PARTITIONS, 1)]))
    created = admin.create(config, namespace, PARTITIONS, 1)
    assert names.journal not in created
    assert len(created) == len(TABLE) - 1
    assert {difference.subject for difference in admin.check(config, namespace, PARTITIONS, 1)} == {names.journal}


def test_two_at_once_create_everything_once(config, namespace, names):
    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(admin.create(config, namespace, PARTITIONS, 1)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for result in results for name in result) == sorted(names.name(topic) for topic in TABLE)
    assert admin.check(config, namespace, PARTITIONS, 1) == []


def test_every_partition_a_group_reads_has_a_start_offset(client, names, created):
    for role in GROUPS:
        assert committed(client, names.group(role)) == {
            (names.name(topic), partition): 0
            for topic in TABLE
            if role in topic.read_by
            for partition in range(topic.partition_count(PARTITIONS))
        }


def test_a_committed_offset_is_left_where_it_is(config, namespace, names, client, created):
    moved = [TopicPartition(names.journal, 2, 7)]
    wait(client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(names.worker_group, moved)]))
    admin.create(config, namespace, PARTITIONS, 1)
    assert committed(client, names.worker_group)[names.journal, 2] == 7


def test_a_lost_group_starts_where_the_log_starts(config, namespace, names, client, created):
    """Offsets expire while a deployment is down; the disposition topic's start has moved meanwhile."""
    producer = Producer(config)
    for _ in range(5):
        producer.produce(names.dispositions, b"x", partition=1)
    assert producer.flush(30) == 0
    wait(client.delete_records([TopicPartition(names.dispositions, 1, 3)]))
    wait(client.delete_consumer_groups([names.sink_group]))
    missing = admin.check(config, namespace, PARTITIONS, 1)
    assert {difference.mend for difference in missing} == {"run: meterline topics create"}
    assert all(difference.subject.startswith(f"group {names.sink_group} on ") for difference in missing)
    assert admin.create(config, namespace, PARTITIONS, 1) == []
    offsets = committed(client, names.sink_group)
    assert offsets[names.dispositions, 1] == 3
    assert offsets[names.dispositions, 0] == 0
    assert admin.check(config, namespace, PARTITIONS, 1) == []


def test_a_running_group_without_a_start_offset_is_refused_with_what_to_do(config, namespace, names, client, created):
    wait(client.create_partitions([NewPartitions(names.dead_letters, 2), NewPartitions(names.catalog, 2)]))
    until(lambda: admin.describe(config, [names.catalog])[names.catalog].partitions == 2)
    consumer = Consumer(config | {"group.id": names.sink_group})
    consumer.subscribe([names.summaries])
    until(lambda: consumer.poll(0) or consumer.assignment())
    try:
        with pytest.raises(Refusal, match="stop them, then run: meterline topics create"):
            admin.create(config, namespace, PARTITIONS, 1)
    finally:
        consumer.close()
    admin.create(config, namespace, PARTITIONS, 1)
    assert committed(client, names.sink_group)[names.catalog, 1] == 0


def test_every_difference_is_named_with_what_mends_it(config, namespace, names, client, created):
    wait(client.delete_topics([names.catalog]))
    wait(client.create_partitions([NewPartitions(names.journal, PARTITIONS + 1), NewPartitions(names.dead_letters, 3)]))
    retention = ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)
    wait(
        client.incremental_alter_configs(
            [ConfigResource(ResourceType.TOPIC, names.adjustments, incremental_configs=[retention])]
        )
    )
    expected = {
        (names.catalog, "the topic"),
        (names.journal, "partitions"),
        (names.dead_letters, "partitions"),
        (names.adjustments, "retention.ms"),
    }

    def differences():
        found = {
            (one.subject, one.what): one
            for one in admin.check(config, namespace, PARTITIONS, 1)
            if not one.subject.startswith("group ")
        }
        return found if set(found) == expected else None

    found = until(differences)
    assert found[names.catalog, "the topic"].mend == "run: meterline topics create"
    assert f"METERLINE_PARTITIONS={PARTITIONS + 1}" in found[names.journal, "partitions"].mend
    assert (
        found[names.dead_letters, "partitions"].mend
        == f"kafka-topics --alter --topic {names.dead_letters} --partitions 1"
    )
    assert str(found[names.adjustments, "retention.ms"]) == (
        f"{names.adjustments}: retention.ms is 60000, expected -1; "
        f"kafka-configs --alter --topic {names.adjustments} --add-config retention.ms=-1"
    )


def test_too_few_replicas_are_a_difference(config, namespace, created):
    differences = [one for one in admin.check(config, namespace, PARTITIONS, 3) if one.what == "replication"]
    assert len(differences) == len(TABLE)
    assert all((one.expected, one.found) == ("3", "1") for one in differences)


def test_a_topic_made_anew_under_its_name_has_another_id(config, names, client, created):
    before = admin.describe(config, [names.journal])[names.journal].topic_id
    wait(client.delete_topics([names.journal]))
    until(lambda: not admin.describe(config, [names.journal]))
    wait(client.create_topics([NewTopic(names.journal, PARTITIONS, 1)]))
    anew = until(lambda: admin.describe(config, [names.journal]))
    assert anew[names.journal].topic_id != before


def test_topics_that_are_not_there_are_not_described(config, namespace):
    assert admin.describe(config, [f"{namespace}.nothing"]) == {}


def test_more_replicas_than_brokers_are_refused(config, namespace):
    with pytest.raises(Refusal, match=r"(?i)replication factor"):
        admin.create(config, namespace, PARTITIONS, 2)


def test_a_kafka_that_is_not_there_is_unavailable(monkeypatch, namespace):
    for module in (admin, asking):
        monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    with pytest.raises(Unavailable):
        admin.create({"bootstrap.servers": "127.0.0.1:1"}, namespace, 1, 1)
