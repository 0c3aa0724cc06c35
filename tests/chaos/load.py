"""Services that use the deployment, each a thread with a seed of its own: usage, repeats of it, and taking it back.

Every one tells the ledger what it was told. What has failed or is unknown is sent again, as an SDK would, to another
gateway or to Kafka itself; one time in a while the sender gives up instead, so that nobody ever knows.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

from pipeline.domain.events import Adjustment, CancellationRange, MeterEvent
from pipeline.errors import MeterlineError
from pipeline.kafka.client import MeterlineProducer
from tests.chaos.clients import Client, Pace
from tests.chaos.ledger import INFO, OK, Identity, Ledger, One, Range, Target, Usage

UNIT = 10**12
CUSTOMERS = 40
CALLS, WATCHED, RANGED, PROBES = "calls", "watched", "ranged", "probes"
"""What may be taken back; what only ever grows; of which spans are taken back; what the watch sends."""
EVENT_NAMES = (CALLS, WATCHED, RANGED, PROBES)
OLDEST_MS = 4 * 60_000
GIVES_UP = 0.02
ATTEMPTS = 60
AGAIN_S = 0.1
REMEMBERED = 2_000
V1, V2 = "/v1/billing/meter_events", "/v2/billing/meter_events"
V1_BACK, V2_BACK = "/v1/billing/meter_event_adjustments", "/v2/billing/meter_event_adjustments"
RANGE_BACK = "/meterline/v1/meter_event_adjustments"


class Access(NamedTuple):
    """How the deployment is reached."""

    gateways: tuple[int, ...]
    """Ports."""
    key: str
    kafka: tuple[str, ...]
    """Bootstrap servers: through gates, and past them."""
    namespace: str


class Load:
    """Runs for as long as the ``with`` lasts and sends about ``per_s`` events a second."""

    def __init__(self, access: Access, ledger: Ledger, seed: int, per_s: float) -> None:
        self.access, self.ledger = access, ledger
        self.pace = Pace(per_s)
        self.over = threading.Event()
        self.failed: list[BaseException] = []
        self.watched_sent = 0
        """Before they are sent: a reader must never see more."""
        self.created = 0
        """Different events."""
        self._lock = threading.Lock()
        kinds: tuple[tuple[type[Service], int], ...] = ((Streamer, 4), (Direct, 2), (Single, 2), (Canceller, 2))
        services = [kind for kind, count in kinds for _ in range(count)]
        self._services = [kind(self, number, Random(f"{seed} {number}")) for number, kind in enumerate(services)]
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in self._services]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Return when nobody sends any more."""
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, service: Service) -> None:
        try:
            while not self.over.is_set():
                service.send()
        except BaseException as error:  # raised again where the run is watched
            self.failed.append(error)
        finally:
            service.close()

    def usage(self, random: Random, event_name: str) -> Usage:
        """A new event."""
        with self._lock:
            number = self.created
            self.created += 1
            self.watched_sent += event_name == WATCHED
        identity = Identity(livemode=True, event_name=event_name, identifier=f"e{number}-{random.randrange(10**6)}")
        units = UNIT if event_name == WATCHED else random.choice([UNIT, 7, 3 * UNIT + 1, random.randrange(10**18)])
        timestamp_ms = (int(time.time() * 1000) - int(OLDEST_MS * random.random() ** 3)) // 1000 * 1000
        return Usage(identity, f"cus_{random.randrange(CUSTOMERS)}", units, timestamp_ms)


