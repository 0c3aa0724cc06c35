"""Every process of a rebuild is killed with -9 in turn; the command is given again and ends in the same digits."""

from __future__ import annotations

from pathlib import Path

from pipeline.clickhouse.generations import shown
from pipeline.domain.generations import BUILDING, DROPPED
from pipeline.kafka.topics import Topics
from tests.conftest import Stack
from tests.oracle import published
from tests.rebuilding import Site, assert_acted_on, site
from tests.traffic import sending
from tests.workers import until


def restart_worker(place: Site) -> None:
    place.worker.kill()
    place.worker = place.deployment.worker("worker")


def restart_sink(place: Site) -> None:
    place.sink.kill()
    place.start_sink()


def test_kill_9_of_every_process_in_turn(stack: Stack, namespace: str, home: Path) -> None:
    with site(stack, namespace, home) as place:
        place.traffic.send_each()
        with sending(place.traffic, slices=6):
            first = place.rebuild()
            first.kill_crew("worker")
            first.kill_crew("sink")
            until(lambda: place.generations().building is not None, "it has begun")
            first.kill()
            restart_worker(place)

            second = place.rebuild()
            until(lambda: bool(second.crew("sink")), "it goes on")
            restart_sink(place)
            until(lambda: place.generations().live.number == 2, "it is decided", 150)
            second.kill()  # the ledger says so, and the views may not yet
            restart_worker(place)
            restart_sink(place)

            third = place.rebuild()
            assert third.end() == 0
            live = place.generations().live.number
            assert set(shown(place.client).values()) == {live}
        place.assert_exact()
        assert_acted_on(stack.kafka, place.traffic, published(stack.kafka, namespace, Topics(namespace, live)))


def test_a_rebuild_that_is_not_wanted_any_more_is_thrown_away(stack: Stack, namespace: str, home: Path) -> None:
    with site(stack, namespace, home) as place:
        place.traffic.send(60)
        rebuild = place.rebuild()
        until(lambda: bool(rebuild.crew("sink")), "its crew is there")
        rebuild.kill()
        assert place.generations().by_number[2].state == BUILDING
        until(lambda: place.command("generations", "drop", "2", "--yes").end() == 0, "its crew has gone")
        assert place.generations().by_number[2].state == DROPPED
        assert place.generations().live.number == 1
        place.traffic.send(30)
        place.assert_exact()
        assert place.rebuild().end() == 0, "the next one has another number"
        assert place.generations().live.number == 3
        place.assert_exact()
