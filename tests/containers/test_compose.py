"""docker-compose.yml itself: up, metered, killed, scaled, down. The very file that a reader brings up."""

from __future__ import annotations

import json
import random
import re
import shlex
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from pipeline.errors import Unavailable
from pipeline.kafka.lag import LagReader
from pipeline.kafka.topics import TABLE, Topics
from tests.containers import engine
from tests.containers.compose import Compose
from tests.containers.ledger import knows
from tests.containers.pair import serves
from tests.workers import until

FLIGHTS = 60_000


LISTENING = """
import socket
for family, path in ((socket.AF_INET, "/proc/net/tcp"), (socket.AF_INET6, "/proc/net/tcp6")):
    for line in list(open(path))[1:]:
        _, local, _, state, *_ = line.split()
        host, port = local.split(":")
        words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
        address = socket.inet_ntop(family, b"".join(words))
        if state == "0A" and address != "127.0.0.11":  # where Docker itself answers for names
            print(f"{address}:{int(port, 16)}")
"""
"""Prints where the container that runs it accepts connections."""


def state(container: str) -> dict[str, object]:
    return dict(json.loads(engine.docker_cli("inspect", "--format", "{{json .State}}", container)))


def healthy(container: str) -> bool:
    health = state(container).get("Health")
    return isinstance(health, dict) and health["Status"] == "healthy"


def published(compose: Compose) -> int:
    """Records in the journal."""
    config = {"bootstrap.servers": f"127.0.0.1:{compose.kafka_port}", "log_level": 0}
    journal = Topics("meterline").journal
    try:
        return LagReader(config).lag("nobody", [journal])[journal].appended
    except Unavailable:
        return 0


@pytest.fixture(scope="module")
def up() -> object:
    """The stack as docker-compose.yml has it, three workers."""
    with Compose() as compose:
        began = time.monotonic()
        compose.up("--scale", "worker=3")
        until(lambda: serves(f"{compose.gateway_url}/health/ready"), "the gateway is ready")
        answer = compose.cli("query", "nothing_yet")
        took_s = time.monotonic() - began
        print(f"from up to the first query: {took_s:.1f} s; it said: {answer[-200:]}")
        yield compose, took_s
        compose.down()
        assert compose.left() == {"containers": [], "networks": [], "volumes": []}


@pytest.mark.timeout(500)
def test_the_demo_comes_out_exactly_while_containers_are_killed(up: tuple[Compose, float], tmp_path: Path) -> None:
    """Publish, take back, query, compare: digit for digit, whatever is killed meanwhile."""
    compose, _ = up
    random_ = random.Random(7)
    demo = compose.start_cli(tmp_path / "demo.log", "demo", "--flights", str(FLIGHTS))
    killed = []
    try:
        until(lambda: published(compose) > 100 or demo.poll() is not None, "the demo publishes")
        for service in ("worker", "sink", "clickhouse", "worker", "kafka", "worker", "sink"):
            if demo.poll() is not None:
                break
            victim = random_.choice(compose.containers(service))
            engine.docker_cli("kill", victim)
            engine.docker_cli("start", victim)  # docker's restart policy takes a kill by hand for a wish
            killed.append(service)
            time.sleep(1.5)  # as good a moment as any for the next: there is no condition to wait for
        assert demo.wait(400) == 0, (tmp_path / "demo.log").read_text()[-3000:]
    finally:
        demo.kill()
    said = (tmp_path / "demo.log").read_text()
    assert "digit for digit" in said
    assert re.search(r"✓ [\d,]+ events in the journal = [\d,]+ counted \+ [\d,]+ cancelled \+ [\d,]+ duplicates", said)
    assert len(killed) >= 3, said
    further = re.findall(r"docker compose run --rm cli (.*)", said)
    assert [command.split()[0] for command in further] == ["query", "explain", "tail", "status"]
    query, explain, tail, _ = further
    assert "2013-01-01" in compose.cli(*shlex.split(query))
    assert shlex.split(explain)[-1] in compose.cli(*shlex.split(explain))
    assert compose.cli(*shlex.split(tail))


def test_all_parts_run_healthy_and_confined(up: tuple[Compose, float]) -> None:
    compose, _ = up
    ours = [*compose.containers("worker"), *compose.containers("sink"), *compose.containers("gateway")]
    assert len(ours) == 5
    for container in ours:
        until(lambda container=container: healthy(container), "the health check says that it makes progress")
        (found,) = json.loads(engine.docker_cli("inspect", container))
        assert found["HostConfig"]["ReadonlyRootfs"]
        assert found["HostConfig"]["CapDrop"] == ["ALL"]
        assert found["Config"]["User"] == "10001"
        assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        assert found["HostConfig"]["Memory"] > 0
        assert not [pair for pair in found["Config"]["Env"] if re.match(r"METERLINE_\w*(PASSWORD|SECRETS)=", pair)]


def test_the_welcome_names_commands_that_work(up: tuple[Compose, float]) -> None:
    """What it says of the demo is tried above; a key that it makes is taken by the gateway."""
    compose, _ = up
    said = compose("logs", "--no-color", "welcome")
    assert {compose.gateway_url} <= set(re.findall(r"http://[0-9.:]+", said))
    commands = re.findall(r"docker compose run --rm cli (.*)", said)
    assert [command.split() for command in commands] == [["demo"], ["keys", "create"]]
    key = compose.new_key()
    until(lambda: knows(compose.gateway_url, key), "the gateway knows the key")


def test_s20_nothing_listens_but_what_is_listed(up: tuple[Compose, float]) -> None:
    """Neither Faust's web server nor anything else of a library's."""
    compose, _ = up
    listed = {"worker": set(), "sink": set(), "gateway": {"0.0.0.0:8484", "127.0.0.1:8485"}}
    for service, addresses in listed.items():
        for container in compose.containers(service):
            assert set(engine.docker_cli("exec", container, "python", "-c", LISTENING).split()) == addresses, service


def test_s20_no_topic_made_itself(up: tuple[Compose, float]) -> None:
    compose, _ = up
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{compose.kafka_port}", "log_level": 0})
    client.list_topics("meterline.misspelt", timeout=10)
    found = {name for name in client.list_topics(timeout=10).topics if not name.startswith("__")}
    assert found == {Topics("meterline").name(topic) for topic in TABLE}


def test_every_worker_has_its_own_state_and_keeps_it(up: tuple[Compose, float]) -> None:
    compose, _ = up
    (worker, *_) = compose.containers("worker")
    listed = engine.docker_cli("exec", worker, "ls", "/var/lib/meterline/state").split()
    assert sorted(listed) == ["worker-1", "worker-2", "worker-3"]


def test_each_part_stops_when_it_is_asked_to(up: tuple[Compose, float]) -> None:
    """SIGTERM ends it within its grace, with exit code 0, and it comes back."""
    compose, _ = up
    for service in ("worker", "sink", "gateway"):
        (container, *_) = compose.containers(service)
        engine.docker_cli("stop", "--time", "15", container)
        assert state(container)["ExitCode"] == 0, engine.docker_cli("logs", "--tail", "20", container)
        engine.docker_cli("start", container)


def test_nothing_is_reached_but_from_this_machine(up: tuple[Compose, float]) -> None:
    compose, _ = up
    for service in ("kafka", "clickhouse", "gateway"):
        (container,) = compose.containers(service)
        (found,) = json.loads(engine.docker_cli("inspect", container))
        bound = [one["HostIp"] for ends in found["NetworkSettings"]["Ports"].values() for one in ends or []]
        assert bound
        assert set(bound) == {"127.0.0.1"}
