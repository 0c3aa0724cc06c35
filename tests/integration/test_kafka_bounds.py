"""Where partitions end, asked of brokers that have started again."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.kafka.bounds import EARLIEST, LATEST, newest_ms, offsets
from pipeline.local import ports
from pipeline.local.home import Home
from pipeline.local.kafka import Cluster
from pipeline.local.services import Running, await_ready, end

PLACES = [("t", 0), ("t", 1)]


def test_c3_a_client_that_knew_the_leaders_learns_of_new_ones(home: Path) -> None:
    """A broker that starts again leads in another epoch, and refuses who asks with the one before."""
    place = Home.at(home).make()
    cluster = Cluster(place.kafka, place.logs, tuple(ports.choose([0])), tuple(ports.choose([0])))
    (program,) = cluster.programs()
    running = [Running(program, program.start())]
    try:
        await_ready(running, 60)
        config = {"bootstrap.servers": cluster.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 300}
        client = AdminClient(config)
        client.create_topics([NewTopic("t", 2, 1)])["t"].result(30)
        producer = Producer(config)
        producer.produce("t", b"1", partition=1)
        assert producer.flush(30) == 0
        expect(config)
        running[0].run.kill()
        running[0].run.wait()
        running = [Running(program, program.start())]
        await_ready(running, 60)
        expect(config)
    finally:
        end(running)


def expect(config: dict[str, object]) -> None:
    assert offsets(config, PLACES, EARLIEST) == {("t", 0): 0, ("t", 1): 0}
    assert offsets(config, PLACES, LATEST) == {("t", 0): 0, ("t", 1): 1}
    newest = newest_ms(config, PLACES)
    assert newest["t", 0] < 0 < newest["t", 1]
