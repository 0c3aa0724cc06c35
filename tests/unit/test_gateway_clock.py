"""A gateway whose clock is wrong: what it answers 200 counts, and what counts is soon answered 200 (FAULTS E13)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME

from pipeline.codec.records import Codec
from pipeline.domain.catalog import Meter
from pipeline.domain.fold import Journal, Record, step
from pipeline.domain.ledger import Counted
from pipeline.domain.limits import DAY_MS, MINUTE_MS, FoldRules
from pipeline.domain.state import PlainState
from pipeline.gateway.answers import encode
from pipeline.gateway.calls import Call
from pipeline.gateway.events import create_event
from pipeline.gateway.operations import Answer
from pipeline.gateway.problems import Problem
from pipeline.gateway.recent import RecentEvents
from pipeline.gateway.stream import stream_events
from pipeline.kafka import clock as clock_module
from pipeline.kafka.acknowledged import Acknowledged, Appended, Outgoing
from pipeline.kafka.clock import HEARD_FOR_S, WARN_MS, BrokersClock

NOW_MS = 1_790_000_000_123
"""The brokers' clock when a test begins."""
CODEC, RULES = Codec(), FoldRules()
METER = Meter(
    id="mtr_1",
    livemode=True,
    created_ms=0,
    updated_ms=0,
    version=1,
    display_name="x",
    event_name="miles",
    formula="sum",
)
JOURNAL, LETTERS = "journal", "letters"


class Time:
    """The brokers' clock, and this machine's, which is wrong by ``skew_ms``."""

    def __init__(self, skew_ms: int) -> None:
        self.brokers_ms, self.skew_ms = NOW_MS, skew_ms
        self._began_ms = NOW_MS

    def time_ns(self) -> int:
        return (self.brokers_ms + self.skew_ms) * 1_000_000

    def monotonic(self) -> float:
        return (self.brokers_ms - self._began_ms) / 1000


class Reported:
    """A delivered record, as librdkafka shows it to whoever waits for it."""

    def __init__(self, kind: int, at_ms: int) -> None:
        self._timestamp = (kind, at_ms)

    def timestamp(self) -> tuple[int, int]:
        return self._timestamp


class BrokerInMemory:
    """In the place of librdkafka's producer: appends a little later, reports a little later still."""

    kind = TIMESTAMP_LOG_APPEND_TIME

    def __init__(self, time: Time) -> None:
        self._time = time
        self._under_way: list[tuple[str, Mapping[str, Any]]] = []
        self.journal: list[Record] = []
        self.letters = 0

    def produce_batch(self, topic: str, entries: Sequence[Mapping[str, Any]]) -> int:
        self._under_way += [(topic, entry) for entry in entries]
        return len(entries)

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, *, on_delivery: Any, headers: Any) -> None:
        self._under_way.append((topic, {"value": value, "callback": on_delivery}))

    def poll(self, timeout_s: float) -> None:
        self._time.brokers_ms += 5
        appended_ms = self._time.brokers_ms
        self._time.brokers_ms += 5
        under_way, self._under_way = self._under_way, []
        for topic, entry in under_way:
            if topic == JOURNAL:
                content = CODEC.decode_journal(entry["value"])
                self.journal.append(Record(len(self.journal), appended_ms, content))
            else:
                self.letters += 1
            entry["callback"](None, Reported(self.kind, appended_ms))


class Gateway:
    """The two ways in for usage, on a machine whose clock is wrong."""

    def __init__(self, patch: pytest.MonkeyPatch, skew_ms: int) -> None:
        self.time = Time(skew_ms)
        self.broker = BrokerInMemory(self.time)
        patch.setattr("pipeline.kafka.acknowledged.Producer", lambda config: self.broker)
        patch.setattr(clock_module, "time", self.time)
        self.publisher = Acknowledged({})
        catalog = SimpleNamespace(active_meter=lambda livemode, name: METER if name == METER.event_name else None)
        self._parts: Any = SimpleNamespace(
            catalog=catalog,
            clock=self.publisher.clock,
            codec=CODEC,
            journal=self.publisher,
            live=SimpleNamespace(rules=RULES, journal=JOURNAL),
            recent=RecentEvents(),
            reports=SimpleNamespace(add=lambda found, now_ms: None),
            topics=SimpleNamespace(dead_letters=LETTERS),
        )

    def single(self, identifier: str, timestamp_ms: int | None) -> int:
        """The status of one request for one event."""
        said = {"event_name": METER.event_name, "payload": payload(), "identifier": identifier}
        given = said if timestamp_ms is None else {**said, "timestamp": timestamp_ms}
        return asyncio.run(self._status(create_event, given, b""))

    def stream(self, identifier: str, timestamp_ms: int | None) -> int:
        """The status of one call of a stream, with the event between two that have no timestamp."""
        moment = None if timestamp_ms is None else timestamp_ms // 1000
        asked = [(f"before {identifier}", None), (identifier, moment), (f"after {identifier}", None)]
        events = [
            {"event_name": METER.event_name, "payload": payload(), "identifier": name, "timestamp": at}
            for name, at in asked
        ]
        return asyncio.run(self._status(stream_events, {}, encode({"events": events})))

    async def _status(self, handler: Callable[..., Any], given: dict[str, Any], body: bytes) -> int:
        operation: Any = SimpleNamespace(name="try", face="v1")
        caller: Any = SimpleNamespace(id="k", livemode=True, scopes=frozenset())
        call = Call(operation, caller, {}, given, body, None, "req_1", self.publisher.clock())
        try:
            answer: Answer = await handler(self._parts, call)
        except Problem as problem:
            return problem.status
        return answer.status

    def counted(self) -> set[str]:
        """Identifiers of the events that the fold counts."""
        state, journal = PlainState(), Journal(0, 1, RULES)
        for record in self.broker.journal:
            step(state, journal, record)
        return {identity.identifier for identity, known in state.ledger.items() if isinstance(known, Counted)}


