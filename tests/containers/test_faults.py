"""Faults that only containers show, on three brokers: rows B1, C1, C2, C5, C7, C9 and C10.

Each ends alike: heal, wait until nothing is left to do, then what is published is what the plain fold says of the
journal, and the client's own ledger agrees with the journal.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Iterator

import pytest
from docker.models.containers import Container

from pipeline import wiring
from pipeline.gateway.keys import made_key
from pipeline.kafka import admin
from pipeline.settings import Settings
from tests.containers.cluster import Cluster
from tests.containers.ledger import Ledger, knows, new_meter
from tests.containers.pair import serves
from tests.workers import PATIENCE_S, Deployment, until

pytestmark = pytest.mark.timeout(600)

PARTITIONS = 3
SECRETS = "first:" + "0123456789abcdef" * 2
SESSION_S = 4.0
RECOVERED_S = 180.0
"""More than brokers take to start again, three JVMs at once, on a machine that is busy."""
ELECTION_S = 30.0
"""More than a new leader takes: the broker's session, and the clients' looking for it, on a machine that is busy."""
DISK_MB = 256
FILL = """
import os
with open("/disk/ballast", "wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(bytes(1 << 16))
    except OSError:
        pass
"""
"""Writes until nothing more fits on the disk."""


@dataclasses.dataclass
class Field:
    """One namespace on the cluster: a gateway, two workers, and for each test a meter and a client's ledger."""

    cluster: Cluster
    deployment: Deployment
    gateway: Container
    url: str
    key: str
    workers: tuple[Container, ...]
    ledger: Ledger

    def settle(self) -> None:
        """The end of every scenario."""
        self.cluster.heal()
        self.deployment.await_members(len(self.workers))
        world = self.deployment.assert_as_specified()
        self.ledger.assert_kept(self.cluster.servers, self.deployment.topics, world)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    namespace = f"t{os.getpid()}_faults"
    environ = {
        "NAMESPACE": namespace,
        "PARTITIONS": str(PARTITIONS),
        "SESSION_TIMEOUT": f"{SESSION_S:.0f}s",
        "FLUSH_EVERY": "50ms",
        "GATEWAY_SECRETS": SECRETS,
    }
    mine = {f"METERLINE_{name}": text for name, text in environ.items()}
    with Cluster(DISK_MB) as cluster:
        admin.create(cluster.config, namespace, PARTITIONS, 3)
        home = tmp_path_factory.mktemp(namespace)
        with Deployment(cluster.servers, namespace, home, partitions=PARTITIONS) as deployment:
            gateway, url = cluster.gateway("gateway", **environ)
            workers = tuple(cluster.part(f"worker-{number}", "worker", **environ) for number in (1, 2))
            key = new_key(Settings.load(mine | {"METERLINE_KAFKA": cluster.servers}))
            until(lambda: serves(f"{url}/health/ready"), "the gateway is ready")
            until(lambda: knows(url, key), "the gateway knows the key")
            yield Field(cluster, deployment, gateway, url, key, workers, Ledger(url, key, "nothing"))


@pytest.fixture
def field(standing: Field, request: pytest.FixtureRequest) -> Iterator[Field]:
    """Whole, whatever the test before has done to it; with a ledger of this test's own."""
    standing.cluster.heal()
    standing.deployment.await_members(len(standing.workers))
    failed = request.session.testsfailed
    ledger = Ledger(standing.url, standing.key, new_meter(standing.url, standing.key).event_name)
    yield dataclasses.replace(standing, ledger=ledger)
    if request.session.testsfailed > failed:
        standing.cluster.show_logs()


def new_key(settings: Settings) -> str:
    key, one = made_key(wiring.gateway_secrets(settings), time.time_ns() // 1_000_000, livemode=True, scopes=None)

    async def write() -> None:
        async with wiring.catalog_session(settings) as catalog:
            await catalog.write(one)

    asyncio.run(write())
    return str(key)


def await_successes(ledger: Ledger, count: int = 20, within_s: float = PATIENCE_S) -> None:
    """Wait until this many more requests were answered 200."""
    before = ledger.statuses()[200]
    until(lambda: ledger.statuses()[200] >= before + count, f"{count} more successes", within_s)


def test_c1_a_leader_is_killed_under_load(field: Field) -> None:
    """Successes go on within an election's time, and nothing that was acknowledged is lost."""
    with field.ledger as ledger:
        await_successes(ledger)
        leader = field.cluster.leader(field.deployment.topics.journal)
        field.cluster.brokers[leader].kill()
        await_successes(ledger, 50)
    assert ledger.longest_silence_s() < ELECTION_S
    field.settle()


def test_c2_two_of_three_brokers_are_killed(field: Field) -> None:
    """With one of three there is no success: 503. When they are back, it goes on by itself."""
    with field.ledger as ledger:
        await_successes(ledger)
        for number in (1, 2):
            field.cluster.brokers[number].kill()
        gone = time.monotonic()
        until(lambda: ledger.statuses(gone + 1.0)[503] >= 2, "the gateway refuses", 60)
        assert ledger.statuses(gone + 1.0)[200] == 0
        for number in (1, 2):
            field.cluster.brokers[number].start()
        await_successes(ledger, within_s=RECOVERED_S)
    field.settle()


def test_c5_a_frozen_leader_comes_back_as_a_stranger(field: Field) -> None:
    """20 s of nothing; another leads; what the old one still had to say is refused."""
    with field.ledger as ledger:
        await_successes(ledger)
        topic = field.deployment.topics.journal
        leader = field.cluster.leader(topic)
        field.cluster.brokers[leader].pause()
        frozen = time.monotonic()
        until(lambda: field.cluster.leader(topic) != leader, "another leads", 60)
        await_successes(ledger, 50)
        until(lambda: time.monotonic() > frozen + 20, "20 s are over")
        field.cluster.brokers[leader].unpause()
        await_successes(ledger, 50)
    assert ledger.longest_silence_s() < ELECTION_S
    field.settle()


def test_c7_a_gateway_is_cut_off_from_the_brokers(field: Field) -> None:
    """No packet passes for 30 s, and none comes back to say so: 503, no success; then on by itself."""
    with field.ledger as ledger:
        await_successes(ledger)
        field.cluster.cut(field.gateway)
        cut = time.monotonic()
        until(lambda: time.monotonic() > cut + 30, "30 s are over")
        assert ledger.statuses(cut + 1.0)[200] == 0
        field.cluster.join(field.gateway)
        await_successes(ledger, within_s=RECOVERED_S)
        assert ledger.statuses(cut)[503] > 0
    field.settle()


def test_c9_the_quorum_is_lost_and_comes_back(field: Field) -> None:
    """Two of three controllers freeze: no leader can be elected, nothing is acknowledged twice or lost."""
    with field.ledger as ledger:
        await_successes(ledger)
        leader = field.cluster.leader(field.deployment.topics.journal)
        others = [number for number in field.cluster.brokers if number != leader]
        for number in others:
            field.cluster.brokers[number].pause()
        lost = time.monotonic()
        until(lambda: time.monotonic() > lost + 12, "12 s are over")
        for number in others:
            field.cluster.brokers[number].unpause()
        await_successes(ledger, 50, within_s=RECOVERED_S)
    field.settle()


def test_b1_a_frozen_worker_awakes_after_another_has_taken_over(field: Field) -> None:
    """Frozen for three sessions' time; what it says afterwards changes nothing."""
    frozen, _ = field.workers
    with field.ledger as ledger:
        await_successes(ledger)
        frozen.pause()
        paused = time.monotonic()
        field.deployment.await_members(1)
        until(lambda: time.monotonic() > paused + 3 * SESSION_S, "three sessions are over")
        field.deployment.await_progress(1)
        frozen.unpause()
        field.deployment.await_members(2)
        await_successes(ledger)
    field.settle()


def test_b1_a_worker_is_cut_off_from_its_coordinator(field: Field) -> None:
    """The same by the network: it cannot even know that it is out."""
    alone, _ = field.workers
    with field.ledger as ledger:
        await_successes(ledger)
        field.cluster.cut(alone)
        field.deployment.await_members(1)
        await_successes(ledger)
        field.cluster.join(alone)
        field.deployment.await_members(2)
    field.settle()


def test_c1_a_broker_is_cut_off_from_the_other_two(field: Field) -> None:
    """A leader that cannot reach its followers acknowledges nothing; the others elect one of themselves."""
    with field.ledger as ledger:
        await_successes(ledger)
        topic = field.deployment.topics.journal
        leader = field.cluster.leader(topic)
        field.cluster.cut(field.cluster.brokers[leader])
        until(lambda: field.cluster.leader(topic) != leader, "another leads", RECOVERED_S)
        await_successes(ledger, 50, within_s=RECOVERED_S)
        field.cluster.join(field.cluster.brokers[leader])
        await_successes(ledger, 50)
    field.settle()


def test_c10_every_disk_is_full(field: Field) -> None:
    """No success that is not kept. When there is room again, everything acknowledged is there."""
    with field.ledger as ledger:
        await_successes(ledger)
        for number in field.cluster.brokers:
            field.cluster.on_disk(number, FILL)
        full = time.monotonic()
        until(lambda: ledger.statuses(full)[503] >= 2, "the gateway refuses", 60)
        refused = time.monotonic()
        until(lambda: time.monotonic() > refused + 5, "5 s are over")
        assert ledger.statuses(refused)[200] == 0
        for number in field.cluster.brokers:
            field.cluster.on_disk(number, "import os; os.remove('/disk/ballast')")
        field.cluster.heal()
        await_successes(ledger, within_s=RECOVERED_S)
    field.settle()
