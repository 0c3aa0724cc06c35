"""A broker that has lost a segment in the middle of the journal: named, and no reason to change what is live."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tests.brokers import Broker
from tests.conftest import Stack
from tests.rebuilding import site
from tests.sinks import stored
from tests.workers import until


def test_a_lost_segment(stack: Stack, namespace: str, home: Path) -> None:
    broker = Broker(home / "broker")

    def segments() -> list[Path]:
        return sorted((home / "broker").rglob(f"{namespace}.meter-events-0/*.log"))

    try:
        own = dataclasses.replace(stack, kafka=broker.cluster.bootstrap)
        with site(own, namespace, home, partitions=2, EVENT_LOG="off") as place:
            place.deployment.configure(place.topics.journal, "segment.ms", "50")
            place.traffic.send(60)
            until(lambda: place.traffic.send(5) or len(segments()) > 3, "the journal has segments")
            place.settle()
            place.worker.stop()
            before = stored(place.client)
            broker.kill()
            lost, following = segments()[1:3]
            for path in lost.parent.glob(f"{lost.stem}.*"):
                path.unlink()
            broker.start()

            report = home / "audit.json"
            audit = place.command("audit", "--json", str(report))
            assert audit.end() == 1
            assert f"offsets {int(lost.stem)} to {int(following.stem) - 1}: no record" in audit.said
            named = [
                one["what"]
                for side in json.loads(report.read_text())["partitions"][0]["compared"]
                if side["where"] == f"topic {place.topics.journal}"
                for one in side["differences"]
            ]
            assert len(named) == 1, "the transactions in the rest of it are no loss"

            rebuild = place.rebuild()
            assert rebuild.end() == 1
            assert "`meterline audit`" in rebuild.said
            assert place.generations().live.number == 1
            assert stored(place.client) == before
    finally:
        broker.end()
