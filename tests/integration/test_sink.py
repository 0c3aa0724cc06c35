"""The sink on real Kafka and the real engine: whatever happens to either, the tables say what the topics say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import known_migrations, migrate
from pipeline.codec.records import Codec
from pipeline.domain.events import SummaryShard, TallyKey
from tests.conftest import Stack
from tests.gate import Door, Gate
from tests.oracle import published, read_topic
from tests.sinks import SinkGroup, SinkProcess, journal_events, logged_events, stored
from tests.traffic import Traffic
from tests.workers import Deployment, until

PARTITIONS = 3


class Stand:
    """A namespace with a worker, traffic, and tables; sinks are the test's to start."""

    def __init__(self, stack: Stack, deployment: Deployment, client: Client, home: Path) -> None:
        self.stack = stack
        self.deployment = deployment
        self.topics = deployment.topics
        self.client = client
        self.home = home
        self.group = SinkGroup(stack.kafka, deployment.namespace)
        self.traffic = Traffic(stack.kafka, deployment.topics, PARTITIONS, seed=7)
        self.sinks: list[SinkProcess] = []

    def sink(self, clickhouse: str | None = None, **environ: str) -> SinkProcess:
        url = clickhouse or self.stack.clickhouse
        one = SinkProcess(self.home, self.stack.kafka, url, self.deployment.namespace, **environ)
        self.sinks.append(one)
        return one

    def logged(self) -> int:
        """Rows of the event log, each once: a merge may drop the copies at any moment."""
        return int(str(self.client.command("SELECT count() FROM meter_events FINAL")))

    def await_rows(self, more_than: int) -> None:
        until(lambda: self.logged() > more_than, "rows are there")

    def members(self) -> set[str]:
        """Of the sinks' group, as Kafka calls them: who leaves and comes back is another one."""
        group = self.topics.sink_group
        asked = AdminClient({"bootstrap.servers": self.stack.kafka, "log_level": 0})
        return {one.member_id for one in asked.describe_consumer_groups([group])[group].result(30).members}

    def settle(self, *topics: str) -> None:
        """Wait until the worker and the sink have done everything."""
        self.deployment.settle()
        until(lambda: self.group.behind(*topics) == 0, "the sink has done everything")

    def assert_tables_say_what_the_topics_say(self) -> None:
        self.settle()
        topics, tables = published(self.stack.kafka, self.deployment.namespace), stored(self.client)
        assert tables.shards == topics.shards
        assert tables.dispositions == topics.dispositions
        assert logged_events(self.client) == journal_events(self.stack.kafka, self.deployment.namespace)


@pytest.fixture
def stand(stack: Stack, namespace: str, home: Path) -> Iterator[Stand]:
    server = Server(stack.clickhouse, namespace)
    list(migrate(server))
    with Deployment(stack.kafka, namespace, home, partitions=PARTITIONS) as deployment, connect(server) as client:
        found = Stand(stack, deployment, client, home)
        deployment.worker("worker")
        try:
            yield found
        finally:
            for one in found.sinks:
                one.end()
                print(f"--- the end of the sink's log:\n{one.log[-3000:]}")
            found.group.close()


def test_everything_arrives(stand: Stand) -> None:
    """Invariant 2, as far as the tables: every kind of record, good, bad and unreadable."""
    sink = stand.sink()
    stand.traffic.send_each()
    stand.traffic.send(300)
    stand.assert_tables_say_what_the_topics_say()
    assert stand.client.command("SELECT count() FROM cancellations FINAL") > 0
    assert stand.client.command("SELECT count() FROM adjustments FINAL") > 0
    sink.stop()


def test_kill_9_in_mid_load(stand: Stand) -> None:
    """FAULTS A11: wherever the sink is killed, the next one goes on and the tables are the same."""
    sender = threading.Thread(target=lambda: [stand.traffic.send(150) for _ in range(10)])
    sender.start()
    for _ in range(4):
        sink = stand.sink(SINK_ROWS="40", SINK_EVERY="20ms")
        time.sleep(3.0)  # it takes two to join its group; then it is in the middle of something
        sink.kill()
    sender.join()
    stand.sink()
    stand.assert_tables_say_what_the_topics_say()


def test_kill_9_between_insert_and_acknowledgement(stand: Stand) -> None:
    """The rows are there and the offsets are not committed: the next sink inserts them again, to no effect."""
    sink = stand.sink()
    stand.traffic.send(20)
    stand.settle()
    again = 0
    for _ in range(3):
        before = stand.logged()
        stand.traffic.send(20)
        stand.await_rows(more_than=before)
        sink.kill()
        again += stand.group.behind(stand.topics.journal)
        sink = stand.sink()
        stand.settle()
    assert again > 0, "no kill came between"
    stand.assert_tables_say_what_the_topics_say()


