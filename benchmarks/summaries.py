"""A customer's day by hour, as the gateway answers it over HTTP, among many shards: one client, then eight."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from decimal import Decimal

import numpy as np

from benchmarks.figures import MILLISECONDS, RECORDS_PER_S, Figure, Outcome, Target, at_most
from benchmarks.gateway import Gateway, meter_id, running
from benchmarks.measuring import Moment, percentile
from benchmarks.query import START_MS, Month, fill
from benchmarks.stage import Stage
from benchmarks.workload import EVENT_NAME

_FULL_SIZE = 10_000_000
_QUERIES, _QUERIES_MIN = 500, 20
_CLIENTS, _FULL_S, _LEAST_S = 8, 15.0, 1.0
_UNTIMED = 20
"""The first few requests open connections and files."""
_DAY_S = 86_400


def measure(stage: Stage, records: int) -> Outcome:
    month, share = Month.of(records), min(1.0, records / _FULL_SIZE)
    with stage.deployment("summaries") as deployment:
        deployment.say(f"summaries: {month.shards:,} shards of {month.customers:,} customers")
        fill(deployment, month)
        cents = month.cents_by_day()
        with running(deployment, EVENT_NAME, livemode=True) as gateway:
            deployment.say("summaries: one client")
            one = _Client(gateway, cents, seed=0)
            for _ in range(_UNTIMED):
                one.ask()
            one.times_ms.clear()
            start = Moment.now(gateway.process.pid)
            for _ in range(max(_QUERIES_MIN, int(_QUERIES * share))):
                one.ask()
            rate = start.until(Moment.now(gateway.process.pid), len(one.times_ms))
            deployment.say(f"summaries: {_CLIENTS} clients")
            several = [_Client(gateway, cents, seed) for seed in range(1, _CLIENTS + 1)]
            per_s = _together(several, max(_LEAST_S, _FULL_S * share))
    times_ms = [ms for client in several for ms in client.times_ms]
    name = f"{_CLIENTS} clients"
    figures = [
        Figure("summaries", "one client, p50", percentile(one.times_ms, 0.5), MILLISECONDS),
        Figure("summaries", "one client, p99", percentile(one.times_ms, 0.99), MILLISECONDS, at_most(30.0)),
        Figure("summaries", "one client, CPU of the gateway", rate.cpu_ms, MILLISECONDS),
        Figure("summaries", f"{name}, requests", per_s, RECORDS_PER_S, Target(150.0)),
        Figure("summaries", f"{name}, p50", percentile(times_ms, 0.5), MILLISECONDS),
        Figure("summaries", f"{name}, p99", percentile(times_ms, 0.99), MILLISECONDS, at_most(120.0)),
    ]
    return Outcome(figures, {"shards": month.shards, "answers": len(one.times_ms) + len(times_ms)})


class _Client:
    """Asks for random customers' random days on a connection of its own; each answer is compared."""

    def __init__(self, gateway: Gateway, cents: np.ndarray, seed: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        self._key = gateway.key
        self._cents = cents
        self._rng = random.Random(seed)
        self.times_ms: list[float] = []

    def ask(self) -> None:
        customers, days = self._cents.shape
        customer, day = self._rng.randrange(customers), self._rng.randrange(days)
        start_s = START_MS // 1000 + day * _DAY_S
        path = (
            f"/v1/billing/meters/{meter_id(livemode=True)}/event_summaries?customer=cus_{customer}"
            f"&start_time={start_s}&end_time={start_s + _DAY_S}&value_grouping_window=hour&limit=24"
        )
        began = time.perf_counter()
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {self._key}"})
        answer = self._connection.getresponse()
        content = answer.read()
        self.times_ms.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, content
        found = sum(hour["aggregated_value"] for hour in json.loads(content, parse_float=Decimal)["data"])
        assert found * 100 == int(self._cents[customer, day]), f"cus_{customer}, day {day}: {found}"


def _together(clients: list[_Client], seconds: float) -> float:
    """All of them ask for so long; requests per second."""
    stop = time.monotonic() + seconds
    faults: list[BaseException] = []

    def run(client: _Client) -> None:
        try:
            while time.monotonic() < stop:
                client.ask()
        except BaseException as error:
            faults.append(error)

    began = time.monotonic()
    threads = [threading.Thread(target=run, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return sum(len(client.times_ms) for client in clients) / (time.monotonic() - began)
