"""``meterline up``, ``down``, ``status`` and ``env`` as a person uses them, and kill -9 of any and all of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.local.home import Home
from pipeline.local.standing import Standing

PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a terminal whose METERLINE_HOME is set."""

    home: Home

    def types(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ``meterline`` to its end."""
        environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *arguments],
            env={**environ, "METERLINE_HOME": str(self.home.path), **variables},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def gets(self, *arguments: str, **variables: str) -> str:
        """The same, and it must go well."""
        said = self.types(*arguments, **variables)
        assert said.returncode == 0, said.stdout + said.stderr
        return said.stdout

    def status(self) -> dict[str, Any]:
        found = json.loads(self.types("status", "--json").stdout)
        assert isinstance(found, dict)
        return found

    def kill(self, *names: str) -> None:
        """kill -9 of these programs, or of the supervisor, at one moment."""
        standing = Standing.read(self.home)
        identities = {row.name: row.identity for row in standing.programs} | {"supervisor": standing.supervisor}
        for name in names:
            identity = identities[name]
            assert identity is not None
            assert identity.alive()
            identity.send(signal.SIGKILL)

    def restarts(self) -> dict[str, int]:
        return {row.name: row.restarts for row in Standing.read(self.home).programs if row.alive}

    def emits(self, *identifiers: str) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        path = self.home.path.parent / "events.jsonl"
        event = {"event_name": "calls", "customer": "c", "value": "0.1", "timestamp": at}
        path.write_text("".join(json.dumps({**event, "identifier": name}) + "\n" for name in identifiers))
        self.gets("emit", str(path))

    def sees(self) -> int:
        """How many events the tables have by now."""
        database = self.home.read_env()["METERLINE_NAMESPACE"]
        sql = f"SELECT sum(count) FROM {database}.summary_shards FINAL"
        url = self.home.read_env()["METERLINE_CLICKHOUSE"]
        with urllib.request.urlopen(url, data=sql.encode(), timeout=30) as answer:
            return int(answer.read())


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if condition():
                return
        except OSError:
            pass  # a service is on its way back
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.1)


def _is_answered(asked: urllib.request.Request) -> bool:
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return answer.status == 200


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Has a stack with two workers, whose deployment takes old events."""
    someone = Person(Home.at(tmp_path_factory.mktemp("laptop") / "home"))
    try:
        someone.gets("up", "--detach", "--workers", "2", METERLINE_MAX_EVENT_AGE="400d", METERLINE_NAMESPACE="laptop")
        yield someone
    finally:
        someone.types("down")


def test_up_leaves_a_stack_that_meters(person: Person) -> None:
    person.emits("a", "b", "c", "a")
    eventually(lambda: person.sees() == 3, "three events are visible")
    found = person.status()
    assert found["phase"] == "ready"
    assert found["troubles"] == []
    assert [row["name"] for row in found["programs"]] == [
        "kafka",
        "clickhouse",
        "worker-1",
        "worker-2",
        "sink",
        "gateway",
    ]
    assert all(row["pid"] and row["uptime_s"] > 0 for row in found["programs"])
    assert set(found["lag"]) == {"worker", "sink"}
    assert "ready" in person.gets("status")
    key = person.gets("keys", "create").strip()
    asked = urllib.request.Request(f"{found['gateway']}/v1/billing/meters", headers={"Authorization": f"Bearer {key}"})
    eventually(lambda: _is_answered(asked), "the gateway knows the key")


def test_it_outlives_its_terminal(person: Person) -> None:
    """The supervisor has a session of its own: no closing terminal sends it a signal."""
    supervisor = Standing.read(person.home).supervisor
    assert supervisor is not None
    assert os.getsid(supervisor.pid) == supervisor.pid
    for row in Standing.read(person.home).programs:
        assert row.identity is not None
        assert os.getsid(row.identity.pid) == row.identity.pid


def test_a_second_start_is_refused(person: Person) -> None:
    before = person.restarts()
    for arguments in (("up",), ("up", "--detach")):
        said = person.types(*arguments)
        assert said.returncode == 1
        assert "is running already" in said.stderr
    assert person.restarts() == before


def test_env_is_what_a_script_can_source(person: Person) -> None:
    lines = person.gets("env").splitlines()
    assert lines == sorted(lines)
    assert "METERLINE_MAX_EVENT_AGE=400d" in lines
    assert not any("SECRETS" in line for line in lines)
    assert person.home.read_env()["METERLINE_GATEWAY_SECRETS"]
    script = f"set -a; . {person.home.env}; curl -s \"$METERLINE_CLICKHOUSE\" -d 'SELECT 1'"
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == "1\n"
    elsewhere = person.gets("env", METERLINE_KAFKA="kafka.example:9092")
    assert "METERLINE_KAFKA=kafka.example:9092\n" in elsewhere


def test_status_of_a_deployment_elsewhere_has_no_programs(person: Person, tmp_path: Path) -> None:
    environ = {**person.home.read_env(), "METERLINE_HOME": str(tmp_path)}
    found = json.loads(person.gets("status", "--json", **environ))
    assert "programs" not in found
    assert found["lag"]["worker"]["behind"] == {"laptop.meter-events": 0, "laptop.meter-event-adjustments": 0}


def test_kill_9_of_every_program_at_once(person: Person) -> None:
    before, seen = person.restarts(), person.sees()
    person.emits("d")
    person.kill(*before)
    eventually(lambda: person.restarts() == {name: n + 1 for name, n in before.items()}, "everything runs again")
    eventually(lambda: person.sees() == seen + 1, "the last event is visible")
    eventually(lambda: person.types("status").returncode == 0, "status is good again")


def test_kill_9_of_the_supervisor_and_more(person: Person) -> None:
    """What runs on goes on metering; the next start ends it, on the same addresses, with the same settings and data."""
    addresses, seen = person.home.read_env(), person.sees()
    left = [row.identity for row in Standing.read(person.home).programs]
    person.kill("supervisor")
    eventually(lambda: not Standing.read(person.home).alive, "the supervisor is gone")
    assert any("was killed" in trouble for trouble in person.status()["troubles"])
    person.emits("e")
    eventually(lambda: person.sees() == seen + 1, "the orphans still meter")
    person.kill("kafka", "clickhouse", "worker-1")
    person.gets("up", "--detach")
    assert not any(identity and identity.alive() for identity in left)
    assert person.home.read_env() == addresses
    assert len(person.restarts()) == 6
    assert person.sees() == seen + 1


def test_down_stops_all_and_keeps_the_data(person: Person) -> None:
    standing = Standing.read(person.home)
    assert "stopped the stack" in person.gets("down")
    assert not standing.alive
    assert not any(row.alive for row in standing.programs)
    assert (person.home.kafka / "broker-1" / "meta.properties").is_file()
    assert person.home.env.is_file()
    said = (person.home.logs / "supervisor.log").read_text()
    assert said.rstrip().endswith(" stopped")
    assert "no stack was running" in person.gets("down")
    stopped = person.types("status")
    assert stopped.returncode == 1
    assert "meterline up" in stopped.stdout


def test_addresses_of_another_deployment_are_not_mixed_in(home: Path) -> None:
    said = Person(Home.at(home)).types("up", METERLINE_KAFKA="kafka.example:9092")
    assert said.returncode == 2
    assert "METERLINE_KAFKA" in said.stderr
    assert not home.exists()


@contextlib.contextmanager
def starting(home: Path) -> Iterator[subprocess.Popen[str]]:
    """``meterline up`` in the foreground, at the moment at which its services run and nothing else does yet."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
    argv = [sys.executable, "-m", "pipeline.cli", "up", "--home", str(home)]
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        try:
            eventually(lambda: len(Standing.read(Home.at(home)).programs) == 2, "the services run")
            yield up
        finally:
            up.kill()
            up.wait()
            Person(Home.at(home)).types("down")


def test_ctrl_c_stops_everything_also_while_it_starts(home: Path) -> None:
    with starting(home) as up:
        programs = Standing.read(Home.at(home)).programs
        up.send_signal(signal.SIGINT)
        said = up.communicate(timeout=PATIENCE_S)[0]
        assert up.returncode == 0, said
        assert said.rstrip().endswith(" stopped")
        assert not any(row.alive for row in programs)


def test_down_ends_what_a_killed_supervisor_left(home: Path) -> None:
    with starting(home) as up:
        programs = Standing.read(Home.at(home)).programs
        up.kill()
        up.wait()
        assert all(row.alive for row in programs)
        assert "stopped the stack" in Person(Home.at(home)).gets("down")
        assert not any(row.alive for row in programs)


def test_another_number_of_brokers_is_refused_in_a_sentence(home: Path) -> None:
    place = Home.at(home).make()
    (place.kafka / "broker-1").mkdir(parents=True)
    said = Person(place).types("up", "--detach", "--brokers", "3")
    assert said.returncode == 1
    assert "holds a cluster of 1 broker(s), not 3" in said.stderr
    assert "goes on running" not in said.stderr


def test_what_cannot_start_is_said_with_the_end_of_its_log(home: Path) -> None:
    place = Home.at(home).make()
    place.clickhouse.write_text("no directory")
    said = Person(place).types("up", "--detach")
    assert said.returncode == 1
    assert "clickhouse ended with exit code 1" in said.stderr
    assert "FileExistsError" in said.stderr or "exists" in said.stderr
    assert "Traceback (most recent call last)" not in said.stderr.splitlines()[0]
    assert not any(row.alive for row in Standing.read(place).programs)
