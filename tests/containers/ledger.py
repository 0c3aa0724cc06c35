"""A client's own book of what it sent to a gateway and what it was told: the only witness beside the raw topics."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections import Counter
from types import TracebackType
from typing import Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import requests
import stripe

from pipeline.codec.records import Codec
from pipeline.domain.events import MeterEvent
from pipeline.kafka.topics import Topics
from tests.oracle import World, read_topic

ANSWERED_WITHIN_S = 40.0
"""Longer than a gateway itself waits for Kafka."""
PAUSE_S = 0.01
RETRIES = 20


def knows(url: str, key: str) -> bool:
    """Whether the gateway has heard of this key."""
    asked = requests.get(f"{url}/v1/billing/meters", headers={"Authorization": f"Bearer {key}"}, timeout=10)
    return asked.status_code not in (401, 503)


def new_meter(url: str, key: str) -> stripe.billing.Meter:
    """A meter whose event name is new. The gateway may still be finding its brokers again."""
    http = stripe.RequestsClient()
    client = stripe.StripeClient(
        key, base_addresses={"api": url, "meter_events": url}, http_client=http, max_network_retries=RETRIES
    )
    try:
        return client.v1.billing.meters.create(
            {
                "display_name": "calls",
                "event_name": f"calls_{time.time_ns()}",
                "default_aggregation": {"formula": "sum"},
            }
        )
    finally:
        http.close()


class Ledger:
    """Sends events, one after the other on each thread, for as long as the ``with`` lasts."""

    def __init__(self, url: str, key: str, event_name: str, threads: int = 4) -> None:
        self._url, self._key, self._event_name = url, key, event_name
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]
        self._numbers = itertools.count()
        self.outcomes: dict[str, int | None] = {}
        """By identifier: the status that was answered; None when nobody answered."""
        self.answers: list[tuple[float, int | None]] = []
        """(monotonic time, status), in the order of the answers."""

    def __enter__(self) -> Self:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._enough.set()
        for one in self._threads:
            one.join()

    def _send(self) -> None:
        while not self._enough.is_set():
            identifier = f"{next(self._numbers)}-{uuid.uuid4().hex}"
            status = self.post(identifier)
            self.outcomes[identifier] = status
            self.answers.append((time.monotonic(), status))
            # A steady load: as quick as it can be it would take the processor from those that are watched.
            self._enough.wait(PAUSE_S if status == 200 else 10 * PAUSE_S)

    def post(self, identifier: str) -> int | None:
        payload = {"stripe_customer_id": "c", "value": "1"}
        body = {"event_name": self._event_name, "identifier": identifier, "payload": payload}
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        asked = Request(f"{self._url}/v2/billing/meter_events", json.dumps(body).encode(), headers)
        try:
            with urlopen(asked, timeout=ANSWERED_WITHIN_S) as answer:
                return int(answer.status)
        except HTTPError as error:
            with error:
                return int(error.code)
        except OSError:
            return None

    def statuses(self, since: float = 0.0, until: float = float("inf")) -> Counter[int | None]:
        return Counter(status for at, status in list(self.answers) if since <= at < until)

    def longest_silence_s(self) -> float:
        """The longest time between two successes."""
        good = [at for at, status in self.answers if status == 200]
        return max((later - earlier for earlier, later in itertools.pairwise(good)), default=float("inf"))

    def assert_kept(self, kafka: str, topics: Topics, world: World) -> None:
        """I1, I4, I13: what was answered 200 is in the journal and counts once; what was refused with 429 is not."""
        codec = Codec()
        decoded = [(read, codec.decode_journal(read.value)) for read in read_topic(kafka, topics.journal)]
        found = [
            (read, event)
            for read, event in decoded
            if isinstance(event, MeterEvent) and event.event_name == self._event_name
        ]
        counted = Counter(
            event.identifier for read, event in found if (read.partition, read.offset) not in world.dispositions
        )
        told = self.outcomes
        assert {one for one, status in told.items() if status == 200} <= counted.keys()
        assert set(counted.values()) <= {1}
        assert not {one for one, status in told.items() if status == 429} & counted.keys()
        assert counted.keys() <= told.keys()
        assert set(told.values()) <= {200, 429, 503, None}, Counter(told.values())