def test_clickhouse_away_for_a_while(stand: Stand) -> None:
    """FAULTS D1, D2: nothing is lost, the sink stays in its group, stops reading, and catches up."""
    with Gate(stand.stack.clickhouse) as gate:
        sink = stand.sink(gate.url, SINK_ROWS="50")
        stand.traffic.send_each()
        stand.settle()
        for door in (Door.SHUT, Door.JAMMED):
            gate.set(door)
            rows, memory = stand.logged(), sink.resident_mb()
            for _ in range(10):
                stand.traffic.send(100)
            stand.deployment.settle()
            time.sleep(8.0)  # longer than the session timeout: a sink that does nothing is still a member
            assert stand.group.behind() > 0
            assert stand.logged() == rows
            assert sink.resident_mb() < memory + 100
            gate.set(Door.OPEN)
            stand.assert_tables_say_what_the_topics_say()
        assert sink.alive()
        assert sink.log.count("is not taken") >= 1, sink.log
        sink.stop()


def test_d2_inserts_that_take_longer_than_a_session(stand: Stand) -> None:
    """The sink goes on at ClickHouse's pace: it stays the member that it is and holds no more than it may."""
    with Gate(stand.stack.clickhouse, slow_s=3.5) as gate:
        sink = stand.sink(gate.url, SINK_ROWS="50", SESSION_TIMEOUT="3s")
        stand.traffic.send_each()
        stand.settle()
        member, memory = stand.members(), sink.resident_mb()
        assert len(member) == 1
        gate.set(Door.SLOW)
        for _ in range(10):
            stand.traffic.send(100)
        stand.deployment.settle()
        for _ in range(2):
            stand.await_rows(more_than=stand.logged())
        assert stand.group.behind(stand.topics.journal) > 0
        assert stand.members() == member
        assert sink.resident_mb() < memory + 100
        gate.set(Door.OPEN)
        stand.assert_tables_say_what_the_topics_say()
        assert stand.members() == member
        sink.stop()


def test_an_answer_that_is_lost_is_asked_for_again(stand: Stand) -> None:
    """FAULTS D3: applied and never answered; inserted once more, counted once."""
    with Gate(stand.stack.clickhouse) as gate:
        sink = stand.sink(gate.url)
        stand.traffic.send(50)
        stand.settle()
        gate.set(Door.MUTE)
        stand.traffic.send(100)
        until(lambda: gate.answers_swallowed >= 5, "answers are swallowed")
        gate.set(Door.OPEN)
        stand.assert_tables_say_what_the_topics_say()
        sink.stop()


def test_d5_a_success_that_tells_of_an_exception_moves_nothing_on(stand: Stand) -> None:
    """Rows that went nowhere are inserted again until they are there."""
    with Gate(stand.stack.clickhouse) as gate:
        sink = stand.sink(gate.url)
        stand.traffic.send_each()
        stand.settle()
        for rows_claimed in (None, 0):
            rows, lies, gate.rows_claimed = stand.logged(), gate.lies, rows_claimed
            gate.set(Door.LYING)
            stand.traffic.send(100)
            stand.deployment.settle()
            until(lambda before=lies: gate.lies >= before + 5, "inserts are answered and done again")
            assert stand.logged() == rows
            assert stand.group.behind(stand.topics.journal) > 0
            gate.set(Door.OPEN)
            stand.assert_tables_say_what_the_topics_say()
        assert "ClickHouse took 0 of" in sink.log
        sink.stop()


def test_tables_that_are_missing_are_waited_for(stand: Stand) -> None:
    stand.client.command("DROP TABLE summary_shards_g1")
    sink = stand.sink()
    stand.traffic.send(50)
    until(lambda: "meterline clickhouse migrate" in sink.log, "the log says what to do")
    assert sink.alive()
    for statement in known_migrations()[0].statements:
        stand.client.command(statement)
    stand.assert_tables_say_what_the_topics_say()


def test_what_nobody_can_read_becomes_a_dead_letter(stand: Stand) -> None:
    """Summaries and dispositions: no worker looks at them, so the sink buries what is bad there."""
    codec = Codec()
    huge = SummaryShard(TallyKey(True, "calls", "c", 0, ()), 0, 1, 1, 0, 0, 0, None, None)
    encoded = codec.encode_shard(huge)
    at = encoded.index(b"\x40" + bytes(32))
    too_wide = encoded[:at] + b"\x40\x7f" + b"\xff" * 31 + encoded[at + 33 :]
    bad = {
        (stand.topics.summaries, b"no avro"): b"unknown_framing",
        (stand.topics.summaries, too_wide): b"out_of_range",
        (stand.topics.dispositions, codec.encode_shard(huge)): b"wrong_type",
    }
    producer = Producer({"bootstrap.servers": stand.stack.kafka})
    for topic, value in bad:
        producer.produce(topic, value, b"key", 1)
    producer.flush()
    stand.sink()
    stand.traffic.send(20)
    stand.settle()
    letters = [
        read
        for read in read_topic(stand.stack.kafka, stand.topics.dead_letters)
        if read.headers["topic"].decode() != stand.topics.journal
        and read.headers["topic"].decode() != stand.topics.adjustments
    ]
    assert {(one.headers["topic"].decode(), one.value): one.headers["reason"] for one in letters} == bad
    assert all(one.key == b"key" and one.headers["partition"] == b"1" for one in letters)