def payload() -> dict[str, str]:
    return {METER.customer_key: "c", METER.value_key: "1"}


class Moment(NamedTuple):
    """When something is sent: so long after the last time, after the machine's clock was set wrong the other way."""

    name: str
    after_ms: int
    clock_is_set: bool = False


MOMENTS = (
    Moment("at first", 1_000),
    Moment("later", 1_000),
    Moment("after an hour in which nothing was sent", 60 * MINUTE_MS),
    Moment("as soon as the clock was set", 1_000, clock_is_set=True),
    Moment("when no acknowledgement was heard for a while", int(HEARD_FOR_S * 1000) + 1_000),
)
SENT_MS: tuple[int | None, ...] = (
    None,
    0,
    *(
        limit + more
        for limit in (-RULES.max_past_ms, RULES.max_ahead_ms)
        for more in (
            -2 * DAY_MS,
            -11 * MINUTE_MS,
            -4 * MINUTE_MS,
            -2_000,
            2_000,
            4 * MINUTE_MS,
            11 * MINUTE_MS,
            2 * DAY_MS,
        )
    ),
)
"""Timestamps, as seen from the brokers' clock; None: none is sent."""


@pytest.mark.parametrize("sent_ms", SENT_MS)
@pytest.mark.parametrize("way", ["single", "stream"])
@pytest.mark.parametrize("skew_ms", [minutes * MINUTE_MS for minutes in (-10, -5, 0, 5, 10)])
def test_e13_what_is_answered_200_counts_and_what_can_count_is_taken(
    monkeypatch: pytest.MonkeyPatch, skew_ms: int, way: str, sent_ms: int | None
) -> None:
    """Whatever this machine's clock shows. Who hears 503 sends the same once more."""
    gateway = Gateway(monkeypatch, skew_ms)
    good = sent_ms is None or -RULES.max_past_ms <= sent_ms <= RULES.max_ahead_ms
    for moment in MOMENTS:
        gateway.time.brokers_ms += moment.after_ms
        if moment.clock_is_set:
            gateway.time.skew_ms = -skew_ms
        timestamp_ms = None if sent_ms is None else gateway.time.brokers_ms + sent_ms
        letters = gateway.broker.letters
        status = getattr(gateway, way)(moment.name, timestamp_ms)
        if status == 503:
            status = getattr(gateway, way)(moment.name, timestamp_ms)
        taken = status == 200 and gateway.broker.letters == letters
        assert taken <= (moment.name in gateway.counted()), f"{moment.name}: taken and not counted"
        if status == 200 and way == "stream":
            assert gateway.counted() >= {f"before {moment.name}", f"after {moment.name}"}, moment.name
        assert taken == good or moment.clock_is_set, f"{moment.name}: {status}"
        assert status in (200, 400), moment.name


def test_a_clock_that_is_right_is_never_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(monkeypatch, 0)
    for number in range(20):
        assert gateway.single(str(number), None) == 200
        assert gateway.publisher.clock.ahead_ms == 0


def test_a_clock_moves_as_little_as_an_acknowledgement_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow one leaves room, which the next quick one takes."""
    time, clock = Time(0), BrokersClock()
    monkeypatch.setattr(clock_module, "time", time)
    clock.heard(NOW_MS - 3_000, NOW_MS - 3_000, NOW_MS - 9_000)
    assert clock.ahead_ms == 0, "it was three seconds under way"
    clock.heard(NOW_MS + 400_000, NOW_MS + 400_001, NOW_MS - 9_000)
    assert (clock.ahead_ms, clock()) == (400_001, NOW_MS + 400_001)
    clock.heard(NOW_MS + 399_000, NOW_MS + 399_000, NOW_MS - 9_000)
    assert clock.ahead_ms == 400_001, "it was a second under way"
    clock.heard(NOW_MS - 400_000, NOW_MS - 400_000, NOW_MS - 10)
    assert clock.ahead_ms == -399_990, "it was in the log when it was handed over: the clock was set back"


def test_a_clock_that_is_far_off_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(monkeypatch, 2 * WARN_MS)
    for number in range(3):
        gateway.single(str(number), None)
    (said,) = caplog.messages
    assert "60.0 s ahead of the brokers'" in said


def test_a_topic_that_keeps_producers_times_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(monkeypatch, 10 * MINUTE_MS)
    gateway.broker.kind = TIMESTAMP_CREATE_TIME
    assert asyncio.run(gateway.publisher.publish([Outgoing(LETTERS, None, b"x")])) is None
    assert gateway.publisher.clock.ahead_ms == 0
    gateway.broker.kind = TIMESTAMP_LOG_APPEND_TIME
    records = [Outgoing(LETTERS, None, b"x"), Outgoing(LETTERS, None, b"y")]
    appended_ms = gateway.time.brokers_ms + 5
    assert asyncio.run(gateway.publisher.publish(records)) == Appended(appended_ms, appended_ms)
