"""What a rebuild refuses, in a sentence that names what mends it; the live generation goes on as if nothing were."""

from __future__ import annotations

import signal
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.domain.generations import BUILDING
from tests.conftest import Stack
from tests.rebuilding import Command, Site, site
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
    assert place.worker.alive()
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