class Service:
    """One thread's part."""

    def __init__(self, load: Load, number: int, random: Random) -> None:
        self.load, self.number, self.random = load, number, random
        access = load.access
        self.clients = [Client(port, access.key) for port in access.gateways]
        self._turn = number
        self.known: deque[Usage] = deque(maxlen=REMEMBERED)
        """Acknowledged ones of CALLS."""

    def send(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def insisted(self, attempt: Callable[[Client], str], told: Callable[[str], None]) -> str:
        """Attempt until it is ok, at one gateway and then at the other; the last word on it."""
        for number in range(ATTEMPTS):
            status = attempt(self.clients[self._turn % len(self.clients)])
            told(status)
            if status == OK or self.random.random() < GIVES_UP:
                break
            self._turn += 1
            time.sleep(min(2.0, AGAIN_S * (number + 1)))
        return status

    def some(self, count: int) -> list[Usage]:
        """New events, and now and then old ones again."""
        names = self.random.choices((CALLS, WATCHED, RANGED), (80, 10, 10), k=count)
        fresh = [self.load.usage(self.random, name) for name in names]
        again = [
            one for one in self.random.sample(list(self.known), min(len(self.known), 3)) if self.random.random() < 0.5
        ]
        mixed = fresh + again
        self.random.shuffle(mixed)
        return mixed

    def remember(self, sent: list[Usage]) -> None:
        self.known.extend(one for one in sent if one.identity.event_name == CALLS)


def as_json(one: Usage) -> dict[str, Any]:
    at = datetime.fromtimestamp(one.timestamp_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "event_name": one.identity.event_name,
        "identifier": one.identity.identifier,
        "timestamp": at,
        "payload": payload(one),
    }


def payload(one: Usage) -> dict[str, str]:
    whole, rest = divmod(one.units, UNIT)
    return {"stripe_customer_id": one.customer, "value": f"{whole}.{rest:012d}"}


class Streamer(Service):
    """Streams through the gateways."""

    def send(self) -> None:
        several = self.some(self.random.randrange(20, 97))
        self.load.pace.turn(len(several), self.load.over)
        body = [as_json(one) for one in several]
        status = self.insisted(
            lambda client: client.stream(body), lambda status: self.load.ledger.events(status, several)
        )
        if status == OK:
            self.remember(several)


class Single(Service):
    """One event a call, in either version, with an Idempotency-Key half of the time."""

    def send(self) -> None:
        (one,) = self.some(1)[:1]
        self.load.pace.turn(5, self.load.over)  # a call costs as much as several streamed ones
        repeat = uuid.uuid4().hex if self.random.random() < 0.5 else None
        v1 = self.random.random() < 0.5
        body = as_json(one) | ({"timestamp": one.timestamp_ms // 1000} if v1 else {})

        def attempt(client: Client) -> str:
            return client.post(V1 if v1 else V2, body, repeat=repeat, form=v1)

        if self.insisted(attempt, lambda status: self.load.ledger.events(status, [one])) == OK:
            self.remember([one])


class Direct(Service):
    """Straight to Kafka with the product's own client; every other one past the gates."""

    def __init__(self, load: Load, number: int, random: Random) -> None:
        super().__init__(load, number, random)
        self._failed: set[str] = set()
        self._kafka = load.access.kafka[number % len(load.access.kafka)]
        self._producer = self._new()

    def _new(self) -> MeterlineProducer:
        config = {"bootstrap.servers": self._kafka, "log_level": 0}
        return MeterlineProducer(
            config,
            namespace=self.load.access.namespace,
            on_error=lambda error: self._failed.add((error.key or b"").decode()),
        )

    def send(self) -> None:
        several = self.some(self.random.randrange(50, 300))
        self.load.pace.turn(len(several), self.load.over)
        for _ in range(ATTEMPTS):
            several = self._sent(several)
            if not several or self.random.random() < GIVES_UP:
                return
            time.sleep(AGAIN_S)

    def _sent(self, several: list[Usage]) -> list[Usage]:
        """Those of which nobody knows."""
        self._failed.clear()
        unknown = several
        try:
            for one in several:
                identity = one.identity
                self._producer.emit(
                    MeterEvent(
                        identity.identifier,
                        identity.event_name,
                        one.customer,
                        one.units,
                        one.timestamp_ms,
                        (),
                        identity.livemode,
                    )
                )
            self._producer.flush(60)
            unknown = [one for one in several if one.identity.identifier in self._failed]
        except MeterlineError:
            self._producer = self._new()
        self.load.ledger.events(INFO, unknown)
        good = [one for one in several if one not in unknown] if unknown else several
        self.load.ledger.events(OK, good)
        self.remember(good)
        return unknown


class Canceller(Service):
    """Takes usage back: before it comes, after, twice, with a copy, under another name, by range; in all three ways."""

    def __init__(self, load: Load, number: int, random: Random) -> None:
        super().__init__(load, number, random)
        config = {"bootstrap.servers": load.access.kafka[0], "log_level": 0}
        self._producer = MeterlineProducer(config, namespace=load.access.namespace)

    def send(self) -> None:
        self.load.pace.turn(40, self.load.over)
        one = self.load.usage(self.random, CALLS)
        kind = self.random.choice(["before", "after", "twice", "resent", "astray", "range"])
        if kind == "before":
            self._take_back(One(one.identity))
        if kind == "range":
            self._range()
            return
        if self._event(one) != OK:
            return
        if kind == "astray":
            self._take_back(One(one.identity._replace(event_name=WATCHED)))
        elif kind != "before":
            self._take_back(One(one.identity))
        if kind == "twice":
            self._take_back(One(one.identity))
        if kind == "resent":
            # Other content under an identifier that is used up: never counted.
            self._event(one._replace(units=one.units + UNIT))

    def _event(self, one: Usage) -> str:
        return self.insisted(
            lambda client: client.stream([as_json(one)]), lambda status: self.load.ledger.events(status, [one])
        )

    def _range(self) -> None:
        """Some events of one customer, and then a span that holds about half of them."""
        several = [self.load.usage(self.random, RANGED)._replace(customer=f"ranged_{self.number}") for _ in range(6)]
        for one in several:
            self._event(one)
        times = sorted(one.timestamp_ms for one in several)
        # To the millisecond another one each time: a range is known by its borders.
        start_ms = times[2] - self.random.randrange(900)
        end_ms = times[4] + 1 + self.random.randrange(900)
        self._take_back(Range(True, RANGED, f"ranged_{self.number}", start_ms, end_ms))

    def _take_back(self, target: Target) -> None:
        if self.random.random() < 0.3:
            self._directly(target)
            return
        repeat = uuid.uuid4().hex
        path, body, form = self._request(target)
        self.insisted(
            lambda client: client.post(path, body, repeat=repeat, form=form),
            lambda status: self.load.ledger.adjustment(status, target),
        )

    def _request(self, target: Target) -> tuple[str, dict[str, Any], bool]:
        if isinstance(target, Range):
            span = {
                "customer": target.customer,
                "start_time": moment(target.start_ms),
                "end_time": moment(target.end_ms),
            }
            return RANGE_BACK, {"event_name": target.event_name, "type": "cancel", "cancel_range": span}, False
        body = {
            "event_name": target.identity.event_name,
            "type": "cancel",
            "cancel": {"identifier": target.identity.identifier},
        }
        form = self.random.random() < 0.5
        return (V1_BACK if form else V2_BACK), body, form

    def _directly(self, target: Target) -> None:
        if isinstance(target, Range):
            span = CancellationRange(target.customer, target.start_ms, target.end_ms)
            asked = Adjustment(uuid.uuid4().hex, target.event_name, target.livemode, None, span)
        else:
            identity = target.identity
            asked = Adjustment(uuid.uuid4().hex, identity.event_name, identity.livemode, identity.identifier, None)
        for _ in range(ATTEMPTS):
            try:
                self._producer.adjust(asked)
                self._producer.flush(60)
                status = OK
            except MeterlineError:
                status = INFO
            self.load.ledger.adjustment(status, target)
            if status == OK:
                return


def moment(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"
