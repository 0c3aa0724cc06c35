"""Publishing to a real broker: the right partition, bounded memory, every failure told."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from pipeline import MeterlineProducer
from pipeline.codec.records import Codec
from pipeline.domain.events import Adjustment, CancellationRange, MeterEvent
from pipeline.domain.partitioning import partition_of
from pipeline.errors import PublishFailed, Unavailable
from pipeline.kafka import admin
from pipeline.kafka.producer import DeliveryError, Publisher
from pipeline.kafka.reading import read
from pipeline.kafka.topics import Topics

PARTITIONS = 8
VECTORS = json.loads((Path(__file__).parents[2] / "schemas" / "vectors" / "partitions.json").read_text())


@pytest.fixture
def config(stack, namespace):
    found = {"bootstrap.servers": stack.kafka}
    admin.create(found, namespace, PARTITIONS, 1)
    return found


@pytest.fixture
def names(namespace):
    return Topics(namespace)


@pytest.fixture
def nowhere():
    """An address where a connection is taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"bootstrap.servers": f"127.0.0.1:{server.getsockname()[1]}"}


def records(config, topic):
    return list(read(config, topic, "beginning"))


def test_librdkafka_finds_the_partitions_of_the_vectors(config, names):
    publisher = Publisher(config)
    for vector in VECTORS:
        publisher.publish(names.journal, bytes.fromhex(vector["bytes"]), b"")
    publisher.flush(30)
    found = {(record.key or b"").hex(): record.partition for record in records(config, names.journal)}
    assert found == {vector["bytes"]: vector["partition"][str(PARTITIONS)] for vector in VECTORS}


def test_a_record_arrives_as_it_was_with_key_headers_and_partition(config, names):
    publisher = Publisher(config)
    publisher.publish(names.dead_letters, None, b"\0\xff", headers=[("reason", b"malformed"), ("offset", b"7")])
    publisher.publish(names.journal, b"k", None, partition=5)
    publisher.flush(30)
    (letter,) = records(config, names.dead_letters)
    assert (letter.key, letter.value, letter.headers) == (None, b"\0\xff", (("reason", b"malformed"), ("offset", b"7")))
    (moved,) = records(config, names.journal)
    assert (moved.partition, moved.key, moved.value) == (5, b"k", None)


def test_a_batch_arrives_whole_and_in_order(config, names):
    messages = [(b"%d" % number, b"x" * 50) for number in range(20_000)]
    publisher = Publisher(config)
    publisher.publish_batch(names.summaries, 3, messages)
    publisher.flush(30)
    assert [(record.partition, record.key, record.value) for record in records(config, names.summaries)] == [
        (3, *message) for message in messages
    ]


def test_flush_returns_when_all_is_acknowledged(config, names):
    publisher = Publisher(config)
    for number in range(1000):
        publisher.publish(names.journal, b"%d" % number, b"x")
    publisher.flush(30)
    assert len(publisher) == 0
    assert len(records(config, names.journal)) == 1000


def test_a_small_buffer_slows_the_caller_down_and_loses_nothing(config, names):
    publisher = Publisher(config | {"queue.buffering.max.messages": 50})
    deepest = 0
    for number in range(500):
        publisher.publish(names.journal, b"%d" % number, b"x")
        deepest = max(deepest, len(publisher))
    publisher.publish_batch(names.summaries, 0, [(b"%d" % number, b"x") for number in range(500)])
    publisher.flush(30)
    assert deepest <= 50
    assert {record.key for record in records(config, names.journal)} == {b"%d" % number for number in range(500)}
    assert sorted(int(record.key or b"") for record in records(config, names.summaries)) == list(range(500))


def test_while_kafka_is_away_the_buffer_stays_bounded_and_the_caller_waits(nowhere):
    """H7 of the fault list, seen from the client: memory is flat, and nothing is claimed to be sent."""
    publisher = Publisher(nowhere | {"queue.buffering.max.messages": 100, "message.timeout.ms": 3000})
    handed_over = []
    failure: list[PublishFailed] = []

    def publish() -> None:
        try:
            for number in range(1000):
                publisher.publish("t", b"%d" % number, b"x")
                handed_over.append(number)
        except PublishFailed as error:
            failure.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    deadline = time.monotonic() + 2
    while len(handed_over) < 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(handed_over) == 100
    with pytest.raises(Unavailable, match="has not acknowledged"):
        publisher.flush(0.3)
    assert len(handed_over) == 100, "the caller waits while the buffer is full"
    thread.join(20)
    assert not thread.is_alive()
    assert "_MSG_TIMED_OUT" in str(failure[0])
    assert len(handed_over) == 100