def test_the_event_log_can_be_switched_off_and_on(stand: Stand) -> None:
    sink = stand.sink(EVENT_LOG="off")
    stand.traffic.send(50)
    stand.settle(stand.topics.summaries, stand.topics.dispositions, stand.topics.adjustments)
    assert stand.logged() == 0
    sink.stop()
    stand.sink(EVENT_LOG="on")
    stand.assert_tables_say_what_the_topics_say()


def test_two_sinks_share_the_work(stand: Stand) -> None:
    """FAULTS B6, roughly: one is frozen beyond its session and wakes up again beside its successor."""
    first, second = stand.sink(), stand.sink()
    stand.traffic.send(200)
    first.run.send_signal(19)  # SIGSTOP
    stand.traffic.send(200)
    time.sleep(8.0)
    stand.settle()
    first.run.send_signal(18)  # SIGCONT
    stand.traffic.send(200)
    stand.assert_tables_say_what_the_topics_say()
    assert second.alive()


def test_a_named_sink_has_its_partitions_back_while_its_session_still_runs(stand: Stand) -> None:
    """Killed -9 and asked to stop: nobody waits for the end of a session that is longer than any test."""
    names = {"SESSION_TIMEOUT": "20m", "INSTANCE": "sink-{slot}", "STATE": str(stand.home / "sink-{slot}")}
    sink = stand.sink(**names)
    stand.traffic.send(100)
    stand.assert_tables_say_what_the_topics_say()
    sink.kill()
    stand.traffic.send(100)
    again = stand.sink(**names)
    stand.assert_tables_say_what_the_topics_say()
    again.stop()
    stand.traffic.send(100)
    stand.sink(**names)
    stand.assert_tables_say_what_the_topics_say()


def test_of_two_living_sinks_of_one_name_one_goes_on_alone(stand: Stand) -> None:
    """FAULTS B7: the one that was there first ends, says why, and ends again when it is started beside the other."""
    first = stand.sink(INSTANCE="sink-0", STATE=str(stand.home / "first"))
    stand.traffic.send(100)
    stand.settle()
    second = stand.sink(INSTANCE="sink-0", STATE=str(stand.home / "second"))
    for refusals in (1, 2):
        stand.traffic.send(100)
        assert first.run.wait(90) == 1
        assert first.log.count("another living process is called sink-0 (METERLINE_INSTANCE), too") == refusals
        first = stand.sink(INSTANCE="sink-0", STATE=str(stand.home / "first"))
    stand.assert_tables_say_what_the_topics_say()
    assert second.alive()


def test_a_sink_that_retention_overtook_refuses_until_it_is_told_where_to_go_on(stand: Stand) -> None:
    """FAULTS C11. The rows of what was deleted are missing from the tables; nobody else would say so."""
    sink = stand.sink()
    stand.traffic.send(100)
    stand.settle()
    sink.stop()
    stand.traffic.send(100)
    stand.deployment.settle()
    topic, group, kafka = stand.topics.dispositions, stand.topics.sink_group, {"bootstrap.servers": stand.stack.kafka}
    end = stand.deployment.ends(topic)[topic, 0]
    client = AdminClient({**kafka, "log_level": 0})
    for future in client.delete_records([TopicPartition(topic, 0, end)]).values():
        future.result(30)

    sink = stand.sink()
    assert sink.run.wait(90) == 1
    assert f"partition 0 of {topic} begins at offset {end} now, but the group {group} has to read on at" in sink.log
    assert "`meterline topics create`" in sink.log
    assert "Traceback" not in sink.log

    until(lambda: not stand.members(), "nobody is left in the group")
    client.delete_consumer_groups([group])[group].result(30)
    stand.deployment.create_topics()
    stand.sink()
    stand.settle()


def test_it_refuses_to_wait_for_what_will_not_come(stack: Stack, namespace: str, tmp_path: Path) -> None:
    """Without topics, or without Kafka, it says so and ends; whoever supervises it tries again."""
    for kafka, complaint in ((stack.kafka, "run `meterline topics create`"), ("127.0.0.1:9", "does not answer")):
        sink = SinkProcess(tmp_path, kafka, stack.clickhouse, namespace)
        assert sink.run.wait(60) == 1
        assert complaint in sink.log
        assert "Traceback" not in sink.log
