"""What a rebuild refuses, in a sentence that names what mends it; the live generation goes on as if nothing were."""

from __future__ import annotations

import signal
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.domain.generations import BUILDING, LIVE
from pipeline.kafka.offsets import Noted, committed_with_notes, put_back
from pipeline.kafka.topics import JOURNAL, topic_config
from tests.conftest import Stack
from tests.rebuilding import PARTITIONS, Command, Site, assert_acted_on, site
from tests.sinks import stored
from tests.workers import until


def assert_refuses(place: Site, command: Command, *words: str) -> None:
    """The command ends with one sentence that has these words, and readers see no change."""
    before = stored(place.client)
    assert command.end() == 1
    said = command.said.splitlines()[-1]
    assert said.startswith("meterline: "), command.said
    assert "Traceback" not in command.said
    for word in words:
        assert word in said
    assert stored(place.client) == before
    assert place.generations().live.number == 1
    assert place.worker.alive() or not place.worker.ends_by_itself
    assert place.sink.alive()


def test_a_journal_without_its_beginning(stack: Stack, namespace: str, home: Path) -> None:
    with site(stack, namespace, home) as place:
        place.traffic.send(60)
        place.settle()
        journal = place.topics.journal
        end = place.deployment.ends(journal)[journal, 0]
        client = AdminClient({"bootstrap.servers": stack.kafka})
        for future in client.delete_records([TopicPartition(journal, 0, end)]).values():
            future.result(30)
        assert_refuses(place, place.rebuild(), "begins at offset", "stands in generation 1 alone", "Restore the topic")
        assert place.generations().building is None
        place.traffic.send(20)
        place.settle()


def test_a_journal_that_is_another_one(stack: Stack, namespace: str, home: Path) -> None:
    """Deleted and made again, with other partitions, or not at all."""
    with site(stack, namespace, home, EVENT_LOG="off") as place:
        place.traffic.send(60)
        place.settle()
        place.worker.stop()
        make_journal(place, PARTITIONS)
        assert_refuses(place, place.rebuild(), "ends at offset 0", "deleted and created again", "not touched")
        place.traffic.send(80)
        assert_refuses(place, place.rebuild(), "stands another record", "not touched", "Restore the topic")
        make_journal(place, 5)
        assert_refuses(place, place.rebuild(), "has 5 partitions", "folded from 3", "`meterline journal repartition")
        place.deployment.delete(place.topics.journal)
        assert_refuses(place, place.rebuild(), "there is no topic", "not touched", "Restore the topic")
        assert place.generations().building is None


def make_journal(place: Site, partitions: int) -> None:
    name = place.topics.journal
    place.deployment.delete(name)
    client = AdminClient({"bootstrap.servers": place.stack.kafka})
    for future in client.create_topics([NewTopic(name, partitions, 1, config=topic_config(JOURNAL, 1))]).values():
        future.result(30)
    until(lambda: name in client.list_topics(timeout=10).topics, "the topic is there")


def test_a_journal_that_lost_its_newest_records(stack: Stack, namespace: str, home: Path) -> None:
    """As after a broker that came back without them: what is left counts, and what comes at their offsets."""
    with site(stack, namespace, home) as place:
        place.traffic.send_each()
        place.settle()
        place.worker.stop()
        journal, group = place.topics.journal, place.topics.worker_group
        for number in range(PARTITIONS):
            end = place.deployment.ends(journal)[journal, number]
            note = committed_with_notes(kafka_of(place), group, [(journal, number)])[journal, number].note
            put_back(kafka_of(place), group, {(journal, number): Noted(end + 50, note)})
        assert_refuses(
            place, place.rebuild(), "ends at offset", "lost its newest records", "`meterline rebuild --accept-diff"
        )
        assert place.rebuild("--accept-differences").end() == 0
        place.traffic.send_each()
        place.traffic.send(60)
        place.worker = place.deployment.worker("worker")
        place.assert_exact()
        assert_acted_on(stack.kafka, place.traffic, stored(place.client))


def kafka_of(place: Site) -> dict[str, str]:
    return {"bootstrap.servers": place.stack.kafka}


def test_a_state_of_another_fold_and_damaged_snapshots(stack: Stack, namespace: str, home: Path) -> None:
    """The worker says which command goes on; and whoever finds a damaged snapshot folds instead."""
    with site(stack, namespace, home) as place:
        place.traffic.send_each()
        place.settle()
        place.worker.stop()
        place.ledger.append(1, LIVE, 1, PARTITIONS, "fold-0;past=1;ahead=1;cancel=1")
        refusing = place.deployment.worker("worker")
        refusing.ends_by_itself = False
        assert refusing.run.wait(30) == 1
        assert "was folded by fold-0" in refusing.log
        assert "`meterline rebuild`" in refusing.log
        assert place.rebuild().end() == 0
        assert place.generations().live.number == 2
        snapshots = home / "snapshots" / namespace / "g2"
        for number, damage in enumerate((b"", b"{}", b"not json")):
            manifest = max(snapshots.glob(f"partition-{number}/*.json"))
            manifest.write_bytes(damage)
        place.worker = place.deployment.worker("worker")
        place.traffic.send(60)
        place.assert_exact()
        assert place.worker.log.count("is damaged, and passed over") >= PARTITIONS


def test_a_full_disk(stack: Stack, namespace: str, home: Path) -> None:
    """RocksDB cannot write any more: the rebuild says so, and goes on when there is room."""
    with site(stack, namespace, home) as place:
        place.traffic.send(60)
        place.settle()
        command = place.rebuild(largest_file=4_000)
        assert_refuses(place, command, "no room left", "not touched", "`meterline rebuild` goes on")
        assert place.generations().by_number[2].state == BUILDING
        assert place.rebuild().end() == 0
        assert place.generations().live.number == 2
        place.assert_exact()


def test_two_at_once(stack: Stack, namespace: str, home: Path) -> None:
    with site(stack, namespace, home) as place:
        place.traffic.send(30)
        first = place.rebuild()
        until(lambda: bool(first.crew("sink")), "its crew is there")
        first.run.send_signal(signal.SIGSTOP)  # it holds its lock for as long as it likes
        try:
            second = place.rebuild()
            assert second.end() == 1
            assert "another command builds" in second.said
        finally:
            first.run.send_signal(signal.SIGCONT)
        assert first.end() == 0


def test_what_is_live_is_never_dropped(stack: Stack, namespace: str, home: Path) -> None:
    with site(stack, namespace, home) as place:
        assert_refuses(place, place.command("generations", "drop", "1", "--yes"), "it is live", "`meterline rebuild`")
        assert_refuses(place, place.command("generations", "drop", "7", "--yes"), "`meterline generations list`")
        assert_refuses(place, place.command("generations", "rollback"), "no generation to go back to")
