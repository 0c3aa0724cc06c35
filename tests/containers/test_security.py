"""Kafka as docker-compose.security.yml has it: rows S16 and S17 of the security checklist.

S18 asks for a schema registry that lets nobody register by the way: this stack has none, so nothing can be registered,
and its records carry fingerprints of schemas that are part of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient, NewTopic, ResourceType

from pipeline.kafka.access import USERS, rights
from pipeline.kafka.topics import TABLE, Topics
from tests.containers import engine
from tests.containers.compose import Compose
from tests.containers.ledger import Ledger, knows, new_meter
from tests.containers.pair import serves
from tests.workers import until

SECRETS = "/var/lib/meterline/secrets"
TOPICS = Topics("meterline")
NAMES = [TOPICS.name(topic) for topic in TABLE]
DENIED = KafkaError.TOPIC_AUTHORIZATION_FAILED
ANSWERED_WITHIN_S = 30.0
WAITED_MS = 10_000
"""Longer ago than any look of the gateway's: only who has read the record can know of it."""
OTHER_WAYS = (
    {"security.protocol": "PLAINTEXT"},
    {"security.protocol": "SASL_PLAINTEXT"},
    {"security.protocol": "SSL"},
    {"sasl.password": "guessed"},
    {"sasl.username": "nobody"},
    {"sasl.mechanism": "PLAIN"},
    {"ssl.ca.location": "/etc/ssl/certs/ca-certificates.crt"},
)


class Secured:
    """The stack, and how each user connects to it from this machine."""

    def __init__(self, compose: Compose, directory: Path) -> None:
        self.compose = compose
        self.server = f"127.0.0.1:{compose.kafka_port}"
        (gateway,) = compose.containers("gateway")
        self._read: Callable[[str], str] = lambda name: engine.docker_cli("exec", gateway, "cat", f"{SECRETS}/{name}")
        self.ca = directory / "ca.pem"
        self.ca.write_text(self._read("kafka-ca.pem"))

    def config(self, user: str, **other: Any) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.server,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.ca),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": self._read(f"kafka-{user}"),
            "log_level": 0,
            **other,
        }


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with Compose("docker-compose.security.yml") as compose:
        compose.up()
        until(lambda: serves(f"{compose.gateway_url}/health/ready"), "the gateway is ready")
        yield Secured(compose, tmp_path_factory.mktemp("secured"))


@pytest.mark.timeout(400)
def test_the_demo_comes_out_exactly(secured: Secured) -> None:
    """Every part has the rights that it needs."""
    assert "digit for digit" in secured.compose.cli("demo", "--flights", "3000")


@pytest.mark.timeout(400)
def test_the_gateway_tells_how_long_the_oldest_record_has_been_waiting(secured: Secured) -> None:
    """To tell it, the gateway reads that record; what its user may not read it could not date."""
    compose = secured.compose
    key = compose.new_key()
    until(lambda: knows(compose.gateway_url, key), "the gateway knows the key")
    meter = new_meter(compose.gateway_url, key)

    def as_of() -> dict[str, Any]:
        asked = f"{compose.gateway_url}/meterline/v1/meters/{meter.id}/usage?start_time=0&end_time=60"
        answer = requests.get(asked, headers={"Authorization": f"Bearer {key}"}, timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["as_of"])

    workers = compose.containers("worker")
    engine.docker_cli("pause", *workers)
    try:
        assert Ledger(compose.gateway_url, key, meter.event_name).post("one") == 200
        until(lambda: (as_of()["oldest_not_visible_age_ms"] or 0) > WAITED_MS, "the gateway says how long it waits")
        assert as_of()["records_not_visible"] == 1
    finally:
        engine.docker_cli("unpause", *workers)
    until(lambda: as_of()["records_not_visible"] == 0, "all can be seen")


def allowed(user: str, operation: AclOperation) -> set[str]:
    mine = [
        one for one in rights(TOPICS) if (one.user, one.operation, one.kind) == (user, operation, ResourceType.TOPIC)
    ]
    return {name for name in NAMES for one in mine if name == one.name or (one.prefixed and name.startswith(one.name))}


@pytest.mark.parametrize("user", USERS)
def test_s16_a_user_reads_what_the_table_lets_it_read_and_nothing_else(secured: Secured, user: str) -> None:
    config = secured.config(user) | {"group.id": "meterline-reading", "enable.partition.eof": True}
    consumer = Consumer(config)
    seen: dict[str, bool] = {}
    try:
        consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING) for name in NAMES])

        def look() -> bool:
            for message in consumer.consume(500, timeout=0.2):
                error = message.error()
                assert error is None or error.code() in (DENIED, KafkaError._PARTITION_EOF), error
                seen[message.topic()] = error is None or error.code() != DENIED
            return len(seen) == len(NAMES)

        until(look, f"an answer about every topic, beside {sorted(seen)}", ANSWERED_WITHIN_S)
    finally:
        consumer.close()
    assert {name for name, could in seen.items() if could} == allowed(user, AclOperation.READ)


@pytest.mark.parametrize("user", USERS)
def test_s16_s17_a_user_writes_what_the_table_lets_it_write_and_nothing_else(secured: Secured, user: str) -> None:
    """S17 among them: a gateway cannot forge summaries or dispositions."""
    producer = Producer(secured.config(user))
    told: dict[str, KafkaError | None] = {}
    for name in NAMES:
        producer.produce(name, b"who am I", b"k", 0, lambda error, message: told.update({message.topic(): error}))
    assert producer.flush(ANSWERED_WITHIN_S) == 0
    assert {error.code() for error in told.values() if error is not None} <= {DENIED}
    assert {name for name, error in told.items() if error is None} == allowed(user, AclOperation.WRITE)


@pytest.mark.parametrize("user", USERS)
def test_s16_no_part_may_change_the_cluster(secured: Secured, user: str) -> None:
    client = AdminClient(secured.config(user))
    for future in (
        *client.create_topics([NewTopic("meterline.mine", 1, 1)]).values(),
        *client.delete_topics([TOPICS.journal]).values(),
    ):
        with pytest.raises(KafkaException) as refused:
            future.result(ANSWERED_WITHIN_S)
        assert refused.value.args[0].code() in (DENIED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)


def test_s16_a_gateway_cannot_take_the_workers_place(secured: Secured) -> None:
    consumer = Consumer(secured.config("gateway") | {"group.id": TOPICS.worker_group})
    refused: list[int] = []
    try:
        consumer.subscribe([TOPICS.catalog])

        def poll() -> bool:
            message = consumer.poll(0.5)
            if message is not None and message.error() is not None:
                refused.append(message.error().code())
            return bool(refused)

        until(poll, "the group refuses", ANSWERED_WITHIN_S)
    finally:
        consumer.close()
    assert refused[0] == KafkaError.GROUP_AUTHORIZATION_FAILED


def comes_in(config: dict[str, Any]) -> bool:
    try:
        AdminClient(config).list_topics(timeout=4)
    except KafkaException:
        return False
    return True


def test_s16_nobody_comes_in_another_way(secured: Secured) -> None:
    """Not without TLS, a name, the right password and mechanism; and no other authority is trusted."""
    config = secured.config("worker")
    AdminClient(config).list_topics(timeout=ANSWERED_WITHIN_S)
    with ThreadPoolExecutor(len(OTHER_WAYS)) as pool:  # each takes its time to be refused
        came_in = list(pool.map(comes_in, [config | changed for changed in OTHER_WAYS]))
    assert [changed for changed, came in zip(OTHER_WAYS, came_in, strict=True) if came] == []
