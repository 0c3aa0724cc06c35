"""Building a generation beside the live one, under load: nobody notices, and it says the same, digit for digit."""

from __future__ import annotations

from pathlib import Path

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.generations import shown
from pipeline.domain.generations import LIVE, RETIRED
from pipeline.kafka.admin import describe
from pipeline.kafka.topics import Topics
from tests.conftest import Stack
from tests.oracle import published
from tests.rebuilding import Site, assert_acted_on, site
from tests.sinks import stored
from tests.traffic import sending
from tests.workers import until


def assert_live(place: Site, number: int) -> None:
    known = place.generations()
    assert known.live.number == number
    assert shown(place.client) == {"summary_shards": number, "dispositions": number}


def test_rebuild_rollback_and_drop_under_load(stack: Stack, namespace: str, home: Path) -> None:
    """Three computations agree: the live one, the rebuilt one, and the specification's.

    Worker and sink have names and sessions longer than any test: who changes generations leaves its group all the same.
    """
    with site(stack, namespace, home, INSTANCE="regular", SESSION_TIMEOUT="20m") as place:
        place.traffic.send_each()
        with place.watched(), sending(place.traffic, slices=8, things=25):
            rebuild = place.rebuild()
            assert rebuild.end() == 0
            assert "generation 2 equals generation 1" in rebuild.said
            assert_live(place, 2)
        place.assert_exact()
        live = stored(place.client)
        topics = published(stack.kafka, namespace, Topics(namespace, 2))
        assert (topics.shards, topics.dispositions) == (live.shards, live.dispositions)
        assert_acted_on(stack.kafka, place.traffic, live)

        with place.watched(), sending(place.traffic, slices=3, things=25):
            back = place.command("generations", "rollback", "--processes", "1")
            assert back.end() == 0
            assert_live(place, 1)
        place.assert_exact()
        assert_acted_on(stack.kafka, place.traffic, stored(place.client))

        assert place.command("generations", "drop", "2", "--yes").end() == 0
        assert [one.number for one in place.generations().kept] == [1]
        gone = [Topics(namespace, 2).summaries, Topics(namespace, 2).dispositions]
        until(lambda: not describe({"bootstrap.servers": stack.kafka}, gone), "the topics are gone")
        with connect(Server(stack.clickhouse, namespace)) as client:
            assert client.command("EXISTS TABLE summary_shards_g2") == 0
        assert place.command("generations", "drop", "1", "--yes").end() == 1


def test_what_a_changed_rule_changes_is_reported_and_nothing_else(stack: Stack, namespace: str, home: Path) -> None:
    """Cancellations that came within the old window and not within the new one: planted, and found."""
    with site(stack, namespace, home) as place:
        planted = [place.traffic.event(f"planted-{number}")._replace(customer="acme", value=7) for number in range(3)]
        for one in planted:
            place.traffic.events.append(one)
            place.traffic._append(one)
        place.traffic.flush()
        place.settle()
        until(lambda: place.age_ms() > 1_500, "they are older than the new window")
        for one in planted[:2]:
            place.traffic._cancel(one)
        place.traffic.flush()
        place.settle()
        before = stored(place.client)

        rebuild = place.rebuild(CANCEL_WINDOW="1s")
        assert rebuild.end() == 1
        assert "`meterline rebuild --accept-differences`" in rebuild.said
        assert "event cancelled -> counted: 2" in rebuild.said
        assert "cancellation cancelled -> cancellation too_late: 2" in rebuild.said
        assert "acme" in rebuild.said
        assert_live(place, 1)
        assert stored(place.client) == before
        assert place.rebuild(CANCEL_WINDOW="2s").end() == 1, "another rule in mid-building is refused"

        assert place.rebuild("--accept-differences", CANCEL_WINDOW="1s").end() == 0
        assert_live(place, 2)
        assert place.worker.alive()
        place.assert_exact(place.rules)
        known = place.generations()
        assert {number: one.state for number, one in known.by_number.items()} == {1: RETIRED, 2: LIVE}