def test_each_record_that_fails_is_told_to_the_callback_and_the_others_arrive(config, names):
    failures: list[DeliveryError] = []
    publisher = Publisher(config, failures.append)
    publisher.publish(names.journal, b"before", b"x")
    publisher.publish(names.journal, b"large", b"x" * 2_000_000)
    publisher.publish(names.journal, b"nowhere", b"x", partition=99)
    publisher.publish(names.journal, b"after", b"x")
    publisher.flush(30)
    assert [(failure.key, failure.code) for failure in failures] == [
        (b"large", "MSG_SIZE_TOO_LARGE"),
        (b"nowhere", "_UNKNOWN_PARTITION"),
    ]
    assert {record.key for record in records(config, names.journal)} == {b"before", b"after"}


def test_a_batch_tells_which_records_failed(config, names):
    failures: list[DeliveryError] = []
    publisher = Publisher(config, failures.append)
    publisher.publish_batch(names.journal, 1, [(b"a", b"x"), (b"large", b"x" * 2_000_000), (b"b", b"x")])
    publisher.flush(30)
    assert [(failure.topic, failure.key, failure.code) for failure in failures] == [
        (names.journal, b"large", "MSG_SIZE_TOO_LARGE")
    ]
    assert [record.key for record in records(config, names.journal)] == [b"a", b"b"]


def test_a_record_that_nobody_could_send_is_its_callers_matter_and_publishing_can_go_on(config, names):
    publisher = Publisher(config)
    with pytest.raises(PublishFailed, match=r"large.*MSG_SIZE_TOO_LARGE"):
        publisher.publish(names.journal, b"large", b"x" * 2_000_000)
    publisher.publish(names.journal, b"small", b"x")
    publisher.flush(30)
    assert [record.key for record in records(config, names.journal)] == [b"small"]


def test_a_topic_that_does_not_exist_fails_its_records(config, namespace):
    publisher = Publisher(config | {"topic.metadata.propagation.max.ms": 200, "message.timeout.ms": 5000})
    publisher.publish(f"{namespace}.nothing", b"k", b"x")
    with pytest.raises(PublishFailed, match="k"):
        publisher.flush(30)


def test_the_invariants_settings_cannot_be_overridden(config, names):
    publisher = Publisher(config | {"partitioner": "consistent", "acks": "1", "enable.idempotence": False})
    for vector in VECTORS:
        publisher.publish(names.journal, bytes.fromhex(vector["bytes"]), b"")
    publisher.flush(30)
    found = {(record.key or b"").hex(): record.partition for record in records(config, names.journal)}
    assert found == {vector["bytes"]: vector["partition"][str(PARTITIONS)] for vector in VECTORS}


def test_several_threads_share_one_publisher(config, names):
    publisher = Publisher(config)

    def publish(name: int) -> None:
        for number in range(500):
            publisher.publish(names.journal, b"%d-%d" % (name, number), b"x")

    threads = [threading.Thread(target=publish, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publisher.flush(30)
    assert len({record.key for record in records(config, names.journal)}) == 2000


def test_the_client_writes_events_and_adjustments_where_they_belong(stack, config, namespace, names):
    codec = Codec()
    ready = MeterEvent("ready", "miles", "UA", -5, 1_700_000_000_000, (("a", "1"),), False)
    with MeterlineProducer(stack.kafka, namespace=namespace) as meterline:
        assert meterline.emit(ready) == "ready"
        random = meterline.emit(event_name="miles", customer="AA", value="12.5", dimensions={"b": "2", "a": "1"})
        assert meterline.adjust(event_name="miles", identifier="ready", adjustment_id="one") == "one"
        meterline.adjust(event_name="miles", start=1, end=2, customer="AA", adjustment_id="some", livemode=False)
    assert len(meterline) == 0
    found = {(record.key or b"").decode(): record for record in records(config, names.journal)}
    assert set(found) == {"ready", random}
    for identifier, record in found.items():
        assert record.partition == partition_of(identifier, PARTITIONS)
    assert codec.decode_journal(found["ready"].value) == ready
    event = codec.decode_journal(found[random].value)
    assert event[:4] == (random, "miles", "AA", 12_500_000_000_000)
    assert event[5:] == ((("a", "1"), ("b", "2")), True)
    adjustments = {
        (record.key or b"").decode(): codec.decode_adjustment(record.value)
        for record in records(config, names.adjustments)
    }
    assert adjustments == {
        "one": Adjustment("one", "miles", True, "ready", None),
        "some": Adjustment("some", "miles", False, None, CancellationRange("AA", 1, 2)),
    }


def test_leaving_the_client_while_kafka_is_away_says_so(nowhere, monkeypatch):
    from pipeline.kafka import client

    monkeypatch.setattr(client.MeterlineProducer.flush, "__defaults__", (0.5,))
    with pytest.raises(Unavailable, match="has not acknowledged 1 records"), MeterlineProducer(nowhere) as meterline:
        meterline.emit(event_name="e", customer="c", value=1)
