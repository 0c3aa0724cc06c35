"""Records that are folded, but whose strays and dead letters a worker had still to see to, are deleted."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.kafka.offsets import BEGINS, Noted, committed_with_notes, put_back
from pipeline.kafka.topics import Topics
from tests.conftest import Stack
from tests.rebuilding import PARTITIONS, site
from tests.workers import until


def test_nobody_passes_over_them_unless_an_operator_says_so(stack: Stack, namespace: str, home: Path) -> None:
    kafka = {"bootstrap.servers": stack.kafka}
    client = AdminClient(kafka)
    with site(stack, namespace, home) as place:
        place.traffic.send(60)
        place.settle()
        assert place.rebuild().end() == 0  # from now on only notes tell where to go on
        place.traffic.send(60)
        place.settle()
        place.worker.stop()
        journal = place.topics.journal
        ends = place.deployment.ends(journal)
        groups = [Topics(namespace, number).worker_group for number in (1, 2)]
        for group in groups:
            noted = committed_with_notes(kafka, group, ends)
            put_back(kafka, group, {at: Noted(min(one.offset, 3), one.note) for at, one in noted.items() if one.note})
        gone = [TopicPartition(*at, end) for at, end in ends.items()]
        for future in client.delete_records(gone).values():
            future.result(30)

        refusal = place.deployment.worker("worker").refusal()
        assert f"begins at offset {ends[journal, 0]}, but what lies in a wrong partition" in refusal
        assert "only below offset 3" in refusal
        for group in groups:
            assert f"--group {group}" in refusal
            until(lambda group=group: deleted(client, group), "the worker has left its group")

        assert place.command("topics", "create", PARTITIONS=str(PARTITIONS)).end() == 0
        given = committed_with_notes(kafka, groups[1], ends)
        assert {at: one.offset for at, one in given.items()} == ends
        assert {one.note.split()[0] for one in given.values()} == {BEGINS}
        place.worker = place.deployment.worker("worker")
        place.traffic.send(20)
        place.settle()
        stands = committed_with_notes(kafka, groups[1], ends)
        assert {at: one.offset for at, one in stands.items()} == place.deployment.ends(journal) != ends


def deleted(client: AdminClient, group: str) -> bool:
    try:
        client.delete_consumer_groups([group])[group].result(30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.NON_EMPTY_GROUP:
            raise
        return False
    return True
