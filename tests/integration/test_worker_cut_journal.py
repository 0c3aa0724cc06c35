"""FAULTS C4: a broker comes back without the newest records of the journal, under a worker that lives."""

from __future__ import annotations

import os
from pathlib import Path

from tests.brokers import Broker
from tests.traffic import Traffic
from tests.workers import Deployment


def test_a_journal_that_lost_its_newest_records_ends_the_worker(namespace: str, tmp_path: Path) -> None:
    """What producers append in their place bears offsets that are folded already: it would count for nothing."""
    broker = Broker(tmp_path / "broker")
    try:
        kafka = broker.cluster.bootstrap
        with Deployment(kafka, namespace, tmp_path / "workers", partitions=1) as deployment:
            journal = deployment.topics.journal
            traffic = Traffic(kafka, deployment.topics, 1, seed=5, transactions=False)

            def send(count: int) -> None:
                for _ in range(count):
                    traffic._new()
                traffic.flush()

            worker = deployment.worker("worker")
            send(20)
            (segment,) = (tmp_path / "broker").rglob(f"{journal}-0/00000000000000000000.log")
            deployment.settle()
            kept, size = deployment.ends(journal)[journal, 0], segment.stat().st_size
            send(40)
            deployment.settle()
            folded = deployment.ends(journal)[journal, 0]
            assert segment.stat().st_size > size, "what is to be lost has to be in the file"

            worker.freeze()
            broker.kill()
            os.truncate(segment, size)  # as a power cut does
            broker.start()
            assert deployment.ends(journal)[journal, 0] == kept
            send(5)
            assert kept < deployment.ends(journal)[journal, 0] < folded
            worker.thaw()

            refusal = worker.refusal()
            assert f"but records up to {folded} were folded: the journal lost its newest records" in refusal
            assert "METERLINE_NAMESPACE" in refusal
    finally:
        broker.end()
