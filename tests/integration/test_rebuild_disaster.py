"""Whatever is derived is lost, under load; one command brings it back, digit for digit."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.kafka.topics import Topics
from tests.conftest import Stack
from tests.rebuilding import Site, site
from tests.sinks import journal_events, logged_events
from tests.traffic import sending


def assert_whole(place: Site) -> None:
    place.assert_exact()
    assert logged_events(place.client) == journal_events(place.stack.kafka, place.namespace)


def test_clickhouse_is_empty(stack: Stack, namespace: str, home: Path) -> None:
    with site(stack, namespace, home) as place:
        place.traffic.send_each()
        place.settle()
        with sending(place.traffic, slices=3):
            place.client.command(f"DROP DATABASE {namespace}")
            assert place.rebuild("--tables").end() == 0
        assert place.generations().live.number == 1
        assert_whole(place)


def test_everything_that_is_derived_is_gone(stack: Stack, namespace: str, home: Path) -> None:
    """ClickHouse's database, the summary topic, the worker's state and all snapshots."""
    with site(stack, namespace, home) as place:
        place.traffic.send_each()
        place.settle()
        with sending(place.traffic, slices=3):
            place.worker.kill()
            shutil.rmtree(home / "worker")
            shutil.rmtree(home / "snapshots", ignore_errors=True)
            place.deployment.delete(Topics(namespace).summaries)
            place.client.command(f"DROP DATABASE {namespace}")
            refused = place.rebuild()
            assert refused.end() == 1
            assert "--accept-differences" in refused.said
            assert place.generations().live.number == 1
            rebuild = place.rebuild("--accept-differences")
            assert rebuild.end() == 0
            assert "ClickHouse has everything that the topics have" in rebuild.said
            place.worker = place.deployment.worker("worker")
        assert place.generations().live.number == 2
        assert_whole(place)
