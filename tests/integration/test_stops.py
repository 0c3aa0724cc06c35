"""FAULTS A12: asked to go in mid-load, a worker finishes what it has folded, a sink claims no more than it has done.

Both are told to gather for an hour here, so that all they have read is in their memory when the signal comes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from tests.conftest import Stack
from tests.oracle import published, read_topic, specified
from tests.sinks import SinkGroup, SinkProcess, journal_events, logged_events, stored
from tests.traffic import Traffic, assert_each_counts_once, sending
from tests.workers import Deployment, until

REPOSITORY = Path(__file__).parents[2]
LATER = "1h"

IN_A_WORKER = """
from pipeline.worker.core import WorkerCore
fold = WorkerCore._fold
def folded(core, received):
    fold(core, received)
    say(received.value)
WorkerCore._fold = folded
"""
IN_A_SINK = """
from pipeline.sink.feed import Feed
gather = Feed.gather
async def gathered(feed, stream):
    async def told():
        async for received in stream:
            yield received
            say(received.value)  # the next one is asked for: this one is taken in
    await gather(feed, told())
Feed.gather = gathered
"""
SAY = """
def say(batch):
    with open({path!r}, "a") as file:
        file.write(f"{{batch.topic}} {{batch.partition}} {{batch.next_offset}}\\n")
"""


class Witness:
    """Code that a process runs at its start, so that it tells how far it has taken in what it read."""

    def __init__(self, directory: Path, code: str) -> None:
        directory.mkdir(parents=True)
        self._path = directory / "taken-in"
        self._path.touch()
        (directory / "sitecustomize.py").write_text(SAY.format(path=str(self._path)) + code)
        self.code = f"{directory}{os.pathsep}{REPOSITORY}"

    def taken_in(self) -> Mapping[tuple[str, int], int]:
        """By (topic, partition), the offset that it would read next."""
        whole = self._path.read_text().rpartition("\n")[0]
        lines = (line.split() for line in whole.splitlines())
        return {(topic, int(partition)): int(offset) for topic, partition, offset in lines}


def test_a12_a_worker_that_is_asked_to_go_in_mid_load_leaves_nothing_to_do_again(
    stack: Stack, namespace: str, tmp_path: Path
) -> None:
    with Deployment(stack.kafka, namespace, tmp_path) as deployment:
        journal = deployment.topics.journal
        outputs = (deployment.topics.summaries, deployment.topics.dispositions)
        witness = Witness(tmp_path / "witness", IN_A_WORKER)
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=12)
        with sending(traffic, slices=5):
            worker = deployment.worker("worker", code=witness.code, FLUSH_EVERY=LATER)
            places = [(journal, number) for number in range(deployment.partitions)]
            until(lambda: all(witness.taken_in().get(place, 0) > 60 for place in places), "it folds")
            assert deployment.records(*outputs) == 0, "all of it is in its memory"
            folded = witness.taken_in()
            worker.stop()
        committed, before = deployment.committed(), deployment.ends(*outputs)
        assert [place for place in places if committed[place] < folded[place]] == []
        prefix = [read for read in read_topic(stack.kafka, journal) if read.offset < committed[journal, read.partition]]
        world, _ = specified(prefix, deployment.rules, deployment.partitions)
        found = published(stack.kafka, namespace)
        assert found.shards == world.shards
        assert found.dispositions == world.dispositions

        deployment.worker("worker")
        assert_each_counts_once(stack.kafka, traffic, deployment.assert_as_specified())
        assert deployment.published_again(committed, before) == []


def test_a12_a_sink_that_is_asked_to_go_leaves_all_that_it_has_not_inserted_to_the_next(
    stack: Stack, namespace: str, tmp_path: Path
) -> None:
    """Nothing of it is inserted, so nothing of it is acknowledged, and nothing will be copied twice."""
    server = Server(stack.clickhouse, namespace)
    list(migrate(server))
    group = SinkGroup(stack.kafka, namespace)
    witness = Witness(tmp_path / "witness", IN_A_SINK)
    sinks: list[SinkProcess] = []

    def sink(code: str = "", **environ: str) -> SinkProcess:
        sinks.append(SinkProcess(tmp_path, stack.kafka, stack.clickhouse, namespace, code, **environ))
        return sinks[-1]

    with Deployment(stack.kafka, namespace, tmp_path) as deployment, connect(server) as client:
        try:
            traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=13)
            traffic.send_each()
            deployment.worker("worker")
            with sending(traffic, slices=5):
                first = sink(witness.code, SINK_EVERY=LATER)
                topics = {deployment.topics.journal, deployment.topics.summaries, deployment.topics.dispositions}
                until(lambda: topics <= {topic for topic, _ in witness.taken_in()}, "it gathers")
                first.stop()
            deployment.settle()
            mine = (*topics, deployment.topics.adjustments)
            assert group.behind() == deployment.records(*mine), "nothing is acknowledged"
            assert not stored(client).shards

            second = sink()
            until(lambda: group.behind() == 0, "the next one has done everything")
            topics_say, tables_say = published(stack.kafka, namespace), stored(client)
            assert tables_say.shards == topics_say.shards
            assert tables_say.dispositions == topics_say.dispositions
            assert logged_events(client) == journal_events(stack.kafka, namespace)
            second.stop()
        finally:
            for one in sinks:
                one.end()
            group.close()


def test_a_stop_ends_the_process_before_anything_is_cleared_up_under_its_threads(
    stack: Stack, namespace: str, tmp_path: Path
) -> None:
    """The interpreter's way out, with RocksDB's and librdkafka's threads still at work, crashed now and then."""
    cleared = tmp_path / "cleared"
    (tmp_path / "code").mkdir()
    code = f"import atexit\natexit.register(open, {str(cleared)!r}, 'w')\n"
    (tmp_path / "code" / "sitecustomize.py").write_text(code)
    with Deployment(stack.kafka, namespace, tmp_path) as deployment:
        Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=14).send(20)
        worker = deployment.worker("worker", code=f"{tmp_path / 'code'}{os.pathsep}{REPOSITORY}")
        deployment.settle()
        worker.stop()
    assert not cleared.exists()
