"""Whatever is derived is lost, under load; one command brings it back, digit for digit."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from pipeline.clickhouse.connection import Server
from pipeline.clickhouse.migrations import migrate
from pipeline.codec.records import Codec
from pipeline.kafka.topics import Topics
from pipeline.replay.ground import Ground
from tests.conftest import Stack
from tests.oracle import read_topic
from tests.rebuilding import Site, site
from tests.sinks import journal_events, logged_events, stored
from tests.traffic import sending
from tests.workers import until


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


def test_a_filling_is_killed_between_the_database_and_the_tables_of_what_is_live(
    stack: Stack, namespace: str, home: Path
) -> None:
    """New views show the first generation: that is said, and the next rebuild ends it."""
    with site(stack, namespace, home) as place:
        place.traffic.send_each()
        place.settle()
        assert place.rebuild().end() == 0
        place.settle()
        place.client.command(f"DROP DATABASE {namespace}")
        server = Server(stack.clickhouse, namespace)
        ground = Ground({"bootstrap.servers": stack.kafka}, namespace, 1, server, place.ledger)
        ground.want_filled(place.generations().live)
        list(migrate(server))
        filling = place.rebuild("--tables")
        assert filling.end() == 0
        assert "but readers do not see generation 2 yet: `meterline rebuild`" in filling.said
        finishing = place.rebuild()
        assert finishing.end() == 0
        assert "generation 2 is live already, and not shown yet" in finishing.said
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


def test_what_compaction_leaves_is_the_newest(stack: Stack, namespace: str, home: Path) -> None:
    """A worker that had lost its partition published late: its old shards lie behind the newer ones, once while the
    partition's worker runs, once while none does. Compaction keeps the last; then the tables are filled from it.
    """
    with site(stack, namespace, home) as place, quick_compaction(stack):
        for _ in range(3):
            place.traffic.send(80)
            place.settle()
        topic = place.topics.summaries
        old = overtaken(stack.kafka, topic)
        assert len(old) > 3
        append(stack.kafka, topic, old[::2])
        until(lambda: newest_is_last(stack.kafka, topic), "the worker has put the newest behind them")
        place.worker.kill()
        append(stack.kafka, topic, old[1::2])
        assert not newest_is_last(stack.kafka, topic)
        place.worker = place.deployment.worker("worker")
        until(lambda: newest_is_last(stack.kafka, topic), "whoever takes over does so too")
        place.settle()
        before = stored(place.client).shards
        place.deployment.configure(topic, "min.cleanable.dirty.ratio", "0.001")
        place.deployment.configure(topic, "segment.ms", "100")
        place.deployment.configure(topic, "min.compaction.lag.ms", "0")
        with sending(place.traffic, slices=1, things=10):  # whatever is not in the segment that grows is compacted
            until(lambda: not copies(stack.kafka, topic) & set(old), "compaction has left one record of each")
        place.client.command(f"DROP DATABASE {namespace}")
        assert place.rebuild("--tables").end() == 0
        assert before.keys() <= stored(place.client).shards.keys()
        assert_whole(place)


Copy = tuple[int, bytes, bytes]
"""(partition, key, value)"""


def copies(kafka: str, topic: str) -> set[Copy]:
    return {(read.partition, read.key or b"", read.value or b"") for read in read_topic(kafka, topic)}


def overtaken(kafka: str, topic: str) -> list[Copy]:
    """Records behind which there is a newer one of the same key; no two of one key."""
    found: dict[bytes, list[Copy]] = {}
    for read in read_topic(kafka, topic):
        found.setdefault(read.key or b"", []).append((read.partition, read.key or b"", read.value or b""))
    return [several[0] for several in found.values() if len(several) > 1]


def append(kafka: str, topic: str, some: list[Copy]) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for partition, key, value in some:
        producer.produce(topic, value, key, partition)
    assert producer.flush(30) == 0


def newest_is_last(kafka: str, topic: str) -> bool:
    codec, newest, last = Codec(), dict[bytes, int](), dict[bytes, int]()
    for read in read_topic(kafka, topic):
        key, version = read.key or b"", codec.decode_shard(read.value).version
        newest[key], last[key] = max(version, newest.get(key, -1)), version
    return newest == last


@contextlib.contextmanager
def quick_compaction(stack: Stack) -> Iterator[None]:
    """Brokers look for something to compact all the time; by default every 15 seconds."""
    client = AdminClient({"bootstrap.servers": stack.kafka})

    def set_backoff(operation: AlterConfigOpType) -> None:
        entry = ConfigEntry("log.cleaner.backoff.ms", "200", incremental_operation=operation)
        broker = next(iter(client.list_topics(timeout=10).brokers))
        resource = ConfigResource(ResourceType.BROKER, str(broker), incremental_configs=[entry])
        for future in client.incremental_alter_configs([resource]).values():
            future.result(30)

    set_backoff(AlterConfigOpType.SET)
    try:
        yield
    finally:
        set_backoff(AlterConfigOpType.DELETE)
