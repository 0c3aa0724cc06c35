"""What happens when there is too much: of requests, of one key's requests, of wrong keys, of open files.

Rows H1, H2, K5, S11.
"""

from __future__ import annotations

import http.client
import itertools
import json
import resource
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from pipeline.codec.records import Codec
from pipeline.kafka.reading import read
from tests.conftest import Stack
from tests.gateways import GatewayHome, GatewayProcess, until

PLACES = 8
EVENTS = "/v1/billing/meter_events"
FLOOD_S = 6.0


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    name = f"limits{time.time_ns() % 10**9}"
    with GatewayHome(stack, name, tmp_path_factory.mktemp("limits"), GATEWAY_REQUESTS=str(PLACES)) as one:
        one.start()
        yield one


@pytest.fixture(scope="module")
def gateway(home: GatewayHome) -> GatewayProcess:
    return home._gateways[0]


@pytest.fixture(scope="module")
def key(home: GatewayHome, gateway: GatewayProcess) -> str:
    found = home.new_key()
    with home.client(found) as client:
        fields = {"display_name": "Calls", "event_name": "calls", "default_aggregation[formula]": "sum"}
        assert client.form("/v1/billing/meters", **fields).status == 200
    return found


class Sender:
    """One connection that sends events, one after the other, and remembers what became of each."""

    def __init__(self, gateway: GatewayProcess, key: str, name: str) -> None:
        self._gateway, self._key, self._name = gateway, key, name
        self.answers: dict[str, int] = {}
        self.took_s: list[float] = []
        self.waits: set[str] = set()

    def run(self, stop: Callable[[], bool], pause_s: float = 0.0) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=30)
        while not stop():
            identifier = f"{self._name}-{len(self.answers)}"
            began = time.monotonic()
            status, wait = self._send(connection, identifier)
            self.answers[identifier] = status
            if status == 200:
                self.took_s.append(time.monotonic() - began)
            if status == 429:
                self.waits.add(wait)
            time.sleep(pause_s)
        connection.close()

    def _send(self, connection: http.client.HTTPConnection, identifier: str) -> tuple[int, str]:
        fields = {
            "event_name": "calls",
            "identifier": identifier,
            "payload[stripe_customer_id]": "cus_1",
            "payload[value]": "1",
        }
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", EVENTS, urlencode(fields), headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("retry-after", "")


def flooded(senders: list[Sender], duration_s: float, pauses: dict[Sender, float] | None = None) -> None:
    """All of them at once, for so long."""
    ends = time.monotonic() + duration_s
    threads = [
        threading.Thread(target=one.run, args=(lambda: time.monotonic() > ends, (pauses or {}).get(one, 0.0)))
        for one in senders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def journal_of(home: GatewayHome) -> Counter[str]:
    """Identifiers in the journal, each as often as it stands there."""
    codec = Codec()
    records = read({"bootstrap.servers": home.settings.kafka}, home.topics.journal, "beginning")
    return Counter(codec.decode_journal(record.value or b"").identifier for record in records)


def test_h1_too_much_is_refused_at_once(home: GatewayHome, gateway: GatewayProcess, key: str) -> None:
    """Five times as many as there are places: the rest hears 429 with a pause, and is not in the log."""
    flooded([Sender(gateway, key, f"warm{number}") for number in range(5 * PLACES)], 1.0)
    before_mb = gateway.resident_mb()
    senders = [Sender(gateway, key, f"flood{number}") for number in range(5 * PLACES)]
    flooded(senders, FLOOD_S)
    answers = {identifier: status for one in senders for identifier, status in one.answers.items()}
    counts = Counter(answers.values())
    assert set(counts) == {200, 429}, counts
    assert counts[200] > 100, counts
    assert counts[429] > 100, counts
    assert {wait for one in senders for wait in one.waits} == {"1"}
    took_s = sorted(took for one in senders for took in one.took_s)
    assert statistics.quantiles(took_s, n=100)[98] < 2.0, "accepted requests had to wait"
    assert gateway.resident_mb() - before_mb < 24
    stands = journal_of(home)
    assert all(stands[identifier] == 1 for identifier, status in answers.items() if status == 200)
    assert not any(identifier in stands for identifier, status in answers.items() if status == 429)


def test_h2_a_key_that_floods_harms_no_other(home: GatewayHome, gateway: GatewayProcess, key: str) -> None:
    calm = Sender(gateway, home.new_key(), "calm")
    flood = [Sender(gateway, key, f"again{number}") for number in range(4 * PLACES)]
    flooded([calm, *flood], FLOOD_S, {calm: 0.02})
    assert Counter(status for one in flood for status in one.answers.values())[429] > 100, "it was no flood"
    assert len(calm.answers) > 10
    assert set(calm.answers.values()) == {200}


def test_s11_wrong_keys_hear_429_after_a_few(gateway: GatewayProcess, home: GatewayHome, key: str) -> None:
    with home.client("sk_test_" + "wrong" * 9) as guesser, home.client(key) as good:
        answers = [guesser.get("/v1/billing/meters") for _ in range(14)]
        assert [answer.status for answer in answers] == [401] * 10 + [429] * 4
        assert answers[-1].headers["retry-after"]
        assert len({answer.content for answer in answers[:10]}) == 1, "every wrong key hears the same"
        assert good.get("/v1/billing/meters").status == 200, "a good key from the same address is served"


def test_k5_a_gateway_without_files_says_so_and_recovers(home: GatewayHome, tmp_path: Path) -> None:
    """librdkafka's own threads need seventy open files: 128 are few for all the rest."""
    gateway = home.start(prefix=("prlimit", "--nofile=128:4096"))
    connections: list[socket.socket] = []
    refused = b""
    for _ in range(100):
        one = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
        one.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        connections.append(one)
        answer = one.recv(65_536)
        if answer.startswith(b"HTTP/1.1 503"):
            refused = answer
            break
        assert answer.startswith(b"HTTP/1.1 200"), answer
    assert b"retry-after: 1" in refused
    assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"]["code"] == "service_unavailable"
    assert gateway.run.poll() is None
    for one in connections:
        one.close()
    until(gateway.ready, "it serves again")


def test_k5_files_that_are_all_taken_come_back(home: GatewayHome) -> None:
    """When even the spare ones are gone, nobody can be told; nothing breaks, and all is well once they are back."""
    gateway = home.start()
    limits = resource.prlimit(gateway.run.pid, resource.RLIMIT_NOFILE)
    refused = 0

    def served() -> bool:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=2) as one:
            try:
                one.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
                return one.recv(65_536).startswith(b"HTTP/1.1 200")
            except (TimeoutError, ConnectionError):
                return False

    def refused_five_times() -> bool:
        nonlocal refused
        refused = 0 if served() else refused + 1
        if not refused:  # librdkafka closes connections that it only began with: their numbers are free again
            resource.prlimit(gateway.run.pid, resource.RLIMIT_NOFILE, (first_free(gateway.run.pid), limits[1]))
        return refused == 5

    until(refused_five_times, "nobody is served")
    assert resource.prlimit(gateway.run.pid, resource.RLIMIT_NOFILE) != limits, "it was served before"
    resource.prlimit(gateway.run.pid, resource.RLIMIT_NOFILE, limits)
    until(gateway.ready, "it serves again")
    assert gateway.run.poll() is None


def first_free(pid: int) -> int:
    """The number that the next file of a process would have."""
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in itertools.count() if number not in taken)
